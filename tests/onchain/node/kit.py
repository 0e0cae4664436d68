"""Keys and transactions for tests that use the node."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from node.transaction import MEMO, OPERATION_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence


class Wallet:
    """A key pair that is the same in every run: made from its name, so worth nothing anywhere else."""

    def __init__(self, name: str) -> None:
        self.keypair = Keypair.from_seed(hashlib.sha256(f"deltatui test wallet {name}".encode()).digest())

    @property
    def key(self) -> Pubkey:
        return self.keypair.pubkey()


def operation_memo(operation: str) -> Instruction:
    """The memo by which the node counts what an operation did: ``op:<operation id>``."""
    return Instruction(MEMO, f"{OPERATION_PREFIX}{operation}".encode(), [])


def transfer_instructions(operation: str, payer: Pubkey, to: Pubkey, lamports: int) -> list[Instruction]:
    """A labelled operation with an effect that can be counted: ``lamports`` go over."""
    return [
        transfer(TransferParams(from_pubkey=payer, to_pubkey=to, lamports=lamports)),
        operation_memo(operation),
    ]


def tip_instruction(payer: Pubkey, tip_account: Pubkey | str, lamports: int) -> Instruction:
    account = tip_account if isinstance(tip_account, Pubkey) else Pubkey.from_string(tip_account)
    return transfer(TransferParams(from_pubkey=payer, to_pubkey=account, lamports=lamports))


def sign(
    wallet: Wallet,
    instructions: Sequence[Instruction],
    blockhash: str,
    *,
    unit_limit: int | None = None,
    unit_price: int | None = None,
) -> VersionedTransaction:
    """``unit_price`` in micro-lamports per compute unit."""
    budget = []
    if unit_limit is not None:
        budget.append(set_compute_unit_limit(unit_limit))
    if unit_price is not None:
        budget.append(set_compute_unit_price(unit_price))
    message = MessageV0.try_compile(wallet.key, [*budget, *instructions], [], Hash.from_string(blockhash))
    return VersionedTransaction(message, [wallet.keypair])
