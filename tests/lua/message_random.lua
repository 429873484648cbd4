-- Tables that nobody would write, by the thousand: holes, deleted entries, colliding keys, shared parts, all kinds of keys.
local t = require "t"
local ffi = require "ffi"

local seed = os.time()
math.randomseed(seed)
local random = math.random

local function choose(...) return (select(random(select("#", ...)), ...)) end

local function text()
  local bytes = {}
  for i = 1, random(6) == 1 and random(0, 600) or random(0, 12) do bytes[i] = string.char(random(0, 255)) end
  return table.concat(bytes)
end

local function number()
  return choose(random(-10, 10), random() * 1e10, -random(), random(100), 2 ^ random(0, 60), math.huge, 0, -0.0, random(0, 2 ^ 31))
end

local function key()
  if random(8) == 1 then return text() end
  return choose("k" .. random(30), random(-3, 12), number(), random(2) == 1, random(1000000))
end

local value
local made -- the tables of this message, to use them again

local shapes = {
  function(v, deep)
    for i = 1, random(0, 40) do v[i] = value(deep) end
  end,
  function(v, deep)
    for _ = 1, random(0, 20) do v[key()] = value(deep) end
  end,
  function(v, deep)
    for i = 1, random(0, 10) do
      v[i] = value(deep)
      v["s" .. i] = value(deep)
    end
  end,
  function(v) v.id, v.name, v.pos = number(), text(), { 1, 2, number() } end,
}

local function delete_some(v)
  local keys = {}
  for k in pairs(v) do keys[#keys + 1] = k end
  for _, k in ipairs(keys) do
    if random(2) == 1 then v[k] = nil end
  end
  v[key()] = number()
end

local function a_table(deep)
  if #made > 0 and random(12) == 1 then return made[random(#made)] end
  local v = random(4) == 1 and { number(), nil, text(), x = number(), nil } or {}
  shapes[random(#shapes)](v, deep + 1)
  if random(3) == 1 then delete_some(v) end
  made[#made + 1] = v -- only now: nothing is part of itself
  return v
end

function value(deep)
  local kind = random(12)
  if deep < 5 and kind <= 3 then return a_table(deep) end
  if kind <= 6 then return number() end
  if kind <= 9 then return text() end
  if kind == 10 then return random(2) == 1 end
  return kind == 11 and ffi.cast(choose("int64_t", "uint64_t"), random(1000000)) or number()
end

-- Why b is no copy of a, or nil.
local function difference(a, b, copy_of)
  if type(a) ~= type(b) then return type(a) .. " became " .. type(b) end
  if type(a) == "cdata" then return (ffi.typeof(a) ~= ffi.typeof(b) or a ~= b) and "another integer" or nil end
  if type(a) ~= "table" then return (a ~= b or (a == 0 and 1 / a ~= 1 / b)) and t.show(a) .. " became " .. t.show(b) or nil end
  if copy_of[a] then return copy_of[a] ~= b and "no longer shared" or nil end
  copy_of[a] = b
  for k, v in pairs(a) do
    local why = difference(v, b[k], copy_of)
    if why then return t.show(k) .. ": " .. why end
  end
  for k in pairs(b) do
    if a[k] == nil then return "a key more: " .. t.show(k) end
  end
end

t.test("message.tables.random: any table arrives as it was sent, and can be used", function()
  local h = t.spawn "context.recv(0, function(ok, data, from, session) context.reply(from, session, data) end)"
  for round = 1, t.scale(600) do
    made = {}
    local sent = a_table(0)
    local got = t.good(context.timed_query(h, 60, sent))
    local why = difference(sent, got, {})
    t.ok(not why, ("seed %d, round %d: %s"):format(seed, round, why or ""))
    for k in pairs(got) do got[k] = nil end
    for i = 1, 10 do
      got[i], got["n" .. i] = i, i
    end
    t.eq(#got, 10)
  end
end)

t.done()
