"""What nl-jit does with what a process is given: standard descriptors, limits, signals; and what it hands to its children."""

LIMITED = ("bash", "-c", 'ulimit -S -n 256; exec "$@"', "bash")


def test_children_limit(h):
    """cli.children.limit: children have the descriptor limit that nl-jit was started with; nl-jit itself has the hard one"""
    h.needs_ffi("fork")
    source = """
        local ffi = require "ffi"
        ffi.cdef "int fork(void); void _exit(int); int waitpid(int, int *, int); int execl(const char *, ...);"
        print(io.popen("ulimit -S -n"):read("*n"))
        os.execute("ulimit -S -n")
        io.stdout:flush()
        local pid = ffi.C.fork()
        if pid == 0 then
          ffi.C.execl("/bin/sh", "sh", "-c", "ulimit -S -n", nil)
          ffi.C._exit(1)
        end
        ffi.C.waitpid(pid, nil, 0)
        print(io.open("/proc/self/limits"):read("*a"):match("Max open files%s+(%d+)%s+%1") ~= nil)
        """
    assert h.run(source, wrap=LIMITED).stdout == "256\n256\n256\ntrue\n"


def test_children_sigpipe(h):
    """cli.children.sigpipe: children have the default of SIGPIPE"""
    h.needs_posix("no SIGPIPE")
    command = '"(yes | head -1) 2>&1"'
    result = h.run(f"""io.write(io.popen({command}):read("*a")) io.stdout:flush() os.execute({command})""")
    assert result.stdout == "y\ny\n", result


def test_children_status(h):
    """cli.children.status: os.execute and io.popen tell what the shell tells, whatever the limits"""
    source = """print(os.execute("exit 3")) print(io.popen("exit 4"):close()) print(os.execute() ~= 0)
        print(io.popen("echo '$x' \\"a b\\"; cat <<E\\nhere\\nE\\n"):read("*a"))"""
    assert h.run(source).stdout == h.run(source, wrap=LIMITED).stdout


def test_broken_output(h):
    """cli.output.broken: a script that prints for ever ends when nobody reads any more"""
    h.needs_posix("no SIGPIPE")
    for write in ("print('y')", "io.write('y\\n')", "io.stdout:write('y\\n')"):
        script = h.file("forever.lua", f"while true do {write} end")
        shell = ("sh", "-c", '{ "$@"; echo "status $?" >&2; } | head -1', "sh")
        result = h.cli("-w", h.settings.workers, script.name, wrap=shell).finish(0, stderr=r"^status 141$")
        assert result.stdout == "y\n", result


def test_broken_child(h):
    """cli.output.broken-child: a child that stops reading does not end the process"""
    h.run("""
        local f = io.popen("exec true", "w")
        f:setvbuf("no")
        for i = 1, 100000 do
          if not f:write("x\\n") then os.exit(5) end
        end
        error("the write never failed")
        """, status=5)


def test_closed_standard(h):
    """cli.stdio.closed: started with closed standard descriptors, no output goes into a connection"""
    h.needs_posix("wine would take the numbers for its own pipes")
    listener, port = h.listen()
    h.start(f"""
        local s = assert(select(2, tcp.connect("127.0.0.1", {port})))
        assert(tcp.write(s, "hello"))
        for i = 1, 10 do
          context.log("into the connection?")
          print("into the connection?")
          io.stderr:write("into the connection?")
        end
        assert(io.read() == nil)
        assert(tcp.write(s, "bye"))
        """, wrap=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    assert h.accept(listener).read_all() == b"hellobye"


def test_freed_standard(h):
    """cli.stdio.freed: a connection never gets the number of a standard descriptor that a script has closed"""
    h.needs_ffi("close")
    for closed in (0, 1, 2):
        listener, port = h.listen()
        h.run(f"""
            local ffi = require "ffi"
            ffi.cdef "int close(int);"
            ffi.C.close({closed})
            local s = assert(select(2, tcp.connect("127.0.0.1", {port})))
            assert(tcp.write(s, "hello"))
            context.log("in the log?")
            print("in the output?")
            timer.sleep(0)
            """, status=None)
        assert h.accept(listener).read_all() == b"hello", closed


def test_spare_later(h):
    """life.blocking.later: a spare worker that could not be started for want of descriptors is started when there are some"""
    h.needs_ffi("usleep", "lseek")
    h.file("sleeper.lua", """
        local ffi, out = require "ffi", ...
        ffi.cdef "int usleep(unsigned); int read(int, char *, size_t); int lseek(int, int, int);"
        context.send(context.parent, "ready")
        if out then
          context.recv(context.parent)
          repeat ffi.C.usleep(20000) until ffi.C.lseek(2, 0, 2) > 0 -- nl-jit has said that it cannot
        else
          ffi.C.read(0, ffi.new "char[1]", 1)
        end
        """)
    source = """
        local ffi = require "ffi"
        ffi.cdef "int pipe(int *); int dup(int); int dup2(int, int); int close(int); int write(int, const char *, size_t);"
        local pipe, fds = ffi.new "int[2]", {}
        ffi.C.pipe(pipe)
        ffi.C.dup2(pipe[0], 0)
        local a = context.create("sleeper.lua", "out")
        context.recv(a)
        repeat fds[#fds + 1] = ffi.C.dup(0) until fds[#fds] < 0
        ffi.C.close(table.remove(fds, 1)) -- a spare wants more than one
        context.send(a, "go")
        context.wait(a)
        for _, fd in ipairs(fds) do ffi.C.close(fd) end
        local b = context.create "sleeper.lua"
        context.recv(b)
        timer.sleep(0.01) -- somebody else has to look at the clock while b sleeps
        ffi.C.write(pipe[1], "x", 1)
        context.wait(b)
        """
    shell = ("sh", "-c", 'ulimit -n 60; exec "$@" 2>log', "sh")
    script = h.file("main.lua", source)
    h.cli("-w", "1", script.name, wrap=shell).finish(0)
    assert "no spare worker" in (h.tmp / "log").read_text()


def test_seed(h):
    """rules.random.environment: NLJIT_SEED makes random numbers the same in every run, and differ between contexts"""
    h.file("child.lua", "context.send(context.parent, math.random(2^50))")
    source = """for i = 1, 3 do
          math.randomseed(os.time())
          print(math.random(2^50), (select(2, context.recv((context.create "child.lua")))))
        end"""
    runs = [h.run(source, env=env).stdout for env in ({"NLJIT_SEED": "5"}, {"NLJIT_SEED": "5"}, {"NLJIT_SEED": "6"}, {}, {})]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 4
    assert len({number for line in runs[0].splitlines() for number in line.split()[1:]}) == 3
