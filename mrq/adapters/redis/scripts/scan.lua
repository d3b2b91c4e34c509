-- Some fields of a hash and their values, packed: a client unpacks them faster than it reads them one by one.
--
-- KEYS: 1 hash
-- ARGV: 1 cursor, 2 fields, about
-- Gives {next cursor, msgpack {field, value, …}}.
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
return {found[1], cmsgpack.pack(found[2])}
