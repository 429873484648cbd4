---@meta buffer

---Byte arrays outside the Lua heap.
---
---`tcp.read` returns buffers. Every function that sends bytes takes a buffer or a string. A buffer holds up to 1 GiB of any bytes.
---
---`tcp.write` and messages share the bytes of a buffer and do not copy them. So a broadcast to a thousand sockets needs the
---bytes once. Up to 1 KiB is copied, because that costs less. You never notice the sharing: when a script changes a shared
---buffer, it first gets a copy of its own, and the others keep the old bytes.
---
---Every function of this module is also a method: `buffer.append(b, "x")` and `b:append("x")` are the same. Positions count
---from 1.
---
---| expression | meaning |
---|---|---|
---| `#b` | the number of bytes |
---| `tostring(b)` | the bytes as a string |
---| `a .. b` | a string of both; one of them can be a string |
---| `a == b` | true if both are the same buffer; to compare the bytes, compare `tostring(a)` and `tostring(b)` |
---
---The collector frees buffers. `buffer.release` gives the memory back earlier.
---@class bufferlib
buffer = {}

---A byte array. It has every function of the module `buffer` as a method.
---@class buffer: bufferlib
---@operator len: integer
---@operator concat(string): string
---@operator concat(buffer): string

-- ## Making

---Makes a buffer: empty, from a string, or from another buffer, whose bytes it shares.
---
---A buffer grows as needed; a capacity saves copies on the way. A number as first argument is always a capacity:
---`buffer.new(5)` is empty, and `buffer.new("5")` holds one byte.
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
---@param data? nl.data The bytes. Default: none.
---@return buffer b
---@nodiscard
function buffer.new(data) end

---@param capacity integer Room for this many bytes, 0 to 1 GiB.
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
---@return boolean done False if nothing was added: the buffer is released, would become longer than 1 GiB, or memory has run out.
function buffer.append(b, data) end

---Removes bytes from the front and returns them as a buffer of their own. Large pieces are shared, not copied.
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
---@param length? integer How many bytes; more than there are means all. Default: all.
---@return buffer front
function buffer.split(b, length) end

---Removes all bytes. You can fill the buffer again.
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

---Gives the memory of a buffer back at once, not when the collector frees it.
---
---A released buffer stays empty: `buffer.append` adds nothing to it, and `buffer.valid` returns false. Others that share
---the bytes keep them.
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

---The number of bytes that the buffer takes before it has to grow.
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
---@param what nl.data The bytes to find.
---@param init? integer The position to begin at; −1 is the last byte. Default: 1.
---@return integer? position The position of the first byte; nil if the buffer does not have them.
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

---Tells whether the buffer is usable: not released.
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
