-- Goodbye of a worker's boot; of any other boot it changes nothing.
--
-- KEYS: 1 workers, 2 events
-- ARGV: 1 worker, 2 boot, 3 events kept at most
-- Gives 1 if that boot was the worker's.
local worker = packed(redis.call('HGET', KEYS[1], ARGV[1]))
if not worker or worker[W_BOOT] ~= ARGV[2] then
  return 0
end
worker[W_TOKENS], worker[W_DRAINING], worker[W_LEFT] = {}, 1, 1
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(worker))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*', 'l', cmsgpack.pack({ARGV[1], ARGV[2]}))
return 1
