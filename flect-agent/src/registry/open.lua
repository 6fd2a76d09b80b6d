-- KEYS meta, stores, prefixes; ARGV schema, now. Answers the registry's schema.
-- Before schema 1 there were two hashes, slug -> prefix and prefix -> slug, and a key of its own.
local schema = redis.call('HGET', KEYS[1], 'schema')
if schema then
    return tonumber(schema)
end
-- In a cluster they would be in other slots, which is an error and no 1: none has had them.
if redis.pcall('EXISTS', 'flect:stores') == 1 then
    local old = redis.call('HGETALL', 'flect:stores')
    for at = 1, #old, 2 do
        local record = '{"prefix":"' .. old[at + 1] .. '","created_at":' .. ARGV[2] .. '}'
        redis.call('HSETNX', KEYS[2], old[at], record)
        redis.call('HSETNX', KEYS[3], old[at + 1], old[at])
    end
    local claimed = redis.call('HGETALL', 'flect:prefixes')
    for at = 1, #claimed, 2 do
        redis.call('HSETNX', KEYS[3], claimed[at], claimed[at + 1])
    end
    local key = redis.call('GET', 'flect:user-key')
    if key then
        redis.call('HSETNX', KEYS[1], 'user-key', key)
    end
    redis.call('DEL', 'flect:stores', 'flect:prefixes', 'flect:user-key')
end
redis.call('HSET', KEYS[1], 'schema', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'version', 1)
return tonumber(ARGV[1])
