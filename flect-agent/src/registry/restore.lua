-- KEYS meta, stores, prefixes, aliases, removed, log; ARGV channel, version, user-key, then (key's number, field,
-- value) for everything that was there. What stands there is newer than the copy and stays, but for
-- `meta`: an empty registry that was opened meanwhile has a secret of its own, which no user bears.
local version = tonumber(redis.call('HGET', KEYS[1], 'version') or 0)
local mine = tonumber(ARGV[2])
if version > mine or (version == mine and redis.call('HGET', KEYS[1], 'user-key') == ARGV[3]) then
    return 'newer'
end
for at = 4, #ARGV, 3 do
    local key = KEYS[tonumber(ARGV[at])]
    if ARGV[at] == '1' then
        redis.call('HSET', key, ARGV[at + 1], ARGV[at + 2])
    else
        redis.call('HSETNX', key, ARGV[at + 1], ARGV[at + 2])
    end
end
redis.call('HSET', KEYS[1], 'version', ARGV[2])
-- Agents read everything then.
redis.call('DEL', KEYS[6])
redis.call('PUBLISH', ARGV[1], redis.call('HINCRBY', KEYS[1], 'version', 1))
return 'restored'
