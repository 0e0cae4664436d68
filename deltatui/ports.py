"""What the engine needs from the world. Nothing else is known about the outside.

Adapters translate every failure into one of the four kinds of ``deltatui.domain.errors``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from deltatui.domain.costs import CostModel
from deltatui.domain.event import Event, Level
from deltatui.domain.facts import Fact
from deltatui.domain.ledger import LedgerEntry, VenueEvent, VenueEventId
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import FundingRecord, MarketSpec
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


class Mark(Protocol):
    """How far a venue had come when something happened or was told: a slot, a sequence, a count. Opaque to everybody
    but the venue that made it; marks of different kinds cover nothing of each other."""

    def covers(self, other: Mark, /) -> bool:
        """Whether what was told at this mark contains all that had happened at ``other``."""


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


class AccountId(msgspec.Struct, frozen=True):
    """One account of one venue. Two engines must never run on the same."""

    venue: str
    authority: str
    sub_account: int = 0

    def __str__(self) -> str:
        return f"{self.venue}/{self.authority}/{self.sub_account}"


class PerpBalance(msgspec.Struct, frozen=True):
    """A perp position. Base 1e9, signed (negative: short). ``unsettled`` is PnL and funding that the venue has not yet
    moved into the quote balance, ``settled`` what it has moved since the position was opened. ``mark`` is what the
    venue values it at; None: not known."""

    base_1e9: int
    entry: Decimal | None
    unsettled: Decimal
    settled: Decimal
    mark: Decimal | None
    open_bids_1e9: int = 0
    open_asks_1e9: int = 0


class SpotBalance(msgspec.Struct, frozen=True):
    """Of one spot asset, in base 1e9 whatever its decimals: in the account (negative: borrowed) and in the wallet.
    ``mark`` is what the venue values it at; None: not known."""

    base_1e9: int
    wallet_1e9: int
    mark: Decimal | None = None


NO_PERP = PerpBalance(0, None, Decimal(0), Decimal(0), None)
NO_SPOT = SpotBalance(0, 0)


class AccountReport(msgspec.Struct, frozen=True):
    """The whole account as the venue told it at ``mark``.

    ``equity`` is the venue's own figure, from balances. ``events`` is the number of the newest VenueEvent that these
    figures contain. ``spots`` are by base symbol, ``perps`` by market, those too that the engine does not carry; what
    is not named is not held. ``settled`` is PnL that was moved into the quote balance since the account was opened.
    """

    account: AccountId
    mark: Mark
    as_of_s: float
    events: int
    equity: Decimal
    quote: Decimal
    wallet_quote: Decimal
    spots: Mapping[str, SpotBalance]
    perps: Mapping[str, PerpBalance]
    settled: Decimal = Decimal(0)
    being_liquidated: bool = False
    liquidations: int = 0


class Venue(Protocol):
    """An exchange, as facts and as a builder of operations. What is not known is None."""

    @property
    def name(self) -> str: ...

    @property
    def quote_symbol(self) -> str: ...

    @property
    def account_id(self) -> AccountId: ...

    def markets(self) -> Mapping[str, MarketSpec]:
        """What is listed. What changes later comes as a fact."""

    def account(self) -> AccountReport | None:
        """What was told last. May lag behind what has landed."""

    async def report(self, at_least: Mark | None) -> AccountReport:
        """The account told at or after ``at_least``; from then on :meth:`account` and :meth:`margin_book` show it too.

        Waits for it as long as the venue's own deadline allows, on the clock, then raises TransientError. A report that
        is older than one told before (another endpoint answered) is waited out in the same way.
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


class Source(Protocol):
    """Where facts come from. ``run`` is a supervised task and never returns while more may come."""

    @property
    def name(self) -> str: ...

    async def run(self, post: Callable[[Fact], Awaitable[None]]) -> None:
        """Hand over fact after fact. ``post`` returns when the loop has room again: a source never overruns it."""


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
        events: Sequence[VenueEventId] = (),
    ) -> None:
        """Entries, the named engine states (vault, cursor, stance ...), by market the funding records that these states
        have judged, and the numbers of all venue events that they contain (a fill that makes no entry too), in one
        transaction. What is there already is passed over; CriticalError where it differs.

        An entry's ``venue_sequence`` is the number of an event given here or before, or 0. Numbers grow by one and are
        for ever: one event has one number. The first is 1, or follows what had happened before the books were opened.
        """

    async def funding(self, market: str, newest: int) -> Sequence[FundingRecord]:
        """The market's ``newest`` records that were kept, oldest first."""

    async def save_state(self, state: Mapping[str, bytes]) -> None: ...

    async def load_state(self) -> Mapping[str, bytes]: ...

    async def append_events(self, events: Sequence[Event]) -> None: ...


class Log(Protocol):
    """Audit lines (R15.2). ``tag`` without brackets; ``fields`` are structured."""

    def __call__(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None: ...
