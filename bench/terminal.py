"""Budgets of a terminal (R13.9): the product's, on a real pty of 160x48, attached to a real engine under the loads that
the budgets name, beside a bare Textual app.

First paint counts from the start of the process until the figures are drawn. A key counts from the press until what it
does has arrived: a cursor that stands in the other row. Processor time is the terminal's own over the wall, bytes are
those that a link would carry. What was reached of each load is measured in the same seconds, and printed first.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

from bench import bare_app, watched_terminal
from bench.load import LoadedEngine, loaded, rows
from bench.loaded_engine import PRODUCT_PRICES_PER_S, Load
from bench.table import Row

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from engine_probe import DELTATUI, run_queue_s
from pty_terminal import LEAVES_SCREEN, SHOWS_CURSOR, PtyTerminal

from deltatui.domain.command import Pause, Resume, SetSpeed

LIVE = Load(prices_per_s=200, lines_per_s=5)
BUSY = Load(prices_per_s=200, lines_per_s=1_000)
REPLAY = Load(prices_per_s=PRODUCT_PRICES_PER_S)
LIVE_NAME, BUSY_NAME = "200 prices/s, 5 lines/s", "200 prices/s, 1,000 lines/s"
SPEED, FASTEST = 3_600, 604_800
"""Market seconds per second: a funding record each second, so that the charts move too; and 168 of them."""
STARTS = 5
KEYS = 100
HELP_KEYS = 8
WATCHED_S = 5.0
LAG_S = 3.0
EXITS = 3
SETTLE_S, REST_S = 1.0, 3.0
"""Until a load has come to bear; until what was on its way has been drawn (charts follow after two seconds)."""
TERMINAL_TICK_S = 0.25
FIGURES = "$"
DOWN, UP = "\x1b[B", "\x1b[A"
FOCUS_OUT, FOCUS_IN = "\x1b[O", "\x1b[I"
ATTACH = (*DELTATUI, "attach")
BARE = (sys.executable, bare_app.__file__)


@contextmanager
def _terminal(
    argv: Sequence[str], engine: LoadedEngine, marker: str = FIGURES, env: Mapping[str, str] | None = None
) -> Iterator[tuple[PtyTerminal, float]]:
    """A terminal that has drawn ``marker``, and the seconds until it had."""
    terminal = PtyTerminal(argv, {**engine.env, **(env or {})}, cwd=engine.home)
    try:
        yield terminal, terminal.wait_for(marker)
    finally:
        terminal.close()


def _first_paints(argv: Sequence[str], engine: LoadedEngine, marker: str) -> list[float]:
    took: list[float] = []
    for _ in range(STARTS):
        with _terminal(argv, engine, marker) as (_, painted_s):
            took.append(painted_s)
    return took


class Key(NamedTuple):
    """Milliseconds until a key had done its work, and how long of that the terminal waited for a processor."""

    ms: float
    waited_ms: float


def _key(terminal: PtyTerminal, key: str, pattern: str) -> Key:
    terminal.forget()
    waited_s = run_queue_s(terminal.pid)
    pressed_s = terminal.press(key)
    drawn_s = terminal.drawn_s(pattern)
    return Key((drawn_s - pressed_s) * 1e3, (run_queue_s(terminal.pid) - waited_s) * 1e3)


def _apart(number: int) -> None:
    """Wait so that the presses fall on every phase of the terminal's tick alike (golden ratio)."""
    time.sleep(0.06 + TERMINAL_TICK_S * (number * 0.6180339887 % 1))


def _cursor_keys(terminal: PtyTerminal) -> list[Key]:
    """Down or up in the positions, until the cursor stands in the other row."""
    took: list[Key] = []
    for number in range(KEYS):
        key, row = (DOWN, "▸ +SOL +spot") if number % 2 == 0 else (UP, "▸ +SOL-PERP")
        took.append(_key(terminal, key, row))
        _apart(number)
    return took


def _help_keys(terminal: PtyTerminal) -> list[float]:
    """Milliseconds from ``?`` until the help, the largest dialog, is drawn."""
    took: list[float] = []
    for number in range(HELP_KEYS):
        took.append(_key(terminal, "?", "Close").ms)
        terminal.press("q")
        time.sleep(0.2)
        _apart(number)
    return took


def _bare_keys(terminal: PtyTerminal) -> list[float]:
    took: list[float] = []
    for number in range(1, KEYS + 1):
        took.append(_key(terminal, "x", rf"{bare_app.DRAWN}{number}\.").ms)
        time.sleep(0.02)
    return took


class Use:
    """What a process and its pty used over a while. ``ssh_c_per_s``: bytes that ``ssh -C`` would send."""

    def __init__(self, terminal: PtyTerminal, seconds: float) -> None:
        process = psutil.Process(terminal.pid)
        terminal.forget()
        before, received, began_s = process.cpu_times(), terminal.received, time.perf_counter()
        time.sleep(seconds)
        after, took_s = process.cpu_times(), time.perf_counter() - began_s
        spent_s = after.user + after.system - before.user - before.system
        self.cpu_pct = max(0.0, spent_s) / took_s * 100
        self.bytes_per_s = (terminal.received - received) / took_s
        packer = zlib.compressobj(6)
        packed = (packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in terminal.pieces)
        self.ssh_c_per_s = sum(map(len, packed)) / took_s
        self.memory_mb = process.memory_info().rss / 2**20


def _exit_s(terminal: PtyTerminal, end: Callable[[PtyTerminal], float]) -> float:
    """Seconds until it has ended; infinite if it has not after ten, or has left the tty as no shell can use it."""
    began_s = end(terminal)
    try:
        terminal.wait(10)
    except subprocess.TimeoutExpired:
        return float("inf")
    took_s = time.perf_counter() - began_s
    return took_s if end is PtyTerminal.hang_up or _restored(terminal) else float("inf")


def _restored(terminal: PtyTerminal) -> bool:
    for _ in range(100):
        tail = terminal.output[-400:]
        if LEAVES_SCREEN in tail and SHOWS_CURSOR in tail:
            return bool(terminal.settings == terminal.before)
        time.sleep(0.01)
    return False


def _signalled(number: signal.Signals) -> Callable[[PtyTerminal], float]:
    def end(terminal: PtyTerminal) -> float:
        began_s = time.perf_counter()
        terminal.signal(number)
        return began_s

    return end


ENDS: dict[str, Callable[[PtyTerminal], float]] = {
    "SIGHUP": _signalled(signal.SIGHUP),
    "SIGTERM": _signalled(signal.SIGTERM),
    "a cut line": PtyTerminal.hang_up,
}


def _p50(values: list[float]) -> float:
    return statistics.median(values)


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[18]


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder, loaded(Path(folder), FASTEST) as engine:
        # Fast until it trades: it wants to know a market for some time first.
        engine.until(lambda snapshot: len(snapshot.positions) == 2)
        engine.tell(SetSpeed(speed=SPEED))
        engine.put(LIVE)
        measured = [*_paint(engine), *_loads(engine), *_lag(engine), *_exits(engine)]
        last = engine.until(lambda snapshot: True)
        assert last.clock.tape is not None
        assert not last.clock.tape.ended
        assert len(last.positions) == 2
        memory_mb = psutil.Process(engine.pid).memory_info().rss / 2**20
        tape = f"its tape: {last.clock.tape.records:,} records"
        return [*measured, Row("engine, memory after all of it", memory_mb, "MB", limit=80, beside=tape)]


def _paint(engine: LoadedEngine) -> list[Row]:
    paint = _first_paints(ATTACH, engine, FIGURES)
    bare = _first_paints(BARE, engine, bare_app.READY)
    beside = f"best {min(paint):.2f}; bare app: {_p50(bare):.2f}, {min(bare):.2f} s"
    return [Row(f"{LIVE_NAME}: terminal, first paint, median", _p50(paint), "s", target=0.8, beside=beside)]


def _loads(engine: LoadedEngine) -> list[Row]:
    with _terminal(BARE, engine, bare_app.READY) as (bare, _):
        time.sleep(0.3)
        bare_keys, bare_use = _bare_keys(bare), Use(bare, 2.0)
    with _terminal(ATTACH, engine) as (terminal, _):
        with engine.under(LIVE) as live:
            time.sleep(SETTLE_S)
            live_use, live_keys, help_keys = Use(terminal, WATCHED_S), _cursor_keys(terminal), _help_keys(terminal)
        with engine.under(BUSY) as busy:
            time.sleep(SETTLE_S)
            busy_use, busy_keys = Use(terminal, WATCHED_S), _cursor_keys(terminal)
        engine.tell(SetSpeed(speed=FASTEST))
        with engine.under(REPLAY) as replay:
            time.sleep(SETTLE_S)
            replay_use = Use(terminal, WATCHED_S)
        replay_lag = engine.lag(2.0)
        engine.tell(SetSpeed(speed=SPEED), Pause())
        time.sleep(REST_S)
        idle = Use(terminal, WATCHED_S)
        terminal.press(FOCUS_OUT)
        time.sleep(SETTLE_S)
        away = Use(terminal, WATCHED_S)
        terminal.press(FOCUS_IN)
        engine.tell(Resume())
    still = f"bare app, still: {bare_use.cpu_pct:.1f} %"
    fastest = f"x{FASTEST}, {replay[0].lines:,.0f} log lines/s"
    return [
        *rows(LIVE, live[0], LIVE_NAME),
        *_keys(LIVE_NAME, live_keys, bare_keys),
        Row(
            f"{LIVE_NAME}: key to the help dialog, p50",
            _p50(help_keys),
            "ms",
            beside=f"worst {max(help_keys):.0f} ms of {len(help_keys)}",
        ),
        Row(f"{LIVE_NAME}: terminal, CPU", live_use.cpu_pct, "%", target=12, beside=still),
        _output(LIVE_NAME, live_use, 150),
        *rows(BUSY, busy[0], BUSY_NAME),
        *_keys(BUSY_NAME, busy_keys, bare_keys),
        Row(f"{BUSY_NAME}: terminal, CPU", busy_use.cpu_pct, "%", target=20),
        _output(BUSY_NAME, busy_use, None),
        Row(f"{fastest}: terminal, CPU", replay_use.cpu_pct, "%"),
        Row(f"{fastest}: engine, loop lag, p99", replay_lag.p99_ms, "ms", target=20),
        Row(
            "terminal, CPU while paused",
            idle.cpu_pct,
            "%",
            target=1,
            beside=f"{idle.bytes_per_s:,.0f} bytes/s; {still}",
        ),
        Row("terminal, CPU while paused, out of focus", away.cpu_pct, "%", target=1),
        Row(
            "terminal, memory after all of it",
            away.memory_mb,
            "MB",
            target=80,
            beside=f"bare app: {bare_use.memory_mb:.0f} MB",
        ),
    ]


def _keys(name: str, keys: list[Key], bare: list[float]) -> list[Row]:
    took = [key.ms for key in keys]
    own = _p95([key.ms - key.waited_ms for key in keys])
    still = f"bare app, still: p50 {_p50(bare):.1f}, p95 {_p95(bare):.1f} ms"
    beside = f"worst {max(took):.0f} ms of {len(took)}; p95 {own:.1f} ms without its waits for a processor"
    return [
        Row(f"{name}: key to paint, p50", _p50(took), "ms", target=20, beside=still),
        Row(f"{name}: key to paint, p95", _p95(took), "ms", target=50, beside=beside),
    ]


def _output(name: str, use: Use, target: float | None) -> Row:
    beside = f"as ssh -C sends it: {use.ssh_c_per_s / 1e3:.1f} kB/s"
    return Row(f"{name}: terminal, output", use.bytes_per_s / 1e3, "kB/s", target=target, beside=beside)


def _lag(engine: LoadedEngine) -> list[Row]:
    """By how much the loops are late: the engine's by what a ping takes, the terminal's by its own timer."""
    file = engine.home / "lag.txt"
    spans: list[tuple[float, float]] = []
    measured: list[Row] = []
    env = {watched_terminal.LAG_FILE: str(file)}
    with _terminal((sys.executable, watched_terminal.__file__, "attach"), engine, env=env) as (terminal, _):
        for name, load in ((LIVE_NAME, LIVE), (BUSY_NAME, BUSY)):
            engine.put(load)
            time.sleep(SETTLE_S)
            began_s = time.perf_counter()
            time.sleep(LAG_S)
            spans.append((began_s, time.perf_counter()))
            lag = engine.lag(2.0)
            worst = f"worst {lag.worst_ms:.1f} ms"
            measured.append(Row(f"{name}: engine, loop lag, p99", lag.p99_ms, "ms", target=20, beside=worst))
        terminal.signal(signal.SIGTERM)
        terminal.wait(10)
    engine.put(LIVE)
    for name, (began_s, ended_s) in zip((LIVE_NAME, BUSY_NAME), spans, strict=True):
        late = [ms for at_s, ms in watched_terminal.read(file) if began_s <= at_s < ended_s]
        beside = f"worst {max(late):.0f} ms of {len(late)}"
        p99 = statistics.quantiles(late, n=100)[98]
        measured.append(Row(f"{name}: terminal, loop lag, p99", p99, "ms", target=20, beside=beside))
    return measured


def _exits(engine: LoadedEngine) -> list[Row]:
    measured: list[Row] = []
    for name, end in ENDS.items():
        took: list[float] = []
        for _ in range(EXITS):
            with _terminal(ATTACH, engine) as (terminal, _):
                time.sleep(0.3)
                took.append(_exit_s(terminal, end))
        each = ", ".join(f"{each:.2f}" for each in took) + " s"
        measured.append(Row(f"{LIVE_NAME}: terminal, exit on {name}, worst", max(took), "s", target=1, beside=each))
    return measured
