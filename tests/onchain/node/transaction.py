"""A transaction as the node looks at it: keys, fee, operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from solders.message import Message, MessageV0
from solders.pubkey import Pubkey

from node.wire import invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from solders.account import Account
    from solders.transaction import VersionedTransaction

SYSTEM = Pubkey.from_string("11111111111111111111111111111111")
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
COMPUTE_BUDGET = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
LOOKUP_TABLE = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
OPERATION_PREFIX = "op:"

LAMPORTS_PER_SIGNATURE = 5_000
MAX_COMPUTE_UNITS = 1_400_000
_DEFAULT_UNITS = 200_000
_BUILTIN_UNITS = 3_000
_BUILTINS = frozenset(
    {
        SYSTEM,
        COMPUTE_BUDGET,
        LOOKUP_TABLE,
        Pubkey.from_string("Vote111111111111111111111111111111111111111"),
        Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111"),
    }
)


@dataclass(frozen=True, slots=True)
class Instruction:
    program: Pubkey
    accounts: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class Transaction:
    """``unit_price`` is in micro-lamports per compute unit; ``fee`` in lamports, priority fee included.

    ``operation`` is the text after ``op:`` in the first memo that starts so, else None."""

    signed: VersionedTransaction
    signature: str
    blockhash: str
    payer: Pubkey
    signers: int
    instructions: tuple[Instruction, ...]
    unit_price: int
    fee: int
    operation: str | None

    @property
    def raw(self) -> bytes:
        return bytes(self.signed)

    def verified(self) -> bool:
        """True when every required signature is there and right."""
        return len(self.signed.signatures) == self.signers and all(self.signed.verify_with_results())

    def keys(self, account: Callable[[Pubkey], Account | None]) -> tuple[list[Pubkey], list[bool]] | None:
        """All account keys with their writable flags; None when a lookup table is missing or too short."""
        message = self.signed.message
        keys = list(message.account_keys)
        header = message.header
        signers, static = header.num_required_signatures, len(keys)
        writable = [
            i < signers - header.num_readonly_signed_accounts
            or signers <= i < static - header.num_readonly_unsigned_accounts
            for i in range(static)
        ]
        if isinstance(message, MessageV0):
            read_only: list[Pubkey] = []
            for lookup in message.address_table_lookups:
                table = account(lookup.account_key)
                if table is None or table.owner != LOOKUP_TABLE:
                    return None
                body = bytes(table.data)[56:]
                chosen = bytes(lookup.writable_indexes), bytes(lookup.readonly_indexes)
                if any(32 * (i + 1) > len(body) for part in chosen for i in part):
                    return None
                loaded = [[Pubkey.from_bytes(body[32 * i : 32 * i + 32]) for i in part] for part in chosen]
                keys += loaded[0]
                writable += [True] * len(loaded[0])
                read_only += loaded[1]
            keys += read_only
            writable += [False] * len(read_only)
        return keys, writable


def message_fee(message: Message | MessageV0) -> tuple[int, int]:
    """(fee in lamports, price in micro-lamports per unit) that the message asks for."""
    keys = list(message.account_keys)
    price, limit, default = 0, None, 0
    for instruction in message.instructions:
        index = instruction.program_id_index
        program = keys[index] if index < len(keys) else None
        default += _BUILTIN_UNITS if program in _BUILTINS else _DEFAULT_UNITS
        if program == COMPUTE_BUDGET:
            data = bytes(instruction.data)
            if data[:1] == b"\x02":
                limit = int.from_bytes(data[1:5], "little")
            elif data[:1] == b"\x03":
                price = int.from_bytes(data[1:9], "little")
    units = min(MAX_COMPUTE_UNITS, default if limit is None else limit)
    signatures = message.header.num_required_signatures
    return LAMPORTS_PER_SIGNATURE * signatures + -(-price * units // 1_000_000), price


def read(signed: VersionedTransaction) -> Transaction:
    """Raise RpcError -32602 for a version that this node does not run."""
    message = signed.message
    if not isinstance(message, Message | MessageV0):
        raise invalid("this node takes legacy and version 0 transactions only")
    static = list(message.account_keys)
    instructions = tuple(
        Instruction(static[i.program_id_index], bytes(i.accounts), bytes(i.data)) for i in message.instructions
    )
    operation = None
    for instruction in instructions:
        if instruction.program == MEMO and operation is None:
            memo = instruction.data.decode("utf-8", "replace")
            if memo.startswith(OPERATION_PREFIX):
                operation = memo[len(OPERATION_PREFIX) :]
    fee, price = message_fee(message)
    return Transaction(
        signed=signed,
        signature=str(signed.signatures[0]),
        blockhash=str(message.recent_blockhash),
        payer=static[0],
        signers=message.header.num_required_signatures,
        instructions=instructions,
        unit_price=price,
        fee=fee,
        operation=operation,
    )
