"""Cash flows and what they add up to (R10.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from deltatui.domain.errors import CriticalError


class FlowKind(StrEnum):
    FUNDING = "funding"
    FEE = "fee"
    TIP = "tip"
    GAS = "gas"
    TRADING_PNL = "trading_pnl"
    INTEREST = "interest"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    WRITE_OFF = "write_off"
    """What the venue forgave an account whose debts were larger than what it held."""


TRANSFER_NOTE = "transfer"
"""Marks a fill that moves base between wallet and account."""
LIQUIDATION_NOTE = "liquidation"
"""Marks a fill that the venue made against the owner's will."""


class VenueEvent(msgspec.Struct, frozen=True):
    """One durable, numbered thing the venue did to the account: a fill, or a cash flow.

    ``sequence`` is the local number under which this event is known here: it counts from 1 without holes, and ledger
    and vault take each number once, so a restart can neither lose nor repeat one. ``event_id`` is what the venue itself
    calls the event (on a chain a signature and the index of a log line); empty where the venue has no other name for it
    than the number, see :attr:`id`. A fill has ``base`` (signed, positive bought) and ``price``; a flow has ``kind``
    and ``amount`` (quote, positive when we receive), never both. ``record`` numbers the funding record of a funding
    flow.
    """

    sequence: int
    market_s: float
    instrument: str
    operation_id: str = ""
    kind: FlowKind | None = None
    amount: Decimal = Decimal(0)
    base: Decimal = Decimal(0)
    price: Decimal = Decimal(0)
    record: int = 0
    note: str = ""
    event_id: str = ""

    @property
    def id(self) -> str:
        """What tells this event from all others of the account: the venue's name for it, else its number as text."""
        return self.event_id or str(self.sequence)


class VenueEventId(msgspec.Struct, frozen=True):
    """Which event of which account has the local ``number``. ``account`` is the whole account as text, the venue
    included; ``event_id`` is :attr:`VenueEvent.id`, never empty. The three never change once they have a number."""

    number: int
    venue: str
    account: str
    event_id: str


class LedgerEntry(msgspec.Struct, frozen=True):
    """One append-only line of the ledger. ``amount`` in quote, positive when we receive. ``venue_sequence`` is the
    local number of the venue's event that it books, 0 where no event of a venue stands behind it."""

    sequence: int
    venue_sequence: int
    market_s: float
    kind: FlowKind
    instrument: str
    amount: Decimal
    operation_id: str = ""
    note: str = ""


class Holding(msgspec.Struct, frozen=True):
    """Units of one instrument with their average price. ``base`` signed; ``price`` is 0 where ``base`` is."""

    base: Decimal = Decimal(0)
    price: Decimal = Decimal(0)

    def unrealized(self, mark: Decimal) -> Decimal:
        """PnL at ``mark`` in quote: ``(mark - entry) * size``, with the sign of the side."""
        return self.base * (mark - self.price)


def apply_fill(holding: Holding, base: Decimal, price: Decimal) -> tuple[Holding, Decimal]:
    """Add a fill to a holding at average cost; returns it with the PnL that the fill realised.

    A fill that reduces keeps the entry price; one that flips realises the old side and opens the rest at ``price``.
    """
    before, after = holding.base, holding.base + base
    if before == 0 or (before > 0) == (base > 0):
        average = (holding.base * holding.price + base * price) / after if after else Decimal(0)
        return Holding(after, average), Decimal(0)
    if abs(base) <= abs(before):
        realized = -base * (price - holding.price)
        return Holding(after, holding.price if after else Decimal(0)), realized
    return Holding(after, price), before * (price - holding.price)


class Books:
    """The account as the ledger knows it: folded from the venue's events alone, never from its balances.

    ``paid_in`` is the base that was paid in as such and is still there, per spot instrument, never negative: what was
    not bought for a hedge. A withdrawal takes it first (R3.4), and so does a sale by another program with the same key.
    That the books never read a balance makes them the second, independent path to the equity: ``opening + entries +
    unrealised PnL of perps + revaluation of spot = closing`` (R10.4). Instruments are perp symbols and base symbols of
    spot.

    ``interest`` is what each asset has earned (negative: cost) in quote, ``interest_at_open`` what that was when the
    position of a perp was opened.
    """

    def __init__(self, opening_equity: Decimal, spot_instruments: frozenset[str]) -> None:
        self.opening_equity = opening_equity
        self.spot_instruments = spot_instruments
        self.cursor = 0
        self.sequence = 0
        self.totals: dict[FlowKind, Decimal] = dict.fromkeys(FlowKind, Decimal(0))
        self.holdings: dict[str, Holding] = {}
        self.funding_since_open: dict[str, Decimal] = {}
        self.interest: dict[str, Decimal] = {}
        self.interest_at_open: dict[str, dict[str, Decimal]] = {}
        self.paid_in: dict[str, Decimal] = {}

    def ingest(self, events: Sequence[VenueEvent]) -> list[LedgerEntry]:
        """Book the events that are new; each number once, in order.

        Raises CriticalError, and books nothing, if a number is missing: something happened to the account that nobody
        told us of.
        """
        self._check_complete(events)
        entries: list[LedgerEntry] = []
        for event in events:
            if event.sequence <= self.cursor:
                continue
            self.cursor = event.sequence
            if event.base:
                self._fill(event, entries)
            if event.kind is not None:
                self._book(event, event.kind, event.amount, entries)
        return entries

    def _check_complete(self, events: Sequence[VenueEvent]) -> None:
        due = self.cursor + 1
        for event in events:
            if event.sequence > due:
                raise CriticalError(
                    "EVENT_GAP", f"venue event {due} is missing, the next one known is {event.sequence}"
                )
            due = max(due, event.sequence + 1)

    def closing_equity(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Equity by the ledger. Raises KeyError if a held instrument has no mark."""
        total = self.opening_equity + sum(self.totals.values())
        for instrument, holding in self.holdings.items():
            if holding.base:
                total += holding.unrealized(marks[instrument])
        return total

    def unrealized(self, marks: Mapping[str, Decimal], *, spot: bool) -> Decimal:
        """Unrealised PnL of the perps, or the revaluation of the spot holdings."""
        total = Decimal(0)
        for instrument, holding in self.holdings.items():
            if holding.base and (instrument in self.spot_instruments) is spot:
                total += holding.unrealized(marks[instrument])
        return total

    def carry_since_open(self, perp: str, base: str) -> Decimal:
        """What a hedge has earned in quote since its perp was opened: funding of ``perp`` and interest of ``base``,
        which a REVERSE borrows. Interest of the quote asset is the account's and is left out."""
        before = self.interest_at_open.get(perp, {}).get(base, _ZERO)
        return self.funding_since_open.get(perp, _ZERO) + self.interest.get(base, _ZERO) - before

    def _fill(self, event: VenueEvent, entries: list[LedgerEntry]) -> None:
        before = self.holdings.get(event.instrument, Holding())
        after, realized = apply_fill(before, event.base, event.price)
        self.holdings[event.instrument] = after
        self._keep_paid_in(event, after)
        if not before.base or not after.base or (before.base > 0) != (after.base > 0):
            self.funding_since_open[event.instrument] = Decimal(0)
            if event.instrument not in self.spot_instruments:
                self.interest_at_open[event.instrument] = dict(self.interest)
        if realized:
            self._book(event, FlowKind.TRADING_PNL, realized, entries)

    def _keep_paid_in(self, event: VenueEvent, after: Holding) -> None:
        own = self.paid_in.get(event.instrument, _ZERO)
        if event.note == TRANSFER_NOTE:
            own = max(_ZERO, own + event.base)
        elif event.note == LIQUIDATION_NOTE:
            own = min(own, max(_ZERO, after.base))
        elif not event.operation_id and not event.note and event.base < 0:
            own = max(_ZERO, own + event.base)
        else:
            return
        self.paid_in[event.instrument] = own

    def _book(self, event: VenueEvent, kind: FlowKind, amount: Decimal, entries: list[LedgerEntry]) -> None:
        self.sequence += 1
        self.totals[kind] += amount
        if kind == FlowKind.FUNDING:
            self.funding_since_open[event.instrument] = self.funding_since_open.get(event.instrument, _ZERO) + amount
        elif kind == FlowKind.INTEREST:
            self.interest[event.instrument] = self.interest.get(event.instrument, _ZERO) + amount
        entries.append(
            LedgerEntry(
                self.sequence,
                event.sequence,
                event.market_s,
                kind,
                event.instrument,
                amount,
                event.operation_id,
                event.note,
            )
        )


_ZERO = Decimal(0)


class BooksImage(msgspec.Struct, frozen=True):
    """What a restart needs to go on with the books where they stood.

    ``transferred`` is :attr:`Books.paid_in`; early images have negative figures there, for SOL of a hedge that was
    withdrawn. An image from before interest was kept by asset has none: what was earned or paid until then stays
    uncounted.
    """

    opening_equity: Decimal
    cursor: int
    sequence: int
    totals: dict[str, Decimal]
    holdings: dict[str, Holding]
    funding_since_open: dict[str, Decimal]
    transferred: dict[str, Decimal]
    interest: dict[str, Decimal] = {}
    interest_at_open: dict[str, dict[str, Decimal]] = {}


def books_image(books: Books) -> BooksImage:
    return BooksImage(
        books.opening_equity,
        books.cursor,
        books.sequence,
        {kind.value: amount for kind, amount in books.totals.items()},
        dict(books.holdings),
        dict(books.funding_since_open),
        dict(books.paid_in),
        dict(books.interest),
        dict(books.interest_at_open),
    )


def books_from_image(image: BooksImage, spot_instruments: frozenset[str]) -> Books:
    books = Books(image.opening_equity, spot_instruments)
    books.cursor = image.cursor
    books.sequence = image.sequence
    books.totals.update({FlowKind(kind): amount for kind, amount in image.totals.items()})
    books.holdings = dict(image.holdings)
    books.funding_since_open = dict(image.funding_since_open)
    books.paid_in = {instrument: max(_ZERO, base) for instrument, base in image.transferred.items()}
    books.interest = dict(image.interest)
    books.interest_at_open = dict(image.interest_at_open)
    return books
