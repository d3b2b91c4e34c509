-- What several scripts share; scripts.py puts this text before each of them. core.claims is the same in Python.
--
-- A job's claims hash: state, error, incarnation, epoch, owner, seq, record, blob, users, expires;
-- "m42" -> task row, "m42p" and "m42b" -> attempt rows, "m42p!" -> a report not yet acted upon (opaque).
-- Rows are msgpack arrays of small numbers and strings. A task: {primary ticket, backup ticket}, 0 is none; an
-- attempt: {ticket, number, worker, boot, token, floor, status or ""}.
-- A worker's row: {boot, older boots, seq, tokens, health, draining, last order, seen at (ms), 1 if it said
-- goodbye, why it is in quarantine, since when (ms)}; of the version before it ends with the goodbye.
local OVER = {committing = true, done = true, failed = true, cancelled = true}
local W_BOOT, W_OLD, W_SEQ, W_TOKENS, W_HEALTH, W_DRAINING, W_ORDER, W_AT, W_LEFT = 1, 2, 3, 4, 5, 6, 7, 8, 9
local W_WHY, W_SINCE = 10, 11
local A_TICKET, A_NUMBER, A_WORKER, A_BOOT, A_TOKEN, A_FLOOR, A_STATUS = 1, 2, 3, 4, 5, 6, 7

local function is_ready(store)
  return redis.call('HGET', store, 'ready') == '1'
end

local function packed(value)
  return value and cmsgpack.unpack(value) or nil
end

-- The role that a ticket of this task is for: "p", "b", or nil where it is no ticket of it (any more).
local function role_with(task, ticket)
  if not task or ticket <= 0 then
    return nil
  end
  return task[1] == ticket and 'p' or task[2] == ticket and 'b' or nil
end

-- Is what stands in the attempt row with this key claimed with a ticket of its task?
local function is_current(task, key, row)
  return task ~= nil and row[A_TICKET] > 0 and task[string.sub(key, -1) == 'p' and 1 or 2] == row[A_TICKET]
end

-- The row, and its key, of a claim whose ticket still is its task's, of a job that isn't over.
local function claim_with(claims, task, ticket, token)
  local found = redis.call('HMGET', claims, 'state', task, task .. 'p', task .. 'b')
  local role = role_with(packed(found[2]), ticket)
  if not role or not found[1] or OVER[found[1]] then
    return nil
  end
  local row = packed(found[role == 'p' and 3 or 4])
  if row and row[A_TICKET] == ticket and row[A_TOKEN] == token then
    return row, task .. role
  end
  return nil
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- -1, 0 or 1: is (incarnation, epoch) before, at or after that of the fence in a hash? nil: it has none.
local function compare_fence(key, incarnation, epoch)
  local found = redis.call('HMGET', key, 'incarnation', 'epoch', 'owner', 'seq')
  if not found[1] then
    return nil
  end
  local has_incarnation, has_epoch = tonumber(found[1]), tonumber(found[2])
  local order = 0
  if incarnation ~= has_incarnation then
    order = incarnation < has_incarnation and -1 or 1
  elseif epoch ~= has_epoch then
    order = epoch < has_epoch and -1 or 1
  end
  return order, found[3], tonumber(found[4])
end

-- Take over the fence in a hash that has one: a later epoch may, the same holder has it already.
local function take_fence(key, order, owner)
  if order == 0 and ARGV[3] == owner then
    return 'already'
  elseif order <= 0 then
    return 'fenced'
  end
  redis.call('HSET', key, 'incarnation', ARGV[1], 'epoch', ARGV[2], 'owner', ARGV[3], 'seq', ARGV[4])
  return 'written'
end

-- HSET of ARGV[first .. last], field and value in turn; in pieces, as Lua's stack is small.
local function hset_args(key, first, last)
  for at = first, last, 1000 do
    redis.call('HSET', key, unpack(ARGV, at, math.min(at + 999, last)))
  end
end

-- Append ARGV[first .. last] to a stream of locations. Ids of entries are incarnation-number, so a reader of
-- an older incarnation gets all of a newer one.
local function add_locations(key, incarnation, first, last)
  local number = redis.call('XLEN', key)
  for at = first, last do
    number = number + 1
    redis.call('XADD', key, incarnation .. '-' .. number, 'l', ARGV[at])
  end
end

-- List a job behind all others, unless it is listed.
local function list_job(jobs, job)
  if not redis.call('ZSCORE', jobs, job) then
    local last = redis.call('ZREVRANGE', jobs, 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', jobs, math.max(now_ms(), tonumber(last or '0') + 1), job)
  end
end

local function set_state(key, state, has_error, text)
  redis.call('HSET', key, 'state', state)
  if has_error == '1' then
    redis.call('HSET', key, 'error', text)
  else
    redis.call('HDEL', key, 'error')
  end
end
