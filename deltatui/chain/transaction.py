"""From a list of instructions to the bytes of one v0 transaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import ID as COMPUTE_BUDGET
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash, ParseHashError
from solders.instruction import AccountMeta as SoldersMeta
from solders.instruction import Instruction as SoldersInstruction
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer

from deltatui.domain.errors import CriticalError, TransientError, ValidationError

MAX_TRANSACTION_BYTES = 1232
MAX_COMPUTE_UNITS = 1_400_000
SIGNATURE_BYTES = 64
LAMPORTS_PER_SIGNATURE = 5_000
BUDGET_INSTRUCTIONS = 2
_TABLE_HEADER = struct.Struct("<IQQBB")
_TABLE_HEADER_BYTES = 56
_NOT_DEACTIVATED = 2**64 - 1
# A message counts accounts in one byte; four are left for the budget, the system program and the tip.
_MAX_ACCOUNTS = 252
_MAX_TABLE_ADDRESSES = 256


class AccountMeta(msgspec.Struct, frozen=True, array_like=True):
    address: str
    signer: bool = False
    writable: bool = False


class Instruction(msgspec.Struct, frozen=True, array_like=True):
    program: str
    accounts: tuple[AccountMeta, ...]
    data: bytes


class Payload(msgspec.Struct, frozen=True):
    """What ``ports.Unsigned.payload`` holds for the chain: instructions in order and the addresses of the lookup
    tables that may be used. The compute budget and the tip are the sender's own."""

    instructions: tuple[Instruction, ...]
    lookup_tables: tuple[str, ...] = ()

    def encoded(self) -> bytes:
        return msgspec.msgpack.encode(self)


class LookupTable(msgspec.Struct, frozen=True):
    address: str
    addresses: tuple[str, ...]


class Budget(msgspec.Struct, frozen=True):
    """``price`` in micro-lamports per compute unit."""

    units: int
    price: int

    @property
    def priority_fee_lamports(self) -> int:
        """What the runtime charges: limit times price, rounded up."""
        return -(-self.units * self.price // 1_000_000)


class Tip(msgspec.Struct, frozen=True):
    account: str
    lamports: int


def decode_payload(data: bytes) -> Payload:
    """Raises ValidationError unless ``data`` is what :meth:`Payload.encoded` makes."""
    try:
        payload = msgspec.msgpack.decode(data, type=Payload)
    except (msgspec.DecodeError, RecursionError):
        payload = Payload(())
    if not payload.instructions:
        raise ValidationError("BAD_PAYLOAD", "an operation for the chain needs at least one instruction")
    if any(each.program == str(COMPUTE_BUDGET) for each in payload.instructions):
        raise ValidationError("BAD_PAYLOAD", "compute budget instructions are added by the sender; leave them out")
    return payload


def _addresses(payload: Payload) -> set[str]:
    programs = {step.program for step in payload.instructions}
    return programs | {each.address for step in payload.instructions for each in step.accounts}


def writable_accounts(payload: Payload) -> list[str]:
    return sorted({each.address for step in payload.instructions for each in step.accounts if each.writable})


def read_lookup_table(address: str, data: bytes) -> LookupTable | None:
    """None for an account that is no table or a table that was deactivated."""
    if len(data) < _TABLE_HEADER_BYTES:
        return None
    kind, deactivated_at, *_ = _TABLE_HEADER.unpack_from(data)
    if kind != 1 or deactivated_at != _NOT_DEACTIVATED:
        return None
    ends = range(_TABLE_HEADER_BYTES + 32, len(data) + 1, 32)[:_MAX_TABLE_ADDRESSES]
    return LookupTable(address, tuple(str(Pubkey.from_bytes(data[end - 32 : end])) for end in ends))


def compile_message(
    payload: Payload, payer: str, tables: Sequence[LookupTable], blockhash: str, budget: Budget, tip: Tip | None
) -> bytes:
    """The bytes to sign: budget, the payload's instructions, the tip last (docs/sources.md, Solana and Jito).

    Raises ValidationError when an address is wrong, when somebody else would have to sign too, or when the
    transaction would be longer than 1232 bytes; TransientError when ``blockhash`` is none.
    """
    if len({payer, *_addresses(payload)}) >= _MAX_ACCOUNTS:
        # solders answers this with an exception that has no public name.
        raise ValidationError("TX_TOO_LARGE", f"the transaction names more accounts than the {_MAX_ACCOUNTS} possible")
    try:
        recent = Hash.from_string(blockhash)
    except ParseHashError:
        raise TransientError("RPC_GARBAGE", "a node sent a blockhash that is none") from None
    try:
        steps = [set_compute_unit_limit(budget.units), set_compute_unit_price(budget.price)]
        steps += [_instruction(each) for each in payload.instructions]
        key = Pubkey.from_string(payer)
        usable = list(tables)
        if tip is not None:
            steps.append(
                transfer(
                    TransferParams(from_pubkey=key, to_pubkey=Pubkey.from_string(tip.account), lamports=tip.lamports)
                )
            )
            # Jito does not see a tip account that comes through a lookup table.
            usable = [each for each in usable if tip.account not in each.addresses]
        found = [
            AddressLookupTableAccount(
                Pubkey.from_string(each.address), [Pubkey.from_string(one) for one in each.addresses]
            )
            for each in usable
        ]
        message = MessageV0.try_compile(key, steps, found, recent)
    except (ValueError, OverflowError) as error:
        raise ValidationError("BAD_PAYLOAD", f"the transaction cannot be put together: {error}") from None
    if message.header.num_required_signatures != 1:
        raise ValidationError(
            "MORE_SIGNERS",
            f"the transaction needs {message.header.num_required_signatures} signatures; only the wallet can sign here",
        )
    encoded = bytes(to_bytes_versioned(message))
    size = 1 + SIGNATURE_BYTES + len(encoded)
    if size > MAX_TRANSACTION_BYTES:
        raise ValidationError(
            "TX_TOO_LARGE",
            f"the transaction is {size} bytes and may have {MAX_TRANSACTION_BYTES}; use lookup tables or fewer markets",
        )
    return encoded


def join(message: bytes, signature: bytes = bytes(SIGNATURE_BYTES)) -> bytes:
    """The transaction on the wire; without ``signature`` the unsigned form that simulation and export use."""
    return b"\x01" + signature + message


def split(raw: bytes) -> tuple[bytes, bytes]:
    """``(signature, message)`` of a transaction with one signature; raises ValidationError for anything else."""
    if len(raw) <= 1 + SIGNATURE_BYTES or raw[0] != 1 or len(raw) > MAX_TRANSACTION_BYTES:
        raise ValidationError("BAD_TRANSACTION", "this is not a Solana transaction with exactly one signature")
    return raw[1 : 1 + SIGNATURE_BYTES], raw[1 + SIGNATURE_BYTES :]


def payer_of(raw: bytes) -> str:
    """The first account of a v0 transaction: who pays and signs. Raises CriticalError for anything else."""
    message = raw[1 + SIGNATURE_BYTES :]
    # version 0, one signature, then the number of accounts in one byte
    if len(message) < 5 + 32 or message[0] != 0x80 or message[1] != 1 or not 0 < message[4] < 0x80:
        raise CriticalError("NOT_OURS", "the recorded bytes are no transaction that this program made")
    return str(Pubkey.from_bytes(message[5:37]))


def names_account(raw: bytes, address: str) -> bool:
    """Whether the account stands in the transaction itself (not through a lookup table)."""
    return bytes(Pubkey.from_string(address)) in raw


def signature_text(signature: bytes) -> str:
    return str(Signature.from_bytes(signature))


def is_signed_by(address: str, message: bytes, signature: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    return bool(Signature.from_bytes(signature).verify(Pubkey.from_string(address), message))


def check_raw(raw: bytes, signature: str) -> None:
    """Raises CriticalError unless ``raw`` carries exactly ``signature``: a journal that says otherwise is damaged."""
    try:
        found = signature_text(split(raw)[0])
    except ValidationError:
        found = ""
    if found != signature:
        raise CriticalError("SIGNATURE_MISMATCH", f"the recorded bytes do not carry the recorded signature {signature}")


def _instruction(step: Instruction) -> SoldersInstruction:
    return SoldersInstruction(
        Pubkey.from_string(step.program),
        step.data,
        [SoldersMeta(Pubkey.from_string(each.address), each.signer, each.writable) for each in step.accounts],
    )
