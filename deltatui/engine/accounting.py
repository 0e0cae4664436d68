"""Vault and ledger: what the engine itself knows of the account, synced with the venue (R10.1, R10.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    VenueEventId,
    books_from_image,
    books_image,
)
from deltatui.domain.market import MarketSpec
from deltatui.domain.units import BASE_PRECISION, base_to_decimal
from deltatui.engine.world import World
from deltatui.ports import AccountId, AccountReport

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BooksImage).decode

_OF_TRADES = (FlowKind.FEE, FlowKind.TIP, FlowKind.GAS, FlowKind.TRADING_PNL)
_ZERO = Decimal(0)
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
    """Keeps the books of one account. ``opened`` is false until the opening equity is known. ``pending`` entries and
    ``pending_ids`` of venue events are on their way to the store."""

    def __init__(self, account: AccountId, specs: Iterable[MarketSpec]) -> None:
        self._venue, self._account = account.venue, str(account)
        self._specs = {spec.symbol: spec for spec in specs}
        self._spot = frozenset(spec.base_symbol for spec in self._specs.values())
        self.books = Books(Decimal(0), self._spot)
        self.opened = False
        self.pending: list[LedgerEntry] = []
        self.pending_ids: list[VenueEventId] = []
        self.last_sync: Sync | None = None
        self._traded: dict[str, Decimal] = {}

    def load(self, image: bytes) -> None:
        self.books = books_from_image(_decode(image), self._spot)
        self.opened = True

    def image(self) -> bytes:
        return _encode(books_image(self.books))

    def open(self, world: World, account: AccountReport) -> bool:
        """Begin with an account that these books know no history of: its holdings are taken over at their marks.

        False, and not begun, while something is held whose price is not known.
        """
        marks, books = world.marks(account), Books(account.equity, self._spot)
        books.cursor = account.events
        held = {symbol: perp.base_1e9 for symbol, perp in account.perps.items()}
        held |= {asset: spot.base_1e9 for asset, spot in account.spots.items()}
        for instrument, base_1e9 in held.items():
            if base_1e9:
                if instrument not in marks:
                    return False
                books.holdings[instrument] = Holding(base_to_decimal(base_1e9), marks[instrument])
        for symbol, spec in self._specs.items():
            # What the perp does not hedge was there before us and is not ours to sell.
            spot_1e9 = held.get(spec.base_symbol, 0)
            unhedged_1e9 = spot_1e9 + held.get(symbol, 0)
            if spot_1e9 > 0 and unhedged_1e9 > 0:
                books.paid_in[spec.base_symbol] = base_to_decimal(unhedged_1e9)
        self.books = books
        self.opened = True
        return True

    def ingest(self, events: Sequence[VenueEvent]) -> list[LedgerEntry]:
        known = self.books.cursor
        entries = self.books.ingest(events)
        self.pending.extend(entries)
        for entry in entries:
            if entry.kind in _OF_TRADES:
                self._traded[entry.instrument] = self._traded.get(entry.instrument, _ZERO) + entry.amount
        for event in events:
            if event.sequence > known:
                self.pending_ids.append(VenueEventId(event.sequence, self._venue, self._account, event.id))
        return entries

    def unpriced(self, marks: Mapping[str, Decimal]) -> str:
        """What is held and has no mark; empty where there is none."""
        held = (name for name, holding in self.books.holdings.items() if holding.base)
        return next((name for name in held if name not in marks), "")

    def sync(self, marks: Mapping[str, Decimal], account: AccountReport, operator_s: float) -> Sync:
        """Compare ledger and venue. Both must contain the same events.

        Raises ValidationError where something is held that has no price.
        """
        try:
            ledger = self.books.closing_equity(marks)
        except KeyError as missing:
            text = f"{missing.args[0]} is held and its price is not known"
            raise ValidationError("MISSING_PRICE", text) from None
        self.last_sync = Sync(account.as_of_s, operator_s, account.equity, ledger)
        return self.last_sync

    @property
    def transfers(self) -> Decimal:
        totals = self.books.totals
        return totals[FlowKind.DEPOSIT] + totals[FlowKind.WITHDRAWAL]

    def traded(self, *instruments: str) -> Decimal:
        """What trading ``instruments`` has brought since this process began (negative: cost): fees, tips, gas and
        realised PnL."""
        return sum((self._traded.get(each, _ZERO) for each in instruments), _ZERO)

    def paid_in_1e9(self, asset: str) -> int:
        """Base units of ``asset`` that were paid in as such and are still there."""
        own = self.books.paid_in.get(asset)
        return int(own * BASE_PRECISION) if own else 0

    def held_1e9(self, instrument: str) -> int:
        return round(self.books.holdings.get(instrument, Holding()).base * BASE_PRECISION)
