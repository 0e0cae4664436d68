"""Commands: the one vocabulary in which keys, API clients and the engine itself ask for something.

Sizes travel as integers (``base_1e9``); a float never becomes an order size. ``intent_id`` is the sender's
idempotency key: the engine acts on each at most once. ``snapshot_version`` is what the operator was looking at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeVar

import msgspec

from deltatui.domain.errors import ValidationError
from deltatui.domain.verdict import Verdict


class Direction(StrEnum):
    CARRY = "carry"
    """Long spot, short perp: receives funding while the rate is positive."""
    REVERSE = "reverse"
    """Short (borrowed) spot, long perp: receives funding while the rate is negative."""


class SpotSource(StrEnum):
    """Where the spot leg of a carry take comes from. A leave sells only what was bought."""

    BUY = "buy"
    WALLET = "wallet"
    """SOL in the wallet is deposited in the same operation."""
    DEPOSITED = "deposited"
    """SOL that was paid in before and no hedge covers yet."""


E = TypeVar("E", bound=StrEnum)


def one_of(kind: type[E], value: str, what: str) -> E:
    """``value`` as a member of ``kind``: a plain string that happens to be one must never be read as another.

    Raises ValidationError for any other word.
    """
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise ValidationError("BAD_WORD", f"{what} is '{value}'; it must be one of {known}") from None


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="action"):
    intent_id: str = ""
    snapshot_version: int = 0
    source: Literal["operator", "api", "engine"] = "operator"

    def __post_init__(self) -> None:
        if self.source not in ("operator", "api", "engine"):
            raise ValidationError("BAD_WORD", f"source is '{self.source}'; it must be one of operator, api, engine")


class Take(Command, frozen=True, kw_only=True, tag="TAKE"):
    """Open or add to a hedged position of ``base_1e9`` on both legs (positive whatever the direction)."""

    market: str
    base_1e9: int
    direction: Direction = Direction.CARRY
    spot: SpotSource = SpotSource.BUY

    def __post_init__(self) -> None:
        """Raises ValidationError for a direction or a source of spot that does not exist."""
        super().__post_init__()
        msgspec.structs.force_setattr(self, "direction", one_of(Direction, self.direction, "direction"))
        msgspec.structs.force_setattr(self, "spot", one_of(SpotSource, self.spot, "spot"))


class Leave(Command, frozen=True, kw_only=True, tag="LEAVE"):
    """Close both legs of ``market``; the exact size is computed from fresh state."""

    market: str


class Rebalance(Command, frozen=True, kw_only=True, tag="REBALANCE"):
    market: str


class Settle(Command, frozen=True, kw_only=True, tag="SETTLE"):
    market: str


class Deposit(Command, frozen=True, kw_only=True, tag="DEPOSIT"):
    """``amount`` in the asset's smallest units (USDC 1e6, SOL 1e9)."""

    asset: str
    amount: int


class Withdraw(Command, frozen=True, kw_only=True, tag="WITHDRAW"):
    """``amount`` in the asset's smallest units (USDC 1e6, SOL 1e9)."""

    asset: str
    amount: int


class Confirm(Command, frozen=True, kw_only=True, tag="CONFIRM"):
    """Go ahead with what waits. ``force`` accepts a rejection by the profitability gate (R6). ``word`` is the market's
    symbol as the operator typed it, where a large live command asks for it (R13.10)."""

    operation_id: str
    force: bool = False
    word: str = ""


class Cancel(Command, frozen=True, kw_only=True, tag="CANCEL"):
    operation_id: str


class Pause(Command, frozen=True, kw_only=True, tag="PAUSE"):
    """No new risk and no automatic action until Resume; a replayed tape stops too."""


class Resume(Command, frozen=True, kw_only=True, tag="RESUME"):
    """Back to RUNNING from PAUSED, REDUCING or HALTED, by way of reconciliation."""


class Kill(Command, frozen=True, kw_only=True, tag="KILL"):
    """Cancel everything, automation off, HALTED. With ``flatten`` close every position first."""

    flatten: bool = False
    reason: str = ""


class ForgetLosses(Command, frozen=True, kw_only=True, tag="FORGET_LOSSES"):
    """Count the day's loss and the peak anew from the present equity, after a question (R6.10)."""


class SetSpeed(Command, frozen=True, kw_only=True, tag="SET_SPEED"):
    """Replay speed: market seconds per operator second."""

    speed: int


class SetAutomation(Command, frozen=True, kw_only=True, tag="SET_AUTOMATION"):
    """Whether the engine may take, leave and rebalance by itself. Turning it on also hands it a position that was
    taken by hand."""

    on: bool


class Stop(Command, frozen=True, kw_only=True, tag="STOP_ENGINE"):
    """End the engine process in good order."""


AnyCommand = (
    Take
    | Leave
    | Rebalance
    | Settle
    | Deposit
    | Withdraw
    | Confirm
    | Cancel
    | Pause
    | Resume
    | Kill
    | ForgetLosses
    | SetSpeed
    | SetAutomation
    | Stop
)


class ResultStatus(StrEnum):
    DONE = "done"
    """Carried out whole; for a trade: filled as asked, and vault and ledger synced."""
    PARTLY_DONE = "partly_done"
    """Something of it was filled and something was not: ``parts`` say what is open."""
    NEEDS_CONFIRMATION = "needs_confirmation"
    """Waits for Confirm with ``operation_id``; the snapshot's ``confirmations`` have what it would do."""
    UNRESOLVED = "unresolved"
    """Sent, outcome not known yet; the engine goes on finding it out."""
    REJECTED = "rejected"
    """What was asked was not done; ``code`` and ``message`` say why, ``verdicts`` which gate. A kill has halted the
    engine all the same, and a take that was undone has cost what ``message`` says."""


class LegPart(msgspec.Struct, frozen=True):
    """What became of one leg, in base units, positive bought: ``open`` is ``asked`` less ``filled``, and ``filled``
    counts what was undone again. ``leg`` is the perp or the spot side of ``market``."""

    market: str
    leg: Literal["perp", "spot"]
    asked: float
    filled: float
    open: float


class CommandResult(msgspec.Struct, frozen=True):
    """``parts`` name every leg of a trade that was carried out, from its fills."""

    status: ResultStatus
    code: str
    message: str
    operation_id: str = ""
    intent_id: str = ""
    verdicts: tuple[Verdict, ...] = ()
    parts: tuple[LegPart, ...] = ()

    @property
    def success(self) -> bool:
        return self.status in (ResultStatus.DONE, ResultStatus.NEEDS_CONFIRMATION)
