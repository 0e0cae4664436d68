"""Between sending and landing: pending transactions and bundles, and what faults do to them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from node.chain import NotLanded
from node.faults import Blackhole, FailOnChain, Hide, Late, Reorg, Stuck, TransactionFault, Via
from node.records import Copy, Records

if TYPE_CHECKING:
    from node.chain import Chain, Landing
    from node.transaction import Transaction

_NEVER = 2**63
BundleStatus = Literal["Pending", "Failed", "Landed"]


@dataclass(slots=True)
class Traits:
    """Faults that stay with a signature whichever copy of it lands."""

    hide: int = 0
    hold: int = 0
    fail: FailOnChain | None = None
    reorg: Reorg | None = None

    def learn(self, fault: TransactionFault | None) -> None:
        if isinstance(fault, Hide):
            self.hide = max(self.hide, fault.blocks)
        elif isinstance(fault, Stuck):
            self.hold = max(self.hold, fault.blocks)
        elif isinstance(fault, FailOnChain):
            self.fail = fault
        elif isinstance(fault, Reorg):
            self.reorg = fault


@dataclass(slots=True)
class Pending:
    transaction: Transaction
    due: int


@dataclass(slots=True)
class Bundle:
    """``made_unix_s`` dates the look-back of the status methods; ``why`` it failed."""

    id: str
    transactions: tuple[Transaction, ...]
    due: int
    made_unix_s: float
    status: BundleStatus = "Pending"
    slot: int | None = None
    why: object = None


def bundle_id(signatures: list[str]) -> str:
    return hashlib.sha256(",".join(signatures).encode()).hexdigest()


def _injected(fail: FailOnChain) -> tuple[object, list[str]]:
    error = {"InstructionError": [fail.instruction, {"Custom": fail.custom}]}
    return error, [f"Program failed: custom program error: {fail.custom:#x}"]


@dataclass(slots=True)
class Mempool:
    """``min_unit_price`` (micro-lamports per compute unit) models congestion: cheaper transactions wait."""

    chain: Chain
    records: Records
    min_unit_price: int = 0
    land_blocks: int = 1
    bundle_blocks: int = 1
    pending: dict[str, Pending] = field(default_factory=dict)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    traits: dict[str, Traits] = field(default_factory=dict)
    reorgs: list[tuple[int, str, int | None]] = field(default_factory=list)
    _unlanded: dict[str, Transaction] = field(default_factory=dict)
    _open: list[Bundle] = field(default_factory=list)

    def submit(self, transaction: Transaction, via: Via, endpoint: int, fault: TransactionFault | None) -> None:
        """Take one copy in, as its fault allows."""
        tip = self.chain.tip.height
        self.records.copy(transaction, Copy(via, endpoint, tip, fault))
        if self._expect(transaction, fault) and not isinstance(fault, Blackhole):
            self._put(transaction, tip + self.land_blocks + (fault.blocks if isinstance(fault, Late) else 0))

    def submit_bundle(
        self, transactions: tuple[Transaction, ...], endpoint: int, fault: TransactionFault | None, *, wins: bool
    ) -> Bundle:
        """``wins`` False: its tip is too small, so it stays pending until its blockhash dies."""
        tip = self.chain.tip
        for transaction in transactions:
            self.records.copy(transaction, Copy("bundle", endpoint, tip.height, fault))
            self._expect(transaction, fault)
        due = tip.height + self.bundle_blocks + (fault.blocks if isinstance(fault, Late) else 0)
        if isinstance(fault, Blackhole) or not wins:
            due = _NEVER
        name = bundle_id([t.signature for t in transactions])
        bundle = self.bundles.get(name)
        if bundle is not None and bundle.status == "Pending":
            bundle.due = min(bundle.due, due)
            return bundle
        bundle = self.bundles[name] = Bundle(name, transactions, due, tip.unix_s)
        self._open.append(bundle)
        return bundle

    def run(self) -> None:
        """Land what is due in the open block and forget what can land no more."""
        height = self.chain.tip.height
        for signature, pending in list(self.pending.items()):
            transaction = pending.transaction
            if self._dead(transaction):
                del self.pending[signature]
            elif pending.due <= height and transaction.unit_price >= self.min_unit_price:
                del self.pending[signature]
                self._land(transaction)
        for bundle in self._open:
            self._run_bundle(bundle, height)
        self._open = [bundle for bundle in self._open if bundle.status == "Pending"]
        for signature, transaction in list(self._unlanded.items()):
            if self._dead(transaction):
                del self._unlanded[signature]
                self._fate(transaction, "expired")

    def resubmit(self, transaction: Transaction, blocks: int) -> None:
        """Back into the pool after a reorg."""
        self._expect(transaction, None)
        self._put(transaction, self.chain.tip.height + blocks)

    def forget(self, transaction: Transaction) -> None:
        """Lost with its fork. It may come back by ``resubmit`` or by being sent again."""
        self._expect(transaction, None)
        self.pending.pop(transaction.signature, None)

    def _put(self, transaction: Transaction, due: int) -> None:
        known = self.pending.get(transaction.signature)
        self.pending[transaction.signature] = Pending(transaction, due if known is None else min(due, known.due))

    def _expect(self, transaction: Transaction, fault: TransactionFault | None) -> bool:
        """Note a copy; False when the transaction has landed already."""
        self.traits.setdefault(transaction.signature, Traits()).learn(fault)
        if transaction.signature in self.chain.landed:
            return False
        self._unlanded[transaction.signature] = transaction
        self._fate(transaction, "pending")
        return True

    def _dead(self, transaction: Transaction) -> bool:
        last_valid = self.chain.last_valid_height(transaction.blockhash)
        return last_valid is None or last_valid < self.chain.tip.height

    def _fate(self, transaction: Transaction, fate: str) -> None:
        if transaction.signature in self.records.seen:
            self.records.seen[transaction.signature].fate = fate

    def _land(self, transaction: Transaction) -> None:
        fail = self.traits[transaction.signature].fail
        try:
            if fail is None:
                self._landed(self.chain.land([transaction]))
            else:
                error, logs = _injected(fail)
                self._landed([self.chain.land_failed(transaction, error, logs)])
        except NotLanded as refused:
            self._unlanded.pop(transaction.signature, None)
            self._fate(transaction, f"dropped: {refused.reason}")

    def _run_bundle(self, bundle: Bundle, height: int) -> None:
        dead = any(self._dead(t) for t in bundle.transactions)
        if bundle.due > height and not dead:
            return
        fails = [self.traits[t.signature].fail for t in bundle.transactions]
        fail = next((f for f in fails if f is not None), None)
        try:
            if fail is not None:  # what would fail on the chain keeps a bundle off it
                raise NotLanded(_injected(fail)[0])
            self._landed(self.chain.land(bundle.transactions, atomic=True))
            bundle.status, bundle.slot = "Landed", self.chain.tip.slot
        except NotLanded as refused:
            bundle.status, bundle.why = "Failed", refused.reason

    def _landed(self, landings: list[Landing]) -> None:
        for landing in landings:
            self.pending.pop(landing.signature, None)
            self._unlanded.pop(landing.signature, None)
            traits = self.traits[landing.signature]
            landing.hidden_until = landing.height + traits.hide
            landing.held_until = landing.height + traits.hold
            if traits.reorg is not None:
                self.reorgs.append((landing.height + traits.reorg.after, landing.signature, traits.reorg.reland_after))
                traits.reorg = None
            self.records.landing(landing)
