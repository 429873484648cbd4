"""Memory of the process, seen from outside: after a peak it comes back."""

from test_shutdown import Stuck

RSS = """
local function rss()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "VmRSS:%s+(%d+)"
    if kb then return tonumber(kb) / 1024 end
  end
end
local function say(...) io.write(table.concat({ ... }, " "), "\\n") io.stdout:flush() end
-- Waits until no more than that is left; as long as the runner does.
local function comes_back(mib)
  while rss() > mib do timer.sleep(0.1) end
  say "back"
end
"""


def test_slow_readers(h):
    """memory.slow-readers: what was queued for slow readers goes back to the system when they have left"""
    h.needs_plain_process("has an allocator of its own")
    for size in 3000, 65536, 1000000:
        process = h.start(RSS + f"""
            local _, l = tcp.listen("127.0.0.1", 0)
            say("port " .. tcp.local_port(l))
            local before = rss()
            local s = {{}}
            for i = 1, 5 do s[i] = select(2, tcp.accept(l)) end
            local n, kept = 0, {{}} -- buffers that stay, here and there between the others
            for i = 1, 5 do
              local data = ("x"):rep({size})
              while tcp.write(s[i], data) do
                n = n + {size}
                if n / 1e6 > #kept then kept[#kept + 1] = buffer.new(("k"):rep(3000)) end
              end
            end
            assert(rss() > before + 250)
            say "full"
            for i = 1, 5 do assert(tcp.read(s[i]) == false) tcp.close(s[i]) end
            s = nil
            collectgarbage()
            comes_back(before + 40)""")
        port = process.port()
        peers = [h.connect(port) for _ in range(5)]
        process.expect("full")
        for peer in peers:
            peer.reset()
        process.expect("back")
        process.finish(0)


def test_messages(h):
    """memory.messages: so does what large messages took"""
    h.needs_plain_process("has an allocator of its own")
    h.file("receiver.lua", """
        local all = {}
        for i = 1, 2000 do all[i] = select(2, context.recv(0)) end
        context.send(context.parent, "full")
        context.recv(0)
        all = nil
        collectgarbage() collectgarbage()
        context.recv(0)""")
    process = h.start(RSS + """
        local before = rss()
        local h = context.create("receiver.lua")
        for i = 1, 2000 do context.send(h, ("y"):rep(100000 + i)) end
        context.recv(h)
        assert(rss() > before + 150)
        context.send(h, "drop them")
        collectgarbage() collectgarbage()
        comes_back(before + 40)
        os.exit(0)""")
    process.expect("back")
    process.finish(0)


def test_backlog(h):
    """memory.backlog: so does what many small messages took that waited for a slow receiver"""
    h.needs_plain_process("has an allocator of its own")
    h.file("gate.lua", """
        local _, to = context.recv(0)
        context.recv(0)
        context.send(to, "go")""")
    h.file("receiver.lua", """
        context.recv(0)
        context.recv(tonumber((...)))
        for _ = 2, 1000000 do context.recv(0) end
        context.send(context.parent, "read")
        context.recv(0)""")
    process = h.start(RSS + """
        local before = rss()
        local gate = context.create("gate.lua")
        local h = context.create("receiver.lua", tostring(gate))
        context.send(gate, h)
        for i = 1, 1000000 do context.send(h, i, "some text of a message") end
        assert(rss() > before + 80)
        context.send(gate, true)
        context.recv(h)
        comes_back(before + 40)
        os.exit(0)""")
    process.expect("back")
    process.finish(0)


def test_contexts(h):
    """memory.contexts: so does what many contexts took, when a few of them live on"""
    h.needs_plain_process("has an allocator of its own")
    h.file("child.lua", "local t = {} for i = 1, 2000 do t[i] = {i} end context.recv(0)")
    # Of more than 100. musl keeps most of it for those that live on: 30.
    process = h.start(RSS + """
        local before, all = rss(), {}
        for i = 1, 500 do all[i] = context.create("child.lua") end
        timer.sleep(0.2)
        while rss() < before + 60 do timer.sleep(0.01) end
        for i = 1, 500 do if i % 20 ~= 0 then context.destroy(all[i]) end end
        comes_back(before + tonumber((...)))
        os.exit(0)""", 30 if h.glibc else 40)
    process.expect("back")
    process.finish(0)


def test_exhausted_receiver(h):
    """memory.exhausted.receiver: a context that runs out of memory while it gets a message ends, the process goes on"""
    h.needs_plain_process("wants more address space than that")
    h.file("keeps.lua", "local kept = {} context.recv(0, function(_, t) kept[#kept + 1] = t end)")
    h.file("other.lua", "context.recv(0, function(_, n, from, session) context.reply(from, session, n + 1) end)")
    source = """
        local keeps, other = assert(context.create("keeps.lua")), assert(context.create("other.lua"))
        local t = {}
        for i = 1, 2e6 do t[i] = true end
        local ended, _, reason
        repeat
          context.send(keeps, t)
          ended, _, reason = context.wait(keeps, 0.01)
        until ended
        print(reason)
        print(context.query(other, 1))
        os.exit(0)"""
    result = h.run(source, wrap=("bash", "-c", 'ulimit -v 1000000; exec "$@"', "bash"), stderr="not enough memory")
    assert result.stdout == "error: not enough memory\ntrue\t2\n", result


def test_error_log(h):
    """life.memory.error: memory of contexts that have ended does not wait for an error that finds no reader on standard error"""
    h.needs_plain_process("has an allocator of its own")
    if h.workers == 1:
        h.skip("one worker is the one that waits")
    h.file("fails.lua", "timer.cycle(0, function() error(('x'):rep(100)) end)")
    h.file("nothing.lua", "return")
    process = Stuck(h, RSS + """
        context.create("fails.lua")
        timer.sleep(0.2)
        local before = rss()
        for i = 1, 20000 do context.wait(assert(context.create("nothing.lua"))) end
        os.exit(rss() - before < 12 and 3 or 4)""", streams=("stderr",), fill=True)
    process.ends(3)


def test_sizes(h):
    """memory.sizes: what strings of one size have taken is there for those of another, and goes back; stats.held tells"""
    h.needs_plain_process("has an allocator of its own")
    h.run(RSS + """
        local before = rss()
        for _, n in ipairs { 20, 60, 100, 300, 900, 3000 } do
          local t = {}
          for i = 1, 20e6 / n do t[i] = ("%099d"):format(i):sub(-n) .. ("x"):rep(n - 99) end
          assert(context.stats().held > 20e6)
          t = nil
          collectgarbage()
          collectgarbage()
          local s = context.stats()
          assert(s.held >= s.lua_bytes and s.held < 8e6, s.held)
          assert(rss() < before + 60, rss())
        end""")
