"""Background tasks that are owned by somebody, and waiting that is bounded on the Clock port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from deltatui.domain.event import Level
from deltatui.ports import Clock, Log

T = TypeVar("T")


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks, wait until they have ended, and take their results so that asyncio does not miss them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def within(clock: Clock, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or TimeoutError after ``seconds`` of operator time. A result that is there wins."""
    task = asyncio.ensure_future(work)
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise TimeoutError
    finally:
        await stop(task, alarm)


async def wait_for_event(clock: Clock, seconds: float, event: asyncio.Event) -> bool:
    """Whether ``event`` was set before ``seconds`` of operator time had passed."""
    try:
        await within(clock, seconds, event.wait())
    except TimeoutError:
        return False
    return True


class Supervisor:
    """Owns tasks. The death of one is logged, and the kept ones start again."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock = clock
        self._log = log
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` once. Whoever awaits the task gets its exception; it is logged in any case."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(self, name: str, make: Callable[[], Awaitable[None]], pause_s: float = 1.0) -> asyncio.Task[None]:
        """Run ``make()`` for ever: when it ends or dies it starts again after ``pause_s``."""
        return self.spawn(name, self._keep(name, make, pause_s))

    async def close(self) -> None:
        await stop(*self._tasks)

    async def _keep(self, name: str, make: Callable[[], Awaitable[None]], pause_s: float) -> None:
        async def once() -> None:
            await make()

        while True:
            task = self.spawn(f"{name}/run", once())
            try:
                await asyncio.wait({task})
            finally:
                if not task.done():
                    await stop(task)
            await self._clock.sleep(pause_s)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        with contextlib.suppress(asyncio.CancelledError):
            error = task.exception()
            if error is not None:
                # Only the kind: the text of a foreign exception may quote a URL with a key in it.
                self._log(Level.ERROR, "TX", f"the task {task.get_name()} died of {type(error).__name__}", None)
