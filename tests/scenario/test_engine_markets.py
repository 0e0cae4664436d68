"""One account, two markets: hedges stand side by side, and what happens to one stops the other only where it must."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal

import msgspec
import pytest
from engine_harness import (
    BOTH,
    FREE,
    PRICES,
    SOL,
    USD,
    World,
    blocked_by,
    deposit,
    leave,
    quiet,
    rate_of,
    rebalance,
    take,
    withdraw,
    world,
)

from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.command import CommandResult, Direction, Kill, ResultStatus, SetAutomation
from deltatui.domain.errors import ValidationError
from deltatui.domain.market import MarketSpec
from deltatui.engine.engine import Engine
from deltatui.ports import Outcome, Signed
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP, PaperFaults, PaperSettings

DONE, ASKS, REJECTED = ResultStatus.DONE, ResultStatus.NEEDS_CONFIRMATION, ResultStatus.REJECTED
PARTLY, UNRESOLVED = ResultStatus.PARTLY_DONE, ResultStatus.UNRESOLVED
CALM = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0), base_borrow_apr_pct=Decimal(0))
SOLANA, BITCOIN = "SOL-PERP", "BTC-PERP"
BOTH_HELD = {SOLANA: (5.0, -5.0), BITCOIN: (0.01, -0.01)}
NONE_HELD = {SOLANA: (0.0, 0.0), BITCOIN: (0.0, 0.0)}


def legs(w: World) -> dict[str, tuple[float, float]]:
    """(spot, perp) by market."""
    return {market: w.legs_of(market) for market in BOTH}


async def bitcoin(w: World, size: float = 0.01, way: Direction = Direction.CARRY) -> CommandResult:
    return await w.sure(take(size, way, market=BITCOIN))


async def hold_both(w: World) -> None:
    assert (await w.take(5)).status is DONE
    assert (await bitcoin(w)).status is DONE


async def moves(w: World) -> list[tuple[str, str]]:
    """(kind, market) of the takes and leaves that landed, oldest first."""
    return [
        (str(stored.operation.kind), stored.operation.market)
        for stored in reversed(await w.store.operations())
        if stored.operation.kind in ("TAKE", "LEAVE") and stored.state == "LANDED"
    ]


def market_of(w: World, operation_id: str) -> str:
    """Of a trade that is under way."""
    for hedge in w.core.checks():
        assert hedge.check is not None
        if operation_id in (hedge.check.operation.id, *hedge.check.repairs):
            return hedge.symbol
    return ""


class Held:
    """What is sent of one market waits until it is told to go on."""

    def __init__(self, w: World, market: str) -> None:
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            if market_of(w, w.sender.sent[-1]) == market:
                self.arrived.set()
                await self.go_on.wait()

        w.sender.on_send = wait


async def hour(w: World, solana: float | None, other: float | None) -> None:
    """The next record of each market, at the same time, in percent a year."""
    first = True
    for market, apr_pct in ((SOLANA, solana), (BITCOIN, other)):
        if apr_pct is not None:
            await w.record(rate_of(apr_pct, w.prices[market]), market=market, same_hour=not first)
            first = False


async def hours(w: World, count: int, solana: float | None, other: float | None) -> None:
    for _ in range(count):
        await hour(w, solana, other)


# By hand


async def test_a_take_of_each_stands_side_by_side_and_a_leave_of_one_leaves_the_other() -> None:
    async with world(markets=BOTH) as w:
        await hold_both(w)
        assert legs(w) == BOTH_HELD
        assert [position.key for position in w.snapshot().positions] == ["SOL-PERP", "SOL", "BTC-PERP", "wBTC"]
        assert not any(position.foreign for position in w.snapshot().positions)
        await hours(w, 3, 50, 30)
        earned = {market: w.snapshot(market).carry.held_earned for market in BOTH}
        assert all(value is not None and value > 0 for value in earned.values())
        assert (await w.leave()).status is DONE
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
        assert w.snapshot(SOLANA).carry.held_earned is None
        assert w.snapshot(BITCOIN).carry.held_earned == earned[BITCOIN]
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert legs(w) == NONE_HELD
        await w.check()


async def test_what_stands_in_both_counts_in_the_gates_of_each() -> None:
    """About 1.5 times the equity fits, whichever market it is in."""
    async with world(markets=BOTH, paper=CALM) as w:
        alone = w.snapshot(BITCOIN).actions[0].max_size
        assert (await w.take(20)).status is DONE
        beside = w.snapshot(BITCOIN).actions[0].max_size
        assert alone is not None
        assert beside is not None
        assert 0 < beside < alone
        assert (await bitcoin(w, beside + 0.0001)).status is REJECTED
        assert (await bitcoin(w, beside)).status is DONE
        assert legs(w) == {SOLANA: (20.0, -20.0), BITCOIN: (beside, -beside)}


async def test_a_question_about_one_blocks_no_command_of_the_other() -> None:
    async with world(markets=BOTH, wallet={"SOL": Decimal(2), "wBTC": Decimal("0.01")}) as w:
        assert (await w.take(1)).status is DONE
        asked = await w.give(take(5))
        assert asked.status is ASKS
        assert (await w.give(take(1))).code == "CONFIRMATION_OPEN"
        # Small ones at once, large ones with a question of their own.
        assert (await w.give(take(0.0005, market=BITCOIN))).status is DONE
        assert (await bitcoin(w)).status is DONE
        assert (await w.give(deposit(100_000, "wBTC"))).status is DONE
        assert (await w.sure(rebalance(BITCOIN))).status is DONE
        also = await w.give(leave(BITCOIN))
        assert also.status is ASKS
        assert (await w.give(deposit(5 * USD))).status is DONE
        assert {view.market for view in w.snapshot().snapshot.confirmations} == set(BOTH)
        assert (await w.confirm(also)).status is DONE
        assert (await w.confirm(asked)).status is DONE
        assert w.legs == (6.0, -6.0)
        await w.check()


async def test_bitcoin_moves_in_units_of_8_decimals_and_is_worth_what_it_is() -> None:
    async with world(markets=BOTH, paper=CALM, wallet={"wBTC": Decimal("0.5")}) as w:
        shown = {each.action: each for each in w.snapshot(BITCOIN).actions}
        amounts = {each.asset: each for each in shown["DEPOSIT"].amounts}
        assert (amounts["wBTC"].max_amount, amounts["wBTC"].decimals) == (0.5, 8)
        equity = w.account.equity
        result = await w.sure(deposit(1_000_000, "wBTC"))
        assert (result.status, result.message) == (DONE, "deposit of 0.01 wBTC done")
        assert w.account.equity - equity == 1000
        assert w.core.accountant.transfers == 1000
        assert w.seen(BITCOIN).spot.wallet_1e9 == 49 * SOL // 100
        largest = {each.asset: each for each in w.snapshot(BITCOIN).actions[5].amounts}["wBTC"]
        assert largest.max_amount == 0.01
        assert (await w.sure(withdraw(1_000_001, "wBTC"))).code == "InsufficientDeposit"
        assert (await w.sure(withdraw(1_000_000, "wBTC"))).status is DONE
        assert (w.account.equity, w.core.accountant.transfers) == (equity, Decimal(0))
        assert w.seen(BITCOIN).spot.wallet_1e9 == SOL // 2
        await w.check()


# An operation whose outcome is not known


async def test_an_unresolved_trade_of_one_market_blocks_that_market_and_withdrawals() -> None:
    async with world(markets=BOTH) as w:
        assert (await bitcoin(w)).status is DONE
        w.sender.mute = True
        assert (await w.take(5)).status is UNRESOLVED
        w.sender.mute = False
        for command in (take(1), leave(), withdraw(10 * USD), withdraw(1, "wBTC")):
            result = await w.sure(command)
            assert (result.status, result.code) == (REJECTED, "UNRESOLVED_OPEN"), command
        assert (await bitcoin(w, 0.005)).status is DONE
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert (await w.give(deposit(10 * USD))).status is DONE
        assert list(w.core.unresolved)
        await w.engine.tick()
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        assert w.hedge.memory.held_by == "operator"
        assert (await w.sure(withdraw(10 * USD))).status is DONE
        await w.check()


async def test_a_take_is_judged_with_the_legs_of_an_unresolved_take_too() -> None:
    """Nobody knows whether 25 SOL were taken. With them the take of the other market is too much, without them not."""
    async with world(markets=BOTH, paper=CALM) as w:
        w.sender.mute = w.sender.lost = True
        assert (await w.take(25)).status is UNRESOLVED
        w.sender.mute = w.sender.lost = False
        assert legs(w) == NONE_HELD
        refused = await bitcoin(w)
        assert (refused.status, blocked_by(refused)) == (REJECTED, ["health_after"])
        assert (await bitcoin(w, 0.005)).status is DONE
        shown = w.snapshot(BITCOIN)
        assert [verdict.code for verdict in shown.gates if not verdict.allowed] == ["health_after"]
        await w.engine.tick()
        assert ("TAKE", "EXPIRED") in await w.outcomes()
        assert (await bitcoin(w)).status is DONE
        await w.check()


async def test_a_take_is_judged_without_the_legs_of_an_unresolved_leave_too() -> None:
    async with world(markets=BOTH, paper=CALM) as w:
        assert (await w.take(25)).status is DONE
        w.sender.mute = True
        assert (await w.leave()).status is UNRESOLVED
        w.sender.mute = False
        # Nobody has said that it landed, but its fills are there: they are not counted once more.
        assert (await bitcoin(w)).status is DONE
        await w.engine.tick()
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
    async with world(markets=BOTH, paper=CALM) as w:
        assert (await w.take(25)).status is DONE
        w.sender.mute = w.sender.lost = True
        assert (await w.leave()).status is UNRESOLVED
        w.sender.mute = w.sender.lost = False
        refused = await bitcoin(w)
        assert (refused.status, blocked_by(refused)) == (REJECTED, ["health_after"])


async def test_an_operation_that_nobody_answers_for_keeps_no_other_market_from_its_end() -> None:
    async with world(markets=BOTH) as w:
        with_odd_leg = PaperFaults(odd_leg_rate=1.0)
        w.sender.mute = True
        assert (await w.take(5)).status is UNRESOLVED
        w.with_faults(with_odd_leg)
        assert (await bitcoin(w)).status is UNRESOLVED
        w.with_faults(PaperFaults())
        w.sender.mute = False
        (silent,) = (each.operation.id for each in w.core.unresolved.values() if each.operation.market == SOLANA)
        told, answer = w.sender.outcome, asyncio.Event()

        async def outcome(signed: Signed) -> Outcome | None:
            if signed.operation_id == silent:
                await answer.wait()
            return await told(signed)

        w.sender.outcome = outcome  # type: ignore[method-assign]
        await w.engine.tick()
        assert list(w.core.unresolved) == [silent]
        assert w.core.hedges[BITCOIN].check is None
        assert legs(w)[BITCOIN] == (0.0, 0.0)  # the odd leg was undone
        answer.set()
        await quiet()
        await w.engine.tick()
        assert not w.core.unresolved
        assert w.hedge.check is None
        assert w.hedge.memory.held_by == "operator"
        await w.check()


# At the same time


async def test_what_reduces_does_not_wait_for_the_outcome_of_another_market() -> None:
    async with world(markets=BOTH, wallet={"SOL": Decimal(2)}) as w:
        assert (await bitcoin(w)).status is DONE
        await w.venue.fill_from_elsewhere("wBTC", -SOL // 500, PRICES[BITCOIN])
        await w.step()
        held = Held(w, SOLANA)
        taking = asyncio.create_task(w.take(5))
        await held.arrived.wait()
        assert (await w.sure(rebalance(BITCOIN))).status is DONE
        assert legs(w)[BITCOIN] == (0.008, -0.008)
        assert (await w.sure(deposit(10 * USD))).status is DONE
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert legs(w) == NONE_HELD
        assert not taking.done()
        held.go_on.set()
        assert (await taking).status is DONE
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await w.check()


async def test_a_kill_closes_one_market_while_the_other_waits_for_its_outcome() -> None:
    async with world(markets=BOTH) as w:
        assert (await bitcoin(w)).status is DONE
        held = Held(w, SOLANA)
        taking = asyncio.create_task(w.take(5))
        await held.arrived.wait()
        killing = asyncio.create_task(w.give(Kill(flatten=True)))
        await quiet()
        assert legs(w) == NONE_HELD
        assert w.state == "HALTED"
        assert not killing.done()
        held.go_on.set()
        assert (await taking).status is DONE
        result = await killing
        assert result.status is DONE
        assert {part.market: part.filled for part in result.parts} == {
            "SOL-PERP": 5,
            "SOL": -5,
            "BTC-PERP": 0.01,
            "wBTC": -0.01,
        }
        assert legs(w) == NONE_HELD
        await w.check()


@pytest.mark.parametrize(("first", "second"), [(SOLANA, BITCOIN), (BITCOIN, SOLANA)])
async def test_of_two_takes_at_the_same_time_the_second_waits_for_the_first(first: str, second: str) -> None:
    """And is judged on the account that the first has left: together they are too much."""
    sizes = {SOLANA: 20.0, BITCOIN: 0.02}
    async with world(markets=BOTH, paper=CALM) as w:
        held = Held(w, first)
        one = asyncio.create_task(w.sure(take(sizes[first], market=first)))
        await held.arrived.wait()
        two = asyncio.create_task(w.sure(take(sizes[second], market=second)))
        await quiet()
        assert not two.done()
        assert len(w.sender.sent) == 1
        assert w.sender.simulated == 1
        held.go_on.set()
        assert (await one).status is DONE
        refused = await two
        assert (refused.status, blocked_by(refused)) == (REJECTED, ["health_after"])
        assert legs(w)[second] == (0.0, 0.0)


async def test_a_widening_rebalance_waits_for_its_turn_too() -> None:
    async with world(markets=BOTH, paper=CALM) as w:
        assert (await bitcoin(w)).status is DONE
        await w.venue.fill_from_elsewhere("wBTC", SOL // 2000, PRICES[BITCOIN])
        await w.step()
        held = Held(w, SOLANA)
        taking = asyncio.create_task(w.take(5))
        await held.arrived.wait()
        widening = asyncio.create_task(w.sure(rebalance(BITCOIN)))
        await quiet()
        assert not widening.done()
        held.go_on.set()
        assert (await taking).status is DONE
        assert (await widening).status is DONE
        assert legs(w)[BITCOIN] == (0.0105, -0.0105)


# The kill switch


async def test_a_kill_with_flatten_closes_both_and_answers_part_by_part() -> None:
    async with world(markets=BOTH) as w:
        assert (await w.take(5)).status is DONE
        assert (await bitcoin(w, 0.01, Direction.REVERSE)).status is DONE
        result = await w.give(Kill(flatten=True, reason="enough"))
        assert (result.status, result.code) == (DONE, "KILLED")
        assert [(part.market, part.leg, part.filled, part.open) for part in result.parts] == [
            ("SOL-PERP", "perp", 5, 0),
            ("SOL", "spot", -5, 0),
            ("BTC-PERP", "perp", -0.01, 0),
            ("wBTC", "spot", 0.01, 0),
        ]
        assert legs(w) == NONE_HELD
        assert w.state == "HALTED"
        await w.check()


@pytest.mark.parametrize("fails", [SOLANA, BITCOIN])
async def test_a_kill_of_which_one_part_fails_says_what_is_closed_and_what_is_open(fails: str) -> None:
    async with world(markets=BOTH) as w:
        await hold_both(w)

        async def one_fails() -> None:
            w.with_faults(PaperFaults(fail_rate=1.0 if market_of(w, w.sender.sent[-1]) == fails else 0.0))

        w.sender.on_send = one_fails
        result = await w.give(Kill(flatten=True))
        assert (result.status, result.code) == (PARTLY, "SimulatedFailure")
        assert result.message.startswith(f"halted, but closing {fails} failed: ")
        asked = {"SOL-PERP": 5.0, "SOL": -5.0, "BTC-PERP": 0.01, "wBTC": -0.01}
        mine = {SOLANA: ("SOL-PERP", "SOL"), BITCOIN: ("BTC-PERP", "wBTC")}[fails]
        assert {part.market: part.asked for part in result.parts} == asked
        assert {part.market: part.open for part in result.parts} == {
            name: size if name in mine else 0 for name, size in asked.items()
        }
        assert legs(w) == {**NONE_HELD, fails: BOTH_HELD[fails]}
        assert w.state == "HALTED"
        (alert,) = w.snapshot().alerts
        assert f"closing {fails} failed" in alert.message
        await w.check()


async def test_a_kill_of_which_one_part_is_unresolved_is_unresolved() -> None:
    async with world(markets=BOTH) as w:
        await hold_both(w)

        async def one_is_silent() -> None:
            w.sender.mute = market_of(w, w.sender.sent[-1]) == BITCOIN

        w.sender.on_send = one_is_silent
        w.with_faults(PaperFaults(fail_rate=0.0))
        result = await w.give(Kill(flatten=True))
        assert (result.status, result.code) == (UNRESOLVED, "UNRESOLVED")
        assert result.operation_id in w.core.unresolved
        assert "closing BTC-PERP is unresolved" in result.message
        w.sender.on_send = None
        w.sender.mute = False
        await w.engine.tick()
        assert legs(w) == NONE_HELD


@pytest.mark.parametrize("why", ["paused", "unpriced"])
async def test_a_market_that_holds_nothing_cannot_fail_to_close(why: str) -> None:
    async with world(markets=BOTH) as w:
        assert (await w.take(5)).status is DONE
        if why == "paused":
            await w.change(BITCOIN, paused="the oracle is being repaired")
        else:
            w.core.world._markets.pop(BITCOIN)
        result = await w.give(Kill(flatten=True))
        assert result.status is DONE
        assert legs(w) == NONE_HELD


async def test_a_kill_beside_an_unresolved_take_does_not_say_that_there_is_nothing() -> None:
    async with world(markets=BOTH) as w:
        w.sender.mute = w.sender.lost = True
        assert (await w.take(5)).status is UNRESOLVED
        result = await w.give(Kill(flatten=True))
        assert result.message.endswith("a trade was under way, and positions will show what it did")


# Paused and ended markets


async def test_a_paused_market_does_not_stop_the_other() -> None:
    async with world(markets=BOTH, automation=True, paper=CALM) as w:
        assert legs(w) == BOTH_HELD
        await w.change(BITCOIN, paused="the oracle is being repaired")
        await w.venue.fill_from_elsewhere("SOL", SOL, w.price)
        await w.to_price("150")
        assert w.legs == (6.0, -6.0)
        assert (await bitcoin(w)).code == "VENUE_PAUSED"
        assert (await w.sure(leave(BITCOIN))).code == "VENUE_PAUSED"
        assert w.snapshot(BITCOIN).hedge.paused == "the oracle is being repaired"
        assert not next(each for each in w.snapshot(BITCOIN).actions if each.action == "TAKE").enabled
        assert (await w.sure(deposit(10 * USD))).status is DONE
        assert (await w.take(1)).status is DONE
        assert (await w.leave()).status is DONE
        await w.change(BITCOIN, paused="")
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert legs(w) == NONE_HELD


async def test_an_ended_market_only_reduces() -> None:
    async with world(markets=BOTH) as w:
        await hold_both(w)
        await w.change(BITCOIN, ended=True)
        for command in (take(0.001, market=BITCOIN), take(0.01, market=BITCOIN)):
            refused = await w.sure(command)
            assert (refused.status, blocked_by(refused)) == (REJECTED, ["venue"])
            assert "BTC-PERP only reduces: no prices come any more" in refused.message
        action = next(each for each in w.snapshot(BITCOIN).actions if each.action == "TAKE")
        assert (action.enabled, action.reason) == (False, "BTC-PERP only reduces: no prices come any more")
        assert w.snapshot(BITCOIN).hedge.ended
        assert w.snapshot(BITCOIN).carry.next_funding_in_s is None
        assert (await w.take(1)).status is DONE
        await w.venue.fill_from_elsewhere("wBTC", -SOL // 500, PRICES[BITCOIN])
        await w.step()
        assert (await w.sure(rebalance(BITCOIN))).status is DONE
        assert legs(w)[BITCOIN] == (0.008, -0.008)
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert legs(w)[BITCOIN] == (0.0, 0.0)


async def test_automation_leaves_an_ended_market_at_once_and_never_enters_it() -> None:
    async with world(markets=BOTH, automation=True) as w:
        assert legs(w) == BOTH_HELD
        await w.change(BITCOIN, ended=True)
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}
        await hours(w, 12, 100, None)
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}
        await w.check()


async def test_a_leave_of_an_ended_market_that_failed_is_tried_again_though_no_record_comes() -> None:
    async with world(markets=BOTH, automation=True) as w:
        w.with_faults(PaperFaults(fail_rate=1.0))
        await w.change(BITCOIN, ended=True)
        assert legs(w) == BOTH_HELD
        w.with_faults(PaperFaults())
        w.wait(61)
        await w.to_price("150")
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}


async def test_a_market_that_ended_during_a_pause_is_left_when_automation_goes_on() -> None:
    async with world(markets=BOTH, automation=True) as w:
        await w.give(SetAutomation(on=False))
        await w.change(BITCOIN, ended=True)
        await w.to_price("150")
        assert legs(w) == BOTH_HELD
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}


async def test_what_the_operator_holds_in_an_ended_market_is_left_alone() -> None:
    async with world(markets=BOTH, automation=True, apr_pct=-1.0) as w:
        assert (await bitcoin(w)).status is DONE
        await w.change(BITCOIN, ended=True)
        await w.to_price("150")
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}


# Allocation (R4.10)


async def test_both_are_taken_where_both_pay_and_fit_the_better_first() -> None:
    for better, aprs in ((SOLANA, (120.0, 80.0)), (BITCOIN, (80.0, 120.0))):
        async with world(markets=BOTH, primed=0) as w:
            await hours(w, 12, *aprs)
            assert legs(w) == NONE_HELD
            await w.give(SetAutomation(on=True))
            await hour(w, *aprs)
            assert legs(w) == BOTH_HELD
            (first, second) = await moves(w)
            assert first == ("TAKE", better)
            assert second[1] != better
            assert w.core.hedges[SOLANA].memory.held_by == w.core.hedges[BITCOIN].memory.held_by == "engine"
            await w.check()


async def test_each_is_left_for_itself() -> None:
    async with world(markets=BOTH, automation=True, primed=0) as w:
        await hours(w, 12, 100, 100)
        assert legs(w) == BOTH_HELD
        await hours(w, 60, 100, -20)
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}
        await w.check()


async def in_one_hour(w: World, solana: float, other: float, *, records: int = 12) -> None:
    """Both decide in the same hour, with automation on from then."""
    await hours(w, records, solana, other)
    await w.give(SetAutomation(on=True))
    await hour(w, solana, other)


async def test_a_limit_in_all_lets_only_the_better_in() -> None:
    async with world(markets=BOTH, primed=0, max_total_usd=1200.0) as w:
        await in_one_hour(w, 80, 120)
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
        await hours(w, 12, 80, 120)
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
        told = [event.message for event in w.events if event.kind == "take_refused"]
        assert told == [
            "automatic take of SOL-PERP refused: it would be $1,750.00 in all, more than max_total_usd, 1,200.00"
        ]


async def test_the_better_is_the_one_with_more_after_costs_not_the_larger() -> None:
    async with world(markets=BOTH, primed=0, max_total_usd=1200.0) as w:
        await in_one_hour(w, 120, 80)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}


async def test_a_limit_of_one_market_keeps_that_one_out_and_nothing_is_left_for_it() -> None:
    """No other hedge stands in its way: left for it, nothing at all would be held."""
    async with world(markets=BOTH, primed=0, max_market_usd=800.0) as w:
        await in_one_hour(w, 60, 400)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await hours(w, 12, 60, 400)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        assert await moves(w) == [("TAKE", SOLANA)]
        told = [event.message for event in w.events if event.kind == "take_refused"]
        assert told == ["automatic take of BTC-PERP refused: $1,000.00 is more than max_market_usd, 800.00"]


@pytest.mark.parametrize("limit", [{"max_total_usd": 1200.0}, {"opening": 1000}])
async def test_a_switch_comes_after_as_many_records_as_a_decision_and_leaves_first(limit: Mapping[str, float]) -> None:
    """By the limit in all, or by the gates: there is capital for one of both only."""
    async with world(markets=BOTH, primed=0, automation=True, **limit) as w:  # type: ignore[arg-type]
        await hours(w, 12, 60, 0)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        wanted = CarrySettings().confirm_records
        seen, streaks = [], []
        for _ in range(40):
            await hour(w, 60, 400)
            streaks.append(w.core.memory.rivalry.streak)
            seen.append(legs(w))
            if seen[-1][BITCOIN] != (0.0, 0.0):
                break
        assert seen[-1] == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
        assert await moves(w) == [("TAKE", SOLANA), ("LEAVE", SOLANA), ("TAKE", BITCOIN)]
        assert streaks[-wanted:] == [*range(1, wanted), 0]
        assert all(each[SOLANA] == (5.0, -5.0) for each in seen[:-1])
        left = w.core.hedges[SOLANA].memory.decision
        assert left is not None
        assert left.target is Stance.FLAT or "looks good" not in left.sentence
        await hours(w, 6, 60, 400)
        assert await moves(w) == [("TAKE", SOLANA), ("LEAVE", SOLANA), ("TAKE", BITCOIN)]
        await w.check()


async def test_no_switch_where_the_gain_does_not_pay_both_round_trips() -> None:
    async with world(markets=BOTH, primed=0, automation=True, max_total_usd=1200.0) as w:
        await hours(w, 12, 60, 0)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await hours(w, 60, 60, 70)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        assert w.core.memory.rivalry.streak == 0


async def test_no_switch_where_it_would_not_fit_all_the_same() -> None:
    async with world(markets=BOTH, primed=0, automation=True, max_total_usd=900.0) as w:
        await hours(w, 12, 60, 0)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await hours(w, 40, 60, 400)
        assert await moves(w) == [("TAKE", SOLANA)]
    async with world(markets=BOTH, primed=0, automation=True, opening=600) as w:
        await hours(w, 12, 60, 0)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await hours(w, 40, 60, 400)
        assert await moves(w) == [("TAKE", SOLANA)]


async def test_no_switch_away_from_what_the_operator_took() -> None:
    async with world(markets=BOTH, primed=0, automation=True, max_total_usd=1200.0) as w:
        await hours(w, 8, -1, 0)
        assert (await w.take(5)).status is DONE
        await hours(w, 40, 20, 400)
        assert legs(w) == {**NONE_HELD, SOLANA: (5.0, -5.0)}
        await w.give(SetAutomation(on=True))
        await hours(w, 6, 20, 400)
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}


async def test_a_run_that_holds_a_stance_whatever_it_pays_switches_nothing() -> None:
    async with world(markets=BOTH, primed=0, automation=True, hold=Stance.CARRY, max_total_usd=1200.0) as w:
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}
        await hours(w, 40, 400, 20)
        assert await moves(w) == [("TAKE", BITCOIN)]


async def test_a_rivalry_is_remembered_over_a_restart() -> None:
    async with world(markets=BOTH, primed=0, automation=True, max_total_usd=1200.0) as w:
        await hours(w, 12, 60, 0)
        for _ in range(40):
            await hour(w, 60, 400)
            if w.core.memory.rivalry.streak:
                break
        before = w.core.memory.rivalry
        assert (before.candidate, before.held, before.streak) == (BITCOIN, SOLANA, 1)
        await w.restart()
        assert w.core.memory.rivalry == before
        await hours(w, CarrySettings().confirm_records - 1, 60, 400)
        assert legs(w) == {**NONE_HELD, BITCOIN: (0.01, -0.01)}


# Which markets


async def test_two_hedges_never_share_a_spot_asset() -> None:
    async with world() as w:
        twin = msgspec.structs.replace(BTC_PERP, base_symbol="SOL", spot_index=1)
        listed: dict[str, MarketSpec] = {SOLANA: SOL_PERP, BITCOIN: twin}
        w.venue.markets = lambda: listed  # type: ignore[method-assign]
        settings = msgspec.structs.replace(w.settings, markets=BOTH)
        with pytest.raises(ValidationError, match="SOL-PERP and BTC-PERP would both be hedged with SOL"):
            Engine(settings, w.clock, w.venue, w.sender, w.store)


async def test_a_restart_finds_what_belongs_to_each_hedge() -> None:
    async with world(markets=BOTH, automation=True, primed=0, paper=CALM) as w:
        await hours(w, 12, 100, 60)
        assert legs(w) == BOTH_HELD
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert (await bitcoin(w)).status is DONE
        await w.venue.fill_from_elsewhere("SOL", SOL // 5, w.price)
        await w.to_price("150")
        assert w.legs == (5.2, -5.2)
        await hour(w, 100, 60)

        def known() -> dict[str, object]:
            return {
                market: (hedge.memory, hedge.window.mean, hedge.week.mean, hedge.window.count, hedge.check)
                for market, hedge in w.core.hedges.items()
            }

        before = known()
        assert {market: hedge.memory.held_by for market, hedge in w.core.hedges.items()} == {
            SOLANA: "engine",
            BITCOIN: "operator",
        }
        assert w.core.hedges[SOLANA].memory.last_rebalance_s is not None
        assert w.core.hedges[BITCOIN].memory.last_rebalance_s is None
        w.history.clear()  # everything from the store
        await w.restart()
        assert known() == before
        assert w.core.hedges[SOLANA].cooldown_remaining_s() == 0  # an hour has passed
        await hours(w, 60, -60, -60)
        assert w.legs[1] >= 0  # left, and perhaps reversed
        assert legs(w)[BITCOIN] == (0.01, -0.01)


async def test_a_market_that_is_added_later_starts_fresh() -> None:
    async with world(automation=True) as w:
        assert w.legs == (5.0, -5.0)
        mine = w.hedge.memory
        await w.restart(markets=BOTH)
        assert w.hedge.memory == mine
        added = w.core.hedges[BITCOIN]
        assert (added.window.count, added.memory.decision, added.memory.held_by) == (0, None, "nobody")
        await hours(w, 5, 100, 100)
        assert legs(w) == {**BOTH_HELD, BITCOIN: (0.0, 0.0)}
        await hours(w, 5, 100, 100)
        assert legs(w) == BOTH_HELD
        await w.check()


async def test_a_market_that_is_not_carried_any_more_is_foreign_and_its_owner_is_not_forgotten() -> None:
    async with world(markets=BOTH) as w:
        await hold_both(w)
        await w.restart(markets={SOLANA: BOTH[SOLANA]})
        shown = {position.key: position.foreign for position in w.snapshot().positions}
        assert shown == {"SOL-PERP": False, "SOL": False, "BTC-PERP": True, "wBTC": True}
        assert not w.snapshot().alerts
        await w.check()
        await w.give(SetAutomation(on=True))
        await hours(w, 40, -100, None)
        assert legs(w)[BITCOIN] == (0.01, -0.01)
        assert w.legs != (5.0, -5.0)
        result = await w.give(Kill(flatten=True))
        assert "not ours and still open: -0.01 BTC-PERP, +0.01 wBTC" in result.message
        await w.check()
        await w.restart(markets=BOTH)
        assert w.snapshot(BITCOIN).carry.held_by == "operator"
        assert not [position for position in w.snapshot().positions if position.foreign]
        await w.resume()
        assert (await w.sure(leave(BITCOIN))).status is DONE
        assert legs(w) == NONE_HELD
        await w.check()
