"""Background tasks: none dies unnoticed (R9.6)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log


class Supervisor:
    """Runs named tasks and starts one that died again, later each time. A CriticalError is handed to ``on_critical``
    and that task stays down."""

    def __init__(self, clock: Clock, log: Log, on_critical: Callable[[str, CriticalError], None]) -> None:
        self._clock = clock
        self._log = log
        self._on_critical = on_critical
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, work: Callable[[], Awaitable[None]], *, first_delay_s: float = 1.0) -> None:
        """``work`` runs until it returns; an exception is reported and ``work`` started again after a pause."""
        self._tasks[name] = asyncio.create_task(self._watch(name, work, first_delay_s), name=name)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, task in self._tasks.items() if not task.done())

    async def _watch(self, name: str, work: Callable[[], Awaitable[None]], delay_s: float) -> None:
        pause = delay_s
        while True:
            started = self._clock.operator_s()
            try:
                await work()
                return
            except CriticalError as error:
                self._log(Level.CRITICAL, "", f"task {name} stopped: {error.sentence}", {"error": error})
                self._on_critical(name, error)
                return
            except Exception as error:  # noqa: BLE001  reported with its stack, then restarted
                self._log(Level.ERROR, "", f"task {name} died: {type(error).__name__}: {error}", {"error": error})
            if self._clock.operator_s() - started > 60:
                pause = delay_s
            await self._clock.sleep(pause)
            pause = min(pause * 2, 60.0)
