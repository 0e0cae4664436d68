"""Operations: what may happen to one, and in which order (R8.1).

An operation is one intent that moves money or risk. Its states are written to the journal before the step they
allow, so that after a crash the journal says how far it can have got.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from deltatui.domain.errors import CriticalError


class OperationState(StrEnum):
    PLANNED = "PLANNED"
    SIMULATED = "SIMULATED"
    SIGNED = "SIGNED"
    SENT = "SENT"
    UNRESOLVED = "UNRESOLVED"
    LANDED = "LANDED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"

    @property
    def final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({OperationState.LANDED, OperationState.FAILED, OperationState.EXPIRED})

TRANSITIONS: dict[OperationState, frozenset[OperationState]] = {
    OperationState.PLANNED: frozenset({OperationState.SIMULATED, OperationState.FAILED}),
    OperationState.SIMULATED: frozenset({OperationState.SIGNED, OperationState.FAILED}),
    # A signed operation may have been sent by a process that died before it could say so.
    OperationState.SIGNED: frozenset({OperationState.SENT, OperationState.UNRESOLVED, OperationState.FAILED}),
    OperationState.SENT: frozenset({OperationState.UNRESOLVED, *_FINAL}),
    OperationState.UNRESOLVED: _FINAL,
    OperationState.LANDED: frozenset(),
    OperationState.FAILED: frozenset(),
    OperationState.EXPIRED: frozenset(),
}


def check_transition(before: OperationState, after: OperationState) -> None:
    """Raise CriticalError unless the table allows ``before -> after``."""
    if after not in TRANSITIONS[before]:
        raise CriticalError("BAD_TRANSITION", f"an operation cannot go from {before} to {after}")


class OperationKind(StrEnum):
    TAKE = "TAKE"
    LEAVE = "LEAVE"
    REBALANCE = "REBALANCE"
    UNWIND = "UNWIND"
    SETTLE = "SETTLE"
    DEPOSIT = "DEPOSIT"
    WITHDRAW = "WITHDRAW"


class Leg(msgspec.Struct, frozen=True):
    """One order of an operation.

    ``base_1e9`` is signed: positive buys. ``limit_price_1e6`` is the worst acceptable price. A ``reduce_only`` leg
    never increases or flips a position.
    """

    market: str
    base_1e9: int
    limit_price_1e6: int
    reduce_only: bool = False


class Transfer(msgspec.Struct, frozen=True):
    """Wallet to venue (positive) or back (negative), in the asset's own smallest units."""

    asset: str
    amount: int


class Operation(msgspec.Struct, frozen=True):
    """One journalled intent. ``id`` is unique for ever and chosen before anything else happens."""

    id: str
    kind: OperationKind
    market: str
    source: str
    created_market_s: float
    created_operator_s: float
    legs: tuple[Leg, ...] = ()
    transfer: Transfer | None = None
    intent_id: str = ""
    reason: str = ""
    parent_id: str = ""


class JournalRecord(msgspec.Struct, frozen=True):
    """One line of the journal: the operation entered ``state``. ``signature``, ``raw`` and
    ``last_valid_block_height`` are there from SIGNED on; ``error_code`` and ``detail`` where it failed."""

    operation_id: str
    state: OperationState
    operator_s: float
    operation: Operation | None = None
    signature: str = ""
    raw: bytes = b""
    last_valid_block_height: int | None = None
    error_code: str = ""
    detail: str = ""


class OpenOperation(msgspec.Struct, frozen=True):
    """The journal folded for one operation that has not ended."""

    operation: Operation
    state: OperationState
    signature: str = ""
    raw: bytes = b""
    last_valid_block_height: int | None = None
