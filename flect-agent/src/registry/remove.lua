-- KEYS meta, stores, aliases, removed, log; ARGV channel, slug, record, prefix, removal.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
    return 'changed'
end
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[4], ARGV[4], ARGV[5])
local touched = {{'stores', ARGV[2]}, {'removed', ARGV[4]}}
local aliases = redis.call('HGETALL', KEYS[3])
for at = 1, #aliases, 2 do
    if aliases[at + 1] == ARGV[4] then
        redis.call('HDEL', KEYS[3], aliases[at])
        touched[#touched + 1] = {'aliases', aliases[at]}
    end
end
changed(KEYS[1], KEYS[5], ARGV[1], touched)
return 'removed'
