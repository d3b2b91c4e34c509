-- Record the outcomes of attempts that are live, many at a time. Asked again, it answers ALREADY.
--
-- KEYS: 1 store, 2 workers, 3 events, 4 … the jobs' claims, and what the workers reported
-- ARGV: 1 events kept at most, 2 requests: msgpack {{index of the claims in KEYS, index of what that worker
--       reported, task ("m42"), ticket, token, status, worker, boot}, …}, 3 … the reports (opaque)
-- Gives for each "recorded", "already", "obsolete" or "no_store".
local workers = {}

local function boot_of(name)
  if workers[name] == nil then
    local worker = packed(redis.call('HGET', KEYS[2], name))
    workers[name] = worker and worker[W_BOOT] or false
  end
  return workers[name]
end

local function report(asked, text)
  local claims, reported, task, ticket, token, status, worker, boot = unpack(asked)
  local row, attempt = claim_with(KEYS[claims], task, ticket, token)
  if not row then
    return 'obsolete'
  elseif row[A_STATUS] ~= '' then
    return 'already'
  end
  row[A_STATUS] = status
  redis.call('HSET', KEYS[claims], attempt, cmsgpack.pack(row), attempt .. '!', text)
  if boot_of(worker) == boot then
    redis.call('RPUSH', KEYS[reported], cmsgpack.pack({KEYS[claims], attempt, token}))
  end
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'r', text)
  return 'recorded'
end

local ready, answers = is_ready(KEYS[1]), {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[2])) do
  answers[at] = ready and report(asked, ARGV[at + 2]) or 'no_store'
end
return answers
