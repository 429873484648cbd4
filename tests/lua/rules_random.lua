-- Random numbers: each context draws its own.
local t = require "t"

-- The first numbers of a context that has run this before.
local function numbers(seeding, ...)
  local h = t.spawn(seeding .. [[
    local n = {}
    for i = 1, 4 do n[i] = ("%d"):format(math.random(2 ^ 50)) end
    context.send(context.parent, table.concat(n, " "))
    context.destroy()]], ...)
  return (t.good(context.recv(h, 20)))
end

local function all_differ(seeding)
  local seen = {}
  for _ = 1, 20 do
    local n = numbers(seeding)
    t.eq(seen[n], nil, n)
    seen[n] = true
  end
end

t.test("rules.random.differ: contexts that seed nothing draw different numbers", function() all_differ "" end)

t.test("rules.random.time: contexts that seed with the time of day draw different numbers", function()
  all_differ "math.randomseed(os.time()) "
end)

t.test("rules.random.seed: the same seed gives the same numbers, in every context", function()
  for _, seed in ipairs { "42", "0", "-1.5", "2^40", "'7'" } do
    local code = "math.randomseed(" .. seed .. ") "
    t.eq(numbers(code), numbers(code), seed)
  end
  math.randomseed(42)
  local a = { math.random(), math.random(10), math.random(5, 9) }
  math.randomseed(42)
  t.same({ math.random(), math.random(10), math.random(5, 9) }, a)
end)

t.done()
