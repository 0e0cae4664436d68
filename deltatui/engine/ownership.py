"""Who holds what after a trade, and how much of the operator's own stands under a hedge (R5.1, R5.7)."""

from __future__ import annotations

from deltatui.domain.carry import Stance, holding
from deltatui.domain.operation import Operation, OperationKind
from deltatui.engine.hedge import Hedge
from deltatui.engine.legs import Carried
from deltatui.engine.planner import stance_of
from deltatui.engine.world import Facts


def after_fills(hedge: Hedge, operation: Operation, carried: Carried, market_s: float) -> None:
    """Who holds it, since when, what it covers, and the cooldown, from what was filled. For an operation that landed
    and is booked."""
    facts = hedge.known_facts()
    held = stance_of(facts.perp.base_1e9)
    hedge.remember(carry=holding(hedge.memory.carry, held))
    if held == Stance.FLAT:
        hedge.remember(held_since_s=None, pledged_1e9=0)
        if operation.kind == OperationKind.LEAVE and hedge.target not in (None, Stance.FLAT):
            # The decision was about what is not held any more.
            hedge.aside("it was left; the next funding record decides anew")
    elif hedge.memory.held_since_s is None:
        hedge.remember(held_since_s=market_s)
    moved = bool(carried.fills.get(hedge.symbol, 0))
    if moved and all(leg.reduce_only for leg in operation.legs):
        # What a close or a correction has reduced in part, automation does not widen again.
        hedge.remember(pledged_1e9=min(hedge.memory.pledged_1e9, _own_under_short_1e9(hedge, facts)))
    if operation.kind == OperationKind.REBALANCE:
        _after_rebalance(hedge, operation, carried, facts, market_s)
    elif operation.kind == OperationKind.LEAVE or (operation.kind == OperationKind.TAKE and moved):
        # What the operator did by hand, automation leaves alone until it is told otherwise.
        by_itself = "nobody" if held == Stance.FLAT else "engine"
        hedge.remember(held_by=by_itself if operation.source == "engine" else "operator")
        if operation.kind == OperationKind.TAKE and len(operation.legs) == 1:
            covered = abs(carried.fills.get(hedge.symbol, 0))
            hedge.remember(pledged_1e9=hedge.memory.pledged_1e9 + covered)


def _after_rebalance(hedge: Hedge, operation: Operation, carried: Carried, facts: Facts, market_s: float) -> None:
    if carried.complete:  # a part stamps no cooldown (R4.9)
        hedge.remember(last_rebalance_s=market_s)
    if operation.source == "engine" or not facts.perp.base_1e9:
        return
    # By hand all of the base asset was made neutral: the hedge covers what it takes of the operator's own.
    own = hedge.own_1e9 + facts.spot.wallet_1e9
    hedge.remember(pledged_1e9=min(_own_under_short_1e9(hedge, facts), own))
    if hedge.memory.held_by == "nobody":
        hedge.remember(held_by="operator")


def _own_under_short_1e9(hedge: Hedge, facts: Facts) -> int:
    """How much of the short is not hedged by spot that was bought for it."""
    return max(0, -facts.perp.base_1e9 - (facts.spot.base_1e9 - hedge.own_1e9))
