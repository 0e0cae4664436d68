"""One chain: blocks, blockhash ages, commitment levels, account history and forks, over LiteSVM.

Time is a number that blocks move. A block is made by ``begin_block`` (transactions then run in it) and ``seal_block``.
"""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from node.transaction import LAMPORTS_PER_SIGNATURE, SYSTEM, Transaction
from node.wire import error_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Level = Literal["processed", "confirmed", "finalized"]
LEVELS: tuple[Level, ...] = ("processed", "confirmed", "finalized")
BLOCKHASH_LIFE = 150
SLOTS_PER_EPOCH = 432_000
CLOCK_SYSVAR = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
_SYSVAR_OWNER = Pubkey.from_string("Sysvar1111111111111111111111111111111111111")
_GENESIS = -1
_NO_RENT = 2**64 - 1
# solders 0.26's LiteSVM charges signatures only; newer ones the priority fee too.
_CHARGES_PRIORITY = hasattr(TransactionMetadata, "fee")


@dataclass(slots=True)
class Landing:
    """One transaction in one block. ``error`` is None or the validator's JSON. ``hidden_until`` and ``held_until``
    are block heights: before the first no node knows the signature, before the second it stays at processed."""

    transaction: Transaction
    slot: int
    height: int
    unix_s: int
    error: object
    logs: list[str]
    units: int
    fee: int
    keys: list[Pubkey]
    before: list[int]
    after: list[int]
    hidden_until: int = 0
    held_until: int = 0

    @property
    def signature(self) -> str:
        return self.transaction.signature


@dataclass(slots=True)
class Block:
    slot: int
    parent: int
    height: int
    blockhash: str
    unix_s: float
    priority_fee: int
    landings: list[Landing] = field(default_factory=list)
    written: set[Pubkey] = field(default_factory=set)


class NotLanded(Exception):  # noqa: N818 (the usual fate of many)
    """A transaction is in no block. ``reason`` is the validator's JSON."""

    def __init__(self, reason: object) -> None:
        super().__init__(reason)
        self.reason = reason


class Chain:
    """The canonical fork. ``unix_s`` is the chain's clock and may be set at any time.

    ``slot_s`` seconds pass per slot, every ``skip_every``-th block is preceded by a skipped slot (0: never), so slot
    and block height drift apart as they do on a cluster. While ``hold_confirmations`` is set, blocks stay processed.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        slot_s: float = 0.4,
        skip_every: int = 20,
        confirmed_lag: int = 1,
        finalized_lag: int = 32,
        unix_s: float = 1_795_000_000.0,
    ) -> None:
        # Signatures and blockhash ages are checked here: LiteSVM knows one blockhash and cannot simulate unsigned.
        self.svm = (
            LiteSVM()
            .with_sigverify(False)
            .with_blockhash_check(False)
            .with_transaction_history(0)
            .with_log_bytes_limit(10_000)
        )
        self.slot_s = slot_s
        self.skip_every = skip_every
        self.confirmed_lag = confirmed_lag
        self.finalized_lag = finalized_lag
        self.unix_s = unix_s
        self.priority_fee = 0
        self.hold_confirmations = False
        self.landed: dict[str, Landing] = {}
        self._seed = seed
        self._made = 0
        self._slot = 460_000_000
        self._first = 438_000_000
        self.blocks: list[Block] = []
        self._hash_height: dict[str, int] = {}
        self._history: dict[Pubkey, list[tuple[int, Account | None]]] = {}
        self._level: dict[Level, int] = {"confirmed": self._first, "finalized": self._first}
        for _ in range(finalized_lag + 8):  # so that "finalized" has a past from the first request on
            self.begin_block()
            self.seal_block()

    # -- blocks ------------------------------------------------------------------------------------------------
    @property
    def tip(self) -> Block:
        return self.blocks[-1]

    def block(self, height: int) -> Block:
        """The block at ``height``; heights before the first block give the first."""
        return self.blocks[max(0, height - self._first)]

    def at_slot(self, slot: int) -> Block | None:
        i = bisect_right(self.blocks, slot, key=lambda b: b.slot) - 1
        return self.blocks[i] if i >= 0 and self.blocks[i].slot == slot else None

    def height(self, level: Level) -> int:
        return self.tip.height if level == "processed" else self._level[level]

    def begin_block(self) -> Block:
        """Open the next block; transactions now run in it. After a rollback it takes a slot the lost fork had not."""
        self._made += 1
        slots = 2 if self.skip_every and self._made % self.skip_every == 0 else 1
        parent = self.tip.slot if self.blocks else self._slot
        self._slot += slots
        self.unix_s += self.slot_s * slots
        height = self.tip.height + 1 if self.blocks else self._first
        digest = hashlib.sha256(f"{self._seed}/{self._made}/{self._slot}".encode()).digest()
        block = Block(self._slot, parent, height, str(Hash(digest)), self.unix_s, self.priority_fee)
        self.blocks.append(block)
        self._hash_height[block.blockhash] = height
        epoch = self._slot // SLOTS_PER_EPOCH
        self.svm.set_clock(Clock(self._slot, int(self.unix_s), epoch, epoch + 1, int(self.unix_s)))
        return block

    def seal_block(self) -> None:
        if self.hold_confirmations:
            return
        lags: dict[Level, int] = {"confirmed": self.confirmed_lag, "finalized": self.finalized_lag}
        for level, lag in lags.items():
            self._level[level] = max(self._level[level], self.tip.height - lag)

    def rollback(self, depth: int) -> list[Landing]:
        """Drop the last ``depth`` blocks with everything in them; return what had landed there, oldest first.

        Raise ValueError when that would undo a finalized block."""
        fork = self.tip.height - depth
        if depth < 1 or fork < self._level["finalized"]:
            raise ValueError(
                f"a reorg of {depth} blocks is not possible: 1 to {self.tip.height - self._level['finalized']}"
            )
        dropped = self.blocks[-depth:]
        del self.blocks[-depth:]
        for block in dropped:
            del self._hash_height[block.blockhash]
            for key in block.written:
                history = self._history[key]
                while history[-1][0] > fork:
                    history.pop()
                self._set(key, history[-1][1])
            for landing in block.landings:
                del self.landed[landing.signature]
        self._level["confirmed"] = min(self._level["confirmed"], fork)
        return [landing for block in dropped for landing in block.landings]

    # -- blockhashes -------------------------------------------------------------------------------------------
    def last_valid_height(self, blockhash: str) -> int | None:
        """None when this fork has no such block."""
        height = self._hash_height.get(blockhash)
        return None if height is None else height + BLOCKHASH_LIFE

    def blockhash_valid(self, blockhash: str, height: int) -> bool:
        """Could a transaction with this blockhash be in a block at ``height``, seen from there?"""
        made = self._hash_height.get(blockhash)
        return made is not None and made <= height <= made + BLOCKHASH_LIFE

    # -- accounts ----------------------------------------------------------------------------------------------
    def account(self, key: Pubkey, height: int | None = None) -> Account | None:
        """As of the block at ``height``, default now."""
        if key == CLOCK_SYSVAR:
            return self._clock_account(self.tip if height is None else self.block(height))
        history = self._history.get(key)
        if height is not None and history is not None:
            return history[max(0, bisect_right(history, height, key=lambda v: v[0]) - 1)][1]
        found = self.svm.get_account(key)
        return None if found is None or found.lamports == 0 else found

    def put_account(self, key: Pubkey, account: Account) -> None:
        """Make the account be so now and at every commitment, as if it had always been."""
        self._set(key, account)
        self._history[key] = [(_GENESIS, account)]

    def fund(self, key: Pubkey, lamports: int) -> None:
        had = self.account(key)
        if had is None:
            self.put_account(key, Account(lamports, b"", SYSTEM, False, _NO_RENT))
        else:
            self.put_account(key, _with_lamports(had, had.lamports + lamports))

    def _set(self, key: Pubkey, account: Account | None) -> None:
        self.svm.set_account(key, account if account is not None else Account(0, b"", SYSTEM, False, 0))

    def _clock_account(self, block: Block) -> Account:
        epoch = block.slot // SLOTS_PER_EPOCH
        data = struct.pack("<QqQQq", block.slot, int(block.unix_s), epoch, epoch + 1, int(block.unix_s))
        return Account(1_169_280, data, _SYSVAR_OWNER, False, _NO_RENT)

    # -- transactions ------------------------------------------------------------------------------------------
    def land(self, transactions: Sequence[Transaction], *, atomic: bool = False) -> list[Landing]:
        """Run them in the open block, in order; raise NotLanded when there is one that no block can hold.

        One whose program fails lands with its error and pays its fee, except when ``atomic`` (a bundle): then any
        failure undoes all."""
        before: dict[Pubkey, Account | None] = {}
        landings: list[Landing] = []
        try:
            for transaction in transactions:
                landing = self._land_one(transaction, before)
                if atomic and landing.error is not None:
                    raise NotLanded(landing.error)
                landings.append(landing)
        except NotLanded:
            for key, account in before.items():
                self._set(key, account)
            raise
        self._commit(landings, before)
        return landings

    def land_failed(self, transaction: Transaction, error: object, logs: list[str]) -> Landing:
        """Land it as failed with ``error``: the fee is paid, nothing else happens."""
        keys, _ = self._admit(transaction)
        payer = self.account(transaction.payer)
        if payer is None or payer.lamports < transaction.fee:
            raise NotLanded("InsufficientFundsForFee")
        before: dict[Pubkey, Account | None] = {transaction.payer: payer}
        balances = self._balances(keys)
        self._set(transaction.payer, _with_lamports(payer, payer.lamports - transaction.fee))
        landing = self._landing(transaction, keys, balances, error, logs, 0, transaction.fee)
        self._commit([landing], before)
        return landing

    def _admit(self, transaction: Transaction) -> tuple[list[Pubkey], list[bool]]:
        """Its keys and writable flags; raise NotLanded for what a leader would not even run."""
        tip = self.tip
        if transaction.signature in self.landed:
            raise NotLanded("AlreadyProcessed")
        if not self.blockhash_valid(transaction.blockhash, tip.height) or transaction.blockhash == tip.blockhash:
            raise NotLanded("BlockhashNotFound")
        if not transaction.verified():
            raise NotLanded("SignatureFailure")
        resolved = transaction.keys(self.account)
        if resolved is None:
            raise NotLanded("AddressLookupTableNotFound")
        return resolved

    def _land_one(self, transaction: Transaction, before: dict[Pubkey, Account | None]) -> Landing:
        keys, writable = self._admit(transaction)
        for key, flag in zip(keys, writable, strict=True):
            if flag and key not in before:
                before[key] = self.account(key)
        balances = self._balances(keys)
        result = self.svm.send_transaction(transaction.signed)
        if isinstance(result, FailedTransactionMetadata):
            error, meta = error_json(result.err()), result.meta()
        else:
            error, meta = None, result
        if error is not None and self._balance(transaction.payer) == balances[0]:
            raise NotLanded(error)  # what paid no fee was in no block
        payer = self.account(transaction.payer)
        if not _CHARGES_PRIORITY and payer is not None:
            priority = transaction.fee - LAMPORTS_PER_SIGNATURE * transaction.signers
            self._set(transaction.payer, _with_lamports(payer, max(0, payer.lamports - priority)))
        return self._landing(
            transaction, keys, balances, error, list(meta.logs()), meta.compute_units_consumed(), transaction.fee
        )

    def _landing(
        self,
        transaction: Transaction,
        keys: list[Pubkey],
        balances: list[int],
        error: object,
        logs: list[str],
        units: int,
        fee: int,
    ) -> Landing:
        block = self.tip
        return Landing(
            transaction, block.slot, block.height, int(block.unix_s), error, logs, units, fee, keys, balances,
            self._balances(keys),
        )  # fmt: skip

    def _commit(self, landings: Iterable[Landing], before: dict[Pubkey, Account | None]) -> None:
        block = self.tip
        for landing in landings:
            self.landed[landing.signature] = landing
            block.landings.append(landing)
        for key, old in before.items():
            history = self._history.setdefault(key, [(_GENESIS, old)])
            if history[-1][0] == block.height:
                history.pop()
            history.append((block.height, self.account(key)))
            block.written.add(key)

    def _balance(self, key: Pubkey) -> int:
        return self.svm.get_balance(key) or 0

    def _balances(self, keys: list[Pubkey]) -> list[int]:
        return [self._balance(key) for key in keys]


def _with_lamports(account: Account, lamports: int) -> Account:
    return Account(lamports, bytes(account.data), account.owner, account.executable, account.rent_epoch)
