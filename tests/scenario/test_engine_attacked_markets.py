"""Lives found by attacking the engine of many hedges: what happens between two markets, between a hand and automation,
and between a fact and the loop that takes it."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from engine_harness import BOTH, FREE, SOL, World, quiet, take, world

from deltatui.domain.command import CommandResult, Pause, ResultStatus, SetAutomation, Take
from deltatui.domain.gates import GateLimits
from deltatui.venues.paper.settings import PaperSettings

CALM = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0), base_borrow_apr_pct=Decimal(0))
LOOSE = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0, min_health_withdraw=0)
DONE, REJECTED = ResultStatus.DONE, ResultStatus.REJECTED


class Gate:
    """Keeps what is sent from going on until it is opened."""

    def __init__(self, w: World) -> None:
        self.open = asyncio.Event()
        w.sender.on_send = self._wait

    async def _wait(self) -> None:
        await self.open.wait()


# A hand and automation want the same


async def begun(w: World, command: Take) -> tuple[Gate, asyncio.Task[CommandResult]]:
    """``command`` by hand, up to where it is sent."""
    gate = Gate(w)
    by_hand = asyncio.create_task(w.give(command))
    await quiet()
    assert not by_hand.done()
    return gate, by_hand


async def test_automation_does_not_add_to_what_a_hand_has_just_taken() -> None:
    """Its entry waited for the lane of the operator's take, then took once more, and called both its own."""
    async with world() as w:
        gate, by_hand = await begun(w, take(0.5))
        await w.give(SetAutomation(on=True))
        record = asyncio.create_task(w.records(1, 100))
        await quiet()
        gate.open.set()
        assert (await by_hand).status is DONE
        await record
        assert w.legs == (0.5, -0.5)
        assert w.hedge.memory.held_by == "operator"


async def test_automation_does_not_leave_what_a_hand_has_just_taken_over() -> None:
    async with world(automation=True) as w:
        assert w.legs == (5, -5)
        gate, by_hand = await begun(w, take(0.5))
        w.hedge.aside("the test wants to be flat")
        w.engine.automation.look(w.hedge, new_record=True)
        await quiet()
        gate.open.set()
        assert (await by_hand).status is DONE
        await w.engine.automation.rest()
        assert w.legs == (5.5, -5.5)


@pytest.mark.parametrize("command", [SetAutomation(on=False), Pause()])
async def test_no_automatic_take_goes_out_after_automation_was_stopped(command: SetAutomation | Pause) -> None:
    """It waited for another market's take while the operator turned automation off and was told so."""
    async with world(markets=BOTH, opening=20_000) as w:
        gate, by_hand = await begun(w, take(0.001, market="BTC-PERP"))
        await w.give(SetAutomation(on=True))
        w.core.hedges["BTC-PERP"].aside("only SOL-PERP is to be entered")
        record = asyncio.create_task(w.records(1, 100))
        await quiet()
        assert (await w.give(command)).status is DONE
        gate.open.set()
        assert (await by_hand).status is DONE
        await record
        assert w.legs == (0, 0)
        assert w.seen("BTC-PERP").perp_1e9 == -SOL // 1000


async def test_no_automatic_leave_goes_out_after_a_pause() -> None:
    async with world(automation=True) as w:
        await w.records(1, 100)
        w.hedge.aside("the test wants to be flat")
        async with w.engine.desk.lanes.hold("SOL-PERP"):
            w.engine.automation.look(w.hedge, new_record=True)
            await quiet()
            assert not w.engine.automation.resting
            await w.give(Pause())
        await w.engine.automation.rest()
        assert w.legs == (5, -5)


async def test_the_limit_in_all_counts_what_was_taken_while_automation_waited() -> None:
    async with world(markets=BOTH, opening=20_000, max_total_usd=1_800.0, confirm_above_usd=1e6) as w:
        gate, by_hand = await begun(w, take(0.015, market="BTC-PERP"))
        await w.give(SetAutomation(on=True))
        w.core.hedges["BTC-PERP"].aside("only SOL-PERP is to be entered")
        record = asyncio.create_task(w.records(1, 100))
        await quiet()
        gate.open.set()
        assert (await by_hand).status is DONE
        await record
        assert w.legs == (0, 0)
