-- Append to a job's news, once for each nonce; of progress only the newest is kept, of the rest everything.
--
-- KEYS: 1 news, 2 ids of progress that is kept, 3 the job's claims
-- ARGV: 1 nonce, 2 the entry (opaque), 3 "1" if it is progress, 4 progress kept at most,
--       5 how long news of a job that there isn't are kept (ms)
-- Gives 1 if it is new.
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last and last[2][2] == ARGV[1] then
  return 0
end
local id = redis.call('XADD', KEYS[1], '*', 'n', ARGV[1], 'e', ARGV[2])
if ARGV[3] == '1' then
  if redis.call('RPUSH', KEYS[2], id) > tonumber(ARGV[4]) then
    redis.call('XDEL', KEYS[1], redis.call('LPOP', KEYS[2]))
  end
end
local job = redis.call('HMGET', KEYS[3], 'state', 'expires')
for at = 1, 2 do
  if job[2] then
    redis.call('PEXPIREAT', KEYS[at], job[2])
  elseif not job[1] then
    redis.call('PEXPIRE', KEYS[at], ARGV[5])
  end
end
return 1
