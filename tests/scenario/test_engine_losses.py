"""Loss limits, liquidation and standing alerts: what stops the engine, what it goes on doing, and when it may go on."""

from __future__ import annotations

from decimal import Decimal

import pytest
from engine_harness import FREE, SOL, USD, deposit, held, rebalance, take, withdraw, world

from deltatui.domain.carry import Stance
from deltatui.domain.command import ForgetLosses, Kill, Pause, ResultStatus, Resume
from deltatui.domain.facts import Prices
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.domain.ledger import FlowKind
from deltatui.venues.paper.settings import PaperSettings

DONE = ResultStatus.DONE
CALM = PaperSettings(costs=FREE, quote_borrow_apr_pct=Decimal(0), base_borrow_apr_pct=Decimal(0))
LOOSE = GateLimits(max_leverage=10, min_health_after=0, min_liq_distance_pct=0)
HUNDRED = LossLimits(daily_loss=Decimal(100))


# Losses


async def test_reducing_goes_on_leaving_when_its_own_decision_says_so() -> None:
    async with world(automation=True, losses=LossLimits(daily_loss=Decimal(1))) as w:
        assert held(w) is Stance.CARRY
        await w.records(480, -60)
        assert w.state == "REDUCING"
        assert w.legs == (0, 0)
        taken = [kind for kind, _ in await w.outcomes() if kind == "TAKE"]
        assert len(taken) == 1  # REVERSE would pay, and is new risk
        await w.check()


async def test_reducing_corrects_only_downwards() -> None:
    async with world(automation=True, losses=HUNDRED, paper=CALM) as w:
        await w.to_price("150", mark="171")
        assert w.state == "REDUCING"
        await w.venue.fill_from_elsewhere("SOL", SOL, w.price)
        await w.to_price("150", mark="171")
        assert w.legs == (6, -5)
        await w.venue.fill_from_elsewhere("SOL", -2 * SOL, w.price)
        await w.to_price("150", mark="171")
        assert w.legs == (4, -4)


async def test_a_pause_and_a_resume_forget_no_loss() -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        assert (await w.take(5)).status is DONE
        await w.to_price("150", mark="162")
        assert w.state == "RUNNING"
        await w.give(Pause())
        assert (await w.give(Resume())).status is DONE
        await w.to_price("150", mark="174")
        assert w.state == "REDUCING"
        refused = await w.give(Resume())
        assert (refused.status, refused.code) == (ResultStatus.REJECTED, "LOSS_LIMIT")
        assert "lost $120.00 today, limit $100.00" in refused.message
        assert "lifts at 2023-11-16 00:00 UTC" in refused.message
        assert w.state == "REDUCING"


@pytest.mark.parametrize("stop", [Pause(), Kill()])
async def test_losses_are_watched_in_every_state(stop: Pause | Kill) -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        await w.take(5)
        await w.give(stop)
        await w.to_price("150", mark="174")
        assert w.state == ("REDUCING" if isinstance(stop, Pause) else "HALTED")
        result = await w.resume()
        if isinstance(stop, Kill):
            # Back from HALTED it may reduce, and take no risk.
            assert result.code == "REDUCING"
            assert w.state == "REDUCING"
        assert (await w.give(take(1))).code == "NOT_ACCEPTED"


async def test_a_limit_lifts_with_the_day_and_then_a_resume_counts() -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        await w.take(5)
        await w.to_price("150", mark="174")
        assert w.state == "REDUCING"
        await w.to_price("150", mark="174", after_s=86_400)
        assert w.state == "REDUCING"  # nobody resumes by himself
        assert (await w.give(Resume())).status is DONE
        assert w.state == "RUNNING"


async def test_a_loss_that_grows_is_told_with_its_present_figure_everywhere() -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        await w.take(5)
        await w.to_price("150", mark="174")
        await w.to_price("150", mark="180")
        assert "lost $150.00" in w.core.state_reason
        (alert,) = w.snapshot().alerts
        assert alert.message == w.core.state_reason
        assert w.kinds().count("reducing") == 1  # and nobody is called again


async def test_a_drawdown_is_not_forgotten_by_a_resume() -> None:
    async with world(losses=LossLimits(drawdown_pct=Decimal(2)), paper=CALM) as w:
        await w.take(5)
        await w.to_price("150", mark="165")
        assert w.state == "REDUCING"
        refused = await w.give(Resume())
        assert "below its peak" in refused.message
        assert "equity is above $2,940.00" in refused.message
        await w.to_price("150", mark="161")
        assert (await w.give(Resume())).status is DONE
        await w.to_price("150", mark="165")
        assert w.state == "REDUCING"


async def test_forgetting_is_a_command_with_a_question() -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        await w.take(5)
        await w.to_price("150", mark="174")
        asked = await w.give(ForgetLosses())
        assert asked.status is ResultStatus.NEEDS_CONFIRMATION
        view = w.snapshot().confirmation
        assert view is not None
        assert view.kind == "FORGET_LOSSES"
        assert "lost $120.00 today" in view.question
        assert (await w.give(Resume())).code == "LOSS_LIMIT"
        assert (await w.confirm(asked)).code == "FORGOTTEN"
        assert w.state == "REDUCING"
        assert (await w.give(Resume())).status is DONE
        await w.restart()
        await w.to_price("150", mark="174")
        assert w.state == "RUNNING"
        assert "losses_forgotten" in w.kinds()


async def test_without_limits_there_is_nothing_to_forget() -> None:
    async with world() as w:
        action = next(a for a in w.snapshot().actions if a.action == "FORGET_LOSSES")
        assert (action.enabled, action.reason) == (False, "there is no loss limit")
        assert (await w.give(ForgetLosses())).code == "NO_LIMIT"


# Liquidation


async def test_a_liquidation_pays_debts_with_deposits_and_halts() -> None:
    """Before, the debt stayed with the SOL until equity was -18,366."""
    async with world(limits=LOOSE) as w:
        assert (await w.take(30)).status is DONE
        await w.to_price("800")
        assert w.state == "HALTED"
        assert "liquidated" in w.core.state_reason
        assert w.account.perp_1e9 == 0
        assert w.account.quote >= 0
        assert w.account.spot_1e9 > 0
        await w.to_price("100")
        assert w.account.equity > 0
        assert w.account.liquidations == 1
        await w.check()


async def test_a_borrow_is_liquidated_like_a_position() -> None:
    async with world(limits=LOOSE, paper=CALM) as w:
        await w.give(Pause())
        w.tamper(quote=Decimal(2000), spots={"SOL": Decimal(-10)}, accrued_s=1)
        await w.venue.take(Prices("SOL-PERP", "test", w.clock.market_s() + 60, Decimal(190), Decimal(190)))
        assert w.account.spot_1e9 == 0
        assert w.account.liquidations == 1


async def test_what_stays_negative_is_written_off_by_its_own_kind() -> None:
    """A gap in the price takes more than there is."""
    async with world(limits=LOOSE, paper=CALM, opening=1000) as w:
        w.venue._settings = CALM
        assert (await w.take(5)).status is DONE
        await w.venue.fill_from_elsewhere("SOL-PERP", -10 * SOL, w.price)
        await w.to_price("400")
        assert w.state == "HALTED"
        assert w.account.equity == 0
        totals = w.core.accountant.books.totals
        assert totals[FlowKind.WRITE_OFF] > 0
        attribution = w.snapshot().attribution
        assert attribution.write_offs == float(totals[FlowKind.WRITE_OFF])
        await w.check()


# Halted, and still able to get out


async def test_halted_takes_deposits_and_what_reduces() -> None:
    async with world(paper=CALM) as w:
        await w.take(5)
        await w.venue.fill_from_elsewhere("SOL", -1 * SOL, w.price)
        await w.engine.step()
        await w.give(Kill())
        assert (await w.sure(deposit(500 * USD))).status is DONE
        assert (await w.sure(rebalance())).status is DONE
        assert w.legs == (4, -4)
        assert (await w.sure(withdraw(10 * USD))).code == "NOT_ACCEPTED"
        await w.venue.fill_from_elsewhere("SOL", 2 * SOL, w.price)
        await w.engine.step()
        assert (await w.sure(rebalance())).code == "NOT_ACCEPTED"  # it would widen the short
        assert (await w.leave()).status is DONE
        await w.check()


# Alerts


async def test_a_standing_alert_says_what_is_so_now() -> None:
    async with world(limits=LOOSE, paper=CALM) as w:
        assert (await w.take(30)).status is DONE
        for price in ("600", "700", "720", "735"):
            await w.to_price(price)
            (alert,) = w.snapshot().alerts
            summary = w.core.standing()
            assert summary is not None
            assert f"health {summary.summary.health}" in alert.message
        assert w.kinds().count("health_alert") == 2  # nobody is called for a figure


async def test_what_is_forgotten_is_not_alerted_any_more() -> None:
    async with world(losses=HUNDRED, paper=CALM) as w:
        await w.take(5)
        await w.to_price("150", mark="174")
        await w.sure(ForgetLosses())
        (alert,) = w.snapshot().alerts
        assert (alert.level, alert.message) == ("WARNING", "the losses are forgotten; resume to take risk again")
        assert w.snapshot().engine.state_reason == alert.message
