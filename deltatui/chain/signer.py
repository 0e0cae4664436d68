"""Who signs. A signer shows its address and nothing else."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import NoReturn, Protocol

from solders.pubkey import Pubkey
from solders.signature import Signature

from deltatui.chain.tasks import within
from deltatui.chain.transaction import SIGNATURE_BYTES, is_signed_by
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.ports import Clock

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SEED_BYTES = 32
_HIDDEN = "Secret(hidden)"


class Secret:
    """Bytes that no print, format, log or pickle shows. Wiped on :meth:`wipe` and when it goes away, as far as
    Python lets one: copies that other libraries make are theirs."""

    __slots__ = ("__held",)

    def __init__(self, value: bytes | bytearray) -> None:
        self.__held = bytearray(value)

    def reveal(self) -> bytearray:
        """The bytes themselves, not a copy: do not keep them."""
        return self.__held

    def wipe(self) -> None:
        for index in range(len(self.__held)):
            self.__held[index] = 0
        self.__held.clear()

    def __len__(self) -> int:
        return len(self.__held)

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __del__(self) -> None:
        self.wipe()


class Signer(Protocol):
    @property
    def address(self) -> str: ...

    async def sign(self, message: bytes) -> bytes:
        """64 bytes. Raises ValidationError if it will not sign, TransientError if it cannot now."""


class SeedSigner:
    """Signs with a key in this process."""

    def __init__(self, seed: Secret) -> None:
        """``seed`` is the 32-byte secret half of a Solana keypair."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != _SEED_BYTES:
            raise ValidationError("BAD_KEY", f"a Solana secret has {_SEED_BYTES} bytes, this one has {len(seed)}")
        self._key = Ed25519PrivateKey.from_private_bytes(seed.reveal())
        seed.wipe()
        self._address = str(Pubkey.from_bytes(self._key.public_key().public_bytes_raw()))

    @property
    def address(self) -> str:
        return self._address

    async def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SeedSigner({self._address})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signer cannot be pickled or copied")


class CommandSigner:
    """An external program (hardware, KMS): the message in base64 on its standard input, the signature in base58 or
    base64 on its standard output. Its own messages are not shown, they are not ours to judge."""

    def __init__(self, command: Sequence[str], address: str, clock: Clock, timeout_s: float = 60.0) -> None:
        if not command:
            raise ValidationError("BAD_KEY", "the signer command is empty")
        self._command = tuple(command)
        self._address = check_address(address)
        self._clock = clock
        self._timeout_s = timeout_s

    @property
    def address(self) -> str:
        return self._address

    async def sign(self, message: bytes) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise ValidationError("SIGNER_FAILED", f"the signer command cannot be started: {error.strerror}") from None
        try:
            output, _ = await within(
                self._clock, self._timeout_s, process.communicate(base64.b64encode(message) + b"\n")
            )
        except TimeoutError:
            raise TransientError("SIGNER_TIMEOUT", f"the signer gave no answer in {self._timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            raise ValidationError("SIGNER_FAILED", f"the signer refused (exit code {process.returncode})")
        signature = read_signature(output.decode("ascii", "replace").strip())
        if not is_signed_by(self._address, message, signature):
            raise ValidationError("BAD_SIGNATURE", f"the signer's answer is no signature by {self._address}")
        return signature


class OutsideSigner:
    """Knows only the address: every operation is exported, signed elsewhere and brought back (R8.9)."""

    def __init__(self, address: str) -> None:
        self._address = check_address(address)

    @property
    def address(self) -> str:
        return self._address

    async def sign(self, message: bytes) -> bytes:
        raise ValidationError(
            "NEEDS_OUTSIDE_SIGNATURE", "there is no key here; export the operation and sign it outside"
        )


def check_address(text: str) -> str:
    """``text`` if it is a Solana address, else ValidationError."""
    try:
        return str(Pubkey.from_string(text.strip()))
    except ValueError:
        raise ValidationError("BAD_ADDRESS", f"'{text[:60]}' is not a Solana address") from None


def read_signature(text: str) -> bytes:
    """64 bytes from base58 or base64; raises ValidationError."""
    try:
        return bytes(Signature.from_string(text))
    except ValueError:
        pass
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != SIGNATURE_BYTES:
        raise ValidationError("BAD_SIGNATURE", "a signature is 64 bytes in base58 or base64")
    return decoded


def parse_secret(text: str) -> Secret:
    """The 32-byte seed from what wallets export: base58, or a JSON array of 64 (or 32) numbers.

    Raises ValidationError, which never quotes the text, if it is neither or if its public half does not belong.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = _from_array(text) if text.lstrip().startswith("[") else _from_base58(text.strip())
    if raw is None or len(raw) not in (_SEED_BYTES, 2 * _SEED_BYTES):
        raise ValidationError("BAD_KEY", "this is no Solana key; one is base58 or a JSON array of 64 numbers")
    seed = Secret(raw[:_SEED_BYTES])
    public = Ed25519PrivateKey.from_private_bytes(seed.reveal()).public_key().public_bytes_raw()
    fits = len(raw) == _SEED_BYTES or raw[_SEED_BYTES:] == public
    raw[:] = bytes(len(raw))
    if not fits:
        seed.wipe()
        raise ValidationError("BAD_KEY", "the two halves of this key do not belong together")
    return seed


def _from_array(text: str) -> bytearray | None:
    parts = text.strip()[1:].rstrip("]").split(",") if text.strip().endswith("]") else []
    numbers = [int(part) for part in parts if part.strip().isascii() and part.strip().isdigit() and len(part) < 12]
    if len(numbers) != len(parts) or any(number > 255 for number in numbers):
        return None
    return bytearray(numbers)


def _from_base58(text: str) -> bytearray | None:
    if not text or len(text) > 100 or any(letter not in _ALPHABET for letter in text):
        return None
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    zeros = len(text) - len(text.lstrip("1"))
    return bytearray(bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8))


def address_of(seed: Secret) -> str:
    """The public address; the seed stays usable."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(seed.reveal())
    return str(Pubkey.from_bytes(key.public_key().public_bytes_raw()))
