-- The last chunk of a blob is there: from now on it can be read. Or, of a sealed one: keep it longer.
--
-- KEYS: 1 blob
-- ARGV: 1 chunks, 2 bytes, 3 how long it is kept (ms), 0 for ever, 4 "1" if it must be sealed already
-- Gives 1 if it is sealed now, 0 if chunks are missing.
if redis.call('HEXISTS', KEYS[1], 'size') == 0 then
  if ARGV[4] == '1' or redis.call('HLEN', KEYS[1]) ~= tonumber(ARGV[1]) then
    return 0
  end
  redis.call('HSET', KEYS[1], 'size', ARGV[2])
  if ARGV[3] == '0' then -- whatever it was kept for while chunks came
    redis.call('PERSIST', KEYS[1])
  else
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
elseif ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3], 'GT') -- one without an end stays so
end
return 1
