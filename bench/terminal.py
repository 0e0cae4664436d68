"""Budgets of a terminal (R13.9) on a real pty of 160x48, attached to a real engine, beside a bare Textual app.

First paint counts from the start of the process until the figures are drawn; a key, from the press until the dialog it
opens is on the wire. Processor time is the terminal's own over the wall, bytes are those that a link would carry.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from bench import bare_app
from bench.table import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine_probe import DELTATUI, EngineProcess, Probe, engine_process, write_tape
from pty_terminal import PtyTerminal

from deltatui.domain.command import AnyCommand, Pause, Resume, SetSpeed

STARTS = 5
KEYS = 20
WATCHED_S = 4.0
SLOW, FAST = 3_600, 604_800
"""Market seconds per second: one record a second, and 168 (each with its lines in the log)."""
FIGURES = "$"
DOWN, UP = "\x1b[B", "\x1b[A"


@contextmanager
def _terminal(argv: list[str], env: dict[str, str], home: Path) -> Iterator[PtyTerminal]:
    terminal = PtyTerminal(argv, env, cwd=home)
    try:
        yield terminal
    finally:
        terminal.close()


def _first_paints(argv: list[str], env: dict[str, str], home: Path, marker: str) -> list[float]:
    took: list[float] = []
    for _ in range(STARTS):
        with _terminal(argv, env, home) as terminal:
            took.append(terminal.wait_for(marker))
    return took


def _until(terminal: PtyTerminal, pattern: str) -> float:
    began_s = time.perf_counter()
    while not re.search(pattern, terminal.text):
        if time.perf_counter() - began_s > 5:
            raise AssertionError(f"'{pattern}' was not drawn in 5 s")
        time.sleep(0.0005)
    return (time.perf_counter() - began_s) * 1e3


def _cursor_keys(terminal: PtyTerminal) -> list[float]:
    """Milliseconds from pressing down or up in the positions until the cursor stands in the other row."""
    took: list[float] = []
    for number in range(KEYS):
        key, row = (DOWN, "▸ +SOL +spot") if number % 2 == 0 else (UP, "▸ +SOL-PERP")
        terminal.forget()
        terminal.press(key)
        took.append(_until(terminal, row))
        time.sleep(0.13)
    return took


def _help_keys(terminal: PtyTerminal) -> list[float]:
    """Milliseconds from pressing ``?`` until the help, the largest dialog, is drawn."""
    took: list[float] = []
    for _ in range(KEYS // 2):
        terminal.forget()
        terminal.press("?")
        took.append(_until(terminal, "Close"))
        terminal.press("q")
        time.sleep(0.3)
    return took


def _bare_keys(terminal: PtyTerminal) -> list[float]:
    took: list[float] = []
    for number in range(1, KEYS + 1):
        terminal.forget()
        terminal.press("x")
        took.append(_until(terminal, rf"{bare_app.DRAWN}{number}\."))
        time.sleep(0.05)
    return took


class Use:
    """What a process and its pty used over a while."""

    def __init__(self, terminal: PtyTerminal, seconds: float) -> None:
        process = psutil.Process(terminal.pid)
        before, received, began_s = process.cpu_times(), terminal.received, time.perf_counter()
        time.sleep(seconds)
        after, took_s = process.cpu_times(), time.perf_counter() - began_s
        spent_s = after.user + after.system - before.user - before.system
        self.cpu_pct = max(0.0, spent_s) / took_s * 100
        self.bytes_per_s = (terminal.received - received) / took_s
        self.memory_mb = process.memory_info().rss / 2**20


def _tell(engine: EngineProcess, *commands: AnyCommand) -> None:
    async def send() -> None:
        client = await engine.client()
        for command in commands:
            await client.command(command)
        await client.close()

    asyncio.run(send())


async def _lines_per_s(engine: EngineProcess) -> float:
    from deltatui.api.protocol import LogBatch

    client = await engine.client()
    lines = 0
    began_s = time.perf_counter()

    async def count() -> None:
        nonlocal lines
        async for message in client:
            if isinstance(message, LogBatch) and not message.backlog:
                lines += len(message.lines) + message.dropped

    counting = asyncio.create_task(count())
    await asyncio.sleep(2.0)
    took_s = time.perf_counter() - began_s
    await client.close()
    await counting
    return lines / took_s


def _hang_up(terminal: PtyTerminal) -> float:
    began_s = terminal.hang_up()
    try:
        terminal.wait(10)
    except subprocess.TimeoutExpired:
        return float("inf")
    return time.perf_counter() - began_s


def _pair(values: list[float]) -> tuple[float, float]:
    return statistics.median(values), statistics.quantiles(values, n=20)[18]


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        home = Path(folder)
        with engine_process(home, write_tape(home / "tape.csv"), SLOW) as engine:
            return _measure(engine, home)


def _measure(engine: EngineProcess, home: Path) -> list[Row]:
    _tell(engine)
    argv = [*DELTATUI, "attach"]
    bare_argv = [sys.executable, bare_app.__file__]
    paint = _first_paints(argv, engine.env, home, FIGURES)
    bare_paint = _first_paints(bare_argv, engine.env, home, bare_app.READY)
    with _terminal(bare_argv, engine.env, home) as bare:
        bare.wait_for(bare_app.READY)
        time.sleep(0.3)
        bare_keys = _pair(_bare_keys(bare))
        bare_use = Use(bare, 2.0)
    with _terminal(argv, engine.env, home) as terminal:
        terminal.wait_for(FIGURES)
        time.sleep(1.0)
        slow = Use(terminal, WATCHED_S)
        slow_keys, help_keys = _pair(_cursor_keys(terminal)), _pair(_help_keys(terminal))
        _tell(engine, SetSpeed(speed=FAST))
        time.sleep(1.0)
        fast = Use(terminal, WATCHED_S)
        lines_per_s = asyncio.run(_lines_per_s(engine))
        fast_keys = _pair(_cursor_keys(terminal))
        lag = asyncio.run(_lag(engine))
        _tell(engine, Pause())
        time.sleep(1.0)
        idle = Use(terminal, WATCHED_S)
        _tell(engine, Resume())
        exits = [_hang_up(terminal)]
    for _ in range(2):
        with _terminal(argv, engine.env, home) as terminal:
            terminal.wait_for(FIGURES)
            time.sleep(0.5)
            exits.append(_hang_up(terminal))
    engine_mb = psutil.Process(engine.pid).memory_info().rss / 2**20
    bare_key = f"bare app: p50 {bare_keys[0]:.0f}, p95 {bare_keys[1]:.0f} ms"
    fast_load = f"x{FAST}, {lines_per_s:.0f} log lines/s"
    return [
        Row(
            "terminal, first paint, median",
            statistics.median(paint),
            "s",
            target=0.8,
            beside=f"best {min(paint):.2f}; bare app: {statistics.median(bare_paint):.2f}, {min(bare_paint):.2f} s",
        ),
        Row(f"terminal, key to paint at x{SLOW}, p50", slow_keys[0], "ms", target=20, beside=bare_key),
        Row(f"terminal, key to paint at x{SLOW}, p95", slow_keys[1], "ms", target=50),
        Row("terminal, key to the help dialog, p50", help_keys[0], "ms", beside=f"p95 {help_keys[1]:.0f} ms"),
        Row(f"terminal, key to paint at {fast_load}, p50", fast_keys[0], "ms", target=20),
        Row(f"terminal, key to paint at {fast_load}, p95", fast_keys[1], "ms", target=50),
        Row(
            f"terminal, CPU at x{SLOW}",
            slow.cpu_pct,
            "%",
            target=12,
            beside=f"bare app, still: {bare_use.cpu_pct:.1f} %",
        ),
        Row(f"terminal, CPU at {fast_load}", fast.cpu_pct, "%"),
        Row("terminal, CPU while paused", idle.cpu_pct, "%", target=1),
        Row(f"terminal, output at x{SLOW}", slow.bytes_per_s / 1e3, "kB/s", target=150),
        Row(f"terminal, output at {fast_load}", fast.bytes_per_s / 1e3, "kB/s"),
        Row("terminal, memory", fast.memory_mb, "MB", target=80, beside=f"bare app: {bare_use.memory_mb:.0f} MB"),
        Row("engine, memory with this tape of 40,000 records", engine_mb, "MB", target=100),
        Row(f"engine, loop lag at x{FAST}, p99", lag, "ms", target=20),
        Row(
            "terminal, exit on a cut line, worst",
            max(exits),
            "s",
            target=1.0,
            beside=", ".join(f"{took:.2f}" for took in exits) + " s",
        ),
    ]


async def _lag(engine: EngineProcess) -> float:
    probe = await Probe.attach(engine)
    lag = await probe.measure(2.0)
    await probe.close()
    return lag.p99_ms
