-- KEYS meta, stores, aliases, log; ARGV channel, slug, record before, new slug, record after, prefix.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
    return 'changed'
end
local touched = {{'stores', ARGV[4]}}
if ARGV[2] ~= ARGV[4] then
    if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then
        return 'exists'
    end
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[6])
    redis.call('HDEL', KEYS[3], ARGV[4])
    touched = {{'stores', ARGV[2]}, {'stores', ARGV[4]}, {'aliases', ARGV[2]}, {'aliases', ARGV[4]}}
end
redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
changed(KEYS[1], KEYS[4], ARGV[1], touched)
return 'swapped'
