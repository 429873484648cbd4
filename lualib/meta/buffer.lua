---@meta buffer

---A buffer is a byte array outside the Lua heap. `tcp.read` gives buffers, and wherever bytes are to be sent, a buffer
---serves as well as a string.
---
---To hand a buffer to `tcp.write` or to another context shares its bytes instead of copying them: one broadcast to a
---thousand sockets costs one copy, not a thousand. (Up to 1 KiB is copied, which costs less than sharing.) Sharing
---never shows: who changes a buffer that is shared gets a copy of its own first, and the other holders keep what they
---had.
---
---Functions are also methods: `buffer.append(b, "x")` and `b:append("x")` are the same. Positions count from 1, sizes
---are bytes, and all bytes are allowed, zeros too. `#b` is the length, `tostring(b)` the bytes as a string, `a .. b` a
---string of both where either is a buffer. Two buffers are equal (`==`) only if they are the same one; compare the
---bytes with `tostring(a) == tostring(b)`. A buffer holds at most 1 GiB.
---
---Nothing has to be released by hand; `buffer.release` only gives memory back earlier than the collector would.
---@class bufferlib
buffer = {}

---A byte array. It has every function of the module `buffer` as a method.
---@class buffer: bufferlib
---@operator len: integer
---@operator concat(string): string
---@operator concat(buffer): string

-- ## Making

---Makes a buffer: empty, with room for `capacity` bytes, from a string, or from another buffer, whose bytes it shares.
---
---A buffer grows as needed; the capacity only saves copying on the way. A number is always a capacity: `buffer.new(5)`
---is empty, `buffer.new("5")` holds one byte.
---
---Example:
---```lua
---print(#buffer.new(), #buffer.new(4096)) --> 0 0
---print(buffer.new("hello")) --> hello
---print(buffer.new(4096, "hello")) --> hello
---
---local a = buffer.new("hello")
---local b = buffer.new(a)
---b:append(" world")
---print(a, b) --> hello hello world
---```
---@param data? nl.data The first bytes; none if left out.
---@return buffer b
---@nodiscard
function buffer.new(data) end

---@param capacity integer How many bytes to make room for, 0 to 1 GiB.
---@param data? nl.data
---@return buffer b
---@nodiscard
function buffer.new(capacity, data) end

-- ## Changing

---Adds bytes at the end.
---
---Example:
---```lua
---local b = buffer.new("GET ")
---print(b:append("/index.html")) --> true
---b:append(buffer.new(" HTTP/1.0"))
---print(b) --> GET /index.html HTTP/1.0
---```
---@param b buffer
---@param data nl.data
---@return boolean done False if nothing was added: the buffer is released, would be over 1 GiB, or there is no memory.
function buffer.append(b, data) end

---Takes bytes off the front: they leave the buffer and come back as a buffer of their own. Large pieces are shared, not copied.
---
---Example:
---```lua
---local b = buffer.new("line one\nline two\nhalf a li")
---while true do
---  local at = b:find("\n")
---  if not at then break end
---  local line = b:split(at)
---  print(#line, tostring(line):sub(1, -2))
---end
---print("left:", b)
---```
---```text
---9 line one
---9 line two
---left: half a li
---```
---@param b buffer
---@param length? integer How many; at most what there is. Default: all.
---@return buffer front
function buffer.split(b, length) end

---Takes all bytes away. The buffer can be filled again.
---
---Example:
---```lua
---local b = buffer.new("old")
---b:clear()
---b:append("new")
---print(b) --> new
---```
---@param b buffer
function buffer.clear(b) end

---Gives the bytes up at once, instead of when the buffer is collected.
---
---A released buffer is harmless: it answers as an empty one, `buffer.valid` says false, and nothing can be added to it.
---Whom the bytes were shared with keeps them.
---
---Example:
---```lua
---local b = buffer.new(("x"):rep(1000000))
---b:release()
---print(#b, b:valid(), b:append("y")) --> 0 false false
---```
---@param b buffer
function buffer.release(b) end

-- ## Looking

---The number of bytes; `#b` is the same.
---
---Example:
---```lua
---local b = buffer.new("a\0b")
---print(b:length(), #b) --> 3 3
---```
---@param b buffer
---@return integer bytes
---@nodiscard
function buffer.length(b) end

---How many bytes can be added before the buffer has to grow.
---
---Example:
---```lua
---local b = buffer.new(100)
---local room = b:unfill()
---b:append("12345")
---print(room >= 100, room - b:unfill()) --> true 5
---```
---@param b buffer
---@return integer bytes
---@nodiscard
function buffer.unfill(b) end

---Finds bytes. The search is plain: no character has a special meaning.
---
---Example:
---```lua
---local b = buffer.new("key=value; other=value")
---print(b:find("="), b:find("=", 5), b:find("%w")) --> 4 17 nil
---```
---@param b buffer
---@param what nl.data What to look for.
---@param init? integer Where to begin, from 1; −1 is the last byte. Default: 1.
---@return integer? position Where it begins; nil if it is not there.
---@nodiscard
function buffer.find(b, what, init) end

---The bytes as a string; `tostring(b)` is the same.
---
---Example:
---```lua
---local b = buffer.new("abc")
---print(b:tostring():upper(), b == "abc", tostring(b) == "abc") --> ABC false true
---```
---@param b buffer
---@return string bytes
---@nodiscard
function buffer.tostring(b) end

---Tells whether the buffer has not been released.
---
---Example:
---```lua
---local b = buffer.new("abc")
---print(b:valid()) --> true
---b:release()
---print(b:valid()) --> false
---```
---@param b buffer
---@return boolean valid
---@nodiscard
function buffer.valid(b) end

return buffer
