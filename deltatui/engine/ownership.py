"""Who holds what after a trade, and how much SOL of the operator's own stands under a hedge (R5.1, R5.7)."""

from __future__ import annotations

from deltatui.domain.carry import Stance, holding
from deltatui.domain.operation import Operation, OperationKind
from deltatui.engine.core import Core
from deltatui.engine.legs import Carried
from deltatui.engine.planner import stance_of
from deltatui.ports import AccountState


def after_fills(core: Core, operation: Operation, carried: Carried) -> None:
    """Who holds it, since when, what it covers, and the cooldown, from what was filled. For an operation that landed
    and is booked."""
    account = core.known_facts().account
    held = stance_of(account.perp_1e9)
    core.carry_state = holding(core.carry_state, held)
    if held == Stance.FLAT:
        core.set_flags(held_since_s=None, pledged_1e9=0)
    elif core.flags.held_since_s is None:
        core.set_flags(held_since_s=core.clock.market_s())
    moved = bool(carried.fills.get(core.spec.symbol, 0))
    if moved and all(leg.reduce_only for leg in operation.legs):
        # What a close or a correction has reduced in part, automation does not widen again.
        core.set_flags(pledged_1e9=min(core.flags.pledged_1e9, _own_under_short_1e9(core, account)))
    if operation.kind == OperationKind.REBALANCE:
        _after_rebalance(core, operation, carried, account)
    elif operation.kind == OperationKind.LEAVE or (operation.kind == OperationKind.TAKE and moved):
        # What the operator did by hand, automation leaves alone until it is told otherwise.
        by_itself = "nobody" if held == Stance.FLAT else "engine"
        core.set_flags(held_by=by_itself if operation.source == "engine" else "operator")
        if operation.kind == OperationKind.TAKE and len(operation.legs) == 1:
            covered = abs(carried.fills.get(core.spec.symbol, 0))
            core.set_flags(pledged_1e9=core.flags.pledged_1e9 + covered)


def _after_rebalance(core: Core, operation: Operation, carried: Carried, account: AccountState) -> None:
    if carried.complete:  # a part stamps no cooldown (R4.9)
        core.set_flags(last_rebalance_s=core.clock.market_s())
    if operation.source == "engine" or not account.perp_1e9:
        return
    # By hand the whole account was made neutral: the hedge covers what it takes of the operator's own SOL.
    own = core.accountant.paid_in_1e9 + account.wallet_base_1e9
    core.set_flags(pledged_1e9=min(_own_under_short_1e9(core, account), own))
    if core.flags.held_by == "nobody":
        core.set_flags(held_by="operator")


def _own_under_short_1e9(core: Core, account: AccountState) -> int:
    """How much of the short is not hedged by SOL that was bought for it."""
    bought = account.spot_1e9 - core.accountant.paid_in_1e9
    return max(0, -account.perp_1e9 - bought)
