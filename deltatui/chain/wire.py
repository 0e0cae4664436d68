"""The node's answers that we read, typed. Unknown fields are ignored, numbers keep their full range."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Generic, TypeVar

import msgspec

from deltatui.domain.errors import TransientError

T = TypeVar("T")


class Context(msgspec.Struct, frozen=True, rename="camel"):
    slot: int


class Valued(msgspec.Struct, Generic[T], frozen=True, rename="camel"):
    """A value together with the slot at which the node read it."""

    context: Context
    value: T


class LatestBlockhash(msgspec.Struct, frozen=True, rename="camel"):
    blockhash: str
    last_valid_block_height: int


class EpochInfo(msgspec.Struct, frozen=True, rename="camel"):
    absolute_slot: int
    block_height: int
    epoch: int = 0


class SignatureStatus(msgspec.Struct, frozen=True, rename="camel"):
    """``err`` is the transaction error as JSON, None for success."""

    slot: int
    confirmations: int | None = None
    err: Any = None
    confirmation_status: str | None = None

    @property
    def commitment(self) -> str:
        """processed, confirmed or finalized. Nodes that leave it out say finalized by ``confirmations`` null."""
        if self.confirmation_status is not None:
            return self.confirmation_status
        return "finalized" if self.confirmations is None else "processed"


class Simulation(msgspec.Struct, frozen=True, rename="camel"):
    err: Any = None
    logs: list[str] | None = None
    units_consumed: int | None = None


class Account(msgspec.Struct, frozen=True, rename="camel"):
    """``data`` is base64 and the word that says so."""

    lamports: int
    owner: str
    data: tuple[str, str]
    executable: bool = False

    def decoded(self) -> bytes:
        """Raises TransientError if the node sent something else than base64."""
        try:
            if self.data[1] == "base64":
                return base64.b64decode(self.data[0], validate=True)
        except binascii.Error:
            pass
        raise TransientError("RPC_GARBAGE", "a node sent account data that is not base64")


class KeyedAccount(msgspec.Struct, frozen=True, rename="camel"):
    pubkey: str
    account: Account


class PerformanceSample(msgspec.Struct, frozen=True, rename="camel"):
    slot: int
    num_slots: int
    sample_period_secs: int


class PrioritizationFee(msgspec.Struct, frozen=True, rename="camel"):
    """The least micro-lamports per compute unit that a transaction of ``slot`` paid."""

    slot: int
    prioritization_fee: int


class Version(msgspec.Struct, frozen=True):
    solana_core: str = msgspec.field(name="solana-core", default="unknown")


class SignatureEntry(msgspec.Struct, frozen=True, rename="camel"):
    """One line of an address's history."""

    signature: str
    slot: int
    err: Any = None
    confirmation_status: str | None = None


class TransactionMeta(msgspec.Struct, frozen=True, rename="camel"):
    err: Any = None
    fee: int | None = None
    log_messages: list[str] | None = None
    compute_units_consumed: int | None = None


class TransactionInfo(msgspec.Struct, frozen=True, rename="camel"):
    """``version`` is "legacy", 0, 1 or what a later chain may bring."""

    slot: int
    meta: TransactionMeta | None = None
    block_time: int | None = None
    version: int | str | None = None


class TipFloor(msgspec.Struct, frozen=True):
    """Tips that landed, in SOL."""

    time: str
    landed_tips_25th_percentile: float
    landed_tips_50th_percentile: float
    landed_tips_75th_percentile: float
    landed_tips_95th_percentile: float
    landed_tips_99th_percentile: float
    ema_landed_tips_50th_percentile: float | None = None
