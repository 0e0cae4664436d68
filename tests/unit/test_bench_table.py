"""The table of the benchmarks, and what stands behind its figures: the load, and the watches on a key and on a loop."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
from pty_terminal import PtyTerminal

from bench import watched_terminal
from bench.__main__ import PARTS, main
from bench.load import Reached, rows
from bench.loaded_engine import PRODUCT_PRICES_PER_S, Load, PacedClock, PacedSource, Walk
from bench.replay import FUNDING_USD, sums_only
from bench.table import Row, render
from deltatui.backtest.clock import ReplayClock, SimulatedClock
from deltatui.domain.facts import Fact
from deltatui.engine.loop import TICK_S
from deltatui.feeds.tape import shipped_tape


@pytest.mark.parametrize(
    ("row", "failed", "verdict"),
    [
        (Row("replay", 4_999, "facts/s", 5_000, 30_000, more_is_better=True), True, "FAILED"),
        (Row("replay", 5_000, "facts/s", 5_000, 30_000, more_is_better=True), False, "not reached"),
        (Row("replay", 30_000, "facts/s", 5_000, 30_000, more_is_better=True), False, "reached"),
        (Row("gates", 1_001, "us", 1_000), True, "FAILED"),
        (Row("gates", 999, "us", 1_000), False, "ok"),
        (Row("paint", 0.9, "s", target=0.8), False, "not reached"),
        (Row("output", 12, "kB/s"), False, ""),
        (Row("gates", None, "us", 1_000), True, "FAILED"),
    ],
)
def test_a_limit_fails_and_a_target_only_tells(row: Row, failed: bool, verdict: str) -> None:
    assert (row.failed, row.verdict) == (failed, verdict)


def test_the_table_is_aligned() -> None:
    rows = [Row("replay", 17_345.6, "facts/s", 5_000, 30_000, more_is_better=True), Row("paint", 0.534, "s")]
    head, rule, first, second = render(rows).splitlines()
    assert "17,346 facts/s" in first
    assert ">= 5,000" in first
    assert "0.53 s" in second
    assert first.index("facts/s") + len("facts/s") == second.index(" s") + 2 == head.index("value") + len("value")
    assert len(rule) >= len(first)


def test_the_plain_loop_does_the_same_sums() -> None:
    tape = shipped_tape("SOL-PERP")
    plain = [(float(record.oracle_twap), float(record.mark_twap), float(record.rate_short)) for record in tape.records]
    assert sums_only(plain, 2.0)[0] == pytest.approx(2 * FUNDING_USD, abs=1e-6)


def test_a_load_that_was_not_reached_shows() -> None:
    load = Load(prices_per_s=200, lines_per_s=1_000)
    reached = rows(load, Reached(prices=199, snapshots=10, news=9.5, lines=998, dropped=0), "busy")
    assert [row.verdict for row in reached] == ["reached", "reached"]
    assert reached[0].beside == "a client: 10.0 snapshots/s, 9.5 with another price"
    missed = rows(load, Reached(prices=150, snapshots=10, news=10, lines=600, dropped=398), "busy")
    assert [row.verdict for row in missed] == ["not reached", "not reached"]
    assert missed[1].beside == "398/s dropped"


def test_the_price_of_a_load_moves_from_look_to_look_and_stays_near_the_tape() -> None:
    tape = shipped_tape("SOL-PERP")
    walk = Walk(tape)
    at_s = tape.first_s + 1_000.0
    there, _, _ = tape.price_at(at_s)
    looks = [walk.price_at(at_s) for _ in range(5_000)]
    oracles = [oracle for oracle, _, _ in looks]
    assert sum(before != after for before, after in pairwise(oracles)) > 0.99 * len(oracles)
    assert not any(interpolated for _, _, interpolated in looks)
    assert max(abs(oracle / there - 1) for oracle in oracles) * 10_000 < 40
    assert max(abs(mark / oracle - 1) for oracle, mark, _ in looks) * 10_000 < 10


async def test_the_pace_of_a_load_makes_up_for_the_steps_and_not_for_a_standstill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tick_s = 0.005
    slept: list[float] = []
    now_s = 100.0

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        slept.append(seconds)
        now_s += seconds

    clock = PacedClock(ReplayClock(0.0, wall=lambda: now_s, monotonic=lambda: now_s))
    monkeypatch.setattr(asyncio, "sleep", sleep)
    for work_s in (0.001, 0.002, 0.010, 0.001, 1.0, 0.0):
        await clock.sleep(tick_s)
        now_s += work_s
    assert slept == pytest.approx([0.005, 0.004, 0.003, 0.0, 0.0, 0.005])


async def test_the_load_sets_the_pace_of_the_source_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product sleeps as long as its source is told; the loop's own ticks stay what they are."""
    slept: list[float] = []

    class Clock(SimulatedClock):
        async def sleep(self, operator_seconds: float) -> None:
            slept.append(operator_seconds)
            if len(slept) == 3:
                raise asyncio.CancelledError
            await super().sleep(operator_seconds)

    class Tempo:
        speed, standing = 1, True

        async def rest(self) -> None:
            return

    async def post(fact: Fact) -> None:
        raise AssertionError(f"the tape stands: {fact}")

    tape = shipped_tape("SOL-PERP")
    source = PacedSource({"SOL-PERP": Walk(tape)}, Clock(float(tape.first_s)), Tempo(), {"SOL-PERP": 0.0})
    monkeypatch.setattr("deltatui.feeds.recorded._TICK_S", 1 / 200)
    with pytest.raises(asyncio.CancelledError):
        await source.run(post)
    assert slept == pytest.approx([0.005] * 3, abs=1e-6)
    assert TICK_S == 1 / PRODUCT_PRICES_PER_S


class _Loop:
    """Calls when the test says so."""

    due: tuple[float, Callable[..., None], tuple[float, ...]]

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: float) -> None:
        self.due = (delay_s, callback, args)


def test_the_watch_on_a_loop_tells_how_late_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 50.0
    queued_s = 1.0
    monkeypatch.setattr("bench.watched_terminal.time.perf_counter", lambda: now_s)
    monkeypatch.setattr("engine_probe.run_queue_s", lambda pid: queued_s)
    loop = _Loop()
    policy = watched_terminal.WatchedPolicy()
    policy.watches.append(watched_terminal.Watch(cast(asyncio.AbstractEventLoop, loop)))
    for took_s, waited_s in ((0.005, 0.0), (0.055, 0.02), (0.006, 0.0)):
        delay_s, callback, args = loop.due
        assert delay_s == 0.005
        now_s += took_s
        queued_s += waited_s
        callback(*args)
    monkeypatch.setenv(watched_terminal.LAG_FILE, str(tmp_path / "lag.txt"))
    watched_terminal.write(policy)
    looks = watched_terminal.read(tmp_path / "lag.txt")
    assert [at_s for at_s, _ in looks] == pytest.approx([50.005, 50.06, 50.066])
    assert [late_ms for _, late_ms in looks] == pytest.approx([0.0, 30.0, 1.0], abs=0.01)


_ANSWERS = """
import sys, tty
tty.setraw(0)
print("ready", end="", flush=True)
while key := sys.stdin.read(1):
    print("\x1b[1mkey " + key, end=".", flush=True)
"""


@pytest.mark.serial
def test_a_key_is_timed_by_what_arrives_not_by_when_it_is_looked_for(tmp_path: Path) -> None:
    terminal = PtyTerminal([sys.executable, "-S", "-c", _ANSWERS], os.environ, cwd=tmp_path)
    try:
        terminal.wait_for("ready")
        terminal.forget()
        pressed_s = terminal.press("a")
        first_s = terminal.drawn_s("key a")
        terminal.press("b")
        second_s = terminal.drawn_s("key b.")
        assert pressed_s < first_s < second_s
        assert terminal.drawn_s("key a") == first_s
        assert b"".join(terminal.pieces) == terminal.output == b"\x1b[1mkey a.\x1b[1mkey b."
        terminal.forget()
        with pytest.raises(AssertionError, match=r"'key a' was not drawn in 0\.01 s"):
            terminal.drawn_s("key a", timeout_s=0.01)
    finally:
        terminal.close()


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gates"]) == 2
    assert f"there is no part 'gates'; {', '.join(PARTS)} exist" in capsys.readouterr().err
