---@meta context

---A context is an actor: a Lua state of its own that runs one file, has one mailbox, and shares nothing with other
---contexts. Contexts run in parallel on all processors; inside a context only one thing runs at a time. They talk by messages.
---
---A context is named by its *handle*, or by a name that it has registered; either may stand wherever a function takes
---a `handle`.
---
---Messages carry nil, booleans, numbers, cdata that are one number or bool (`1LL`, `ffi.new("float", 0.5)`), `cjson.null`,
---strings with any bytes, buffers, and tables of these. A table may hold tables, down to 100 levels, the table that is sent being the first; its keys are strings, numbers or
---booleans. Two references to one table arrive as two references to one table. Metatables are dropped. Buffers are shared,
---not copied. Anything else (a function, a coroutine, a socket, a table that contains itself) raises an error that begins with
---`ETRANSTYPE`, names the path to the value, and sends nothing: `[2].on_hit is a function` is the field `on_hit` of the
---call's second argument.
---
---A message that nobody is receiving yet waits in the mailbox. Messages from one context to another arrive in the order sent.
---@class contextlib
---@field self nl.handle The handle of this context.
---@field parent nl.handle The handle of the context that created this one; 0 in the first context. It stays the same when that context ends.
---@field name string The file of this context, followed by its arguments. It stands in the log.
---@field ncpu integer The number of processors that the process may use.
---@field winos boolean True on Windows.
---@field errno context.errno Error codes by name: `context.errno.ETIMEOUT`.
context = {}

-- ## Contexts

---Creates a context that runs `file` as its main chunk, with the further arguments as `...` and in the table `arg`.
---
---It begins with the `package.path` and `package.cpath` that the calling context has now. The file may be bytecode.
---
---The file is looked for as given, from the working directory of the process, and then beside the file of the calling context.
---The call does not wait until the new context runs; a missing file and a syntax error are reported here and now all the same.
---An argument that a message cannot carry raises.
---
---Errors:
---- `ENOENT`: there is no such file.
---- `ESYNTAX`: the file does not compile. The text of the error is logged.
---- Another error of the system: the file cannot be read.
---
---Example:
---```lua
----- sum.lua
---local from, to = ...
---local sum = 0
---for i = from, to do sum = sum + i end
---context.send(context.parent, sum)
---```
---```lua
---local h = assert(context.create("sum.lua", 1, 100))
---local ok, sum = context.recv(h)
---print(sum) --> 5050
---
---local h, err = context.create("missing.lua")
---print(h, context.errname(err)) --> false ENOENT
---```
---@param file string Path of a Lua file.
---@param ... nl.value Arguments for the main chunk.
---@return nl.handle? handle The new context.
---@return nl.err? err
function context.create(file, ...) end

---Ends a context; without an argument the calling one.
---
---The context runs no further Lua, `__gc` metamethods aside. What it owns is released: sockets are closed (bytes already
---written are still sent), timers disarmed, names freed. Queries pending on it end with `ENOREPLY`. To end oneself is a call that
---does not return, not even through `pcall`.
---
---Some code cannot be ended from outside: a C function that does not return (a pattern in `string.find` can take hours), an endless
---loop in a debug hook or in a finalizer. After 3 s such a context is given up. For all others it has ended then: its handle and its names
---are gone, its connections are cut and its ports free, queries on it end with `ENOREPLY`, `context.wait` says `"does not end: "` and the
---message. It does not keep the process.
---
---Errors:
---- `ENOCONTEXT`: there is no such context (any more).
---
---Example:
---```lua
----- sleeper.lua
---timer.sleep(3600)
---```
---```lua
---local h = assert(context.create("sleeper.lua"))
---print(context.destroy(h, "no longer needed")) --> true
---print(context.wait(h)) --> true 0 no longer needed
---```
---@param handle? nl.ref Which context; the calling one if left out or nil.
---@param message? string The reason that `context.wait` will give.
---@return boolean result
---@return nl.err? err
function context.destroy(handle, message) end

---Waits until a context has ended; if it is gone already, the answer comes at once.
---
---`reason` tells how it ended: `"exit"` (by itself), `"error: …"` (an error left its main chunk), or the message that was given to
---`context.destroy`, up to its first 65,536 bytes. It begins with `"does not end"` if the context was destroyed, but cannot be ended:
---see `context.destroy`. Of contexts that have ended otherwise than by themselves, the last 4,096 are
---remembered, with 4 MiB of texts; of older ones this says `"exit"`. Waiting for oneself raises.
---
---Errors:
---- `ETIMEOUT`: the context was still there after `timeout` seconds. Nothing happens to it.
---- `ENOCONTEXT`: nobody bears the name `handle`.
---
---Example:
---```lua
----- brief.lua
---timer.sleep(0.2)
---```
---```lua
---local h = assert(context.create("brief.lua"))
---local ok, err = context.wait(h, 0)
---print(ok, context.errname(err)) --> false ETIMEOUT
---print(context.wait(h)) --> true 0 exit
---context.wait(h, function(ok, err, handle)
---  print(ok, err, handle == h) --> true 0 true
---end)
---```
---@async
---@param handle nl.ref
---@param timeout? nl.seconds How long to wait at most; without it, for ever.
---@return boolean result
---@return 0|nl.err error 0 if the context has ended.
---@return string reason How it ended.
function context.wait(handle, timeout) end

---@param handle nl.ref
---@param timeout? nl.seconds
---@param callback fun(result: boolean, error: nl.err, handle: nl.ref, timeout?: nl.seconds): ...any Once. `error` is 0 if the context has ended.
---@return true
---@overload fun(handle: nl.ref, callback: fun(result: boolean, error: nl.err, handle: nl.ref)): true
function context.wait(handle, timeout, callback) end

---Gives the calling context a name that is unique in the process. The name stands wherever a handle may, in every context.
---
---A context may bear several names. A name is free again when its context has ended. To register one's own name again is harmless.
---
---Errors:
---- `ENAMETAKEN`: another context bears this name.
---- `EINVAL`: the name is empty.
---
---Example:
---```lua
---print(context.register("logger")) --> true
---print(context.lookup("logger") == context.self) --> true
---
---context.send("logger", "disk full")
---local ok, line = context.recv(0)
---print(line) --> disk full
---```
---@param name string Any bytes, at least one.
---@return boolean result
---@return nl.err? err
function context.register(name) end

---Finds the context that has registered a name.
---
---Errors:
---- `ENOCONTEXT`: nobody bears this name.
---
---Example:
---```lua
---local h, err = context.lookup("printer")
---print(h, context.strerror(err)) --> false no such context
---```
---@param name string
---@return nl.handle? handle
---@return nl.err? err
---@nodiscard
function context.lookup(name) end

-- ## Messages

---Sends a message and does not wait for anything. One may send to oneself.
---
---Errors:
---- `ENOCONTEXT`: there is no such context.
---- `EMAILBOXFULL`: too many messages wait there already.
---
---Example:
---```lua
---context.send(context.self, "move", { x = 3, y = 4 })
---local ok, what, from, session, pos = context.recv(0)
---print(what, session, pos.x, pos.y) --> move -1 3 4
---
----- What cannot be sent raises, and nothing is sent.
---local ok, err = pcall(context.send, context.self, "ok", { on_hit = print })
---print(tostring(err):match("%[.*")) --> [3].on_hit is a function
---```
---@param handle nl.ref Who gets it.
---@param data1 nl.value
---@param ... nl.value Further values.
---@return boolean result
---@return nl.err? err
function context.send(handle, data1, ...) end

---Asks a context and waits for its reply. Sends one value and gives the first value of the reply; see `context.timed_query`
---for several.
---
---The other side sees a message whose `session` is not negative, and answers with `context.reply`. One may query oneself, if
---another coroutine or a callback receives the question.
---
---Errors:
---- `ETIMEOUT`: no reply within `timeout` seconds. A reply that comes later is dropped.
---- `ENOCONTEXT`: there is no such context.
---- `ENOREPLY`: the context ended, however it ended, without a reply.
---- `EMAILBOXFULL`: too many messages wait there already.
---
---Example:
---```lua
----- square.lua
---context.recv(context.parent, function(ok, n, from, session)
---  if ok then context.reply(from, session, n * n) end
---end)
---```
---```lua
---local h = assert(context.create("square.lua"))
---print(context.query(h, 12)) --> true 144
---print(context.query(h, 13, 0.5)) --> true 169
---context.query(h, 5, function(ok, result, handle, n)
---  print(n, result) --> 5 25
---end)
---```
---@async
---@param handle nl.ref Whom to ask.
---@param data nl.value The question.
---@param timeout? nl.seconds How long to wait at most; without it, for ever.
---@return boolean result
---@return any query_data The reply.
function context.query(handle, data, timeout) end

---@param handle nl.ref
---@param data nl.value
---@param timeout? nl.seconds
---@param callback fun(result: boolean, query_data: any, handle: nl.ref, data: nl.value, timeout?: nl.seconds): ...any Once.
---@return true
---@overload fun(handle: nl.ref, data: nl.value, callback: fun(result: boolean, query_data: any, handle: nl.ref, data: nl.value)): true
function context.query(handle, data, timeout, callback) end

---The query for several values: sends all of them and gives every value of the reply.
---
---The time-out stands in front here. A function as last argument is the callback: `callback(result, query_data1, ...)`, once;
---it gets the results only.
---
---Errors:
---- As for `context.query`.
---
---Example:
---```lua
----- divide.lua
---context.recv(context.parent, function(ok, a, from, session, handle, b)
---  if ok then context.reply(from, session, math.floor(a / b), a % b) end
---end)
---```
---```lua
---local h = assert(context.create("divide.lua"))
---print(context.timed_query(h, 1.0, 17, 5)) --> true 3 2
---context.timed_query(h, nil, 23, 7, function(ok, quotient, rest)
---  print(quotient, rest) --> 3 2
---end)
---```
---@async
---@param handle nl.ref
---@param timeout nl.seconds|nil How long to wait at most; nil: for ever.
---@param data1 nl.value
---@param ... nl.value Further values.
---@return boolean result
---@return any query_data1 The first value of the reply.
---@return any ... Its other values.
function context.timed_query(handle, timeout, data1, ...) end

---Form: `context.timed_query(handle, timeout, data1, ..., callback)`
---@param handle nl.ref
---@param timeout nl.seconds|nil
---@param data1 nl.value
---@param ... nl.value|fun(result: boolean, query_data1: any, ...: any)
---@return true
function context.timed_query(handle, timeout, data1, ...) end

---Answers a query. Any coroutine of the context may do it, at any time until the context ends.
---
---A reply that comes after the query's time-out is dropped; it never becomes the reply to another query.
---
---Errors:
---- `ENOCONTEXT`: the asking context has ended.
---- `EINVAL`: the session is that of a plain send (−1), which wants no reply.
---
---Example:
---```lua
----- slow.lua
---local ok, seconds, from, session = context.recv(0)
---timer.timeout(seconds, function()
---  context.reply(from, session, "done", timer.now())
---end)
---```
---```lua
---local start = timer.now()
---local h = assert(context.create("slow.lua"))
---local ok, word, at = context.timed_query(h, nil, 0.02)
---print(word, at - start >= 0.02) --> done true
---```
---@param handle nl.ref Who asked: the `recv_handle` that came with the question.
---@param session integer The `session` that came with the question.
---@param data1 nl.value
---@param ... nl.value Further values.
---@return boolean result
---@return nl.err? err
function context.reply(handle, session, data1, ...) end

---Receives the next message, from one context or from anyone.
---
---`session` tells what the message is: 0 or more is a query that wants a `context.reply`, −1 a plain send.
---
---Who gets a message: a coroutine that waits in `recv(from)`, else the callback of `recv(from)`, else a coroutine in `recv(0)`,
---else the callback of `recv(0)`. Of several coroutines that wait for the same, the first to come is served first. If there
---is none of these, the message waits in the mailbox; so a receiver may be busy between two calls of `recv` and misses nothing.
---
---`recv(0)` goes on for ever. `recv(h)` ends with `ENOCONTEXT` when `h` has ended and its messages are used up: a helper that
---receives from `context.parent` ends with its parent.
---
---Errors:
---- `ETIMEOUT`: no message within `timeout` seconds.
---- `ENOCONTEXT`: the sender has ended and no message of it is left, or there is no such context.
---
---Example:
---```lua
----- counter.lua
---for i = 1, 3 do context.send(context.parent, i, i * 10) end
---```
---```lua
---local h = assert(context.create("counter.lua"))
---local ok, n, from, session, tens = context.recv(0)
---print(n, from == h, session, tens) --> 1 true -1 10
---
---context.recv(h, function(ok, data, from, session, handle, tens)
---  if ok then
---    print(data, tens)
---  else
---    print(context.errname(data)) -- the counter has ended, and so has this callback
---  end
---end)
---```
---```text
---1 true -1 10
---2 20
---3 30
---ENOCONTEXT
---```
---@async
---@param handle nl.ref|0 From whom; 0: from anyone.
---@param timeout? nl.seconds How long to wait at most; without it, for ever. 0: only look.
---@return boolean result
---@return any data The first value of the message.
---@return nl.handle recv_handle Who sent it.
---@return integer session ≥ 0: a query that wants a reply; −1: a plain send.
---@return any ... The other values of the message.
function context.recv(handle, timeout) end

---With a callback every message goes there, those that wait already first. Setting another function replaces it; an explicit
---`nil` removes it, and is harmless if there is none.
---@param handle nl.ref|0
---@param callback fun(result: boolean, data: any, recv_handle: nl.handle, session: integer, handle: nl.ref|0, ...: any): ...any Continuous. The message's other values stand last; `handle` is the one given to `recv`.
---@return true
function context.recv(handle, callback) end

-- ## Coroutines

---Runs a function in a coroutine of its own, after what is running now.
---
---Functions run in the order of the calls. The function may block; the arguments are passed as they are, whatever they are.
---
---Example:
---```lua
---context.run(function(name)
---  print("hello " .. name)
---end, "world")
---print "first"
---timer.sleep(0)
---print "last"
---```
---```text
---first
---hello world
---last
---```
---@param func fun(...: any)
---@param ... any Arguments for it.
---@return true
function context.run(func, ...) end

-- ## Information

---Writes to standard error, with the time and the name of the context. It takes what `print` takes. Whole lines are
---written at once: lines of several contexts never mix. The second and further lines of a text begin with a tab, and control
---characters in the name are quoted: only an entry begins with a time.
---
---Example:
---<!-- run: stderr server started.*8080 -->
---```lua
---context.log("server started on port", 8080)
---```
---@param ... any Values; `tostring` makes text of them.
function context.log(...) end

---The text of an error code.
---
---Example:
---```lua
---print(context.strerror(context.errno.ECONNREFUSED)) --> Connection refused
---print(context.strerror(context.errno.ETIMEOUT)) --> operation timed out
---```
---@param err nl.code
---@return string text
---@nodiscard
function context.strerror(err) end

---The name of an error code; nil for a number that is none.
---
---Example:
---```lua
---print(context.errname(2), context.errname(200)) --> ENOENT ETIMEOUT
---print(context.errno.ENOENT, context.errno.ETIMEOUT) --> 2 200
---```
---@param err nl.code
---@return string? name
---@nodiscard
function context.errname(err) end

---The index of the worker thread that runs this context now. A context may move to another worker whenever it blocks.
---
---Example:
---```lua
---local n = context.thread()
---print(type(n), n >= 0) --> number true
---```
---@return integer index
---@nodiscard
function context.thread() end

---Figures about a context; without an argument about the calling one.
---
---Errors:
---- `ENOCONTEXT`: there is no such context.
---
---Example:
---```lua
---timer.timeout(60, print)
---context.send(context.self, "hello")
---timer.sleep(0)
---local stats = context.stats()
---print(stats.mailbox, stats.timers, stats.sockets) --> 1 1 0
---print(stats.lua_bytes > 1000) --> true
---context.destroy() -- the timer would keep this context for a minute
---```
---@return context.stats stats
---@nodiscard
function context.stats() end

---@param handle nl.ref
---@return context.stats? stats
---@return nl.err? err
---@nodiscard
function context.stats(handle) end

-- ## Types

---What `context.stats` answers.
---@class context.stats
---@field mailbox integer Messages that wait to be received.
---@field handled integer Messages handled so far, those of the runtime (events of sockets, for instance) included.
---@field lua_bytes integer Memory that the Lua state uses, in bytes.
---@field held integer Memory taken from the system for the Lua state, in bytes; at least `lua_bytes`.
---@field c_bytes integer Memory outside the Lua state (buffers, waiting messages), in bytes.
---@field cpu number Processor time used, in seconds.
---@field coroutines integer Coroutines of the runtime that run or are suspended: the main chunk, callbacks, functions of `context.run`.
---@field sockets integer Open sockets, listen sockets included.
---@field timers integer Armed timers.

---The codes of the runtime, and the system errors that scripts meet most often. Every other name of a Linux error is there too.
---@class context.errno
---@field ETIMEOUT 200 The time-out given to the call has passed.
---@field ENOCONTEXT 201 There is no such context, or it has ended; nobody bears the name.
---@field ENOREPLY 202 The context that was asked ended without a reply.
---@field ETRANSTYPE 203 A message cannot carry a value. This one is raised as an error, which names the path to the value.
---@field EEOF 204 End of the stream: the peer sends nothing more.
---@field ETCPSCLOSED 205 The socket is closed.
---@field ETCPLCLOSED 206 The listen socket is closed.
---@field ETCPNOWSHARED 207 Writing by number to a socket of another context that is not write-shared.
---@field ETCPWRITELONG 208 The data is longer than `write_head_max`, or than the head can express.
---@field ETCPREADOVERFLOW 209 A frame longer than `read_head_max` has arrived; it ends reading.
---@field EWQUEUEFULL 210 The socket's queue is full: `write_queue_max` bytes or more wait to be sent.
---@field EMAILBOXFULL 211 Too many messages wait in the mailbox of the context.
---@field ESYNTAX 212 A Lua file does not compile; the text of the error is logged.
---@field EHOST 213 The host name is unknown.
---@field ENAMETAKEN 214 The name is registered already.
---@field ESTOPPING 215 The process is about to end.
---@field ENOENT 2 There is no such file or socket name.
---@field EACCES 13 Not permitted; for instance a port below 1024.
---@field EINVAL 22 Not a valid argument for the system.
---@field EMFILE 24 Too many open sockets in the process.
---@field EPIPE 32 Writing to a connection that the peer has closed.
---@field EADDRINUSE 98 The address and port are in use.
---@field EADDRNOTAVAIL 99 No interface of this machine has the address.
---@field ENETUNREACH 101 There is no route to the network.
---@field ECONNABORTED 103 The connection was aborted.
---@field ECONNRESET 104 The peer has reset the connection.
---@field ETIMEDOUT 110 The system's own time-out: the peer no longer answers.
---@field ECONNREFUSED 111 Nobody listens there.
---@field EHOSTUNREACH 113 There is no route to the host.
---@field [string] integer Every other name of a Linux error.

return context
