"""Which market the capital goes to (R4.10). A hedge is all or nothing at its size."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Prospect(msgspec.Struct, frozen=True):
    """A hedge that could be entered, or is held. ``notional`` of one leg in quote; ``net`` is what it is expected to
    earn an hour and ``round_trip`` what it costs in and out, both as fractions of the notional."""

    market: str
    notional: float
    net: float
    round_trip: float

    def after_costs(self, horizon_h: float) -> float:
        """Expected net earnings an hour as a fraction of the notional, the round trip spread over the horizon."""
        return self.net - self.round_trip / horizon_h


class Rivalry(msgspec.Struct, frozen=True):
    """For how many records in a row ``candidate`` would have been worth leaving ``held`` for, up to that of the time
    ``record_s`` (None: none). Kept across restarts."""

    candidate: str = ""
    held: str = ""
    streak: int = 0
    record_s: int | None = None


def ranked(candidates: Iterable[Prospect], horizon_h: float) -> list[Prospect]:
    """The best first: by expected net earnings after all costs. Equal ones in the order of their symbols."""
    return sorted(candidates, key=lambda each: (-each.after_costs(horizon_h), each.market))


def worth_leaving(candidate: Prospect, held: Iterable[Prospect], horizon_h: float) -> Prospect | None:
    """The held hedge to leave for ``candidate``: of those that rank below it the one that earns least; None where none
    is worth it.

    A switch pays iff what it gains over the horizon exceeds both round trips, in quote. One that ranks above is not
    left for more of a lower rate: it would be entered first again.
    """
    rank = candidate.after_costs(horizon_h)
    below = (each for each in held if each.after_costs(horizon_h) < rank)
    worst = min(below, key=lambda each: (each.net * each.notional, each.market), default=None)
    if worst is None:
        return None
    gain = (candidate.net * candidate.notional - worst.net * worst.notional) * horizon_h
    costs = candidate.round_trip * candidate.notional + worst.round_trip * worst.notional
    return worst if gain > costs else None
