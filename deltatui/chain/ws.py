"""Subscriptions over one WebSocket that is replaced when it dies or falls silent.

A socket proves that it lives by slots: every connection subscribes to them, and without one for ``silence_s`` it is
taken for dead, whatever its pings say (docs/sources.md, Solana and Jito). Whoever must not miss a value polls as well
(``accounts.AccountFeed``).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from deltatui.chain.tasks import stop, within
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

T = TypeVar("T")

_CONNECT_S = 10.0
_BACKOFF_S = (1.0, 60.0)
_EARLY_FRAMES = 256
_LARGEST_FRAME = 32 * 1024 * 1024


class Note(msgspec.Struct, frozen=True):
    """One notification; ``result`` is its JSON."""

    result: bytes

    def decode(self, result: type[T]) -> T:
        """Raises msgspec.DecodeError if it has another shape."""
        return msgspec.json.decode(self.result, type=result)


class _Params(msgspec.Struct):
    subscription: int
    result: msgspec.Raw


class _Frame(msgspec.Struct):
    id: int | None = None
    method: str = ""
    params: _Params | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Slot(msgspec.Struct):
    slot: int


_frames = msgspec.json.Decoder(_Frame)


class Subscription:
    """A wish for notifications. It outlives connections; ``gaps`` counts those that may have lost some."""

    def __init__(
        self,
        owner: Subscriptions,
        method: str,
        params: Sequence[Any],
        on_note: Callable[[Note], None],
        on_gap: Callable[[], None] | None,
    ) -> None:
        self._owner = owner
        self.method = method
        self.params = list(params)
        self.on_note = on_note
        self.on_gap = on_gap
        self.gaps = 0

    def close(self) -> None:
        self._owner.drop(self)

    def renew(self) -> None:
        """Subscribe again on the same connection: this subscription is silent though there was something to say."""
        self._owner.renew(self)


class _Connection:
    """What belongs to one socket: subscription ids mean nothing on the next one."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.asked: dict[int, Subscription] = {}
        self.active: dict[int, Subscription] = {}
        self.early: list[tuple[int, bytes]] = []


class Subscriptions:
    """``urls`` are tried in turn. Run :meth:`run` under a supervisor. ``jitter`` gives numbers from 0 to 1."""

    def __init__(
        self,
        urls: Sequence[str],
        clock: Clock,
        log: Log,
        silence_s: float = 5.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if not urls:
            raise ValidationError("NO_WEBSOCKET", "subscriptions need at least one WebSocket URL")
        self._urls = itertools.cycle(urls)
        self._clock = clock
        self._log = log
        self._silence_s = silence_s
        self._jitter = jitter
        self._ids = itertools.count(1)
        self._wanted: list[Subscription] = []
        self._connection: _Connection | None = None
        self._heartbeat = Subscription(self, "slotSubscribe", [], self._beat, None)
        self._beat_s: float | None = None
        self._delay_s = _BACKOFF_S[0]
        self.slot: int | None = None
        self.connections = 0

    @property
    def connected(self) -> bool:
        return self._connection is not None and self._beat_s is not None

    def age_s(self) -> float | None:
        """Seconds since the last sign of life, None before the first one of this connection."""
        return None if self._beat_s is None else self._clock.operator_s() - self._beat_s

    def subscribe(
        self,
        method: str,
        params: Sequence[Any],
        on_note: Callable[[Note], None],
        on_gap: Callable[[], None] | None = None,
    ) -> Subscription:
        """``on_note`` gets every notification. ``on_gap`` is called when a new connection has been subscribed to:
        what happened in between is lost and must be read."""
        if not method.endswith("Subscribe"):
            raise ValidationError("BAD_SUBSCRIPTION", f"'{method}' is no subscription method")
        subscription = Subscription(self, method, params, on_note, on_gap)
        self._wanted.append(subscription)
        if self._connection is not None:
            self._ask(self._connection, subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        if subscription in self._wanted:
            self._wanted.remove(subscription)
        self._forget(subscription)

    def renew(self, subscription: Subscription) -> None:
        self._forget(subscription)
        if self._connection is not None and subscription in self._wanted:
            self._ask(self._connection, subscription)

    async def run(self) -> None:
        """Connect, read, reconnect after a jittered 1 to 60 s; never returns."""
        while True:
            why = await self._once(next(self._urls))
            self._connection = None
            self._beat_s = None
            pause_s = self._delay_s * (0.5 + self._jitter() / 2)
            self._log(Level.WARNING, "TX", f"the chain's WebSocket is gone ({why}); again in {pause_s:.1f} s", None)
            self._delay_s = min(self._delay_s * 2, _BACKOFF_S[1])
            await self._clock.sleep(pause_s)

    async def _once(self, url: str) -> str:
        """One connection's life; returns what ended it."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        async def opened() -> ClientConnection:
            # Silence is judged by slots and on the Clock port, so the library's own pings and time limits are off.
            return await connect(
                url,
                open_timeout=None,
                ping_interval=None,
                close_timeout=1,
                max_size=_LARGEST_FRAME,
                user_agent_header=None,
            )

        try:
            socket = await within(self._clock, _CONNECT_S, opened())
        except TimeoutError:
            return f"no connection within {_CONNECT_S:g} s"
        except (OSError, WebSocketException) as error:
            return type(error).__name__
        connection = _Connection()
        self._connection = connection
        self.connections += 1
        for subscription in (self._heartbeat, *self._wanted):
            self._ask(connection, subscription)
        tasks = [
            asyncio.create_task(self._read(socket, connection)),
            asyncio.create_task(self._write(socket, connection)),
            asyncio.create_task(self._guard()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    return task.result()
            return "closed"
        except (OSError, WebSocketException) as error:
            return type(error).__name__
        finally:
            await stop(*(task for task in tasks if not task.done()))
            # A socket that went mute does not answer the closing handshake either.
            socket.transport.abort()

    async def _read(self, socket: ClientConnection, connection: _Connection) -> str:
        async for message in socket:
            self._take(connection, message.encode() if isinstance(message, str) else message)
        return "closed by the node"

    async def _write(self, socket: ClientConnection, connection: _Connection) -> str:
        while True:
            await socket.send((await connection.outbox.get()).decode())

    async def _guard(self) -> str:
        started_s = self._clock.operator_s()
        while True:
            await self._clock.sleep(1.0)
            now = self._clock.operator_s()
            silent_s = now - (started_s if self._beat_s is None else self._beat_s)
            if silent_s > self._silence_s:
                return f"no slot for {silent_s:.0f} s"
            if silent_s < 0:  # the clock was set back
                started_s = now
                self._beat_s = None if self._beat_s is None else now

    def _take(self, connection: _Connection, message: bytes) -> None:
        try:
            frame = _frames.decode(message)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self._log(Level.WARNING, "TX", "the chain's WebSocket sent a frame that cannot be read", None)
            return
        if frame.params is not None:
            self._deliver(connection, frame.params.subscription, bytes(frame.params.result))
        elif frame.id is not None and frame.id in connection.asked:
            self._answered(connection, connection.asked.pop(frame.id), frame)

    def _answered(self, connection: _Connection, subscription: Subscription, frame: _Frame) -> None:
        try:
            number = msgspec.json.decode(b"null" if frame.result is msgspec.UNSET else frame.result, type=int)
        except msgspec.DecodeError:
            self._log(Level.WARNING, "TX", f"the node refused {subscription.method}", None)
            return
        if subscription is not self._heartbeat and subscription not in self._wanted:
            self._unsubscribe(connection, subscription, number)  # it was dropped before the node answered
            return
        connection.active[number] = subscription
        if subscription.on_gap is not None:
            subscription.gaps += 1
            subscription.on_gap()
        # A frame may come before the answer that names its subscription.
        early = [result for known, result in connection.early if known == number]
        connection.early = [each for each in connection.early if each[0] != number]
        for result in early:
            self._deliver(connection, number, result)

    def _deliver(self, connection: _Connection, number: int, result: bytes) -> None:
        subscription = connection.active.get(number)
        if subscription is not None:
            subscription.on_note(Note(result))
        elif connection.asked and len(connection.early) < _EARLY_FRAMES:
            connection.early.append((number, result))

    def _beat(self, note: Note) -> None:
        try:
            slot = note.decode(_Slot).slot
        except msgspec.DecodeError:
            return
        if self.slot is not None and self._beat_s is not None and slot <= self.slot:
            return  # a node that repeats itself does not live
        self.slot = slot
        self._beat_s = self._clock.operator_s()
        self._delay_s = _BACKOFF_S[0]

    def _ask(self, connection: _Connection, subscription: Subscription) -> None:
        number = next(self._ids)
        connection.asked[number] = subscription
        request = {"jsonrpc": "2.0", "id": number, "method": subscription.method, "params": subscription.params}
        connection.outbox.put_nowait(msgspec.json.encode(request))

    def _forget(self, subscription: Subscription) -> None:
        connection = self._connection
        if connection is None:
            return
        for number in [number for number, each in connection.active.items() if each is subscription]:
            del connection.active[number]
            self._unsubscribe(connection, subscription, number)

    def _unsubscribe(self, connection: _Connection, subscription: Subscription, number: int) -> None:
        method = subscription.method.removesuffix("Subscribe") + "Unsubscribe"
        request = {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": [number]}
        connection.outbox.put_nowait(msgspec.json.encode(request))
