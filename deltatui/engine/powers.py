"""What each live mode may do (R2.1). Paper and replay move nothing real and have every power."""

from __future__ import annotations

from deltatui.domain.command import (
    Cancel,
    Command,
    Confirm,
    Deposit,
    ForgetLosses,
    Kill,
    Leave,
    Pause,
    Rebalance,
    Resume,
    SetAutomation,
    SetSpeed,
    Settle,
    Stop,
    Take,
    Withdraw,
)
from deltatui.domain.errors import ValidationError
from deltatui.engine.settings import LIVE_MODES, EngineSettings, LiveMode

_NEEDS: dict[type[Command], LiveMode] = {
    Pause: "watch",
    Resume: "watch",
    Cancel: "watch",
    Confirm: "watch",  # what it confirms is looked at again
    Stop: "watch",
    SetSpeed: "watch",
    Kill: "watch",
    SetAutomation: "watch",
    Deposit: "manage",
    Withdraw: "manage",
    Settle: "manage",
    Take: "trade",
    Leave: "trade",
    Rebalance: "trade",
    ForgetLosses: "trade",
}


def power_of(settings: EngineSettings) -> LiveMode:
    return settings.live_mode if settings.mode == "live" else "auto"


def may_automate(settings: EngineSettings) -> bool:
    return power_of(settings) == "auto"


def needed_by(command: type[Command]) -> LiveMode:
    """The least power for some form of ``command``."""
    return _NEEDS[command]


def needed_power(command: Command) -> LiveMode:
    if isinstance(command, Kill) and command.flatten:
        return "trade"
    if isinstance(command, SetAutomation) and command.on:
        return "auto"
    return needed_by(type(command))


def power_refusal(settings: EngineSettings, needed: LiveMode, what: str) -> str:
    """Why the live mode does not allow ``what``; empty where it does."""
    power = power_of(settings)
    if LIVE_MODES.index(power) >= LIVE_MODES.index(needed):
        return ""
    return f"live mode {power} does not allow {what}; it needs live_mode {needed}"


def check_power(settings: EngineSettings, command: Command) -> None:
    """Raise ValidationError where the live mode does not allow ``command``."""
    what = "kill with flatten" if isinstance(command, Kill) else type(command).__name__.lower()
    if why := power_refusal(settings, needed_power(command), what):
        raise ValidationError("NO_POWER", why)
