"""The command line: words to calls, errors to sentences and exit codes. Rooms are imported where they are used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from deltatui import __version__, cli_chain
from deltatui.domain.errors import DeltatuiError, TransientError, UnresolvedError, ValidationError

if TYPE_CHECKING:
    from deltatui.api.client import Client
    from deltatui.domain.command import AnyCommand
    from deltatui.paths import Paths

EXIT_REFUSED = 1
EXIT_BAD_INPUT = 2
EXIT_NOT_NOW = 3
EXIT_CRITICAL = 4
EXIT_UNRESOLVED = 5

EPILOG = (
    "Exit codes: 0 done; 1 refused by the engine; 2 bad input or configuration; 3 no engine or not now; "
    "4 a fault that needs you; 5 sent, outcome not known; 6 partly done."
)

app = typer.Typer(
    name="deltatui",
    help="A terminal for delta-neutral funding positions. Without a command: the terminal.",
    epilog=EPILOG,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="The configuration and where its values come from.", rich_markup_mode=None)
vault_app = typer.Typer(help="The engine's own memory of the account.", rich_markup_mode=None)
app.add_typer(config_app, name="config")
app.add_typer(vault_app, name="vault")
app.add_typer(cli_chain.keys_app, name="keys")
app.command()(cli_chain.doctor)

T = TypeVar("T")

ProfileOption = Annotated[str, typer.Option("--profile", "-P", help="Name of the profile.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tape", help="Tape (CSV, also gzip), FILE or SYMBOL=FILE, once a market; SYMBOL alone: the shipped one."
    ),
]
SpeedOption = Annotated[int | None, typer.Option("--speed", help="Replay speed, market seconds per second.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Put the kept account aside and begin anew.")]
ThemeOption = Annotated[
    str | None, typer.Option("--theme", help="Theme of the terminal; without it, the one chosen last.")
]
AsciiOption = Annotated[bool, typer.Option("--ascii", help="Draw with plain ASCII characters only.")]
MarketOption = Annotated[str, typer.Option("--market", help="The market.")]
CarriedOption = Annotated[
    str | None, typer.Option("--market", help="The market; without it the only one that the engine carries.")
]
HeldOption = Annotated[str | None, typer.Option("--market", help="The market; without it that of the only hedge held.")]
WordOption = Annotated[
    str, typer.Option("--word", help="With --yes: the market's symbol, where a large live command wants it typed.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Confirm without asking.")]


def main() -> None:
    """Entry point: every one of our errors becomes one sentence on stderr and an exit code."""
    try:
        app()
    except DeltatuiError as error:
        print_error(error)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def exit_code(error: DeltatuiError) -> int:
    if isinstance(error, ValidationError):
        return EXIT_BAD_INPUT
    if isinstance(error, TransientError):
        return EXIT_NOT_NOW
    if isinstance(error, UnresolvedError):
        return EXIT_UNRESOLVED
    return EXIT_CRITICAL


def print_error(error: DeltatuiError) -> None:
    typer.echo(f"deltatui: {error.sentence} [{error.code}]", err=True)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"deltatui {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def terminal(
    context: typer.Context,
    profile: ProfileOption = "default",
    tape: TapeOption = None,
    speed: SpeedOption = None,
    fresh: FreshOption = False,
    theme: ThemeOption = None,
    mouse: Annotated[bool, typer.Option("--mouse/--no-mouse", help="Use the mouse.")] = True,
    ascii_only: AsciiOption = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The terminal: starts the profile's engine if none runs, then attaches to it."""
    if context.invoked_subcommand is not None:
        return
    from deltatui.launch import find_or_start

    loaded = _load(profile, _flags(tape, speed))
    arguments = _engine_arguments(tape, speed, fresh)
    if fresh and _find(loaded.paths):
        raise ValidationError("ENGINE_RUNNING", "--fresh needs the engine stopped; quit its terminal or kill it first")
    folder = loaded.settings.log.folder
    _need_terminal()
    _run(find_or_start(loaded.paths, arguments, log_folder=folder))
    sys.exit(_terminal(loaded.paths, read_only=False, theme=theme, mouse=mouse, ascii_only=ascii_only))


@app.command()
def attach(
    profile: ProfileOption = "default",
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but send nothing.")] = False,
    theme: ThemeOption = None,
    mouse: Annotated[bool, typer.Option("--mouse/--no-mouse", help="Use the mouse.")] = True,
    ascii_only: AsciiOption = False,
) -> None:
    """A terminal on an engine that runs already; several at once are fine."""
    paths = _paths(profile)
    if not _find(paths):
        raise TransientError("NO_ENGINE", f"no engine runs for profile '{profile}'; start one with: deltatui engine")
    _need_terminal()
    sys.exit(_terminal(paths, read_only=read_only, theme=theme, mouse=mouse, ascii_only=ascii_only))


@app.command()
def engine(
    profile: ProfileOption = "default",
    tape: TapeOption = None,
    speed: SpeedOption = None,
    fresh: FreshOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Log to the file only, not to stderr.")] = False,
) -> None:
    """The engine alone, without a terminal, until it is told to stop."""
    from deltatui.assembly.replay import run_engine

    _run(run_engine(_load(profile, _flags(tape, speed)), fresh=fresh, headless=not quiet))


@app.command()
def status(profile: ProfileOption = "default", as_json: JsonOption = False) -> None:
    """What the engine holds and thinks, as text or JSON."""
    import msgspec

    from deltatui.cli_trade import all_markets, first_snapshot
    from deltatui.plain import status_lines

    if as_json:
        snapshot = _run(_ask(_paths(profile), first_snapshot, read_only=True))
        typer.echo(msgspec.json.encode(snapshot).decode())
        return
    for line in status_lines(*_run(_ask(_paths(profile), all_markets, read_only=True))):
        typer.echo(line)


@app.command()
def take(
    size: Annotated[str, typer.Argument(help="Size of one leg in the base asset, like 1.5.")],
    profile: ProfileOption = "default",
    market: CarriedOption = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Long perp, borrowed spot sold.")] = False,
    spot: Annotated[
        str, typer.Option("--spot", help="Where the spot leg comes from: buy, wallet or deposited.")
    ] = "buy",
    yes: YesOption = False,
    word: WordOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Take it although it does not pay (paper and replay).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Open or add to a hedged position."""
    from deltatui.domain.command import Direction, SpotSource, Take, one_of
    from deltatui.domain.units import base_from_text

    base_1e9 = base_from_text(size)
    if base_1e9 <= 0:
        raise ValidationError("BAD_SIZE", f"the size must be more than 0, it is {size}")
    direction = Direction.REVERSE if reverse else Direction.CARRY
    source = one_of(SpotSource, spot, "--spot")
    command = Take(intent_id=_intent(), market=_named(market), base_1e9=base_1e9, direction=direction, spot=source)
    _send(profile, command, yes=yes, word=word, force=force, as_json=as_json)


@app.command()
def leave(
    profile: ProfileOption = "default",
    market: HeldOption = None,
    yes: YesOption = False,
    word: WordOption = "",
    as_json: JsonOption = False,
) -> None:
    """Close both legs."""
    from deltatui.domain.command import Leave

    _send(profile, Leave(intent_id=_intent(), market=_named(market)), yes=yes, word=word, as_json=as_json)


@app.command()
def rebalance(
    profile: ProfileOption = "default",
    market: HeldOption = None,
    yes: YesOption = False,
    word: WordOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the whole exposure to the market's base asset neutral, whatever tolerance and cooldown say."""
    from deltatui.domain.command import Rebalance

    _send(profile, Rebalance(intent_id=_intent(), market=_named(market)), yes=yes, word=word, as_json=as_json)


@app.command()
def settle(profile: ProfileOption = "default", market: HeldOption = None, as_json: JsonOption = False) -> None:
    """Move the perp's unsettled PnL into the quote balance."""
    from deltatui.domain.command import Settle

    _send(profile, Settle(intent_id=_intent(), market=_named(market)), as_json=as_json)


@app.command("forget-losses")
def forget_losses(profile: ProfileOption = "default", yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Count the day's loss and the peak anew from the present equity; asks first."""
    from deltatui.domain.command import ForgetLosses

    _send(profile, ForgetLosses(intent_id=_intent()), yes=yes, as_json=as_json)


@app.command()
def kill(
    profile: ProfileOption = "default",
    flatten: Annotated[bool, typer.Option("--flatten", help="Close every position as well.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is recorded.")] = "command line",
    as_json: JsonOption = False,
) -> None:
    """Kill switch: cancel everything, automation off, engine halted. Works on an engine of any version."""
    from deltatui.api.kill import kill as kill_engine
    from deltatui.cli_trade import finish

    finish(_run(kill_engine(_paths(profile).socket, flatten=flatten, reason=reason)), as_json)


@app.command()
def backtest(
    tape: TapeOption = None,
    policy: Annotated[str, typer.Option("--policy", help="always-short, flat or carry.")] = "carry",
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size", help="Size of one leg in the base asset, N or SYMBOL=N; default 1, of several the settings'."
        ),
    ] = None,
    fees: Annotated[str, typer.Option("--fees", help="none or drift.")] = "drift",
    market: Annotated[
        str,
        typer.Option(
            "--market", help="The market of a tape whose name tells none; without --tape, the one that is played."
        ),
    ] = "SOL-PERP",
    profile: ProfileOption = "default",
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as HTML.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the equity curve as CSV.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The engine's verdict on a whole tape, beside holding flat and always short."""
    from deltatui.assembly.values import backtest_settings
    from deltatui.backtest.cases import run_case
    from deltatui.backtest.settings import Fees, Policy, sizes_from_texts
    from deltatui.feeds.tapes import tapes_from_texts
    from deltatui.venues.paper.settings import MARKETS

    if policy not in list(Policy):
        raise ValidationError("UNKNOWN_POLICY", f"there is no policy '{policy}'; {', '.join(Policy)} exist")
    if fees not in list(Fees):
        raise ValidationError("UNKNOWN_FEES", f"there is no fee preset '{fees}'; {', '.join(Fees)} exist")
    settings = _load(profile, {}).settings
    if market not in MARKETS:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {market}; listed: {', '.join(MARKETS)}")
    tapes = tapes_from_texts(tape or [market], MARKETS, market)
    sizes = sizes_from_texts(size or (["1"] if len(tapes) == 1 else []), tapes)
    wanted = backtest_settings(settings, Policy(policy), Fees(fees), tapes, sizes)
    _run(run_case(wanted, tapes, as_json=as_json, html=html, csv=csv))


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="operations, ledger, funding or fills.")],
    target: Annotated[Path, typer.Argument(help="File to write; .parquet writes Parquet, else CSV.")],
    profile: ProfileOption = "default",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write what the engine recorded to a file; the engine may go on running."""
    from deltatui.store.database import Database, Durability
    from deltatui.store.export import ExportFormat, ExportKind
    from deltatui.store.export import export as write

    kinds = {kind.value: kind for kind in ExportKind}
    if what not in kinds:
        raise ValidationError("UNKNOWN_EXPORT", f"'{what}' cannot be exported; {', '.join(kinds)} can")
    form = ExportFormat.PARQUET if target.suffix == ".parquet" else ExportFormat.CSV

    async def go() -> int:
        database = await Database.open(_paths(profile).database, Durability.NORMAL, read_only=True)
        try:
            return await write(database, kinds[what], target, form, overwrite=overwrite)
        finally:
            await database.close()

    typer.echo(f"{_run(go())} rows written to {target}")


@config_app.command("show")
def config_show(profile: ProfileOption = "default") -> None:
    """Every value and where it comes from; secrets only as set or not set."""
    from deltatui.config import render

    typer.echo(render(_load(profile, {})))


@config_app.command("check")
def config_check(profile: ProfileOption = "default") -> None:
    """Say whether the configuration can be used; exit code 2 if not."""
    loaded = _load(profile, {})
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}")
    typer.echo(f"the configuration of profile '{profile}' is good ({loaded.paths.config_file})")


@vault_app.command("reset")
def vault_reset(
    profile: ProfileOption = "default",
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    abandon_open: Annotated[
        bool, typer.Option("--abandon-open", help="Even though operations are open (docs/runbooks/vault-reset.md).")
    ] = False,
) -> None:
    """Move the engine's memory aside; the next start builds it anew. Nothing is deleted."""
    import os
    import socket
    import time

    from deltatui.store.lock import EngineLock, LockHolder
    from deltatui.store.maintenance import reset_vault

    paths = _paths(profile)
    if not paths.database.exists():
        raise ValidationError("NO_VAULT", f"profile '{profile}' has no vault at {paths.database}")
    if not yes and not typer.confirm(f"Move the vault of profile '{profile}' aside?"):
        raise typer.Exit(EXIT_REFUSED)
    now = time.time()
    lock = EngineLock.acquire(paths.lock, LockHolder(os.getpid(), socket.gethostname(), profile, now))
    try:
        moved = _run(reset_vault(paths.database, now, abandon_open=abandon_open))
    finally:
        lock.release()
    typer.echo(f"moved to {moved}")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def _paths(profile: str) -> Paths:
    from deltatui.paths import Paths

    return Paths.of(profile)


def _load(profile: str, flags: dict[str, object]) -> Any:
    from deltatui.config import load

    return load(profile, flags)


def _flags(tape: list[str] | None, speed: int | None) -> dict[str, object]:
    return {"replay.tape": tuple(tape) if tape else None, "replay.speed": speed}


def _engine_arguments(tapes: list[str] | None, speed: int | None, fresh: bool) -> list[str]:
    from deltatui.feeds.tapes import absolute

    # What it prints would go to a file that nobody rotates; its log has everything.
    arguments = ["--quiet"]
    for tape in tapes or ():
        arguments += ["--tape", absolute(tape)]
    if speed is not None:
        arguments += ["--speed", str(speed)]
    return [*arguments, "--fresh"] if fresh else arguments


def _need_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ValidationError("NO_TERMINAL", "this needs a terminal; without one use: deltatui engine, deltatui status")


def _find(paths: Paths) -> bool:
    from deltatui.launch import find

    return _run(find(paths)) is not None


def _terminal(paths: Paths, *, read_only: bool, theme: str | None, mouse: bool, ascii_only: bool) -> int:
    from deltatui.api.client import Client
    from deltatui.tui.app import Options, run

    async def connect() -> Client:
        return await Client.connect(paths.socket, name="terminal", read_only=read_only)

    options = Options(
        theme=theme,
        preferences=paths.state_folder / "terminal.toml",
        themes_dir=paths.theme_folders[-1],
        keymap=paths.config_file.parent / "keys.toml",
        state_dir=paths.state_folder,
        mouse=mouse,
        ascii_only=ascii_only or None,
    )
    return run(connect, options)


def _intent() -> str:
    import uuid

    return uuid.uuid4().hex


async def _ask(paths: Paths, question: Callable[[Client], Coroutine[Any, Any, T]], *, read_only: bool = False) -> T:
    from deltatui.api.client import Client

    client = await Client.connect(
        paths.socket, name="command line", read_only=read_only, log_backlog=0, event_backlog=0
    )
    try:
        return await question(client)
    finally:
        await client.close()


def _named(market: str | None) -> str:
    """Empty where the option was left out; raises ValidationError where it was given and names nothing."""
    if market is not None and not market.strip():
        raise ValidationError("BAD_MARKET", "--market names no market; name one, or leave the option out")
    return market or ""


def _send(
    profile: str, command: AnyCommand, *, yes: bool = False, word: str = "", force: bool = False, as_json: bool
) -> None:
    """Send a command to the profile's engine and say its result."""
    from deltatui.cli_trade import ask_and_send, finish

    result = _run(
        _ask(
            _paths(profile),
            lambda client: ask_and_send(client, command, intent=_intent(), yes=yes, word=word, force=force),
        )
    )
    finish(result, as_json)
