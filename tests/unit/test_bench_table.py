"""What the table of the benchmarks says of a measurement, and when a run fails."""

from __future__ import annotations

import pytest

from bench.__main__ import PARTS, main
from bench.replay import FUNDING_USD, sums_only
from bench.table import Row, render
from deltatui.feeds.tape import load_tape


@pytest.mark.parametrize(
    ("row", "failed", "verdict"),
    [
        (Row("replay", 4_999, "points/s", 5_000, 44_000, more_is_better=True), True, "FAILED"),
        (Row("replay", 5_000, "points/s", 5_000, 44_000, more_is_better=True), False, "not reached"),
        (Row("replay", 44_000, "points/s", 5_000, 44_000, more_is_better=True), False, "reached"),
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
    rows = [Row("replay", 17_345.6, "points/s", 5_000, 44_000, more_is_better=True), Row("paint", 0.534, "s")]
    head, rule, first, second = render(rows).splitlines()
    assert "17,346 points/s" in first
    assert ">= 5,000" in first
    assert "0.53 s" in second
    assert first.index("points/s") + len("points/s") == second.index(" s") + 2 == head.index("value") + len("value")
    assert len(rule) >= len(first)


def test_the_plain_loop_does_the_same_sums() -> None:
    tape = load_tape()
    plain = [(float(record.oracle_twap), float(record.mark_twap), float(record.rate_short)) for record in tape.records]
    assert sums_only(plain, 2.0)[0] == pytest.approx(2 * FUNDING_USD, abs=1e-6)


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gates"]) == 2
    assert f"there is no part 'gates'; {', '.join(PARTS)} exist" in capsys.readouterr().err
