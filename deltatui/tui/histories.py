"""Histories on their way from the engine into the store, past the connection that carries everything else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltatui.api.protocol import HistoryMessage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from deltatui.api.client import Connection, Update
    from deltatui.api.protocol import Welcome
    from deltatui.domain.command import AnyCommand, CommandResult
    from deltatui.tui.connection import EngineClient
    from deltatui.tui.store import Store


class HistoryTap:
    """An engine client that puts every HistoryMessage into the store and hands the other messages on."""

    def __init__(self, client: EngineClient, store: Store) -> None:
        self._client = client
        self._store = store
        self.welcome: Welcome = client.welcome

    @property
    def state(self) -> Connection:
        return self._client.state

    @state.setter
    def state(self, state: Connection) -> None:
        self._client.state = state

    async def __aiter__(self) -> AsyncIterator[Update]:
        async for message in self._client:
            if isinstance(message, HistoryMessage):
                self._store.put_history(message.history)
            else:
                yield message

    async def command(self, command: AnyCommand, timeout_s: float = 60.0) -> CommandResult:
        return await self._client.command(command, timeout_s)

    async def close(self) -> None:
        await self._client.close()


def tapped(connect: Callable[[], Awaitable[EngineClient]], store: Store) -> Callable[[], Awaitable[EngineClient]]:
    """``connect``, with a HistoryTap on each client that it makes."""

    async def connect_and_tap() -> EngineClient:
        return HistoryTap(await connect(), store)

    return connect_and_tap
