"""Lost connections (R9.2): nothing trades until the link is back and account, vault and journal are synced."""

from __future__ import annotations

from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.event import Level
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.states import EngineState
from deltatui.ports import Link

LOOK_S = 1.0
RETRY_S = 10.0

_LOSABLE = (EngineState.RUNNING, EngineState.PAUSED, EngineState.REDUCING)
_TRIES_IN = (EngineState.RECOVERING, EngineState.HALTED)


class Recovery:
    """`run()` is a supervised task. What the operator sees: state RECOVERING with the reason and the number of tries,
    an alert, and one event when it is over. A halted engine stays HALTED, and its connection is brought back all the
    same: what is open may have to be closed by hand."""

    def __init__(self, core: Core, desk: Desk, link: Link) -> None:
        self._core = core
        self._desk = desk
        self._link = link
        self._lost_s = 0.0
        self._tries = 0
        self._next_try_s = 0.0

    async def run(self) -> None:
        while True:
            await self.look()
            await self._core.clock.sleep(LOOK_S)

    def notice(self) -> None:
        """Take note of a lost connection; the engine's state is not touched."""
        core, reason = self._core, self._link.lost
        if not reason or core.link_lost:
            return
        core.link_lost = reason
        self._lost_s = self._next_try_s = core.clock.operator_s()
        self._tries = 0
        core.board.alert("link", Level.ERROR, f"connection lost: {reason}", "connection_lost")

    async def look(self) -> None:
        """Go to RECOVERING where the link is lost; try to get it back every ten seconds."""
        core = self._core
        if core.state in _LOSABLE or core.state == EngineState.HALTED:
            self.notice()
        if core.link_lost and core.state in _LOSABLE:
            core.go(EngineState.RECOVERING, core.link_lost)
            core.board.changed()
        if core.link_lost and core.state in _TRIES_IN and self._due():
            await self._try()

    def _due(self) -> bool:
        now = self._core.clock.operator_s()
        # A clock that was set back must not keep us waiting.
        return not self._next_try_s - RETRY_S <= now < self._next_try_s

    async def _try(self) -> None:
        core = self._core
        self._tries += 1
        self._next_try_s = core.clock.operator_s() + RETRY_S
        try:
            await self._link.reconnect()
            if core.state == EngineState.RECOVERING:
                core.go(EngineState.RECONCILING, "connection is back, comparing the journal with the venue")
            await self._desk.reconcile()
        except TransientError as error:
            self._failed(error.sentence)
            return
        except CriticalError as error:
            # The connection is back; what it shows is not to be trusted.
            self._over()
            core.halt(error.sentence)
            return
        if self._link.lost:
            self._failed(self._link.lost)
            return
        self._over()
        if core.state == EngineState.RECOVERING:
            # It was resumed from HALTED meanwhile. Legs that nobody saw to are the next tick's.
            core.go(EngineState.RECONCILING, "connection is back")
        if core.state == EngineState.RECONCILING:
            core.go_after_reconciliation()
            core.board.changed()

    def _failed(self, why: str) -> None:
        core = self._core
        text = f"{why} (try {self._tries}, again in {RETRY_S:.0f} s)"
        if core.state == EngineState.RECONCILING:
            core.go(EngineState.RECOVERING, text)
        elif core.state == EngineState.RECOVERING:
            core.state_reason = text
        core.board.changed()

    def _over(self) -> None:
        core = self._core
        lasted_s = core.clock.operator_s() - self._lost_s
        core.link_lost = ""
        core.board.clear("link")
        core.board.emit("recovered", Level.INFO, f"recovered after {lasted_s:.0f} s and {self._tries} tries")
