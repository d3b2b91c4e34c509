-- Make a job's records, or take over the fence of one that is there.
--
-- KEYS: 1 store, 2 the job's claims, 3 its spec, 4 its news, 5 its progress, 6 jobs, 7 the code's blob,
--       8 jobs that use that code, 9 jobs that are gone
-- ARGV: 1 incarnation, 2 epoch, 3 owner, 4 seq, 5 job, 6 spec (opaque)
-- Gives "written", "already", "fenced" or "no_store".
if not is_ready(KEYS[1]) then
  return 'no_store'
end
local order, owner = compare_fence(KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
if order then
  return take_fence(KEYS[2], order, owner)
end
redis.call('HSET', KEYS[2], 'state', 'pending', 'incarnation', ARGV[1], 'epoch', ARGV[2], 'owner', ARGV[3],
  'seq', ARGV[4], 'blob', KEYS[7], 'users', KEYS[8])
redis.call('SET', KEYS[3], ARGV[6])
redis.call('PERSIST', KEYS[4])
redis.call('PERSIST', KEYS[5])
list_job(KEYS[6], ARGV[5])
redis.call('PERSIST', KEYS[7])
redis.call('SADD', KEYS[8], ARGV[5])
redis.call('ZREM', KEYS[9], ARGV[5])
return 'written'
