-- Hold on to the lease, or let go of it.
--
-- KEYS: 1 lease
-- ARGV: 1 owner, 2 epoch, 3 milliseconds; 0 lets go
-- Gives 1 if it was held so.
local now, found = now_ms(), redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'until')
if found[1] ~= ARGV[1] or tonumber(found[2]) ~= tonumber(ARGV[2]) or tonumber(found[3]) <= now then
  return 0
end
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[1], 'until', now + tonumber(ARGV[3]), 'for', ARGV[3])
else
  redis.call('HSET', KEYS[1], 'owner', '', 'until', 0)
end
return 1
