"""The paper account in the terms of the margin formulas."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from deltatui.domain.account import OraclePrice, PerpMarket, PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketSpec
from deltatui.domain.units import BASE_PRECISION, QUOTE_PRECISION, price_to_1e6
from deltatui.venues.paper.account import PaperAccount, PaperMarket, PaperPerp
from deltatui.venues.paper.settings import OTHER_PERPS, QUOTE_ASSET, QUOTE_INDEX

_QUOTE_KEY = b"paper oracle of the quote asset."
_BASE_KEY = b"paper oracle of the base asset.."
_PAR = OraclePrice(QUOTE_PRECISION)
"""The paper quote asset is worth exactly 1."""


class PaperMargin:
    """What the exchange lists, ready for margin. ``fallback_1e4`` is the maintenance margin of a market without one."""

    def __init__(self, spec: MarketSpec, fallback_1e4: int) -> None:
        """Raises ValidationError BAD_MARGIN for a maintenance margin above the initial one, which no account could
        open."""
        maintenance_1e4 = fallback_1e4 if spec.margin_maintenance_1e4 is None else spec.margin_maintenance_1e4
        if maintenance_1e4 > spec.margin_initial_1e4:
            text = f"{maintenance_1e4 / 100:g} % is above its initial margin of {spec.margin_initial_1e4 / 100:g} %"
            raise ValidationError("BAD_MARGIN", f"{spec.symbol}: a maintenance margin of {text}")
        self._perp_index, self._spot_index = spec.perp_index, spec.spot_index
        perp = PerpMarket(
            spec.perp_index,
            _BASE_KEY,
            spec.margin_initial_1e4,
            maintenance_1e4,
            order_step_1e9=spec.step_base_1e9,
            order_tick_1e6=spec.tick_price_1e6,
            min_order_1e9=spec.min_base_1e9,
            name=spec.symbol,
        )
        base = SpotMarket(
            spec.spot_index,
            _BASE_KEY,
            9,
            initial_asset_weight_1e4=spec.spot_asset_weight_initial_1e4,
            maintenance_asset_weight_1e4=spec.spot_asset_weight_maintenance_1e4,
            initial_liability_weight_1e4=spec.spot_liability_weight_initial_1e4,
            maintenance_liability_weight_1e4=spec.spot_liability_weight_maintenance_1e4,
            name=spec.base_symbol,
        )
        quote = SpotMarket(QUOTE_INDEX, _QUOTE_KEY, 6, name=QUOTE_ASSET)
        self._perps = {spec.perp_index: perp}
        for other in OTHER_PERPS.values():
            self._perps[other.perp_index] = PerpMarket(
                other.perp_index,
                _key(other.symbol),
                other.margin_initial_1e4,
                other.margin_maintenance_1e4,
                name=other.symbol,
            )
        self._spots = {QUOTE_INDEX: quote, spec.spot_index: base}

    def book(self, account: PaperAccount, market: PaperMarket, other_marks: Mapping[str, Decimal]) -> MarginBook:
        """The account at the present prices."""
        oracles = {_QUOTE_KEY: _PAR, _BASE_KEY: OraclePrice(price_to_1e6(market.oracle))}
        spots = [_spot_position(QUOTE_INDEX, account.quote)]
        if account.spot:
            spots.append(_spot_position(self._spot_index, account.spot))
        perps = []
        if account.perp.base_1e9 or account.perp.quote:
            perps.append(_perp_position(self._perp_index, account.perp))
        for symbol, position in account.others.items():
            perps.append(_perp_position(OTHER_PERPS[symbol].perp_index, position))
            oracles[_key(symbol)] = OraclePrice(price_to_1e6(other_marks[symbol]))
        user = UserAccount(spot_positions=tuple(spots), perp_positions=tuple(perps))
        return MarginBook(user, self._perps, self._spots, oracles)


def _key(symbol: str) -> bytes:
    return f"paper oracle of {symbol}".encode().ljust(32, b".")


def _perp_position(index: int, perp: PaperPerp) -> PerpPosition:
    entry_1e6 = _floor(perp.entry_quote * QUOTE_PRECISION)
    return PerpPosition(
        index,
        base_1e9=perp.base_1e9,
        quote_1e6=_floor(perp.quote * QUOTE_PRECISION),
        quote_entry_1e6=entry_1e6,
        quote_break_even_1e6=entry_1e6,
    )


def _floor(value: Decimal) -> int:
    whole = int(value)
    return whole - 1 if value < whole else whole


def _spot_position(index: int, tokens: Decimal) -> SpotPosition:
    """Scaled balances have precision 1e9 and the paper interest index stays at 1; a debt is rounded up."""
    scaled = _floor(tokens * BASE_PRECISION)
    return SpotPosition(index, abs(scaled), scaled < 0)
