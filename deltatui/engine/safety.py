"""Whether the account's health is surely good: by a bound that costs a fraction of what health itself does."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.units import BASE_PRECISION, QUOTE_PRECISION
from deltatui.engine.core import Core
from deltatui.ports import AccountReport

_INTEREST = 0.001
_SPARE = 2.0
"""Points of health that the bound keeps for what it leaves out: rounding, and interest on base that is held."""


class _Seen(msgspec.Struct, frozen=True):
    """The account when its health was last computed. ``gross`` is the value of all that is held in a price that moves,
    in quote; ``perps`` and ``spots`` are sizes in base 1e9."""

    collateral: float
    requirement: float
    gross: float
    equity: Decimal
    marks: Mapping[str, float]
    perps: Mapping[str, int]
    spots: Mapping[str, int]

    def same_sizes(self, account: AccountReport) -> bool:
        """Whether nothing was traded since. Interest moves a spot balance a little, which :data:`_SPARE` allows for."""
        if len(account.perps) != len(self.perps) or len(account.spots) != len(self.spots):
            return False
        for symbol, perp in account.perps.items():
            if self.perps.get(symbol) != perp.base_1e9:
                return False
        for asset, spot in account.spots.items():
            before = self.spots.get(asset)
            if before is None or abs(spot.base_1e9 - before) > abs(before) * _INTEREST:
                return False
        return True


class SurelyHealthy:
    """``at_least(level)`` is true only where health is above ``level`` for certain.

    If no price has moved by more than the share ``m`` since health was computed, and ``d`` is by how much the equity
    has changed, then prices alone have changed it by at most ``m * gross``, so that cash has by at most ``d + m *
    gross``. No weight of an asset or of a gain is above 1: the collateral is lower by at most ``d + 2 * m * gross``,
    and the requirement, which is proportional to prices, higher by at most the share ``m``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen: _Seen | None = None

    def at_least(self, level: float, account: AccountReport, marks: Mapping[str, Decimal]) -> bool:
        """``marks`` are the prices of now (:meth:`World.marks`)."""
        seen = self._seen
        if seen is None or account.being_liquidated or not seen.same_sizes(account):
            return False
        moved = 0.0
        for instrument, before in seen.marks.items():
            now = marks.get(instrument)
            if now is None:
                return False
            moved = max(moved, abs(float(now) / before - 1.0))
        collateral = seen.collateral - abs(float(account.equity - seen.equity)) - 2.0 * moved * seen.gross
        if collateral <= 0.0:
            return False
        return 100.0 * (1.0 - seen.requirement * (1.0 + moved) / collateral) >= level + _SPARE

    def computed(self, account: AccountReport, marks: Mapping[str, Decimal]) -> None:
        """Health was computed for this account: the bound starts from it."""
        standing, self._seen = self._core.standing(), None
        perps = {symbol: perp.base_1e9 for symbol, perp in account.perps.items()}
        spots = {asset: spot.base_1e9 for asset, spot in account.spots.items()}
        held = {**perps, **spots}
        if standing is None or any(instrument not in marks for instrument in held):
            return
        prices = {instrument: float(marks[instrument]) for instrument in held}
        self._seen = _Seen(
            standing.summary.collateral_maintenance_1e6 / QUOTE_PRECISION,
            standing.summary.requirement_maintenance_1e6 / QUOTE_PRECISION,
            sum(abs(size) / BASE_PRECISION * prices[instrument] for instrument, size in held.items()),
            account.equity,
            prices,
            perps,
            spots,
        )
