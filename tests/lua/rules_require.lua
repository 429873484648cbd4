-- require and dofile: the stock meaning, and blocking calls at the top level of what they run.
local t = require "t"

package.path = t.tmp .. "/?.lua;" .. t.tmp .. "/?/init.lua;" .. package.path

local function module(name, text) t.file(text, name:gsub("%.", "_") .. ".lua") return (name:gsub("%.", "_")) end

t.test("rules.require.blocking: a module may block at its top level, also far down and inside pcall", function()
  local inner = module("block_inner", "timer.sleep(0.002) return { name = ... }")
  local outer = module("block_outer", "local m = require 'block_inner' timer.sleep(0.002) return { m, ... }")
  local m = require(outer)
  t.eq(m[2], outer)
  t.eq(m[1].name, inner)
  t.ok(rawequal(require(inner), m[1]))
  package.loaded[outer], package.loaded[inner] = nil, nil
  local ok, again = coroutine.wrap(function() return pcall(require, outer) end)()
  t.eq(ok, true)
  t.ok(not rawequal(again, m), "the module was not run again")
end)

t.test("rules.require.once: a module is run once, its value kept in package.loaded", function()
  runs = 0
  module("once", "runs = runs + 1 return { runs }")
  local m = require "once"
  t.ok(rawequal(require "once", m))
  t.ok(rawequal(package.loaded.once, m))
  t.eq(runs, 1)
  package.loaded.once = nil
  t.same(require "once", { 2 })
  runs = nil
end)

t.test("rules.require.value: no value gives true; false and what the module puts into package.loaded stay", function()
  module("value_none", "")
  t.eq(require "value_none", true)
  t.eq(package.loaded.value_none, true)
  module("value_false", "return false")
  t.eq(require "value_false", false)
  module("value_own", "package.loaded[...] = 'own'")
  t.eq(require "value_own", "own")
end)

t.test("rules.require.path: package.path is asked in order, dots are directories, init.lua included", function()
  t.mkdir(t.tmp .. "/pack/sub")
  t.file("return 'init of ' .. ...", "pack/init.lua")
  t.file("return 'sub of ' .. ...", "pack/sub/leaf.lua")
  t.eq(require "pack", "init of pack")
  t.eq(require "pack.sub.leaf", "sub of pack.sub.leaf")
  t.file("return 'letters'", "wörd😀.lua")
  t.eq(require "wörd😀", "letters")
  t.file("return 'first'", "twice.lua")
  t.mkdir(t.tmp .. "/second")
  t.file("return 'second'", "second/twice.lua")
  local saved = package.path
  package.path = t.tmp .. "/second/?.lua;" .. saved
  t.eq(require "twice", "second")
  package.path = saved
end)

t.test("rules.require.preload: package.preload comes first and is given the name", function()
  module("preloaded", "return 'from the file'")
  package.preload.preloaded = function(name)
    timer.sleep(0.001)
    return "preload of " .. name
  end
  t.eq(require "preloaded", "preload of preloaded")
end)

t.test("rules.require.loaders: package.loaders is the list of searchers, and may be added to", function()
  t.ok(#package.loaders >= 4)
  table.insert(package.loaders, 2, function(name)
    return name == "made_up" and function(...) timer.sleep(0.001) return { ... } end or "\n\tnot made up"
  end)
  t.same(require "made_up", { "made_up" })
  t.raises("not made up", require, "no_such_module")
  table.remove(package.loaders, 2)
end)

t.test("rules.require.missing: the message lists every place that was searched", function()
  local e = t.raises("module 'no.such.module' not found", require, "no.such.module")
  for _, place in ipairs { "package.preload%['no.such.module'%]", "no/such/module.lua", "no/such/module/init.lua", "no/such/module.so" } do
    t.ok(e:find(place) or jit.os ~= "Linux", place .. " is not in " .. e)
  end
  t.raises("bad argument #1 to 'require'", require, {})
end)

t.test("rules.require.broken: syntax errors and errors of a module pass on; the name stays unloaded", function()
  module("broken", "local = 1")
  t.raises("broken.lua:1:", require, "broken")
  module("throws", "timer.sleep(0.001) error('thrown by the module')")
  t.raises("throws.lua:1: thrown by the module", require, "throws")
  local object = {}
  thrown = object
  module("throws_object", "error(thrown)")
  t.returns({ false, object }, pcall(require, "throws_object"))
  thrown = nil
end)

t.test("rules.require.changed: what a file says now counts, also after a change that keeps its size and its time", function()
  local name = module("changed", "return 'v0'")
  local path = t.tmp .. "/changed.lua"
  for i = 1, 9 do
    package.loaded.changed = nil
    t.eq(require(name), "v" .. i - 1)
    local f = assert(io.open(path, "r+")) -- in place, within one tick of the clock
    f:write("return 'v" .. i .. "'")
    f:close()
    if i > 5 then t.set_mtime(path, 1e9) end
    t.eq(dofile(path), "v" .. i)
    t.eq(loadfile(path)(), "v" .. i)
  end
end)

t.test("rules.require.changed-late: the same when the file is an old one", function()
  local name = module("changed_late", "return 'old'")
  t.set_mtime(t.tmp .. "/changed_late.lua", 1e9)
  for _, text in ipairs { "old", "new" } do
    local f = assert(io.open(t.tmp .. "/changed_late.lua", "r+"))
    f:write("return '" .. text .. "'")
    f:close()
    if text == "old" then timer.sleep(2.5) end -- longer than the cache doubts a file's time
    t.set_mtime(t.tmp .. "/changed_late.lua", 1e9)
    package.loaded.changed_late = nil
    t.eq(require(name), text)
  end
end)

t.test("rules.require.loop: modules that require each other are an error, not an endless loop", function()
  module("loop_a", "return require 'loop_b'")
  module("loop_b", "return require 'loop_a'")
  t.raises("loop", require, "loop_a")
end)

t.test("rules.require.loop-across: modules that require each other from two coroutines are an error too", function()
  module("across_a", "timer.sleep(0.005) return require 'across_b'")
  module("across_b", "timer.sleep(0.005) return require 'across_c'")
  module("across_c", "timer.sleep(0.005) return require 'across_a'")
  local results = {}
  for _, name in ipairs { "across_a", "across_b", "across_c" } do
    context.run(function()
      local r = { pcall(require, name) }
      results[#results + 1] = r
    end)
  end
  while #results < 3 do timer.sleep(0.002) end
  t.eq(#results, 3)
  for _, r in ipairs(results) do
    t.eq(r[1], false)
    t.ok(tostring(r[2]):find("loop", 1, true), tostring(r[2]))
  end
end)

t.test("rules.require.chain: coroutines that wait for each other's modules without a circle get them", function()
  module("chain_a", "timer.sleep(0.005) return 'a' .. require 'chain_b'")
  module("chain_b", "timer.sleep(0.005) return 'b' .. require 'chain_c'")
  module("chain_c", "timer.sleep(0.02) return 'c'")
  local results = {}
  for _, name in ipairs { "chain_c", "chain_b", "chain_a", "chain_a" } do
    context.run(function()
      local value = require(name)
      results[#results + 1] = value
    end)
  end
  while #results < 4 do timer.sleep(0.002) end
  table.sort(results)
  t.same(results, { "abc", "abc", "bc", "c" })
end)

t.test("rules.require.given-up: a module whose top level yields to nobody is an error for those who want it", function()
  module("yields", "coroutine.yield() return 1")
  context.run(function() require "yields" end)
  timer.sleep(0.005)
  t.raises("loop or previous error", require, "yields")
  module("yields_inside", "coroutine.yield() return 1")
  local co = coroutine.create(function() return require "yields_inside" end)
  t.eq(coroutine.resume(co), true)
  local got
  context.run(function() got = require "yields_inside" end)
  timer.sleep(0.005)
  t.eq(got, nil)
  t.returns({ true, 1 }, coroutine.resume(co)) -- whoever has the coroutine can go on
  timer.sleep(0.01)
  t.eq(got, 1)
end)

t.test("rules.require.cpath: C modules are searched by package.cpath and loaded", function()
  t.eq(type(package.cpath), "string")
  t.eq(type(package.loadlib), "function")
  t.file("not a shared library", "not_a_library.so")
  local saved = package.cpath
  package.cpath = t.tmp .. "/?.so"
  t.raises("not_a_library", require, "not_a_library")
  package.cpath = saved
end)

t.test("rules.require.environment: LUA_PATH is honoured in every context", function()
  local h = t.spawn "context.send(context.parent, type(require('t').test))" -- tests/lua/lib is in LUA_PATH
  t.eq(t.good(context.recv(h, 20)), "function")
end)

t.test("rules.require.module: the old module function still works", function()
  module("old_style", "module(..., package.seeall) function f() return tostring(1) end")
  require "old_style"
  t.eq(old_style.f(), "1")
end)

t.test("rules.dofile: returns the chunk's values, raises its errors, names the file that is missing", function()
  t.returns({ 1, nil, 3, n = 3 }, dofile(t.file "timer.sleep(0.001) return 1, nil, 3"))
  t.returns({ n = 0 }, dofile(t.file ""))
  t.raises("thrown", dofile, t.file "error 'thrown'")
  t.raises("no_such_file.lua", dofile, "no_such_file.lua")
  t.raises("", dofile, t.file "local = 1")
end)

---- What a text names -------------------------------------------------------------------------------------------------------

t.test("rules.modules.escapes: a library named behind a string of several lines is there", function()
  for what, source in pairs {
    blanks = 'local s = "a\\z\n  b" .. table.concat { "c" } context.send(context.parent, s)',
    ["blanks, DOS"] = 'local s = "a\\z\r\n  b" .. table.concat { "c" } context.send(context.parent, s)',
    ["a break, DOS"] = 'local s = "a\\\r\nb" .. table.concat { "c" } context.send(context.parent, (s:gsub("%s", "")))',
    ["a break"] = "local s = 'a\\\nb' .. table.concat { 'c' } context.send(context.parent, (s:gsub('%s', '')))",
  } do
    local got = t.good(context.recv(t.spawn(source), 20))
    t.eq(got, "abc", what)
  end
end)

t.test("rules.modules.line-ends: a library is there behind a byte order mark, a # line, and any line ends", function()
  local bom, body = "\239\187\191", "os.getenv('HOME') -- it's [[ one\ncontext.send(context.parent, type(os.time()))\n"
  for _, head in ipairs { "", "#!/usr/bin/env -S nl-jit -w 2 --pin=on it's\n" } do
    for _, line_end in ipairs { "\n", "\r", "\r\n", "\n\r" } do
      for _, mark in ipairs { "", bom } do
        local source = mark .. (head .. body):gsub("\n", line_end)
        t.eq(t.good(context.recv(t.spawn(source), 20)), "number", source)
      end
    end
  end
  t.eq(t.good(context.recv(t.spawn(bom .. "context.send(context.parent, 'marked')"), 20)), "marked")
end)

t.test("rules.modules.seeall: a module that sees all globals finds the libraries under any name", function()
  local got = t.good(context.recv(t.spawn [[
    module("m", package.seeall)
    context.send(context.parent, type(_M["ta" .. "ble"]))
  ]], 20))
  t.eq(got, "table")
end)

t.test("rules.modules.removed: a function that was called and then removed stays away", function()
  local got = t.good(context.recv(t.spawn [[
    local now = timer.now()
    timer.now
      = nil
    context.send(context.parent, now and type(timer.now))
  ]], 20))
  t.eq(got, "nil")
end)

---- Where the stock meaning is kept, and where it is not -------------------------------------------------------------------------

t.test("rules.stock.setlocale: no context changes the locale of the others", function()
  for _, args in ipairs { {}, { nil, "numeric" }, { "" }, { "C" }, { "POSIX", "all" }, { "", "time" } } do
    t.returns({ "C" }, os.setlocale(unpack(args, 1, 2)))
  end
  for _, name in ipairs { "de_DE", "C.utf8", "nonsense", "en_US.UTF-8" } do
    t.raises('the whole process\'s: it can only be "C"', os.setlocale, name)
    t.raises('bad argument #1', os.setlocale, name, "numeric")
  end
  t.raises("nonsense", os.setlocale, "C", "nonsense")
  t.eq(os.setlocale(), "C")
end)

t.test("rules.stock.main: the main chunk is a coroutine", function()
  local h = t.spawn "context.send(context.parent, type(coroutine.running()), coroutine.isyieldable())"
  t.returns({ true, "thread", h, -1, true }, context.recv(h, 20))
end)

t.done()
