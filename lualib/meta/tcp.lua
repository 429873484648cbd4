---@meta tcp

---Stream sockets: TCP over IPv4 and IPv6, Unix domain sockets, and named pipes on Windows.
---
---Every function of this module is also a method of the socket: `tcp.read(s, 5)` and `s:read(5)` are the same.
---
---*Framing.* At first a socket reads and writes plain bytes. With *heads*, set by `tcp.set_rwopt`, each write sends one
---frame, and each read returns the payload of exactly one frame. A frame is a head and a payload. The head is the
---length of the payload, in 1, 2 or 4 bytes. The runtime adds and removes heads. Reading and writing have options of
---their own, so a socket can read lines and write frames.
---
---*Back-pressure.* While the script does not read from a socket, the runtime does not receive, and at last the peer
---cannot send any more. What a script writes waits in the socket's queue until the peer takes it. When
---`write_queue_max` bytes or more wait, a write fails with `EWQUEUEFULL`.
---
---*Life.* A socket belongs to the context that made it. It is closed when that context ends, or when the collector
---finds that nothing refers to it. A coroutine that waits on a socket, or a callback, keeps it. An open socket alone
---keeps no context alive. An operation on a closed socket does not raise: it returns `false, ETCPSCLOSED` (a listen
---socket: `ETCPLCLOSED`).
---@class tcplib
tcp = {}

---A connection or a listen socket. It has every function of the module `tcp` as a method.
---@class tcp.socket: tcplib

-- ## Listening

---Listens for connections over IPv4.
---
---A listen socket has the methods `accept`, `local_addr`, `local_port`, `fd`, `is_closed` and `close`. Another process can use
---the port as soon as this one has ended (`SO_REUSEADDR`, where the system has it).
---
---Errors:
---- `EADDRINUSE`: another socket listens there.
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
---@param addr string An IPv4 address of this machine, or `"localhost"`; `"0.0.0.0"` or `"*"`: all addresses of the machine.
---@param port integer 0 to 65535. 0: any free port; `tcp.local_port` tells which.
---@param backlog? integer|tcp.listen_options How many connections can wait to be accepted (default: what the system allows), or a table of options.
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

---Listens for connections over IPv6, otherwise like `tcp.listen`.
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
---@param addr string An IPv6 address of this machine, or `"localhost"`; `"::"` or `"*"`: all addresses of the machine.
---@param port integer 0 to 65535. 0: any free port.
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
---When the listen socket is closed, the socket's file stays. `tcp.listens` replaces the file of a socket on which
---nobody listens. It replaces no other file.
---
---Errors:
---- `EADDRINUSE`: another socket listens there, or the file is not a socket.
---- `ENOENT`: the directory does not exist.
---- `EACCES`: the user may not create the file.
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
---@param sock_name string Path of the socket, at most about 100 bytes; on Windows `\\.\pipe\NAME`.
---@return boolean result
---@return tcp.socket listen_socket
function tcp.listens(sock_name) end

---@param sock_name string
---@param callback fun(result: boolean, listen_socket: tcp.socket, sock_name: string): ...any Once.
---@return true
function tcp.listens(sock_name, callback) end

---Accepts a connection.
---
---The accepted socket has default options. Several coroutines can wait on one listen socket: the one that has waited
---longest gets the next connection.
---
---Errors:
---- `ETIMEOUT`: no connection within `timeout` seconds.
---- `ETCPLCLOSED`: the listen socket is closed, or was closed meanwhile.
---- `EMFILE`: the process has too many open sockets. The connection waits. A callback stays, and gets the connection later.
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

---With a callback: the runtime calls it with every connection. Another function replaces it; `false` or `nil` removes it.
---@param listen_socket tcp.socket
---@param callback fun(result: boolean, accept_socket: tcp.socket, listen_socket: tcp.socket): ...any Continuous.
---@return true
function tcp.accept(listen_socket, callback) end

-- ## Connecting

---Connects to a host over IPv4.
---
---Threads of the runtime resolve host names, so no worker waits for a name server. `localhost`, and each name that ends in
---`.localhost`, is the loopback address; no name server is asked.
---
---If a name has several addresses, the runtime tries them in order. It begins the next attempt after 250 ms, or as soon
---as an attempt fails. The first attempt that succeeds wins. The time-out includes the time of the name server.
---
---Errors:
---- `ETIMEOUT`: not connected within `timeout` seconds.
---- `EHOST`: the name is unknown.
---- `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `ETIMEDOUT`…: the error of the last address.
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
---@param timeout? nl.seconds How long to try at most; without it, as long as the system tries.
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

---Connects to a host over IPv6, otherwise like `tcp.connect`.
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
---@param timeout? nl.seconds How long to try at most; without it, as long as the system tries.
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

---Connects to a Unix domain socket; on Windows to a named pipe. While the backlog of the server is full, the runtime
---tries again.
---
---Errors:
---- `ENOENT`: there is no such file.
---- `ECONNREFUSED`: no socket listens there.
---- `ETIMEOUT`: not connected within `timeout` seconds.
---
---Example:
---```lua
---local ok, err = tcp.connects("/nowhere/server.sock", 1.0)
---print(ok, context.errname(err)) --> false ENOENT
---```
---@async
---@param sock_name string Path of the socket; on Windows `\\.\pipe\NAME`.
---@param timeout? nl.seconds How long to try at most; without it, for ever.
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

---Reads from a connection: without framing what has arrived, at least one byte; with framing the payload of one frame,
---which can be empty.
---
---The result is a buffer; `tostring(data)` makes a string of it. Several coroutines can wait on one socket: the one that has
---waited longest gets the next data.
---
---Errors:
---- `ETIMEOUT`: nothing within `timeout` seconds. No byte is lost: part of a frame waits for the next read.
---- `EEOF`: the peer sends no more, and you have read all that it sent. Further reads answer `EEOF` again. You can still write.
---- `ETCPREADOVERFLOW`: a frame is longer than `read_head_max`. The runtime sees that in the head and takes no memory for the
---  frame. Reading has ended; you can still write.
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

---With a callback: the runtime calls it with everything that arrives. An error ends it; the callback gets the error
---once, and has to close the socket. Another function replaces the callback. `false` or `nil` removes it, and the
---runtime stops receiving.
---@param socket tcp.socket
---@param callback fun(result: boolean, buffer: buffer, socket: tcp.socket): ...any Continuous.
---@return true
function tcp.read(socket, callback) end

---Writes bytes to a connection; with framing, as one frame.
---
---| form | returns, or calls the callback |
---|---|---|
---| `tcp.write(s, data)` | at once: the data is in the socket's queue |
---| `tcp.write(s, data, true)` | when the kernel has taken all of the data |
---| `tcp.write(s, data, callback)` | the callback: when the kernel has taken all of the data |
---
---Data leaves in the order of the writes, and their callbacks run in that order. Several writes before the coroutine
---waits leave in one system call.
---
---The queue shares a buffer and does not copy it. So one buffer that you write to a thousand sockets is in memory once. You can
---change it right after the call: the peer gets the bytes that it held at the call. An empty write succeeds; with framing it
---sends a frame of length 0.
---
---The first argument can be the number of the socket (`tcp.fd`). So other contexts can write, after the owner has called
---`tcp.set_wshared`.
---
---Errors:
---- `EWQUEUEFULL`: the queue was full before this write (see `write_queue_max`). No byte of the data is sent.
---- `ETCPWRITELONG`: the data is longer than `write_head_max`, or than the head can express. No byte of it is sent.
---- `ETCPSCLOSED`: the socket is closed.
---- `ETCPNOWSHARED`: the number names a socket of another context that is not write-shared.
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
---@param callback fun(result: boolean, error: nl.err, socket: tcp.socket|nl.fd, data: nl.data): ...any Once. `error` is 0 on success; `socket` is the first argument of the call.
---@return true
function tcp.write(socket_or_fd, data, callback) end

return tcp
