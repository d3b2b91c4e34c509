-- Let a job's keys expire, or drop them at once; a tombstone tells an expired job from an unknown one.
-- Its code goes with the last job that uses it. Forgetting again changes nothing.
--
-- KEYS: 1 the job's claims, 2 records, 3 locations, 4 spec, 5 news, 6 progress, 7 logs, 8 jobs,
--       9 jobs that are gone
-- ARGV: 1 job, 2 how long it is kept (ms), 3 tombstones kept at most
-- Gives 1 if there was such a job.
local job = redis.call('HMGET', KEYS[1], 'state', 'blob', 'users', 'expires')
if not job[1] then
  return 0
end
if job[4] then
  return 1
end
local now, keep = now_ms(), tonumber(ARGV[2])
redis.call('SREM', job[3], ARGV[1])
local code_unused = redis.call('SCARD', job[3]) == 0
redis.call('ZADD', KEYS[9], now + keep, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[9], 0, -1 - tonumber(ARGV[3]))
if keep <= 0 then
  redis.call('UNLINK', unpack(KEYS, 1, 7))
  redis.call('ZREM', KEYS[8], ARGV[1])
  if code_unused then
    redis.call('UNLINK', job[2])
  end
  return 1
end
redis.call('HSET', KEYS[1], 'expires', now + keep)
for at = 1, 7 do
  redis.call('PEXPIREAT', KEYS[at], now + keep)
end
if code_unused then
  redis.call('PEXPIREAT', job[2], now + keep)
end
return 1
