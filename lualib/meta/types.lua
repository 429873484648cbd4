---@meta

-- Types that the modules share. docs/api/README.md lists them; the rules that hold everywhere are in rules.md.
--
-- The annotations give results the types they have on success: a checker cannot follow that an error code stands in the
-- place of a socket after `false`, and would complain about each use of it.

---Names a context: a number ≥ 1, exact as a Lua number. It is never given to another context while the process lives.
---@alias nl.handle integer

---A context: its handle, or a name that it has registered.
---@alias nl.ref nl.handle|string

---Names a socket in the whole process: a number ≥ 1. It is never given to another socket.
---@alias nl.fd integer

---An error code: a Linux `errno` number, or a code of the runtime from 200 up.
---@alias nl.err integer

---An error code that is to be explained. (For the checker it is anything: a result that is either a value or a code.)
---@alias nl.code any

---A time in seconds, with fractions. Negative times count as 0; a NaN raises. Two milliseconds are `0.002`.
---@alias nl.seconds number

---Bytes: a string or a buffer. (A number counts as the string that Lua makes of it.)
---@alias nl.data string|buffer

---What a message carries: nil, booleans, numbers, cdata that are one number, `cjson.null`, strings, buffers, and tables of these.
---@alias nl.value nil|boolean|number|string|table|buffer|ffi.cdata*
