"""What an idle process costs, and who is woken."""

import os
import time


def switches(pid):
    """How often each thread of the process has given its processor up of itself."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            found[task] = next(line.split()[1] for line in f if line.startswith("voluntary_ctxt_switches"))
    return found


def test_idle(h):
    """life.idle: a process that waits makes no system call: none of its threads runs"""
    if not os.path.isdir("/proc/self/task"):
        h.skip("no /proc")
    h.needs_plain_process("has threads of its own")
    p = h.start("""
        local _, l = tcp.listen('127.0.0.1', 0)
        for i = 1, 20 do timer.sleep(0.01) end
        print('waiting')
        io.stdout:flush()
        tcp.accept(l)
        """)
    p.expect("waiting")
    for _ in range(40):  # the monitor's last ticks, memory given back after a quiet second
        before = switches(p.popen.pid)
        time.sleep(0.5)
        if switches(p.popen.pid) == before:
            p.kill()
            return
    raise AssertionError("some thread runs all the time")
