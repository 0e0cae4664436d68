"""Recorded tapes as a source: played side by side at a speed that the operator sets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from heapq import merge
from itertools import islice
from typing import Protocol

from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.domain.snapshot import TapeView
from deltatui.feeds.tape import Tape
from deltatui.ports import Clock

_TICK_S = 0.1
_LONGEST_STEP_S = 0.5
_SOURCE = "tape"


class Tempo(Protocol):
    """What the tapes go by."""

    @property
    def speed(self) -> int:
        """Market seconds per operator second while the tapes run."""

    @property
    def standing(self) -> bool:
        """Whether they stand still: paused, or waiting for an answer (R16.1)."""

    async def rest(self) -> None:
        """Return when all that followed from the last record is done: on a tape, time can wait for it."""


def records_in_order(tapes: Mapping[str, Tape], taken: Mapping[str, int] | None = None) -> Iterator[Funding]:
    """The records of all tapes as facts, by (time, symbol), without the first ``taken`` of each."""
    parts = (_facts(symbol, tape, (taken or {}).get(symbol, 0)) for symbol, tape in sorted(tapes.items()))
    if len(tapes) == 1:
        return next(parts)
    return merge(*parts, key=lambda fact: (fact.source_s, fact.instrument))


def _facts(symbol: str, tape: Tape, taken: int) -> Iterator[Funding]:
    for record in islice(tape.records, taken, None):
        yield Funding(symbol, _SOURCE, float(record.ts_s), record, True)


def _with_ends(tapes: Mapping[str, Tape], records: Iterator[Funding]) -> Iterator[Funding | MarketChange]:
    """After the last record of a tape, its end."""
    for fact in records:
        yield fact
        if fact.record is tapes[fact.instrument].records[-1]:
            yield ended(fact.instrument, fact.source_s)


def prices_at(symbol: str, tape: Tape, market_s: float) -> Prices:
    oracle, mark, interpolated = tape.price_at(market_s)
    return Prices(symbol, _SOURCE, market_s, oracle, mark, interpolated)


def ended(symbol: str, market_s: float) -> MarketChange:
    return MarketChange(symbol, _SOURCE, market_s, ended=True)


class RecordedSource:
    """``run`` is a supervised task. A tape that has ended leaves its market at the last price, open to what reduces.

    ``last_record_s`` is by market the time of the last record that was taken in an earlier life, 0 where none was: of
    two records of the same time one may have been taken and the other not. What a tape has had since, while it was not
    played, is told at once at the start (:meth:`known`): nobody decides about prices that are over.
    """

    name = _SOURCE

    def __init__(
        self, tapes: Mapping[str, Tape], clock: Clock, tempo: Tempo, last_record_s: Mapping[str, float] | None = None
    ) -> None:
        self._tapes = dict(sorted(tapes.items()))
        self._clock = clock
        self._tempo = tempo
        begun, now_s = last_record_s or {}, clock.market_s()
        self.taken: dict[str, int] = {}
        """How many records of each tape lie behind at the start."""
        self._missed: dict[str, range] = {}
        for symbol, tape in self._tapes.items():
            taken = tape.index_at(begun.get(symbol) or now_s)
            self.taken[symbol] = max(taken, tape.index_before(now_s))
            self._missed[symbol] = range(taken, self.taken[symbol])
        self._facts = _with_ends(self._tapes, records_in_order(self._tapes, self.taken))
        self._next = next(self._facts, None)
        self._interpolated = False

    @property
    def ended(self) -> bool:
        return self._next is None

    @property
    def speed(self) -> int:
        """0 while the tapes stand."""
        return 0 if self.ended or self._tempo.standing else self._tempo.speed

    def view(self) -> TapeView:
        tapes, now_s = self._tapes.values(), self._clock.market_s()
        return TapeView(
            name=" + ".join(tape.name for tape in tapes),
            first_s=float(min(tape.first_s for tape in tapes)),
            last_s=float(max(tape.last_s for tape in tapes)),
            record=sum(tape.index_at(now_s) for tape in tapes),
            records=sum(len(tape) for tape in tapes),
            interpolated=self._interpolated,
            ended=self.ended,
        )

    def known(self) -> Iterator[Fact]:
        """What is known of the markets where the tapes stand now; nothing of a tape that begins later."""
        now_s = self._clock.market_s()
        for symbol, tape in self._tapes.items():
            for number in self._missed[symbol]:
                record = tape.records[number]
                yield Funding(symbol, _SOURCE, float(record.ts_s), record, True)
            if tape.first_s <= now_s:
                yield prices_at(symbol, tape, now_s)
            if self.taken[symbol] == len(tape):
                yield ended(symbol, now_s)

    async def run(self, post: Callable[[Fact], Awaitable[None]]) -> None:
        """Until cancelled."""
        before_s = self._clock.operator_s()
        while True:
            await self._clock.sleep(_TICK_S)
            now_s = self._clock.operator_s()
            elapsed_s, before_s = now_s - before_s, now_s
            await self._tempo.rest()
            if not self.ended and not self._tempo.standing:
                await self._advance(post, min(max(elapsed_s, 0.0), _LONGEST_STEP_S) * self._tempo.speed)

    async def _advance(self, post: Callable[[Fact], Awaitable[None]], market_seconds: float) -> None:
        target_s = self._clock.market_s() + market_seconds
        if self._next is not None and not any(tape.first_s <= target_s < tape.last_s for tape in self._tapes.values()):
            # Market time goes by facts, and between two tapes there are none.
            target_s = max(target_s, self._next.source_s)
        while self._next is not None and self._next.source_s <= target_s:
            fact, self._next = self._next, next(self._facts, None)
            await post(fact)
            await self._tempo.rest()
            # An end comes at once after what followed from the last record.
            if self._tempo.standing and not isinstance(self._next, MarketChange):
                return
        if self.ended:
            return
        self._interpolated = False
        for symbol, tape in self._tapes.items():
            if tape.first_s <= target_s < tape.last_s:
                prices = prices_at(symbol, tape, target_s)
                self._interpolated = self._interpolated or prices.interpolated
                await post(prices)
