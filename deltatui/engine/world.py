"""What is known: the newest facts of each market beside the account as it was told last. Nothing here acts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.errors import ValidationError
from deltatui.domain.facts import Fact, MarketChange, Prices
from deltatui.domain.market import FundingRecord, MarketSpec, MarketState
from deltatui.ports import NO_PERP, NO_SPOT, AccountReport, PerpBalance, SpotBalance, Venue


class Facts(msgspec.Struct, frozen=True):
    """One market and the account beside it at one moment, known to be there. ``perp`` and ``spot`` are the account's
    in this market."""

    market: MarketState
    account: AccountReport
    perp: PerpBalance
    spot: SpotBalance


class World:
    """Facts come in by :meth:`take`; everything that is read is frozen, and the same object while nothing changed."""

    def __init__(self, venue: Venue, carried: Iterable[MarketSpec]) -> None:
        self._venue = venue
        self.listed: Mapping[str, MarketSpec] = {spec.symbol: spec for spec in carried}
        """The carried markets as they are listed now; another mapping after each change."""
        self._markets: dict[str, MarketState] = {}
        self._records: dict[str, FundingRecord] = {}
        """The newest of each market, also of one whose price is not known yet."""
        self._account: AccountReport | None = None
        self._facts: dict[str, Facts] = {}
        self._early: dict[str, tuple[str, bool]] = {}
        """Markets that were paused or ended before their first price: why, and whether."""

    def take(self, fact: Fact) -> None:
        """Of a market that the engine does not carry nothing is kept."""
        spec = self.listed.get(fact.instrument)
        if spec is None:
            return
        known = self._markets.get(fact.instrument)
        if isinstance(fact, MarketChange):
            self._change(spec, known, fact)
            return
        as_of_s = fact.source_s
        if isinstance(fact, Prices):
            oracle, mark, interpolated = fact.oracle, fact.mark, fact.interpolated
        else:
            record, newest = fact.record, self._records.get(fact.instrument)
            if newest is None or record.ts_s > newest.ts_s:
                self._records[fact.instrument] = record
            elif known is not None:
                return  # told again, or late
            if fact.priced:
                oracle, mark, interpolated = record.oracle_twap, record.mark_twap, False
            elif known is None:
                return  # without a price there is no market yet
            else:
                oracle, mark, interpolated = known.oracle, known.mark, known.interpolated
                as_of_s = known.as_of_s
        early = self._early.get(fact.instrument, ("", False))
        paused, ended = early if known is None else (known.paused, known.ended)
        funding = self._records.get(fact.instrument)
        self._markets[fact.instrument] = MarketState(spec, as_of_s, oracle, mark, interpolated, funding, paused, ended)

    def _change(self, spec: MarketSpec, known: MarketState | None, change: MarketChange) -> None:
        if change.spec is not None:
            spec = change.spec
            self.listed = {**self.listed, change.instrument: spec}
        if known is None:
            before = self._early.get(change.instrument, ("", False))
            paused = before[0] if change.paused is None else change.paused
            self._early[change.instrument] = paused, before[1] if change.ended is None else change.ended
            return
        self._markets[change.instrument] = msgspec.structs.replace(
            known,
            spec=spec,
            paused=known.paused if change.paused is None else change.paused,
            ended=known.ended if change.ended is None else change.ended,
        )

    def knew(self, symbol: str, record: FundingRecord) -> None:
        """A record from before the first fact: of several the newest counts."""
        newest = self._records.get(symbol)
        if newest is not None and newest.ts_s >= record.ts_s:
            return
        self._records[symbol] = record
        known = self._markets.get(symbol)
        if known is not None:
            self._markets[symbol] = msgspec.structs.replace(known, funding=record)

    def market(self, symbol: str) -> MarketState | None:
        return self._markets.get(symbol)

    def account(self) -> AccountReport | None:
        """The newest that was told: one that is older than what is known (another endpoint answered) changes nothing.
        None where the venue cannot tell it."""
        told, known = self._venue.account(), self._account
        if told is not known and (told is None or known is None or told.mark.covers(known.mark)):
            self._account = told
        return self._account

    def is_current(self, account: AccountReport | None) -> bool:
        """Whether the venue itself tells ``account`` now."""
        return self._venue.account() is account

    def facts(self, symbol: str) -> Facts | None:
        """None while prices or account are not known."""
        market, account = self._markets.get(symbol), self.account()
        if market is None or account is None:
            return None
        known = self._facts.get(symbol)
        if known is None or known.market is not market or known.account is not account:
            spec = market.spec
            perp = account.perps.get(symbol, NO_PERP)
            known = Facts(market, account, perp, account.spots.get(spec.base_symbol, NO_SPOT))
            self._facts[symbol] = known
        return known

    def known_facts(self, symbol: str) -> Facts:
        """Raises ValidationError while prices or account are not known."""
        facts = self.facts(symbol)
        if facts is None:
            raise ValidationError("NO_DATA", f"the prices of {symbol} and the account are not known yet")
        return facts

    def foreign(self, account: AccountReport) -> Mapping[str, PerpBalance]:
        """Positions in markets that the engine does not carry: shown, counted, never touched (R2.9)."""
        return {symbol: perp for symbol, perp in account.perps.items() if perp.base_1e9 and symbol not in self.listed}

    def foreign_spots(self, account: AccountReport) -> Mapping[str, SpotBalance]:
        """The same of spot assets that no hedge of the engine uses; what is in the wallet alone is no position."""
        carried = {spec.base_symbol for spec in self.listed.values()}
        return {asset: spot for asset, spot in account.spots.items() if spot.base_1e9 and asset not in carried}

    def marks(self, account: AccountReport) -> dict[str, Decimal]:
        """Prices of all that the account holds, perps at the mark and spot at the oracle (R1.8); what has none is
        missing."""
        marks: dict[str, Decimal] = {}
        for symbol, market in self._markets.items():
            marks[symbol] = market.mark
            marks[market.spec.base_symbol] = market.oracle
        # The venue's own prices of what is not carried.
        for symbol, perp in account.perps.items():
            if perp.mark is not None and perp.base_1e9 and symbol not in self.listed:
                marks[symbol] = perp.mark
        for asset, spot in account.spots.items():
            if spot.mark is not None and spot.base_1e9:
                marks.setdefault(asset, spot.mark)
        return marks
