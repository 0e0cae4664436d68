"""A real terminal: a program on a pty of its own, which the test may read, stall, hang up or kill."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

# Makes the pty the controlling terminal, so that closing it hangs the program up.
_SHIM = """\
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
if sys.argv[1] == "nohup":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execvp(sys.argv[2], sys.argv[2:])
"""

_ESCAPES = re.compile(
    rb"\x1b\[[0-9;:?<>=$! ]*[A-Za-z@`~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b[()][A-Z0-9]|\x1bP[^\x1b]*\x1b\\|\x1b[=>78M]"
)

SYNC_QUERY, SYNC_ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
LEAVES_SCREEN, SHOWS_CURSOR = b"\x1b[?1049l", b"\x1b[?25h"

_KEPT_BYTES = 4_000_000


def plain(output: bytes) -> str:
    """Without escapes, in the order in which it was drawn."""
    return _ESCAPES.sub(b" ", output).decode(errors="replace")


class PtyTerminal:
    """Runs ``argv`` and reads what it draws in a thread of its own, unless it is stalled."""

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        columns: int = 160,
        rows: int = 48,
        cwd: os.PathLike[str] | str | None = None,
        ignores_hangup: bool = False,
    ) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self._slave)
        self.received = 0
        self.first_byte_s: float | None = None
        self._output = bytearray()
        self._cut = 0
        self._arrivals: list[tuple[float, int]] = []
        self._lock = threading.Condition()
        self._reading = threading.Event()
        self._reading.set()
        self._over = False
        own = {name: value for name, value in env.items() if name not in ("COLUMNS", "LINES", "TMUX", "NO_COLOR")}
        own.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", LC_ALL="C.UTF-8")
        self.started_s = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _SHIM, "nohup" if ignores_hangup else "", *argv],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=own,
            cwd=cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="pty reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> bytes:
        with self._lock:
            return bytes(self._output)

    @property
    def text(self) -> str:
        """What was drawn, without escapes, in the order in which it was."""
        return plain(self.output)

    @property
    def settings(self) -> list[Any]:
        """Of the tty now; equal to ``before`` once the program has put them back."""
        return termios.tcgetattr(self._slave)

    @property
    def pieces(self) -> list[bytes]:
        """What was drawn, as it arrived."""
        with self._lock:
            output, ends = bytes(self._output), [end - self._cut for _, end in self._arrivals]
        return [output[start:end] for start, end in pairwise([0, *ends])]

    def forget(self) -> None:
        """Drop what was drawn so far."""
        with self._lock:
            self._drop(len(self._output))

    def press(self, keys: str) -> float:
        """Returns when, on ``perf_counter``."""
        pressed_s = time.perf_counter()
        os.write(self._master, keys.encode())
        return pressed_s

    def drawn_s(self, pattern: str, timeout_s: float = 5.0) -> float:
        """When, on ``perf_counter``, the bytes came with which ``pattern`` stands in the text since :meth:`forget`.
        AssertionError if they do not in time."""
        end_s = time.perf_counter() + timeout_s
        looked_at = 0
        while True:
            with self._lock:
                while not (fresh := self._arrivals[looked_at:]):
                    if not self._lock.wait(end_s - time.perf_counter()):
                        raise AssertionError(f"'{pattern}' was not drawn in {timeout_s:g} s: {self.text[-2000:]}")
                output, cut = bytes(self._output), self._cut
            for arrived_s, end in fresh:
                if re.search(pattern, plain(output[: end - cut])):
                    return arrived_s
            looked_at += len(fresh)

    def wait_for(self, text: str, timeout_s: float = 20.0) -> float:
        """Seconds from the start until ``text`` has been drawn. AssertionError if it is not in time."""
        end_s = time.perf_counter() + timeout_s
        while time.perf_counter() < end_s:
            gone = self.process.poll() is not None
            if text in self.text:
                return time.perf_counter() - self.started_s
            if gone:
                raise AssertionError(f"it ended before it drew '{text}'; the end was: {self.text[-2000:]}")
            time.sleep(0.003)
        raise AssertionError(f"'{text}' was not drawn within {timeout_s:g} s; the end was: {self.text[-2000:]}")

    def stall(self) -> None:
        """Read nothing any more."""
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    @property
    def backlog(self) -> int:
        """Bytes that were drawn and wait to be read."""
        raw = fcntl.ioctl(self._master, termios.FIONREAD, b"\0" * 4)
        return int(struct.unpack("i", raw)[0])

    def hang_up(self) -> float:
        """The line is cut: whoever has this terminal gets SIGHUP and end of file. Returns when, on ``perf_counter``."""
        self._end_reader()
        os.close(self._slave)
        os.close(self._master)
        self._master = self._slave = -1
        return time.perf_counter()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Its exit code. subprocess.TimeoutExpired if it lives on."""
        return self.process.wait(timeout_s)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
        if self._master >= 0:
            self.hang_up()

    def _end_reader(self) -> None:
        self._over = True
        self._reading.set()
        self._reader.join(5)

    def _drop(self, count: int) -> None:
        """Forget so many of the oldest bytes that are kept."""
        del self._output[:count]
        self._cut += count
        self._arrivals = [(at_s, end) for at_s, end in self._arrivals if end > self._cut]

    def _read(self) -> None:
        while not self._over:
            self._reading.wait()
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if not ready or not self._reading.is_set():
                continue
            try:
                data = os.read(self._master, 65_536)
            except OSError:
                return
            if not data:
                return
            with self._lock:
                if self.first_byte_s is None:
                    self.first_byte_s = time.perf_counter()
                self.received += len(data)
                self._output += data
                self._arrivals.append((time.perf_counter(), self.received))
                if len(self._output) > _KEPT_BYTES:
                    self._drop(_KEPT_BYTES // 2)
                self._lock.notify_all()
            if SYNC_QUERY in data:
                os.write(self._master, SYNC_ANSWER)
