"""Vault and ledger: what the engine itself knows of the account, synced with the venue (R10.1, R10.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from deltatui.domain.errors import ValidationError
from deltatui.domain.ledger import (
    Books,
    BooksImage,
    FlowKind,
    Holding,
    LedgerEntry,
    VenueEvent,
    books_from_image,
    books_image,
)
from deltatui.domain.market import MarketSpec, MarketState
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.ports import AccountState

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BooksImage).decode

_OF_TRADES = (FlowKind.FEE, FlowKind.TIP, FlowKind.GAS, FlowKind.TRADING_PNL)
GAP_TOLERANCE = Decimal("0.01")
"""A cent: a larger difference between ledger and venue is reported."""


class Sync(msgspec.Struct, frozen=True):
    """One comparison of the two independent paths to the equity."""

    market_s: float
    operator_s: float
    venue_equity: Decimal
    ledger_equity: Decimal

    @property
    def gap(self) -> Decimal:
        """Venue minus ledger."""
        return self.venue_equity - self.ledger_equity


class Accountant:
    """Keeps the books. ``opened`` is false until the opening equity is known."""

    def __init__(self, spec: MarketSpec) -> None:
        self._spec = spec
        self._spot = frozenset({spec.base_symbol})
        self.books = Books(Decimal(0), self._spot)
        self.opened = False
        self.pending: list[LedgerEntry] = []
        self.last_sync: Sync | None = None

    def load(self, image: bytes) -> None:
        self.books = books_from_image(_decode(image), self._spot)
        self.opened = True

    def image(self) -> bytes:
        return _encode(books_image(self.books))

    def open(self, market: MarketState, account: AccountState) -> None:
        """Begin with an account that these books know no history of: its holdings are taken over at their marks.

        Does not begin while something is held whose price is not known.
        """
        if any(other.mark is None for other in account.others):
            return
        books = Books(account.equity, self._spot)
        books.cursor = account.events
        for instrument, base_1e9, price in (
            (self._spec.symbol, account.perp_1e9, market.mark),
            (self._spec.base_symbol, account.spot_1e9, market.oracle),
        ):
            if base_1e9:
                books.holdings[instrument] = Holding(base_to_decimal(base_1e9), price)
        for other in account.others:
            if other.mark is not None:
                books.holdings[other.instrument] = Holding(base_to_decimal(other.base_1e9), other.mark)
        # What the perp does not hedge was there before us and is not ours to sell.
        unhedged = account.spot_1e9 + account.perp_1e9
        if account.spot_1e9 > 0 and unhedged > 0:
            books.paid_in[self._spec.base_symbol] = base_to_decimal(unhedged)
        self.books = books
        self.opened = True

    def ingest(self, events: Sequence[VenueEvent]) -> list[LedgerEntry]:
        entries = self.books.ingest(events)
        self.pending.extend(entries)
        return entries

    def marks(self, market: MarketState, account: AccountState) -> Mapping[str, Decimal]:
        """The venue's prices of all that the account holds; what it has no price for is missing."""
        marks = {self._spec.symbol: market.mark, self._spec.base_symbol: market.oracle}
        for other in account.others:
            if other.mark is not None:
                marks[other.instrument] = other.mark
        return marks

    def unpriced(self, marks: Mapping[str, Decimal]) -> str:
        """What is held and has no mark; empty where there is none."""
        held = (name for name, holding in self.books.holdings.items() if holding.base)
        return next((name for name in held if name not in marks), "")

    def sync(self, market: MarketState, account: AccountState, operator_s: float) -> Sync:
        """Compare ledger and venue. Both must contain the same events.

        Raises ValidationError where something is held that has no price.
        """
        marks = self.marks(market, account)
        if unknown := self.unpriced(marks):
            raise ValidationError("MISSING_PRICE", f"{unknown} is held and its price is not known")
        ledger = self.books.closing_equity(marks)
        self.last_sync = Sync(account.as_of_s, operator_s, account.equity, ledger)
        return self.last_sync

    @property
    def transfers(self) -> Decimal:
        totals = self.books.totals
        return totals[FlowKind.DEPOSIT] + totals[FlowKind.WITHDRAWAL]

    @property
    def traded(self) -> Decimal:
        """What trading has brought (negative: cost): fees, tips, gas and realised PnL."""
        totals = self.books.totals
        return sum((totals[kind] for kind in _OF_TRADES), Decimal(0))

    @property
    def paid_in_1e9(self) -> int:
        """Base units that were paid in as such and are still there."""
        return int(self.books.paid_in.get(self._spec.base_symbol, Decimal(0)) * BASE_PRECISION)
