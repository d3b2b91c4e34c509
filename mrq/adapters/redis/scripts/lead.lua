-- Take the fence of what belongs to no job, also in a store that isn't open yet.
--
-- KEYS: 1 that fence
-- ARGV: 1 incarnation, 2 epoch, 3 owner, 4 seq
-- Gives "written", "already" or "fenced".
local order, owner = compare_fence(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if order then
  return take_fence(KEYS[1], order, owner)
end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'epoch', ARGV[2], 'owner', ARGV[3], 'seq', ARGV[4])
return 'written'
