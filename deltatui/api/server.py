"""The engine's side of the wire: a unix socket, any number of clients, and no waiting for any of them.

Each client has one writer task, one slot for the newest snapshot (older ones are dropped, never queued) and bounded
queues of log lines and events that count what they drop. Results are never dropped: a client that lets too many pile
up, or does not drain for ``stall_s``, is cut off. Everything here runs on one event loop; other threads must hop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from deltatui import __version__
from deltatui.api.endpoint import Endpoint
from deltatui.api.limits import ServerLimits
from deltatui.api.newest import Newest
from deltatui.api.peer import Peer
from deltatui.api.protocol import (
    PROTOCOL_VERSION,
    Bye,
    CommandMessage,
    Hello,
    KillNow,
    KillResult,
    Ping,
    Pong,
    PreviewMessage,
    PreviewResult,
    ResultMessage,
    Select,
    Welcome,
    decode_any_hello,
    decode_any_line,
    decode_client,
    decode_kill,
    encode,
)
from deltatui.domain.command import AnyCommand, Cancel, Command, CommandResult, Kill, Leave, Pause, ResultStatus, Stop
from deltatui.domain.errors import DeltatuiError, ValidationError
from deltatui.domain.principal import OPERATOR, Principal

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from deltatui.api.protocol import Previewed
    from deltatui.domain.event import Event, LogLine
    from deltatui.domain.snapshot import HistoryView, MarketDetail, PlanView, Snapshot


class Engine(Protocol):
    """What the server needs from the engine."""

    def snapshot(self) -> Snapshot:
        """The present state; ``version`` grows with every change."""

    def detail(self, market: str, version: int) -> MarketDetail | None:
        """What depends on ``market`` now, under the number of the snapshot beside it; None where the engine carries no
        such market. Raises one of the four kinds of error where it cannot be judged."""

    async def submit(self, command: AnyCommand, principal: Principal) -> CommandResult:
        """Carry out what ``principal`` asks. Raises one of the four kinds of error, or answers with a result."""

    def preview(self, command: Previewed, principal: Principal) -> PlanView:
        """What the command would do now if ``principal`` gave it; changes nothing. Raises one of the four kinds of
        error where there is no such trade now."""


_Item = TypeVar("_Item")
_Command = TypeVar("_Command", bound=Command)

_STOPPING = ("STOPPING", "the engine stops and takes no more commands")
_ENDING = Bye("STOPPING", "the engine stops")
_REDUCES_RISK = (Kill, Cancel, Leave, Pause, Stop)


class Server:
    """Serves ``engine`` at the unix socket ``path``.

    ``on_clients`` is told the number of clients whenever it changes; ``on_fault(what, error)`` is told of every task
    that died of something unforeseen (default: the event loop's exception handler).
    """

    def __init__(
        self,
        engine: Engine,
        path: Path,
        *,
        lock: Path | None = None,
        profile: str,
        mode: str,
        pid: int,
        limits: ServerLimits | None = None,
        on_clients: Callable[[int], None] | None = None,
        on_fault: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self._engine = engine
        self._endpoint = Endpoint(path, lock)
        self._limits = limits or ServerLimits()
        self._profile, self._mode, self._pid = profile, mode, pid
        self._on_clients, self._on_fault = on_clients, on_fault
        self._peers: set[Peer] = set()
        self._connections = 0
        self._newest = Newest(engine.detail)
        self._logs: deque[LogLine] = deque(maxlen=self._limits.history)
        self._events: deque[Event] = deque(maxlen=self._limits.history)
        self._tasks: set[asyncio.Task[None]] = set()
        self._commands: set[asyncio.Task[None]] = set()
        self._connected: set[asyncio.Task[None]] = set()
        self._refreshing = False
        self._refreshed_s = float("-inf")
        self._flush: asyncio.TimerHandle | None = None
        self._listener: asyncio.Server | None = None
        self._closing = False

    @property
    def clients(self) -> int:
        """How many clients are attached (handshake done)."""
        return len(self._peers)

    async def start(self) -> None:
        """Own the socket and accept clients. Raises ValidationError ENGINE_RUNNING if another engine has the profile,
        NOT_A_SOCKET or SHARED_FOLDER if the place is not fit."""
        await self._listen(self._endpoint.open())
        self._spawn("socket watch", self._watch_endpoint(), self._tasks)

    async def close(self, reason: str = "the engine stops") -> None:
        """Accept nobody more, give running commands and full queues ``close_s`` to end, say BYE and remove the socket.
        Commands that take longer are left running: a trade is not cut in the middle for a client's sake. Must not be
        awaited from within ``Engine.submit``."""
        self._closing = True
        if self._listener is not None:
            self._listener.close()
        if self._commands:
            await asyncio.wait(self._commands, timeout=self._limits.close_s)
        for peer in self._peers:
            peer.finish(Bye("STOPPING", reason))
        if self._connected:
            _, late = await asyncio.wait(self._connected, timeout=self._limits.close_s)
            for task in late:
                task.cancel()
        if self._flush is not None:
            self._flush.cancel()
        for task in self._tasks:
            task.cancel()
        if ending := self._connected | self._tasks:
            await asyncio.wait(ending)
        self._endpoint.close()

    async def attach(self, connection: socket.socket) -> None:
        """Serve an already connected stream socket (one end of a pair)."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=self._limits.line_bytes)
        self._accept(reader, writer)

    def publish(self, snapshot: Snapshot) -> None:
        """Hand the newest snapshot to every client. Returns at once; an old version is ignored."""
        if not self._newest.put_snapshot(snapshot):
            return
        for peer in self._peers:
            peer.offer_snapshot()
        self._newest.judge(peer.selected for peer in self._peers)

    def publish_history(self, history: HistoryView) -> None:
        """Hand the charts' data to every client, at the pace of the records they are made of."""
        self._newest.put_history(history)
        for peer in self._peers:
            peer.offer_history()

    def notify_dirty(self) -> None:
        """Ask the engine for a snapshot soon: at once if the last is older than ``min_interval_s``, else when it is.
        Does nothing while there are no clients."""
        if not self._peers or self._refreshing or self._closing:
            return
        self._refreshing = True
        wait_s = self._refreshed_s + self._limits.min_interval_s - asyncio.get_running_loop().time()
        self._spawn("snapshot", self._refresh(max(0.0, wait_s)), self._tasks)

    def publish_log(self, line: LogLine) -> None:
        self._logs.append(line)
        for peer in self._peers:
            peer.offer_log(line)
        self._flush_soon()

    def publish_event(self, event: Event) -> None:
        self._events.append(event)
        for peer in self._peers:
            peer.offer_event(event)
        self._flush_soon()

    def _flush_soon(self) -> None:
        # Lines come in bursts; one message for all of them costs a fraction of one each.
        if self._peers and self._flush is None:
            loop = asyncio.get_running_loop()
            self._flush = loop.call_later(self._limits.log_batch_s, self._flush_now)

    def _flush_now(self) -> None:
        self._flush = None
        for peer in self._peers:
            peer.wake.set()

    async def _refresh(self, wait_s: float) -> None:
        try:
            await asyncio.sleep(wait_s)
            self._refreshed_s = asyncio.get_running_loop().time()
        finally:
            # Reset before asking: a change that the engine makes from now on asks again.
            self._refreshing = False
        self.publish(self._engine.snapshot())

    async def _select(self, peer: Peer, market: str) -> None:
        peer.selected = market
        self._newest.judge((market,))
        peer.offer_market()

    async def _listen(self, listener: socket.socket) -> None:
        self._listener = await asyncio.start_unix_server(self._accept, sock=listener, limit=self._limits.line_bytes)

    async def _watch_endpoint(self) -> None:
        """Listen anew if the socket file vanishes while the engine lives on."""
        told = False
        while True:
            await asyncio.sleep(self._limits.endpoint_check_s)
            if not self._endpoint.lost():
                told = False
                continue
            try:
                listener = self._endpoint.bind()
            except DeltatuiError as error:
                if not told:
                    self._fault("socket watch", error)
                told = True
                continue
            if self._listener is not None:
                self._listener.close()
            await self._listen(listener)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._spawn("client", self._serve(reader, writer), self._connected)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            met = await self._handshake(reader)
            if isinstance(met, Bye):
                await self._dismiss(writer, met)
            elif met is not None and self._closing:
                await self._dismiss(writer, _ENDING)
            elif isinstance(met, KillNow):
                await self._dismiss(writer, await self._kill(met))
            elif met is not None:
                await self._attend(met, reader, writer)
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _handshake(self, reader: asyncio.StreamReader) -> Hello | KillNow | Bye | None:
        """HELLO or KILL, or the BYE to answer with, or None if the client has gone."""
        if self._closing:
            return _ENDING
        if self._connections > self._limits.clients:
            return Bye("TOO_MANY_CLIENTS", f"this engine already has {self._limits.clients} clients; close one")
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                line = await reader.readline()
        except TimeoutError:
            return Bye("HELLO_TIMEOUT", f"no HELLO came within {self._limits.handshake_s:g} s")
        except ValueError:
            return self._too_long()
        except ConnectionError:
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            if decode_any_line(line).type == "KILL":
                return decode_kill(line)
            protocol = decode_any_hello(line).protocol
            if protocol != PROTOCOL_VERSION:
                return Bye(
                    "BAD_PROTOCOL",
                    f"this engine (deltatui {__version__}) speaks protocol {PROTOCOL_VERSION}, "
                    f"the client {protocol}; restart the older of the two",
                )
            message = decode_client(line)
        except (msgspec.MsgspecError, RecursionError) as error:
            return Bye("BAD_MESSAGE", f"the first line is no HELLO of this protocol: {error}")
        if not isinstance(message, Hello):
            return Bye("BAD_MESSAGE", "the first message must be HELLO")
        return message

    async def _kill(self, line: KillNow) -> KillResult:
        """Stop the engine for whoever could open the socket. It goes on if he leaves before it ends."""
        answer: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()

        def tell(result: CommandResult) -> None:
            if not answer.done():
                answer.set_result(result)

        command = Kill(flatten=line.flatten, reason=line.reason)
        self._spawn("kill", self._carry_out(command, _principal(read_only=False), tell), self._commands)
        result = await answer
        done = result.status == ResultStatus.DONE
        return KillResult(done, result.code, result.message, result.status, result.operation_id, result.parts)

    async def _dismiss(self, writer: asyncio.StreamWriter, last: Bye | KillResult) -> None:
        try:
            async with asyncio.timeout(self._limits.close_s):
                writer.write(encode(last) + b"\n")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            return

    async def _attend(self, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._limits
        peer = Peer(
            writer,
            self._newest,
            principal=_principal(hello.read_only),
            read_only=hello.read_only,
            queue=limits.queue,
            unread_results=limits.unread_results,
            write_buffer_bytes=limits.write_buffer_bytes,
            stall_s=limits.stall_s,
        )
        # Nobody may have asked for a snapshot while there were no clients.
        self.publish(self._engine.snapshot())
        peer.welcome(
            Welcome(PROTOCOL_VERSION, __version__, self._profile, self._mode, self._pid, hello.read_only),
            _last(self._logs, hello.log_backlog),
            _last(self._events, hello.event_backlog),
        )
        self._peers.add(peer)
        self._clients_changed()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(peer.send_all(limits.close_s))
                peer.finish(await self._read(peer, reader))
        finally:
            self._peers.discard(peer)
            self._clients_changed()

    async def _read(self, peer: Peer, reader: asyncio.StreamReader) -> Bye | None:
        """Obey the client until it leaves (None) or must be sent away."""
        while True:
            try:
                line = await reader.readline()
            except ValueError:
                return self._too_long()
            except ConnectionError:
                return None
            if not line.endswith(b"\n"):
                return None
            try:
                message = decode_client(line)
            except (msgspec.MsgspecError, RecursionError) as error:
                return Bye("BAD_MESSAGE", f"a line could not be understood: {error}")
            if isinstance(message, Hello):
                return Bye("BAD_MESSAGE", "HELLO may come only once")
            if isinstance(message, Ping):
                peer.reply(Pong(message.id))
            elif isinstance(message, PreviewMessage):
                self._spawn("preview", self._preview(peer, message), self._tasks)
            elif isinstance(message, Select):
                self._spawn("market", self._select(peer, message.market), self._tasks)
            else:
                self._command(peer, message)
            # readline does not yield while lines are buffered.
            await asyncio.sleep(0)

    def _command(self, peer: Peer, message: CommandMessage) -> None:
        refusal = self._refuse(peer, message.command)
        if refusal is not None:
            peer.reply(ResultMessage(message.id, refusal))
            return
        peer.in_flight += 1

        def tell(result: CommandResult) -> None:
            peer.in_flight -= 1
            peer.reply(ResultMessage(message.id, result))

        self._spawn("command", self._carry_out(message.command, peer.principal, tell), self._commands)

    def _refuse(self, peer: Peer, command: AnyCommand) -> CommandResult | None:
        limits = self._limits
        if self._closing:
            return _rejected(command, *_STOPPING)
        if peer.read_only:
            return _rejected(command, "READ_ONLY", "this client is attached read-only; attach without read-only to act")
        if isinstance(command, _REDUCES_RISK):
            # Bounded all the same: a client that floods is told so, and a kill is never among the refused.
            if peer.in_flight >= 4 * limits.commands_in_flight and not isinstance(command, Kill):
                return _rejected(command, "BUSY", "too many commands of this client are still running; wait for them")
            return None
        if peer.in_flight >= limits.commands_in_flight:
            return _rejected(command, "BUSY", "too many commands of this client are still running; wait for them")
        if not peer.commands.allow(limits.commands_per_s, asyncio.get_running_loop().time()):
            text = f"more than {limits.commands_per_s} commands in a second from one client; slow down"
            return _rejected(command, "RATE_LIMIT", text)
        return None

    async def _carry_out(
        self, command: AnyCommand, principal: Principal, tell: Callable[[CommandResult], None]
    ) -> None:
        """Submit the command as the principal's, and ``tell`` the result whatever becomes of it."""
        # What the client hears if submit dies of something unforeseen, which goes on to the supervisor.
        result = CommandResult(
            ResultStatus.UNRESOLVED,
            "INTERNAL_ERROR",
            "the engine failed while it handled this command; look at positions and log before repeating it",
            intent_id=command.intent_id,
        )
        try:
            result = await self._engine.submit(_of(principal, command), principal)
        except ValidationError as error:
            result = _rejected(command, error.code, error.sentence)
        except DeltatuiError as error:
            # Only a ValidationError promises that nothing was changed.
            result = CommandResult(ResultStatus.UNRESOLVED, error.code, error.sentence, intent_id=command.intent_id)
        finally:
            try:
                # Nobody may act on the state from before what the result tells: the snapshot goes first. A kill whose
                # closing was refused has halted the engine all the same.
                if result.status != ResultStatus.REJECTED or isinstance(command, Kill):
                    self.publish(self._engine.snapshot())
            finally:
                tell(result)

    async def _preview(self, peer: Peer, message: PreviewMessage) -> None:
        """Answer what a command would do. Nothing is waited for, so that what is told is of one moment."""
        number, most = message.id, self._limits.previews_per_s
        # What the client hears if the engine dies of something unforeseen, which goes on to the supervisor.
        answer = PreviewResult(
            number, None, "INTERNAL_ERROR", "the engine failed while it judged this; look at the log"
        )
        try:
            if self._closing:
                answer = PreviewResult(number, None, *_STOPPING)
            elif not peer.previews.allow(most, asyncio.get_running_loop().time()):
                text = f"more than {most} previews in a second from one client; slow down"
                answer = PreviewResult(number, None, "RATE_LIMIT", text)
            else:
                # Looking needs no right to act: it is judged as the operator's, whoever looks.
                answer = PreviewResult(number, self._engine.preview(_of(OPERATOR, message.command), OPERATOR))
        except DeltatuiError as error:
            answer = PreviewResult(number, None, error.code, error.sentence)
        finally:
            peer.reply(answer)

    def _too_long(self) -> Bye:
        return Bye("LINE_TOO_LONG", f"a line may have {self._limits.line_bytes} bytes")

    def _clients_changed(self) -> None:
        if self._on_clients is not None:
            self._on_clients(len(self._peers))

    def _spawn(self, what: str, work: Coroutine[Any, Any, None], where: set[asyncio.Task[None]]) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"server {what}")
        where.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            where.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._fault(what, error)

        task.add_done_callback(ended)

    def _fault(self, what: str, error: BaseException) -> None:
        if self._on_fault is not None:
            self._on_fault(what, error)
        else:
            context = {"message": f"deltatui server: {what} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


def _principal(read_only: bool) -> Principal:
    """Whoever could open the socket (0600, in a folder of the same user) is the operator."""
    return msgspec.structs.replace(OPERATOR, power="watch") if read_only else OPERATOR


def _of(principal: Principal, command: _Command) -> _Command:
    """``command`` as the principal's own, whatever the client wrote there."""
    return msgspec.structs.replace(command, source=principal.source)


def _rejected(command: AnyCommand, code: str, sentence: str) -> CommandResult:
    return CommandResult(ResultStatus.REJECTED, code, sentence, intent_id=command.intent_id)


def _last(items: deque[_Item], count: int) -> tuple[_Item, ...]:
    return tuple(itertools.islice(items, max(0, len(items) - max(0, count)), None))
