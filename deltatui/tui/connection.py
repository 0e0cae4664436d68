"""The link to the engine: connect, read into the store, reconnect with backoff, carry commands."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

from deltatui.api.protocol import (
    EventBatch,
    HistoryMessage,
    LogBatch,
    MarketMessage,
    ResultMessage,
    SnapshotMessage,
    Welcome,
)
from deltatui.domain.errors import DeltatuiError, TransientError
from deltatui.tui.store import Link, LinkState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deltatui.api.client import Connection, Update
    from deltatui.api.protocol import Previewed
    from deltatui.domain.command import AnyCommand, CommandResult
    from deltatui.domain.snapshot import PlanView
    from deltatui.tui.store import Store

RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Waits between tries; the last one repeats."""
STOPPED_CODE = "STOPPING"
"""The code of the BYE with which an engine says that it stops."""


class EngineClient(Protocol):
    """The part of ``deltatui.api.client.Client`` that the terminal uses."""

    welcome: Welcome
    state: Connection

    def __aiter__(self) -> AsyncIterator[Update]: ...

    async def command(self, command: AnyCommand, timeout_s: float = 60.0) -> CommandResult: ...

    async def preview(self, command: Previewed, timeout_s: float = 5.0) -> PlanView: ...

    async def select(self, market: str) -> None: ...

    async def close(self) -> None: ...


class Connector:
    """Runs for the life of the terminal. ``news`` is called after every change that should not wait for a tick;
    ``late`` receives results whose sender had stopped waiting."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[EngineClient]],
        store: Store,
        clock: Callable[[], float],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        late: Callable[[CommandResult], None],
    ) -> None:
        self._connect = connect
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._late = late
        self._client: EngineClient | None = None
        self._selected = ""
        """What the engine has been told on this connection."""

    async def run(self) -> None:
        """Connect and read until cancelled."""
        tries = 0
        try:
            while True:
                held = self._store.view.link
                # While it goes on trying, the state and its reason stay on the screen.
                self._put(held.state, held.reason, tries)
                try:
                    self._client = await self._connect()
                except (DeltatuiError, OSError) as error:
                    reason = error.sentence if isinstance(error, DeltatuiError) else str(error)
                    stopped = held.state is LinkState.STOPPED
                    tries += 1
                    await self._wait(
                        LinkState.STOPPED if stopped else LinkState.LOST, held.reason if stopped else reason, tries
                    )
                    continue
                tries = 0
                await self._read(self._client)
                ended = self._client.state
                await self._close()
                state = LinkState.STOPPED if ended.code == STOPPED_CODE else LinkState.LOST
                tries += 1
                await self._wait(state, ended.reason, tries)
        finally:
            await self._close()

    async def _read(self, client: EngineClient) -> None:
        self._selected = ""
        self._store.engine_is(client.welcome.pid)
        self._put(LinkState.CONNECTED, "", 0, read_only=client.welcome.read_only)
        async for message in client:
            match message:
                case SnapshotMessage(snapshot=snapshot):
                    self._store.put_snapshot(snapshot, self._clock())
                    await self.tell_selection()
                case MarketMessage(detail=detail):
                    self._store.put_detail(detail, self._clock())
                case HistoryMessage(history=history):
                    self._store.put_history(history)
                case LogBatch(lines=lines, dropped=dropped):
                    self._store.add_lines(lines, dropped)
                case EventBatch(events=events, backlog=backlog):
                    if not backlog:
                        self._store.add_events(events)
                case ResultMessage(result=result):
                    self._late(result)

    async def _wait(self, state: LinkState, reason: str, tries: int) -> None:
        pause = RETRY_S[min(tries, len(RETRY_S)) - 1]
        self._put(state, reason, tries, retry_at=self._clock() + pause)
        await self._sleep(pause)

    def _put(
        self, state: LinkState, reason: str, tries: int, *, retry_at: float | None = None, read_only: bool | None = None
    ) -> None:
        held = self._store.view.link
        self._store.put_link(
            Link(
                state=state,
                since=held.since if held.state is state and held.since else self._clock(),
                reason=reason,
                retry_at=retry_at,
                tries=tries,
                read_only=held.read_only if read_only is None else read_only,
            )
        )

    async def command(self, command: AnyCommand) -> CommandResult:
        """Send a command and wait for its result. Raises what ``Client.command`` raises; TransientError when there is
        no connection."""
        return await self._connected("not sent").command(command)

    async def preview(self, command: Previewed) -> PlanView:
        """What ``command`` would do now. Raises ValidationError where it could not be given; TransientError when
        there is no connection or no answer."""
        return await self._connected("not known").preview(command)

    async def tell_selection(self) -> None:
        """Ask for the details of the selected market, where the engine does not send them already."""
        client, market = self._client, self._store.view.market
        if client is None or market == self._selected:
            return
        self._selected = market
        # A connection that broke tells so by its end.
        with contextlib.suppress(DeltatuiError):
            await client.select(market)

    def _connected(self, otherwise: str) -> EngineClient:
        if self._client is None or not self._store.view.link.up:
            raise TransientError("NOT_CONNECTED", f"{otherwise}: the engine is not connected")
        return self._client

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(DeltatuiError, OSError):
                await client.close()
