"""``ports.Link`` over the RPC pool: whether anything of the chain can be reached, and the way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from deltatui.chain.pool import Pool
from deltatui.domain.errors import TransientError
from deltatui.ports import Clock

STANDS_STILL_S = 20.0
_FAILURES = 3


class PoolLink:
    """The connection is lost when every endpoint failed three times in a row, or none has shown a new slot for 20 s.

    The pool's :meth:`Pool.watch` has to run. ``resync`` are awaited after a reconnection, in order: venue and sender
    read the present state anew; each may raise TransientError.
    """

    def __init__(self, pool: Pool, clock: Clock, resync: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        self._pool = pool
        self._clock = clock
        self._resync = tuple(resync)
        self._slot = -1
        self._slot_s = clock.operator_s()

    @property
    def lost(self) -> str:
        """Raises CriticalError WRONG_CHAIN where every endpoint is on another chain."""
        status = self._pool.status()
        if all(each.errors_in_row >= _FAILURES for each in status):
            errors = ", ".join(sorted({each.last_error for each in status}))
            return f"no RPC endpoint answers ({errors})"
        newest = max((each.slot for each in status if each.slot is not None), default=-1)
        now = self._clock.operator_s()
        if newest > self._slot or now < self._slot_s:
            self._slot, self._slot_s = max(newest, self._slot), now
        still_s = now - self._slot_s
        if still_s > STANDS_STILL_S:
            return f"no RPC endpoint has shown a new slot for {still_s:.0f} s"
        return ""

    async def reconnect(self) -> None:
        """Ask every endpoint at once, then let everybody read the present state."""
        await self._pool.probe()
        if reason := self.lost:
            raise TransientError("STILL_LOST", reason)
        for read in self._resync:
            await read()
