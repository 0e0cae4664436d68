"""Lives found by attacking the engine of many hedges: what happens between two markets, between a hand and automation,
and between a fact and the loop that takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest
from engine_harness import BOTH, SOL, World, funding, quiet, rate_of, take, world

from deltatui.domain.command import CommandResult, Pause, ResultStatus, SetAutomation, Take
from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.event import Level
from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.ledger import VenueEvent
from deltatui.engine.core import BEHIND
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


# Facts that come twice, late, or while something is broken


async def test_a_record_that_is_told_again_sets_no_price_back() -> None:
    """The engine went back to the record's price, the exchange did not, and the ledger differed."""
    async with world(markets=BOTH, opening=20_000) as w:
        await w.take(5)
        told = w.history[-2]
        assert told.instrument == "SOL-PERP"
        await w.to_price(160)
        for again in (told, w.history[0]):
            await w.hear(again)
            market = w.core.world.market("SOL-PERP")
            assert market is not None
            assert market.oracle == 160
            assert market.funding == told.record
            assert market.as_of_s == w.clock.market_s()
            assert "ledger" not in w.core.board.alerts
        assert len(w.core.hedges["SOL-PERP"].unsaved_records) == 0
        await w.check()


async def test_a_record_without_prices_does_not_make_the_price_older() -> None:
    async with world() as w:
        await w.to_price(160, after_s=600)
        at_s = w.clock.market_s()
        late = msgspec.structs.replace(
            w.history[-1], record=funding(int(at_s) - 300, "0.01"), source_s=at_s - 300, priced=False
        )
        await w.hear(late)
        market = w.core.world.market("SOL-PERP")
        assert market is not None
        assert (market.oracle, market.as_of_s) == (160, at_s)
        assert market.funding == late.record


class Unreadable:
    """The venue's events cannot be read: with ``error``, as often as it says."""

    def __init__(self, w: World, error: Exception, times: int) -> None:
        self._read, self._error, self.left = w.venue.events_after, error, times
        w.venue.events_after = self.read  # type: ignore[method-assign]

    async def read(self, sequence: int) -> Sequence[VenueEvent]:
        if self.left:
            self.left -= 1
            raise self._error
        return await self._read(sequence)


async def drained(w: World, facts: Sequence[Fact]) -> asyncio.Task[None]:
    """The loop's own task, once it has taken ``facts``."""
    task = asyncio.create_task(w.loop.drain())
    for fact in facts:
        await asyncio.wait_for(w.loop.post(fact), 1)
    await w.engine.automation.rest()
    return task


async def test_a_record_is_decided_on_although_what_it_booked_could_not_be_read_at_once() -> None:
    """The task died, was started again, and the record was missing in the averages for ever."""
    async with world(automation=True) as w:
        assert w.legs == (5, -5)
        now_s = int(w.clock.market_s()) + 3600
        Unreadable(w, TransientError("DATABASE_LOCKED", "locked"), 1)
        fact = Funding("SOL-PERP", "test", float(now_s), funding(now_s, rate_of(100)), True)
        task = await drained(w, [fact])
        assert not task.done()
        assert w.hedge._newest_record_s == now_s
        assert "books" in w.core.board.alerts
        await w.step()
        assert w.core.books_agree()
        assert "books" not in w.core.board.alerts
        task.cancel()


async def test_the_loop_goes_on_after_what_halts_the_engine() -> None:
    """The task was dead: after a resume the engine was RUNNING, blind, and every source hung."""
    async with world() as w:
        await w.take(5)
        Unreadable(w, CriticalError("EVENT_GAP", "an event is missing"), 1)
        now_s = int(w.clock.market_s()) + 3600
        facts: list[Fact] = [
            Funding("SOL-PERP", "test", float(now_s), funding(now_s, rate_of(100)), True),
            Prices("SOL-PERP", "test", now_s + 60.0, Decimal(170), Decimal(170)),
            MarketChange("SOL-PERP", "test", now_s + 60.0, paused=""),
        ]
        task = await drained(w, facts)
        assert not task.done()
        assert w.state == "HALTED"
        assert "an event is missing" in w.core.memory.halted
        assert w.hedge._newest_record_s == now_s
        market = w.core.world.market("SOL-PERP")
        assert market is not None
        assert market.oracle == 170
        task.cancel()


async def test_time_goes_on_after_what_halts_the_engine() -> None:
    async with world() as w:
        await w.give(take(5))
        assert w.core.pending
        w.core.board.alert(BEHIND, Level.ERROR, "the account is told late")
        Unreadable(w, CriticalError("EVENT_GAP", "an event is missing"), 1)
        w.venue._account.sequence += 1
        w.venue._forget()
        task = asyncio.create_task(w.loop.pass_time())
        for _ in range(2000):
            await asyncio.sleep(0)
        assert not task.done()
        assert w.state == "HALTED"
        assert not w.core.pending
        task.cancel()
