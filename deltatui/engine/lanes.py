"""Who may have an operation under way: one a market, and of those that add risk one an account.

A lane is no lock around data. Whoever holds it plans, sends and waits for the outcome; facts, books, snapshots, a kill,
a cancel and all other markets go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager


class Lanes:
    """By market; the account's own lane has the name :data:`deltatui.engine.memory.ACCOUNT`."""

    def __init__(self, markets: Iterable[str]) -> None:
        self._markets = {market: asyncio.Lock() for market in markets}
        self._risk = asyncio.Lock()

    def busy(self, market: str) -> bool:
        return self._markets[market].locked()

    @asynccontextmanager
    async def hold(self, market: str, *, adds_risk: bool = False) -> AsyncIterator[None]:
        """Wait for the lane; with ``adds_risk`` first until nothing that adds risk is under way anywhere. In this
        order: who waits for the account's turn must not keep what reduces risk out of his market."""
        async with AsyncExitStack() as held:
            if adds_risk:
                await held.enter_async_context(self._risk)
            await held.enter_async_context(self._markets[market])
            yield

    @asynccontextmanager
    async def hold_all(self) -> AsyncIterator[None]:
        """Nothing is under way anywhere."""
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._risk)
            for lane in self._markets.values():
                await held.enter_async_context(lane)
            yield
