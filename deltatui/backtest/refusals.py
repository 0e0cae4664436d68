"""Entries that a backtest wanted and did not get, counted by what refused them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from deltatui.domain.carry import Stance
from deltatui.domain.command import CommandResult
from deltatui.domain.gates import CAPITAL_CODES, blocking
from deltatui.domain.verdict import Verdict


class RefusedEntries(msgspec.Struct, frozen=True):
    """Entries into ``stance`` that one gate refused. ``code`` is the gate's, or the error's where no gate refused.

    ``lowest`` and ``highest`` are what the gate observed, as texts with units like its ``limit``; all three are empty
    for an error. Times in unix seconds of the market. An entry that two gates refuse stands under both.
    """

    code: str
    stance: str
    count: int
    first_s: int
    last_s: int
    lowest: str = ""
    highest: str = ""
    limit: str = ""


def wants_capital(refused: Iterable[RefusedEntries]) -> bool:
    """Whether entries were refused that more capital would have let pass."""
    return any(group.code in CAPITAL_CODES for group in refused)


class _Group:
    def __init__(self, market_s: int) -> None:
        self.count = 0
        self.first_s = self.last_s = market_s
        self.least: Verdict | None = None
        self.most: Verdict | None = None

    def add(self, market_s: int, verdict: Verdict | None) -> None:
        self.count += 1
        self.last_s = market_s
        if verdict is None:
            return
        value = verdict.value
        if self.least is None or self.least.value is None or (value is not None and value < self.least.value):
            self.least = verdict
        if self.most is None or self.most.value is None or (value is not None and value > self.most.value):
            self.most = verdict


class Refusals:
    """``entries`` counts each refused entry once."""

    def __init__(self) -> None:
        self.entries = 0
        self._groups: dict[tuple[str, Stance], _Group] = {}

    def add(self, result: CommandResult, stance: Stance, market_s: int) -> None:
        self.entries += 1
        by_gates: list[tuple[str, Verdict | None]] = [(v.code, v) for v in blocking(result.verdicts)]
        for code, verdict in by_gates or [(result.code, None)]:
            self._groups.setdefault((code, stance), _Group(market_s)).add(market_s, verdict)

    def told(self) -> tuple[RefusedEntries, ...]:
        """The most frequent first."""
        found = [
            RefusedEntries(
                code,
                stance.value,
                group.count,
                group.first_s,
                group.last_s,
                "" if group.least is None else group.least.observed,
                "" if group.most is None else group.most.observed,
                "" if group.most is None else group.most.limit,
            )
            for (code, stance), group in self._groups.items()
        ]
        return tuple(sorted(found, key=lambda each: -each.count))
