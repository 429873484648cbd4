-- The prompt of `nl-jit -i`: reads a line, reads on while it is not complete, and runs it.  `= x` prints x.
-- Returns at the end of the input, which ends the process.
local io, print, loadstring, xpcall, tostring = io, print, loadstring, xpcall, tostring
local traceback, exit, unpack = debug.traceback, os.exit, unpack

local function ask(global, default)
  local prompt = _G[global]
  io.write(prompt == nil and default or tostring(prompt))
  io.flush()
  return io.read("*l")
end

-- A function, or nil and why not; nothing at the end of the input.
local function read()
  local text = ask("_PROMPT", "> ")
  if not text then return end
  text = text:gsub("^=", "return ")
  while true do
    local f, err = loadstring(text, "=stdin")
    if f or err:sub(-7) ~= "'<eof>'" then return f, err end
    local more = ask("_PROMPT2", ">> ")
    if not more then return end
    text = text .. "\n" .. more
  end
end

local function handler(e)
  if type(e) ~= "string" and type(e) ~= "number" then e = tostring(e) end
  return traceback(e, 2)
end

local function show(ok, ...)
  if not ok then
    io.stderr:write(..., "\n")
  elseif select("#", ...) > 0 then
    print(...)
  end
end

while true do
  local f, err = read()
  if f then
    show(xpcall(f, handler))
  elseif err then
    io.stderr:write(err, "\n")
  else
    break
  end
end
io.write("\n")
exit()
