"""The full engine over the shipped tape, beside a loop that only does the sums."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.table import Row
from deltatui.backtest.run import BacktestSettings, Fees, Policy, run_backtest
from deltatui.feeds.tape import Tape, load_tape
from deltatui.store.database import Durability

LEAST_PER_S = 5_000.0
TARGET_PER_S = 44_000.0
"""nautilus_trader on the same carry job on such a machine."""
FUNDING_USD = -6.067833
"""Of one SOL held short over the shipped tape: a replay that is fast and wrong is worth nothing."""
RUNS = 3


def sums_only(records: list[tuple[float, float, float]], size: float) -> tuple[float, float, float]:
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


def _best(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of ``runs``."""
    times: list[float] = []
    for _ in range(runs):
        began_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - began_s)
    return min(times)


def _replay(tape: Tape, settings: BacktestSettings) -> None:
    result, _ = asyncio.run(run_backtest(tape, settings))
    if abs(result.ledger_gap_usd) >= 0.01:
        raise AssertionError(f"the replay's ledger is off by {result.ledger_gap_usd}")
    if settings.policy is Policy.ALWAYS_SHORT and abs(result.funding_usd - FUNDING_USD) > 1e-6:
        raise AssertionError(f"the replay's funding is {result.funding_usd}, it should be {FUNDING_USD}")


def _on_file(tape: Tape, settings: BacktestSettings) -> None:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        path = Path(folder) / "bench.sqlite"
        _replay(tape, msgspec.structs.replace(settings, durability=Durability.NORMAL, path=path))


def measure() -> list[Row]:
    tape = load_tape()
    plain = [(float(r.oracle_twap), float(r.mark_twap), float(r.rate_short)) for r in tape.records]
    funding, _, _ = sums_only(plain, 1.0)
    if abs(funding - FUNDING_USD) > 1e-6:
        raise AssertionError(f"the plain loop's funding is {funding}")
    trivial_s = _best(lambda: sums_only(plain, 1.0), 20)
    rows: list[Row] = []
    for policy in (Policy.ALWAYS_SHORT, Policy.CARRY):
        fees = Fees.NONE if policy is Policy.ALWAYS_SHORT else Fees.DRIFT
        settings = BacktestSettings(policy=policy, size_1e9=10**9, fees=fees)

        def memory(settings: BacktestSettings = settings) -> None:
            _replay(tape, settings)

        def file(settings: BacktestSettings = settings) -> None:
            _on_file(tape, settings)

        def each(settings: BacktestSettings = settings) -> None:
            _on_file(tape, msgspec.structs.replace(settings, batch=1))

        memory_s = _best(memory, RUNS)
        rows += [
            Row(
                f"replay {policy}, durability MEMORY, batch {settings.batch}",
                len(tape) / memory_s,
                "points/s",
                LEAST_PER_S,
                TARGET_PER_S,
                more_is_better=True,
                beside=f"sums only: {len(tape) / trivial_s:,.0f} points/s, {memory_s / trivial_s:,.0f} times as fast",
            ),
            Row(
                f"replay {policy}, durability NORMAL (file), batch {settings.batch}",
                len(tape) / _best(file, 1),
                "points/s",
                more_is_better=True,
            ),
        ]
        if policy is Policy.ALWAYS_SHORT:
            rows.append(
                Row(
                    f"replay {policy}, durability NORMAL (file), every step",
                    len(tape) / _best(each, 1),
                    "points/s",
                    more_is_better=True,
                )
            )
    return rows
