"""The kill switch on a connection of its own: one line that every engine from protocol 4 on obeys, and the lines of the
older ones where it is not understood. The old lines are written out here, because the present messages go on changing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from deltatui.api.client import open_engine
from deltatui.api.protocol import AnyLine, Bye, KillNow, KillResult, encode
from deltatui.domain.command import CommandResult, LegPart, ResultStatus
from deltatui.domain.errors import TransientError, UnresolvedError, ValidationError

OLD_PROTOCOLS = (3, 2, 1)
"""Of engines that do not know KILL as a first line. HELLO, a KILL command and its result are alike in all three."""

_NOT_UNDERSTOOD = ("BAD_MESSAGE", "BAD_PROTOCOL")


class _Answer(msgspec.Struct, frozen=True):
    """A CommandResult of an old engine; its verdicts are not needed."""

    status: str
    code: str
    message: str
    operation_id: str = ""
    parts: tuple[LegPart, ...] = ()


class _OldResult(msgspec.Struct, frozen=True):
    id: int
    result: _Answer


_decode_any = msgspec.json.Decoder(AnyLine).decode
_decode_bye = msgspec.json.Decoder(Bye).decode
_decode_result = msgspec.json.Decoder(KillResult).decode
_decode_old_result = msgspec.json.Decoder(_OldResult).decode


async def kill(
    path: Path, *, flatten: bool, reason: str, timeout_s: float = 60.0, connect_s: float = 5.0
) -> CommandResult:
    """Stop the engine at the unix socket ``path``, whatever protocol it speaks.

    Raises TransientError (NO_ENGINE, NO_ANSWER) or ValidationError (the engine sent us away, with its own code) where
    nothing was done, and UnresolvedError (NO_ANSWER, CONNECTION_LOST, BAD_ANSWER) where it may have been: to kill again
    does no harm.
    """
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _by_line(path, KillNow(flatten, reason), connect_s)
            for protocol in OLD_PROTOCOLS:
                if isinstance(answer, CommandResult) or answer.code not in _NOT_UNDERSTOOD:
                    break
                answer = await _by_command(path, protocol, KillNow(flatten, reason), connect_s)
    except TimeoutError:
        raise UnresolvedError(
            "NO_ANSWER", f"the engine did not answer within {timeout_s:g} s; the kill may still be carried out"
        ) from None
    if isinstance(answer, Bye):
        raise ValidationError(answer.code, answer.reason)
    return answer


class _Line:
    """A connection that is written and read line by line. Raises ConnectionError where the other side has gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def say(self, line: bytes) -> None:
        self._writer.write(line + b"\n")
        await self._writer.drain()

    async def hear(self) -> tuple[str, bytes]:
        """The type of the next line, and the line."""
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        return _decode_any(line).type, line


async def _by_line(path: Path, order: KillNow, connect_s: float) -> CommandResult | Bye:
    reader, writer = await open_engine(path, connect_s)
    line = _Line(reader, writer)
    try:
        await line.say(encode(order))
        kind, raw = await line.hear()
        if kind == "BYE":
            return _decode_bye(raw)
        result = _decode_result(raw)
        return _told(result.status, result.success, result)
    except (ConnectionError, msgspec.MsgspecError, ValueError) as error:
        raise _unresolved(error) from None
    finally:
        writer.transport.abort()


async def _by_command(path: Path, protocol: int, order: KillNow, connect_s: float) -> CommandResult | Bye:
    """BYE: it speaks another protocol than this, or takes nobody."""
    reader, writer = await open_engine(path, connect_s)
    line, sent = _Line(reader, writer), False
    hello = {"type": "HELLO", "protocol": protocol, "client": "kill", "log_backlog": 0, "event_backlog": 0}
    command = {"action": "KILL", "flatten": order.flatten, "reason": order.reason}
    try:
        await line.say(encode(hello))
        kind, raw = await line.hear()
        if kind == "BYE":
            return _decode_bye(raw)
        sent = True
        await line.say(encode({"type": "COMMAND", "id": 1, "command": command}))
        while kind != "COMMAND_RESULT":
            kind, raw = await line.hear()
            if kind == "BYE":
                raise ConnectionResetError
        result = _decode_old_result(raw).result
        return _told(result.status, result.status == ResultStatus.DONE, result)
    except (ConnectionError, msgspec.MsgspecError, ValueError) as error:
        if not sent:
            raise TransientError("NO_ANSWER", "the engine closed the connection before it said WELCOME") from None
        raise _unresolved(error) from None
    finally:
        writer.transport.abort()


def _told(status: str, success: bool, answer: KillResult | _Answer) -> CommandResult:
    try:
        known = ResultStatus(status)
    except ValueError:
        # A word of a later version: what it means is not known, but whether all is done.
        known = ResultStatus.DONE if success else ResultStatus.UNRESOLVED
    return CommandResult(known, answer.code, answer.message, operation_id=answer.operation_id, parts=answer.parts)


def _unresolved(error: Exception) -> UnresolvedError:
    if isinstance(error, ConnectionError):
        return UnresolvedError(
            "CONNECTION_LOST", "the connection ended before the answer came; the kill may be carried out: kill again"
        )
    return UnresolvedError(
        "BAD_ANSWER", f"the engine's answer to the kill could not be understood ({error}); look at the engine"
    )
