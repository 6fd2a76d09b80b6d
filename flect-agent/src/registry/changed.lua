-- In front of every script that changes the registry: raises the version, writes down which fields were touched
-- (pairs of a hash's name and a field), and tells agents. A line of the log ends with a digest of the change and
-- of the line before, so that servers which went different ways from one version have different lines.
local function changed(meta, log, channel, touched)
    local version = redis.call('HINCRBY', meta, 'version', 1)
    local before = redis.call('HGET', log, version - 1) or ''
    local digest = redis.sha1hex(before .. table.concat(ARGV, '\n'))
    redis.call('HSET', log, version, cjson.encode({touched, digest}))
    redis.call('HDEL', log, version - 128)
    redis.call('PUBLISH', channel, version)
end
