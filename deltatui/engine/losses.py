"""The loss limits over the engine's books (R6.10): they are watched in every state."""

from __future__ import annotations

from deltatui.domain.event import Level
from deltatui.domain.health import LossState, LossStop, watch_losses
from deltatui.engine.core import Core
from deltatui.engine.states import EngineState
from deltatui.ports import AccountReport


def loss_stop(core: Core) -> LossStop | None:
    """The limit that stands now; changes nothing."""
    return _looked_at(core, None)[1]


def watch(core: Core, account: AccountReport | None = None) -> LossStop | None:
    """Count ``account`` (None: as the venue tells it now) in, and say which limit stands. One that stands keeps the
    engine from new risk, now and after a resume or a restart."""
    losses, stop = _looked_at(core, account)
    if losses != core.memory.losses:
        core.set_memory(losses=losses)
    if stop is None:
        return None
    reason = f"loss limit: {stop.reason}"
    if not core.memory.reducing:
        core.reduce(reason)
        return stop
    core.board.restate("reducing", Level.ERROR, reason)
    if core.state == EngineState.REDUCING:
        core.state_reason = reason
    return stop


def _looked_at(core: Core, account: AccountReport | None) -> tuple[LossState, LossStop | None]:
    """Nothing is looked at unless the books agree: a deposit that one knows and the other does not would read as a gain
    or a loss."""
    account = core.world.account() if account is None else account
    if account is None or not core.accountant.opened or not core.books_agree(account):
        return core.memory.losses, None
    return watch_losses(
        core.memory.losses, core.settings.losses, account.equity, core.accountant.transfers, account.as_of_s
    )
