"""Key files: Solana's own JSON array, and our encrypted one (scrypt and AES-256-GCM)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

import msgspec

from deltatui.chain.signer import Secret, address_of, check_address, parse_secret
from deltatui.domain.errors import ValidationError

_SALT_BYTES = 16
_NONCE_BYTES = 12
_SEED_BYTES = 32
_LONGEST_FILE = 65_536
LEAST_PASSWORD = 8


class Kdf(msgspec.Struct, frozen=True):
    """scrypt parameters; the default takes 32 MiB (OWASP's n=2^15, r=8, p=3)."""

    n: int = 2**15
    r: int = 8
    p: int = 3


class _Header(msgspec.Struct, frozen=True):
    """Stands in the file in the clear and is authenticated with the ciphertext."""

    format: Literal["deltatui-key-1"]
    address: str
    kdf: Kdf
    salt: bytes


class _File(msgspec.Struct, frozen=True):
    header: _Header
    nonce: bytes
    ciphertext: bytes


def read_keypair_file(path: Path) -> Secret:
    """A Solana keypair file (JSON array of 64 numbers). Refuses one that other users of the machine can read."""
    check_private(path)
    text = _read(path)
    try:
        return parse_secret(text.decode("ascii"))
    except UnicodeDecodeError:
        pass
    raise ValidationError("BAD_KEY", f"{path} is no Solana keypair file (a JSON array of 64 numbers)")


def write_encrypted(path: Path, seed: Secret, password: Secret, kdf: Kdf | None = None) -> str:
    """Encrypt ``seed`` into a new file with mode 0600; returns the address. Never overwrites.

    Raises ValidationError if the file exists, the folder cannot be written or the password is too short.
    """
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(password) < LEAST_PASSWORD:
        raise ValidationError("WEAK_PASSWORD", f"the password needs at least {LEAST_PASSWORD} characters")
    header = _Header("deltatui-key-1", address_of(seed), kdf or Kdf(), os.urandom(_SALT_BYTES))
    nonce = os.urandom(_NONCE_BYTES)
    key = _derive(header, password)
    ciphertext = AESGCM(key.reveal()).encrypt(nonce, seed.reveal(), _associated(header))
    key.wipe()
    write_private(path, msgspec.json.format(msgspec.json.encode(_File(header, nonce, ciphertext))) + b"\n")
    return header.address


def read_encrypted(path: Path, password: Secret) -> Secret:
    """Raises ValidationError WRONG_PASSWORD for a wrong password and for a changed file alike: nobody can tell."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    found = _parse(path)
    key = _derive(found.header, password)
    try:
        seed = Secret(AESGCM(key.reveal()).decrypt(found.nonce, found.ciphertext, _associated(found.header)))
    except InvalidTag:
        seed = None
    finally:
        key.wipe()
    if seed is None:
        raise ValidationError("WRONG_PASSWORD", f"the password does not open {path}, or the file was changed")
    if len(seed) != _SEED_BYTES or address_of(seed) != found.header.address:
        seed.wipe()
        raise ValidationError("BAD_KEY", f"{path} does not hold the key of the address that it names")
    return seed


def encrypted_address(path: Path) -> str:
    """The address that the file names; only opening it proves it."""
    return check_address(_parse(path).header.address)


def write_private(path: Path, data: bytes) -> None:
    """A new file with mode 0600, complete or not there at all. Raises ValidationError if it cannot be made."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    why = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # A link, not a rename: it fails where the name is taken.
            os.link(temporary, path)
        finally:
            temporary.unlink()
    except FileExistsError:
        why = "it exists already and is not overwritten"
    except OSError as error:
        why = error.strerror or type(error).__name__
    if why:
        raise ValidationError("KEY_NOT_SAVED", f"{path} cannot be written: {why}")


def _parse(path: Path) -> _File:
    check_private(path)
    try:
        found = msgspec.json.decode(_read(path), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None or len(found.nonce) != _NONCE_BYTES:
        raise ValidationError("BAD_KEY", f"{path} is no encrypted key of deltatui")
    kdf = found.header.kdf
    # Bounds, so that a file cannot ask for all the memory of the machine.
    if not (2**10 <= kdf.n <= 2**20 and kdf.n & (kdf.n - 1) == 0 and 1 <= kdf.r <= 16 and 1 <= kdf.p <= 16):
        raise ValidationError("BAD_KEY", f"{path} asks for scrypt parameters outside of what is sensible")
    return found


def _derive(header: _Header, password: Secret) -> Secret:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    scrypt = Scrypt(salt=header.salt, length=32, n=header.kdf.n, r=header.kdf.r, p=header.kdf.p)
    return Secret(scrypt.derive(password.reveal()))


def _associated(header: _Header) -> bytes:
    return msgspec.json.encode(header)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LONGEST_FILE:
            raise ValidationError("BAD_KEY", f"{path} is too long for a key file")
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or type(error).__name__
    raise ValidationError("NO_KEY", f"the key file {path} cannot be read: {why}")


def check_private(path: Path) -> None:
    """Raise ValidationError unless the file is there and nobody else can read it."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ValidationError("NO_KEY", f"the key file {path} cannot be read: {why}") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ValidationError("KEY_FILE_OPEN", f"others can read {path}; make it yours alone: chmod 600 '{path}'")
