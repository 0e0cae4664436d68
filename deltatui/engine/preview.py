"""What a command would do now, for the operator's eyes: the one place behind previews and confirmations."""

from __future__ import annotations

from deltatui.domain.carry import estimate
from deltatui.domain.command import ForgetLosses, Resume
from deltatui.domain.delta import Exposure, plan_rebalance
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import allowed
from deltatui.domain.operation import OperationKind
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import ConfirmationView, LegView, PlanView
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.hedge import Hedge
from deltatui.engine.losses import loss_stop
from deltatui.engine.memory import Pending, PlannedCommand
from deltatui.engine.planner import Plan, loss_if_forced
from deltatui.engine.powers import may_automate
from deltatui.engine.standing import Standing


def preview(core: Core, desk: Desk, command: PlannedCommand, principal: Principal) -> PlanView:
    """See :meth:`deltatui.engine.engine.Engine.preview`."""
    plan = desk.proposal(command, principal)
    return plan_view(core, desk, plan, desk.assess.verdicts(command, plan), core.stand(core.known_book()))


def plan_view(core: Core, desk: Desk, plan: Plan, verdicts: tuple[Verdict, ...], before: Standing | None) -> PlanView:
    """``plan``, made from the present facts, with what the gates say of it. ``before`` None: the account cannot be
    judged."""
    hedge, after = core.hedges.get(plan.market), plan.after
    exposure = None if hedge is None else hedge.exposure()
    hedged = None if hedge is None else hedge.hedge_exposure()
    hedge_after = None if hedge is None else _hedge_after(hedge, plan)
    carry, round_trip = None, 0.0
    loss, can_force = None, desk.assess.can_force(plan, verdicts)
    if hedge is not None and plan.legs:
        cost = hedge.round_trip(plan.legs[0].base_1e9, spot_leg=plan.spot_leg)
        round_trip = cost.total * float(plan.notional)
        if plan.kind == OperationKind.TAKE:
            carry = estimate(plan.stance, hedge.window, cost, hedge.settings.carry)
        if can_force:
            loss = loss_if_forced(plan, carry, cost.total, hedge.settings.carry.horizon_h)
    return PlanView(
        kind=plan.kind,
        market=plan.market,
        side=plan.side,
        size=float(plan.size),
        notional=float(plan.notional),
        price=float(plan.price),
        limit_price=float(plan.limit_price),
        fees=float(plan.fees),
        slippage=float(plan.slippage),
        round_trip=round_trip,
        break_even_h=None if carry is None else carry.break_even_h,
        carry_sentence="" if carry is None else carry.reason,
        leverage_before=None if before is None else before.leverage,
        leverage_after=after.leverage,
        health_before=None if before is None else before.summary.health,
        health_after=after.summary.health,
        liq_price_before=None if before is None else _liquidation(before, plan.market),
        liq_price_after=_liquidation(after, plan.market),
        delta_before_pct=None if exposure is None else exposure.drift_pct,
        delta_after_pct=None if hedge is None else _drift_after(hedge, plan),
        verdicts=verdicts,
        allowed=allowed(verdicts),
        can_force=can_force,
        loss_if_forced=loss,
        asset="" if plan.transfer is None or plan.legs else plan.transfer.asset,
        legs=tuple(LegView(leg.market, leg.base_1e9 / BASE_PRECISION, leg.limit_price_1e6 / 1e6) for leg in plan.legs),
        hedge_delta_before_pct=None if hedged is None else hedged.drift_pct,
        hedge_delta_after_pct=None if hedge_after is None else hedge_after.drift_pct,
        then="" if hedge is None or hedge_after is None else _then(core, hedge, plan, hedge_after),
    )


def _liquidation(standing: Standing, market: str) -> float | None:
    """Of the market that is acted on; of a transfer of the quote asset, of the market that would be first."""
    found = standing.liquidation(market) if market else standing.nearest
    return None if found is None else found.price


def confirmation_view(core: Core, desk: Desk, pending: Pending, before: Standing | None) -> ConfirmationView | None:
    """What waits, computed anew; None where it could not be done any more."""
    command, question = pending.command, ""
    try:
        if isinstance(command, ForgetLosses | Resume):
            view, question = _nothing(command, before), _question(core, command)
        else:
            plan = desk.assess.plan(command)
            view = plan_view(core, desk, plan, desk.assess.verdicts(command, plan), before)
    except ValidationError:
        return None
    return ConfirmationView(
        **{name: getattr(view, name) for name in PlanView.__struct_fields__},
        question=question,
        operation_id=pending.operation_id,
        source=pending.principal.source,
        created_operator_s=pending.created_s,
        expires_operator_s=pending.expires_s,
    )


def _question(core: Core, command: ForgetLosses | Resume) -> str:
    if isinstance(command, Resume):
        return f"resume? the engine was halted: {core.memory.halted}"
    stop = loss_stop(core)
    limit = "no loss limit stands now" if stop is None else f"{stop.reason}; {stop.lifts}"
    return f"forget the day's loss and the peak, and count both from the present equity? {limit}"


def _nothing(command: ForgetLosses | Resume, now: Standing | None) -> PlanView:
    """The view of a question that moves nothing."""
    leverage = None if now is None else now.leverage
    health = None if now is None else now.summary.health
    nearest = None if now is None else now.nearest
    liquidation = None if nearest is None else nearest.price
    return PlanView(
        kind=str(command.__struct_config__.tag),
        market="",
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
        delta_before_pct=None,
        delta_after_pct=None,
        verdicts=(),
        allowed=True,
        can_force=False,
        loss_if_forced=None,
    )


def _base_moved_1e9(hedge: Hedge, plan: Plan) -> int:
    """Base that comes in from the wallet (positive) or goes out."""
    transfer, spec = plan.transfer, hedge.spec
    return spec.base_1e9(transfer.amount) if transfer is not None and transfer.asset == spec.base_symbol else 0


def _drift_after(hedge: Hedge, plan: Plan) -> float | None:
    facts = hedge.facts()
    if facts is None:
        return None
    spot = plan.spot_after_1e9 + facts.spot.wallet_1e9 - _base_moved_1e9(hedge, plan)
    return Exposure(spot, plan.perp_after_1e9, hedge.spec.step_base_1e9).drift_pct


def _hedge_after(hedge: Hedge, plan: Plan) -> Exposure | None:
    """The hedge as it would be: a withdrawal takes what was paid in first, a take may cover it."""
    facts = hedge.facts()
    if facts is None:
        return None
    moved = _base_moved_1e9(hedge, plan)
    own = max(0, hedge.own_1e9 + moved)
    covered = abs(plan.legs[0].base_1e9) if plan.legs and not plan.spot_leg else 0
    pledged = min(hedge.memory.pledged_1e9 + covered, own + facts.spot.wallet_1e9 - moved)
    pledged = min(pledged, max(0, -plan.perp_after_1e9))
    spot = plan.spot_after_1e9 + plan.rest_1e9 - own + pledged
    return Exposure(spot, plan.perp_after_1e9, hedge.spec.step_base_1e9)


def _then(core: Core, hedge: Hedge, plan: Plan, after: Exposure) -> str:
    """What automation does after a transfer that leaves the hedge uneven; empty where there is nothing to do."""
    if plan.transfer is None or plan.legs or not after.perp_1e9:
        return ""
    wanted = plan_rebalance(after, hedge.settings.rebalance, cooldown_remaining_s=hedge.cooldown_remaining_s())
    if wanted.code not in ("correct", "cooldown"):
        return ""
    word = wanted.correction.value.replace("_", " ")
    text = f"{word} by {abs(after.net_1e9) / BASE_PRECISION:.10g} {hedge.spec.base_symbol}"
    if not core.memory.automation or not may_automate(core.settings):
        return f"automation is off: nobody will {text}"
    return f"automation will {text}" + (" after the cooldown" if wanted.code == "cooldown" else "")
