-- Answer a request; the first answer counts.
--
-- KEYS: 1 answer
-- ARGV: 1 the answer (opaque), 2 how long it is kept (ms)
-- Gives 1 if it is the first.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
redis.call('XADD', KEYS[1], '*', 'a', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
