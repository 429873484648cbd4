"""A tiny name server for tests: it knows a few names, is slow for some, and denies all others."""

import random
import socket
import struct
import threading
import time


class NameServer:
    """Answers on a loopback address of its own, port 53 (where the C library asks).  names: name → (IPv4 addresses, IPv6
    addresses, seconds before the answer, or an Event that it waits for); a key "*.x" stands for every name that ends in ".x".
    asked: the names that came, in order."""

    def __init__(self, names):
        self.names, self.asked = names, []
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.address = "127.%d.%d.53" % (random.randint(1, 254), random.randint(1, 254))
        self.sock.bind((self.address, 53))
        self.answers = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            question, peer = self.sock.recvfrom(2048)
            if not question:
                return
            self.answers.append(threading.Thread(target=self._answer, args=(question, peer), daemon=True))
            self.answers[-1].start()

    def _answer(self, question, peer):
        at, labels = 12, []
        while question[at]:
            labels.append(question[at + 1:at + 1 + question[at]].decode())
            at += 1 + question[at]
        kind, = struct.unpack_from("!H", question, at + 1)
        name = ".".join(labels).lower()
        self.asked.append(name)
        known = self.names.get(name) or self.names.get("*." + name.partition(".")[2])
        v4, v6, delay = known or ([], [], 0)
        delay.wait() if isinstance(delay, threading.Event) else time.sleep(delay)
        found = ([socket.inet_pton(socket.AF_INET, a) for a in v4] if kind == 1 else
                 [socket.inet_pton(socket.AF_INET6, a) for a in v6] if kind == 28 else [])
        code = 0 if known else 3
        answer = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, len(found), 0, 0) + question[12:at + 5]
        for address in found:
            answer += struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(address)) + address
        try:
            self.sock.sendto(answer, peer)
        except OSError:
            pass

    def close(self):
        for _, _, delay in self.names.values():
            if isinstance(delay, threading.Event):
                delay.set()
        # Not before all threads have left: a descriptor closed under one may be another test's by the time it is used.
        self.sock.sendto(b"", (self.address, 53))
        for thread in (self.thread, *self.answers):
            thread.join()
        self.sock.close()
