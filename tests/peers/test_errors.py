"""Errors, the exit status, os.exit, and what is written to standard error."""

import os
import re
import signal
import time

TRACE = r"stack traceback:"


def test_main(h):
    """rules.errors.main: an error that leaves the main chunk ends the context: traceback, name, status 1"""
    result = h.run("local function inner() error('boom') end\nfunction outer() inner() end\nouter()", status=1,
                   stderr=[r"main\.lua:1: boom", TRACE, r"main\.lua:2:"])
    assert "main.lua" in result.stderr


def test_main_after_block(h):
    """rules.errors.main-later: also after a blocking call"""
    h.run("timer.sleep(0.001) error('late')", status=1, stderr=[r"late", TRACE])


def test_main_ends_all_of_it(h):
    """rules.errors.main-ends: the context's timers and callbacks end with it"""
    result = h.run("timer.timeout(0.02, function() print('must not run') end) context.recv(0, print) error('boom')",
                   status=1, stderr=r"boom")
    assert result.stdout == "", result


def test_callback(h):
    """rules.errors.callback: an error that leaves a callback is logged with traceback and name; the context goes on"""
    result = h.run("""
        local seen, kinds = {}, 0
        local function failing(what)
          if not seen[what] then seen[what], kinds = true, kinds + 1 end
          error('in ' .. what)
        end
        timer.timeout(0, function() failing('timeout') end)
        context.run(function() failing('run') end)
        context.recv(0, function() failing('recv') end)
        local _, l = tcp.listen('127.0.0.1', 0)
        local port = tcp.local_port(l)
        tcp.accept(l, function(ok, s)
          tcp.read(s, function() failing('read') end)
          failing('accept')
        end)
        tcp.connect('127.0.0.1', port, function(ok, s)
          c = s
          tcp.write(s, 'x', function() failing('write') end)
          failing('connect')
        end)
        context.send(context.self, 1)
        context.query(context.self, 2, 0.01, function() failing('query') end)
        repeat timer.sleep(0.001) until kinds == 8
        print('goes on')
        context.recv(0, nil)
        tcp.accept(l, nil)
        tcp.close(c)
        """, stderr=TRACE)
    for what in ("timeout", "run", "recv", "accept", "read", "connect", "write", "query"):
        assert re.search(rf"main\.lua:\d+: in {what}\b", result.stderr), f"{what} was not logged\n{result}"
    assert result.stderr.count("stack traceback:") >= 8, result
    assert result.stdout == "goes on\n"


def test_callback_status(h):
    """rules.errors.callback-status: errors in callbacks do not touch the exit status"""
    h.run("timer.timeout(0, function() error('boom') end)", status=0, stderr=r"boom")


def test_loop_goes_on(h):
    """rules.errors.continuous: a continuous callback that failed is called again"""
    result = h.run("""
        local n = 0
        context.recv(0, function(_, v)
          n = n + 1
          if n == 3 then context.recv(0, nil) print('three') return end
          error('boom ' .. v)
        end)
        for i = 1, 3 do context.send(context.self, i) end
        """, stderr=[r"boom 1", r"boom 2"])
    assert result.stdout == "three\n", result


def test_traceback_line(h):
    """rules.errors.main-line: the traceback has the line of the innermost function, also if the VM itself raised the error"""
    for text, line in (("local t\n\nt.x = 1", 3), ("local function f(a)\n  return a + 1, a\nend\nf({})\n", 2)):
        result = h.run(text, status=1, stderr=TRACE)
        first = result.stderr.split("stack traceback:\n")[1].splitlines()[0]
        assert re.search(rf"main\.lua:{line}: in ", first), result


def test_main_nil(h):
    """rules.errors.main-nil: error() without a value ends the main chunk without a word, with status 1"""
    result = h.run("error()", status=1)
    assert result.stderr == "", result


def test_nul(h):
    """rules.errors.nul: an error's text is logged to its end, whatever bytes it has"""
    result = h.run("timer.timeout(0, function() error('a\\0b', 0) end)", stderr=TRACE)
    assert "a\0b\n" in result.stderr, result


def test_objects(h):
    """rules.errors.objects: error values that are no strings are logged as tostring shows them"""
    h.run("""
        timer.timeout(0, function() error(setmetatable({}, { __tostring = function() return 'shown by tostring' end })) end)
        timer.timeout(0, function() error({}) end)
        timer.timeout(0, function() error(nil) end)
        timer.timeout(0, function() error(42) end)
        """, stderr=[r"shown by tostring", r"table: ", r"nil", r"42"])


def test_bad_tostring(h):
    """rules.errors.tostring-fails: even a __tostring that fails does no harm"""
    result = h.run("""
        timer.timeout(0, function() error(setmetatable({}, { __tostring = function() error('again') end })) end)
        timer.sleep(0.02)
        print('goes on')
        """, stderr=r".")
    assert result.stdout == "goes on\n", result


def test_caught(h):
    """rules.errors.caught: what the script catches is not logged"""
    result = h.run("""
        print(pcall(error, 'by pcall'))
        print(coroutine.resume(coroutine.create(function() timer.sleep(0.001) error('by resume', 0) end)))
        """)
    assert result.stderr == "", result
    assert result.stdout == "false\tby pcall\nfalse\tby resume\n", result


def test_child(h):
    """rules.errors.child: an error of another context is logged under its name; the process's status is the first's"""
    h.file("child.lua", "error('the child fails')")
    result = h.run("print(context.wait(context.create('child.lua', 'argument')))",
                   stderr=[r"child\.lua:1: the child fails", TRACE, r"child\.lua.*argument"])
    assert re.fullmatch(r"true\t0\terror: .*child\.lua:1: the child fails.*\n", result.stdout, re.S), result


def test_status_after_others(h):
    """rules.errors.status: 1 if the first context ended by an error, however long the others live on"""
    h.file("child.lua", "timer.sleep(0.05) print('child ends')")
    result = h.run("context.create('child.lua') error('boom')", status=1, stderr=r"boom")
    assert result.stdout == "child ends\n", result


def test_syntax_logged(h):
    """context.create.syntax: a syntax error is false, ESYNTAX; its text is logged"""
    h.file("broken.lua", "local x = 1\nlocal = 2")
    result = h.run("print(context.create('broken.lua') == false, select(2, context.create('broken.lua')) == "
                   "context.errno.ESYNTAX)", stderr=r"broken\.lua:2:")
    assert result.stdout == "true\ttrue\n", result


def test_stack_overflow(h):
    """rules.errors.overflow: endless recursion is an error like any other"""
    result = h.run("local function f() return 1 + f() end print(pcall(f)) timer.timeout(0, f) timer.sleep(0.02) print('on')",
                   stderr=r"stack overflow")
    assert "stack overflow" in result.stdout and result.stdout.endswith("on\n"), result


# ---- os.exit -------------------------------------------------------------------------------------------------------

def test_exit_status(h):
    """life.exit.status: os.exit(n) ends the process with n; true and none are 0, false is 1"""
    for argument, status in (("", 0), ("0", 0), ("3", 3), ("255", 255), ("true", 0), ("false", 1)):
        assert h.run(f"print('before') os.exit({argument}) print('after')", status=status).stdout == "before\n"


def test_exit_anywhere(h):
    """life.exit.anywhere: from a callback, a nested coroutine, another context, a comparator"""
    h.file("child.lua", "timer.sleep(0.01) os.exit(7)")
    for source in (
            "timer.timeout(0.001, function() os.exit(7) end) timer.sleep(3600)",
            "coroutine.wrap(function() coroutine.wrap(function() timer.sleep(0.001) os.exit(7) end)() end)() print('after')",
            "context.create('child.lua') timer.sleep(3600)",
            "context.create('child.lua') context.recv(0, print)",
            "context.run(function() os.exit(7) end) while true do timer.sleep(0.001) end",
            "table.sort({ 2, 1 }, function(a, b) os.exit(7) end) print('after')",
            "context.recv(0, function() os.exit(7) end) context.send(context.self, 1) timer.sleep(3600)"):
        assert h.run(source, status=7).stdout == "", source


def test_exit_in_finalizer(h):
    """life.exit.finalizer: after os.exit in a finalizer that runs while a message is unpacked the script does not go on"""
    result = h.run("""
        local over
        local p = newproxy(true)
        getmetatable(p).__gc = function()
            over = true
            os.exit(3)
        end
        p = nil
        timer.loop(0, 0.0001, function()
            for i = 1, 50 do context.send(context.self, { ('x'):rep(100) .. i, {} }) end
        end)
        while true do
            context.recv(0)
            if over then print('after') end
        end""", status=3)
    assert result.stdout == ""


def test_exit_uncaught(h):
    """life.exit.pcall: os.exit cannot be caught"""
    result = h.run("print(pcall(os.exit, 5)) print('after')", status=5)
    assert result.stdout == "", result
    result = h.run("coroutine.wrap(function() xpcall(function() pcall(os.exit, 5) print('1') end, print) print('2') end)() print('3')",
                   status=5)
    assert result.stdout == "", result


def test_exit_flushes(h):
    """life.exit.flush: what was written to standard output and to files is flushed"""
    result = h.run("io.stdout:setvbuf('full') io.write('no newline') f = io.open('out.txt', 'w') f:setvbuf('full') "
                   "f:write('in the file') timer.sleep(0.01) os.exit(0)")
    assert result.stdout == "no newline", result
    assert (h.tmp / "out.txt").read_text() == "in the file"


def test_end_flushes(h):
    """life.end.flush: so it is when a context or the process ends by itself"""
    h.file("child.lua", "f = io.open('child.txt', 'w') f:setvbuf('full') f:write('child')")
    result = h.run("""
        context.wait(context.create('child.lua'))
        print(io.open('child.txt'):read('*a'))
        io.stdout:setvbuf('full')
        io.write('end')
        """)
    assert result.stdout == "child\nend", result


def test_exit_other_contexts(h):
    """life.exit.stops: it stops all contexts, busy or blocked, in order and soon"""
    h.file("busy.lua", "while true do timer.sleep(0) end")
    h.file("blocked.lua", "context.recv(0)")
    h.file("echo.lua", "context.recv(0, function(_, d, f, s) context.send(f, d) end) context.send(...)")
    start = time.monotonic()
    h.run("""
        for i = 1, 5 do context.create('busy.lua') context.create('blocked.lua') end
        local a = context.create('echo.lua', context.self, 1)
        context.create('echo.lua', a, 1)
        timer.sleep(0.05)
        os.exit(9)
        """, status=9)
    assert time.monotonic() - start < 20 * h.settings.slow


def test_exit_sends(h):
    """life.exit.sends: bytes written before os.exit are still sent"""
    listener, port = h.listen()
    process = h.start("local _, s = tcp.connect('127.0.0.1', tonumber((...))) tcp.write(s, ('x'):rep(300000) .. 'end') os.exit(4)", port)
    data = h.accept(listener).read_all()
    assert len(data) == 300003 and data.endswith(b"end"), len(data)
    process.finish(4)


def test_exit_deaf_peer(h):
    """life.exit.deaf: but a peer that does not read holds os.exit up for a moment only"""
    listener, port = h.listen()
    process = h.start("local _, s = tcp.connect('127.0.0.1', tonumber((...))) tcp.write(s, ('x'):rep(40000000)) os.exit(4)", port)
    start = time.monotonic()
    peer = h.accept(listener)
    process.finish(4)
    assert time.monotonic() - start < 20 * h.settings.slow
    peer.close()


def test_end_deaf_peer(h):
    """life.end.deaf: nor the end of a context for more than some seconds"""
    listener, port = h.listen()
    process = h.start("local _, s = tcp.connect('127.0.0.1', tonumber((...))) tcp.write(s, ('x'):rep(40000000))", port)
    start = time.monotonic()
    peer = h.accept(listener)
    process.finish(0)
    assert time.monotonic() - start < 30 * h.settings.slow
    peer.close()


# ---- The process and its contexts -----------------------------------------------------------------------------------

def test_process_outlives_first(h):
    """life.process.last: the process ends when no context is left, whichever was the first"""
    h.file("child.lua", "timer.sleep(0.05) print('child') context.create('grandchild.lua')")
    h.file("grandchild.lua", "timer.sleep(0.02) print('grandchild')")
    assert h.run("context.create('child.lua') print('first')").stdout == "first\nchild\ngrandchild\n"


def test_first_destroyed(h):
    """life.process.first-destroyed: the first context may be destroyed like any other; that is no error"""
    h.file("child.lua", "context.destroy(context.parent) context.wait(context.parent) print('alone')")
    assert h.run("context.create('child.lua') timer.sleep(3600)").stdout == "alone\n"


def test_endless_loop(h):
    """context.destroy.endless: a context that never stops computing can be destroyed"""
    if h.workers == 1:
        h.skip("needs a second worker")
    h.needs_bundled_luajit("hooks do not reach the system's compiled loops")
    for loop in ("while true do end", "while true do pcall(string.rep, 'x', 10) end", "local function f() return f() end f()"):
        h.file("endless.lua", f"context.send(context.parent, 1) {loop}")
        assert h.run("""
            local h = context.create('endless.lua')
            context.recv(h)
            print(context.destroy(h, 'enough'))
            print(context.wait(h))
            """).stdout == "true\ntrue\t0\tenough\n", loop


def test_exit_endless_loop(h):
    """life.exit.endless: and os.exit ends the process all the same"""
    if h.workers == 1:
        h.skip("needs a second worker")
    h.file("endless.lua", "context.send(context.parent, 1) while true do end")
    h.run("context.recv(context.create('endless.lua')) os.exit(6)", status=6)


def asked_to_end(h, sig, then):
    process = h.start(f"""
        io.stdout:setvbuf('full')
        local _, l = tcp.listen('127.0.0.1', 0)
        tcp.accept(l, function() end)
        io.write('ready\\n')
        io.stdout:flush()
        io.write('said')
        {then}
        """)
    process.expect("ready")
    process.popen.send_signal(sig)
    result = process.finish(h.ended_by(sig))
    assert result.stdout == "ready\nsaid", result


def test_signal(h):
    """life.signal.in-order: a request to end the process is like os.exit; its parent sees which signal it was"""
    for sig in h.signals:
        asked_to_end(h, sig, "")


def test_signal_endless(h):
    """life.signal.endless: a context that never gives way does not prevent it"""
    asked_to_end(h, h.signals[0], "while true do end")


# ---- context.log ----------------------------------------------------------------------------------------------------

def test_log(h):
    """context.log: takes what print takes, writes a line to standard error with time and context"""
    result = h.run("context.log('text', 1, nil, true, setmetatable({}, { __tostring = function() return 'shown' end })) "
                   "context.log() context.log('three\\nlines\\nhere')", stderr=r"text\t1\tnil\ttrue\tshown$")
    first = result.stderr.splitlines()[0]
    assert re.search(r"\d\d:\d\d:\d\d", first) and "main.lua" in first, first
    assert "lines" in result.stderr and result.stdout == "", result


def test_log_whole(h):
    """context.log.whole: lines of many threads are never mixed"""
    contexts, lines = 8, h.scale(300)
    h.file("child.lua", "local me, n = ... for i = 1, n do context.log(('<%d:%d:%s>'):format(me, i, ('x'):rep(i * 7 % 600))) "
                        "if i % 20 == 0 then timer.sleep(0) end end")
    result = h.run(f"for i = 1, {contexts} do context.create('child.lua', i, {lines}) end", stderr=r"<1:1:")
    seen = {}
    for line in result.stderr.splitlines():
        found = re.search(r"<(\d+):(\d+):(x*)>$", line)
        assert found and line.count("<") == 1, f"a broken line: {line!r}"
        me, i = int(found[1]), int(found[2])
        assert len(found[3]) == i * 7 % 600, line
        assert i == seen.get(me, 0) + 1, f"line {i} of {me} came after {seen.get(me, 0)}"
        seen[me] = i
    assert seen == {me: lines for me in range(1, contexts + 1)}, seen


def test_log_entries(h):
    """context.log.entries: only an entry begins with a time: names are quoted, further lines of a text indented"""
    forged = "2026-11-22 10:26:50.123456 [root] forged"
    h.file("child.lua", "local _, forged = ... context.log('text\\n' .. forged) timer.timeout(0, function() error('error\\n' .. forged) end)")
    result = h.run("context.create('child.lua', 'a\\n' .. ..., ...) context.create('child.lua', '\\r\\27[1A\\n', ...)", forged, stderr="forged")
    entries = [line for line in result.stderr.splitlines() if not line.startswith("\t")]
    assert len(entries) == 4, result
    for line in entries:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} \[child\.lua ", line) and not re.search(r"[\x00-\x1f]", line), line
    assert sum(r"[child.lua a\n2026" in line for line in entries) == 2, result
    assert sum(r"[child.lua \013\027[1A\n" in line for line in entries) == 2, result


def test_broken_reactor(h):
    """rules.errors.reactor: a script that closes the runtime's own descriptors ends the process, with a message"""
    if not os.path.isdir("/proc/self/fd"):
        h.skip("no /proc")
    h.needs_ffi("readlink")
    # Such a close is a race, as ThreadSanitizer says. The argument is invalid where another file has got the number.
    quiet = {"TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + ":report_bugs=0"}
    result = h.run("""
        local ffi = require 'ffi'
        ffi.cdef 'int close(int); long readlink(const char *, char *, size_t);'
        local name = ffi.new('char[64]')
        local function close(kind)
          local closed = false
          for fd = 3, 600 do
            local n = ffi.C.readlink('/proc/self/fd/' .. fd, name, 64)
            if n > 0 and ffi.string(name, n):find(kind, 1, true) then closed = ffi.C.close(fd) == 0 end
          end
          return closed
        end
        if not close('anon_inode:[eventpoll]') then close('pipe:') end
        timer.sleep(1e6)
        """, env=quiet, status=1, stderr=r"the reactor of worker \d+ fails: (Bad file descriptor|Invalid argument); the process ends$")
    assert result.stderr.count("reactor of worker") == 1, result
