-- Reading from a pipe: what stock LuaJIT reads from a file, and only the coroutine waits.
local t = require "t"

local function save(name, text)
  name = t.tmp .. "/" .. name
  local f = assert(io.open(name, "w"))
  f:write(text)
  f:close()
  return name
end

-- What is in a file, from a child's pipe.
local function cat(name)
  return assert(io.popen(t.shell("cat " .. name, ("io.write(io.open(%q):read '*a')"):format(name))))
end

local function pipe_of(text) return cat(save("of", text)) end

local function random_text(i)
  local pieces = { "12", " ", "\n", "0x1F", "-3.5e2", "x", "1e", "  ", "\n\n", "word", "nan", "\r\n", "..", "+", "inf", "\t7" }
  local out = {}
  for k = 1, math.random(0, 30) do out[k] = pieces[math.random(#pieces)] end
  if i % 10 == 0 then out[#out + 1] = ("y"):rep(math.random(1, 20000)) .. "\n" end
  return table.concat(out)
end

t.test("io.read.formats: every format gives on a pipe what it gives on a file", function()
  local formats = { "*l", "*L", "*n", "*a", "l", "L", "n", "a", 0, 1, 3, 5000 }
  for i = 1, t.scale(60) do
    local name = save("formats", random_text(i))
    local file, pipe = assert(io.open(name)), cat(name)
    for _ = 1, 12 do
      local asked = {}
      for k = 1, math.random(0, 4) do asked[k] = formats[math.random(#formats)] end
      t.same(t.pack(pipe:read(unpack(asked))), t.pack(file:read(unpack(asked))))
    end
    file:close()
    pipe:close()
  end
end)

t.test("io.read.lines: so do iterators, with and without formats", function()
  for i = 1, t.scale(30) do
    local name = save("lines", random_text(i))
    for _, asked in ipairs { {}, { "*L" }, { 7 }, { "*l", 2 } } do
      local want, got = {}, {}
      local file, pipe = assert(io.open(name)), cat(name)
      for a, b in file:lines(unpack(asked)) do want[#want + 1] = t.pack(a, b) end
      for a, b in pipe:lines(unpack(asked)) do got[#got + 1] = t.pack(a, b) end
      t.same(got, want)
      file:close()
      pipe:close()
    end
  end
end)

t.test("io.read.errors: bad formats, closed files and files to write raise or answer as in stock LuaJIT", function()
  local p = pipe_of("one\ntwo\n")
  t.raises("bad argument #1 to 'read' %(invalid format%)", function() p:read("x") end)
  t.raises("bad argument #1 to 'read' %(invalid option%)", function() p:read({}) end)
  t.eq(p:read(), "one")
  local next_line = p:lines()
  p:close()
  t.raises("attempt to use a closed file", function() p:read() end)
  t.raises("attempt to use a closed file", function() p:lines() end)
  t.raises("attempt to use a closed file", next_line)
  if context.winos then return end -- msvcrt finds nothing to read there, and no error
  p = assert(io.popen("cat >/dev/null", "w"))
  t.returns({ n = 3, nil, "Bad file descriptor", 9 }, p:read())
  p:close()
end)

t.test("io.read.formats-long: what looks like a number for long is looked at once", function()
  local text = ("x"):rep(t.scale(400000)) .. " 7\n"
  local file, pipe = assert(io.open(save("long", text))), pipe_of(text)
  for i = 1, 2 do
    t.returns(t.pack(file:read("*n")), pipe:read("*n"))
  end
  t.eq(#pipe:read("*a"), #file:read("*a"))
  file:close()
  pipe:close()
end)

t.test("io.read.default: a pipe may be the default input", function()
  local old = io.input()
  local p = pipe_of("one\n2 three\n")
  io.input(p)
  local first, second = io.read(), io.read("*n")
  local rest = {}
  for line in io.lines() do rest[#rest + 1] = line end
  io.input(old)
  p:close()
  t.same({ first, second, rest }, { "one", 2, { " three" } })
end)

t.test("io.read.partial: a line that comes in pieces is one", function()
  local p = assert(io.popen(t.shell("printf one; sleep 0.02; printf ' line'; sleep 0.02; echo; printf half", [[
    for _, piece in ipairs { "one", " line", "\n", "half" } do
      io.write(piece)
      io.flush()
      timer.sleep(0.02)
    end]])))
  t.eq(p:read(), "one line")
  t.eq(p:read(), "half")
  t.returns({ n = 1 }, p:read())
  p:close()
end)

-- A child waits for the sign that only another coroutine of this context can give.
local waits_for = t.waits_for
local function waits_then_prints(sign, word) return waits_for(sign, "echo " .. word, ("print %q"):format(word)) end

t.test("io.read.suspends: a read suspends the coroutine only, in callbacks and nested coroutines too", function()
  local sign, seen = t.tmp .. "/read.sign", {}
  timer.timeout(0.01, function() save("read.sign", "") end)
  local p = assert(io.popen(waits_then_prints(sign, "now")))
  local co = coroutine.wrap(function()
    coroutine.yield(p:read())
    return "end"
  end)
  t.eq(co(), "now")
  t.eq(co(), "end")
  p:close()
  os.remove(sign)
  local q = assert(io.popen(waits_then_prints(sign, "again")))
  timer.timeout(0, function() seen[1] = q:read() end)
  timer.timeout(0.01, function() save("read.sign", "") end)
  t.await(function() return seen[1] end)
  t.eq(seen[1], "again")
  q:close()
end)

t.test("io.read.order: several reads of one pipe are served in their order", function()
  local sign, seen = t.tmp .. "/order.sign", {}
  local p = assert(io.popen(waits_for(sign, "for i in 1 2 3 4 5 6; do echo $i; done", "for i = 1, 6 do print(i) end")))
  for i = 1, 3 do
    context.run(function() seen[i] = p:read("*n", "*n") end)
  end
  timer.sleep(0)
  save("order.sign", "")
  t.await(function() return seen[1] and seen[2] and seen[3] end)
  t.same(seen, { 1, 3, 5 })
  p:close()
end)

t.test("io.read.noyield: where the VM cannot yield a read waits all the same", function()
  local p = assert(io.popen(t.shell("sleep 0.02; echo 1; sleep 0.02; echo 2", [[
    for i = 1, 2 do
      timer.sleep(0.02)
      print(i)
      io.flush()
    end]])))
  t.eq((("x"):gsub("x", function() return p:read() end)), "1")
  local seen
  table.sort({ 1, 2 }, function(a, b)
    seen = seen or p:read()
    return a < b
  end)
  t.eq(seen, "2")
  p:close()
end)

t.test("io.close.reading: closing a pipe ends the reads that wait for it", function()
  local sign, seen = t.tmp .. "/close.sign", {}
  local p = assert(io.popen(waits_for(sign)))
  context.run(function() seen = t.pack(p:read()) end)
  timer.sleep(0)
  context.run(function() p:close() end)
  t.await(function() return seen.n end)
  save("close.sign", "")
  t.same(seen, { n = 3, nil, "Bad file descriptor", 9 })
end)

t.test("io.close.suspends: closing a pipe waits for the child, in the coroutine only", function()
  local sign = t.tmp .. "/wait.sign"
  timer.timeout(0.01, function() save("wait.sign", "") end)
  local p = assert(io.popen(waits_for(sign), "w"))
  t.returns({ true }, p:close())
  assert(io.open(sign)):close()
  t.eq(io.type(p), "closed file")
end)

t.test("io.execute.suspends: so does os.execute, with the shell's status", function()
  local sign = t.tmp .. "/execute.sign"
  timer.timeout(0.01, function() save("execute.sign", "") end)
  local status_unit = context.winos and 1 or 256 -- what the exit status 1 is as a result
  local stock = jit.version_num and os.execute("exit 0")
  t.eq(stock, 0)
  t.eq(os.execute(waits_for(sign, "exit 3", "os.exit(3)")), 3 * status_unit)
  assert(os.execute() ~= 0)
  local status
  table.sort({ 1, 2 }, function(a, b)
    status = status or os.execute("exit 1")
    return a < b
  end)
  t.eq(status, status_unit)
end)

t.test("io.open.fifo: opening a FIFO waits for the other end, in the coroutine only", function()
  local name = t.tmp .. "/fifo"
  if context.winos then t.skip("Windows has no FIFOs") end
  os.execute("mkfifo " .. name)
  local read = {}
  context.run(function()
    local f = assert(io.open(name))
    for line in f:lines() do read[#read + 1] = line end
    f:close()
    read.done = true
  end)
  local f = assert(io.open(name, "w"))
  f:write("one\ntwo")
  f:close()
  t.await(function() return read.done end)
  t.same(read, { "one", "two", done = true })
  os.execute("(echo a; echo b) > " .. name .. " &")
  local lines = {}
  for line in io.lines(name) do lines[#lines + 1] = line end
  t.same(lines, { "a", "b" })
end)

t.test("io.popen.flushes: files of the context are written before the child runs", function()
  local name = t.tmp .. "/flushed"
  local old = io.output()
  io.output(name)
  io.write("text")
  local p = cat(name)
  t.eq(p:read("*a"), "text")
  p:close()
  io.close()
  io.output(old)
end)

t.test("io.popen.neighbours: it does not wait for what another context has to write", function()
  local sign = t.tmp .. "/neighbours.sign"
  local h = t.spawn([[
    local command, parent = ...
    local p = assert(io.popen(command, "w"))
    p:write(("x"):rep(65536)) -- what a pipe holds
    p:write("pending")
    context.send(parent, "full")
    context.recv(parent)
  ]], waits_for(sign), context.self)
  t.good(context.recv(h))
  local p = assert(io.popen("echo hi"))
  t.eq(p:read(), "hi")
  p:close()
  save("neighbours.sign", "")
  context.send(h, "go on")
  t.good(context.wait(h))
end)

t.test("io.gc: a pipe that nobody holds any more is closed, and nobody waits for its child", function()
  local sign = t.tmp .. "/gc.sign"
  do assert(io.popen(waits_for(sign))) end
  collectgarbage()
  collectgarbage()
  save("gc.sign", "")
end)

t.test("io.type: file objects are LuaJIT's own", function()
  local p = assert(io.popen("echo x"))
  t.eq(io.type(p), "file")
  assert(tostring(p):find("^file %(0x"), tostring(p))
  t.eq(getmetatable(p), getmetatable(io.stdin))
  p:close()
  t.eq(tostring(p), "file (closed)")
  t.returns({ n = 2, nil, "cannot close standard file" }, io.stdin:close())
end)

t.test("io.type.ffi: the ffi takes a file object for a FILE *", function()
  t.needs_ffi("fileno")
  local ffi, p = require "ffi", assert(io.popen("echo x"))
  ffi.cdef "int fileno(void *);"
  t.ok(ffi.C.fileno(ffi.cast("void *", p)) > 2)
  p:close()
end)

t.done()
