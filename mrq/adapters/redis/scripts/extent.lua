-- How far a stream has come.
--
-- KEYS: 1 stream
-- Gives {last id given out, entries ever added, entries there, the server's time (ms)}; of no stream
-- {"0-0", 0, 0, time}.
local last, added, length = '0-0', 0, 0
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then
      last = info[at + 1]
    elseif info[at] == 'entries-added' then
      added = info[at + 1]
    elseif info[at] == 'length' then
      length = info[at + 1]
    end
  end
end
return {last, added, length, now_ms()}
