"""What the widgets cost on a 160x48 terminal. No test: ``python tests/tui/widget_timing.py`` prints a table.

Each case runs in a child on a pseudo terminal that is drained all the time. CPU is the child's own over the loaded
seconds, kB/s is what the terminal received, lag how late a 5 ms sleep woke up.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import os
import pty
import random
import resource
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

from textual.app import App, ComposeResult
from textual.widget import Widget

from deltatui.tui import fmt
from deltatui.tui.widgets.chart import BrailleChart, Series
from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row
from deltatui.tui.widgets.logview import LogRecord, LogView

SECONDS = 6.0
CASES = (
    ("grid", 10, 60),
    ("grid", 100, 60),
    ("grid", 1000, 60),
    ("grid", 100, 4),
    ("grid", 0, 4),
    ("log", 1000, 4),
    ("log", 1000, 10),
    ("log-wrap", 1000, 4),
    ("log-filter", 1000, 4),
    ("chart200", 1, 1),
    ("chart2000", 1, 1),
)
COLUMNS = 10


def make(mode: str) -> tuple[Widget, Callable[[int], None]]:
    """The widget, and what hands it a number of updates."""
    chance = random.Random(1)
    if mode == "grid":
        columns = [Column(str(c), f"C{c}", 13, "right") for c in range(COLUMNS)]
        values = [[chance.random() * 1000 for _ in range(COLUMNS)] for _ in range(45)]
        grid = LiveGrid(columns)

        def rows() -> list[Row]:
            return [
                Row(
                    f"row{r}",
                    {str(c): Cell(fmt.number(v, 4), "good" if v > 500 else "bad") for c, v in enumerate(row)},
                    {str(c): v for c, v in enumerate(row)},
                )
                for r, row in enumerate(values)
            ]

        def update(count: int) -> None:
            for _ in range(count):
                values[chance.randrange(45)][chance.randrange(1, COLUMNS)] = chance.random() * 1000
            grid.set_rows(rows())
            grid.tick()

        return grid, update
    if mode.startswith("log"):
        log = LogView()
        log.append_many(LogRecord(n, "INFO", "SAFETY", f"backlog {n}", "07:00:00") for n in range(10_000))

        def append(count: int) -> None:
            log.append_many(
                LogRecord(
                    n,
                    chance.choice(("INFO", "WARNING", "ERROR")),
                    "REBALANCER",
                    f"msg={n} px={chance.random():.6f} side=short size=1.25 market=SOL-PERP delta within 1.0 %"
                    + " and a tail that makes it long" * chance.randrange(4),
                    "07:00:00",
                )
                for n in range(count)
            )

        return log, append
    chart = BrailleChart()
    points = int(mode.removeprefix("chart"))

    def redraw(_: int) -> None:
        start = chance.random() * 100
        chart.set_series([Series("apr", [20 * math.sin((start + n) / 9) + chance.random() for n in range(points)])])

    return chart, redraw


class Load(App[None]):
    CSS = "Screen > * { height: 1fr; }"

    def __init__(self, mode: str, rate: int, hertz: int, out: Path) -> None:
        super().__init__()
        self.mode, self.rate, self.hertz, self.out = mode, rate, hertz, out

    def compose(self) -> ComposeResult:
        self.target, self.update = make(self.mode)
        yield self.target

    def on_mount(self) -> None:
        self.target.focus()
        if isinstance(self.target, LogView):
            self.target.set_wrap(self.mode == "log-wrap")
            self.target.set_filter("5" if self.mode == "log-filter" else "")
        self.run_worker(self.load())

    async def load(self) -> None:
        await asyncio.sleep(1.0)
        lags: list[float] = []
        running = True

        async def probe() -> None:
            while running:
                begin = time.perf_counter()
                await asyncio.sleep(0.005)
                lags.append((time.perf_counter() - begin - 0.005) * 1e3)

        watching = asyncio.create_task(probe())
        used = _cpu()
        begin, done, ticks = time.perf_counter(), 0, 0
        while (now := time.perf_counter()) - begin < SECONDS:
            due = int((now - begin) * self.rate)
            self.update(due - done)
            done, ticks = due, ticks + 1
            await asyncio.sleep(max(0.0, begin + ticks / self.hertz - time.perf_counter()))
        seconds = time.perf_counter() - begin
        cpu = (_cpu() - used) / seconds * 100
        running = False
        await watching
        lags.sort()
        self.out.write_text(
            json.dumps(
                {
                    "cpu": cpu,
                    "p95": lags[int(len(lags) * 0.95)],
                    "max": lags[-1],
                    "seconds": seconds,
                    "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                }
            )
        )
        self.exit()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_case(mode: str, rate: int, hertz: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "result.json")
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8")
            os.execv(sys.executable, [sys.executable, __file__, mode, str(rate), str(hertz), str(out)])  # noqa: S606
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 48, 160, 0, 0))
        received, begin = 0, time.monotonic()
        while time.monotonic() - begin < SECONDS + 20:
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    data = os.read(terminal, 1 << 16)
                except OSError:
                    break
                received += len(data)
        os.waitpid(pid, 0)
        os.close(terminal)
        if not out.exists():
            raise SystemExit(f"{mode} did not finish")
        result = json.loads(out.read_text())
    return (
        f"{mode:<10} {rate:>5}/s in {hertz:>2} Hz  cpu {result['cpu']:5.1f} %  lag p95 {result['p95']:5.1f} max "
        f"{result['max']:5.1f} ms  {received / result['seconds'] / 1000:6.0f} kB/s  rss {result['rss']:.0f} MB"
    )


def main() -> None:
    if len(sys.argv) == 5:
        Load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])).run()
        return
    for case in CASES:
        sys.stdout.write(run_case(*case) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
