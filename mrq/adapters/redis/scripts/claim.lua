-- The claim table: who may run an attempt, for many at a time. Asked again with the same token, it answers SAME.
--
-- KEYS: 1 store, 2 workers, 3 events, 4 … the claims of the jobs that are asked for
-- ARGV: 1 events kept at most, 2 requests: msgpack {{index in KEYS, job, task ("m42"), ticket, worker, boot,
--       token, 1 if this worker mustn't have it or 0, beat of an earlier HELD, or "", token that it named,
--       or ""}, …}
-- Gives msgpack of an answer for each: {answer}, {answer, ticket, number, token} or
-- {"held", ticket, number, token, beat}.
local R_KEY, R_JOB, R_TASK, R_TICKET, R_WORKER, R_BOOT = 1, 2, 3, 4, 5, 6
local R_TOKEN, R_DECLINED, R_HELD_BEAT, R_HELD_TOKEN = 7, 8, 9, 10
local workers = {}

local function worker_of(name)
  if workers[name] == nil then
    workers[name] = packed(redis.call('HGET', KEYS[2], name)) or false
  end
  return workers[name]
end

local function grant(asked, attempt)
  local worker, claims = worker_of(asked[R_WORKER]), KEYS[asked[R_KEY]]
  -- A boot's first beat comes before its first claim, so the leader learns of boots in order.
  if not worker or worker[W_BOOT] ~= asked[R_BOOT] or asked[R_DECLINED] == 1 then
    return {'declined'}
  end
  if worker[W_DRAINING] == 1 or (worker[W_HEALTH] ~= 'alive' and worker[W_HEALTH] ~= 'suspect') then
    return {'declined'}
  end
  -- Numbers only grow: the newest of either role is still in its row.
  local number = 1
  for _, row in ipairs(redis.call('HMGET', claims, asked[R_TASK] .. 'p', asked[R_TASK] .. 'b')) do
    if row then
      number = math.max(number, cmsgpack.unpack(row)[A_NUMBER] + 1)
    end
  end
  -- One beat may be under way, made before this claim: the floor is above the last one seen.
  redis.call('HSET', claims, attempt, cmsgpack.pack({asked[R_TICKET], number, asked[R_WORKER], asked[R_BOOT],
    asked[R_TOKEN], worker[W_SEQ] + 1, ''}))
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'c', cmsgpack.pack({asked[R_JOB], asked[R_TASK],
    asked[R_TICKET], number, asked[R_TOKEN], asked[R_WORKER], asked[R_BOOT]}))
  return {'new', asked[R_TICKET], number, asked[R_TOKEN]}
end

-- The message was delivered again, or a copy of it, while another boot holds the ticket: is that one alive?
local function contend(asked, attempt, row)
  local worker = worker_of(row[A_WORKER])
  if not worker or worker[W_BOOT] ~= row[A_BOOT] then
    return grant(asked, attempt) -- a newer boot of that worker: the old one's work is gone
  end
  local seq, listed = worker[W_SEQ], false
  for _, other in ipairs(worker[W_TOKENS]) do
    listed = listed or other == row[A_TOKEN]
  end
  if not listed and seq >= row[A_FLOOR] + 2 then
    return grant(asked, attempt)
  end
  if asked[R_HELD_TOKEN] == row[A_TOKEN] and asked[R_HELD_BEAT] ~= '' then
    if seq <= asked[R_HELD_BEAT] then
      return grant(asked, attempt) -- no newer beat
    end
    if listed then
      return {'duplicate'} -- it lives on its beats
    end
  end
  return {'held', row[A_TICKET], row[A_NUMBER], row[A_TOKEN], seq}
end

local function claim(asked)
  local key = asked[R_TASK]
  local found = redis.call('HMGET', KEYS[asked[R_KEY]], 'state', key, key .. 'p', key .. 'b')
  local role = role_with(packed(found[2]), asked[R_TICKET])
  if not role or not found[1] or OVER[found[1]] then
    return {'obsolete'}
  end
  local row = packed(found[role == 'p' and 3 or 4])
  if not row or row[A_TICKET] ~= asked[R_TICKET] then
    return grant(asked, key .. role)
  end
  if row[A_STATUS] ~= '' then
    return {'obsolete'}
  elseif row[A_TOKEN] == asked[R_TOKEN] then
    return {'same', row[A_TICKET], row[A_NUMBER], row[A_TOKEN]}
  elseif row[A_WORKER] == asked[R_WORKER] and row[A_BOOT] == asked[R_BOOT] then
    return {'resume', row[A_TICKET], row[A_NUMBER], row[A_TOKEN]}
  end
  return contend(asked, key .. role, row)
end

local ready, answers = is_ready(KEYS[1]), {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[2])) do
  answers[at] = ready and claim(asked) or {'no_store'}
end
return cmsgpack.pack(answers)
