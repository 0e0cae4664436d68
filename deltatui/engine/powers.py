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
from deltatui.domain.principal import Power, Principal
from deltatui.engine.settings import LIVE_MODES, EngineSettings

_NEEDS: dict[type[Command], Power] = {
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


def power_of(settings: EngineSettings) -> Power:
    return settings.live_mode if settings.mode == "live" else "auto"


def may_automate(settings: EngineSettings) -> bool:
    return power_of(settings) == "auto"


def needed_by(command: type[Command]) -> Power:
    """The least power for some form of ``command``."""
    return _NEEDS[command]


def needed_power(command: Command) -> Power:
    if isinstance(command, Kill) and command.flatten:
        return "trade"
    if isinstance(command, SetAutomation) and command.on:
        return "auto"
    return needed_by(type(command))


def power_refusal(settings: EngineSettings, needed: Power, what: str) -> str:
    """Why the live mode does not allow ``what``; empty where it does."""
    power = power_of(settings)
    if LIVE_MODES.index(power) >= LIVE_MODES.index(needed):
        return ""
    return f"live mode {power} does not allow {what}; it needs live_mode {needed}"


def check_power(settings: EngineSettings, command: Command, principal: Principal) -> None:
    """Raise ValidationError where the live mode does not allow ``command``, or its giver may not give it."""
    what = "kill with flatten" if isinstance(command, Kill) else type(command).__name__.lower()
    if why := power_refusal(settings, needed_power(command), what):
        raise ValidationError("NO_POWER", why)
    if LIVE_MODES.index(principal.power) < LIVE_MODES.index(needed_power(command)):
        raise ValidationError(
            "NO_POWER", f"{principal.name} may {principal.power} and not more; {what} needs {needed_power(command)}"
        )
