--[[
t.lua - the framework of the Lua-level conformance suite.

A test script is a main chunk that calls t.test(name, fn) any number of times and ends with t.done().  Tests run one after
the other in the main chunk's coroutine, so their bodies may block.  A name begins with its rule id ("tcp.read.timeout: ...").
Results go to standard output as TAP; tests/run_lua.py reads them.  A script has to end by itself: whatever a test arms or
opens it releases, with t.defer or by the helpers below, which do that.

No test waits for a time that a busy machine could miss: upper bounds are the watchdog of t.await (or of the runner), only
lower bounds ("never early") are tight.
]]

local t = {}

t.slow = tonumber(os.getenv("NLT_SLOW") or "1") -- how much slower this build is (sanitizers)
t.chaos = os.getenv("NLJIT_CHAOS") ~= nil -- the runtime perturbs its scheduling
t.workers = tonumber(os.getenv("NLT_WORKERS") or "1")
t.tmp = os.getenv("NLT_TMP") or "." -- a directory of this run's own

local WATCHDOG = 20 * t.slow
local EPSILON = 1e-6 -- what adding seconds as doubles may lose

local count, failed = 0, 0
local deferred = {}

-- A big count, scaled down for slow builds.
function t.scale(n) return math.max(1, math.ceil(n / t.slow)) end

---- Values --------------------------------------------------------------------------------------------------------------

function t.pack(...) return { n = select("#", ...), ... } end

local function show(v, depth)
  depth = depth or 0
  if type(v) == "string" then
    local s = #v > 200 and v:sub(1, 200) .. "…(" .. #v .. " bytes)" or v
    return (string.format("%q", s):gsub("\\\n", "\\n"))
  elseif type(v) == "table" and depth < 4 then
    local out, named = {}, context and context.errname
    for k, x in pairs(v) do
      out[#out + 1] = "[" .. show(k, depth + 1) .. "]=" .. show(x, depth + 1)
      if #out > 30 then out[#out + 1] = "…" break end
    end
    if named and v.n == 2 and v[1] == false and type(v[2]) == "number" then out[#out + 1] = tostring(named(v[2])) end
    return "{" .. table.concat(out, ", ") .. "}"
  end
  return tostring(v)
end
t.show = show

-- Deep equality: same types, same keys; userdata and functions by identity; NaN equals NaN.
local function same(a, b)
  if type(a) ~= type(b) then return false end
  if type(a) ~= "table" then return a == b or (a ~= a and b ~= b) end
  for k, v in pairs(a) do
    if not same(v, b[k]) then return false end
  end
  for k in pairs(b) do
    if a[k] == nil then return false end
  end
  return true
end

---- Assertions ----------------------------------------------------------------------------------------------------------

local function fail(what, level) error({ failure = what .. debug.traceback("", (level or 1) + 2) }, 0) end

function t.ok(value, what)
  if not value then fail(what or "expected a true value, got " .. show(value)) end
  return value
end

function t.eq(got, want, what)
  if not rawequal(got, want) and got ~= want then
    fail((what and what .. ": " or "") .. "got " .. show(got) .. ", want " .. show(want))
  end
end

function t.same(got, want, what)
  if not same(got, want) then fail((what and what .. ": " or "") .. "got " .. show(got) .. ", want " .. show(want)) end
end

-- The results of a call, in number and value: t.returns({ n = 2, true, 0 }, f()).
function t.returns(want, ...)
  local got = t.pack(...)
  want.n = want.n or #want
  if not same(got, want) then fail("returned " .. show(got) .. ", want " .. show(want)) end
end

-- The call succeeded: its first result is true; returns the others.
function t.good(ok, ...)
  if ok ~= true then fail("call failed: " .. show(t.pack(ok, ...))) end
  return ...
end

-- The call failed as the contract says: exactly two results, false and the code of that name.
function t.fails(name, ...)
  local got = t.pack(...)
  local code = context.errno[name]
  if code == nil then fail("context.errno has no " .. name) end
  if got.n ~= 2 or got[1] ~= false or got[2] ~= code then
    fail("returned " .. show(got) .. ", want false, " .. name .. " (" .. code .. ")")
  end
end

-- f(...) raises an error whose text matches the pattern; returns the error value.
function t.raises(pattern, f, ...)
  local got = t.pack(pcall(f, ...))
  if got[1] then fail("no error was raised; returned " .. show(got)) end
  if not tostring(got[2]):find(pattern) then fail("the error is " .. show(got[2]) .. ", want one like " .. pattern) end
  return got[2]
end

-- At least this many seconds have passed since `start`: what took them was not early.
function t.not_early(start, seconds)
  local passed = timer.now() - start
  if passed < seconds - EPSILON then fail("early: after " .. passed .. " s instead of " .. seconds) end
end

---- Waiting -------------------------------------------------------------------------------------------------------------

-- Sleeps until pred() is true; fails when that takes absurdly long.
function t.await(pred, what)
  local start = timer.now()
  while not pred() do
    if timer.now() - start > WATCHDOG then fail("never came: " .. (what or "the awaited condition")) end
    timer.sleep(0.001)
  end
end

-- Time for something that must not happen to happen.
function t.settle(seconds) timer.sleep(seconds or 0.02) end

-- calls, callback = t.recorder(): the callback notes the arguments of each call in calls[1], calls[2]…, each with its n.
-- calls:wait(k) waits until there are k and returns the k-th.
function t.recorder()
  local calls = {}
  function calls.wait(self, k)
    k = k or 1
    t.await(function() return #self >= k end, "call " .. k .. " of a callback (had " .. #self .. ")")
    return self[k]
  end
  return calls, function(...) calls[#calls + 1] = t.pack(...) end
end

-- Runs something that ends later, f(...) in a coroutine of its own; wait() gives its results, packed.
function t.async(f, ...)
  local calls, done = t.recorder()
  context.run(function(...) done(f(...)) end, ...)
  return {
    done = function() return #calls > 0 end,
    wait = function() return calls:wait() end,
  }
end

-- For what a busy machine can spoil but a wrong program never gets right: f() has to pass once in 20 tries.
function t.eventually(f)
  local ok, e
  for _ = 1, 20 do
    ok, e = pcall(f)
    if ok then return end
  end
  error(e, 0)
end

---- Things a test uses, released when it ends ---------------------------------------------------------------------------

-- Runs f(...) when the test ends, however it ends; last in, first out.
function t.defer(f, ...)
  local args = t.pack(...)
  deferred[#deferred + 1] = function() return f(unpack(args, 1, args.n)) end
end

local files, by_source = 0, {}

-- A file of this run's own with this text; returns its path.
function t.file(text, name)
  files = files + 1
  local path = t.tmp .. "/" .. (name or ("file_" .. tostring(context.self) .. "_" .. files .. ".lua"))
  local f = assert(io.open(path, "wb"))
  f:write(text)
  f:close()
  return path
end

-- A command for the shell: its own language, where the shell is a POSIX one; on Windows one that runs the Lua text in another
-- process of this program.
function t.shell(posix, lua)
  if not context.winos then return posix end
  local program = 0
  while arg[program - 1] do program = program - 1 end
  return arg[program] .. " -w 1 " .. t.file(lua)
end

-- The same for what begins when this file is there.
function t.waits_for(sign, posix, lua)
  return t.shell(("while [ ! -e '%s' ]; do sleep 0.01; done; "):format(sign) .. (posix or ""),
    ("while not io.open(%q) do timer.sleep(0.01) end "):format(sign) .. (lua or ""))
end

function t.mkdir(path)
  os.execute(context.winos and "mkdir " .. path:gsub("/", "\\") or "mkdir -p " .. path)
end

-- Gives a file this time of change, in seconds.
function t.set_mtime(path, seconds)
  if not context.winos then
    os.execute(("touch -d @%d %s"):format(seconds, path))
    return
  end
  local ffi = require "ffi"
  pcall(ffi.cdef, "int _utime64(const char *, const int64_t *);")
  t.eq(ffi.C._utime64(path, ffi.new("int64_t[2]", seconds, seconds)), 0)
end

-- A name of this run's own for tcp.listens: a Unix socket's path, on Windows that of a named pipe.
function t.local_name(name)
  if context.winos then return "\\\\.\\pipe\\" .. t.tmp:gsub("%W", "-") .. "-" .. name end
  return t.tmp .. "/" .. name .. ".sock"
end

-- Creates a context that runs this source; destroyed when the test ends, if it still lives.
function t.spawn(source, ...)
  by_source[source] = by_source[source] or t.file(source)
  local handle, err = context.create(by_source[source], ...)
  if not handle then fail("context.create failed: " .. show(err)) end
  t.defer(context.destroy, handle)
  return handle
end

-- The handle of a context that has ended.
function t.dead_handle()
  local h = t.spawn("return")
  t.good(context.wait(h))
  return h
end

-- A listener on a free port of 127.0.0.1, and the port.
function t.listen(options)
  local listener = t.good(tcp.listen("127.0.0.1", 0, options))
  t.defer(tcp.close, listener)
  return listener, tcp.local_port(listener)
end

-- Two ends of one TCP connection, both in this context.
function t.pair()
  local listener, port = t.listen()
  local a = t.good(tcp.connect("127.0.0.1", port))
  local b = t.good(tcp.accept(listener))
  tcp.close(listener)
  t.defer(tcp.close, a)
  t.defer(tcp.close, b)
  return a, b
end

-- A port of 127.0.0.1 on which nobody listens.
function t.closed_port()
  local listener, port = t.listen()
  tcp.close(listener)
  return port
end

-- Reads until n bytes have come (all until the end of the stream, if n is nil); returns them as a string.
function t.read_all(s, n)
  local parts, got = {}, 0
  while not n or got < n do
    local ok, data = tcp.read(s, WATCHDOG)
    if not ok then
      if not n and data == context.errno.EEOF then break end
      fail("read failed with " .. tostring(context.errname(data)) .. " after " .. got .. " bytes")
    end
    parts[#parts + 1] = buffer.tostring(data)
    got = got + #parts[#parts]
  end
  return table.concat(parts)
end

---- Running -------------------------------------------------------------------------------------------------------------

local function say(line)
  io.stdout:write(line, "\n")
  io.stdout:flush()
end

local function handler(e)
  if type(e) == "table" and (e.failure or e.skip) then return e end
  return { failure = debug.traceback(tostring(e), 2) }
end

local function release()
  local problem
  for i = #deferred, 1, -1 do
    local ok, e = pcall(deferred[i])
    deferred[i] = nil
    if not ok then problem = "while releasing: " .. tostring(e) end
  end
  return problem
end

function t.skip(reason) error({ skip = reason }, 0) end

-- Leaves the test out on Windows; why: what it has otherwise, or not at all.
function t.needs_posix(why)
  if context.winos then t.skip("not on Windows: " .. why) end
end

-- Leaves the test out where the ffi does not find these functions of libc: a static program has none, Windows has others.
function t.needs_ffi(...)
  local ok, ffi = pcall(require, "ffi")
  for _, name in ipairs { ... } do
    if ok then pcall(ffi.cdef, ('void probe_%s(void) __asm__("%s");'):format(name, name)) end
    if not ok or not pcall(function() return ffi.C["probe_" .. name] end) then t.skip("the ffi finds no " .. name) end
  end
end

function t.test(name, f)
  count = count + 1
  say("# run " .. name)
  local ok, e = xpcall(f, handler)
  local problem = release()
  if ok and problem then
    ok, e = false, { failure = problem }
  end
  if ok then
    say("ok " .. count .. " - " .. name)
  elseif e.skip then
    say("ok " .. count .. " - " .. name .. " # SKIP " .. e.skip)
  else
    failed = failed + 1
    say("not ok " .. count .. " - " .. name)
    say("# " .. e.failure:gsub("\n", "\n# "))
  end
end

-- The last call of every script.  After a failure, what a test left armed must not keep the process.
function t.done()
  say("1.." .. count)
  if failed > 0 then os.exit(1) end
end

return t
