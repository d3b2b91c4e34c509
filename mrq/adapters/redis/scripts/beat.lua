-- Renew the lease of everything that a beat lists. A beat that was overtaken, or comes again, changes
-- nothing and is answered all the same.
--
-- KEYS: 1 store, 2 workers, 3 beats, 4 about, 5 orders, 6 events, 7 what this worker reported,
--       8 addresses, 9 … claims of the jobs that are listed
-- ARGV: 1 worker, 2 boot, 3 seq, 4 draining ("1" or "0"), 5 orders carried out, 6 the beat (opaque),
--       7 what it says about itself (opaque), or "", 8 events kept at most, 9 health of a new boot,
--       10 lines: msgpack {{index in KEYS, task, ticket, token}, …}, 11 where its data plane listens: msgpack
--       {boot, address}
-- Gives false when the store isn't ready, else {health ("dead boot" for one that was followed by a newer
-- one), store id, incarnation, "0101…" (which lines live), {order number, order, …}}.
local name, boot, seq = ARGV[1], ARGV[2], tonumber(ARGV[3])
local store = redis.call('HMGET', KEYS[1], 'ready', 'id', 'incarnation')
if store[1] ~= '1' then
  return false
end
local lines = cmsgpack.unpack(ARGV[10])
local worker = packed(redis.call('HGET', KEYS[2], name))

local function succeed(before)
  local health, old, why, since = ARGV[9], {}, '', 0
  if before then
    old = before[W_OLD]
    table.insert(old, before[W_BOOT])
    if #old > 64 then
      table.remove(old, 1)
    end
    if before[W_HEALTH] == 'quarantined' then -- that is the operator's word
      health, why, since = 'quarantined', before[W_WHY] or '', before[W_SINCE] or 0
    end
  end
  redis.call('HDEL', KEYS[5], name)
  redis.call('HDEL', KEYS[4], name)
  redis.call('DEL', KEYS[7])
  return {boot, old, 0, {}, health, 0, 0, 0, 0, why, since}
end

-- Reports of this worker from which nothing was written yet are told again; the others needn't be.
local function tell_unheard()
  local entries, kept = redis.call('LRANGE', KEYS[7], 0, -1), {}
  for _, data in ipairs(entries) do
    local entry = cmsgpack.unpack(data)
    local key = entry[2]
    local found = redis.call('HMGET', entry[1], 'state', string.sub(key, 1, -2), key, key .. '!')
    local row = packed(found[3])
    if found[1] and not OVER[found[1]] and row and row[A_TOKEN] == entry[3]
        and is_current(packed(found[2]), key, row) and found[4] then
      table.insert(kept, data)
      redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[8], '*', 'r', found[4])
    end
  end
  if #kept < #entries then
    redis.call('DEL', KEYS[7])
    for at = 1, #kept, 1000 do
      redis.call('RPUSH', KEYS[7], unpack(kept, at, math.min(at + 999, #kept)))
    end
  end
end

local function drop_acknowledged()
  local orders = packed(redis.call('HGET', KEYS[5], name))
  if not orders then
    return
  end
  local kept, acked = {}, tonumber(ARGV[5])
  for _, order in ipairs(orders) do
    if order[1] > acked then
      table.insert(kept, order)
    end
  end
  if #kept == 0 then
    redis.call('HDEL', KEYS[5], name)
  elseif #kept < #orders then
    redis.call('HSET', KEYS[5], name, cmsgpack.pack(kept))
  end
end

local function is_live(line)
  local row = claim_with(KEYS[8 + line[1]], line[2], line[3], line[4])
  return row and row[A_STATUS] == ''
end

local is_new = not worker or worker[W_BOOT] ~= boot
if is_new then
  for _, older in ipairs(worker and worker[W_OLD] or {}) do
    if older == boot then
      return {'dead boot', store[2] or '', tonumber(store[3]), '', {}}
    end
  end
  worker = succeed(worker)
end
local is_later = seq > worker[W_SEQ]
if is_later then
  worker[W_SEQ], worker[W_TOKENS] = seq, {}
  worker[W_DRAINING] = tonumber(ARGV[4])
  for at, line in ipairs(lines) do
    worker[W_TOKENS][at] = line[4]
  end
  drop_acknowledged()
  worker[W_ORDER] = math.max(worker[W_ORDER], tonumber(ARGV[5])) -- of a store that lost some
  if ARGV[7] ~= '' then
    redis.call('HSET', KEYS[4], name, ARGV[7])
  end
  tell_unheard()
  local fields = {'b', ARGV[6], 'h', worker[W_HEALTH]}
  if worker[W_HEALTH] == 'quarantined' then
    fields[5], fields[6], fields[7], fields[8] = 'y', worker[W_WHY] or '', 's', worker[W_SINCE] or 0
  end
  redis.call('XADD', KEYS[6], 'MAXLEN', '~', ARGV[8], '*', unpack(fields))
end
worker[W_AT], worker[W_LEFT] = now_ms(), 0
redis.call('HSET', KEYS[2], name, cmsgpack.pack(worker))
if is_new or is_later then
  redis.call('HSET', KEYS[3], name, ARGV[6])
  redis.call('HSET', KEYS[8], name, ARGV[11])
end
local live, orders = {}, {}
for at, line in ipairs(lines) do
  live[at] = is_live(line) and '1' or '0'
end
for _, order in ipairs(packed(redis.call('HGET', KEYS[5], name)) or {}) do
  table.insert(orders, order[1])
  table.insert(orders, order[2])
end
return {worker[W_HEALTH], store[2] or '', tonumber(store[3]), table.concat(live), orders}
