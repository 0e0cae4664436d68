"""Clocks that stand still until they are told."""

from __future__ import annotations


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
