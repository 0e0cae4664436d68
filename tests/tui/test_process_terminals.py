"""R13.8: terminals that are stopped, killed, cut off or not read never disturb a real engine. R13.9: how one ends.

Real processes on real ptys. `make soak` repeats it with a minute for each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_probe import (
    BLOCKED_MS,
    DISTURBANCES,
    EngineProcess,
    Probe,
    attach,
    disturb,
    engine_process,
    undisturbed,
    write_tape,
)
from pty_terminal import LEAVES_SCREEN, SHOWS_CURSOR, PtyTerminal

from deltatui.domain.command import Pause, Resume
from deltatui.domain.snapshot import Snapshot

pytestmark = [pytest.mark.slow, pytest.mark.serial]

MOST_MS = 20.0
EXIT_S = 1.0
TRIES = 3


@pytest.fixture(scope="module")
def engine() -> Iterator[EngineProcess]:
    # Not tmp_path: the path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="dtui-") as home:
        tape = write_tape(Path(home) / "tape.csv")
        with engine_process(Path(home), tape) as running:
            asyncio.run(_ready(running))
            yield running
            assert running.process.poll() is None, running.output()


async def _ready(engine: EngineProcess) -> None:
    """Return when it answers and holds its position."""
    probe = await Probe.attach(engine)
    await probe.until(lambda snapshot: bool(snapshot.positions))
    await probe.close()


@pytest.fixture
def terminals(engine: EngineProcess) -> Iterator[list[PtyTerminal]]:
    opened: list[PtyTerminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


async def assert_a_new_terminal_shows_the_same(probe: Probe, before: Snapshot) -> None:
    """The engine is the one it was, has gone on, and a terminal that comes now draws what it holds."""
    assert (await probe.client.command(Pause())).success
    now = await probe.until(lambda snapshot: snapshot.engine.state == "PAUSED")
    assert now.engine.pid == before.engine.pid == probe.engine.pid
    assert now.version > before.version
    assert before.clock.market_s is not None
    assert now.clock.market_s is not None
    assert now.clock.market_s > before.clock.market_s
    assert [(held.market, held.size) for held in now.positions] == [("SOL-PERP", -10.0), ("SOL", 10.0)]
    assert now.account.equity is not None
    terminal = await asyncio.to_thread(attach, probe.engine)
    try:
        for text in (f"${now.account.equity:,.2f}", "-10.000", "+10.000", "PAUSED", "REPLAY"):
            await asyncio.to_thread(terminal.wait_for, text)
    finally:
        await asyncio.to_thread(terminal.close)
        assert (await probe.client.command(Resume())).success


async def check(engine: EngineProcess, how: str, seconds: float) -> str:
    probe = await Probe.attach(engine)
    try:
        before = await probe.until(lambda snapshot: snapshot.engine.state == "RUNNING" and bool(snapshot.positions))
        quiet, seen = await undisturbed(probe, how, seconds, most_ms=MOST_MS, tries=TRIES)
        story = "\n".join(f"  beside a healthy one: {base}\n  {how}: {lag}" for base, lag in seen)
        assert quiet, f"the engine's loop was moved in every try:\n{story}"
        baseline, lag = seen[-1]
        assert lag.market_s / lag.seconds > 0.5 * baseline.market_s / baseline.seconds
        assert lag.gap_worst_ms < 1000
        await assert_a_new_terminal_shows_the_same(probe, before)
    finally:
        await probe.close()
    return story


@pytest.mark.parametrize("how", DISTURBANCES)
async def test_a_terminal_does_not_move_the_engine(engine: EngineProcess, how: str) -> None:
    await check(engine, how, 2.0)


@pytest.mark.soak
@pytest.mark.parametrize("how", DISTURBANCES)
async def test_a_terminal_does_not_move_the_engine_for_a_minute(how: str) -> None:
    with tempfile.TemporaryDirectory(prefix="dtui-") as home:
        tape = write_tape(Path(home) / "tape.csv")
        with engine_process(Path(home), tape) as engine:
            await _ready(engine)
            print(f"\n{how} for 60 s\n{await check(engine, how, 60.0)}")  # noqa: T201  what make soak shows


async def test_a_block_of_the_engine_is_seen(engine: EngineProcess) -> None:
    """The measure itself: an engine that stands for 150 ms fails it."""
    probe = await Probe.attach(engine)
    baseline = await probe.measure(1.0)
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, os.kill, engine.pid, signal.SIGSTOP)
    loop.call_later(0.45, os.kill, engine.pid, signal.SIGCONT)
    lag = await probe.measure(1.0)
    await probe.close()
    assert lag.worst_ms >= BLOCKED_MS
    assert lag.beyond(baseline) > MOST_MS


async def test_the_engine_forgets_a_terminal_that_is_gone(engine: EngineProcess) -> None:
    probe = await Probe.attach(engine)
    await disturb(probe, "killed", 0.2)
    await probe.until(lambda snapshot: snapshot.engine.clients == 1)
    await probe.close()


def ends_in_time(engine: EngineProcess, terminals: list[PtyTerminal], end: str) -> tuple[PtyTerminal, int]:
    """A terminal that has ended within a second of ``end``, with its exit code; the machine has three chances."""
    took: list[float] = []
    for _ in range(TRIES):
        terminal = attach(engine)
        terminals.append(terminal)
        if end == "stalled SIGTERM":
            terminal.stall()
            _stuck(terminal)
        began_s = time.perf_counter()
        if end == "hang up":
            began_s = terminal.hang_up()
        else:
            terminal.signal(signal.Signals[end.split()[-1]])
        code = terminal.wait(10)
        took.append(time.perf_counter() - began_s)
        if took[-1] <= EXIT_S:
            return terminal, code
    raise AssertionError(f"{end}: it ended after {took} s, the limit is {EXIT_S:g} s")


def _stuck(terminal: PtyTerminal) -> None:
    """Wait until the pty is full."""
    for _ in range(500):
        if terminal.backlog > 1000:
            return
        time.sleep(0.01)
    raise AssertionError("the terminal draws too little to be stalled")


@pytest.mark.parametrize("end", ["SIGHUP", "SIGTERM"])
def test_a_signal_ends_a_terminal_and_restores_the_tty(
    engine: EngineProcess, terminals: list[PtyTerminal], end: str
) -> None:
    terminal, code = ends_in_time(engine, terminals, end)
    assert code == 128 + signal.Signals[end]
    for _ in range(200):
        if SHOWS_CURSOR in terminal.output[-400:]:
            break
        time.sleep(0.01)
    tail = terminal.output[-400:]
    assert LEAVES_SCREEN in tail
    assert SHOWS_CURSOR in tail
    assert terminal.settings == terminal.before
    assert engine.process.poll() is None


def test_a_cut_line_ends_a_terminal(engine: EngineProcess, terminals: list[PtyTerminal]) -> None:
    _, code = ends_in_time(engine, terminals, "hang up")
    assert code == 128 + signal.SIGHUP
    assert engine.process.poll() is None


def test_a_stalled_terminal_ends_too_and_puts_the_tty_back(engine: EngineProcess, terminals: list[PtyTerminal]) -> None:
    terminal, code = ends_in_time(engine, terminals, "stalled SIGTERM")
    assert code == 128 + signal.SIGTERM
    assert terminal.settings == terminal.before


def test_a_lost_tty_ends_a_terminal_that_ignores_the_hangup(
    engine: EngineProcess, terminals: list[PtyTerminal]
) -> None:
    terminal = attach(engine, ignores_hangup=True)
    terminals.append(terminal)
    before = os.times()
    terminal.hang_up()
    try:
        terminal.wait(5)
    except subprocess.TimeoutExpired:
        raise AssertionError("it lives on without a tty") from None
    after = os.times()
    spent_s = after.children_user + after.children_system - before.children_user - before.children_system
    # Its whole life: the start costs about a second, spinning until the tty is looked for would add two.
    assert spent_s < 3.0


def test_a_terminal_that_was_stopped_goes_on(engine: EngineProcess, terminals: list[PtyTerminal]) -> None:
    """SIGSTOP cannot be caught; the SIGCONT after it must not start Textual's driver a second time."""
    terminal = attach(engine)
    terminals.append(terminal)
    terminal.signal(signal.SIGSTOP)
    time.sleep(0.2)
    terminal.forget()
    terminal.signal(signal.SIGCONT)
    terminal.wait_for("equity")
    terminal.forget()
    terminal.press("?")
    terminal.wait_for("Close")
    terminal.signal(signal.SIGTERM)
    assert terminal.wait(5) == 128 + signal.SIGTERM
    assert terminal.settings == terminal.before
