"""Lives found by attacking the engine of many hedges: what happens between two markets, between a hand and automation,
and between a fact and the loop that takes it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from engine_harness import (
    BOTH,
    FREE,
    SOL,
    USD,
    World,
    deposit,
    funding,
    leave,
    quiet,
    rate_of,
    rebalance,
    take,
    withdraw,
    world,
)

from deltatui.domain.command import (
    AnyCommand,
    CommandResult,
    Direction,
    Kill,
    Pause,
    ResultStatus,
    Resume,
    SetAutomation,
    Take,
)
from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.event import Level
from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.operation import Leg, Operation
from deltatui.engine.core import BEHIND
from deltatui.engine.recovery import Recovery
from deltatui.venues.paper.matching import Matching
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

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
        w.engine.automation.look(w.hedge, w.hedge.known_facts(), new_record=True)
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
            w.engine.automation.look(w.hedge, w.hedge.known_facts(), new_record=True)
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
        await w.to_price("160")
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
        await w.to_price("160", after_s=600)
        at_s = w.clock.market_s()
        late = msgspec.structs.replace(
            w.history[-1], record=funding(int(at_s) - 300, "0.01"), source_s=at_s - 300, priced=False
        )
        await w.hear(late)
        market = w.core.world.market("SOL-PERP")
        assert market is not None
        assert (market.oracle, market.as_of_s) == (Decimal(160), at_s)
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
        assert w.hedge.newest_record_s == now_s
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
        assert w.hedge.newest_record_s == now_s
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
        slept = w.clock.sleep

        async def sleep(operator_seconds: float) -> None:
            await asyncio.sleep(0)
            await slept(operator_seconds)

        w.clock.sleep = sleep  # type: ignore[method-assign]
        task = asyncio.create_task(w.loop.pass_time())
        for _ in range(2000):
            await asyncio.sleep(0)
        assert not task.done()
        assert w.state == "HALTED"
        assert not w.core.pending
        task.cancel()


# What is open elsewhere


async def test_a_take_is_judged_without_a_deposit_that_may_never_land_but_with_a_take_that_may() -> None:
    """It was judged with both, and with neither: with the take alone it was too much."""
    async with world(markets=BOTH, paper=CALM) as w:
        w.sender.mute = w.sender.lost = True
        assert (await w.take(25)).status is ResultStatus.UNRESOLVED
        assert (await w.sure(deposit(900 * USD))).status is ResultStatus.UNRESOLVED
        w.sender.mute = w.sender.lost = False
        refused = await w.sure(take(0.01, market="BTC-PERP"))
        assert (refused.status, refused.code) == (REJECTED, "BLOCKED")


async def test_a_take_waits_where_what_is_open_elsewhere_cannot_be_reckoned() -> None:
    """The price of the other market is not known: its open take counted as nothing."""
    async with world(markets=BOTH, paper=CALM) as w:
        w.sender.mute = w.sender.lost = True
        assert (await w.sure(take(0.03, market="BTC-PERP"))).status is ResultStatus.UNRESOLVED
        w.core.world._markets.pop("BTC-PERP")
        w.core.world._facts.clear()
        w.sender.mute = w.sender.lost = False
        refused = await w.take(5)
        assert (refused.status, refused.code) == (REJECTED, "UNRESOLVED_OPEN")
        assert "BTC-PERP" in refused.message


# The kill switch


async def test_a_kill_says_what_it_closed_although_another_part_cannot_be_trusted() -> None:
    async with world(markets=BOTH, opening=20_000) as w:
        await w.take(5)
        await w.sure(take(0.01, market="BTC-PERP"))

        async def broken() -> None:
            if len(w.sender.sent) == 4:
                raise CriticalError("FORGED", "the answer is not that of the venue")

        w.sender.on_send = broken
        result = await w.give(Kill(flatten=True))
        await quiet()
        held = {market: w.seen(market).perp_1e9 for market in BOTH}
        assert sorted(bool(each) for each in held.values()) == [False, True]
        assert w.state == "HALTED"
        assert result.status is ResultStatus.PARTLY_DONE
        assert "the answer is not that of the venue" in result.message
        assert {part.market for part in result.parts} == {"SOL-PERP", "SOL", "BTC-PERP", "wBTC"}


# Tasks


async def test_what_is_seen_in_the_moment_in_which_a_task_ends_is_not_lost() -> None:
    """The task was over and not yet known to be: what came then waited for ever."""
    async with world(automation=True) as w:
        automation, hedge = w.engine.automation, w.hedge
        hedge.aside("the test wants to be flat")
        work, left = automation._work, 0

        def look() -> None:
            automation.look(hedge, hedge.known_facts(), new_record=True)

        def noted(key: str, new_record: bool) -> Coroutine[None, None, None]:
            async def wrapped() -> None:
                nonlocal left
                left += 1
                if left == 2:
                    await work(key, new_record)
                else:
                    asyncio.get_running_loop().call_soon(look)

            return wrapped()

        automation._work = noted  # type: ignore[method-assign]
        look()
        await automation.rest()
        await quiet()
        await automation.rest()
        assert left == 2
        assert w.legs == (0, 0)


# Rivals


async def test_a_rivalry_counts_only_records_in_a_row() -> None:
    """Automation was off for two days, and the streak went on where it was."""
    async with world(automation=True, markets=BOTH, max_total_usd=1_200.0, primed=0, opening=20_000) as w:

        async def hour(sol: float, btc: float) -> None:
            await w.record(rate_of(sol, w.prices["SOL-PERP"]))
            await w.record(rate_of(btc, w.prices["BTC-PERP"]), market="BTC-PERP", same_hour=True)

        for _ in range(8):
            await hour(100, 0)
        assert w.legs == (5, -5)
        while w.core.memory.rivalry.streak < 2:
            await hour(100, 600)
            assert w.legs == (5, -5)
        await w.give(SetAutomation(on=False))
        for _ in range(3):
            await hour(100, 600)
        await w.give(SetAutomation(on=True))
        await hour(100, 600)
        assert w.legs == (5, -5)
        assert w.core.memory.rivalry.streak == 1


# Rests that a market does not take


@pytest.mark.parametrize("size", [0.2, 0.5])
async def test_an_odd_leg_below_the_spot_minimum_is_mended_on_the_perp(size: float) -> None:
    """A REVERSE sells the operator's own SOL. What was sold too much could not be bought back: less than 0.1."""
    async with world(paper=CALM, apr_pct=-300) as w:
        w.wallet = {"SOL": Decimal(3)}
        w.tamper(wallet={"SOL": Decimal(3)})
        assert (await w.sure(deposit(2 * SOL, "SOL"))).status is DONE
        for seed in range(12):
            w.with_faults(PaperFaults(partial_rate=1.0 if len(w.sender.sent) else 0, partial_leg="perp", seed=seed))
            sent = len(w.sender.sent)

            async def calm_again(sent: int = sent) -> None:
                if len(w.sender.sent) > sent + 1:
                    w.with_faults(PaperFaults())

            w.sender.on_send = calm_again
            result = await w.sure(take(size, Direction.REVERSE))
            assert w.state == "RUNNING", result.message
            assert result.status is not REJECTED, result.message
            spot, perp = w.legs
            assert spot - 2 == pytest.approx(-perp, abs=0.0099)
            w.with_faults(PaperFaults())
            w.wait(61)
            left = await w.sure(leave("SOL-PERP"))
            assert w.legs[1] == 0, left.message
            if w.legs[0] != pytest.approx(2, abs=0.0099):
                break


@pytest.mark.parametrize(("apr_pct", "sign"), [(-300, 1), (300, -1)])
async def test_a_rest_that_cannot_be_traded_does_not_lock_automation_out(apr_pct: float, sign: int) -> None:
    """0.06 SOL of the operator's own were not bought back, less than the least order: it never entered again."""
    async with world(paper=CALM, apr_pct=-300) as w:
        w.tamper(wallet={"SOL": Decimal(10)})
        await w.sure(deposit(8 * SOL, "SOL"))
        assert (await w.take(5, Direction.REVERSE)).status is DONE
        fill = Matching._troubled

        def short_of(self: Matching, operation: Operation) -> tuple[Leg, ...]:
            return tuple(
                msgspec.structs.replace(leg, base_1e9=4_940_000_000) if leg.base_1e9 == 5 * SOL else leg
                for leg in fill(self, operation)
            )

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Matching, "_troubled", short_of)
            result = await w.leave()
        assert (result.status, w.legs) == (ResultStatus.PARTLY_DONE, (7.94, 0))
        await w.give(SetAutomation(on=True))
        await w.step()
        assert "uneven SOL-PERP" in w.core.board.alerts
        await w.records(40, apr_pct)
        spot, perp = w.legs
        assert sign * perp == pytest.approx(5, abs=0.07)
        assert spot - 8 == pytest.approx(-perp, abs=0.011)
        assert "uneven SOL-PERP" not in w.core.board.alerts
        await w.check()


# A connection that comes back


class Cable:
    lost = ""

    async def reconnect(self) -> None:
        self.lost = ""


async def test_a_resume_while_all_is_compared_again_does_not_leave_the_engine_recovering() -> None:
    """Nothing was lost any more, nothing was tried any more, and every command was refused until a restart."""
    async with world() as w:
        link = Cable()
        recovery = Recovery(w.core, w.engine.desk, link)
        await w.give(Kill())
        link.lost = "the cable"
        async with w.engine.desk.lanes.hold("SOL-PERP"):
            back = asyncio.create_task(recovery.look())
            await quiet()
            assert (await w.resume()).code == "RECOVERING"
        await back
        assert w.state == "RUNNING"
        assert (await w.take(1)).status is DONE


# What was to be kept


async def test_what_could_not_be_kept_for_whatever_reason_is_kept_the_next_time() -> None:
    """A save that was cut off forgot its entries; the next one wrote books that held more than the ledger."""
    async with world() as w:

        def breaks(number: int, name: str) -> None:
            if name == "_append_ledger":
                raise asyncio.CancelledError

        await w.take(1)
        w.gremlin.before = breaks
        with pytest.raises(asyncio.CancelledError):
            await w.record(rate_of(100))
        w.gremlin.quiet()
        await w.record(rate_of(100))
        await w.check()
        await w.core.save()
        kept = await w.store.funding("SOL-PERP", 2)
        assert list(kept) == w.past()[-2:]


# Everything at once


@pytest.mark.parametrize("seed", range(12))
async def test_commands_records_and_lost_connections_at_the_same_time(seed: int) -> None:
    """Nothing hangs, nothing stays open, the books balance, and each operation has one outcome."""
    dice = random.Random(seed)
    async with world(automation=True, markets=BOTH, opening=4_000, primed=3, max_total_usd=1_800.0) as w:
        link, tasks = Cable(), list[asyncio.Task[Any]]()
        recovery = Recovery(w.core, w.engine.desk, link)

        async def later() -> None:
            for _ in range(dice.choice([0, 1, 3, 20, 100])):
                await asyncio.sleep(0)

        w.sender.on_sign = w.sender.on_send = later

        async def hours(sol: int, btc: int) -> None:
            for _ in range(dice.choice([1, 2, 5])):
                await w.record(rate_of(sol))
                await w.record(rate_of(btc, w.prices["BTC-PERP"]), market="BTC-PERP", same_hour=True)

        playing = recovering = asyncio.create_task(hours(100, 100))
        for _ in range(60):
            w.with_faults(
                PaperFaults(dice.randrange(1000), dice.choice([0, 0.2]), dice.choice([0, 0, 1]), dice.choice([0, 0.3]))
            )
            w.sender.mute = dice.random() < 0.05
            market = dice.choice(list(BOTH))
            commands: list[AnyCommand] = [
                take(5 if market == "SOL-PERP" else 0.01, dice.choice(list(Direction)), market=market),
                *(leave(market), rebalance(market), withdraw(300 * USD), deposit(30 * USD)),
                *(
                    Pause(),
                    Resume(),
                    Resume(),
                    SetAutomation(on=dice.random() < 0.7),
                    Kill(flatten=dice.random() < 0.5),
                ),
            ]
            if playing.done() and dice.random() < 0.5:
                playing = asyncio.create_task(hours(dice.randrange(-300, 600, 100), dice.randrange(-300, 600, 100)))
                tasks.append(playing)
            else:
                tasks.append(asyncio.create_task(w.sure(dice.choice(commands))))
            if dice.random() < 0.1:
                link.lost = "the cable"
            if recovering.done():
                recovering = asyncio.create_task(recovery.look())
                tasks.append(recovering)
            if dice.random() < 0.3:
                await w.loop.tick()
            await later()
        w.sender.mute = False
        w.with_faults(PaperFaults())
        await asyncio.wait_for(asyncio.gather(*tasks), 20)
        for _ in range(4):
            w.wait(11)
            await recovery.look()
            await w.loop.tick()
        await w.step()
        assert w.state != "RECOVERING"
        assert not w.core.unresolved
        assert not list(w.core.checks())
        await w.check()
