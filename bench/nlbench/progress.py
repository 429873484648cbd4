"""One line on standard error that says how far the measuring is."""

import sys
import time


class Progress:
    """Steps of unequal length: each is announced with the seconds it is expected to take."""

    def __init__(self, total, stream=sys.stderr):
        self.total = total  # s expected in all
        self.done = 0.0
        self.started = time.monotonic()
        self.stream = stream
        self.live = stream.isatty()
        self.shown = ""

    def left(self):
        """Seconds still to go, from how the expectations have turned out so far."""
        took = time.monotonic() - self.started
        pace = took / self.done if self.done > 5 else 1.0
        return max(0.0, (self.total - self.done) * pace)

    def step(self, what, seconds, chapter):
        """Announces what comes next. Where lines cannot be overwritten, only each new chapter is told."""
        left = self.left()
        left = f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"
        share = f"[{100 * self.done / self.total if self.total else 0:3.0f} %]"
        if self.live:
            self.stream.write(f"\r\x1b[K{share} {what} · {left}")
        elif chapter != self.shown:
            self.stream.write(f"{share} {chapter} · {left}\n")
            self.shown = chapter
        self.stream.flush()
        self.done += seconds

    def say(self, text):
        """A line that stays."""
        self.stream.write(("\r\x1b[K" if self.live else "") + text + "\n")
        self.stream.flush()

    def end(self):
        if self.live:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
