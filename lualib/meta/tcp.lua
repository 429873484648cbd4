---@meta tcp

---Stream sockets: TCP over IPv4 and IPv6, Unix domain sockets, and named pipes on Windows.
---
---Every function of this module is also a method of the socket: `tcp.read(s, 5)` and `s:read(5)` are the same.
---
---*Framing.* A socket reads and writes plain bytes until `tcp.set_rwopt` gives it *heads*. Then every write sends one frame
---(the payload's length in 1, 2 or 4 bytes, head not counted, and the payload), and every read gives the payload of exactly one
---frame. Heads are added and stripped by the runtime; a script never sees them. Reading and writing have options of their own, so
---a socket may read lines and write frames.
---
---*Backpressure.* While nobody reads from a socket, the runtime stops receiving, and in the end the peer's writes wait. What is
---written waits in the socket's queue until the peer takes it; when `write_queue_max` bytes or more wait, a write is
---refused with `EWQUEUEFULL`.
---
---*Life.* A socket belongs to the context that made it, and is closed when that context ends, or when nothing refers to it any
---more and it is collected. Somebody who waits on a socket (a coroutine or a callback) keeps it; an open socket alone keeps
---no context alive. An operation on a closed socket never raises: it is `false, ETCPSCLOSED` (a listen socket:
---`ETCPLCLOSED`).
---@class tcplib
tcp = {}

---A connection or a listen socket. It has every function of the module `tcp` as a method.
---@class tcp.socket: tcplib

-- ## Listening

---Listens for connections over IPv4.
---
---A listen socket has the methods `accept`, `local_addr`, `local_port`, `fd`, `is_closed` and `close`. The port may be used
---again right after the process has ended (`SO_REUSEADDR`, where the system has it).
---
---Errors:
---- `EADDRINUSE`: somebody else listens there.
---- `EADDRNOTAVAIL`: no interface of this machine has the address.
---- `EACCES`: the user may not listen on this port.
---- `EINVAL`: `addr` is not an IPv4 address.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---print(listener:local_addr(), listener:local_port() > 0) --> 127.0.0.1 true
---
---local ok, err = tcp.listen("127.0.0.1", listener:local_port())
---print(ok, context.errname(err)) --> false EADDRINUSE
---
---tcp.listen("127.0.0.1", 0, { backlog = 16 }, function(ok, socket, addr, port)
---  print(ok, addr, port) --> true 127.0.0.1 0
---end)
---```
---@param addr string An IPv4 address of this machine, or `"localhost"`; `"0.0.0.0"` or `"*"` for all that it has.
---@param port integer 0 to 65535. 0: any free one; `tcp.local_port` tells which.
---@param backlog? integer|tcp.listen_options How many connections may wait to be accepted (default: what the system allows), or a table of options.
---@return boolean result
---@return tcp.socket listen_socket
function tcp.listen(addr, port, backlog) end

---@param addr string
---@param port integer
---@param backlog? integer|tcp.listen_options
---@param callback fun(result: boolean, listen_socket: tcp.socket, addr: string, port: integer, backlog?: integer|tcp.listen_options): ...any Once.
---@return true
---@overload fun(addr: string, port: integer, callback: fun(result: boolean, listen_socket: tcp.socket, addr: string, port: integer)): true
function tcp.listen(addr, port, backlog, callback) end

---Listens for connections over IPv6; otherwise as `tcp.listen`.
---
---Errors:
---- As for `tcp.listen`; `EADDRNOTAVAIL` or `EAFNOSUPPORT` on a machine without IPv6.
---
---Example:
---<!-- run: need ipv6 -->
---```lua
---local ok, listener = assert(tcp.listen6("::1", 0))
---print(listener:local_addr()) --> ::1
---```
---@param addr string An IPv6 address of this machine, or `"localhost"`; `"::"` or `"*"` for all that it has.
---@param port integer 0 to 65535. 0: any free one.
---@param backlog? integer|tcp.listen_options
---@return boolean result
---@return tcp.socket listen_socket
function tcp.listen6(addr, port, backlog) end

---@param addr string
---@param port integer
---@param backlog? integer|tcp.listen_options
---@param callback fun(result: boolean, listen_socket: tcp.socket, addr: string, port: integer, backlog?: integer|tcp.listen_options): ...any Once.
---@return true
---@overload fun(addr: string, port: integer, callback: fun(result: boolean, listen_socket: tcp.socket, addr: string, port: integer)): true
function tcp.listen6(addr, port, backlog, callback) end

---Listens on a Unix domain socket; on Windows on a named pipe.
---
---The socket's file stays when the listen socket is closed. A file that was left behind, and on which nobody listens, is replaced;
---a file of another kind is not.
---
---Errors:
---- `EADDRINUSE`: somebody listens there, or the file is none of a socket.
---- `ENOENT`: the directory does not exist.
---- `EACCES`: the user may not make the file.
---- `ENAMETOOLONG`: the path is too long.
---
---Example:
---```lua
---local path = "example.sock"
---local ok, listener = assert(tcp.listens(path))
---listener:accept(function(ok, s)
---  if ok then s:write("hello") end
---end)
---
---local ok, s = assert(tcp.connects(path))
---local ok, data = s:read()
---print(tostring(data)) --> hello
---listener:close()
---os.remove(path)
---```
---@param sock_name string Path of the socket, at most about 100 bytes.
---@return boolean result
---@return tcp.socket listen_socket
function tcp.listens(sock_name) end

---@param sock_name string
---@param callback fun(result: boolean, listen_socket: tcp.socket, sock_name: string): ...any Once.
---@return true
function tcp.listens(sock_name, callback) end

---Accepts a connection.
---
---The accepted socket has default options, whatever the listen socket is like. Several coroutines may wait on one listen socket: first
---come, first served.
---
---Errors:
---- `ETIMEOUT`: no connection within `timeout` seconds.
---- `ETCPLCLOSED`: the listen socket is closed, or was closed meanwhile.
---- `EMFILE`: too many open sockets. The connection keeps waiting; a callback stays set and hears of it when it can be accepted.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local served = 0
---listener:accept(function(ok, s)
---  if not ok then return end
---  s:write("you are number " .. served + 1)
---  s:close()
---  served = served + 1
---  if served == 2 then listener:close() end -- ends the callback, and so this script
---end)
---
---for i = 1, 2 do
---  local ok, s = assert(tcp.connect("127.0.0.1", listener:local_port()))
---  local ok, data = s:read()
---  print(tostring(data))
---end
---```
---```text
---you are number 1
---you are number 2
---```
---@async
---@param listen_socket tcp.socket
---@param timeout? nl.seconds How long to wait at most; without it, for ever.
---@return boolean result
---@return tcp.socket accept_socket
function tcp.accept(listen_socket, timeout) end

---With a callback every connection goes there. Setting another function replaces it; `false` removes it, and so does an explicit `nil`. Where no callback is armed, `nil` counts as left out.
---@param listen_socket tcp.socket
---@param callback fun(result: boolean, accept_socket: tcp.socket, listen_socket: tcp.socket): ...any Continuous.
---@return true
function tcp.accept(listen_socket, callback) end

-- ## Connecting

---Connects to a host over IPv4.
---
---A name is resolved on a thread of its own, so that no worker waits for it. The addresses of the name are tried in their order:
---the next attempt begins 250 ms after the one before, or at once when one has failed. The first that succeeds wins. The
---time-out covers all of it, the resolving too. `localhost`, and what ends in `.localhost`, is the loopback: nobody is asked.
---
---Errors:
---- `ETIMEOUT`: not connected within `timeout` seconds.
---- `EHOST`: the name is unknown.
---- `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `ETIMEDOUT`…: what the system says of the last address tried.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local port = listener:local_port()
---
---local ok, s = assert(tcp.connect("127.0.0.1", port))
---print(s:remote_port() == port) --> true
---
---listener:close()
---local ok, err = tcp.connect("127.0.0.1", port, 5.0)
---print(ok, context.errname(err)) --> false ECONNREFUSED
---
---tcp.connect("127.0.0.1", port, function(ok, err, host)
---  print(ok, context.errname(err), host) --> false ECONNREFUSED 127.0.0.1
---end)
---```
---@async
---@param host string An IPv4 address, or a host name.
---@param port integer 1 to 65535.
---@param timeout? nl.seconds How long it may take in all; without it, as long as the system tries.
---@return boolean result
---@return tcp.socket connect_socket
function tcp.connect(host, port, timeout) end

---@param host string
---@param port integer
---@param timeout? nl.seconds
---@param callback fun(result: boolean, connect_socket: tcp.socket, host: string, port: integer, timeout?: nl.seconds): ...any Once.
---@return true
---@overload fun(host: string, port: integer, callback: fun(result: boolean, connect_socket: tcp.socket, host: string, port: integer)): true
function tcp.connect(host, port, timeout, callback) end

---Connects to a host over IPv6; otherwise as `tcp.connect`.
---
---Errors:
---- As for `tcp.connect`.
---
---Example:
---<!-- run: need ipv6 -->
---```lua
---local ok, listener = assert(tcp.listen6("::1", 0))
---local ok, s = assert(tcp.connect6("::1", listener:local_port()))
---print(s:remote_addr()) --> ::1
---```
---@async
---@param host string An IPv6 address, or a host name.
---@param port integer 1 to 65535.
---@param timeout? nl.seconds How long it may take in all.
---@return boolean result
---@return tcp.socket connect_socket
function tcp.connect6(host, port, timeout) end

---@param host string
---@param port integer
---@param timeout? nl.seconds
---@param callback fun(result: boolean, connect_socket: tcp.socket, host: string, port: integer, timeout?: nl.seconds): ...any Once.
---@return true
---@overload fun(host: string, port: integer, callback: fun(result: boolean, connect_socket: tcp.socket, host: string, port: integer)): true
function tcp.connect6(host, port, timeout, callback) end

---Connects to a Unix domain socket; on Windows to a named pipe. While the server has no room for a further connection (its
---backlog is full), the call tries again, until the time-out; without a time-out, for ever.
---
---Errors:
---- `ENOENT`: there is no such file.
---- `ECONNREFUSED`: nobody listens there.
---- `ETIMEOUT`: not connected within `timeout` seconds.
---
---Example:
---```lua
---local ok, err = tcp.connects("/nowhere/server.sock", 1.0)
---print(ok, context.errname(err)) --> false ENOENT
---```
---@async
---@param sock_name string Path of the socket.
---@param timeout? nl.seconds How long it may take in all.
---@return boolean result
---@return tcp.socket connect_socket
function tcp.connects(sock_name, timeout) end

---@param sock_name string
---@param timeout? nl.seconds
---@param callback fun(result: boolean, connect_socket: tcp.socket, sock_name: string, timeout?: nl.seconds): ...any Once.
---@return true
---@overload fun(sock_name: string, callback: fun(result: boolean, connect_socket: tcp.socket, sock_name: string)): true
function tcp.connects(sock_name, timeout, callback) end

-- ## Reading and writing

---Reads from a connection. Without framing it gives what has arrived, at least one byte; with framing the payload of exactly one
---frame, which may be empty.
---
---The bytes come as a buffer, which is the reader's own; `tostring(data)` makes a string of it. Several coroutines may
---wait on one socket: first come, first served.
---
---Errors:
---- `ETIMEOUT`: nothing within `timeout` seconds. Nothing is lost: a frame that has come in part is there for the next read.
---- `EEOF`: the peer sends nothing more. What came before is delivered first; further reads say `EEOF` again. Writing is still
---  possible until either side closes.
---- `ETCPREADOVERFLOW`: a frame longer than `read_head_max`; found out from its head, before any memory is set aside for it. It
---  ends reading; the socket still writes.
---- `ECONNRESET`: the peer has reset the connection.
---- `ETCPSCLOSED`: the socket is closed, or was closed meanwhile.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---listener:accept(function(ok, s)
---  if not ok then return end
---  s:read(function(ok, data, s) -- echo until the peer closes
---    if ok then s:write(data) else s:close() listener:close() end
---  end)
---end)
---
---local ok, s = assert(tcp.connect("127.0.0.1", listener:local_port()))
---s:write("ping")
---print(s:read()) --> true ping
---local ok, err = s:read(0.01)
---print(ok, context.errname(err)) --> false ETIMEOUT
---s:close()
---```
---@async
---@param socket tcp.socket
---@param timeout? nl.seconds How long to wait at most; without it, for ever. 0: only look.
---@return boolean result
---@return buffer buffer
function tcp.read(socket, timeout) end

---With a callback everything that arrives goes there, until an error ends it, which it gets once; the socket is then still to be
---closed. Setting another function replaces the callback; `false` removes it, and the runtime stops receiving. An explicit `nil` removes it too; where none is armed, `nil` counts as left out.
---@param socket tcp.socket
---@param callback fun(result: boolean, buffer: buffer, socket: tcp.socket): ...any Continuous.
---@return true
function tcp.read(socket, callback) end

---Writes bytes to a connection; with framing, as one frame.
---
---The plain form puts the data in the socket's queue and returns at once; several writes of one turn leave in one system call. With
---`safety` true it returns only when the kernel has taken all of it, and with a callback that is when the callback runs. Writes leave
---in the order made, and their callbacks run in that order.
---
---A buffer is shared with the queue, not copied: writing one buffer to a thousand sockets costs its bytes once. It may be changed right
---after the call; what is sent is what it held then. An empty write succeeds; with framing it sends a frame of length zero.
---
---Instead of the socket its `tcp.fd` will do. Another context than the owner writes that way, after the owner has called
---`tcp.set_wshared`.
---
---Errors:
---- `EWQUEUEFULL`: the queue was full before this write (see `write_queue_max`). Nothing of it is sent.
---- `ETCPWRITELONG`: the data is longer than `write_head_max` or than the head can express. Nothing of it is sent.
---- `ETCPSCLOSED`: the socket is closed, or the number names none any more.
---- `ETCPNOWSHARED`: the number names a socket of another context which is not write-shared.
---- `EPIPE`, `ECONNRESET`: the peer has closed or reset the connection.
---
---Example:
---```lua
---local ok, listener = assert(tcp.listen("127.0.0.1", 0))
---local ok, a = assert(tcp.connect("127.0.0.1", listener:local_port()))
---local ok, b = assert(listener:accept())
---
---print(a:write("one ")) --> true
---print(a:write(buffer.new("two "), true)) --> true
---a:write("three", function(ok, err, socket, data)
---  print(ok, err, data) --> true 0 three
---end)
---
---timer.sleep(0.05)
---local ok, data = b:read()
---print(#data, data) --> 13 one two three
---```
---@param socket_or_fd tcp.socket|nl.fd A connection, or the number of one.
---@param data nl.data
---@return boolean result
---@return nl.err? err
function tcp.write(socket_or_fd, data) end

---@async
---@param socket_or_fd tcp.socket|nl.fd
---@param data nl.data
---@param safety boolean|nil True: suspend until the kernel has taken all of it.
---@return boolean result
---@return nl.err? err
function tcp.write(socket_or_fd, data, safety) end

---@param socket_or_fd tcp.socket|nl.fd
---@param data nl.data
---@param callback fun(result: boolean, error: nl.err, socket: tcp.socket|nl.fd, data: nl.data): ...any Once. `error` is 0 on success; `socket` is what was given to the call.
---@return true
function tcp.write(socket_or_fd, data, callback) end

return tcp
