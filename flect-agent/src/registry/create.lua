-- KEYS meta, stores, prefixes, aliases, log; ARGV channel, slug, prefix, record, and the version that the prefix was
-- chosen by; nothing where any will do.
if redis.call('HEXISTS', KEYS[2], ARGV[2]) == 1 then
    return 'exists'
end
if ARGV[5] ~= '' and (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[5] then
    return 'changed'
end
if redis.call('HSETNX', KEYS[3], ARGV[3], ARGV[2]) == 0 then
    return 'taken'
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('HDEL', KEYS[4], ARGV[2])
changed(KEYS[1], KEYS[5], ARGV[1], {{'stores', ARGV[2]}, {'prefixes', ARGV[3]}, {'aliases', ARGV[2]}})
return 'created'
