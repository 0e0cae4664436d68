"""The paper account in the terms of the margin formulas."""

from __future__ import annotations

from decimal import Decimal

from deltatui.domain.account import OraclePrice, PerpMarket, PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import Category, MarginBook, margin_requirement_1e6, total_collateral_1e6
from deltatui.domain.market import MarketSpec
from deltatui.domain.units import (
    BASE_PRECISION,
    MARGIN_PRECISION,
    QUOTE_PRECISION,
    WEIGHT_PRECISION,
    base_to_decimal,
    price_to_1e6,
)
from deltatui.venues.paper.account import PaperAccount, PaperPerp
from deltatui.venues.paper.markets import Markets
from deltatui.venues.paper.settings import QUOTE_ASSET, QUOTE_INDEX

_QUOTE_KEY = b"paper oracle of the quote asset."
_PAR = OraclePrice(QUOTE_PRECISION)
"""The paper quote asset is worth exactly 1."""

_ROUNDING = Decimal("0.01")
_ROUNDING_OF_PRICE = Decimal("0.000002")
"""By how much the integer formulas may differ from exact ones: per balance, and per unit of base."""

_Weight = tuple[Decimal, Decimal]
"""A factor of the price, and what is added to that product so that rounding cannot make the account worse."""


class PaperMargin:
    """Everything that the exchange knows, ready for margin: a market's perp and the spot asset beside it share one
    oracle. ``fallback_1e4`` is the maintenance margin of a market without one of its own."""

    def __init__(self, markets: Markets, fallback_1e4: int) -> None:
        """Raises ValidationError BAD_MARGIN for a maintenance margin above the initial one, which no account could
        open."""
        self._markets = markets
        self._fallback_1e4 = fallback_1e4
        self._perps: dict[int, PerpMarket] = {}
        self._spots = {QUOTE_INDEX: SpotMarket(QUOTE_INDEX, _QUOTE_KEY, 6, name=QUOTE_ASSET)}
        self._weights: dict[str, tuple[_Weight, _Weight]] = {}
        """By perp symbol and by asset: what a unit counts for in terms of its price, its margin included, for what is
        owed or short and for what is held or long."""
        for listing in markets.by_symbol.values():
            self.relist(listing.spec)

    def check(self, spec: MarketSpec) -> int:
        """The maintenance margin 1e4 of ``spec``. Raises ValidationError BAD_MARGIN where no account could open one."""
        own_1e4 = spec.margin_maintenance_1e4
        maintenance_1e4 = self._fallback_1e4 if own_1e4 is None else own_1e4
        if maintenance_1e4 > spec.margin_initial_1e4:
            text = f"{maintenance_1e4 / 100:g} % is above its initial margin of {spec.margin_initial_1e4 / 100:g} %"
            raise ValidationError("BAD_MARGIN", f"{spec.symbol}: a maintenance margin of {text}")
        return maintenance_1e4

    def relist(self, spec: MarketSpec) -> None:
        """``spec`` is how its market is listed from now on. Raises what :meth:`check` raises."""
        maintenance_1e4 = self.check(spec)
        # A new table: books that were told before keep the old one.
        self._perps = dict(self._perps)
        self._perps[spec.perp_index] = PerpMarket(
            spec.perp_index,
            _key(spec.symbol),
            spec.margin_initial_1e4,
            maintenance_1e4,
            order_step_1e9=spec.step_base_1e9,
            order_tick_1e6=spec.tick_price_1e6,
            min_order_1e9=spec.min_base_1e9,
            name=spec.symbol,
        )
        self._spots = dict(self._spots)
        self._spots[spec.spot_index] = SpotMarket(
            spec.spot_index,
            _key(spec.symbol),
            spec.base_decimals,
            initial_asset_weight_1e4=spec.spot_asset_weight_initial_1e4,
            maintenance_asset_weight_1e4=spec.spot_asset_weight_maintenance_1e4,
            initial_liability_weight_1e4=spec.spot_liability_weight_initial_1e4,
            maintenance_liability_weight_1e4=spec.spot_liability_weight_maintenance_1e4,
            order_step=spec.native(spec.spot_step_1e9),
            order_tick_1e6=spec.spot_tick_1e6,
            min_order=spec.native(spec.spot_min_1e9),
            name=spec.base_symbol,
        )
        ratio = Decimal(maintenance_1e4) / MARGIN_PRECISION
        self._weights[spec.symbol] = (1 + ratio, _ROUNDING_OF_PRICE), (1 - ratio, -_ROUNDING_OF_PRICE)
        self._weights[spec.base_symbol] = (
            (Decimal(spec.spot_liability_weight_maintenance_1e4) / WEIGHT_PRECISION, _ROUNDING_OF_PRICE),
            (Decimal(spec.spot_asset_weight_maintenance_1e4) / WEIGHT_PRECISION, -_ROUNDING_OF_PRICE),
        )

    def book(self, account: PaperAccount) -> MarginBook:
        """The account at the present prices."""
        markets = self._markets
        spots = [_spot_position(QUOTE_INDEX, account.quote)]
        for asset, tokens in account.spots.items():
            if tokens:
                spots.append(_spot_position(markets.by_base[asset].spec.spot_index, tokens))
        perps = []
        for symbol, perp in account.perps.items():
            if perp.base_1e9 or perp.quote:
                perps.append(_perp_position(markets.by_symbol[symbol].spec.perp_index, perp))
        oracles = {_key(symbol): OraclePrice(price_to_1e6(now.oracle)) for symbol, now in markets.states().items()}
        oracles[_QUOTE_KEY] = _PAR
        user = UserAccount(spot_positions=tuple(spots), perp_positions=tuple(perps))
        return MarginBook(user, self._perps, self._spots, oracles)

    def must_liquidate(self, account: PaperAccount) -> bool:
        """Whether the account is below its maintenance margin."""
        if self._clearly_covered(account):
            return False
        book = self.book(account)
        return total_collateral_1e6(book, Category.MAINTENANCE) < margin_requirement_1e6(book, Category.MAINTENANCE)

    def _clearly_covered(self, account: PaperAccount) -> bool:
        """The same sum without the formulas' rounding: true only where that cannot matter. It is asked at every price,
        the exact one only near a liquidation."""
        free, balances = account.quote, 1
        for asset, tokens in account.spots.items():
            if tokens:
                now = self._markets.by_base[asset].now
                if now is None:
                    return False
                weight, rounding = self._weights[asset][tokens > 0]
                free += tokens * (now.oracle * weight + rounding)
                balances += 1
        for symbol, perp in account.perps.items():
            if perp.base_1e9 or perp.quote:
                now = self._markets.by_symbol[symbol].now
                if now is None:
                    return False
                weight, rounding = self._weights[symbol][perp.base_1e9 > 0]
                free += base_to_decimal(perp.base_1e9) * (now.oracle * weight + rounding) + perp.quote
                balances += 1
        return free > balances * _ROUNDING


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
