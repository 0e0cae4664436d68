"""Signing outside: an operation leaves unsigned and its signature comes back (R8.9)."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

import msgspec

from deltatui.chain import keyfile, signer, transaction
from deltatui.domain.errors import ValidationError

_LONGEST_SIGNATURE = 88
"""Of 64 bytes, in base58 and in base64 alike."""


class Export(msgspec.Struct, frozen=True):
    """``transaction`` is the whole unsigned transaction in base64 (its signature is 64 zero bytes), as wallets take
    it; ``message`` the part that is signed. It is worth signing only until ``last_valid_block_height``."""

    operation_id: str
    address: str
    transaction: str
    message: str
    last_valid_block_height: int

    @property
    def message_bytes(self) -> bytes:
        return base64.b64decode(self.message)


def make_export(operation_id: str, address: str, message: bytes, last_valid_block_height: int) -> Export:
    return Export(
        operation_id=operation_id,
        address=address,
        transaction=base64.b64encode(transaction.join(message)).decode("ascii"),
        message=base64.b64encode(message).decode("ascii"),
        last_valid_block_height=last_valid_block_height,
    )


def write_export(path: Path, export: Export) -> None:
    """A new file with mode 0600; never overwrites. Raises ValidationError."""
    keyfile.write_private(path, msgspec.json.format(msgspec.json.encode(export)) + b"\n")


def read_signed(export: Export, text: str) -> bytes:
    """The signature in ``text``: the signed transaction in base64, or the signature alone in base58 or base64.

    Raises ValidationError if the transaction is not the exported one to the byte, or the signature is not its
    wallet's.
    """
    message = export.message_bytes
    text = text.strip()
    if len(text) > _LONGEST_SIGNATURE:
        signature, brought = transaction.split(_decoded(text))
        if brought != message:
            raise ValidationError(
                "NOT_THE_SAME", "the signed transaction is not the one that was exported; sign exactly what was given"
            )
    else:
        signature = signer.read_signature(text)
    if not transaction.is_signed_by(export.address, message, signature):
        raise ValidationError("BAD_SIGNATURE", f"this is no signature of the exported operation by {export.address}")
    return signature


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
