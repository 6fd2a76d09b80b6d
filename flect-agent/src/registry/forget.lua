-- KEYS meta, removed, usage; ARGV channel, prefix.
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('PUBLISH', ARGV[1], redis.call('HINCRBY', KEYS[1], 'version', 1))
return 'forgotten'
