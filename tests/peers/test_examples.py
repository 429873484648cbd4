"""The examples run as they stand, with real peers; each is used the way its own header says."""

import re
import signal

from harness import TESTS, frame

EXAMPLES = TESTS.parent / "examples"


def example(h, name, *args):
    return h.cli("-w", h.workers, EXAMPLES / name, *args)


def port_of(process):
    return int(process.expect(r".*port (\d+)").group(1))


def stop(process):
    """Ends an example that serves for ever; it has to be well until then."""
    assert process.alive(), process.result()
    process.popen.send_signal(signal.SIGTERM)
    process.popen.wait(process.timeout)
    assert process.result().stderr == "", process.result()


def refuses(h, name, *args):
    """Arguments that make no sense: one line that shows the usage, and a status other than 0."""
    result = example(h, name, *args).finish(None, stderr=r"usage")
    assert result.status != 0 and result.stdout == "" and result.stderr.count("\n") == 1, result


def test_hello(h):
    """examples.hello: the greeter answers, to the name given or the world"""
    lines = example(h, "hello.lua").finish().stdout.splitlines()
    assert lines[0] == "Hello, world!" and len(lines) == 2, lines
    assert example(h, "hello.lua", "Ada").finish().stdout.startswith("Hello, Ada!\n")


def test_echo(h):
    """examples.echo: frames come back as they were, for every size of head; bad peers do no harm"""
    for size in (2, 0, 1, 4):
        server = example(h, "echo.lua", 0, size)
        port = port_of(server)
        peers = [h.connect(port) for _ in range(5)]
        for i, peer in enumerate(peers):
            peer.send(frame(b"hello %d" % i, size, "B") * 3 + (frame(b"", size, "B") if size else b""))
        for i, peer in enumerate(peers):
            want = frame(b"hello %d" % i, size, "B") * 3 + (frame(b"", size, "B") if size else b"")
            assert peer.read(len(want)) == want
            if i < 3:
                peer.close()
        peers[3].send(b"\x00")  # half a head, for most
        peers[3].half_close()
        peers[3].read_all()
        peers[4].send(frame(b"last", size, "B"))
        assert peers[4].read(size + 4) == frame(b"last", size, "B")
        stop(server)


def test_echo_bad_arguments(h):
    """examples.echo.usage: arguments that make no sense; a port in use"""
    refuses(h, "echo.lua", "many")
    refuses(h, "echo.lua", "70000")
    refuses(h, "echo.lua", "0", "3")
    listener, port = h.listen("0.0.0.0")
    result = example(h, "echo.lua", port).finish(1, stderr=rf"port {port}: .+")
    assert result.stderr.count("\n") == 1, result


class Member:
    """Somebody in the chat."""

    def __init__(self, h, port, name):
        self.peer, self.pending = h.connect(port), b""
        self.until("* your name? ")
        self.say(name)
        self.until(f"* {name} has come\n")

    def say(self, line, end="\n"):
        self.peer.send((line + end).encode())

    def until(self, text):
        """Reads up to this text; returns what came with it."""
        text = text.encode()
        while text not in self.pending:
            piece = self.peer.sock.recv(65536)
            assert piece, f"the chat ended the connection; before: {self.pending!r}"
            self.pending += piece
        at = self.pending.index(text) + len(text)
        got, self.pending = self.pending[:at], self.pending[at:]
        return got.decode()


def test_chat(h):
    """examples.chat: what one says reaches all, names are shown, who leaves is missed"""
    server = example(h, "chat.lua", 0)
    port = port_of(server)
    ada, ben, cy = (Member(h, port, name) for name in ("Ada", "Ben", "Cy"))
    ada.until("* Ben has come\n")
    ada.until("* Cy has come\n")
    ben.say("good morning", end="\r\n")
    for member in (ada, ben, cy):
        member.until("Ben: good morning\n")
    for byte in "typed slowly\n":
        cy.say(byte, end="")
    for member in (ada, ben, cy):
        member.until("Cy: typed slowly\n")
    ada.say("/who")
    assert ada.until("\n") == "* here: Ada, Ben, Cy\n"
    ben.say("/quit")
    assert ben.peer.at_end()
    ada.until("* Ben has left\n")
    cy.peer.reset()
    ada.until("* Cy has left\n")
    ada.say("x" * 5000, end="")  # a line without an end
    ada.until("too long\n")
    Member(h, port, "Dee").say("still here")
    stop(server)


def test_gate(h):
    """examples.gate: ends by itself with every reply of every player counted"""
    for arguments in ((), (0, 20, 5)):
        process = example(h, "gate/main.lua", *arguments)
        result = process.finish()
        players, rounds = arguments[1:] if arguments else (100, 20)
        n = players * rounds
        assert re.search(rf"{players} players came, {players} left, {n} of {n} replies counted\n$", result.stdout), result
        assert result.stderr == "", result


def test_gate_bad_arguments(h):
    """examples.gate.usage: arguments that make no sense"""
    refuses(h, "gate/main.lua", "0", "none")
    refuses(h, "gate/client.lua")


def test_primes(h):
    """examples.primes: the right number, whatever the number of workers; progress on standard error only"""
    for limit, workers, count in ((100, 1, 25), (1000000, 3, 78498), (1200001, 2, 92938)):
        result = example(h, "primes.lua", limit, workers).finish(stderr=r"primes:\s+100 %")
        assert result.stdout.startswith(f"{count} primes up to {limit}"), result
    refuses(h, "primes.lua", "nothing")
