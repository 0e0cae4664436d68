"""Keys by name: what ``deltatui keys import | list | show-address | remove`` does, and opening one to sign.

The index (``keys.json``) holds names, kinds and addresses, never a secret.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import msgspec

from deltatui.chain import keyfile
from deltatui.chain.signer import CommandSigner, OutsideSigner, Secret, SeedSigner, Signer, check_address, parse_secret
from deltatui.domain.errors import ValidationError
from deltatui.ports import Clock

ENVIRONMENT = "SOLANA_PRIVATE_KEY"
_SERVICE = "deltatui"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class KeyKind(StrEnum):
    ENCRYPTED = "encrypted"
    """A file of ours under the state folder, opened by a password."""
    KEYRING = "keyring"
    """The operating system's keyring."""
    FILE = "file"
    """A Solana keypair file that stays where it is."""
    COMMAND = "command"
    """An external program that signs."""
    OUTSIDE = "outside"
    """Only the address is known; every operation is signed by hand elsewhere."""


class KeyEntry(msgspec.Struct, frozen=True):
    """``location`` is a path, a command line, or empty. It never is a secret."""

    name: str
    kind: KeyKind
    address: str
    location: str = ""


class _Index(msgspec.Struct, frozen=True):
    keys: tuple[KeyEntry, ...] = ()


class Ring(Protocol):
    """The three functions of the keyring library that are used."""

    def get_password(self, service_name: str, username: str) -> str | None: ...

    def set_password(self, service_name: str, username: str, password: str) -> None: ...

    def delete_password(self, service_name: str, username: str) -> None: ...


class KeyStore:
    """``ring`` stands in for the keyring library; None imports it when it is needed."""

    def __init__(self, folder: Path, ring: Ring | None = None, kdf: keyfile.Kdf | None = None) -> None:
        self._folder = folder
        self._given_ring = ring
        self._kdf = kdf

    def entries(self) -> tuple[KeyEntry, ...]:
        """By name. Raises ValidationError if the index cannot be read."""
        path = self._folder / "keys.json"
        if not path.exists():
            return ()
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Index).keys
        except OSError as error:
            why = error.strerror or type(error).__name__
        except (msgspec.DecodeError, UnicodeDecodeError):
            why = "it is damaged; the key files beside it are not"
        raise ValidationError("BAD_KEY_INDEX", f"{path} cannot be read: {why}")

    def entry(self, name: str) -> KeyEntry:
        for each in self.entries():
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.entries()) or "none yet"
        raise ValidationError("NO_KEY", f"there is no key named '{name[:40]}'; known: {known}")

    def import_encrypted(self, name: str, seed: Secret, password: Secret) -> KeyEntry:
        """The seed is wiped."""
        self._check_free(name)
        path = self._folder / f"{name}.key.json"
        try:
            address = keyfile.write_encrypted(path, seed, password, self._kdf)
        finally:
            seed.wipe()
        return self._add(KeyEntry(name, KeyKind.ENCRYPTED, address, str(path)))

    def import_keyring(self, name: str, seed: Secret) -> KeyEntry:
        """The seed is wiped. Raises ValidationError where the system has no usable keyring."""
        self._check_free(name)
        text = "[" + ",".join(str(number) for number in seed.reveal()) + "]"
        self._ring_call("set_password", name, text)
        return self._add(KeyEntry(name, KeyKind.KEYRING, SeedSigner(seed).address))

    def import_file(self, name: str, path: Path) -> KeyEntry:
        """Remember a Solana keypair file where it is; it is read when it is needed."""
        self._check_free(name)
        full = path.expanduser().absolute()
        return self._add(KeyEntry(name, KeyKind.FILE, SeedSigner(keyfile.read_keypair_file(full)).address, str(full)))

    def import_command(self, name: str, command: str, address: str) -> KeyEntry:
        self._check_free(name)
        try:
            parts = shlex.split(command)
        except ValueError:
            parts = []
        if not parts:
            raise ValidationError("BAD_KEY", "the signer command is empty or its quotes do not close")
        return self._add(KeyEntry(name, KeyKind.COMMAND, check_address(address), command))

    def import_outside(self, name: str, address: str) -> KeyEntry:
        self._check_free(name)
        return self._add(KeyEntry(name, KeyKind.OUTSIDE, check_address(address)))

    def remove(self, name: str) -> KeyEntry:
        """Forget the key. Our own encrypted file and the keyring's item are deleted; a keypair file of the user's
        is left alone."""
        entry = self.entry(name)
        if entry.kind is KeyKind.ENCRYPTED:
            Path(entry.location).unlink(missing_ok=True)
        elif entry.kind is KeyKind.KEYRING:
            self._ring_call("delete_password", name)
        self._save(tuple(each for each in self.entries() if each.name != name))
        return entry

    def open(self, name: str, clock: Clock, password: Secret | None = None) -> Signer:
        """Raises ValidationError if the key cannot be had or is not the one of the index's address."""
        entry = self.entry(name)
        signer: Signer
        if entry.kind is KeyKind.ENCRYPTED:
            if password is None:
                raise ValidationError("NEEDS_PASSWORD", f"the key '{name}' needs its password")
            signer = SeedSigner(keyfile.read_encrypted(Path(entry.location), password))
        elif entry.kind is KeyKind.KEYRING:
            text = self._ring_call("get_password", name)
            if text is None:
                raise ValidationError("NO_KEY", f"the keyring has no key '{name}' any more")
            signer = SeedSigner(parse_secret(text))
        elif entry.kind is KeyKind.FILE:
            signer = SeedSigner(keyfile.read_keypair_file(Path(entry.location)))
        elif entry.kind is KeyKind.COMMAND:
            signer = CommandSigner(shlex.split(entry.location), entry.address, clock)
        else:
            signer = OutsideSigner(entry.address)
        if signer.address != entry.address:
            raise ValidationError(
                "WRONG_KEY", f"the key '{name}' is {entry.address}, but {signer.address} was found in its place"
            )
        return signer

    def _check_free(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValidationError(
                "BAD_NAME", "a key's name is 1 to 32 of a-z, 0-9, _ and -, and starts with neither sign"
            )
        if any(each.name == name for each in self.entries()):
            raise ValidationError("KEY_EXISTS", f"there is a key named '{name}' already; remove it first")

    def _add(self, entry: KeyEntry) -> KeyEntry:
        self._save(tuple(sorted((*self.entries(), entry), key=lambda each: each.name)))
        return entry

    def _save(self, keys: tuple[KeyEntry, ...]) -> None:
        path = self._folder / "keys.json"
        fresh = path.with_name(f"keys.json.{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        keyfile.write_private(fresh, msgspec.json.format(msgspec.json.encode(_Index(keys))) + b"\n")
        fresh.replace(path)

    def _ring_call(self, function: str, name: str, *more: str) -> str | None:
        import keyring.errors

        ring = self._given_ring or keyring
        try:
            found: str | None = getattr(ring, function)(_SERVICE, name, *more)
            return found
        except (keyring.errors.KeyringError, RuntimeError) as error:
            why = type(error).__name__
        raise ValidationError(
            "NO_KEYRING", f"the system's keyring did not do it ({why}); use an encrypted file instead"
        )


def from_environment(environment: Mapping[str, str]) -> Signer | None:
    """The signer of SOLANA_PRIVATE_KEY (base58 or a JSON array), None where it is not set."""
    text = environment.get(ENVIRONMENT, "").strip()
    if not text:
        return None
    try:
        return SeedSigner(parse_secret(text))
    except ValidationError as error:
        code, sentence = error.code, error.sentence
    raise ValidationError(code, f"{ENVIRONMENT}: {sentence}")
