-- The claim table: who may run an attempt, for many at a time. Asked again with the same token, it answers SAME.
--
-- KEYS: 1 store, 2 workers, 3 events, 4 … the claims of the jobs that are asked for
-- ARGV: 1 events kept at most, 2 requests: msgpack {{index in KEYS, job, task ("m42"), attempt ("m42p"),
--       role ("p" or "b"), generation, role number, publish id, worker, boot, token, 1 if this worker
--       mustn't have it or 0, beat of an earlier HELD, or "", token that it named, or ""}, …}
-- Gives msgpack of an answer for each: {answer}, {answer, generation, number, token} or
-- {"held", generation, number, token, beat}.
local R_KEY, R_JOB, R_TASK, R_ATTEMPT, R_ROLE, R_GENERATION, R_ROLE_NUMBER, R_PUBLISH_ID = 1, 2, 3, 4, 5, 6, 7, 8
local R_WORKER, R_BOOT, R_TOKEN, R_DECLINED, R_HELD_BEAT, R_HELD_TOKEN = 9, 10, 11, 12, 13, 14
local workers = {}

local function worker_of(name)
  if workers[name] == nil then
    workers[name] = packed(redis.call('HGET', KEYS[2], name)) or false
  end
  return workers[name]
end

local function grant(asked)
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
      number = math.max(number, cmsgpack.unpack(row)[3] + 1)
    end
  end
  -- One beat may be under way, made before this claim: the floor is above the last one seen.
  redis.call('HSET', claims, asked[R_ATTEMPT], cmsgpack.pack({asked[R_GENERATION], asked[R_ROLE_NUMBER], number,
    asked[R_PUBLISH_ID], asked[R_WORKER], asked[R_BOOT], asked[R_TOKEN], worker[W_SEQ] + 1, ''}))
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[1], '*', 'c', cmsgpack.pack({asked[R_JOB], asked[R_TASK],
    asked[R_ROLE], asked[R_ROLE_NUMBER], asked[R_GENERATION], number, asked[R_TOKEN], asked[R_WORKER],
    asked[R_BOOT]}))
  return {'new', asked[R_GENERATION], number, asked[R_TOKEN]}
end

-- The same message was delivered again while another boot holds the role: is that one alive?
local function contend(asked, row)
  local worker = worker_of(row[5])
  if not worker or worker[W_BOOT] ~= row[6] then
    return grant(asked) -- a newer boot of that worker: the old one's work is gone
  end
  local seq, listed = worker[W_SEQ], false
  for _, other in ipairs(worker[W_TOKENS]) do
    listed = listed or other == row[7]
  end
  if not listed and seq >= row[8] + 2 then
    return grant(asked)
  end
  if asked[R_HELD_TOKEN] == row[7] and asked[R_HELD_BEAT] ~= '' then
    if seq <= asked[R_HELD_BEAT] then
      return grant(asked) -- no newer beat
    end
    if listed then
      return {'duplicate'} -- it lives on its beats
    end
  end
  return {'held', row[1], row[3], row[7], seq}
end

local function claim(asked)
  local found = redis.call('HMGET', KEYS[asked[R_KEY]], 'state', asked[R_TASK], asked[R_ATTEMPT])
  local task, row = packed(found[2]), packed(found[3])
  if not found[1] or OVER[found[1]] then
    return {'obsolete'}
  end
  if not task or task[1] == 'completed' or task[2] ~= asked[R_GENERATION] or asked[R_ROLE_NUMBER] <= 0
      or number_of(task, asked[R_ROLE]) ~= asked[R_ROLE_NUMBER] then
    return {'obsolete'}
  end
  if not row or row[1] ~= asked[R_GENERATION] or row[2] ~= asked[R_ROLE_NUMBER] then
    return grant(asked)
  end
  if row[9] ~= '' then
    return {'obsolete'}
  elseif row[7] == asked[R_TOKEN] then
    return {'same', row[1], row[3], row[7]}
  elseif row[4] ~= asked[R_PUBLISH_ID] then
    return {'duplicate'}
  elseif row[5] == asked[R_WORKER] and row[6] == asked[R_BOOT] then
    return {'resume', row[1], row[3], row[7]}
  end
  return contend(asked, row)
end

local ready, answers = is_ready(KEYS[1]), {}
for at, asked in ipairs(cmsgpack.unpack(ARGV[2])) do
  answers[at] = ready and claim(asked) or {'no_store'}
end
return cmsgpack.pack(answers)
