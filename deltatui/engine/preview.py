"""What a command would do now, for the operator's eyes: the one place behind previews and confirmations."""

from __future__ import annotations

from deltatui.domain.carry import estimate
from deltatui.domain.command import ForgetLosses
from deltatui.domain.delta import Exposure, plan_rebalance
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import allowed
from deltatui.domain.operation import OperationKind
from deltatui.domain.snapshot import ConfirmationView, LegView, PlanView
from deltatui.domain.units import BASE_PRECISION
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.losses import loss_stop
from deltatui.engine.memory import Pending, PlannedCommand
from deltatui.engine.planner import Plan, loss_if_forced
from deltatui.engine.powers import may_automate
from deltatui.engine.standing import Standing, standing


def preview(core: Core, desk: Desk, command: PlannedCommand) -> PlanView:
    """See :meth:`deltatui.engine.engine.Engine.preview`."""
    plan = desk.proposal(command)
    return plan_view(core, desk, plan, standing(core.known_book(), core.spec))


def plan_view(core: Core, desk: Desk, plan: Plan, before: Standing | None) -> PlanView:
    """``plan``, made from the present facts, judged by every gate. ``before`` None: the account cannot be judged."""
    verdicts = desk.assess.judge(plan)
    after, exposure, hedge = plan.after, core.exposure(), core.hedge_exposure()
    cost = core.round_trip(plan.legs[0].base_1e9 if plan.legs else None, spot_leg=plan.spot_leg)
    takes = plan.kind == OperationKind.TAKE
    carry = estimate(plan.stance, core.window, cost, core.settings.carry) if takes else None
    can_force = desk.assess.can_force(plan, verdicts)
    loss = loss_if_forced(plan, carry, cost.total, core.settings.carry.horizon_h) if can_force else None
    hedge_after = _hedge_after(core, plan)
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
        round_trip=cost.total * float(plan.notional) if plan.legs else 0.0,
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
        asset="" if plan.transfer is None or plan.legs else plan.transfer.asset,
        legs=tuple(LegView(leg.market, leg.base_1e9 / BASE_PRECISION, leg.limit_price_1e6 / 1e6) for leg in plan.legs),
        hedge_delta_before_pct=None if hedge is None else hedge.drift_pct,
        hedge_delta_after_pct=None if hedge_after is None else hedge_after.drift_pct,
        then=_then(core, plan, hedge_after),
    )


def confirmation_view(core: Core, desk: Desk, pending: Pending, before: Standing | None) -> ConfirmationView | None:
    """What waits, computed anew; None where it could not be done any more."""
    command, question = pending.command, ""
    try:
        if isinstance(command, ForgetLosses):
            view, question = _nothing(core, before), _losses(core)
        else:
            view = plan_view(core, desk, desk.assess.plan(command), before)
    except ValidationError:
        return None
    return ConfirmationView(
        **{name: getattr(view, name) for name in PlanView.__struct_fields__},
        question=question,
        operation_id=pending.operation_id,
        source=command.source,
        created_operator_s=pending.created_s,
        expires_operator_s=pending.expires_s,
    )


def _losses(core: Core) -> str:
    stop = loss_stop(core)
    limit = "no loss limit stands now" if stop is None else f"{stop.reason}; {stop.lifts}"
    return f"forget the day's loss and the peak, and count both from the present equity? {limit}"


def _nothing(core: Core, now: Standing | None) -> PlanView:
    """The view of a question that moves nothing."""
    leverage = None if now is None else now.leverage
    health = None if now is None else now.summary.health
    liquidation = None if now is None else now.liq_price
    exposure = core.exposure()
    drift = None if exposure is None else exposure.drift_pct
    return PlanView(
        kind="FORGET_LOSSES",
        market=core.spec.symbol,
        side="",
        size=0.0,
        notional=0.0,
        price=0.0,
        limit_price=0.0,
        fees=0.0,
        slippage=0.0,
        round_trip=0.0,
        break_even_h=None,
        carry_sentence="",
        leverage_before=leverage,
        leverage_after=leverage,
        health_before=health,
        health_after=health,
        liq_price_before=liquidation,
        liq_price_after=liquidation,
        delta_before_pct=drift,
        delta_after_pct=drift,
        verdicts=(),
        allowed=True,
        can_force=False,
        loss_if_forced=None,
    )


def _base_moved_1e9(core: Core, plan: Plan) -> int:
    """SOL that comes in from the wallet (positive) or goes out."""
    transfer = plan.transfer
    return transfer.amount if transfer is not None and transfer.asset == core.spec.base_symbol else 0


def _drift_after(core: Core, plan: Plan) -> float | None:
    facts = core.facts()
    if facts is None:
        return None
    spot = plan.spot_after_1e9 + facts.account.wallet_base_1e9 - _base_moved_1e9(core, plan)
    return Exposure(spot, plan.perp_after_1e9, plan.spec.step_base_1e9).drift_pct


def _hedge_after(core: Core, plan: Plan) -> Exposure | None:
    """The hedge as it would be: a withdrawal takes what was paid in first, a take may cover it."""
    facts = core.facts()
    if facts is None:
        return None
    moved = _base_moved_1e9(core, plan)
    own = max(0, core.accountant.paid_in_1e9 + moved)
    covered = abs(plan.legs[0].base_1e9) if plan.legs and not plan.spot_leg else 0
    pledged = min(core.flags.pledged_1e9 + covered, own + facts.account.wallet_base_1e9 - moved)
    pledged = min(pledged, max(0, -plan.perp_after_1e9))
    spot = plan.spot_after_1e9 + plan.rest_1e9 - own + pledged
    return Exposure(spot, plan.perp_after_1e9, plan.spec.step_base_1e9)


def _then(core: Core, plan: Plan, hedge: Exposure | None) -> str:
    """What automation does after a transfer that leaves the hedge uneven; empty where there is nothing to do."""
    if plan.transfer is None or plan.legs or hedge is None or not hedge.perp_1e9:
        return ""
    settings = core.settings
    wanted = plan_rebalance(hedge, settings.rebalance, cooldown_remaining_s=core.cooldown_remaining_s())
    if wanted.code not in ("correct", "cooldown"):
        return ""
    word = wanted.correction.value.replace("_", " ")
    text = f"{word} by {abs(hedge.net_1e9) / BASE_PRECISION:.10g} {core.spec.base_symbol}"
    if not core.flags.automation or not may_automate(settings):
        return f"automation is off: nobody will {text}"
    return f"automation will {text}" + (" after the cooldown" if wanted.code == "cooldown" else "")
