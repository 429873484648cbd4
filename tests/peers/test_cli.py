"""The command line: nl-jit [options] script.lua [args]."""

import os
import random
import re
import shutil
import subprocess
import sys


def out(h, *argv, **options):
    """Standard output of a run that ends well."""
    return h.cli(*argv, **options).finish().stdout


def usage_error(h, *argv):
    """A usage error: status 2, one clear line on standard error, nothing on standard output."""
    result = h.cli(*argv).finish(2, stderr=r".")
    assert result.stdout == "", result
    assert result.stderr.count("\n") == 1 and len(result.stderr) > 10, result
    return result.stderr


def one_message(result, *pieces):
    """One clear message with all these pieces in it."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines, result
    for piece in pieces:
        assert piece in result.stderr, f"{piece!r} is missing\n{result}"
    assert len(lines) == 1, f"more than one line\n{result}"


def test_script(h):
    """cli.script: runs a script; status 0 at its end"""
    h.file("s.lua", "print('ran')")
    assert out(h, "s.lua") == "ran\n"


def test_help(h):
    """cli.help: -h names every option, status 0"""
    result = h.cli("-h").finish()
    text = result.stdout + result.stderr
    for option in ("-h", "-v", "-e", "-l", "-w", "--workers", "--pin", "-j", "-O", "-i", "-b", "-E", "--each"):
        assert option in text, f"{option} is not in\n{text}"


def test_version(h):
    """cli.version: -v names versions, back end and LuaJIT build; alone it ends, with a script that runs"""
    text = out(h, "-v")
    assert re.search(r"nl-jit \d+\.\d+", text) and "LuaJIT 2.1" in text, text
    assert re.search(r"reactor: (epoll|iocp|kqueue|poll)\b", text), text
    assert re.search("bundled|system", text), text
    h.file("s.lua", "print('and runs')")
    text = out(h, "-v", "s.lua")
    assert "LuaJIT 2.1" in text and text.endswith("and runs\n"), text


def test_chunk(h):
    """cli.e: -e runs a chunk, several in order, joined or apart, before the script and in its state"""
    assert out(h, "-e", "print(1)") == "1\n"
    assert out(h, "-eprint(1)") == "1\n"
    assert out(h, "-e", "x = 1", "-e", "x = x + 1", "-e", "print(x)") == "2\n"
    h.file("s.lua", "print(x, ...)")
    assert out(h, "-e", "x = 'seen'", "s.lua", "a") == "seen\ta\n"


def test_chunk_blocks(h):
    """cli.e.blocking: a chunk has the modules and may block"""
    assert out(h, "-e", "print(timer.sleep(0.001), context.self > 0)") == "true\ttrue\n"
    assert out(h, "-e", "timer.timeout(0.001, function() print('later') end)") == "later\n"


def test_chunk_errors(h):
    """cli.e.error: a chunk that is broken or fails: a message, status 1"""
    assert "=" in h.cli("-e", "x = = 1").finish(1, stderr=r".").stderr
    assert "oops" in h.cli("-e", "error('oops')").finish(1, stderr=r".").stderr
    h.file("s.lua", "print('must not run')")
    assert h.cli("-e", "error('oops')", "s.lua").finish(1, stderr=r"oops").stdout == ""


def test_module(h):
    """cli.l: -l requires a module first, joined or apart; a missing one is a message and status 1"""
    h.file("mod.lua", "print('module ' .. ...) answer = 42")
    h.file("s.lua", "print(answer)")
    assert out(h, "-l", "mod", "s.lua") == "module mod\n42\n"
    assert out(h, "-lmod", "s.lua") == "module mod\n42\n"
    h.cli("-l", "no_such_module", "s.lua").finish(1, stderr=r"no_such_module")


def test_module_blocks(h):
    """cli.l.blocking: it may block at its top level"""
    h.file("mod.lua", "timer.sleep(0.001) answer = 42")
    assert out(h, "-lmod", "-e", "print(answer)") == "42\n"


def test_workers(h):
    """cli.workers: -w N and --workers N"""
    for option in ("-w", "--workers"):
        for n in (1, 3):
            text = out(h, option, n, "-e", "print(context.thread())")
            assert 0 <= int(text) <= n, text


def test_pin(h):
    """cli.pin: --pin=auto, on, off"""
    for how in ("auto", "on", "off"):
        assert out(h, f"--pin={how}", "-e", "print('runs')") == "runs\n"


def test_jit(h):
    """cli.j: -joff keeps the compiler off, -jon does not, unknown commands fail"""
    h.file("s.lua", "for i = 1, 3e6 do end timer.sleep(0) for i = 1, 3e6 do end print((jit.status()))")
    assert out(h, "-joff", "s.lua") == "false\n"
    assert out(h, "-j", "off", "s.lua") == "false\n"
    h.file("any.lua", "print('runs')")
    assert out(h, "-jon", "any.lua") == "runs\n"
    assert h.cli("-jnonsense", "any.lua").finish(None, stderr=r".").status != 0


def test_optimise(h):
    """cli.O: -O levels and parameters as luajit takes them, unknown ones fail"""
    for option in ("-O0", "-O3", "-O", "-O-fold", "-Ohotloop=10", "-O2,hotexit=5"):
        assert out(h, option, "-e", "print('runs')") == "runs\n"
    assert h.cli("-Ononsense", "-e", "print('runs')").finish(None, stderr=r".").status != 0


def test_stdin(h):
    """cli.stdin: - runs standard input, with arguments"""
    assert out(h, "-", stdin="print('from stdin')") == "from stdin\n"
    assert out(h, "-", "a", "b", stdin="print(arg[0], ...)") == "-\ta\tb\n"
    h.cli("-", stdin="= 1").finish(1, stderr=r"stdin")


def test_end_of_options(h):
    """cli.dashes: -- ends the options"""
    h.file("s.lua", "print(...)")
    h.file("-odd.lua", "print('odd', ...)")
    assert out(h, "--", "s.lua", "a") == "a\n"
    assert out(h, "--", "-odd.lua", "-w") == "odd\t-w\n"


def test_arguments(h):
    """cli.arg: arg and ... as luajit has them: arg[0] the script, before it the options, after it the arguments"""
    h.file("s.lua", "print(select('#', ...), ...) local i = 0 while arg[i - 1] do i = i - 1 end "
                    "for k = i, #arg do print(k, arg[k]) end")
    lines = out(h, "-w", "2", "s.lua", "a", "", "-w", "3").splitlines()
    assert lines[0].split("\t") == ["4", "a", "", "-w", "3"], lines
    table = dict(line.split("\t") for line in lines[1:])
    assert [table[str(i)] for i in range(-2, 5)] == ["-w", "2", "s.lua", "a", "", "-w", "3"], table
    assert "-4" not in table and "nl-jit" in table["-3"], table


def test_argument_types(h):
    """cli.arg.types: arguments are strings; without any there are none"""
    h.file("s.lua", "print(select('#', ...), type((...)), #arg)")
    assert out(h, "s.lua", "5") == "1\tstring\t1\n"
    assert out(h, "s.lua") == "0\tnil\t0\n"


def test_arg_children(h):
    """cli.arg.children: a context that was created has its own ... and arg, from context.create"""
    h.file("sub/child.lua", "print(arg[0], #arg, arg[1], arg[2], arg[-1], ...)")
    h.file("sub/s.lua", "context.wait(context.create('child.lua', 'own', 1)) print(arg[0], arg[1])")
    assert out(h, "sub/s.lua", "outer") == "sub/child.lua\t2\town\t1\tnil\town\t1\nsub/s.lua\touter\n"


def test_init(h):
    """cli.init: LUA_INIT is text, or @file, that runs before all else in the first context; -E ignores it, and LUA_PATH"""
    h.file("s.lua", "print('script', x) context.wait(context.create('child.lua'))")
    h.file("child.lua", "print('child', x)")
    h.file("init.lua", "x = 'from the file' timer.sleep(0.001)")
    assert out(h, "-e", "print(x)", "s.lua", env={"LUA_INIT": "x = 'text'"}) == "text\nscript\ttext\nchild\tnil\n"
    assert out(h, "s.lua", env={"LUA_INIT": "@init.lua"}) == "script\tfrom the file\nchild\tnil\n"
    assert out(h, "-E", "s.lua", env={"LUA_INIT": "error 'not read'"}) == "script\tnil\nchild\tnil\n"
    one_message(h.cli("s.lua", env={"LUA_INIT": "="}).finish(1, stderr=r"."), "LUA_INIT")
    one_message(h.cli("s.lua", env={"LUA_INIT": "@none.lua"}).finish(1, stderr=r"."), "none.lua")
    h.file("lib/mod.lua", "return 'found'")
    env = {"LUA_PATH": f"{h.tmp}/lib/?.lua"}
    assert out(h, "-e", "print(require 'mod')", env=env) == "found\n"
    assert out(h, "-E", "-e", "print((pcall(require, 'mod')))", env=env) == "false\n"


def test_each(h):
    """cli.each: --each requires a module in every context, before its main chunk; it may block there"""
    h.file("first.lua", "order = 'first' timer.sleep(0.001)")
    h.file("second.lua", "order = order .. ' second'")
    h.file("s.lua", "print('script', order, ...) context.wait(context.create('child.lua', 'a', nil, 3))")
    h.file("child.lua", "print('child', order, select('#', ...), ...)")
    text = out(h, "--each", "first", "--each=second", "-e", "order = order .. ' third'", "s.lua", "x")
    assert text == "script\tfirst second third\tx\nchild\tfirst second\t3\ta\tnil\t3\n"
    result = h.cli("--each", "missing", "s.lua").finish(1, stderr=r"module 'missing' not found")
    assert "script" not in result.stdout


def test_inherited_path(h):
    """rules.require.inherited: a context begins with its creator's package.path and package.cpath, as they are then"""
    h.file("child.lua", """
        local depth, expected = ...
        assert(package.path == expected, package.path)
        if depth == 2 then assert(package.cpath == 'changed', package.cpath) end
        if depth < 3 then
          local path = package.path
          if depth == 2 then path, package.path = path .. ';more/?.lua', path .. ';more/?.lua' end
          assert(context.wait(context.create('child.lua', depth + 1, path)))
        else
          print(require 'inherited')
        end""")
    h.file("more/inherited.lua", "return 'inherited through three contexts'")
    h.file("s.lua", """
        local standard = package.path
        package.path, package.cpath = 'mine/?.lua;' .. package.path, 'changed'
        context.wait(context.create('child.lua', 1, package.path))
        package.path = nil
        context.wait(context.create('other.lua', standard))""")
    h.file("other.lua", "print(package.path == ...)")
    assert out(h, "s.lua") == "inherited through three contexts\ntrue\n"
    h.file("unnamed.lua", "print(require 'inherited')")
    assert out(h, "-e", "package.path = 'more/?.lua' context.wait(context.create 'unnamed.lua')") == \
        "inherited through three contexts\n"


def test_prompt(h):
    """cli.i: -i prompts when the script has run, runs what is complete line by line, and ends with its input"""
    h.file("s.lua", "x = 'from the script'")
    lines = ["= x, 4", "for i = 1, 2 do", "print(i)", "end", "timer.sleep(0.001) print 'blocked'", "error 'mine'", "= )",
             "print(context.create 'none.lua')", "timer.loop(1000, 1000, print)", ""]
    result = h.cli("-i", "s.lua", stdin="\n".join(lines)).finish(0, stderr=r"stdin:1: mine")
    text = result.stdout.replace("> ", "").replace(">", "")
    assert text.split("\n")[1:] == ["from the script\t4", "1", "2", "blocked", "false\t2", "", ""], result
    assert "LuaJIT" in text.split("\n")[0], result
    assert "unexpected symbol near ')'" in result.stderr and "stack traceback" in result.stderr, result
    assert out(h, "-i", "-e", "_PROMPT = '$ '", stdin="= 1") .endswith("$ 1\n$ \n")


def test_shebang(h):
    """cli.shebang: a #! line is skipped, and line numbers stay right; the file is executable"""
    path = h.file("s.lua", f"#!{h.settings.command[0]}\nprint(debug.getinfo(1, 'l').currentline, ...)\n")
    assert out(h, "s.lua", "x") == "2\tx\n"
    if len(h.settings.command) == 1:
        path.chmod(0o755)
        run = subprocess.run([str(path), "x"], capture_output=True, text=True, timeout=h.settings.timeout,
                             env=h.settings.environment(h.tmp))
        assert run.stdout == "2\tx\n", run


def test_unknown_option(h):
    """cli.usage.unknown: an unknown option is named in one line, status 2"""
    h.file("s.lua", "print('must not run')")
    for option in ("-Z", "--bogus", "--pinn=on"):
        assert option in usage_error(h, option, "s.lua")


def test_bad_values(h):
    """cli.usage.values: values that cannot be, or are missing: one line, status 2"""
    h.file("s.lua", "print('must not run')")
    for argv in (["-w", "0"], ["-w", "-1"], ["-w", "many"], ["-w", "2x"], ["--workers", ""], ["--pin=maybe"]):
        usage_error(h, *argv, "s.lua")
    for argv in (["-w"], ["--workers"], ["-e"], ["-l"]):
        usage_error(h, *argv)


def test_missing_script(h):
    """cli.script.missing: one clear message with the name, status 1"""
    one_message(h.cli("no_such_script.lua").finish(1, stderr=r"."), "no_such_script.lua")


def test_broken_script(h):
    """cli.script.broken: a syntax error: one clear message with file and line, status 1"""
    h.file("broken.lua", "local a = 1\nlocal = 2\n")
    one_message(h.cli("broken.lua").finish(1, stderr=r"."), "broken.lua:2:")


def test_directory(h):
    """cli.script.directory: a directory or an unreadable file is no script: a message, status 1"""
    (h.tmp / "directory").mkdir()
    one_message(h.cli("directory").finish(1, stderr=r"."), "directory")


def test_bytecode(h):
    """cli.script.bytecode: a script, also on standard input, may be bytecode; -b makes it"""
    h.needs_bundled_luajit("jit.bcsave comes with it")
    h.file("s.lua", "print('from bytecode', ..., arg[1], table.concat { 1, 2 }, os.getenv('PATH') ~= nil)")
    assert out(h, "-b", "s.lua", "s.ljbc") == ""
    expected = "from bytecode\tx\tx\t12\ttrue\n"
    assert out(h, "s.ljbc", "x") == expected
    assert out(h, "-", "x", stdin=(h.tmp / "s.ljbc").open("rb")) == expected
    assert "KSTR" in out(h, "-bl", "s.lua")
    assert out(h, "-b", "-e", "print(7)", "e.out") == ""
    assert out(h, "e.out") == "7\n"
    h.file("child.lua", "context.create('s.ljbc', 'y')")
    assert out(h, "child.lua") == expected.replace("x", "y")


def test_constants(h):
    """rules.stock.constants: tables of a constructor have the length that the same text gives them in load"""
    h.needs_bundled_luajit("its bytecode does not tell the size of a table with holes")
    random.seed(1)
    parts = []
    for _ in range(400):
        items = [random.choice(["nil", "nil", str(k), "false", "'s'", "x = 1", f"[{random.randint(1, 12)}] = {k}", "print"])
                 for k in range(random.randint(0, 9))]
        parts.append(f"(function() local t = {{ {', '.join(items)} }} local a = #t t[{random.randint(1, 9)}] = nil "
                     f"t[{random.randint(1, 12)}] = 1 return a .. ' ' .. #t .. ' ' .. select('#', unpack(t)) end)()")
    h.file("constants.lua", "return table.concat({ #{ 1, nil, 3 }, " + ",\n".join(parts) + " }, '\\n')")
    compiled, loaded = out(h, "-e", "print(dofile 'constants.lua') print '--' print(loadstring(io.open('constants.lua'):read '*a')())").split("--\n")
    assert compiled == loaded, [(a, b) for a, b in zip(compiled.split("\n"), loaded.split("\n")) if a != b]


def test_empty_script(h):
    """cli.script.empty: an empty script ends well"""
    h.file("empty.lua", "")
    assert out(h, "empty.lua") == ""


def test_path(h):
    """cli.script.path: a script elsewhere, and its modules by package.path from the working directory"""
    h.file("deep/s.lua", "print(require 'mod', arg[0])")
    h.file("mod.lua", "return 'from the working directory'")
    assert out(h, "deep/s.lua") == "from the working directory\tdeep/s.lua\n"


def test_lua_path(h):
    """cli.lua_path: LUA_PATH is honoured, ;; stands for the default"""
    h.file("lib/mod.lua", "return 'by LUA_PATH'")
    h.file("here.lua", "return 'by the default path'")
    chunk = "print(require 'mod', require 'here')"
    assert out(h, "-e", chunk, env={"LUA_PATH": f"{h.tmp}/lib/?.lua;;"}) == "by LUA_PATH\tby the default path\n"


def test_c_module(h):
    """rules.require.cpath-c: a C module found by LUA_CPATH is loaded and may use the Lua API"""
    compiler = shutil.which("cc")
    if not compiler or sys.platform != "linux" or len(h.settings.command) > 1:
        h.skip("no C compiler for this platform here")
    h.needs_ffi("dlopen")
    h.file("tiny.c", "extern void lua_pushinteger(void *, long);\n"
                     "int luaopen_tiny(void *L) { lua_pushinteger(L, 42); return 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", h.tmp / "tiny.so", h.tmp / "tiny.c"], check=True)
    assert out(h, "-e", "print(require 'tiny')", env={"LUA_CPATH": f"{h.tmp}/?.so"}) == "42\n"


def test_working_directory(h):
    """cli.cwd: file functions work from the directory nl-jit was started in"""
    h.file("data.txt", "content")
    assert out(h, "-e", "print(io.open('data.txt'):read('*a'))") == "content\n"


def test_ncpu(h):
    """context.ncpu: the number of processors of this machine"""
    n = int(out(h, "-e", "print(context.ncpu)"))
    assert n in (os.cpu_count(), len(os.sched_getaffinity(0))), n


def test_name(h):
    """context.name.first: the first context's name is its file with its arguments"""
    h.file("named.lua", "print(context.name)")
    text = out(h, "named.lua", "alpha", "beta")
    assert re.search(r"named\.lua.*alpha.*beta", text), text


SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
    static atomic_int calls;
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    int first = atoi(getenv("FAIL_FROM")), last = atoi(getenv("FAIL_TO")), n = ++calls;
    return n >= first && n <= last ? EAGAIN : real(t, a, f, arg);
}
"""


def test_fewer_threads(h):
    """cli.workers.fewer: when a thread cannot be started, the program goes on with those there are, and sockets work"""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if h.settings.slow > 1 or h.settings.emulated or sys.platform != "linux" or not compiler:
        h.skip("needs a C compiler, and a build that may be preloaded")
    h.needs_ffi("pthread_create")  # else nothing can stand in front of it
    shim = h.tmp / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-x", "c", "-o", str(shim), "-"], input=SHIM, text=True, check=True)
    h.file("echo.lua", """
        local _, l = tcp.listen('127.0.0.1', 0)
        local port = tcp.local_port(l)
        local framed = { read_head_bytes = 1, write_head_bytes = 1 }
        tcp.accept(l, function(_, s)
          tcp.set_rwopt(s, framed)
          tcp.read(s, function(ok, b) if ok then tcp.write(s, b) end end)
        end)
        local _, s = assert(tcp.connect('127.0.0.1', port, 20))
        tcp.set_rwopt(s, framed)
        tcp.write(s, 'hello')
        context.send(context.parent, tostring(select(2, assert(tcp.read(s, 20)))))
        """)
    h.file("main.lua", """
        for i = 1, 9 do context.create('echo.lua') end
        for i = 1, 9 do print((select(2, context.recv(0, 20)))) end
        os.exit(4)
        """)
    for first, last in (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (2, 3), (3, 99), (1, 99):
        env = {"LD_PRELOAD": str(shim), "FAIL_FROM": str(first), "FAIL_TO": str(last)}
        result = h.cli("-w", 4, "main.lua", env=env).finish(4)
        assert result.stdout == "hello\n" * 9, f"{first} to {last}: {result}"
