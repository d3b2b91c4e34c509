-- From now on workers get answers; or, with incarnation 0, only give an id to a store without one.
--
-- KEYS: 1 store
-- ARGV: 1 incarnation, 2 an id for a store without one, 3 the id that it has, whatever was made meanwhile,
--       or ""
-- Gives the store's id.
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'id', ARGV[3])
end
redis.call('HSETNX', KEYS[1], 'id', ARGV[2])
local given, before = tonumber(ARGV[1]), tonumber(redis.call('HGET', KEYS[1], 'incarnation') or '0')
if given > 0 then
  redis.call('HSET', KEYS[1], 'incarnation', math.max(before, given), 'ready', '1')
end
return redis.call('HGET', KEYS[1], 'id')
