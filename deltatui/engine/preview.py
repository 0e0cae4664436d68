"""What a trade would do now, for the operator's eyes: the one function behind previews and confirmations."""

from __future__ import annotations

from deltatui.domain.carry import estimate
from deltatui.domain.costs import round_trip
from deltatui.domain.gates import allowed
from deltatui.domain.snapshot import PlanView
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.memory import TradeCommand
from deltatui.engine.planner import Plan, Standing, loss_if_forced, standing


def preview(core: Core, desk: Desk, command: TradeCommand) -> PlanView:
    """See :meth:`deltatui.engine.engine.Engine.preview`."""
    plan = desk.proposal(command)
    return plan_view(core, desk, plan, standing(core.known_book(), core.spec))


def plan_view(core: Core, desk: Desk, plan: Plan, before: Standing | None) -> PlanView:
    """``plan``, made from the present facts, judged by every gate. ``before`` None: the account cannot be judged."""
    verdicts = desk.judge(plan)
    after = plan.after
    cost = round_trip(core.venue.costs(), plan.size)
    carry = estimate(plan.stance, core.window, cost, core.settings.carry)
    can_force = desk.can_force(verdicts)
    exposure = core.exposure()
    loss = loss_if_forced(plan, carry, cost.total, core.settings.carry.horizon_h) if can_force else None
    return PlanView(
        kind=plan.kind,
        market=plan.spec.symbol,
        side=plan.side,
        size=float(plan.size),
        notional=float(plan.notional),
        price=float(plan.price),
        limit_price=float(plan.limit_price),
        fees=float(plan.fees),
        slippage=float(plan.slippage),
        round_trip=cost.total * float(plan.notional),
        break_even_h=None if carry is None else carry.break_even_h,
        carry_sentence="" if carry is None else carry.reason,
        leverage_before=None if before is None else before.leverage,
        leverage_after=after.leverage,
        health_before=None if before is None else before.summary.health,
        health_after=after.summary.health,
        liq_price_before=None if before is None else before.liq_price,
        liq_price_after=after.liq_price,
        delta_before_pct=None if exposure is None else exposure.drift_pct,
        delta_after_pct=_drift_after(core, plan),
        verdicts=verdicts,
        allowed=allowed(verdicts),
        can_force=can_force,
        loss_if_forced=loss,
    )


def _drift_after(core: Core, plan: Plan) -> float | None:
    facts = core.facts()
    if facts is None:
        return None
    spot = plan.spot_after_1e9 + facts.account.wallet_base_1e9
    perp = plan.perp_after_1e9
    return (spot + perp) / max(abs(spot), abs(perp), plan.spec.step_base_1e9) * 100.0
