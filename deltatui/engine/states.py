"""The engine's states: which follow which, and what each accepts."""

from __future__ import annotations

from enum import StrEnum

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
from deltatui.domain.errors import CriticalError


class EngineState(StrEnum):
    STARTING = "STARTING"
    RECONCILING = "RECONCILING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    RECOVERING = "RECOVERING"
    REDUCING = "REDUCING"
    HALTED = "HALTED"
    STOPPED = "STOPPED"


_S = EngineState
_ALWAYS = frozenset({_S.HALTED, _S.REDUCING, _S.STOPPED})

TRANSITIONS: dict[EngineState, frozenset[EngineState]] = {
    _S.STARTING: frozenset({_S.RECONCILING}) | _ALWAYS,
    # Reconciliation ends in the state that was kept for it: a kill or a pause outlives a restart.
    _S.RECONCILING: frozenset({_S.RUNNING, _S.PAUSED, _S.RECOVERING}) | _ALWAYS,
    _S.RUNNING: frozenset({_S.PAUSED, _S.RECOVERING}) | _ALWAYS,
    _S.PAUSED: frozenset({_S.RUNNING, _S.RECOVERING}) | _ALWAYS,
    _S.RECOVERING: frozenset({_S.RECONCILING}) | _ALWAYS,
    _S.REDUCING: frozenset({_S.RECONCILING, _S.RECOVERING, _S.HALTED, _S.STOPPED}),
    _S.HALTED: frozenset({_S.RECONCILING, _S.STOPPED}),
    _S.STOPPED: frozenset(),
}


def _set(*commands: type[Command]) -> frozenset[type[Command]]:
    return frozenset(commands)


_REDUCES = _set(Leave, Settle, Rebalance)
_CONTROL = _set(Confirm, Cancel, Kill, SetSpeed, SetAutomation, ForgetLosses, Stop)
_LAST_RESORT = _set(Cancel, Kill, Stop)

ACCEPTS: dict[EngineState, frozenset[type[Command]]] = {
    _S.STARTING: _LAST_RESORT,
    _S.RECONCILING: _LAST_RESORT,
    _S.RUNNING: _set(Take, Deposit, Withdraw, Pause) | _REDUCES | _CONTROL,
    _S.PAUSED: _set(Resume, Deposit) | _REDUCES | _CONTROL,
    _S.RECOVERING: _LAST_RESORT,
    _S.REDUCING: _set(Resume, Deposit) | _REDUCES | _CONTROL,
    # What is still open after a kill may be closed by hand, and saved from liquidation.
    _S.HALTED: _set(Resume, Deposit, Confirm, ForgetLosses) | _REDUCES | _LAST_RESORT,
    _S.STOPPED: _set(),
}

_WHY: dict[EngineState, str] = {
    _S.STARTING: "the engine is starting",
    _S.RECONCILING: "the engine is comparing its journal with the venue",
    _S.PAUSED: "the engine is paused; resume it first",
    _S.RECOVERING: "the connection is being recovered",
    _S.REDUCING: "only risk-reducing commands are accepted",
    _S.HALTED: "the engine is halted; resume it first",
    _S.STOPPED: "the engine has stopped",
    _S.RUNNING: "the engine is already running",
}


def check_transition(before: EngineState, after: EngineState) -> None:
    """Raise CriticalError unless the table allows ``before -> after``."""
    if after not in TRANSITIONS[before]:
        raise CriticalError("BAD_STATE", f"the engine cannot go from {before} to {after}")


def refusal(state: EngineState, command: type[Command]) -> str:
    """Why ``state`` does not accept ``command``; empty where it does."""
    return "" if command in ACCEPTS[state] else _WHY[state]
