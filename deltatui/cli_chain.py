"""Commands about keys and about the fitness of machine, profile and network."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deltatui.domain.errors import ValidationError

if TYPE_CHECKING:
    from deltatui.chain.keys import KeyStore
    from deltatui.chain.signer import Secret

keys_app = typer.Typer(help="Keys that sign in live mode. No secret is ever printed.", rich_markup_mode=None)

ProfileOption = Annotated[str, typer.Option("--profile", "-P", help="Name of the profile.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str, typer.Argument(help="The key's name.")]

_KINDS = {
    "encrypted": "an encrypted file of deltatui, opened by a password",
    "keyring": "the operating system's keyring",
    "file": "a Solana keypair file that stays where it is",
    "command": "an external program that signs",
    "outside": "only the address; every operation is signed by hand elsewhere",
}
_EXIT_REFUSED = 1


@keys_app.command("import")
def keys_import(
    name: NameArgument,
    kind: Annotated[str, typer.Option("--kind", help="; ".join(f"{k}: {v}" for k, v in _KINDS.items()))] = "encrypted",
    source: Annotated[
        Path | None, typer.Option("--from", help="Solana keypair file; without it you are asked.")
    ] = None,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="File with the password.")] = None,
    command: Annotated[str, typer.Option("--command", help="The signing program (kind command).")] = "",
    address: Annotated[str, typer.Option("--address", help="The address (kinds command and outside).")] = "",
    profile: ProfileOption = "default",
) -> None:
    """Make a key known. The secret comes from a file or from a prompt that does not show it, never from the command
    line, where other programs could read it."""
    store = _store(profile)
    match kind:
        case "encrypted":
            seed = _seed(source)
            entry = store.import_encrypted(name, seed, _password(password_file, twice=True))
        case "keyring":
            entry = store.import_keyring(name, _seed(source))
        case "file":
            if source is None:
                raise ValidationError("NO_SOURCE", "the kind 'file' needs --from with the path of the keypair file")
            entry = store.import_file(name, source)
        case "command":
            entry = store.import_command(name, command, address)
        case "outside":
            entry = store.import_outside(name, address)
        case _:
            raise ValidationError("UNKNOWN_KIND", f"there is no kind '{kind}' of key; {', '.join(_KINDS)} exist")
    typer.echo(f"{entry.name}: {entry.kind}, {entry.address}")


@keys_app.command("list")
def keys_list(profile: ProfileOption = "default", as_json: JsonOption = False) -> None:
    """Names, kinds and addresses."""
    entries = _store(profile).entries()
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(entries).decode())
        return
    if not entries:
        typer.echo(f"profile '{profile}' knows no keys")
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry.name:<{width}}  {entry.kind:<9}  {entry.address}")


@keys_app.command("show-address")
def keys_show_address(name: NameArgument, profile: ProfileOption = "default") -> None:
    """The address alone, for scripts."""
    typer.echo(_store(profile).entry(name).address)


@keys_app.command("remove")
def keys_remove(
    name: NameArgument,
    profile: ProfileOption = "default",
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Forget a key. Our encrypted file and the keyring's item are deleted; a keypair file of yours is left alone."""
    store = _store(profile)
    entry = store.entry(name)
    gone = "its secret is deleted" if entry.kind in ("encrypted", "keyring") else "its secret stays where it is"
    if not yes and not typer.confirm(f"Forget the key '{name}' of {entry.address}? ({gone})"):
        raise typer.Exit(_EXIT_REFUSED)
    store.remove(name)
    typer.echo(f"forgot {name} ({gone})")


def doctor(profile: ProfileOption = "default", as_json: JsonOption = False) -> None:
    """Configuration, keys, RPC, Jito, clock, terminal, disk and database. Exit code 0: the configured mode could start;
    1: not. A replay needs no network, and none is asked for it: with DELTATUI_MODE=live the network is looked at."""
    from deltatui import doctor as examination
    from deltatui.chain.http import AiohttpTransport
    from deltatui.config import Loaded, load
    from deltatui.paths import Paths

    # A resolver without a network would hold up the end of the process for half a minute.
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:1")
    paths = Paths.of(profile)
    loaded: Loaded | ValidationError
    try:
        loaded = load(profile, {})
    except ValidationError as error:
        loaded = error

    async def go() -> examination.Report:
        transport = AiohttpTransport()
        try:
            clock, screen = examination.WallClock(), examination.Screen.current()
            return await examination.examine(loaded, paths, os.environ, transport, clock, screen)
        finally:
            await transport.close()

    report = asyncio.run(go())
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(report).decode())
    else:
        for line in examination.lines(report):
            typer.echo(line)
    if not report.ready:
        raise typer.Exit(_EXIT_REFUSED)


def _store(profile: str) -> KeyStore:
    from deltatui.chain.keys import KeyStore
    from deltatui.doctor import key_folder
    from deltatui.paths import Paths

    return KeyStore(key_folder(Paths.of(profile)))


def _seed(source: Path | None) -> Secret:
    from deltatui.chain.keyfile import read_keypair_file
    from deltatui.chain.signer import parse_secret

    if source is not None:
        return read_keypair_file(source.expanduser())
    _need_prompt("--from")
    return parse_secret(typer.prompt("Secret key (base58 or JSON array; not shown)", hide_input=True, err=True))


def _password(path: Path | None, *, twice: bool) -> Secret:
    from deltatui.chain.keyfile import check_private
    from deltatui.chain.signer import Secret

    if path is not None:
        check_private(path)
        try:
            text = path.read_bytes().rstrip(b"\r\n")
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ValidationError("NO_PASSWORD", f"{path} cannot be read: {why}") from None
        return Secret(text)
    _need_prompt("--password-file")
    entered: str = typer.prompt("Password (not shown)", hide_input=True, confirmation_prompt=twice, err=True)
    return Secret(entered.encode())


def _need_prompt(instead: str) -> None:
    # Without a terminal the prompt would echo, or read what was meant for another program.
    if not sys.stdin.isatty():
        raise ValidationError("NO_TERMINAL", f"there is no terminal to ask on; give a file with {instead}")
