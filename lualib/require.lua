-- require and dofile, with the stock meaning, in Lua: a C function could not be suspended, and a module may
-- block at its top level.
--
-- Called once per context as chunk(package, helpers); helpers has
--   running()   the innermost coroutine now running
--   root()      an id of the root coroutine now running
--   runs(co, f) whether function f is running, or suspended, in coroutine co
--   sleep(seconds)
--   loading     a value that no script has
-- and returns require, dofile.  It uses no library, so that none has to be open.

local package, helpers = ...
local running, root, runs, sleep = helpers.running, helpers.root, helpers.runs, helpers.sleep
local error, type, tostring, loadfile = error, type, tostring, loadfile

local loaded = package.loaded
local LOADING = helpers.loading	-- stands in `loaded` while a module's chunk runs, and after it has failed
local who = {}			-- name → { root = id, co = coroutine } of whoever runs the chunk

local function run_chunk(chunk, name)
	local value = chunk(name)
	return value		-- no tail call: this frame shows that the chunk is still running
end

-- Another coroutine is loading the module, and was suspended in it: waits until it has finished.
local function wait_for(name)
	while loaded[name] == LOADING do
		local w = who[name]
		if not w or w.root == root() or not runs(w.co, run_chunk) then
			error("loop or previous error loading module '" .. name .. "'", 3)
		end
		sleep(0.001)
	end
	return loaded[name]
end

local function search(name)
	local loaders = package.loaders
	if type(loaders) ~= "table" then error("'package.loaders' must be a table", 3) end
	local tried = ""
	local i = 1
	while true do
		local loader = loaders[i]
		if loader == nil then
			error("module '" .. name .. "' not found:" .. tried, 3)
		end
		local chunk = loader(name)
		if type(chunk) == "function" then return chunk end
		if type(chunk) == "string" then tried = tried .. chunk end
		i = i + 1
	end
end

local function require(name)
	if type(name) ~= "string" then
		if type(name) ~= "number" then
			local got = name == nil and "no value" or type(name)
			error("bad argument #1 to 'require' (string expected, got " .. got .. ")", 2)
		end
		name = tostring(name)
	end
	local value = loaded[name]
	if value == LOADING then value = wait_for(name) end
	if value then return value end
	local chunk = search(name)
	loaded[name] = LOADING
	who[name] = { root = root(), co = running() }
	value = run_chunk(chunk, name)
	who[name] = nil
	if value ~= nil then
		loaded[name] = value
	elseif loaded[name] == LOADING then
		loaded[name] = true
	end
	return loaded[name]
end

local function dofile(filename)
	local chunk, err = loadfile(filename)
	if not chunk then error(err, 0) end
	return chunk()
end

return require, dofile
