"""Whose SOL it is: bought for a hedge, paid in, or in the wallet; and what a withdrawal leaves."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from engine_harness import (
    FREE,
    SOL,
    USD,
    blocked_by,
    deposit,
    leave,
    rebalance,
    verdicts_of,
    withdraw,
    world,
)

from deltatui.domain.command import Cancel, Direction, ResultStatus, SetAutomation, SpotSource, Take
from deltatui.domain.gates import GateLimits
from deltatui.domain.verdict import VerdictStatus
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

DONE = ResultStatus.DONE
CALM = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0), base_borrow_apr_pct=Decimal(0))
LOOSE = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0, min_health_withdraw=0)


def take_from(source: SpotSource, size: int) -> Take:
    return Take(market="SOL-PERP", base_1e9=size * SOL, spot=source)


# Automation and the wallet (R5.7)


async def test_gas_in_the_wallet_is_no_reason_to_trade() -> None:
    """26 leaves and 26 rebalances once came of it."""
    async with world(automation=True, wallet_sol=0) as w:
        w.tamper(wallet={"SOL": Decimal("0.02")})
        assert w.legs == (5, -5)
        await w.records(100, -20)
        kinds = [kind for kind, _ in await w.outcomes()]
        assert (kinds.count("TAKE"), kinds.count("LEAVE"), kinds.count("REBALANCE")) == (1, 1, 0)
        assert w.legs == (0, 0)
        await w.check()


async def test_sol_that_was_paid_in_is_neither_shorted_nor_sold_by_automation() -> None:
    async with world(automation=True, wallet_sol=20) as w:
        assert (await w.sure(deposit(3 * SOL, "SOL"))).status is DONE
        await w.to_price("150")
        assert w.legs == (8, -5)
        view = w.snapshot().delta
        assert (view.net, view.hedge_net) == (20, 0)
        assert view.direction == "none"
        await w.records(100, -20)
        assert w.legs == (3, 0)


async def test_a_hedge_begun_by_a_rebalance_has_an_owner_and_stands() -> None:
    async with world(wallet_sol=10, paper=CALM) as w:
        assert (await w.sure(deposit(10 * SOL, "SOL"))).status is DONE
        assert (await w.sure(rebalance())).status is DONE
        assert w.legs == (10, -10)
        assert w.hedge.memory.held_by == "operator"
        assert w.snapshot().carry.held_by == "operator"
        # Handed over, automation finds nothing uneven: the hedge covers what it was made for.
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (10, -10)
        assert w.snapshot().delta.hedge_net == 0
        result = await w.leave()
        assert result.status is DONE
        assert w.legs == (10, 0)


async def test_automation_corrects_the_operators_hedge_and_leaves_it_his() -> None:
    async with world(automation=True, apr_pct=-20, paper=CALM) as w:
        assert (await w.take(5)).status is DONE
        await w.venue.fill_from_elsewhere("SOL", SOL, w.price)
        await w.to_price("150")
        assert w.legs == (6, -6)
        assert w.hedge.memory.held_by == "operator"


# Where the spot of a take comes from


async def test_a_take_from_the_wallet_deposits_and_a_leave_sells_nothing() -> None:
    async with world(wallet_sol=10, paper=CALM) as w:
        action = next(a for a in w.snapshot().actions if a.action == "TAKE")
        assert [(s.source, s.max_size) for s in action.sources] == [("wallet", 10.0)]
        asked = await w.give(take_from(SpotSource.WALLET, 3))
        assert asked.message == "confirm take: sell 3 SOL-PERP, deposit 3 SOL"
        view = w.snapshot().confirmation
        assert view is not None
        assert (view.side, view.hedge_delta_after_pct) == ("short perp + deposit from the wallet", 0.0)
        assert (await w.confirm(asked)).status is DONE
        assert (w.legs, w.account.wallet_base_1e9) == ((3, -3), 7 * SOL)
        assert w.snapshot().delta.hedge_net == 0
        assert (await w.give(take_from(SpotSource.WALLET, 8))).code == "WALLET_TOO_SMALL"
        result = await w.leave()
        assert result.message.startswith("leave done: bought 3 SOL-PERP")
        assert w.legs == (3, 0)
        await w.check()


async def test_a_take_on_what_is_deposited_covers_each_sol_once() -> None:
    async with world(wallet_sol=5, paper=CALM) as w:
        assert (await w.sure(deposit(5 * SOL, "SOL"))).status is DONE
        assert (await w.sure(take_from(SpotSource.DEPOSITED, 3))).status is DONE
        assert w.legs == (5, -3)
        refused = await w.give(take_from(SpotSource.DEPOSITED, 3))
        assert refused.code == "NOT_DEPOSITED"
        assert "2 SOL" in refused.message
        assert (await w.sure(take_from(SpotSource.DEPOSITED, 2))).status is DONE
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (5, -5)
        assert w.snapshot().delta.hedge_net == 0
        assert (await w.leave()).status is DONE
        assert w.legs == (5, 0)


async def test_sol_of_the_wallet_that_a_hedge_covers_backs_no_second_one() -> None:
    async with world(wallet_sol=2, paper=CALM, limits=LOOSE) as w:
        assert (await w.sure(take_from(SpotSource.WALLET, 2))).status is DONE
        assert (await w.sure(withdraw(SOL, "SOL"))).status is DONE
        action = next(a for a in w.snapshot().actions if a.action == "TAKE")
        assert action.sources == ()
        assert (await w.give(take_from(SpotSource.WALLET, 1))).code == "WALLET_TOO_SMALL"


async def test_the_dialog_of_a_leave_knows_that_nothing_is_covered_any_more() -> None:
    async with world(wallet_sol=3, paper=CALM) as w:
        assert (await w.sure(take_from(SpotSource.WALLET, 3))).status is DONE
        await w.give(leave())
        view = w.snapshot().confirmation
        assert view is not None
        assert (view.hedge_delta_before_pct, view.hedge_delta_after_pct) == (0.0, 0.0)


async def test_only_what_filled_is_covered() -> None:
    async with world(wallet_sol=10, paper=CALM) as w:
        w.with_faults(PaperFaults(partial_rate=1.0))
        result = await w.sure(take_from(SpotSource.WALLET, 10))
        assert result.status is ResultStatus.PARTLY_DONE
        spot, perp = w.legs
        assert spot == 10
        assert w.hedge.memory.pledged_1e9 == -w.account.perp_1e9
        assert w.snapshot().delta.hedge_net == 0
        assert w.hedge.free_own_1e9() == 10 * SOL + round(perp * SOL)


async def test_a_reverse_take_has_no_other_source_than_borrowing() -> None:
    async with world(wallet_sol=5) as w:
        command = Take(market="SOL-PERP", base_1e9=SOL, direction=Direction.REVERSE, spot=SpotSource.WALLET)
        assert (await w.give(command)).code == "NO_SPOT_SOURCE"


async def test_a_cover_that_is_withdrawn_is_no_cover() -> None:
    async with world(wallet_sol=10, paper=CALM, limits=LOOSE) as w:
        assert (await w.sure(take_from(SpotSource.WALLET, 10))).status is DONE
        asked = await w.give(withdraw(4 * SOL, "SOL"))
        view = w.snapshot().confirmation
        assert view is not None
        assert view.then == ""
        assert (await w.confirm(asked)).status is DONE
        # What is back in the wallet can still be covered (R5.7); sold elsewhere, it cannot.
        w.tamper(wallet={})
        await w.give(SetAutomation(on=True))
        await w.to_price("150")
        assert w.legs == (6, -6)


# Paid in, withdrawn, left


async def test_a_leave_sells_what_was_bought_whatever_was_moved_before() -> None:
    async with world(paper=CALM) as w:
        assert (await w.take(5)).status is DONE
        assert (await w.sure(withdraw(3 * SOL, "SOL"))).status is DONE
        assert w.core.accountant.paid_in_1e9("SOL") == 0
        assert (await w.leave()).message.startswith("leave done: bought 5 SOL-PERP, sold 2 SOL")
        assert (await w.sure(deposit(3 * SOL, "SOL"))).status is DONE
        assert (await w.take(2)).status is DONE
        assert w.legs == (5, -2)
        asked = await w.give(leave())
        assert asked.message == "confirm leave: buy 2 SOL-PERP, sell 2 SOL"
        view = w.snapshot().confirmation
        assert view is not None
        assert [(leg.market, leg.size) for leg in view.legs] == [("SOL-PERP", 2.0), ("SOL", -2.0)]
        result = await w.confirm(asked)
        assert [(part.market, part.filled) for part in result.parts] == [("SOL-PERP", 2.0), ("SOL", -2.0)]
        assert w.legs == (3, 0)
        await w.check()


@pytest.mark.parametrize(("own", "size"), [(1, 8), (3, 2), (3, 3)])
async def test_a_reverse_gives_back_the_sol_that_it_sold(own: int, size: int) -> None:
    """R4.5: the part of the spot leg that owes nothing is no reducing order, and follows when gains are settled."""
    async with world(wallet_sol=own, paper=CALM, limits=LOOSE) as w:
        assert (await w.sure(deposit(own * SOL, "SOL"))).status is DONE
        assert (await w.take(size, Direction.REVERSE)).status is DONE
        assert w.legs == (own - size, size)
        await w.to_price("800")
        result = await w.leave()
        assert result.status is DONE
        assert w.legs == (own, 0)
        spot = next(part for part in result.parts if part.leg == "spot")
        assert (spot.asked, spot.filled, spot.open) == (size, size, 0)
        await w.check()


# Withdrawals (R3.4)


async def test_a_withdrawal_may_not_leave_a_naked_short() -> None:
    async with world(paper=CALM) as w:
        assert (await w.take(17)).status is DONE
        result = await w.sure(withdraw(round(16.6 * SOL), "SOL"))
        assert blocked_by(result) == ["liq_distance"]
        assert "at most 16." in result.message
        assert w.legs == (17, -17)
    live = GateLimits(max_leverage=5.0)
    async with world(limits=live) as w:
        assert (await w.take(17)).status is DONE
        assert blocked_by(await w.sure(withdraw(round(16.6 * SOL), "SOL"))) == ["leverage", "liq_distance"]


async def test_what_may_be_withdrawn_is_judged_to_the_cent() -> None:
    """1,000 quote, -300 unsettled on a short of 650 notional at 3 %."""
    async with world(opening=1000, paper=CALM) as w:
        w.tamper("SOL-PERP", base_1e9=-round(650 / 150 * SOL), quote=Decimal(350), entry_quote=Decimal(350))
        refused = await w.give(withdraw(900 * USD))
        assert refused.status is ResultStatus.REJECTED
        assert "at most 546.60" in refused.message
        assert (await w.give(withdraw(546_610_000))).status is ResultStatus.REJECTED
        passes = await w.give(withdraw(546_600_000))
        assert passes.status is ResultStatus.NEEDS_CONFIRMATION
        assert verdicts_of(passes)["liq_distance"] == VerdictStatus.ALLOWED


async def test_limits_compare_health_that_is_not_rounded() -> None:
    """79.6 is shown as 80, and is not 80."""
    async with world(opening=1000, paper=CALM) as w:
        w.tamper("SOL-PERP", base_1e9=-1 * SOL, quote=Decimal(150), entry_quote=Decimal(150))
        # 4.5 of requirement: 20 % of 22.5; 22.06 left is health 79.6.
        result = await w.give(withdraw(round((1000 - 22.06) * USD)))
        health = next(v for v in result.verdicts if v.code == "withdraw_health")
        assert (health.status, health.observed) == (VerdictStatus.BLOCKED, "79.60")


async def test_a_transfer_above_the_threshold_asks_with_what_is_before_and_after() -> None:
    async with world(paper=CALM, wallet_sol=5) as w:
        assert (await w.take(10)).status is DONE
        assert (await w.give(deposit(100 * USD))).status is DONE
        asked = await w.give(withdraw(4 * SOL, "SOL"))
        assert asked.status is ResultStatus.NEEDS_CONFIRMATION
        view = w.snapshot().confirmation
        assert view is not None
        assert (view.kind, view.asset, view.size, view.notional) == ("WITHDRAW", "SOL", 4.0, 600.0)
        assert (view.hedge_delta_before_pct, view.hedge_delta_after_pct) == (0.0, -40.0)
        assert view.delta_before_pct == view.delta_after_pct  # wallet and account together
        assert view.leverage_before is not None
        assert view.leverage_after is not None
        assert view.leverage_after > view.leverage_before
        assert view.then == "automation is off: nobody will reduce short by 4 SOL"
        assert w.legs == (10, -10)
        await w.give(Cancel(operation_id=asked.operation_id))
        assert (await w.give(deposit(101 * USD))).status is ResultStatus.NEEDS_CONFIRMATION


async def test_automation_reduces_a_hedge_whose_spot_was_withdrawn() -> None:
    async with world(automation=True, paper=CALM) as w:
        asked = await w.give(withdraw(2 * SOL, "SOL"))
        view = w.snapshot().confirmation
        assert view is not None
        assert view.then == "automation will reduce short by 2 SOL"
        assert (await w.confirm(asked)).status is DONE
        await w.to_price("150")
        assert w.legs == (3, -3)


async def test_a_preview_of_a_transfer_is_what_the_question_then_shows() -> None:
    async with world(paper=CALM) as w:
        await w.take(10)
        command = withdraw(500 * USD)
        view = w.preview(command)
        assert not w.core.pending
        await w.give(command)
        shown = w.snapshot().confirmation
        assert shown is not None
        assert (view.health_after, view.leverage_after, view.verdicts) == (
            shown.health_after,
            shown.leverage_after,
            shown.verdicts,
        )


async def test_an_uneven_hedge_is_told_once_and_with_its_present_figures() -> None:
    async with world(paper=CALM) as w:
        await w.take(5)
        for sold in (2, 1):
            await w.venue.fill_from_elsewhere("SOL", -sold * SOL, w.price)
            await w.to_price("150")
        (alert,) = w.snapshot().alerts
        assert "spot +2, perp -5" in alert.message
        assert len([event for event in w.events if event.message.startswith("the hedge of SOL-PERP is uneven")]) == 1


# Positions elsewhere


async def test_a_position_in_another_market_is_shown_booked_and_left_alone() -> None:
    async with world(automation=True) as w:
        assert w.legs == (5, -5)
        await w.venue.fill_from_elsewhere("BTC-PERP", -20_000_000, Decimal(60_000))
        await w.to_price("151")
        snapshot = w.snapshot()
        other = next(p for p in snapshot.positions if p.key == "BTC-PERP")
        assert (other.size, other.mark_price, other.foreign) == (-0.02, 60_000.0, True)
        assert not snapshot.alerts
        assert snapshot.account.leverage is not None
        assert snapshot.account.leverage > 5 * 151 / 3000  # it counts in margin
        await w.check()
        assert (await w.leave()).status is DONE
        assert [p.key for p in w.snapshot().positions] == ["BTC-PERP"]
        await w.restart()
        assert [p.key for p in w.snapshot().positions] == ["BTC-PERP"]
        await w.check()


async def test_a_position_whose_price_is_unknown_makes_no_false_comparison() -> None:
    async with world() as w:
        await w.take(5)
        await w.venue.fill_from_elsewhere("BTC-PERP", -20_000_000, Decimal(60_000))
        await w.engine.step()
        told = w.account.report
        unknown = msgspec.structs.replace(told.perps["BTC-PERP"], mark=None)
        w.venue._told = msgspec.structs.replace(told, perps={**told.perps, "BTC-PERP": unknown})
        await w.engine.step()
        (alert,) = w.snapshot().alerts
        assert "BTC-PERP is held and its price is not known" in alert.message
        await w.to_price("150")
        assert not w.snapshot().alerts
