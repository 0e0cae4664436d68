"""Lost connections (R9.2): nothing trades until the link is back and account, vault and journal are synced."""

from __future__ import annotations

from deltatui.domain.errors import TransientError
from deltatui.domain.event import Level
from deltatui.engine.core import Core
from deltatui.engine.desk import Desk
from deltatui.engine.states import EngineState
from deltatui.ports import Link

LOOK_S = 1.0
RETRY_S = 10.0

_LOSABLE = (EngineState.RUNNING, EngineState.PAUSED, EngineState.REDUCING)


class Recovery:
    """`run()` is a supervised task. What the operator sees: state RECOVERING with the reason and the number of tries,
    an alert, and one event when it is over."""

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

    async def look(self) -> None:
        """Go to RECOVERING where the link is lost; try to get it back every ten seconds."""
        core = self._core
        reason = self._link.lost
        if reason and core.state in _LOSABLE:
            self._lost_s = self._next_try_s = core.clock.operator_s()
            self._tries = 0
            core.go(EngineState.RECOVERING, reason)
            core.board.alert("link", Level.ERROR, f"connection lost: {reason}", "connection_lost")
        if core.state is EngineState.RECOVERING and core.clock.operator_s() >= self._next_try_s:
            await self._try()

    async def _try(self) -> None:
        core = self._core
        self._tries += 1
        self._next_try_s = core.clock.operator_s() + RETRY_S
        try:
            await self._link.reconnect()
        except TransientError as error:
            core.state_reason = f"{error.sentence} (try {self._tries}, again in {RETRY_S:.0f} s)"
            core.board.changed()
            return
        core.go(EngineState.RECONCILING, "connection is back, comparing the journal with the venue")
        await self._desk.reconcile()
        if core.state is not EngineState.RECONCILING:
            return
        lasted_s = core.clock.operator_s() - self._lost_s
        core.board.clear("link")
        core.board.emit("recovered", Level.INFO, f"recovered after {lasted_s:.0f} s and {self._tries} tries")
        core.go_after_reconciliation()
