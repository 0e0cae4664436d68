"""What was measured, and how it stands to its limit and its target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """``limit`` is hard: beyond it the run fails; ``target`` is only reported. Both bound from above, or from below
    where ``more_is_better``. ``beside`` tells what was measured in the same run for comparison."""

    what: str
    value: float | None
    unit: str
    limit: float | None = None
    target: float | None = None
    more_is_better: bool = False
    beside: str = ""

    def _within(self, bound: float) -> bool:
        if self.value is None:
            return False
        return self.value >= bound if self.more_is_better else self.value <= bound

    @property
    def failed(self) -> bool:
        return self.limit is not None and not self._within(self.limit)

    @property
    def verdict(self) -> str:
        if self.failed:
            return "FAILED"
        if self.target is not None:
            return "reached" if self._within(self.target) else "not reached"
        return "ok" if self.limit is not None else ""


def render(rows: Sequence[Row]) -> str:
    """Aligned text, one line a row."""
    head = ("measured", "value", "limit", "target", "verdict", "beside")
    lines = [
        head,
        *(
            (
                row.what,
                _amount(row.value, row.unit),
                _bound(row, row.limit),
                _bound(row, row.target),
                row.verdict,
                row.beside,
            )
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    drawn = ["  ".join(_cell(line, column, widths) for column in range(len(head))).rstrip() for line in lines]
    return "\n".join([drawn[0], "-" * max(map(len, drawn)), *drawn[1:]])


def _cell(line: Sequence[str], column: int, widths: Sequence[int]) -> str:
    numbers = 1 <= column <= 3
    return line[column].rjust(widths[column]) if numbers else line[column].ljust(widths[column])


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "unknown"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f} {unit}"


def _bound(row: Row, bound: float | None) -> str:
    if bound is None:
        return ""
    return f"{'>=' if row.more_is_better else '<='} {bound:,g}"
