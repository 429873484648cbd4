-- tarantool actors.lua BENCH AMOUNT [CONTEXTS]: fibers and channels. They share one Lua state, so a table that is sent is
-- copied by hand, as between actors that share nothing.
local fiber = require("fiber")
local clock = require("clock")
local now = clock.monotonic
local BATCH, BATCH_PAIRS = 200, 20 -- calls between two looks at the clock; fewer where many callers end at the same time

local bench, amount, contexts = arg[1], tonumber(arg[2]), tonumber(arg[3])

local function result(name, value) print(("%s %.6f"):format(name, value)) end

local function rates(count, seconds)
  result("rate", count / seconds)
  result("count", count)
end

local function resident_kb()
  local f = io.open("/proc/self/statm")
  local _, pages = f:read("*n", "*n")
  f:close()
  return pages * 4
end

-- Takes {value, reply channel}.
local function echo(inbox, copy)
  fiber.create(function()
    while true do
      local question = inbox:get()
      question[2]:put(copy(question[1]))
    end
  end)
end

local function same(value) return value end

local function calls(stop, value, copy, batch)
  local inbox, reply = fiber.channel(0), fiber.channel(0)
  echo(inbox, copy)
  local count = 0
  while now() < stop do
    for _ = 1, batch do
      inbox:put({ copy(value), reply })
      assert(reply:get())
    end
    count = count + batch
  end
  return count
end

local function timed_calls(value, copy)
  local start = now()
  local count = calls(start + amount, value, copy, BATCH)
  rates(count, now() - start)
end

local run = {}

function run.pingpong() timed_calls(1, same) end

function run.table() timed_calls({ id = 1, name = "abc", pos = { 1, 2, 3 } }, table.deepcopy) end

function run.pairs()
  local n, total, done = contexts or 100, 0, fiber.channel(0)
  local start = now()
  for _ = 1, n do
    fiber.create(function()
      local count = calls(start + amount, 1, same, BATCH_PAIRS) -- total is read after that, not before: others add to it meanwhile
      total = total + count
      done:put(true)
    end)
  end
  for _ = 1, n do done:get() end
  rates(total, now() - start)
end

function run.flood()
  local EACH = 250000
  local inbox, done = fiber.channel(1024), fiber.channel(0)
  fiber.create(function()
    while true do
      for _ = 1, 2 * EACH do inbox:get() end
      done:put(true)
    end
  end)
  local count, start = 0, now()
  repeat
    for _ = 1, 2 do
      fiber.create(function() for i = 1, EACH do inbox:put(i) end end)
    end
    done:get()
    count = count + 2 * EACH
  until now() - start >= amount
  rates(count, now() - start)
end

function run.ring()
  local HOPS = 20000
  local n, links, done = contexts or 1000, {}, fiber.channel(0)
  for i = 1, n do links[i] = fiber.channel(0) end
  for i = 1, n do
    local inbox, next_link = links[i], links[i % n + 1]
    fiber.create(function()
      while true do
        local value = inbox:get()
        if value > 0 then next_link:put(value - 1) else done:put(true) end
      end
    end)
  end
  local count, start = 0, now()
  repeat
    links[1]:put(HOPS)
    done:get()
    count = count + HOPS
  until now() - start >= amount
  rates(count, now() - start)
end

function run.spawn()
  local before, start, all, reply = resident_kb(), now(), {}, fiber.channel(0)
  for i = 1, amount do
    all[i] = fiber.channel(0)
    echo(all[i], same)
  end
  for i = 1, amount do
    all[i]:put({ i, reply })
    assert(reply:get() == i, "wrong answer")
  end
  rates(amount, now() - start)
  fiber.sleep(0.5)
  result("kb_each", (resident_kb() - before) / amount)
end

-- fiber.create runs the function up to its first wait
fiber.create(function()
  if not run[bench] then
    io.stderr:write("no such benchmark: ", tostring(bench), "\n")
    os.exit(2)
  end
  run[bench]()
  os.exit(0)
end)
