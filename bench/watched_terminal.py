"""``python watched_terminal.py attach``: the product's terminal with a watch on its event loop, written to a file.

Every 5 ms it is noted by how much the loop was late. The file, named by BENCH_LAG_FILE, is written at the end: a line
for each look, with when it was (``time.perf_counter``), how late in ms, and how long of that the process waited for a
processor.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

LAG_FILE = "BENCH_LAG_FILE"
EVERY_S = 0.005


class Watch:
    """On one loop, as long as it runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        from engine_probe import run_queue_s

        self._loop = loop
        self._run_queue_s = run_queue_s
        self.seen: list[tuple[float, float, float]] = []
        loop.call_soon(self._wait)

    def _wait(self) -> None:
        self._loop.call_later(EVERY_S, self._look, time.perf_counter(), self._run_queue_s(os.getpid()))

    def _look(self, since_s: float, queued_s: float) -> None:
        now_s = time.perf_counter()
        waited_ms = (self._run_queue_s(os.getpid()) - queued_s) * 1e3
        self.seen.append((now_s, (now_s - since_s - EVERY_S) * 1e3, waited_ms))
        self._wait()


class WatchedPolicy(asyncio.DefaultEventLoopPolicy):
    watches: list[Watch]

    def __init__(self) -> None:
        super().__init__()
        self.watches = []

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        self.watches.append(Watch(loop))
        return loop


def read(file: Path) -> list[tuple[float, float]]:
    """(when, milliseconds late without the wait for a processor, which is the machine's)."""
    looks = [[float(word) for word in line.split()] for line in file.read_text().splitlines()]
    return [(at_s, max(0.0, late_ms - waited_ms)) for at_s, late_ms, waited_ms in looks]


def write(policy: WatchedPolicy) -> None:
    looks = (look for watch in policy.watches for look in watch.seen)
    text = "".join(f"{at_s:.6f} {late_ms:.3f} {waited_ms:.3f}\n" for at_s, late_ms, waited_ms in looks)
    Path(os.environ[LAG_FILE]).write_text(text)


if __name__ == "__main__":
    from deltatui.cli import main

    policy = WatchedPolicy()
    asyncio.set_event_loop_policy(policy)
    atexit.register(write, policy)
    main()
