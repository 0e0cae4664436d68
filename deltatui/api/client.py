"""The client's side of the wire.

    client = await Client.connect(path, name="terminal")
    result = await client.command(Pause())
    await client.select("SOL-PERP")
    async for message in client: ...   # SnapshotMessage, MarketMessage, LogBatch ...; ends when the connection does

A background task reads all the time, so results arrive whether or not anybody iterates; meanwhile only the newest
snapshot and bounded numbers of lines and events are kept. Reconnecting is the caller's: make a new Client.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import time
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from deltatui.api.protocol import (
    MAX_LINE_BYTES,
    PROTOCOL_VERSION,
    Bye,
    CommandMessage,
    EventBatch,
    Hello,
    HistoryMessage,
    LogBatch,
    MarketMessage,
    Ping,
    Pong,
    Previewed,
    PreviewMessage,
    PreviewResult,
    ResultMessage,
    Select,
    ServerMessage,
    SnapshotMessage,
    Welcome,
    decode_server,
    encode,
)
from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.errors import DeltatuiError, TransientError, UnresolvedError, ValidationError
from deltatui.domain.snapshot import MarketDetail, PlanView, Snapshot

_KEPT_BATCHES = 200
_CLOSE_S = 1.0

Update = SnapshotMessage | MarketMessage | HistoryMessage | LogBatch | EventBatch | ResultMessage
"""What iteration yields. A ResultMessage comes only for a command whose caller had stopped waiting."""


class Connection(msgspec.Struct, frozen=True):
    """Whether the client is connected; if not, ``code`` and ``reason`` say why."""

    connected: bool
    code: str = ""
    reason: str = ""


async def open_engine(path: Path, timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the engine's unix socket, on which nothing has been said yet.

    Raises TransientError (NO_ENGINE: nobody listens there; NO_ANSWER) or ValidationError NOT_ALLOWED.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await asyncio.open_unix_connection(os.fspath(path), limit=MAX_LINE_BYTES)
    except (FileNotFoundError, ConnectionRefusedError):
        raise TransientError("NO_ENGINE", f"no engine answers at {path}") from None
    except TimeoutError:
        raise TransientError("NO_ANSWER", f"the engine at {path} did not answer within {timeout_s:g} s") from None
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            raise ValidationError("NOT_ALLOWED", f"the engine at {path} belongs to another user") from None
        raise TransientError("NO_ENGINE", f"cannot connect to {path}: {error.strerror or error}") from None


class Client:
    """Made by :meth:`connect` or :meth:`over`; one reader may iterate, any number of tasks may send commands."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        self.welcome = welcome
        self.state = Connection(True)
        self.snapshot: Snapshot | None = None
        """The newest snapshot received."""
        self.snapshot_received_s: float | None = None
        """When that was, on ``time.monotonic()``."""
        self.detail: MarketDetail | None = None
        """The newest received of the selected market."""
        self._reader, self._writer = reader, writer
        self._ids = itertools.count(1)
        self._results: dict[int, asyncio.Future[CommandResult | DeltatuiError]] = {}
        self._pongs: dict[int, asyncio.Future[DeltatuiError | None]] = {}
        self._previews: dict[int, asyncio.Future[PreviewResult | DeltatuiError]] = {}
        self._news = asyncio.Event()
        self._snapshot_new = False
        self._selected = ""
        self._detail_new = False
        self._history: HistoryMessage | None = None
        self._logs: _Batches[LogBatch] = _Batches()
        self._events: _Batches[EventBatch] = _Batches()
        self._late: deque[ResultMessage] = deque(maxlen=_KEPT_BATCHES)
        self._reading = asyncio.get_running_loop().create_task(self._read(), name="client reader")
        self._reading.add_done_callback(self._reading_ended)

    @classmethod
    async def connect(
        cls,
        path: Path,
        *,
        name: str,
        read_only: bool = False,
        log_backlog: int = 500,
        event_backlog: int = 200,
        timeout_s: float = 5.0,
    ) -> Client:
        """Attach to the engine at the unix socket ``path``.

        Raises TransientError (NO_ENGINE: nobody listens there; NO_ANSWER: somebody listens but does not answer) or
        ValidationError (the engine sent us away, with its own code: BAD_PROTOCOL, TOO_MANY_CLIENTS ...; NOT_ALLOWED).
        """
        reader, writer = await open_engine(path, timeout_s)
        hello = Hello(PROTOCOL_VERSION, name, read_only, log_backlog, event_backlog)
        return await cls._greet(reader, writer, hello, timeout_s)

    @classmethod
    async def over(
        cls,
        connection: socket.socket,
        *,
        name: str,
        read_only: bool = False,
        log_backlog: int = 500,
        event_backlog: int = 200,
        timeout_s: float = 5.0,
    ) -> Client:
        """Attach over an already connected stream socket (one end of a pair; the same bytes, no file)."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=MAX_LINE_BYTES)
        hello = Hello(PROTOCOL_VERSION, name, read_only, log_backlog, event_backlog)
        return await cls._greet(reader, writer, hello, timeout_s)

    @classmethod
    async def _greet(
        cls, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, timeout_s: float
    ) -> Client:
        try:
            async with asyncio.timeout(timeout_s):
                writer.write(encode(hello) + b"\n")
                answer = decode_server(await reader.readline())
            if isinstance(answer, Bye):
                raise ValidationError(answer.code, answer.reason)
            if not isinstance(answer, Welcome) or answer.protocol != PROTOCOL_VERSION:
                raise ValidationError(
                    "BAD_PROTOCOL",
                    f"the engine does not speak protocol {PROTOCOL_VERSION}; restart the older of the two",
                )
        except TimeoutError:
            writer.transport.abort()
            raise TransientError("NO_ANSWER", f"the engine did not say WELCOME within {timeout_s:g} s") from None
        except ConnectionError:
            writer.transport.abort()
            raise TransientError("NO_ANSWER", "the engine closed the connection before it said WELCOME") from None
        except (msgspec.MsgspecError, ValueError):
            writer.transport.abort()
            raise TransientError("NO_ANSWER", "the engine closed the connection or spoke something else") from None
        except BaseException:
            writer.transport.abort()
            raise
        return cls(reader, writer, answer)

    @property
    def connected(self) -> bool:
        return self.state.connected

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Update:
        while True:
            if self._late:
                return self._late.popleft()
            if (events := self._events.take()) is not None:
                return events
            if (lines := self._logs.take()) is not None:
                return lines
            if self._snapshot_new and self.snapshot is not None:
                self._snapshot_new = False
                return SnapshotMessage(self.snapshot)
            if self._detail_new and self.detail is not None:
                self._detail_new = False
                return MarketMessage(self.detail)
            if (history := self._history) is not None:
                self._history = None
                return history
            if not self.connected:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()

    async def command(self, command: AnyCommand, timeout_s: float = 60.0) -> CommandResult:
        """Send ``command`` and wait for its result.

        Raises TransientError NOT_CONNECTED if it was not sent, and UnresolvedError (NO_ANSWER, CONNECTION_LOST) if it
        was but no result came: it may have been carried out, so repeat it with the same ``intent_id`` or not at all.
        """
        number = next(self._ids)
        waiting: asyncio.Future[CommandResult | DeltatuiError] = asyncio.get_running_loop().create_future()
        self._results[number] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(CommandMessage(number, command))
                answer = await waiting
        except TimeoutError:
            sentence = f"the engine did not answer within {timeout_s:g} s; the command may still be carried out"
            raise UnresolvedError("NO_ANSWER", sentence) from None
        finally:
            self._results.pop(number, None)
        if isinstance(answer, DeltatuiError):
            raise answer
        return answer

    async def preview(self, command: Previewed, timeout_s: float = 5.0) -> PlanView:
        """What ``command`` would do now. Nothing is changed, and a client that is attached read-only may ask too.

        Raises ValidationError with the engine's code and sentence where it could not be given now, and TransientError
        (NOT_CONNECTED, CONNECTION_LOST, NO_ANSWER) where no answer came.
        """
        number = next(self._ids)
        waiting: asyncio.Future[PreviewResult | DeltatuiError] = asyncio.get_running_loop().create_future()
        self._previews[number] = waiting
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(PreviewMessage(number, command))
                answer = await waiting
        except TimeoutError:
            raise TransientError("NO_ANSWER", f"the engine did not answer within {timeout_s:g} s") from None
        except UnresolvedError:
            answer = TransientError("CONNECTION_LOST", f"there is no answer any more: {self.state.reason}")
        finally:
            self._previews.pop(number, None)
        if isinstance(answer, DeltatuiError):
            raise answer
        if answer.plan is None:
            raise ValidationError(answer.code, answer.reason)
        return answer.plan

    async def select(self, market: str) -> None:
        """Have a MarketMessage about ``market`` now and with every snapshot, in place of the one before. Empty: none.

        Of a market that the engine does not carry none comes. The selection ends with the connection. Raises
        TransientError NOT_CONNECTED and UnresolvedError CONNECTION_LOST.
        """
        if market == self._selected:
            return
        self._selected, self.detail, self._detail_new = market, None, False
        await self._send(Select(market))

    async def ping(self, timeout_s: float = 5.0) -> float:
        """Round trip to the engine's event loop in seconds. Raises TransientError if none comes in time."""
        number = next(self._ids)
        waiting: asyncio.Future[DeltatuiError | None] = asyncio.get_running_loop().create_future()
        self._pongs[number] = waiting
        began_s = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(Ping(number))
                lost = await waiting
        except (TimeoutError, UnresolvedError):
            raise TransientError("NO_ANSWER", f"the engine did not answer within {timeout_s:g} s") from None
        finally:
            self._pongs.pop(number, None)
        if lost is not None:
            raise TransientError("NOT_CONNECTED", lost.sentence)
        return time.perf_counter() - began_s

    async def close(self) -> None:
        """Detach. Harmless when already disconnected."""
        self._disconnected("CLOSED", "this client detached")
        self._reading.cancel()
        self._writer.close()
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(_CLOSE_S):
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _send(self, message: CommandMessage | PreviewMessage | Select | Ping) -> None:
        if not self.connected:
            raise TransientError("NOT_CONNECTED", f"not connected to the engine: {self.state.reason}")
        try:
            self._writer.write(encode(message) + b"\n")
            await self._writer.drain()
        except ConnectionError:
            self._disconnected("CONNECTION_LOST", "the connection to the engine broke")
            raise UnresolvedError("CONNECTION_LOST", "the connection broke while something was sent") from None

    async def _read(self) -> None:
        while line := await self._reader.readline():
            if not line.endswith(b"\n"):
                break
            message = decode_server(line)
            if isinstance(message, Bye):
                self._disconnected(message.code, message.reason)
                return
            self._receive(message)
            # readline does not yield while lines are buffered.
            await asyncio.sleep(0)

    def _receive(self, message: ServerMessage) -> None:
        if isinstance(message, SnapshotMessage):
            self.snapshot, self.snapshot_received_s = message.snapshot, time.monotonic()
            self._snapshot_new = True
        elif isinstance(message, MarketMessage):
            # One of the market before may still be under way.
            if message.detail.market == self._selected:
                self.detail, self._detail_new = message.detail, True
        elif isinstance(message, HistoryMessage):
            self._history = message
        elif isinstance(message, LogBatch):
            self._logs.add(message, len(message.lines))
        elif isinstance(message, EventBatch):
            self._events.add(message, len(message.events))
        elif isinstance(message, ResultMessage):
            waiting = self._results.get(message.id)
            if waiting is None:
                self._late.append(message)
            elif not waiting.done():
                waiting.set_result(message.result)
        elif isinstance(message, PreviewResult):
            # One that nobody waits for any more tells nothing that will still be so.
            preview = self._previews.get(message.id)
            if preview is not None and not preview.done():
                preview.set_result(message)
        elif isinstance(message, Pong) and (pong := self._pongs.get(message.id)) is not None and not pong.done():
            pong.set_result(None)
        self._news.set()

    def _reading_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, ConnectionError):
            self._disconnected("CONNECTION_LOST", "the engine closed the connection")
        elif isinstance(error, (msgspec.MsgspecError, ValueError)):
            self._disconnected("BAD_MESSAGE", f"the engine sent a line that this client does not understand: {error}")
        else:
            self._disconnected("INTERNAL_ERROR", f"the client's reader died of {type(error).__name__}")
        self._writer.transport.abort()

    def _disconnected(self, code: str, reason: str) -> None:
        if not self.connected:
            return
        self.state = Connection(False, code, reason)
        lost: DeltatuiError = UnresolvedError(
            "CONNECTION_LOST", f"the connection ended before the result came ({reason}); the command may be carried out"
        )
        # As results, not exceptions: a future whose waiter has just left would complain of an unread exception.
        for result in self._results.values():
            if not result.done():
                result.set_result(lost)
        for preview in self._previews.values():
            if not preview.done():
                preview.set_result(TransientError("CONNECTION_LOST", f"there is no answer any more: {reason}"))
        for pong in self._pongs.values():
            if not pong.done():
                pong.set_result(lost)
        self._news.set()


_Batch = TypeVar("_Batch", LogBatch, EventBatch)


class _Batches(Generic[_Batch]):
    """Batches not yet taken by the reader, bounded; what had to go is counted in the next one taken."""

    def __init__(self) -> None:
        self._batches: deque[tuple[_Batch, int]] = deque()
        self._dropped = 0

    def add(self, batch: _Batch, size: int) -> None:
        self._batches.append((batch, size))
        if len(self._batches) > _KEPT_BATCHES:
            old, lost = self._batches.popleft()
            self._dropped += lost + old.dropped

    def take(self) -> _Batch | None:
        if not self._batches:
            return None
        batch, _ = self._batches.popleft()
        if self._dropped:
            batch = msgspec.structs.replace(batch, dropped=batch.dropped + self._dropped)
            self._dropped = 0
        return batch
