-- actors.lua BENCH AMOUNT [CONTEXTS]: what messages, contexts and timers cost on nl-jit. bench/README.md tells what each
-- benchmark does. Prints lines of a name and a number.
local bench, amount, contexts = ...
amount = assert(tonumber(amount), "AMOUNT must be a number")
contexts = tonumber(contexts)
local now = timer.now

local function result(name, value) print(("%s %.6f"):format(name, value)) end

local function rates(count, seconds)
  result("rate", count / seconds)
  result("count", count)
end

local function actor(name) return assert(context.create("actor/" .. name .. ".lua")) end

local function resident_kb()
  local f = assert(io.open("/proc/self/statm"))
  local _, pages = f:read("*n", "*n")
  f:close()
  return pages * 4
end

local function calls(seconds, value)
  local BATCH = 200 -- calls between two looks at the clock
  local peer = actor("echo")
  local count, start = 0, now()
  repeat
    for _ = 1, BATCH do
      assert(context.query(peer, value))
    end
    count = count + BATCH
  until now() - start >= seconds
  rates(count, now() - start)
end

local run = {}

function run.pingpong() calls(amount, 1) end

function run.table() calls(amount, { id = 1, name = "abc", pos = { 1, 2, 3 } }) end

function run.pairs()
  local callers, total, left = {}, 0, contexts or 100
  for i = 1, left do callers[i] = actor("caller") end
  for i = 1, left do assert(context.query(callers[i], 0)) end -- all are there
  local start, main = now(), context.self
  for i = 1, left do
    context.query(callers[i], start + amount, function(ok, count)
      assert(ok, "a caller has failed")
      total, left = total + count, left - 1
      if left == 0 then context.send(main, "done") end
    end)
  end
  context.recv(0)
  rates(total, now() - start)
end

function run.flood()
  local EACH = 250000
  local consumer, producers = actor("consumer"), { actor("producer"), actor("producer") }
  local count, start = 0, now()
  repeat
    for _, p in ipairs(producers) do context.send(p, EACH, consumer) end
    assert(context.query(consumer, #producers * EACH))
    count = count + #producers * EACH
  until now() - start >= amount
  rates(count, now() - start)
end

function run.ring()
  local HOPS = 200000
  local n, links = contexts or 1000, {}
  for i = 1, n do links[i] = actor("link") end
  for i = 1, n do assert(context.query(links[i], links[i % n + 1])) end
  local count, start = 0, now()
  repeat
    context.send(links[1], HOPS)
    assert(context.recv(0))
    count = count + HOPS
  until now() - start >= amount
  rates(count, now() - start)
end

function run.spawn()
  local before, start, all = resident_kb(), now(), {}
  for i = 1, amount do all[i] = actor("echo") end
  for i = 1, amount do
    local ok, value = context.query(all[i], i)
    assert(ok and value == i, "wrong answer")
  end
  rates(amount, now() - start)
  timer.sleep(0.5)
  result("kb_each", (resident_kb() - before) / amount)
end

function run.timers()
  local late, cpu, start, main = {}, os.clock(), now(), context.self
  for i = 1, amount do
    local seconds = (1000 + (i * 7919) % 1000 + 1) / 1000 -- from 1.001 to 2 s, in no order
    local due = now() + seconds
    timer.timeout(seconds, function()
      late[#late + 1] = now() - due
      if #late == amount then context.send(main, "done") end
    end)
  end
  rates(amount, now() - start)
  context.recv(0)
  result("cpu_us", (os.clock() - cpu) * 1e6 / amount)
  table.sort(late)
  result("late_p50_ms", late[math.ceil(#late * 0.5)] * 1e3)
  result("late_p99_ms", late[math.ceil(#late * 0.99)] * 1e3)
  result("late_max_ms", late[#late] * 1e3)
end

local chosen = run[bench]
if not chosen then
  io.stderr:write("actors.lua: no such benchmark: ", tostring(bench), "\n")
  os.exit(2)
end
chosen()
os.exit(0)
