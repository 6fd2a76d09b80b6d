-- KEYS meta, stores, aliases, removed; ARGV channel, slug, record, prefix, removal.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
    return 'changed'
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
local aliases = redis.call('HGETALL', KEYS[3])
for at = 1, #aliases, 2 do
    if aliases[at + 1] == ARGV[4] then
        redis.call('HDEL', KEYS[3], aliases[at])
    end
end
redis.call('PUBLISH', ARGV[1], redis.call('HINCRBY', KEYS[1], 'version', 1))
return 'removed'
