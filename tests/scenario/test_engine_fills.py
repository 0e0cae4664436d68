"""What is told is what happened: results, repairs and cooldowns come from fills, never from plans or from an account
that was read too early (R4.9)."""

from __future__ import annotations

import asyncio

import pytest
from engine_harness import SOL, USD, World, deposit, rebalance, take, world

from deltatui.domain.command import CommandResult, Direction, Kill, ResultStatus
from deltatui.domain.delta import RebalanceSettings
from deltatui.ports import AccountReport, Mark
from deltatui.venues.paper.settings import PaperFaults

DONE, PARTLY = ResultStatus.DONE, ResultStatus.PARTLY_DONE
WAYS = [Direction.CARRY, Direction.REVERSE]


def open_check(w: World) -> bool:
    return w.hedge.check is not None


def told(result: CommandResult) -> dict[str, tuple[float, float, float]]:
    return {part.market: (part.asked, part.filled, part.open) for part in result.parts}


# An account that is told late


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("late_s", [0.5, 2.0, 25.0])
async def test_an_account_told_late_never_looks_like_an_odd_leg(way: Direction, late_s: float) -> None:
    async with world(faults=PaperFaults(report_late_s=late_s)) as w:
        w.wait(late_s)
        result = await w.take(5, way)
        sign = -1 if way == Direction.CARRY else 1
        assert result.status is DONE
        assert told(result) == {"SOL-PERP": (5 * sign, 5 * sign, 0), "SOL": (-5 * sign, -5 * sign, 0)}
        assert w.legs == (-5 * sign, 5 * sign)
        assert (await w.outcomes()) == [("TAKE", "LANDED")]
        result = await w.leave()
        assert result.status is DONE
        assert w.legs == (0, 0)
        assert w.state == "RUNNING"
        w.wait(late_s)
        await w.engine.tick()
        await w.check()


async def test_an_account_that_is_not_told_in_time_leaves_the_trade_open_until_it_is() -> None:
    """Landed, and what it filled is not known: nothing may be told of it, and nothing may trade on a guess."""
    async with world(faults=PaperFaults(report_late_s=60.0)) as w:
        w.wait(60)
        result = await w.take(5)
        assert result.status is ResultStatus.UNRESOLVED
        assert "not known" in result.message
        assert w.legs == (0, 0)  # what was told last
        assert [alert.level for alert in w.snapshot().alerts] == ["ERROR"]
        assert (await w.take(1)).code in ("UNRESOLVED_OPEN", "NOT_REPORTED")
        w.wait(60)
        await w.engine.tick()
        assert w.legs == (5, -5)
        assert w.hedge.memory.held_by == "operator"
        assert w.hedge.check is None
        await w.check()


@pytest.mark.parametrize("way", WAYS)
async def test_an_odd_leg_told_late_is_mended_by_its_fills(way: Direction) -> None:
    async with world(faults=PaperFaults(report_late_s=2.0)) as w:
        w.wait(2)

        async def calm_after_the_first() -> None:
            rate = 1.0 if len(w.sender.sent) == 1 else 0.0
            w.with_faults(PaperFaults(report_late_s=2.0, odd_leg_rate=rate))

        w.sender.on_send = calm_after_the_first
        result = await w.take(5, way)
        assert (result.status, result.code) == (ResultStatus.REJECTED, "ODD_LEG")
        assert w.legs == (0, 0)
        assert [kind for kind, _ in await w.outcomes()] == ["TAKE", "UNWIND"]
        w.wait(2)
        await w.engine.tick()
        await w.check()


async def test_a_foreign_fill_during_a_trade_is_not_taken_for_its_own() -> None:
    """Balances before and after would tell 7 bought; the fills of the operation tell 5."""
    async with world() as w:

        async def somebody_else() -> None:
            await w.venue.fill_from_elsewhere("SOL", 2 * SOL, w.price)

        w.sender.on_send = somebody_else
        result = await w.take(5)
        assert result.status is DONE
        assert told(result) == {"SOL-PERP": (-5, -5, 0), "SOL": (5, 5, 0)}
        assert w.legs == (7, -5)
        assert await w.outcomes() == [("TAKE", "LANDED")]


async def test_a_deposit_beside_an_unresolved_take_forgets_nothing_of_it() -> None:
    async with world() as w:
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        w.sender.mute = False
        assert (await w.give(deposit(10 * USD))).status is DONE
        assert open_check(w)
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (5, -5)
        assert w.hedge.memory.held_by == "operator"
        assert not open_check(w)
        await w.check()


# Partial fills


@pytest.mark.parametrize("leg", ["perp", "spot"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_take_in_part_is_partly_done_with_even_legs(way: Direction, leg: str) -> None:
    async with world() as w:

        async def calm_after_the_first() -> None:
            rate = 1.0 if len(w.sender.sent) == 1 else 0.0
            w.with_faults(PaperFaults(partial_rate=rate, partial_leg=leg))  # type: ignore[arg-type]

        w.sender.on_send = calm_after_the_first
        result = await w.take(10, way)
        spot, perp = w.legs
        assert (result.status, result.code) == (PARTLY, "PARTIAL")
        assert not result.success
        assert spot == -perp
        assert 0 < abs(perp) < 10
        asked, filled, still = told(result)["SOL-PERP"]
        assert (filled, abs(asked)) == (perp, 10)
        assert still == pytest.approx(asked - filled)
        assert "not filled:" in result.message
        assert w.hedge.memory.held_by == "operator"
        await w.check()


@pytest.mark.parametrize("way", WAYS)
async def test_a_close_that_always_fills_in_part_goes_on_while_it_moves(way: Direction) -> None:
    async with world() as w:
        await w.take(10, way)
        w.with_faults(PaperFaults(partial_rate=1.0))
        result = await w.leave()
        assert result.status is DONE
        assert w.legs == (0, 0)
        assert [part.open for part in result.parts] == [0, 0]
        await w.check()


async def test_a_close_that_stops_moving_says_what_is_open() -> None:
    """The hedge that remains is even: no fault, and no success either."""
    async with world() as w:
        await w.sure(take(10))

        async def nothing_after_the_first() -> None:
            if len(w.sender.sent) > 2:
                w.with_faults(PaperFaults(fail_rate=1.0))

        w.with_faults(PaperFaults(odd_leg_rate=1.0))
        w.sender.on_send = nothing_after_the_first
        result = await w.leave()
        assert (result.status, result.code) == (PARTLY, "ODD_LEG")
        assert told(result) == {"SOL-PERP": (10, 10, 0), "SOL": (-10, 0, -10)}
        assert w.state == "HALTED"
        assert w.legs == (10, 0)


async def test_a_perp_closed_alone_in_part_is_partly_done_and_no_fault() -> None:
    async with world(wallet_sol=10) as w:
        assert (await w.sure(deposit(10 * SOL, "SOL"))).status is DONE
        assert (await w.sure(rebalance())).status is DONE
        assert w.legs == (10, -10)

        async def nothing_after_the_first() -> None:
            sent = len(w.sender.sent)
            w.with_faults(PaperFaults(partial_rate=1.0) if sent == 3 else PaperFaults(fail_rate=1.0))

        w.sender.on_send = nothing_after_the_first
        result = await w.leave()
        assert result.status is PARTLY
        asked, filled, still = told(result)["SOL-PERP"]
        assert asked == 10
        assert 0 < filled < 10
        assert still == pytest.approx(10 - filled)
        assert w.state == "RUNNING"
        assert w.legs[1] == pytest.approx(-still)


async def test_a_correction_in_part_is_partly_done_and_stamps_no_cooldown() -> None:
    async with world(automation=True, rebalance=RebalanceSettings()) as w:
        assert w.legs == (5, -5)
        await w.venue.fill_from_elsewhere("SOL", SOL, w.price)
        w.with_faults(PaperFaults(partial_rate=1.0))
        await w.to_price("150")
        spot, perp = w.legs
        assert spot == 6
        assert -6 < perp < -5
        assert w.hedge.memory.last_rebalance_s is None
        assert any("automatic rebalance partly done" in event.message for event in w.events)
        w.with_faults(PaperFaults())
        await w.to_price("150")
        assert w.legs == (6, -6)
        assert w.hedge.memory.last_rebalance_s == w.clock.market_s()


async def test_a_kill_that_leaves_something_open_says_what() -> None:
    async with world() as w:
        await w.take(10)

        async def nothing_after_the_first() -> None:
            sent = len(w.sender.sent)
            w.with_faults(
                PaperFaults(partial_rate=1.0, partial_leg="perp") if sent == 2 else PaperFaults(fail_rate=1.0)
            )

        w.sender.on_send = nothing_after_the_first
        result = await w.give(Kill(flatten=True))
        assert result.status is PARTLY
        assert result.message.startswith("halted, but closing is not complete")
        assert told(result)["SOL-PERP"][2] == pytest.approx(-w.legs[1])
        assert w.state == "HALTED"
        await w.check()


async def test_events_and_log_tell_the_fills_and_not_the_plan() -> None:
    async with world() as w:
        w.with_faults(PaperFaults(partial_rate=1.0))
        result = await w.take(10)
        (filled,) = [event.message for event in w.events if event.kind == "order_filled"][:1]
        assert filled.startswith("take filled ")
        assert "-10 SOL-PERP, +10 SOL" not in filled
        (told,) = [event for event in w.events if event.kind == "partly_done"]
        assert (told.level, told.message) == ("WARNING", result.message)


async def test_a_transfer_is_told_in_whole_units_and_is_no_trade() -> None:
    async with world(wallet_sol=3) as w:
        assert (await w.sure(deposit(2 * SOL, "SOL"))).status is DONE
        assert (await w.sure(deposit(10 * USD))).status is DONE
        messages = [event.message for event in w.events if event.kind == "order_filled"]
        assert messages == ["deposit +2 SOL: landed", "deposit +10 USDC: landed"]
        assert not [line for line in w.lines if line.tag in ("TRADE", "COST")]


async def test_a_done_take_names_every_leg_with_its_size() -> None:
    async with world() as w:
        assert (await w.take(2)).message == "take done: sold 2 SOL-PERP, bought 2 SOL"


# Reducing is never refused


@pytest.mark.parametrize("bps", [1, 2])
async def test_a_narrow_price_limit_stops_an_entry_and_no_exit(bps: int) -> None:
    async with world() as w:
        await w.take(5)
        await w.restart(slippage_bps=bps)
        if bps == 1:
            assert (await w.take(1)).code == "PriceLimitNotMet"
        assert (await w.leave()).status is DONE
        assert w.legs == (0, 0)


async def test_a_kill_gets_out_where_the_market_has_moved_far() -> None:
    async with world(reduce_slippage_bps=1, slippage_bps=1) as w:
        await w.restart(slippage_bps=50)
        await w.take(5)
        await w.restart(slippage_bps=1)
        assert (await w.leave()).code == "PriceLimitNotMet"
        result = await w.give(Kill(flatten=True))
        assert result.status is DONE
        assert w.legs == (0, 0)


async def test_a_kill_does_not_wait_for_an_account_that_is_told_late() -> None:
    """Somebody looks after a trade that was never told; the kill that comes meanwhile finds the way free."""
    async with world(faults=PaperFaults(report_late_s=60.0)) as w:
        w.wait(60)
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        waiting, told = asyncio.Event(), asyncio.Event()
        report = w.venue.report

        async def never(at_least: Mark | None) -> AccountReport:
            waiting.set()
            await told.wait()
            return await report(at_least)

        w.venue.report = never  # type: ignore[method-assign]
        looking = asyncio.create_task(w.engine.tick())
        await waiting.wait()
        w.venue.report = report  # type: ignore[method-assign]
        w.wait(60)
        result = await asyncio.wait_for(w.give(Kill(flatten=True)), 5)
        assert result.message.startswith("halted, but closing is unresolved")  # sent, and told as late as the take
        assert w.sender.sent[-1] == result.operation_id
        assert w.state == "HALTED"
        told.set()
        await looking
        w.wait(60)
        await w.engine.tick()
        assert w.legs == (0, 0)
        await w.check()


async def test_a_kill_during_a_trade_does_not_say_that_all_is_as_it_was() -> None:
    async with world() as w:
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        result = await w.give(Kill())
        assert result.message.endswith("a trade was under way, and positions will show what it did")
        w.sender.mute = False
        await w.engine.tick()
        assert w.legs == (5, -5)


async def test_a_failed_flatten_stands_in_the_alert() -> None:
    async with world() as w:
        await w.take(5)
        w.with_faults(PaperFaults(fail_rate=1.0))
        result = await w.give(Kill(flatten=True))
        assert result.status is ResultStatus.REJECTED
        (alert,) = w.snapshot().alerts
        assert "closing failed" in alert.message


async def test_an_undone_take_says_what_it_cost() -> None:
    async with world(faults=PaperFaults(odd_leg_rate=1.0)) as w:
        result = await w.take(5)
        assert (result.status, result.code) == (ResultStatus.REJECTED, "ODD_LEG")
        lost = 3000 - w.account.equity
        assert lost > 0
        assert result.message.endswith(f"which cost ${lost:,.2f}")


async def test_a_settlement_that_failed_after_an_automatic_leave_is_tried_again() -> None:
    async with world(automation=True) as w:
        assert w.legs == (5, -5)

        async def no_settlement() -> None:
            settles = len(w.sender.sent) == 3
            w.with_faults(PaperFaults(fail_rate=1.0 if settles else 0.0))

        w.sender.on_send = no_settlement
        await w.to_price("140", mark="140")
        await w.records(60, -20)
        assert w.legs == (0, 0)
        assert ("SETTLE", "FAILED") in await w.outcomes()
        assert ("SETTLE", "LANDED") in await w.outcomes()
        assert w.account.unsettled == 0
