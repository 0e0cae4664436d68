"""Clocks whose market time follows a tape."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class SimulatedClock:
    """Both clocks of the port. Operator time follows market time unless set apart; sleeping moves it on at once."""

    def __init__(self, market_s: float = 0.0) -> None:
        self._market_s = market_s
        self._operator_s = market_s

    def market_s(self) -> float:
        return self._market_s

    def operator_s(self) -> float:
        return self._operator_s

    def advance_to(self, market_s: float) -> None:
        """Both clocks go forward to ``market_s``, never back."""
        self._market_s = max(self._market_s, market_s)
        self._operator_s = max(self._operator_s, market_s)

    def jumped_s(self) -> float:
        """Nothing sets this clock but :meth:`advance_to`."""
        return 0.0

    async def sleep(self, operator_seconds: float) -> None:
        self._operator_s += operator_seconds


class ReplayClock:
    """Market time from the tape, operator time from the wall but never backwards.

    Operator time runs on the monotonic clock; a wall clock that was set, or a laptop that slept, is followed forward
    and reported by :meth:`jumped_s`.
    """

    def __init__(
        self, market_s: float, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._market_s = market_s
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()

    def market_s(self) -> float:
        return self._market_s

    def operator_s(self) -> float:
        return self._monotonic() + self._offset_s

    def advance_to(self, market_s: float) -> None:
        self._market_s = max(self._market_s, market_s)

    def jumped_s(self) -> float:
        """How far the wall clock has moved against ours since the last call, where it is worth telling (2 s)."""
        jump = self._wall() - self.operator_s()
        if abs(jump) < 2.0:
            return 0.0
        if jump > 0:
            self._offset_s += jump
        return jump

    async def sleep(self, operator_seconds: float) -> None:
        await asyncio.sleep(operator_seconds)
