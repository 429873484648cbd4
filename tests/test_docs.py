#!/usr/bin/env python3
"""Tests that the documentation says what is true.

    python3 tests/test_docs.py --nl-jit build/release/src/nl-jit [--tap] [filter…]

- The pages docs/api/*.md are what tools/apidoc.py makes of lualib/meta.
- Every example in README.md and docs/**/*.md runs and prints what it says.
- lualib/meta lists exactly the functions, methods, fields and error codes that nl-jit has.
- Links to files and headings lead somewhere.

Examples are the fenced blocks of these pages:

```lua      A script. It has to end by itself with status 0 and to print nothing to standard error. What it prints follows as a ```text
            block, or stands behind `-->` on the lines that print it, in that order; else it has to print nothing.
            A block whose first line is a comment with a file name (`-- worker.lua`) is a file for the scripts below it in the
            document; only `-- main.lua` is run as well.
```console  A shell session: what follows a line `$ command` is what it prints, on standard output and standard error.

Runs of spaces and tabs count as one space, and `...` stands for anything, on a line of its own for any number of lines.
A comment in front of a script, or of its files, changes how it is run, by words separated by `;`:

<!-- run: args A B -->          arguments; {port} stands for a free port
<!-- run: status 1 -->          the exit status
<!-- run: stderr REGEX -->      standard error has to contain this
<!-- run: need ipv6 -->         left out on a machine without; `need bundled`: with the system's LuaJIT
<!-- run: serve; send TEXT; expect TEXT -->
                                a server: it does not end by itself, but serves on {port} a client that does these steps
<!-- run: never, REASON -->     not an example that could be run
"""

import argparse
import concurrent.futures
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tools"))
import apidoc  # noqa: E402


class Skip(Exception):
    pass


def documents():
    return [p for p in [TOP / "README.md", *sorted((TOP / "docs").rglob("*.md"))] if p.exists()]


# --- Examples ---------------------------------------------------------------------------------------------------------------


class Block:
    def __init__(self, path, line, heading, language, run):
        self.path, self.line, self.heading, self.language, self.run = path, line, heading, language, run
        self.lines, self.after = [], None  # after: the ```text block that follows

    def text(self):
        return "".join(line + "\n" for line in self.lines)

    def file_name(self):
        m = self.language == "lua" and self.lines and re.fullmatch(r"-- ([\w./-]+\.lua)", self.lines[0])
        return m[1] if m else None


def blocks(path):
    out, heading, run, inside = [], "", "", None
    previous = None  # the block that has just ended, with nothing but empty lines since
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if inside:
            if line.strip() == "```":
                inside, previous = None, inside
            else:
                inside.lines.append(line)
        elif m := re.match(r"\s*```(\w*)", line):
            inside = Block(path, number, heading, m[1], run)
            run = ""
            if m[1] == "text" and previous:
                previous.after = inside
            else:
                out.append(inside)
        elif m := re.fullmatch(r"<!-- run: (.*) -->", line):
            run, previous = m[1], None
        elif line.strip():
            previous = None
            if m := re.match(r"#+ (.*)", line):
                heading = m[1]
    return out


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def matches(wanted, got):
    """Whether lines are as wanted, `...` standing for anything."""
    squeeze = [" ".join(line.split()) for line in got]
    pattern = ""
    for line in wanted:
        line = " ".join(line.split())
        pattern += "(.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + "\n"
    return re.fullmatch(pattern, "".join(line + "\n" for line in squeeze)) is not None


def show(wanted, got, stderr):
    text = "wanted:\n" + "".join(f"  {line}\n" for line in wanted) + "printed:\n" + "".join(f"  {line}\n" for line in got)
    return text + ("standard error:\n" + "".join(f"  {line}\n" for line in stderr.splitlines()) if stderr else "")


class Example:
    """A block with the files that it can use."""

    def __init__(self, block, files):
        self.block, self.files = block, files
        self.words = {}
        for word in filter(None, (w.strip() for w in block.run.split(";"))):
            key, _, value = word.partition(" ")
            self.words.setdefault(key.rstrip(","), []).append(value)

    def name(self):
        return f"{self.block.path.relative_to(TOP)}:{self.block.line}: {self.block.heading or self.block.language}"

    def word(self, key, default=None):
        return self.words.get(key, [default])[0]

    def run(self, settings):
        if "never" in self.words:
            raise Skip(self.word("never"))
        if self.word("need") == "ipv6" and not has_ipv6():
            raise Skip("no IPv6 here")
        if self.word("need") == "bundled" and not has_bundled_luajit(settings):
            raise Skip("needs the bundled LuaJIT")
        with tempfile.TemporaryDirectory(prefix="nld.") as tmp:
            for name, text in self.files.items():
                path = Path(tmp, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            if self.block.language == "console":
                return self.run_session(settings, tmp)
            Path(tmp, "main.lua").write_text(self.block.text())
            return self.run_script(settings, tmp)

    def run_session(self, settings, tmp):
        Path(tmp, "bin").mkdir()
        program = Path(tmp, "bin", "nl-jit")
        program.write_text(f'#!/bin/sh\nexec {shlex.join(settings.command)} "$@"\n')
        program.chmod(0o755)
        commands = []
        for line in self.block.lines:
            if line.startswith("$ "):
                commands.append((line[2:], []))
            elif commands and commands[-1][0].endswith("\\"):
                commands[-1] = (commands[-1][0] + "\n" + line, [])
            elif commands:
                commands[-1][1].append(line)
        env = settings.environment() | {"PATH": f"{tmp}/bin:{os.environ['PATH']}"}
        status = 0
        for command, wanted in commands:
            result = subprocess.run(["/bin/sh", "-c", f"(exit {status}); {command}"], cwd=tmp, env=env, text=True,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    timeout=settings.timeout)
            status = result.returncode
            got = result.stdout.splitlines()
            assert matches(wanted, got), f"$ {command}\n" + show(wanted, got, "")
            assert status < 90, f"$ {command}\nstatus {status}\n" + result.stdout  # a signal, or a sanitizer's report

    def run_script(self, settings, tmp):
        port = free_port()
        argv = [*settings.command, "main.lua", *shlex.split(self.word("args", "").replace("{port}", str(port)))]
        process = subprocess.Popen(argv, cwd=tmp, env=settings.environment(), text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            if "serve" in self.words:
                self.be_client(port, settings.timeout)
                process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=settings.timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError("it does not end\n" + show([], stdout.splitlines(), stderr)) from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if self.block.after:
            wanted = self.block.after.lines
        else:
            wanted = [m[1] for line in self.block.lines if (m := re.search(r"--> ?(.*)", line))]
        got = stdout.splitlines()
        assert matches(wanted, got), show(wanted, got, stderr)
        if pattern := self.word("stderr"):
            assert re.search(pattern, stderr), f"no {pattern!r} in standard error:\n{stderr}"
        elif "serve" not in self.words:
            assert not stderr, f"standard error:\n{stderr}"
        if "serve" not in self.words:
            status = int(self.word("status", "0"))
            assert process.returncode == status, f"status {process.returncode}, wanted {status}\n{stderr}"

    def be_client(self, port, timeout):
        end = time.monotonic() + timeout
        while True:
            try:
                s = socket.create_connection(("127.0.0.1", port), timeout)
                break
            except OSError:
                assert time.monotonic() < end, f"nobody listens on port {port}"
                time.sleep(0.02)
        with s:
            for word in self.block.run.split(";"):
                key, _, value = word.strip().partition(" ")
                data = value.encode().decode("unicode_escape").encode("latin-1")
                if key == "send":
                    s.sendall(data)
                elif key == "expect":
                    got = b""
                    while len(got) < len(data):
                        piece = s.recv(len(data) - len(got))
                        assert piece, f"the server closed after {got!r}, wanted {data!r}"
                        got += piece
                    assert got == data, f"the server sent {got!r}, wanted {data!r}"


def has_bundled_luajit(settings):
    version = subprocess.run([*settings.command, "-v"], capture_output=True, text=True, check=True).stdout
    return "bundled" in version.splitlines()[0]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def examples():
    out = []
    for path in documents():
        files, waiting = {}, ""
        for block in blocks(path):
            name = block.file_name()
            block.run = block.run or waiting
            if name:
                files = {**files, name: block.text()}
            if block.language == "console" or (block.language == "lua" and name in (None, "main.lua")):
                out.append(Example(block, files))
            waiting = block.run if name and name != "main.lua" else ""
    return out


# --- What exists ------------------------------------------------------------------------------------------------------------

# Prints "kind name detail" for everything that scripts see.
INVENTORY = r"""
local _ = context.errno -- is made when first asked for
local modules = { context = context, tcp = tcp, timer = timer, buffer = buffer }
for name, module in pairs(modules) do
  assert(require(name) == module, name .. ": require gives something else than the global")
  for k, v in pairs(module) do
    print(type(v) == "function" and "function" or "field", name .. "." .. tostring(k), type(v))
  end
end
for name, code in pairs(context.errno) do print("errno", name, code) end
local _, listener = assert(tcp.listen("127.0.0.1", 0))
for name, object in pairs { tcp = listener, buffer = buffer.new() } do
  local index = debug.getmetatable(object).__index
  local seen = {}
  if type(index) == "table" then
    for k, v in pairs(index) do seen[k] = v end
  end
  for k in pairs(modules[name]) do seen[k] = object[k] end
  for k, v in pairs(seen) do print(v == modules[name][k] and "method" or "other", name .. ":" .. k, type(v)) end
end
"""


def inventory(settings):
    result = subprocess.run([*settings.command, "-e", INVENTORY], env=settings.environment(), text=True, capture_output=True,
                            stdin=subprocess.DEVNULL, timeout=settings.timeout)
    assert result.returncode == 0, f"status {result.returncode}\n{result.stderr}"
    there = {}
    for line in result.stdout.splitlines():
        kind, name, detail = line.split("\t")
        there.setdefault(kind, {})[name] = detail
    return there


def compare(documented, there, what):
    problems = [f"{name} is documented and does not exist" for name in sorted(documented - there)]
    problems += [f"{name} exists and is not documented" for name in sorted(there - documented)]
    assert not problems, f"{what}:\n" + "\n".join(problems)


def check_functions(settings):
    modules, _ = apidoc.load()
    documented = {name for module in modules for name, _ in module.functions()}
    compare(documented, set(inventory(settings).get("function", ())), "functions")


def check_methods(settings):
    modules, _ = apidoc.load()
    documented = {name.replace(".", ":") for m in modules if m.name in ("tcp", "buffer") for name, _ in m.functions()}
    there = inventory(settings)
    compare(documented, set(there.get("method", ())) | set(there.get("other", ())), "methods")
    assert "other" not in there, f"methods that are not the module's functions: {there['other']}"


def check_fields(settings):
    modules, _ = apidoc.load()
    documented = {f"{m.name}.{name}" for m in modules for name, _, _ in m.classes[f"{m.name}lib"].fields}
    compare(documented, set(inventory(settings).get("field", ())), "fields")


def check_errors(settings):
    modules, _ = apidoc.load()
    there = {name: int(code) for name, code in inventory(settings)["errno"].items()}
    documented = {name: int(code) for name, code, _ in modules[0].classes["context.errno"].fields}
    wrong = [f"{name} is {there.get(name)}, not {code}" for name, code in documented.items() if there.get(name) != code]
    assert not wrong, "\n".join(wrong)
    compare({n for n, c in documented.items() if c >= 200}, {n for n, c in there.items() if c >= 200}, "codes of the runtime")
    for path in documents():
        for name in re.findall(r"`(E[A-Z0-9]{3,})`", path.read_text()):
            assert name in there, f"{path.relative_to(TOP)}: there is no error {name}"


def check_pages(settings):
    result = subprocess.run([sys.executable, TOP / "tools" / "apidoc.py", "--check"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def check_links(settings):
    problems = []
    anchors = {}
    for path in TOP.glob("*.md"), (TOP / "docs").rglob("*.md"):
        for p in path:
            prose = re.sub(r"(?ms)^```.*?^```$", "", p.read_text())
            anchors[p] = (prose, {apidoc.anchor(h) for h in re.findall(r"(?m)^#+ (.*)$", prose)})
    for path, (prose, _) in anchors.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", prose):
            if re.match(r"\w+:", link):
                continue
            file, _, fragment = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.exists():
                problems.append(f"{path.relative_to(TOP)}: no file {link}")
            elif fragment and target in anchors and fragment not in anchors[target][1]:
                problems.append(f"{path.relative_to(TOP)}: no heading {link}")
    assert not problems, "\n".join(problems)


# --- Running ----------------------------------------------------------------------------------------------------------------


class Settings:
    def __init__(self, command, timeout):
        self.command, self.timeout = command, timeout

    def environment(self):
        return {k: v for k, v in os.environ.items() if not k.startswith(("LUA_", "NLJIT_", "NLT_"))}


def cases():
    """(name, function of the settings)"""
    out = [("docs/api is made from lualib/meta", check_pages), ("links lead somewhere", check_links),
           ("lualib/meta has exactly the functions that exist", check_functions),
           ("lualib/meta has exactly the methods that exist", check_methods),
           ("lualib/meta has exactly the fields that exist", check_fields),
           ("error codes are as documented", check_errors)]
    return out + [(example.name(), example.run) for example in examples()]


def run(case, settings):
    try:
        case[1](settings)
        return True, None, ""
    except Skip as skip:
        return True, str(skip), ""
    except AssertionError as error:
        return False, None, str(error)
    except Exception as error:  # a fault of the documents or of this file
        return False, None, repr(error)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nl-jit", required=True, help="the program, or a command line that runs it")
    parser.add_argument("--tap", action="store_true")
    parser.add_argument("--slow", type=float, default=1, help="the build is this much slower")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("filter", nargs="*", help="pieces of the names of the cases to run")
    args = parser.parse_args()
    command = shlex.split(args.nl_jit)
    command[0] = shutil.which(command[0]) or command[0]
    command = [os.path.abspath(word) if os.path.exists(word) else word for word in command]
    if not os.path.exists(command[0]):
        sys.exit(f"test_docs.py: no such program: {command[0]}")
    settings = Settings(command, 30 * args.slow)

    chosen = [c for c in cases() if not args.filter or any(f in c[0] for f in args.filter)]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        results = pool.map(lambda case: run(case, settings), chosen)
        for number, ((name, _), (ok, skipped, note)) in enumerate(zip(chosen, results), 1):
            failed += not ok
            if args.tap:
                tail = f" # SKIP {skipped}" if skipped is not None else ""
                print(f"{'ok' if ok else 'not ok'} {number} - {name.replace('#', chr(92) + '#')}{tail}")
            elif not ok:
                print(f"FAIL {name}")
            print("".join(f"    # {line}\n" for line in note.splitlines()), end="", flush=True)
    if args.tap:
        print(f"1..{len(chosen)}")
    else:
        print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
