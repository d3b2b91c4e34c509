-- Write a job whole into a store that lost it, or is behind, whether it is open or not; nothing of what the
-- store had of it stays.
--
-- KEYS: 1 the job's claims, 2 records, 3 locations, 4 spec, 5 news, 6 progress, 7 logs, 8 jobs,
--       9 the code's blob, 10 jobs that use that code, 11 jobs that are gone
-- ARGV: 1 incarnation, 2 epoch, 3 owner, 4 seq, 5 job, 6 spec (opaque), 7 state, 8 "1" if it has an error,
--       9 that error, 10 "1" if the job's record follows, 11 that record (opaque), and how many values
--       follow as: 12 task rows (field, row), 13 records (field, record), 14 locations; then those values
-- Gives "written", "already" or "fenced".
local order, owner = compare_fence(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if order and order <= 0 then
  return take_fence(KEYS[1], order, owner)
end
local tasks = 14 + tonumber(ARGV[12])
local records = tasks + tonumber(ARGV[13])
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'epoch', ARGV[2], 'owner', ARGV[3], 'seq', ARGV[4],
  'blob', KEYS[9], 'users', KEYS[10])
set_state(KEYS[1], ARGV[7], ARGV[8], ARGV[9])
if ARGV[10] == '1' then
  redis.call('HSET', KEYS[1], 'record', ARGV[11])
end
hset_args(KEYS[1], 15, tasks)
hset_args(KEYS[2], tasks + 1, records)
add_locations(KEYS[3], ARGV[1], records + 1, records + tonumber(ARGV[14]))
redis.call('SET', KEYS[4], ARGV[6])
for at = 5, 7 do
  redis.call('PERSIST', KEYS[at])
end
list_job(KEYS[8], ARGV[5])
redis.call('PERSIST', KEYS[9])
redis.call('SADD', KEYS[10], ARGV[5])
redis.call('ZREM', KEYS[11], ARGV[5])
return 'written'
