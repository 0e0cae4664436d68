"""What the engine needs from the world. Nothing else is known about the outside.

Adapters translate every failure into one of the four kinds of ``deltatui.domain.errors``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from deltatui.domain.costs import CostModel
from deltatui.domain.event import Event, Level
from deltatui.domain.ledger import LedgerEntry, VenueEvent
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import FundingRecord, MarketSpec, MarketState
from deltatui.domain.operation import JournalRecord, OpenOperation, Operation, OperationState


class Clock(Protocol):
    """Two clocks (R16.1). Market time drives funding, cooldowns and rebalancing; operator time confirmations, rate
    limits and saves. Both in unix seconds."""

    def market_s(self) -> float: ...

    def operator_s(self) -> float: ...

    async def sleep(self, operator_seconds: float) -> None: ...


class Unsigned(msgspec.Struct, frozen=True):
    """An operation as the venue would have it carried out; ``payload`` means something to the sender only."""

    operation_id: str
    payload: bytes


class Signed(msgspec.Struct, frozen=True):
    """``signature`` is known before sending and the same ``raw`` bytes go down every path (R8.1)."""

    operation_id: str
    signature: str
    raw: bytes
    last_valid_block_height: int | None


class Mark(msgspec.Struct, frozen=True):
    """How far a venue had come: its count of commits to the account. Means something to the venue that made it only."""

    commits: int

    def covers(self, other: Mark) -> bool:
        """Whether what was told at this mark contains all that had happened at ``other``."""
        return self.commits >= other.commits


class Outcome(msgspec.Struct, frozen=True):
    """How an operation ended: LANDED, FAILED or EXPIRED. ``at`` is where it landed: only an account told at or after it
    shows what the operation did; None where the sender cannot say."""

    state: OperationState
    error_code: str = ""
    detail: str = ""
    at: Mark | None = None


class Sender(Protocol):
    """Takes an operation from unsigned to an outcome."""

    async def simulate(self, unsigned: Unsigned) -> None:
        """Raise ValidationError with the program's own error name if it would fail."""

    async def sign(self, unsigned: Unsigned) -> Signed: ...

    async def send(self, signed: Signed) -> None:
        """Idempotent: the same bytes twice have one effect. TransientError if it is not known to have arrived."""

    async def outcome(self, signed: Signed) -> Outcome | None:
        """Wait for the outcome as long as the sender's own deadline allows; None while nobody can know it."""


class OtherPosition(msgspec.Struct, frozen=True):
    """A perp position of the same account in a market that this engine does not carry. ``mark`` None: its price is not
    known. ``unsettled`` as in AccountState."""

    instrument: str
    base_1e9: int
    entry: Decimal | None
    mark: Decimal | None
    unsettled: Decimal


class AccountState(msgspec.Struct, frozen=True):
    """The account as the venue tells it, for one market. Base amounts 1e9, signed (negative: borrowed, short).

    ``equity`` is the venue's own figure, from balances. ``unsettled`` is PnL and funding that the venue has not yet
    moved into the quote balance, ``settled`` what it has moved so far, ``perp_settled`` of that since the present
    position was opened. ``events`` is the number of the newest
    VenueEvent that these figures contain, ``mark`` how far the venue had come when it told them. ``others`` are
    positions elsewhere in the account.
    """

    as_of_s: float
    events: int
    equity: Decimal
    quote: Decimal
    spot_1e9: int
    perp_1e9: int
    perp_entry: Decimal | None
    unsettled: Decimal
    wallet_quote: Decimal
    wallet_base_1e9: int
    open_bids_1e9: int = 0
    open_asks_1e9: int = 0
    being_liquidated: bool = False
    liquidations: int = 0
    settled: Decimal = Decimal(0)
    perp_settled: Decimal = Decimal(0)
    mark: Mark = Mark(0)
    others: tuple[OtherPosition, ...] = ()


class Venue(Protocol):
    """An exchange, as facts and as a builder of operations. What is not known is None."""

    @property
    def name(self) -> str: ...

    @property
    def quote_symbol(self) -> str: ...

    def markets(self) -> Mapping[str, MarketSpec]: ...

    def market(self, symbol: str) -> MarketState | None: ...

    def account(self, symbol: str) -> AccountState | None:
        """What was told last. May lag behind what has landed."""

    async def report(self, symbol: str, at_least: Mark | None) -> AccountState:
        """The account told at or after ``at_least``; from then on :meth:`account` and :meth:`margin_book` show it too.

        Waits for it as long as the venue's own deadline allows, then raises TransientError.
        """

    def margin_book(self) -> MarginBook | None:
        """Everything the margin formulas need, at current oracle prices."""

    def health(self) -> int | None:
        """0..100 (R2.3). Raises ValidationError where the account cannot be judged."""

    def costs(self) -> CostModel: ...

    def not_applicable(self) -> Mapping[str, str]:
        """Gate code -> why this venue has no such thing."""

    async def build(self, operation: Operation) -> Unsigned: ...

    async def events_after(self, sequence: int) -> Sequence[VenueEvent]:
        """What happened to the account since event number ``sequence``, in order, without a hole."""


class Link(Protocol):
    """The connection to venue and chain."""

    @property
    def lost(self) -> str:
        """Why nothing can be reached; empty while all is well."""

    async def reconnect(self) -> None:
        """Raises TransientError while it does not succeed. Afterwards venue and sender know the present state."""


class Store(Protocol):
    """The engine's durable memory. A call returns when its data are safe to the degree the store was opened for."""

    async def append_journal(self, record: JournalRecord) -> None:
        """Raises CriticalError if the transition is not in the table, TransientError if the disk refuses."""

    async def open_operations(self) -> Sequence[OpenOperation]: ...

    async def known_operation(self, operation_id: str) -> OperationState | None: ...

    async def append_ledger(
        self,
        entries: Sequence[LedgerEntry],
        state: Mapping[str, bytes],
        funding: Mapping[str, Sequence[FundingRecord]] | None = None,
    ) -> None:
        """Entries, the named engine states (vault, cursor, stance ...) and, by market, the funding records that these
        states have judged, in one transaction. What is there already is passed over; CriticalError where it differs."""

    async def funding(self, market: str, newest: int) -> Sequence[FundingRecord]:
        """The market's ``newest`` records that were kept, oldest first."""

    async def save_state(self, state: Mapping[str, bytes]) -> None: ...

    async def load_state(self) -> Mapping[str, bytes]: ...

    async def append_events(self, events: Sequence[Event]) -> None: ...


class Log(Protocol):
    """Audit lines (R15.2). ``tag`` without brackets; ``fields`` are structured."""

    def __call__(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None: ...
