-- KEYS meta, stores, aliases; ARGV channel, slug, record before, new slug, record after, prefix.
if redis.call('HGET', KEYS[2], ARGV[2]) ~= ARGV[3] then
    return 'changed'
end
if ARGV[2] ~= ARGV[4] then
    if redis.call('HEXISTS', KEYS[2], ARGV[4]) == 1 then
        return 'exists'
    end
    redis.call('HDEL', KEYS[2], ARGV[2])
    redis.call('HSET', KEYS[3], ARGV[2], ARGV[6])
    redis.call('HDEL', KEYS[3], ARGV[4])
end
redis.call('HSET', KEYS[2], ARGV[4], ARGV[5])
redis.call('PUBLISH', ARGV[1], redis.call('HINCRBY', KEYS[1], 'version', 1))
return 'swapped'
