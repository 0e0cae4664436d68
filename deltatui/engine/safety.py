"""Whether the account's health is surely good: by a bound that costs a fraction of what health itself does."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.market import MarketSpec
from deltatui.domain.units import BASE_PRECISION, QUOTE_PRECISION
from deltatui.engine.core import Core
from deltatui.ports import AccountReport, PerpBalance

_INTEREST = 0.001
_SPARE = 2.0
"""Points of health that the bound keeps for what it leaves out: rounding, and interest on base that is held."""


class _Seen(msgspec.Struct, frozen=True):
    """The account when its health was last computed. ``spot_value`` is that of all spot but quote, in quote;
    ``oracles`` are the prices by base symbol that health depends on, ``listed`` the carried markets as they were
    listed."""

    collateral: float
    requirement: float
    spot_value: float
    quote: Decimal
    oracles: Mapping[str, float]
    listed: Mapping[str, MarketSpec]
    perps: Mapping[str, PerpBalance]
    spots: Mapping[str, int]


class SurelyHealthy:
    """``at_least(level)`` is true only where health is above ``level`` for certain.

    No weight of an asset or of a gain is above 1. So the collateral is lower by at most what quote and unsettled PnL
    have fallen by, each market for itself (a gain of one may count less than a loss of the other), and by the share
    ``m`` of the value of all spot, if no oracle price has moved by more. The requirement is proportional to prices, but
    for quote that is owed: it is higher by at most the share ``m``, and by what quote has fallen by.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._seen: _Seen | None = None

    def at_least(self, level: float, account: AccountReport, marks: Mapping[str, Decimal]) -> bool:
        """``marks`` are the prices of now (:meth:`World.marks`)."""
        seen = self._seen
        if seen is None or account.being_liquidated or seen.listed is not self._core.world.listed:
            return False
        fallen = self._fallen(seen, account)
        if fallen is None:
            return False
        moved = 0.0
        for asset, before in seen.oracles.items():
            now = marks.get(asset)
            if now is None:
                return False
            moved = max(moved, abs(float(now) / before - 1.0))
        owed = float(seen.quote - account.quote) if account.quote < seen.quote else 0.0
        collateral = seen.collateral - owed - fallen - moved * seen.spot_value
        if collateral <= 0.0:
            return False
        return 100.0 * (1.0 - (seen.requirement * (1.0 + moved) + owed) / collateral) >= level + _SPARE

    @staticmethod
    def _fallen(seen: _Seen, account: AccountReport) -> float | None:
        """What unsettled PnL has fallen by, each market for itself, in quote. None if something was traded since;
        interest moves a spot balance a little, which :data:`_SPARE` allows for."""
        perps, spots, fallen = seen.perps, seen.spots, 0.0
        if len(account.perps) != len(perps) or len(account.spots) != len(spots):
            return None
        for symbol, perp in account.perps.items():
            was = perps.get(symbol)
            if was is None or was.base_1e9 != perp.base_1e9:
                return None
            if was.open_bids_1e9 != perp.open_bids_1e9 or was.open_asks_1e9 != perp.open_asks_1e9:
                return None
            if perp.unsettled < was.unsettled:
                fallen += float(was.unsettled - perp.unsettled)
        for asset, spot in account.spots.items():
            before = spots.get(asset)
            if before is None:
                return None
            if spot.base_1e9 != before and abs(spot.base_1e9 - before) > abs(before) * _INTEREST:
                return None
        return fallen

    def computed(self, account: AccountReport, marks: Mapping[str, Decimal]) -> None:
        """Health was computed for this account: the bound starts from it."""
        core = self._core
        standing, self._seen = core.standing(), None
        if standing is None or any(symbol not in core.hedges for symbol in account.perps):
            return  # of a market that is not carried no oracle price is known
        assets = {*account.spots, *(core.hedges[symbol].spec.base_symbol for symbol in account.perps)}
        if any(asset not in marks for asset in assets):
            return
        oracles = {asset: float(marks[asset]) for asset in assets}
        spots = {asset: spot.base_1e9 for asset, spot in account.spots.items()}
        self._seen = _Seen(
            standing.summary.collateral_maintenance_1e6 / QUOTE_PRECISION,
            standing.summary.requirement_maintenance_1e6 / QUOTE_PRECISION,
            sum(abs(size) / BASE_PRECISION * oracles[asset] for asset, size in spots.items()),
            account.quote,
            oracles,
            core.world.listed,
            account.perps,
            spots,
        )
