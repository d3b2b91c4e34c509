-- The leader's batch: moves the job's fence from seq-1 to seq and applies everything, or changes nothing.
-- Of a batch that belongs to no job, KEYS[2] is the fence of those, and there are only workers and orders.
--
-- KEYS: 1 store, 2 the job's claims, 3 records, 4 locations, 5 spec, 6 news, 7 progress, 8 logs,
--       9 workers, 10 orders, 11 jobs that are gone
-- ARGV: 1 incarnation, 2 epoch, 3 owner, 4 seq, 5 job, 6 its new state, or "", 7 "1" if it has an error,
--       8 that error, 9 "1" if the job's record follows, 10 that record (opaque), and how many values
--       follow as: 11 task rows (field, row), 12 records (field, record), 13 locations,
--       14 workers (name, boot, health, why it is in quarantine and since when (ms), or "" and 0), 15 orders (worker, boot, order); then those values
-- Gives "written", "already", "fenced", "rolled_back" or "no_store".
if not is_ready(KEYS[1]) then
  return 'no_store'
end
local seq = tonumber(ARGV[4])
local order, owner, has_seq = compare_fence(KEYS[2], tonumber(ARGV[1]), tonumber(ARGV[2]))
if not order then
  return 'rolled_back'
elseif order < 0 then
  return 'fenced'
elseif order > 0 then
  return 'rolled_back' -- that fence was taken here once, and is gone
elseif ARGV[3] ~= owner then
  return 'fenced'
elseif seq <= has_seq then
  return 'already'
elseif seq > has_seq + 1 then
  return 'rolled_back'
end

local NO_TICKETS = cmsgpack.pack({0, 0})

local function write_tasks(first, last)
  hset_args(KEYS[2], first, last)
  local heard = {} -- what was reported of a task without a ticket is in its record, or is of no use
  for at = first, last, 2 do
    if ARGV[at + 1] == NO_TICKETS then
      table.insert(heard, ARGV[at] .. 'p!')
      table.insert(heard, ARGV[at] .. 'b!')
    end
    if #heard >= 1000 or (at + 2 > last and #heard > 0) then
      redis.call('HDEL', KEYS[2], unpack(heard))
      heard = {}
    end
  end
end

local function write_records(first, last)
  hset_args(KEYS[3], first, last)
end

local function write_locations(first, last)
  add_locations(KEYS[4], ARGV[1], first, last)
end

local function write_workers(first, last)
  for at = first, last, 5 do
    local worker = packed(redis.call('HGET', KEYS[9], ARGV[at]))
    if worker and worker[W_BOOT] == ARGV[at + 1] then
      worker[W_HEALTH], worker[W_WHY], worker[W_SINCE] = ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
      redis.call('HSET', KEYS[9], ARGV[at], cmsgpack.pack(worker))
    end
  end
end

-- An order is numbered and kept until a beat acknowledges it; an older boot's are of no use.
local function write_orders(first, last)
  for at = first, last, 3 do
    local worker = packed(redis.call('HGET', KEYS[9], ARGV[at]))
    if worker and worker[W_BOOT] == ARGV[at + 1] then
      worker[W_ORDER] = worker[W_ORDER] + 1
      redis.call('HSET', KEYS[9], ARGV[at], cmsgpack.pack(worker))
      local orders = packed(redis.call('HGET', KEYS[10], ARGV[at])) or {}
      table.insert(orders, {worker[W_ORDER], ARGV[at + 2]})
      redis.call('HSET', KEYS[10], ARGV[at], cmsgpack.pack(orders))
    end
  end
end

-- A job that was forgotten stays so, with the keys made just now; one that goes on is kept again.
local function keep_or_expire()
  local job = redis.call('HMGET', KEYS[2], 'expires', 'state', 'blob', 'users')
  if not job[1] then
    return
  end
  for at = 2, 8 do
    if OVER[job[2]] then
      redis.call('PEXPIREAT', KEYS[at], job[1])
    else
      redis.call('PERSIST', KEYS[at])
    end
  end
  if not OVER[job[2]] then
    redis.call('HDEL', KEYS[2], 'expires')
    redis.call('SADD', job[4], ARGV[5])
    redis.call('PERSIST', job[3])
    redis.call('ZREM', KEYS[11], ARGV[5])
  end
end

redis.call('HSET', KEYS[2], 'seq', ARGV[4])
if ARGV[6] ~= '' then
  set_state(KEYS[2], ARGV[6], ARGV[7], ARGV[8])
end
if ARGV[9] == '1' then
  redis.call('HSET', KEYS[2], 'record', ARGV[10])
end
local first = 16
for at, apply in ipairs({write_tasks, write_records, write_locations, write_workers, write_orders}) do
  local last = first + tonumber(ARGV[10 + at]) - 1
  if last >= first then
    apply(first, last)
  end
  first = last + 1
end
keep_or_expire()
return 'written'
