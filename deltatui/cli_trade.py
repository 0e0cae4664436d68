"""Commands of the command line to a running engine: for which market, sent, asked about at the keyboard, ended with an
exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec
import typer

from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    CommandResult,
    Confirm,
    Leave,
    Rebalance,
    ResultStatus,
    Settle,
    Take,
)
from deltatui.domain.errors import TransientError
from deltatui.plain import confirmation_lines, part_text

if TYPE_CHECKING:
    from deltatui.api.client import Client
    from deltatui.domain.snapshot import ConfirmationView, EngineView, HedgeView, MarketDetail, Snapshot

EXIT_CODES = {
    ResultStatus.DONE: 0,
    ResultStatus.REJECTED: 1,
    ResultStatus.UNRESOLVED: 5,
    ResultStatus.PARTLY_DONE: 6,
}
"""Of a command that the engine has answered."""

_DETAIL_S = 1.0
"""How long the engine may take to say what depends on one market."""
_ASK_AGAIN_S = 1.0
"""Between two looks for the end of a question that no snapshot shows."""


_LEAST_SPOT_USD = 1.0
"""Spot without a perp that is worth less is interest, or a rest that cannot be sold: no hedge."""

InMarket = Take | Leave | Rebalance | Settle
"""What acts on one market."""


async def _in_market(client: Client, command: InMarket) -> InMarket | CommandResult:
    """``command`` with the market that its words leave open: for a take the only one that the engine carries, else that
    of the only hedge that is held. Where there are several, or none, a refusal that names them."""
    snapshot = await first_snapshot(client)
    carried = [hedge.market for hedge in snapshot.hedges]
    markets = carried
    if not isinstance(command, Take):
        if any(hedge.delta.perp is None for hedge in snapshot.hedges):
            return _refused("NO_ACCOUNT", "what is held is not known yet; try again, or name the market with --market")
        markets = [hedge.market for hedge in snapshot.hedges if _held(hedge)]
    if len(markets) == 1:
        return msgspec.structs.replace(command, market=markets[0])
    if not markets:
        return _refused("NOTHING_HELD", f"no hedge is held; --market names another market: {', '.join(carried)}")
    what = "carried" if isinstance(command, Take) else "held"
    return _refused("WHICH_MARKET", f"{' and '.join(markets)} are {what}; say which with --market")


def _held(hedge: HedgeView) -> bool:
    """A perp, or spot of a hedge whose perp is gone."""
    spot, price = hedge.delta.hedge_spot or 0.0, hedge.prices.oracle
    return bool(hedge.delta.perp) or (spot != 0.0 and (price is None or abs(spot) * price >= _LEAST_SPOT_USD))


def _refused(code: str, sentence: str) -> CommandResult:
    return CommandResult(ResultStatus.REJECTED, code, sentence)


async def first_snapshot(client: Client) -> Snapshot:
    """Raises TransientError where the engine goes away before it."""
    from deltatui.api.protocol import SnapshotMessage

    async for message in client:
        if isinstance(message, SnapshotMessage):
            return message.snapshot
    raise _gone(client)


async def all_markets(client: Client) -> tuple[Snapshot, list[MarketDetail]]:
    """The first snapshot, and what the engine says of each market of it; of one that it says nothing of, nothing.

    Raises TransientError where the engine goes away before the snapshot.
    """
    from deltatui.api.protocol import MarketMessage

    snapshot = await first_snapshot(client)
    details: list[MarketDetail] = []
    for hedge in snapshot.hedges:
        await client.select(hedge.market)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DETAIL_S):
                async for message in client:
                    if isinstance(message, MarketMessage):
                        details.append(message.detail)
                        break
    return snapshot, details


def _gone(client: Client) -> TransientError:
    return TransientError("CONNECTION_LOST", f"the engine went away: {client.state.reason}")


async def ask_and_send(
    client: Client, command: AnyCommand, *, intent: str, yes: bool, force: bool, word: str = ""
) -> CommandResult:
    """Send ``command``; where the engine asks, show what it would do and answer from the keyboard, or by ``yes``.

    ``market`` empty: found where there is no choice. A question that ends elsewhere (another terminal, the clock, a
    kill) ends it here too, with what became of it. ``intent`` is the Confirm's own; ``word`` goes with a ``yes`` to a
    command that wants one typed (R13.10). Raises what ``Client.command`` raises, TransientError where the engine goes
    away.
    """
    if isinstance(command, InMarket) and not command.market:
        placed = await _in_market(client, command)
        if isinstance(placed, CommandResult):
            return placed
        command = placed
    result = await client.command(command)
    if result.status != ResultStatus.NEEDS_CONFIRMATION:
        return result
    if not yes:
        said = await _put_question(client, command, result.operation_id)
        if isinstance(said, CommandResult):
            return said
        word = said
    answer = await client.command(Confirm(intent_id=intent, operation_id=result.operation_id, force=force, word=word))
    if answer.code == "TYPE_MARKET":
        # It waits on for the word, and nobody here will type it.
        await client.command(Cancel(operation_id=result.operation_id))
    # The engine knows the end of every intent: somebody was quicker, or the clock was.
    return await client.command(command) if answer.code == "NOT_PENDING" else answer


async def _put_question(client: Client, command: AnyCommand, operation_id: str) -> CommandResult | str:
    """Where the answer was yes: the word that was typed, empty where none is wanted. Else what became of it."""
    views = _question(client, command, operation_id)
    shown = await anext(views)
    if isinstance(shown, CommandResult):
        return shown
    for line in confirmation_lines(shown):
        typer.echo(line, err=True)
    word = "" if client.snapshot is None else word_to_type(client.snapshot.engine, shown)
    typer.echo(f"Type {word} to do it: " if word else "Do it? [y/N]: ", err=True, nl=False)
    answer = asyncio.create_task(_answer())
    over = asyncio.create_task(_end(views))
    try:
        await asyncio.wait({answer, over}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            typer.echo("", err=True)
            return over.result()
        if answer.result() == word if word else answer.result().lower() in ("y", "yes"):
            return word
    except asyncio.CancelledError:
        # ctrl+c: nothing may go on waiting in the terminals.
        await client.command(Cancel(operation_id=operation_id))
        raise
    finally:
        answer.cancel()
        over.cancel()
    await client.command(Cancel(operation_id=operation_id))
    return await client.command(command)


def word_to_type(engine: EngineView, view: ConfirmationView) -> str:
    """What has to be typed to confirm ``view`` (R13.10): live and above the threshold the market's symbol, of a
    transfer the asset's. Empty: nothing. The engine decides by itself whether it was."""
    if engine.mode != "live" or view.question or view.notional <= engine.typed_above_usd:
        return ""
    return view.asset or view.market


async def _question(
    client: Client, command: AnyCommand, operation_id: str
) -> AsyncIterator[ConfirmationView | CommandResult]:
    """The question in every snapshot that has it; at last what became of it."""
    from deltatui.api.protocol import SnapshotMessage

    async for message in client:
        if not isinstance(message, SnapshotMessage):
            continue
        views = [view for view in message.snapshot.confirmations if view.operation_id == operation_id]
        if views:
            yield views[0]
            continue
        result = await client.command(command)
        if result.status != ResultStatus.NEEDS_CONFIRMATION:
            yield result
            return
        # It waits all the same: what it would do cannot be said at this moment.
        await asyncio.sleep(_ASK_AGAIN_S)
    raise _gone(client)


async def _end(views: AsyncIterator[ConfirmationView | CommandResult]) -> CommandResult:
    async for view in views:
        if isinstance(view, CommandResult):
            return view
    raise AssertionError("a question ends with its result")


async def _answer() -> str:
    """One line of the standard input, without a thread that could not be ended."""
    try:
        source = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return ""
    said = b""
    while b"\n" not in said:
        await _readable(source)
        piece = os.read(source, 1024)
        if not piece:
            break
        said += piece
    return said.split(b"\n")[0].strip().decode(errors="replace")


async def _readable(source: int) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    try:
        loop.add_reader(source, ready.set)
    except PermissionError:
        # A plain file, which can always be read.
        return
    try:
        await ready.wait()
    finally:
        loop.remove_reader(source)


def _told_by_part(result: CommandResult) -> bool:
    """Where it is not whole, or is more than one hedge (a kill that closes all), a sentence is not enough."""
    return result.status != ResultStatus.DONE or sum(part.leg == "perp" for part in result.parts) > 1


def finish(result: CommandResult, as_json: bool) -> None:
    """Say ``result``. Raises typer.Exit with its exit code where that is not 0."""
    if as_json:
        typer.echo(msgspec.json.encode(result).decode())
    else:
        typer.echo(result.message, err=result.status == ResultStatus.REJECTED)
        for part in result.parts if _told_by_part(result) else ():
            typer.echo(f"  {part_text(part)}", err=result.status == ResultStatus.REJECTED)
    code = EXIT_CODES[result.status]
    if code:
        raise typer.Exit(code)
