-- Take a lease that nobody holds, under an epoch above the last one. Asked again by the holder, it shows him
-- his own.
--
-- KEYS: 1 lease
-- ARGV: 1 owner, 2 epoch to be above, 3 milliseconds
-- Gives {owner or "", epoch, milliseconds left}.
local now, found = now_ms(), redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'until', 'for')
local left = (found[1] or '') ~= '' and tonumber(found[3]) - now or 0
if left > 0 and left <= tonumber(found[4]) then -- more is left than was given: the clock ran back
  return {found[1], tonumber(found[2]), left}
end
local epoch = math.max(tonumber(found[2] or '0'), tonumber(ARGV[2])) + 1
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch, 'until', now + tonumber(ARGV[3]), 'for', ARGV[3])
return {ARGV[1], epoch, tonumber(ARGV[3])}
