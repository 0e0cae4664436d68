"""The scenario matrix, cell by cell, with the real engine, sender and node."""

from __future__ import annotations

import pytest
from chainkit import run
from faultbook import FAULTS, Strike, play
from matrix import DOCUMENT, MATRIX, PHASES, WHAT, Told, written

from deltatui.domain.operation import OperationState
from deltatui.engine.states import EngineState

CELLS = [(fault, phase, cell) for fault, cells in MATRIX.items() for phase, cell in zip(PHASES, cells, strict=True)]


def test_the_table_has_every_fault_in_every_phase() -> None:
    assert list(MATRIX) == list(FAULTS) == list(WHAT)
    assert len(CELLS) == 100
    for _, _, cell in CELLS:
        assert isinstance(cell, Told) or cell.startswith("cannot occur: ")


@pytest.mark.parametrize(
    ("fault", "phase", "expected"),
    [pytest.param(*cell, id=f"{cell[0]}, {cell[1]}") for cell in CELLS if isinstance(cell[2], Told)],
)
def test_cell(fault: str, phase: str, expected: Told) -> None:
    assert run(play(fault, phase)) == expected


@pytest.mark.parametrize("phase", PHASES)
def test_a_clock_that_is_set_back_is_like_one_that_is_set_ahead(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = "clock off by 5 s"

    def back(strike: Strike) -> None:
        strike.s.clock.ahead_s -= 5.0

    monkeypatch.setitem(FAULTS, fault, back)
    assert run(play(fault, phase)) == MATRIX[fault][PHASES.index(phase)]


def test_the_document_names_every_state() -> None:
    text = DOCUMENT.read_text()
    for state in (*OperationState, *EngineState):
        assert f"| {state} |" in text, state


def test_the_document_has_the_table_as_it_is() -> None:
    text = DOCUMENT.read_text()
    assert written(text) == text, "run: python tests/onchain/matrix.py"
