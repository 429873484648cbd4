---@meta

-- Types that the modules share. docs/api/README.md lists them; the rules that hold everywhere are in rules.md.
--
-- The annotations give results the types they have on success: a checker cannot follow that an error code stands in the
-- place of a socket after `false`, and would complain about each use of it.

---Names a context: a number from 1 up. No other context of the process ever gets the same number.
---@alias nl.handle integer

---A context: its handle, or a name that it has registered.
---@alias nl.ref nl.handle|string

---Names a socket in the whole process: a number from 1 up. No other socket ever gets the same number.
---@alias nl.fd integer

---An error code: a Linux `errno` number, or a code of the runtime from 200 up.
---@alias nl.err integer

---An error code to look up. For the checker it is any type, because a result can be a value or a code.
---@alias nl.code any

---A time in seconds, with fractions: `0.002` is two milliseconds. A negative time counts as 0; a NaN raises.
---@alias nl.seconds number

---Bytes: a string or a buffer. A number counts as the string that Lua makes of it.
---@alias nl.data string|buffer

---What a message carries: nil, booleans, numbers, cdata that are one number, `cjson.null`, strings, buffers, and tables
---of these.
---@alias nl.value nil|boolean|number|string|table|buffer|ffi.cdata*
