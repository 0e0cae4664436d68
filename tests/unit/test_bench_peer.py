"""The peer's row of the benchmark: which interpreter plays it, that it did the same work, and the target it gives."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from bench import peer
from bench.replay import held_rows, same_work, sums_only
from deltatui.domain.market import FundingRecord
from deltatui.feeds.tape import Tape


def _python(folder: Path, version: str, *, plays: str = "exit 9") -> Path:
    """A program that answers as an interpreter: its version of the peer, and what the peer's script does there."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nif [ "$2" = -c ]; then {version}; else {plays}; fi\n')
    program.chmod(0o755)
    return program


def _tape() -> Tape:
    rate, oracle, mark = Decimal("0.000278541"), Decimal("127.636936"), Decimal("127.611297")
    record = FundingRecord(1_744_588_800, rate, rate, rate, oracle, mark, Decimal(0))
    return Tape("one.csv", (record,), "digest")


NONE = "echo importlib.metadata.PackageNotFoundError: nautilus_trader >&2; exit 1"


@pytest.mark.parametrize(
    ("version", "fault"),
    [
        (NONE, "it has no nautilus_trader"),
        ("echo 1.231.0", "it has nautilus_trader 1.231.0, and 1.221.x is compared"),
        ("exit 1", "it is no Python"),
        ("true", "it is no Python"),
    ],
)
def test_a_named_interpreter_without_the_peer_is_refused(tmp_path: Path, version: str, fault: str) -> None:
    python = _python(tmp_path, version)
    with pytest.raises(SystemExit, match=f"^bench: BENCH_PEER_PYTHON names {python}, but {fault}$"):
        peer.find({peer.VARIABLE: str(python)})


def test_a_named_interpreter_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere, but it cannot be run: No such file or directory"):
        peer.find({peer.VARIABLE: str(tmp_path / "nowhere")})


def test_the_named_interpreter_goes_before_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.setattr(sys, "executable", str(_python(here, "echo 1.221.0")))
    assert peer.find({}) == here / "python"
    named = _python(tmp_path, "echo 1.221.1")
    assert peer.find({peer.VARIABLE: str(named)}) == named


def test_without_the_peer_the_row_says_so_and_no_figure_stands_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(_python(tmp_path, NONE)))
    absent = peer.find({})
    assert isinstance(absent, peer.Absent)
    ours, theirs = held_rows(15_000.0, absent, "")
    assert (ours.target, theirs.value, theirs.failed) == (30_000.0, None, False)
    assert theirs.beside.startswith("not measured, this Python has no nautilus_trader 1.221.x; BENCH_PEER_PYTHON")


@pytest.mark.parametrize(
    ("peer_per_s", "target", "verdict"), [(41_000.0, 30_000.0, "not reached"), (12_500.0, 12_500.0, "reached")]
)
def test_the_target_is_the_peer_where_the_peer_does_less(peer_per_s: float, target: float, verdict: str) -> None:
    ours, theirs = held_rows(15_000.0, ("nautilus_trader 1.221.0", peer_per_s), "")
    assert (ours.target, ours.limit, ours.verdict) == (target, 5_000.0, verdict)
    assert (theirs.value, theirs.beside) == (peer_per_s, f"ours is {15_000 / peer_per_s:.2f} times as fast")


def test_the_peer_is_given_the_tape_and_told_what_it_made_of_it(tmp_path: Path) -> None:
    figures = '{"version":"1.221.0","python":"3.11.7","best_s":0.5,"funding_usd":1,"equity_usd":2,"max_drawdown":0}'
    python = _python(tmp_path, "true", plays=f"cat > {tmp_path}/job; echo '{figures}'")
    played = peer.play(python, _tape(), Decimal(2), 3)
    assert played == peer.Figures("1.221.0", "3.11.7", 0.5, 1.0, 2.0, 0.0)
    assert json.loads((tmp_path / "job").read_text()) == {
        "size": "2",
        "opening_usd": "510.547744",
        "runs": 3,
        "records": [[1_744_588_800, "127.636936", "127.611297", "0.000278541"]],
    }


def test_a_peer_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    python = _python(tmp_path, "true", plays="echo the hedge was not held >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"nautilus_peer\.py failed:\nthe hedge was not held"):
        peer.play(python, _tape(), Decimal(1), 1)


@pytest.mark.parametrize("which", range(3))
def test_other_work_has_no_figure(which: int) -> None:
    expected = sums_only([(100.0, 100.0, 0.5), (101.0, 101.5, -0.25)], 1.0)
    same_work("the peer", expected, expected)
    course = [*expected]
    course[which] += 1e-5
    with pytest.raises(AssertionError, match=r"^the peer did other work"):
        same_work("the peer", (course[0], course[1], course[2]), expected)
