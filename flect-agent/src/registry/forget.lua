-- KEYS meta, removed, usage, log; ARGV channel, prefix.
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
changed(KEYS[1], KEYS[4], ARGV[1], {{'removed', ARGV[2]}})
return 'forgotten'
