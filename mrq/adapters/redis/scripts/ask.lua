-- Put a client's request into the stream, once.
--
-- KEYS: 1 requests, 2 mark of this request
-- ARGV: 1 the request (opaque)
-- Gives 1 if it is new.
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 0
end
redis.call('SET', KEYS[2], redis.call('XADD', KEYS[1], '*', 'q', ARGV[1]))
return 1
