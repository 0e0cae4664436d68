"""Whether an action can be done now: a reason why not, or None.

An action is refused with a reason, never silently: the answer comes from what the engine itself says of the command
(``View.action``), from the link, and from the age of the data. What acts on a market is judged of the view's market.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltatui.tui import fmt
from deltatui.tui.store import MARKET_COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from deltatui.tui.store import View

    Enabled = Callable[[View, float], str | None]

SPEEDS = (1, 60, 600, 3600, 21_600, 86_400, 604_800)
"""Steps of the replay speed, market seconds per operator second."""


def always(view: View, now: float) -> str | None:
    return None


def connected(view: View, now: float) -> str | None:
    if not view.link.up:
        return "the engine is not connected"
    if view.link.read_only:
        return "this terminal is read-only"
    return None


def offered(name: str, *, fresh: bool = False) -> Enabled:
    """Enabled when the engine offers the command ``name``; with ``fresh`` only on data that are not stale."""

    def enabled(view: View, now: float) -> str | None:
        reason = connected(view, now)
        if reason is not None:
            return reason
        if view.snapshot is None:
            return "no data from the engine yet"
        if fresh and view.stale(now):
            return f"the data are {view.age_s(now) or 0:.0f} s old"
        if name in MARKET_COMMANDS and view.detail is None:
            return untold(view, name)
        said = view.action(name)
        if said is None:
            return "this engine does not offer it"
        return None if said.enabled else said.reason or "not possible now"

    return enabled


def untold(view: View, name: str) -> str | None:
    """While nothing is known of the market: what asks for an amount needs its limits, the others the engine judges
    itself."""
    if not view.market:
        return "this engine carries no market"
    return asking(view.market) if name in ("TAKE", "DEPOSIT", "WITHDRAW") else None


def asking(market: str) -> str:
    """Stands where something of ``market`` is not told yet."""
    return f"asking the engine about {fmt.safe_text(market, 20)}"


def pause_or_resume(view: View, now: float) -> str | None:
    reason = connected(view, now)
    if reason is not None or view.snapshot is None:
        return reason or "no data from the engine yet"
    said = view.action(pause_command(view))
    if said is None:
        return "this engine does not offer it"
    return None if said.enabled else said.reason or "not possible now"


def delegated(view: View, now: float) -> str | None:
    """Who may trade for the account is decided on the chain; where there is no chain, or no command, this says so."""
    if view.snapshot is None:
        return connected(view, now) or "no data from the engine yet"
    if view.snapshot.account.delegate:
        return None
    if view.snapshot.engine.mode != "live":
        return f"a delegate belongs to an account on the chain; {view.snapshot.engine.mode} has none"
    return "no delegate is set, and this engine has no command that sets one"


def pause_command(view: View) -> str:
    """PAUSE while the engine runs, RESUME in every state that Resume leads out of."""
    state = view.snapshot.engine.state if view.snapshot else ""
    return "RESUME" if state in ("PAUSED", "REDUCING", "HALTED") else "PAUSE"


def next_speed(speed: int, up: bool) -> int | None:
    """The neighbouring step of SPEEDS; None at the end of the scale."""
    steps = [step for step in SPEEDS if (step > speed if up else step < speed)]
    if not steps:
        return None
    return steps[0] if up else steps[-1]


def speed(*, up: bool) -> Enabled:
    def enabled(view: View, now: float) -> str | None:
        reason = connected(view, now)
        if reason is not None or view.snapshot is None:
            return reason or "no data from the engine yet"
        if view.snapshot.clock.tape is None:
            return "only a replay has a speed"
        said = view.action("SET_SPEED")
        if said is None:
            return "this engine does not offer it"
        if not said.enabled:
            return said.reason or "not possible now"
        if next_speed(view.snapshot.clock.speed, up) is None:
            return f"already the {'fastest' if up else 'slowest'} speed"
        return None

    return enabled
