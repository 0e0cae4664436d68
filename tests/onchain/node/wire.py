"""How things look on the wire: transactions in, errors and accounts out."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_status import (
    InstructionErrorBorshIO,
    InstructionErrorCustom,
    TransactionErrorDuplicateInstruction,
    TransactionErrorInstructionError,
    TransactionErrorInsufficientFundsForRent,
)

if TYPE_CHECKING:
    from solders.account import Account

MAX_TRANSACTION_BYTES = 1232
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {c: i for i, c in enumerate(_ALPHABET)}

# The sentence a validator puts after "Transaction simulation failed: ".
_SENTENCES = {
    "BlockhashNotFound": "Blockhash not found",
    "AlreadyProcessed": "This transaction has already been processed",
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "InvalidAccountForFee": "This account may not be used to pay transaction fees",
    "SignatureFailure": "Transaction did not pass signature verification",
    "ProgramAccountNotFound": "Attempt to load a program that does not exist",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
}


class RpcError(Exception):
    """A JSON-RPC error reply: ``code``, ``message`` and, where a real node attaches one, ``data``."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.data = data

    def json(self) -> dict[str, object]:
        body: dict[str, object] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def invalid(message: str) -> RpcError:
    return RpcError(-32602, message)


def b58encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    out = ""
    while number:
        number, digit = divmod(number, 58)
        out = _ALPHABET[digit] + out
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + out


def b58decode(text: str) -> bytes:
    """Raise ValueError on a character outside the alphabet."""
    number = 0
    for char in text:
        if char not in _DIGIT:
            raise ValueError(f"invalid base58 character {char!r}")
        number = number * 58 + _DIGIT[char]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def decode_transaction(text: str, encoding: str) -> VersionedTransaction:
    """Raise RpcError -32602 as a node does for text that is no transaction."""
    kind = "solana_transaction::versioned::VersionedTransaction"
    try:
        if encoding == "base64":
            raw = base64.b64decode(text, validate=True)
        elif encoding == "base58":
            raw = b58decode(text)
        else:
            raise invalid(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    except (ValueError, binascii.Error) as error:
        raise invalid(f"invalid {encoding} encoding: {error}") from error
    if len(raw) > MAX_TRANSACTION_BYTES:
        limit = 1644 if encoding == "base64" else 1683
        raise invalid(f"decoded {kind} too large: {len(raw)} bytes (max: encoded/raw {limit}/{MAX_TRANSACTION_BYTES})")
    try:
        transaction = VersionedTransaction.from_bytes(raw)
        transaction.sanitize()
    except (ValueError, TypeError) as error:
        raise invalid(f"failed to deserialize {kind}: {error}") from error
    if bytes(transaction) != raw:
        raise invalid(f"failed to deserialize {kind}: trailing bytes")
    return transaction


def error_json(error: object) -> object:
    """A solders transaction error as a validator prints it: ``"BlockhashNotFound"``,
    ``{"InstructionError": [2, {"Custom": 6004}]}``."""
    if isinstance(error, TransactionErrorInstructionError):
        inner = error.err
        shown: object
        if isinstance(inner, InstructionErrorCustom):
            shown = {"Custom": inner.code}
        elif isinstance(inner, InstructionErrorBorshIO):
            shown = "BorshIoError"
        else:
            shown = str(inner).rpartition(".")[2]
        return {"InstructionError": [error.index, shown]}
    if isinstance(error, TransactionErrorInsufficientFundsForRent):
        return {"InsufficientFundsForRent": {"account_index": error.account_index}}
    if isinstance(error, TransactionErrorDuplicateInstruction):
        return {"DuplicateInstruction": error.index}
    return str(error).rpartition(".")[2]


def error_sentence(error: object) -> str:
    """The human half of a preflight message, from the JSON form."""
    if isinstance(error, str):
        return _SENTENCES.get(error, error)
    if isinstance(error, dict) and isinstance(error.get("InstructionError"), list):
        index, inner = error["InstructionError"]
        if isinstance(inner, dict) and "Custom" in inner:
            return f"Error processing Instruction {index}: custom program error: {inner['Custom']:#x}"
        return f"Error processing Instruction {index}: {inner}"
    return str(error)


def preflight_error(error: object, logs: list[str], units: int = 0) -> RpcError:
    """-32002 with the ``data`` of a refused simulation."""
    return RpcError(
        -32002,
        f"Transaction simulation failed: {error_sentence(error)}",
        {
            "accounts": None,
            "err": error,
            "innerInstructions": None,
            "logs": logs,
            "returnData": None,
            "unitsConsumed": units,
        },
    )


def pubkey(text: object) -> Pubkey:
    if not isinstance(text, str):
        raise invalid("Invalid param: WrongSize")
    try:
        return Pubkey.from_string(text)
    except ValueError as error:
        raise invalid("Invalid param: Invalid") from error


def account_json(account: Account | None, encoding: str, data_slice: object = None) -> dict[str, object] | None:
    """``getAccountInfo``'s value; None for an account that does not exist."""
    if account is None:
        return None
    data = bytes(account.data)
    space = len(data)
    if isinstance(data_slice, dict):
        offset, length = int(data_slice.get("offset", 0)), int(data_slice.get("length", 0))
        data = data[offset : offset + length]
    shown: object
    if encoding in ("base64", "jsonParsed"):  # no parser here: like a node that knows none, answer base64
        shown = [base64.b64encode(data).decode(), "base64"]
    elif encoding == "base58":
        if len(data) > 128:
            raise RpcError(
                -32600, "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding."
            )
        shown = [b58encode(data), "base58"]
    else:
        raise invalid(f"unsupported encoding: {encoding}. Supported here: base58, base64, jsonParsed")
    return {
        "data": shown,
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": account.rent_epoch,
        "space": space,
    }
