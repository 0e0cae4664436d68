"""The markets of the paper exchange: what each is listed as, and where it stands."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from deltatui.domain.errors import ValidationError
from deltatui.domain.facts import MarketChange
from deltatui.domain.market import MarketSpec
from deltatui.venues.paper.settings import MARKETS, QUOTE_ASSET, QUOTE_INDEX

_ZERO = Decimal(0)


class PaperMarket(msgspec.Struct, forbid_unknown_fields=True):
    """Where one perp market stands: prices and cumulative funding per side. It is changed in place by each fact.

    ``records`` counts the funding records that were taken, ``last_record_s`` is the time of the newest.
    """

    oracle: Decimal
    mark: Decimal
    index_long: Decimal = _ZERO
    index_short: Decimal = _ZERO
    records: int = 0
    last_record_s: int = 0


class Listing:
    """A market as the exchange has it. ``now`` is None before the first price; ``tape`` says whether facts of it come
    and orders are taken. Without a tape only another program can trade in it, and its price is that of the last fill.
    ``paused`` is why it takes no orders just now, empty where it does."""

    __slots__ = ("ended", "now", "paused", "spec", "tape")

    def __init__(self, spec: MarketSpec, *, tape: bool) -> None:
        self.spec = spec
        self.tape = tape
        self.now: PaperMarket | None = None
        self.paused = ""
        self.ended = False

    def price(self, oracle: Decimal, mark: Decimal) -> PaperMarket:
        now = self.now
        if now is None:
            now = self.now = PaperMarket(oracle, mark)
        else:
            now.oracle, now.mark = oracle, mark
        return now

    def state(self) -> PaperMarket:
        """Raises ValidationError before the first price."""
        if self.now is None:
            raise ValidationError("MarketNotActive", f"the paper exchange has no price of {self.spec.symbol} yet")
        return self.now

    def change(self, change: MarketChange) -> None:
        """Raises ValidationError, and changes nothing, for a spec under which what is held would be another thing."""
        if change.spec is not None:
            if _identity(change.spec) != _identity(self.spec):
                raise ValidationError(
                    "OTHER_MARKET", f"{self.spec.symbol} keeps its name, its spot asset and their numbers while listed"
                )
            self.spec = change.spec
        if change.paused is not None:
            self.paused = change.paused
        if change.ended is not None:
            self.ended = change.ended


class Markets:
    """All that the exchange knows, by perp symbol and by the base symbol of its spot asset."""

    def __init__(self, specs: Iterable[MarketSpec]) -> None:
        """Raises ValidationError where two markets share a name, a number or the spot asset."""
        self._priced = False
        self.by_symbol = {spec.symbol: Listing(spec, tape=True) for spec in specs}
        for spec in MARKETS.values():
            self.by_symbol.setdefault(spec.symbol, Listing(spec, tape=False))
        self.by_base = {listing.spec.base_symbol: listing for listing in self.by_symbol.values()}
        numbers = [listing.spec.perp_index for listing in self.by_symbol.values()]
        spots = {QUOTE_INDEX, *(listing.spec.spot_index for listing in self.by_symbol.values())}
        names = {QUOTE_ASSET, *self.by_symbol, *self.by_base}
        count = len(numbers)
        if len(set(numbers)) < count or len(spots) < count + 1 or len(names) < 2 * count + 1:
            raise ValidationError(
                "DUPLICATE_MARKET", f"each of {', '.join(self.by_symbol)} needs names and numbers of its own"
            )

    def listed(self) -> dict[str, MarketSpec]:
        return {symbol: listing.spec for symbol, listing in self.by_symbol.items() if listing.tape}

    def perp(self, symbol: str) -> Listing:
        """Raises ValidationError for a market that takes no orders here."""
        listing = self.by_symbol.get(symbol)
        if listing is None or not listing.tape:
            raise ValidationError("MarketNotFound", f"the paper exchange does not list {symbol}")
        return listing

    def spot(self, asset: str) -> Listing:
        """The market that ``asset`` hedges. Raises ValidationError for an asset that is not taken here."""
        listing = self.by_base.get(asset)
        if listing is None or not listing.tape:
            raise ValidationError("SpotMarketNotFound", f"the paper exchange does not take {asset}")
        return listing

    @property
    def priced(self) -> bool:
        """Whether there is any price at all."""
        # A price never goes away again, and this is asked for every fact.
        self._priced = self._priced or any(listing.now is not None for listing in self.by_symbol.values())
        return self._priced

    def states(self) -> dict[str, PaperMarket]:
        """Of the markets that have a price."""
        return {symbol: listing.now for symbol, listing in self.by_symbol.items() if listing.now is not None}


def _identity(spec: MarketSpec) -> tuple[str, str, int, int, int]:
    return spec.symbol, spec.base_symbol, spec.perp_index, spec.spot_index, spec.base_decimals
