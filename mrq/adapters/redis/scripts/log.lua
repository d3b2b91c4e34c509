-- Note where an attempt's log is; of an unknown job nothing.
--
-- KEYS: 1 the job's claims, 2 its logs
-- ARGV: 1 attempt's name, 2 digest of its log, or ""
-- Gives 1 if there is such a job.
local job = redis.call('HMGET', KEYS[1], 'state', 'expires')
if not job[1] then
  return 0
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if job[2] then
  redis.call('PEXPIREAT', KEYS[2], job[2])
end
return 1
