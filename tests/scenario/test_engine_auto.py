"""What the engine does by itself: carry, rebalance, watch losses and health, and when it keeps its hands off."""

from __future__ import annotations

from decimal import Decimal

import pytest
from engine_harness import FREE, SOL, USD, World, deposit, held, leave, rate_of, rebalance, take, withdraw, world

from deltatui.domain.carry import Stance
from deltatui.domain.command import Confirm, Direction, Kill, ResultStatus, Resume, SetAutomation
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.event import Level
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.engine.accounting import GAP_TOLERANCE
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

DONE, REJECTED = ResultStatus.DONE, ResultStatus.REJECTED
NO_INTEREST = PaperSettings(base_borrow_apr_pct=Decimal(0), quote_borrow_apr_pct=Decimal(0))


# Carry


async def test_it_enters_when_it_pays_and_leaves_when_it_bleeds() -> None:
    async with world(automation=True, primed=0) as w:
        await w.records(5, 100)
        assert held(w) is Stance.FLAT
        await w.records(3, 100)
        assert held(w) is Stance.CARRY
        assert w.snapshot().carry.held_by == "engine"
        await w.records(48, 100)
        assert held(w) is Stance.CARRY
        await w.records(60, -100)
        assert held(w) is not Stance.CARRY
        await w.check()


async def test_it_reverses_where_the_other_side_pays_by_way_of_flat() -> None:
    async with world(automation=True, primed=10) as w:
        assert held(w) is Stance.CARRY
        seen = []
        for _ in range(80):
            await w.record(rate_of(-200))
            seen.append(held(w))
        assert Stance.FLAT in seen
        assert seen[-1] is Stance.REVERSE
        spot, perp = w.legs
        assert perp == 5.0
        assert spot == pytest.approx(-5.0, abs=1e-2)
        await w.check()


async def test_automation_off_does_nothing_and_on_takes_over_what_was_taken_by_hand() -> None:
    async with world() as w:
        await w.records(10, 100)
        assert held(w) is Stance.FLAT
        await w.take(2)
        await w.give(SetAutomation(on=True))
        assert w.snapshot().carry.held_by == "engine"
        await w.records(80, -100)
        assert held(w) is not Stance.CARRY


async def test_what_the_operator_holds_is_left_alone_until_automation_is_turned_on_again() -> None:
    async with world(automation=True, apr_pct=-1.0) as w:
        assert (await w.take(2)).status is DONE
        assert w.snapshot().carry.held_by == "operator"
        await w.records(60, -100)
        assert w.legs == (2.0, -2.0)
        await w.restart()
        await w.records(3, -100)
        assert w.legs == (2.0, -2.0)
        await w.give(SetAutomation(on=True))
        await w.records(3, -100)
        assert held(w) is not Stance.CARRY


async def test_after_a_leave_by_hand_the_engine_does_not_take_again() -> None:
    async with world(automation=True) as w:
        assert held(w) is Stance.CARRY
        await w.leave()
        await w.records(10, 100)
        assert held(w) is Stance.FLAT
        await w.give(SetAutomation(on=True))
        await w.records(1, 100)
        assert held(w) is Stance.CARRY


@pytest.mark.parametrize(("limit", "asks"), [(None, True), (100.0, True), (749.0, True), (751.0, False)])
async def test_an_automatic_take_above_its_limit_asks(limit: float | None, asks: bool) -> None:
    async with world(automation=True, auto_limit_usd=limit) as w:
        assert bool(w.core.pending) is asks
        assert held(w) is (Stance.FLAT if asks else Stance.CARRY)
        if asks:
            view = w.snapshot().confirmation
            assert view is not None
            assert view.source == "engine"
            assert (await w.give(Confirm(operation_id=view.operation_id))).status is DONE
            assert held(w) is Stance.CARRY
            assert w.snapshot().carry.held_by == "engine"


async def test_a_small_automatic_take_does_not_ask() -> None:
    async with world(automation=True, auto_limit_usd=None, carry_size_1e9=SOL // 2) as w:
        assert held(w) is Stance.CARRY


async def test_an_automatic_leave_never_asks() -> None:
    async with world(automation=True) as w:
        await w.restart(auto_limit_usd=None)
        await w.records(60, -100)
        assert held(w) is not Stance.CARRY
        assert "confirmation_opened" not in [e.kind for e in w.events if "leave" in e.message]


async def test_a_refusal_of_the_same_reason_is_told_once() -> None:
    async with world(automation=True, limits=GateLimits(max_leverage=0.1)) as w:
        assert held(w) is Stance.FLAT
        await w.records(10, 100)
        assert w.kinds().count("take_refused") == 1
        assert "leverage" in next(e.message for e in w.events if e.kind == "take_refused")


async def test_a_failed_automatic_take_is_tried_again_with_the_next_record() -> None:
    async with world(automation=True, faults=PaperFaults(fail_rate=1.0)) as w:
        assert held(w) is Stance.FLAT
        assert ("TAKE", "FAILED") in await w.outcomes()
        w.paper = PaperSettings()
        await w.restart()
        await w.record(rate_of(100))
        assert held(w) is Stance.CARRY
        await w.check()


@pytest.mark.parametrize("hold", [Stance.CARRY, Stance.REVERSE, Stance.FLAT])
async def test_a_stance_that_is_held_whatever_it_pays(hold: Stance) -> None:
    async with world(automation=True, hold=hold, apr_pct=0.0) as w:
        assert held(w) is hold
        sentence = w.snapshot().carry.sentence
        assert hold in sentence
        await w.records(30, 300 if hold is Stance.REVERSE else -300)
        assert held(w) is hold


# Rebalancing (R5)


async def drift(w: World, sol: float) -> None:
    """Another program buys or sells spot in the same account."""
    await w.venue.fill_from_elsewhere("SOL", round(sol * SOL), w.price)


async def test_a_drift_is_corrected_and_the_cooldown_stamped() -> None:
    async with world(automation=True, paper=NO_INTEREST) as w:
        await drift(w, 0.2)
        await w.to_price("150")
        assert w.legs == (5.2, -5.2)
        assert w.hedge.memory.last_rebalance_s == w.clock.market_s()
        assert w.hedge.cooldown_remaining_s() == 1800.0
        # Within the emergency band it now waits, and says how long.
        await drift(w, 0.2)
        await w.to_price("150", after_s=600)
        assert w.legs == (5.4, -5.2)
        view = w.snapshot().delta
        assert view.cooldown_remaining_s == 1200.0
        assert "1200 s" in view.reason
        (line,) = [line for line in w.lines if line.tag == "REBALANCER" and "cooldown" in line.message]
        assert line.fields["cooldown_remaining_s"] == 1200.0
        await w.to_price("150", after_s=1199)
        assert w.legs == (5.4, -5.2)
        await w.to_price("150", after_s=1.5)
        assert w.legs == (5.4, -5.2)  # looked at once in a loop interval
        await w.to_price("150")
        assert w.legs == (5.4, -5.4)
        await w.check()


async def test_an_emergency_does_not_wait_for_the_cooldown() -> None:
    async with world(automation=True, paper=NO_INTEREST) as w:
        await drift(w, 0.2)
        await w.to_price("150")
        await drift(w, 0.5)
        await w.to_price("150")
        assert w.legs == (5.7, -5.7)


async def test_a_correction_too_small_is_left() -> None:
    settings = RebalanceSettings(min_trade_1e9=SOL)
    async with world(automation=True, paper=NO_INTEREST, rebalance=settings) as w:
        await drift(w, 0.9)
        await w.to_price("150")
        assert w.legs == (5.9, -5.0)
        assert "below the minimum" in w.snapshot().delta.reason
        assert w.hedge.memory.last_rebalance_s is None
        await drift(w, 0.1)
        await w.to_price("150")
        assert w.legs == (6.0, -6.0)


async def test_a_reduction_is_reduce_only_and_stops_at_zero() -> None:
    async with world(automation=True, wallet_sol=0, paper=NO_INTEREST) as w:
        assert (await w.sure(withdraw(3 * SOL, "SOL"))).status is DONE
        await w.to_price("150")
        assert w.legs == (2.0, -2.0)
        (operation,) = [o for o in await w.store.operations() if o.operation.kind == "REBALANCE"]
        assert operation.operation.legs[0].reduce_only


async def test_a_failed_correction_does_not_stamp_the_cooldown() -> None:
    async with world(automation=True, paper=NO_INTEREST) as w:
        w.venue._settings = PaperSettings(faults=PaperFaults(fail_rate=1.0))
        await drift(w, 0.2)
        await w.to_price("150")
        assert w.legs == (5.2, -5.0)
        assert w.hedge.memory.last_rebalance_s is None
        w.venue._settings = NO_INTEREST
        await w.to_price("150")
        assert w.legs == (5.2, -5.2)


async def test_a_rebalance_by_hand_ignores_the_cooldown_and_asks_above_the_threshold() -> None:
    async with world(paper=NO_INTEREST, primed=8) as w:
        await w.take(5)
        await drift(w, 0.2)
        result = await w.give(rebalance())
        assert result.status is DONE
        assert w.legs == (5.2, -5.2)
        await drift(w, 0.1)
        assert (await w.give(rebalance())).status is DONE
        await drift(w, 1.0)
        assert (await w.give(rebalance())).status is ResultStatus.NEEDS_CONFIRMATION


async def test_a_correction_is_never_stopped_by_what_carry_pays() -> None:
    """R5.8, R6.11."""
    async with world(automation=True, paper=NO_INTEREST) as w:
        await w.record(rate_of(-100))
        await drift(w, 0.2)
        await w.to_price("150")
        assert w.legs == (5.2, -5.2)


async def test_a_cooldown_survives_a_restart() -> None:
    async with world(automation=True, paper=NO_INTEREST) as w:
        await drift(w, 0.2)
        await w.to_price("150")
        await w.restart()
        await w.to_price("150", after_s=600)
        assert w.hedge.cooldown_remaining_s() == 1200.0


# Losses (R6.10)


@pytest.mark.parametrize(
    "losses", [LossLimits(daily_loss=Decimal(20)), LossLimits(drawdown_pct=Decimal("0.6"))], ids=["daily", "drawdown"]
)
async def test_a_loss_limit_stops_new_risk_until_the_operator_resumes(losses: LossLimits) -> None:
    async with world(automation=True, losses=losses, paper=PaperSettings(costs=FREE)) as w:
        assert w.state == "RUNNING"
        await w.to_price("150", mark="156")  # the short's mark runs away from the spot
        assert w.state == "REDUCING"
        assert "loss limit" in w.core.state_reason
        assert [(a.level, a.id.split("@")[0]) for a in w.snapshot().alerts] == [(Level.ERROR, "reducing")]
        assert (await w.give(take(1))).code == "NOT_ACCEPTED"
        await w.restart()
        assert w.state == "REDUCING"
        await w.to_price("150")
        assert w.state == "REDUCING"
        assert (await w.leave()).status is DONE
        assert w.state == "REDUCING"
        assert (await w.give(Resume())).status is DONE
        assert w.state == "RUNNING"
        await w.to_price("150")
        assert w.state == "RUNNING"
        assert not w.snapshot().alerts


async def test_a_withdrawal_is_no_loss_and_a_deposit_hides_none() -> None:
    losses = LossLimits(daily_loss=Decimal(20), drawdown_pct=Decimal(1))
    async with world(losses=losses, paper=PaperSettings(costs=FREE)) as w:
        await w.take(5)
        await w.sure(withdraw(500 * USD))
        await w.to_price("150")
        assert w.state == "RUNNING"
        await w.sure(deposit(1000 * USD))
        await w.to_price("150", mark="155")
        assert w.state == "REDUCING"


async def test_a_new_day_begins_at_zero() -> None:
    async with world(losses=LossLimits(daily_loss=Decimal(20)), paper=PaperSettings(costs=FREE), primed=8) as w:
        await w.take(5)
        await w.to_price("150", mark="153")
        assert w.state == "RUNNING"
        await w.to_price("150", mark="153", after_s=86_400)
        await w.to_price("150", mark="156")
        assert w.state == "RUNNING"
        await w.to_price("150", mark="157.1")
        assert w.state == "REDUCING"


# Health (R2.4)


async def test_health_alerts_once_per_crossing() -> None:
    limits = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0)
    paper = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0))
    async with world(opening=100, paper=paper, limits=limits, health_warning=50, health_critical=20) as w:
        w.tamper("SOL-PERP", base_1e9=-2 * SOL, quote=Decimal(300), entry_quote=Decimal(300))
        # Collateral 100 + 2 * (150 - p) against 3 % of 2 p.
        seen = []
        for price in ("150", "180", "191", "190", "193", "150", "192", "150"):
            await w.to_price(price)
            levels = [a.level for a in w.snapshot().alerts if a.id.startswith("health")]
            seen.append((w.core.standing().summary.health, w.kinds().count("health_alert"), levels))  # type: ignore[union-attr]
        assert [health for health, _, _ in seen] == [91, 73, 36, 43, 17, 91, 28, 91]
        assert [count for _, count, _ in seen] == [0, 0, 1, 1, 2, 2, 3, 3]
        shown = [levels for _, _, levels in seen]
        assert shown == [[], [], ["WARNING"], ["WARNING"], ["CRITICAL"], [], ["WARNING"], []]
        (critical,) = [e for e in w.events if e.level == "CRITICAL"]
        assert "liquidation at 19" in critical.message


# Liquidation


async def test_after_a_liquidation_nothing_is_taken_by_itself() -> None:
    paper = PaperSettings(costs=FREE, base_borrow_apr_pct=Decimal(0), quote_borrow_apr_pct=Decimal(0))
    limits = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0)
    async with world(
        automation=True, hold=Stance.CARRY, opening=100, carry_size_1e9=2 * SOL, paper=paper, limits=limits
    ) as w:
        assert w.legs == (2.0, -2.0)
        await w.to_price("700")
        assert w.account.liquidations == 1
        assert w.account.perp_1e9 == 0
        assert [e.level for e in w.events if e.kind == "liquidated"] == [Level.CRITICAL]
        assert w.state == "HALTED"
        assert w.account.quote >= 0  # deposits were sold for the debt
        spot = w.account.spot_1e9
        for _ in range(3):
            await w.record("0")
        assert (w.account.spot_1e9, w.account.perp_1e9) == (spot, 0)
        await w.check()
        await w.restart()
        assert w.state == "HALTED"
        assert w.kinds().count("liquidated") == 1
        # What is left can be closed by hand.
        assert (await w.leave()).status is DONE
        assert w.legs == (0.0, 0.0)
        await w.check()


# The ledger (R10.4)


async def test_a_gap_between_ledger_and_exchange_is_reported_with_its_amount() -> None:
    async with world() as w:
        await w.take(5)
        quote = w.venue._account.quote
        w.tamper(quote=quote - Decimal("1.5"))
        await w.to_price("150")
        (alert,) = [a for a in w.snapshot().alerts if a.id.startswith("ledger")]
        assert "-1.5" in alert.message
        assert w.snapshot().attribution.gap == pytest.approx(-1.5)
        w.tamper(quote=quote)
        await w.to_price("150")
        assert not w.snapshot().alerts
        assert abs(await w.gap()) < GAP_TOLERANCE


async def test_an_exchange_that_forgot_something_is_not_taken_for_healthy() -> None:
    async with world() as w:
        await w.take(5)
        w.tamper(sequence=w.venue._account.sequence - 1)
        await w.to_price("150")
        (alert,) = [a for a in w.snapshot().alerts if a.id.startswith("ledger")]
        assert "event" in alert.message


async def test_direction_of_the_books_is_told() -> None:
    async with world() as w:
        await w.take(5, Direction.REVERSE)
        await w.record(rate_of(100))
        snapshot = w.snapshot()
        perp = next(p for p in snapshot.positions if p.key == "SOL-PERP")
        assert perp.side == "long"
        assert perp.funding is not None
        assert perp.funding < 0
        assert snapshot.attribution.funding == perp.funding
        assert next(p for p in snapshot.positions if p.key == "SOL").side == "borrow"
        assert (await w.give(leave())).status is ResultStatus.NEEDS_CONFIRMATION
        await w.give(Kill())
        await w.check()
