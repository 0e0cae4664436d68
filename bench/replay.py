"""The full engine over the shipped tape, beside a loop that only does the sums and, where there is one, the peer.

A fact is a record of the tape: both prices of an hour and its funding.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench import peer
from bench.table import Row
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.run import run_backtest
from deltatui.backtest.settings import BacktestSettings, Fees, Policy
from deltatui.domain.units import base_to_decimal
from deltatui.engine.settings import MarketSettings
from deltatui.feeds.tape import Tape, shipped_tape
from deltatui.store.database import Durability

LEAST_PER_S = 5_000.0
TARGET_PER_S = 30_000.0
"""With a held position; where the peer does less in the same run, as much as the peer."""
FUNDING_USD = -6.067833
"""Of one SOL held short over the shipped tape: a replay that is fast and wrong is worth nothing."""
RUNS = 3
SYMBOL = "SOL-PERP"
ONE = {SYMBOL: MarketSettings(10**9)}
HELD = BacktestSettings(policy=Policy.ALWAYS_SHORT, markets=ONE, fees=Fees.NONE)
CARRY = BacktestSettings(policy=Policy.CARRY, markets=ONE, fees=Fees.DRIFT)

Course = tuple[float, float, float]
"""Funding and equity at the end in USD, deepest drawdown as a fraction of the peak."""


def sums_only(records: list[tuple[float, float, float]], size: float) -> Course:
    """Funding, equity and drawdown of always-short in plain floats: what a year costs at the least in pure Python."""
    funding = peak = drawdown = 0.0
    first_oracle, first_mark, _ = records[0]
    opening = 2 * size * first_oracle
    equity = opening
    for oracle, mark, rate in records:
        funding += size * rate
        equity = opening + funding + size * (oracle - first_oracle) - size * (mark - first_mark)
        peak = max(peak, equity)
        drawdown = max(drawdown, 1 - equity / peak)
    return funding, equity, drawdown


def ours(tape: Tape) -> float:
    """Facts per second of the full engine with a held position, all in memory. Raises AssertionError where it did not
    do the work of :func:`sums_only`."""
    expected = _sums(tape)

    def play() -> None:
        result = _replay(tape, HELD)
        same_work("the engine", (result.funding_usd, result.equity_end_usd, result.max_drawdown_pct / 100), expected)

    return len(tape) / _best(play, RUNS)


def peers(tape: Tape, python: Path) -> tuple[str, float]:
    """The same hedge held by the peer: its name, and its facts per second. Raises AssertionError as :func:`ours`."""
    figures = peer.play(python, tape, base_to_decimal(ONE[SYMBOL].size_1e9), RUNS)
    same_work("the peer", (figures.funding_usd, figures.equity_usd, figures.max_drawdown), _sums(tape))
    return f"nautilus_trader {figures.version}, Python {figures.python}", len(tape) / figures.best_s


def same_work(who: str, course: Course, expected: Course) -> None:
    """Raises AssertionError where the two differ by more than rounding."""
    if any(abs(one - other) > 1e-6 for one, other in zip(course, expected, strict=True)):
        raise AssertionError(f"{who} did other work: funding, equity and drawdown {course}, they should be {expected}")


def held_rows(ours_per_s: float, peer_per_s: tuple[str, float] | peer.Absent, beside: str) -> list[Row]:
    """What a held position costs here, and what it costs the peer."""
    what = f"replay {HELD.policy}, durability MEMORY, batch {HELD.batch}"
    if isinstance(peer_per_s, peer.Absent):
        return [
            Row(what, ours_per_s, "facts/s", LEAST_PER_S, TARGET_PER_S, more_is_better=True, beside=beside),
            Row("the same by nautilus_trader", None, "facts/s", more_is_better=True, beside=peer_per_s.why),
        ]
    name, per_s = peer_per_s
    target = min(TARGET_PER_S, per_s)
    ratio = f"ours is {ours_per_s / per_s:.2f} times as fast"
    return [
        Row(what, ours_per_s, "facts/s", LEAST_PER_S, target, more_is_better=True, beside=beside),
        Row(f"the same by {name}", per_s, "facts/s", more_is_better=True, beside=ratio),
    ]


def _sums(tape: Tape) -> Course:
    return sums_only(_plain(tape), float(base_to_decimal(ONE[SYMBOL].size_1e9)))


def _plain(tape: Tape) -> list[tuple[float, float, float]]:
    return [(float(record.oracle_twap), float(record.mark_twap), float(record.rate_short)) for record in tape.records]


def _best(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of ``runs``."""
    times: list[float] = []
    for _ in range(runs):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return min(times)


def _replay(tape: Tape, settings: BacktestSettings) -> BacktestResult:
    result, _ = asyncio.run(run_backtest({SYMBOL: tape}, settings))
    if abs(result.ledger_gap_usd) >= 0.01:
        raise AssertionError(f"the replay's ledger is off by {result.ledger_gap_usd}")
    if settings.policy is Policy.ALWAYS_SHORT and abs(result.funding_usd - FUNDING_USD) > 1e-6:
        raise AssertionError(f"the replay's funding is {result.funding_usd}, it should be {FUNDING_USD}")
    return result


def _on_file(tape: Tape, settings: BacktestSettings) -> float:
    """Facts per second with the database on disk."""

    def play() -> None:
        with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
            path = Path(folder) / "bench.sqlite"
            _replay(tape, msgspec.structs.replace(settings, durability=Durability.NORMAL, path=path))

    return len(tape) / _best(play, 1)


def _file_row(tape: Tape, settings: BacktestSettings, often: str) -> Row:
    what = f"replay {settings.policy}, durability NORMAL (file), {often}"
    return Row(what, _on_file(tape, settings), "facts/s", more_is_better=True)


def measure() -> list[Row]:
    # First, so that a wrong interpreter is told before anything is measured.
    python = peer.find()
    tape = shipped_tape(SYMBOL)
    if abs(_sums(tape)[0] - FUNDING_USD) > 1e-6:
        raise AssertionError(f"the plain loop's funding is {_sums(tape)[0]}")
    plain = _plain(tape)
    trivial_per_s = len(tape) / _best(lambda: sums_only(plain, 1.0), 20)
    held_per_s = ours(tape)
    carry_per_s = len(tape) / _best(lambda: _replay(tape, CARRY), RUNS)

    def beside(per_s: float) -> str:
        return f"sums only: {trivial_per_s:,.0f} facts/s, {trivial_per_s / per_s:,.0f} times as fast"

    what = f"replay {CARRY.policy}, durability MEMORY, batch {CARRY.batch}"
    return [
        *held_rows(held_per_s, python if isinstance(python, peer.Absent) else peers(tape, python), beside(held_per_s)),
        _file_row(tape, HELD, f"batch {HELD.batch}"),
        _file_row(tape, msgspec.structs.replace(HELD, batch=1), "every step"),
        Row(what, carry_per_s, "facts/s", LEAST_PER_S, more_is_better=True, beside=beside(carry_per_s)),
        _file_row(tape, CARRY, f"batch {CARRY.batch}"),
    ]
