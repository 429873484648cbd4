---@meta _

-- The second half of the module tcp: what a socket tells, and its options.  tools/apidoc.py reads tcp.lua and then this file;
-- editors see one class, tcplib.

---@class tcplib
local tcp = {}

-- ## Options

---Sets options of a connection. Options that you leave out stay as they are. An unknown key or an impossible value raises, and
---changes nothing.
---
---Read options hold for all bytes that you have not read yet: you can read a handshake without framing, and then frames. Write
---options hold from the next write on. To change them on a socket that has been write-shared raises.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, a = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, b = assert(listener:accept())
---
---a:set_rwopt { write_head_bytes = 2, write_head_endian = "B" }
---a:write("abc")
---local ok, data = b:read()
---print(data:tostring():byte(1, -1)) --> 0 3 97 98 99
---
---b:set_rwopt { read_head_bytes = 2, read_head_endian = "B", read_head_max = 1000 }
---a:write("first")
---a:write("second")
---print(b:read()) --> true first
---print(b:read()) --> true second
---
---a:write(("x"):rep(1001))
---local ok, err = b:read()
---print(ok, context.errname(err)) --> false ETCPREADOVERFLOW
---```
---@param socket tcp.socket
---@param options tcp.rwopt
---@return boolean result
---@return nl.err? err
function tcp.set_rwopt(socket, options) end

---All options of a connection.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, s = assert(tcp.connect("127.0.0.1", listener:local_port()))
---s:set_rwopt { read_head_bytes = 2 }
---local opt = s:get_rwopt()
---print(opt.read_head_bytes, opt.read_head_endian, opt.read_head_max) --> 2 L 65535
---print(opt.write_head_bytes, opt.write_queue_max / 1024 / 1024) --> 0 64
---```
---@param socket tcp.socket
---@return tcp.rwopt options
---@return nl.err? err
---@nodiscard
function tcp.get_rwopt(socket) end

---Switches Nagle's algorithm off (`true`, TCP_NODELAY) or on (`false`). It is off from the start, so small writes leave
---at once. When it is on, the kernel holds a small write back until the peer has acknowledged the one before.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, s = assert(tcp.connect("127.0.0.1", listener:local_port()))
---print(s:set_nodelay(false)) --> true
---```
---@param socket tcp.socket
---@param enable boolean True: send at once.
---@return boolean result
---@return nl.err? err
function tcp.set_nodelay(socket, enable) end

---Allows (`true`) or forbids (`false`) other contexts to write to the socket, by its number (see `tcp.fd`).
---
---Set the write options first: they cannot change on a socket that has been write-shared.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
----- greeter.lua
---local fd = ...
---local ok, err = tcp.write(fd, "hello from another context")
---if not ok then print(context.errname(err)) end
---```
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, client = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, s = assert(listener:accept())
---
---context.wait(assert(context.create("greeter.lua", s:fd())))
---
---s:set_wshared(true)
---context.create("greeter.lua", s:fd())
---print(client:read())
---```
---```text
---ETCPNOWSHARED
---true hello from another context
---```
---@param socket tcp.socket
---@param enable boolean
---@return boolean result
---@return nl.err? err
function tcp.set_wshared(socket, enable) end

-- ## Addresses

---The address of this end of a connection, or of a listen socket. For a Unix domain socket it is the path.
---
---Errors:
---- `ETCPSCLOSED`, `ETCPLCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---print(listener:local_addr()) --> 127.0.0.1
---```
---@param socket tcp.socket
---@return string addr
---@return nl.err? err
---@nodiscard
function tcp.local_addr(socket) end

---The address of the peer. It stays known when the peer has closed or reset the connection. On a listen socket the call raises.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, s = assert(tcp.connect("127.0.0.1", listener:local_port()))
---print(s:remote_addr()) --> 127.0.0.1
---```
---@param socket tcp.socket A connection.
---@return string addr
---@return nl.err? err
---@nodiscard
function tcp.remote_addr(socket) end

---The port of this end of a connection, or of a listen socket. For a Unix domain socket it is 0.
---
---Errors:
---- `ETCPSCLOSED`, `ETCPLCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local port = listener:local_port()
---print(port >= 1 and port <= 65535) --> true
---```
---@param socket tcp.socket
---@return integer port
---@return nl.err? err
---@nodiscard
function tcp.local_port(socket) end

---The port of the peer. It stays known when the peer has closed or reset the connection. For a Unix domain socket it is
---0. On a listen socket the call raises.
---
---Errors:
---- `ETCPSCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, a = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, b = assert(listener:accept())
---print(b:remote_port() == a:local_port()) --> true
---print(pcall(listener.remote_port, listener) == false) --> true
---```
---@param socket tcp.socket A connection.
---@return integer port
---@return nl.err? err
---@nodiscard
function tcp.remote_port(socket) end

-- ## Closing, and the number of a socket

---Closes a socket. A second close does nothing.
---
---The runtime still sends what was written before, in the background. If the peer takes no byte for 5 seconds, the
---runtime drops the rest, and the peer's stream ends in a reset (`ECONNRESET`). The same happens to closed sockets that
---still send when the process has no file descriptor left for a new connection.
---
---Calls that wait on the socket end with `ETCPSCLOSED` (`ETCPLCLOSED`). A continuous callback gets this error once,
---unless the callback itself closes the socket.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, a = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, b = assert(listener:accept())
---
---a:write("last words")
---print(a:close(), a:close()) --> true false
---print(b:read()) --> true last words
---local ok, err = b:read()
---print(ok, context.errname(err)) --> false EEOF
---local ok, err = a:write("too late")
---print(ok, context.errname(err)) --> false ETCPSCLOSED
---```
---@param socket tcp.socket
---@return boolean closed False if it was closed already.
function tcp.close(socket) end

---Tells whether this side has closed the socket. `tcp.read` tells when the peer has closed: `EEOF`.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---print(listener:is_closed()) --> false
---listener:close()
---print(listener:is_closed()) --> true
---```
---@param socket tcp.socket
---@return boolean closed
---@nodiscard
function tcp.is_closed(socket) end

---A number that names the socket in the whole process. You can send it in a message, and `tcp.write` takes it in place of the
---socket. No other socket ever gets the same number. It is not the file descriptor of the system.
---
---Errors:
---- `ETCPSCLOSED`, `ETCPLCLOSED`: the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, a = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, b = assert(listener:accept())
---local fd = a:fd()
---print(tcp.write(fd, "by number")) --> true
---print(b:read()) --> true by number
---a:close()
---local ok, err = tcp.write(fd, "gone")
---print(ok, context.errname(err)) --> false ETCPSCLOSED
---```
---@param socket tcp.socket
---@return nl.fd fd
---@return nl.err? err
---@nodiscard
function tcp.fd(socket) end

---The context that owns the socket with this number; nil if the socket is closed.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local fd = listener:fd()
---print(tcp.fd_src(fd) == context.self) --> true
---listener:close()
---print(tcp.fd_src(fd)) --> nil
---```
---@param fd nl.fd
---@return nl.handle? handle
---@nodiscard
function tcp.fd_src(fd) end

-- ## Types

---Options of a listen socket, in place of the number `backlog`.
---@class tcp.listen_options
---@field backlog? integer How many connections can wait to be accepted. Default: what the system allows.
---@field reuseport? boolean True: several listen sockets share the port (`SO_REUSEPORT`, where the system has it). Default: false.

---Options of a connection.
---@class tcp.rwopt
---@field read_head_bytes? 0|1|2|4 Length of the heads that are read; 0: no framing. Default: 0.
---@field read_head_endian? "L"|"B" Byte order of these heads: little or big endian. Default: `"L"`.
---@field read_head_max? integer The longest payload that the socket accepts, in bytes. Default: what the head can express, at most 16 MiB.
---@field write_head_bytes? 0|1|2|4 Length of the heads that are written; 0: no framing. Default: 0.
---@field write_head_endian? "L"|"B" Byte order of these heads. Default: `"L"`.
---@field write_head_max? integer The longest payload that a write takes, in bytes; without framing there is no limit. Default: as for reading.
---@field write_queue_max? integer While this many bytes or more wait to be sent, a write fails with `EWQUEUEFULL`. Default: 64 MiB.
