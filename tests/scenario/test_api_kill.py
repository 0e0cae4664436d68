"""KILL as a first line: obeyed whatever the versions, and put in the old words for engines that do not know it."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from wire import FakeEngine, Raw, Wire, eventually, running

from deltatui.api.kill import OLD_PROTOCOLS, kill
from deltatui.api.protocol import PROTOCOL_VERSION, Bye, KillResult, SnapshotMessage
from deltatui.domain.command import CommandResult, Kill, LegPart, ResultStatus, Take
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.principal import OPERATOR

PARTS = (
    LegPart("SOL-PERP", "perp", 5.0, 5.0, 0.0),
    LegPart("SOL", "spot", -5.0, -5.0, 0.0),
    LegPart("BTC-PERP", "perp", 0.1, 0.04, 0.06),
    LegPart("wBTC", "spot", -0.1, -0.04, -0.06),
)
PARTLY = CommandResult(ResultStatus.PARTLY_DONE, "PARTIAL", "halted, but closing is not complete", "op-1", parts=PARTS)


# The engine's side


async def first_line(wire: Wire, **line: Any) -> Raw:
    raw = await wire.raw(hello=False)
    raw.send_json(**line)
    return raw


@pytest.mark.parametrize("more", [{}, {"protocol": 1}, {"protocol": 99, "principal": {"of": ["later"]}}])
async def test_a_kill_needs_no_hello_and_no_version(more: dict[str, Any]) -> None:
    async with running() as wire:
        raw = await first_line(wire, type="KILL", flatten=True, reason="enough", **more)
        assert await raw.message() == KillResult(True, "DONE", "done", "done")
        assert await raw.ends()
        assert wire.engine.commands == [Kill(flatten=True, reason="enough")]
        assert wire.engine.principals == [OPERATOR]
        assert wire.counts == [], "it is no client"


async def test_a_kill_without_words_halts_and_closes_nothing() -> None:
    async with running() as wire:
        raw = await first_line(wire, type="KILL")
        await raw.message()
        assert wire.engine.commands == [Kill(flatten=False, reason="")]


async def test_a_kill_is_told_part_by_part() -> None:
    async with running() as wire:
        wire.engine.answer = PARTLY
        raw = await first_line(wire, type="KILL", flatten=True)
        assert await raw.message() == KillResult(False, "PARTIAL", PARTLY.message, "partly_done", "op-1", PARTS)


@pytest.mark.parametrize("line", [{"flatten": "yes"}, {"reason": 7}, {"flatten": None}])
async def test_a_kill_that_says_something_else_is_refused_and_not_guessed(line: dict[str, Any]) -> None:
    async with running() as wire:
        raw = await first_line(wire, type="KILL", **line)
        bye = await raw.message()
        assert isinstance(bye, Bye)
        assert bye.code == "BAD_MESSAGE"
        assert wire.engine.commands == []


async def test_after_hello_there_is_no_kill_line() -> None:
    """A client that is attached read-only would be more than it said."""
    async with running() as wire:
        raw = await wire.raw(read_only=True)
        raw.send_json(type="KILL")
        bye = await raw.until(Bye)
        assert isinstance(bye, Bye)
        assert bye.code == "BAD_MESSAGE"
        assert wire.engine.commands == []


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ValidationError("NO_POWER", "watch closes nothing"), "rejected", "NO_POWER"),
        (CriticalError("DISK_FULL", "the disk is full"), "unresolved", "DISK_FULL"),
        (KeyError("surprise"), "unresolved", "INTERNAL_ERROR"),
    ],
)
async def test_a_kill_is_always_answered(error: Exception, status: str, code: str) -> None:
    async with running() as wire:
        wire.engine.answer = error
        raw = await first_line(wire, type="KILL")
        answer = await raw.message()
        assert isinstance(answer, KillResult)
        assert (answer.success, answer.status, answer.code) == (False, status, code)
        assert [what for what, _ in wire.faults] == (["kill"] if isinstance(error, KeyError) else [])


async def test_everybody_sees_the_state_after_a_kill() -> None:
    async with running(min_interval_s=60.0) as wire:
        other = await wire.raw()
        await other.until(SnapshotMessage)
        wire.engine.change()
        await (await first_line(wire, type="KILL")).message()
        seen = await other.message()
        assert isinstance(seen, SnapshotMessage)
        assert seen.snapshot.version == 2
        other.close()


async def test_a_kill_goes_on_when_its_client_leaves_and_when_the_server_closes() -> None:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        wire = Wire(FakeEngine(), Path(folder) / "e.sock", close_s=0.01)
        await wire.server.start()
        wire.engine.gate = asyncio.Event()
        ended: list[Kill] = []

        def answer(command: Any) -> CommandResult:
            ended.append(command)
            return CommandResult(ResultStatus.DONE, "KILLED", "halted")

        wire.engine.answer = answer
        left = await first_line(wire, type="KILL", reason="left")
        await first_line(wire, type="KILL", reason="stays")
        await eventually(lambda: len(wire.engine.commands) == 2)
        left.close()
        await wire.server.close()
        wire.engine.gate.set()
        await eventually(lambda: len(ended) == 2)
        assert wire.faults == []


async def test_a_kill_does_not_wait_behind_a_slow_command() -> None:
    async with running() as wire:
        wire.engine.gate = asyncio.Event()
        client = await wire.client()
        slow = asyncio.create_task(client.command(Take(market="SOL-PERP", base_1e9=10)))
        await eventually(lambda: bool(wire.engine.commands))
        gate, wire.engine.gate = wire.engine.gate, None
        assert (await kill(wire.path, flatten=False, reason="now")).success
        gate.set()
        assert (await slow).success
        await client.close()


# The client's side


async def test_a_kill_and_its_answer() -> None:
    async with running() as wire:
        result = await kill(wire.path, flatten=True, reason="enough")
        assert (result.status, result.code, result.message) == (ResultStatus.DONE, "DONE", "done")
        assert wire.engine.commands == [Kill(flatten=True, reason="enough")]
        wire.engine.answer = PARTLY
        assert await kill(wire.path, flatten=True, reason="again") == PARTLY


class OldEngine:
    """Speaks a protocol from before KILL was a first line, with the words of those engines. ``answer`` None: it dies
    of the command; ``farewell``: it sends everybody away with this."""

    def __init__(self, protocol: int, answer: dict[str, Any] | None, farewell: dict[str, str] | None = None) -> None:
        self.protocol, self.answer, self.farewell = protocol, answer, farewell
        self.lines: list[dict[str, Any]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for line in await self._conversation(reader, writer):
                self._say(writer, line)
            await writer.drain()
        finally:
            writer.close()

    def _say(self, writer: asyncio.StreamWriter, line: dict[str, Any]) -> None:
        writer.write(json.dumps(line).encode() + b"\n")

    async def _conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[dict[str, Any]]:
        if self.farewell is not None:
            return [{"type": "BYE", **self.farewell}]
        hello = json.loads(await reader.readline())
        self.lines.append(hello)
        if "protocol" not in hello:
            why = "the first line is no HELLO of this protocol: Object missing required field `protocol`"
            return [{"type": "BYE", "code": "BAD_MESSAGE", "reason": why}]
        if hello["protocol"] != self.protocol:
            why = (
                f"this engine (deltatui 0.1.0) speaks protocol {self.protocol}, the client {hello['protocol']}; restart"
            )
            return [{"type": "BYE", "code": "BAD_PROTOCOL", "reason": why}]
        self._say(writer, {"type": "WELCOME", "protocol": self.protocol, "server": "0.1.0", "profile": "default",
                           "mode": "replay", "pid": 1, "read_only": False})  # fmt: skip
        self._say(writer, {"type": "SNAPSHOT", "snapshot": {"id": "not a number", "result": [1, 2]}})
        self.lines.append(json.loads(await reader.readline()))
        if self.answer is None:
            return []
        self._say(writer, {"type": "LOG", "lines": []})
        return [{"type": "COMMAND_RESULT", "id": self.lines[-1]["id"], "result": self.answer}]


@asynccontextmanager
async def listening(engine: OldEngine) -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        path = Path(folder) / "e.sock"
        listener = await asyncio.start_unix_server(engine.serve, str(path))
        try:
            yield path
        finally:
            listener.close()


def old_answer(**fields: Any) -> dict[str, Any]:
    answer = {"status": "done", "code": "KILLED", "message": "halted", "operation_id": "", "intent_id": ""}
    return {**answer, "verdicts": [{"code": "HEALTH", "status": "of old"}], **fields}


@pytest.mark.parametrize("protocol", [1, 2, 3])
async def test_an_engine_of_an_older_protocol_is_killed_in_its_own_words(protocol: int) -> None:
    engine = OldEngine(protocol, old_answer())
    async with listening(engine) as path:
        result = await kill(path, flatten=True, reason="enough")
    assert result == CommandResult(ResultStatus.DONE, "KILLED", "halted")
    assert engine.lines[0] == {"type": "KILL", "flatten": True, "reason": "enough"}
    assert engine.lines[-2]["protocol"] == protocol
    assert engine.lines[-1] == {
        "type": "COMMAND", "id": 1, "command": {"action": "KILL", "flatten": True, "reason": "enough"},
    }  # fmt: skip


def test_every_protocol_without_a_kill_line_is_spoken() -> None:
    assert sorted(OLD_PROTOCOLS) == [1, 2, 3]
    assert PROTOCOL_VERSION not in OLD_PROTOCOLS


async def test_what_an_old_engine_did_in_part_is_told() -> None:
    part = {"market": "SOL-PERP", "leg": "perp", "asked": 5.0, "filled": 3.0, "open": 2.0}
    async with listening(OldEngine(3, old_answer(status="partly_done", code="PARTIAL", parts=[part]))) as path:
        result = await kill(path, flatten=True, reason="")
    assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "PARTIAL")
    assert result.parts == (LegPart("SOL-PERP", "perp", 5.0, 3.0, 2.0),)


@pytest.mark.parametrize(
    ("engine", "error", "code"),
    [
        (OldEngine(3, None), UnresolvedError, "CONNECTION_LOST"),
        (OldEngine(3, {"status": "done"}), UnresolvedError, "BAD_ANSWER"),
        (OldEngine(0, old_answer()), ValidationError, "BAD_PROTOCOL"),
        (OldEngine(3, None, {"code": "TOO_MANY_CLIENTS", "reason": "full"}), ValidationError, "TOO_MANY_CLIENTS"),
        (OldEngine(3, None, {"code": "STOPPING", "reason": "it stops"}), ValidationError, "STOPPING"),
    ],
)
async def test_what_did_not_work_is_told_and_never_as_done(
    engine: OldEngine, error: type[DeltatuiError], code: str
) -> None:
    async with listening(engine) as path:
        with pytest.raises(error, match=code):
            await kill(path, flatten=False, reason="")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"success": True, "code": "KILLED", "message": "halted"}, ResultStatus.DONE),
        ({"success": False, "code": "X", "message": "half", "status": "a word of later"}, ResultStatus.UNRESOLVED),
        ({"success": False, "code": "X", "message": "no", "status": "rejected", "more": {}}, ResultStatus.REJECTED),
    ],
)
async def test_the_answer_of_a_later_version(said: dict[str, Any], status: ResultStatus) -> None:
    async with later(json.dumps({"type": "KILL_RESULT", **said}).encode()) as path:
        assert (await kill(path, flatten=False, reason="")).status is status


@pytest.mark.parametrize(
    ("said", "code"),
    [(b"nonsense", "BAD_ANSWER"), (b'{"type":"KILL_RESULT"}', "BAD_ANSWER"), (b"", "CONNECTION_LOST")],
)
async def test_an_answer_that_is_none_leaves_the_outcome_open(said: bytes, code: str) -> None:
    async with later(said) as path:
        with pytest.raises(UnresolvedError, match=code):
            await kill(path, flatten=False, reason="")


@asynccontextmanager
async def later(said: bytes) -> AsyncIterator[Path]:
    """An engine that answers the first line with ``said``; with nothing it closes."""
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        path = Path(folder) / "e.sock"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            if said:
                writer.write(said + b"\n")
                await writer.drain()
            writer.close()

        listener = await asyncio.start_unix_server(serve, str(path))
        try:
            yield path
        finally:
            listener.close()


async def test_a_kill_that_is_not_answered_in_time_leaves_the_outcome_open() -> None:
    async with running() as wire:
        wire.engine.gate = asyncio.Event()
        with pytest.raises(UnresolvedError, match="NO_ANSWER"):
            await kill(wire.path, flatten=False, reason="", timeout_s=0.05)
        assert wire.engine.commands == [Kill()]
        wire.engine.gate.set()


async def test_an_old_engine_that_dies_before_it_is_told_has_done_nothing() -> None:
    engine = OldEngine(3, None)
    conversation = engine._conversation

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> list[dict[str, Any]]:
        return [] if engine.lines else await conversation(reader, writer)

    engine._conversation = dying  # type: ignore[method-assign]
    async with listening(engine) as path:
        with pytest.raises(TransientError, match="NO_ANSWER"):
            await kill(path, flatten=False, reason="")


async def test_nobody_to_kill() -> None:
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder, pytest.raises(TransientError, match="NO_ENGINE"):
        await kill(Path(folder) / "e.sock", flatten=False, reason="")
