//! The steps on the directory. Each touches one key; what is in it is in DESIGN.md.

use super::script::Script;
use super::ttl::live;

/// `KEYS`: the owners. `ARGV`: owner, milliseconds. Renews a lease by the server's clock, and says whether it held. Owners
/// that have been gone for a day are dropped.
pub(super) static LEASE: Script = Script::new(
    "local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     local old = redis.call('ZSCORE', KEYS[1], ARGV[1])
     redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
     redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 86400000)
     redis.call('PEXPIRE', KEYS[1], ARGV[2] + 86400000)
     return (old and tonumber(old) > now) and 1 or 0",
);

/// `KEYS`: the owners. The owners whose lease holds.
pub(super) static ALIVE: Script = Script::new(
    "local time = redis.call('TIME')
     local now = time[1] * 1000 + math.floor(time[2] / 1000)
     return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')",
);

/// `KEYS`: the tasks of a user. `ARGV`: id, writer, expected owner, version, status, record, last will or nothing,
/// position or 0, how many ended ones to keep, the oldest end to keep, when this one ended, time to live, 1 if the task
/// must be there.
///
/// Answers 1 and the position, or 0 and the record that the directory has. A position is the time, so that when the server has lost its data
/// what is new comes behind what is registered again.
pub(super) static WRITE: Script = Script::new(concat!(
    live!(),
    "local key, id, writer, expected, version, status = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
     local found = redis.call('HGET', key, id)
     local position
     if found then
       local v, s, p, len, at = string.match(found, '^(%d+) (%l+) (%d+) (%d+) ()')
       local owner = string.sub(found, at, at + len - 1)
       if owner == writer and v == version and string.sub(found, at + len + 1) == ARGV[6] then
         return {1, tonumber(p)}
       end
       if owner ~= expected or s ~= 'running' or tonumber(v) >= tonumber(version) then
         return {0, found, redis.call('HGET', key, 'w:' .. id)}
       end
       position = p
     elseif expected ~= writer or ARGV[13] == '1' then
       return {0}
     elseif ARGV[8] ~= '0' then
       position = ARGV[8]
       if tonumber(position) > tonumber(redis.call('HGET', key, '#last') or 0) then
         redis.call('HSET', key, '#last', position)
       end
     else
       local time = redis.call('TIME')
       local last = tonumber(redis.call('HGET', key, '#last') or 0)
       position = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
       redis.call('HSET', key, '#last', position)
     end
     local head = version .. ' ' .. status .. ' ' .. position .. ' ' .. #writer .. ' ' .. writer
     redis.call('HSET', key, id, head .. ' ' .. ARGV[6])
     if status == 'running' then
       if ARGV[7] ~= '' and not found then redis.call('HSET', key, 'w:' .. id, ARGV[7]) end
     else
       redis.call('HDEL', key, 's:' .. id)
       if expected == writer then redis.call('HDEL', key, 'w:' .. id) end
       local last = redis.call('HINCRBY', key, '#ended', 1)
       redis.call('HSET', key, 'e:' .. last, ARGV[11] .. ' ' .. id)
       local first = tonumber(redis.call('HGET', key, '#kept') or 1)
       local keep, oldest = tonumber(ARGV[9]), tonumber(ARGV[10])
       while first <= last do
         local ended, gone = string.match(redis.call('HGET', key, 'e:' .. first) or '0 ', '^(%d+) (.*)$')
         if last - first < keep and tonumber(ended) >= oldest then break end
         redis.call('HDEL', key, gone, 'w:' .. gone, 'e:' .. first)
         first = first + 1
       end
       redis.call('HSET', key, '#kept', first)
     end
     live(key, ARGV[12])
     return {1, tonumber(position)}",
));

/// `KEYS`: the tasks of a user. `ARGV`: when, ids. The first time that a stop is asked for is kept while a task runs.
pub(super) static STOP: Script = Script::new(
    "for n = 2, #ARGV do
       local found = redis.call('HGET', KEYS[1], ARGV[n])
       if found and string.match(found, '^%d+ (%l+) ') == 'running' then
         redis.call('HSETNX', KEYS[1], 's:' .. ARGV[n], ARGV[1])
       end
     end",
);

/// `KEYS`: the tasks of a user. `ARGV`: owner, how long to live at least, ids. For each id nothing, `h` if the owner has
/// it, `s` with the time at which its stop was first asked for, or `l` with the record that another owner has written.
pub(super) static CHECK: Script = Script::new(
    "local left = redis.call('PTTL', KEYS[1])
     if left >= 0 and left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
     local answer = {}
     for n = 3, #ARGV do
       local found = redis.call('HGET', KEYS[1], ARGV[n])
       if not found then
         answer[n - 2] = false
       else
         local s, len, at = string.match(found, '^%d+ (%l+) %d+ (%d+) ()')
         if s ~= 'running' or string.sub(found, at, at + len - 1) ~= ARGV[1] then
           answer[n - 2] = 'l' .. found
         else
           local stop = redis.call('HGET', KEYS[1], 's:' .. ARGV[n])
           answer[n - 2] = stop and 's' .. stop or 'h'
         end
       end
     end
     return answer",
);
