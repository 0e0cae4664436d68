"""The paper exchange under the kit: the reference on which the kit itself is proved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal

import msgspec
from engine_harness import BOTH, SOL, SOL_ALONE, World, world

from deltatui.domain.command import AnyCommand, CommandResult
from deltatui.domain.gates import GateLimits
from deltatui.domain.snapshot import Snapshot
from deltatui.venues.paper.settings import MARKETS, PaperFaults
from venue_kit.cases import Case
from venue_kit.rig import Capability

_LIMITS = GateLimits(max_leverage=10.0, min_health_after=0, min_liq_distance_pct=0)


class PaperRig:
    name = "paper"
    capabilities = frozenset(Capability)

    def __init__(self) -> None:
        self._world: World | None = None
        self._late_s = 0.0

    @property
    def _w(self) -> World:
        assert self._world is not None
        return self._world

    @asynccontextmanager
    async def opened(self, case: Case) -> AsyncIterator[PaperRig]:
        markets = BOTH if Capability.TWO_MARKETS in case.needs else SOL_ALONE
        async with world(limits=_LIMITS, markets=markets) as w:
            self._world = w
            yield self

    async def give(self, command: AnyCommand) -> CommandResult:
        return await self._w.sure(command)

    async def price(self, price: Decimal) -> None:
        await self._w.to_price(price)

    async def wait(self, operator_s: float) -> None:
        self._w.wait(operator_s)
        await self._w.engine.tick()
        await self._w.step()

    async def restart(self) -> None:
        await self._w.restart()

    def snapshot(self) -> Snapshot:
        return self._w.snapshot().snapshot

    def legs(self, market: str = "SOL-PERP") -> tuple[float, float]:
        spots = self._w.venue._account.spots
        return float(spots[MARKETS[market].base_symbol]), self._w.venue.perp_1e9(market) / SOL

    async def check(self) -> None:
        await self._w.check()

    # Trouble

    def _faults(self, **faults: Any) -> None:
        settings = self._w.venue._settings
        self._w.venue._settings = msgspec.structs.replace(
            settings, faults=PaperFaults(report_late_s=self._late_s, **faults)
        )

    def tell_late(self, seconds: float) -> None:
        self._late_s = seconds
        self._faults()

    def fill_in_part(self, leg: Literal["perp", "spot"]) -> None:
        first = len(self._w.sender.sent)

        async def only_the_next() -> None:
            if len(self._w.sender.sent) > first + 1:
                self._faults()

        self._faults(partial_rate=1.0, partial_leg=leg)
        self._w.sender.on_send = only_the_next

    def lose_reply(self) -> None:
        self._w.sender.mute = True

    def lose_request(self) -> None:
        self._w.sender.mute = self._w.sender.lost = True

    def find_reply(self) -> None:
        self._w.sender.mute = self._w.sender.lost = False

    async def trade_elsewhere(self, instrument: str, base: Decimal, price: Decimal) -> None:
        await self._w.venue.fill_from_elsewhere(instrument, int(base * SOL), price)
        await self._w.step()

    async def pause(self, reason: str) -> None:
        await self._w.change(paused=reason)

    async def unpause(self) -> None:
        await self._w.change(paused="")
