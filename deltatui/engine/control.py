"""Commands that move nothing: pause and resume, automation, speed, the losses that count."""

from __future__ import annotations

from deltatui.domain.command import (
    AnyCommand,
    CommandResult,
    ForgetLosses,
    Pause,
    Resume,
    SetAutomation,
    SetSpeed,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level
from deltatui.domain.health import forget_losses
from deltatui.engine import losses
from deltatui.engine.core import Core
from deltatui.engine.results import done
from deltatui.engine.states import EngineState

MAX_SPEED = 1_000_000
"""Market seconds per operator second: a year in half a minute."""


class Control:
    def __init__(self, core: Core) -> None:
        self._core = core

    async def act(self, command: AnyCommand) -> CommandResult:
        """Raises ValidationError for what cannot be done now."""
        match command:
            case Pause():
                return self._pause()
            case Resume():
                return await self._resume()
            case SetSpeed():
                return self._set_speed(command.speed)
            case SetAutomation():
                return self._set_automation(command.on)
            case ForgetLosses():
                return self._forget_losses()
            case _:
                raise ValidationError("NOT_ACCEPTED", f"{type(command).__name__} is not known here")

    def _pause(self) -> CommandResult:
        core = self._core
        core.set_memory(paused=True)
        core.go(EngineState.PAUSED, "paused by the operator")
        return done("PAUSED", "paused: no new risk, nothing automatic")

    async def _resume(self) -> CommandResult:
        """A resume forgets neither the day's loss nor the peak (R6.10)."""
        core, account = self._core, self._core.world.account()
        if account is not None:
            await core.take_in(account)
        if core.settings.losses.any_set and not core.books_agree():
            raise ValidationError(
                "BOOKS_BEHIND", "not resumed: the books do not show all that the venue tells yet; try again"
            )
        standing = losses.watch(core)
        if standing is not None and core.state == EngineState.REDUCING:
            # A pause before is over: automation goes on leaving and reducing.
            core.set_memory(paused=False)
            raise ValidationError(
                "LOSS_LIMIT", f"not resumed: {standing.reason}; {standing.lifts}, or forget the losses"
            )
        if core.state in (EngineState.HALTED, EngineState.REDUCING):
            # A trade whose fills nobody has looked at is not forgotten: it may still be under way, or land late.
            core.go(EngineState.RECONCILING, "resumed by the operator")
        reducing = "" if standing is None else f"loss limit: {standing.reason}"
        core.set_memory(halted="", reducing=reducing, paused=False)
        core.board.clear("halted")
        if not reducing:
            core.board.clear("reducing")
        core.go_after_reconciliation()
        if core.state == EngineState.RECOVERING:
            return done("RECOVERING", "resumed, but the connection is lost; nothing trades until it is back")
        if core.state == EngineState.REDUCING:
            return done("REDUCING", f"resumed, only to reduce: {reducing}")
        return done("RUNNING", f"running; automation is {'on' if core.memory.automation else 'off'}")

    def _forget_losses(self) -> CommandResult:
        """From now on the day and the peak count anew; the engine's state stays as it is."""
        core, stood = self._core, losses.loss_stop(self._core)
        core.set_memory(losses=forget_losses(core.memory.losses))
        losses.watch(core)
        if stood is not None:
            core.set_memory(reducing="the losses are forgotten; resume to take risk again")
            core.board.restate("reducing", Level.WARNING, core.memory.reducing)
            if core.state == EngineState.REDUCING:
                core.state_reason = core.memory.reducing
        core.board.emit(
            "losses_forgotten", Level.WARNING, "the day's loss and the peak count anew from the present equity"
        )
        then = "; resume to take risk again" if core.state == EngineState.REDUCING else ""
        return done("FORGOTTEN", f"losses forgotten: the day's loss and the peak count anew{then}")

    def _set_automation(self, on: bool) -> CommandResult:
        core = self._core
        core.set_memory(automation=on)
        for hedge in core.hedges.values():
            if on and hedge.memory.held_by == "operator":
                hedge.remember(held_by="engine")
        word = "on" if on else "off"
        core.board.emit("automation", Level.INFO, f"automation {word}")
        return done("AUTOMATION", f"automation is {word}")

    def _set_speed(self, speed: int) -> CommandResult:
        if self._core.settings.mode != "replay":
            raise ValidationError("NO_TAPE", "only a replay has a speed")
        if not 1 <= speed <= MAX_SPEED:
            raise ValidationError("BAD_SPEED", f"the speed must be between 1 and {MAX_SPEED}, it is {speed}")
        self._core.set_memory(speed=speed)
        return done("SPEED", f"speed x{speed}")
