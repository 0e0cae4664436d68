"""Commands of the command line to a running engine: sent, asked about at the keyboard, ended with an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import typer

from deltatui.domain.command import AnyCommand, Cancel, CommandResult, Confirm, ResultStatus
from deltatui.domain.errors import TransientError
from deltatui.plain import confirmation_lines, part_text

if TYPE_CHECKING:
    from deltatui.api.client import Client
    from deltatui.domain.snapshot import ConfirmationView

EXIT_CODES = {
    ResultStatus.DONE: 0,
    ResultStatus.REJECTED: 1,
    ResultStatus.UNRESOLVED: 5,
    ResultStatus.PARTLY_DONE: 6,
}
"""Of a command that the engine has answered."""

_ASK_AGAIN_S = 1.0
"""Between two looks for the end of a question that no snapshot shows."""


async def ask_and_send(client: Client, command: AnyCommand, *, intent: str, yes: bool, force: bool) -> CommandResult:
    """Send ``command``; where the engine asks, show what it would do and answer from the keyboard, or by ``yes``.

    A question that ends elsewhere (another terminal, the clock, a kill) ends it here too, with what became of it.
    ``intent`` is the Confirm's own. Raises what ``Client.command`` raises, TransientError where the engine goes away.
    """
    result = await client.command(command)
    if result.status != ResultStatus.NEEDS_CONFIRMATION:
        return result
    if not yes:
        ended = await _put_question(client, command, result.operation_id)
        if ended is not None:
            return ended
    result = await client.command(
        Confirm(intent_id=intent, source="api", operation_id=result.operation_id, force=force)
    )
    # The engine knows the end of every intent: somebody was quicker, or the clock was.
    return await client.command(command) if result.code == "NOT_PENDING" else result


async def _put_question(client: Client, command: AnyCommand, operation_id: str) -> CommandResult | None:
    """None: the answer was yes. Else what became of the question."""
    views = _question(client, command, operation_id)
    shown = await anext(views)
    if isinstance(shown, CommandResult):
        return shown
    for line in confirmation_lines(shown):
        typer.echo(line, err=True)
    typer.echo("Do it? [y/N]: ", err=True, nl=False)
    answer = asyncio.create_task(_answer())
    over = asyncio.create_task(_end(views))
    try:
        await asyncio.wait({answer, over}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            typer.echo("", err=True)
            return over.result()
        if answer.result():
            return None
    except asyncio.CancelledError:
        # ctrl+c: nothing may go on waiting in the terminals.
        await client.command(Cancel(source="api", operation_id=operation_id))
        raise
    finally:
        answer.cancel()
        over.cancel()
    await client.command(Cancel(source="api", operation_id=operation_id))
    return await client.command(command)


async def _question(
    client: Client, command: AnyCommand, operation_id: str
) -> AsyncIterator[ConfirmationView | CommandResult]:
    """The question in every snapshot that has it; at last what became of it."""
    from deltatui.api.protocol import SnapshotMessage

    async for message in client:
        if not isinstance(message, SnapshotMessage):
            continue
        view = message.snapshot.confirmation
        if view is not None and view.operation_id == operation_id:
            yield view
            continue
        result = await client.command(command)
        if result.status != ResultStatus.NEEDS_CONFIRMATION:
            yield result
            return
        # It waits all the same: what it would do cannot be said at this moment.
        await asyncio.sleep(_ASK_AGAIN_S)
    raise TransientError("CONNECTION_LOST", f"the engine went away: {client.state.reason}")


async def _end(views: AsyncIterator[ConfirmationView | CommandResult]) -> CommandResult:
    async for view in views:
        if isinstance(view, CommandResult):
            return view
    raise AssertionError("a question ends with its result")


async def _answer() -> bool:
    """One line of the standard input, without a thread that could not be ended; only y or yes is a yes."""
    try:
        source = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    said = b""
    while b"\n" not in said:
        await _readable(source)
        piece = os.read(source, 1024)
        if not piece:
            break
        said += piece
    return said.split(b"\n")[0].strip().lower() in (b"y", b"yes")


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


def finish(result: CommandResult, as_json: bool) -> None:
    """Say ``result``. Raises typer.Exit with its exit code where that is not 0."""
    if as_json:
        import msgspec

        typer.echo(msgspec.json.encode(result).decode())
    else:
        typer.echo(result.message, err=result.status == ResultStatus.REJECTED)
        for part in result.parts if result.status == ResultStatus.PARTLY_DONE else ():
            typer.echo(f"  {part_text(part)}")
    code = EXIT_CODES[result.status]
    if code:
        raise typer.Exit(code)
