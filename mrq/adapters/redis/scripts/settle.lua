-- What a request asked for is persisted: nobody is given it again. Its mark stays a while, so that asking
-- again changes nothing.
--
-- KEYS: 1 requests, 2 mark of this request
-- ARGV: 1 how long the mark stays (ms)
-- Gives 1 if the request was there.
local entry = redis.call('GET', KEYS[2])
if not entry then
  return 0
end
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return redis.call('XDEL', KEYS[1], entry)
