-- KEYS meta, stores, prefixes, aliases; ARGV channel, slug, prefix, record.
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
    return 'exists'
end
if redis.call('HSETNX', KEYS[3], ARGV[3], ARGV[2]) == 0 then
    return 'taken'
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HDEL', KEYS[4], ARGV[2])
redis.call('PUBLISH', ARGV[1], redis.call('HINCRBY', KEYS[1], 'version', 1))
return 'created'
