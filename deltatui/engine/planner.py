"""From a command to a plan: the exact legs, what they cost, what the account looks like after them.

A plan is computed from fresh facts each time it is needed: for the dialog, and again when it is confirmed.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from deltatui.domain.account import QUOTE_SPOT_INDEX
from deltatui.domain.carry import CarryEstimate, Stance
from deltatui.domain.command import Direction
from deltatui.domain.costs import FEE_PRECISION, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import (
    MarginBook,
    MarginSummary,
    margin_summary,
    perp_liquidation_price_1e6,
    spot_liquidation_price_1e6,
)
from deltatui.domain.market import MarketSpec, MarketState
from deltatui.domain.operation import Leg, OperationKind, Transfer
from deltatui.domain.preview import Change, book_after
from deltatui.domain.units import base_to_decimal, floor_to_step, limit_price_1e6, price_to_1e6
from deltatui.ports import AccountState


class Standing(msgspec.Struct, frozen=True):
    """The account at a glance, before or after a trade. ``leverage`` is None where equity is gone (no number says how
    bad that is). ``liq_price`` None: no price liquidates."""

    summary: MarginSummary
    leverage: float | None
    liq_price: float | None
    liq_distance_pct: float | None


class Plan(msgspec.Struct, frozen=True):
    """``notional``, ``fees`` and ``slippage`` in quote for this operation alone (not the way back)."""

    kind: OperationKind
    spec: MarketSpec
    legs: tuple[Leg, ...]
    transfer: Transfer | None
    increases_risk: bool
    size: Decimal
    price: Decimal
    limit_price: Decimal
    notional: Decimal
    fees: Decimal
    slippage: Decimal
    side: str
    stance: Stance
    reason: str
    after: Standing
    spot_after_1e9: int
    perp_after_1e9: int


def standing(book: MarginBook, spec: MarketSpec) -> Standing:
    """Raises ValidationError where the book cannot be judged."""
    summary = margin_summary(book)
    leverage = summary.leverage_1e4 / 10_000 if summary.net_value_1e6 > 0 else None
    if book.user.perp(spec.perp_index).base_1e9:
        liq_1e6 = perp_liquidation_price_1e6(book, spec.perp_index)
    else:
        liq_1e6 = spot_liquidation_price_1e6(book, spec.spot_index)
    if liq_1e6 is None:
        return Standing(summary, leverage, None, None)
    oracle_1e6 = book.perp(spec.perp_index)[1]
    return Standing(summary, leverage, liq_1e6 / 1e6, (liq_1e6 / oracle_1e6 - 1) * 100)


def _only_closes(account: AccountState, spot_1e9: int) -> bool:
    held_1e9 = account.spot_1e9
    return abs(spot_1e9) <= abs(held_1e9) and (spot_1e9 > 0) != (held_1e9 > 0)


def stance_of(perp_1e9: int) -> Stance:
    if perp_1e9 == 0:
        return Stance.FLAT
    return Stance.CARRY if perp_1e9 < 0 else Stance.REVERSE


def book_with(book: MarginBook, spec: MarketSpec, transfer: Transfer) -> MarginBook:
    """``book`` after a deposit or withdrawal of the quote or the base asset."""
    index = spec.spot_index if transfer.asset == spec.base_symbol else QUOTE_SPOT_INDEX
    return book_after(book, Change(token_deltas={index: transfer.amount}))


class Planner:
    """Makes plans for one market from what the venue says of it."""

    def __init__(self, slippage_bps: int, costs: CostModel) -> None:
        self._slippage_bps = slippage_bps
        self._costs = costs

    def take(self, market: MarketState, account: AccountState, book: MarginBook, base_1e9: int, way: Direction) -> Plan:
        """Open or add. Raises ValidationError where the size or the direction cannot be."""
        spec = market.spec
        held = stance_of(account.perp_1e9)
        stance = Stance.CARRY if way is Direction.CARRY else Stance.REVERSE
        if held not in (Stance.FLAT, stance):
            raise ValidationError("OTHER_STANCE", f"{spec.symbol} holds {held}; leave it before taking {stance}")
        size = floor_to_step(base_1e9, spec.step_base_1e9)
        if size < spec.min_base_1e9:
            least = base_to_decimal(spec.min_base_1e9)
            raise ValidationError(
                "SIZE_TOO_SMALL",
                f"size {base_to_decimal(base_1e9):f} is below the minimum of {least:f} {spec.base_symbol}",
            )
        perp = -size if stance is Stance.CARRY else size
        legs = (self._perp_leg(market, perp, False), self._spot_leg(market, -perp, False))
        side = "short perp + buy spot" if stance is Stance.CARRY else "long perp + sell spot"
        return self._trade(OperationKind.TAKE, market, account, book, legs, True, side, stance, "")

    def leave(self, market: MarketState, account: AccountState, book: MarginBook, own_spot_1e9: int) -> Plan:
        """Close both legs exactly. ``own_spot_1e9`` was paid in as SOL and is not part of the hedge."""
        own = max(0, own_spot_1e9)
        if account.spot_1e9 >= 0:
            own = min(own, account.spot_1e9)
        return self._close(market, account, book, -account.perp_1e9, own - account.spot_1e9)

    def close_rest(
        self, market: MarketState, account: AccountState, book: MarginBook, perp_1e9: int, spot_1e9: int
    ) -> Plan:
        """What a close that filled in part has left."""
        return self._close(market, account, book, floor_to_step(perp_1e9, market.spec.step_base_1e9), spot_1e9)

    def _close(self, market: MarketState, account: AccountState, book: MarginBook, perp: int, spot: int) -> Plan:
        legs: list[Leg] = []
        if perp:
            legs.append(self._perp_leg(market, perp, True))
        if spot:
            legs.append(self._spot_leg(market, spot, _only_closes(account, spot)))
        if not legs:
            raise ValidationError("NOTHING_TO_LEAVE", f"there is no position in {market.spec.symbol}")
        stance = stance_of(account.perp_1e9)
        return self._trade(OperationKind.LEAVE, market, account, book, tuple(legs), False, "close", stance, "")

    def perp_order(
        self,
        kind: OperationKind,
        market: MarketState,
        account: AccountState,
        book: MarginBook,
        base_1e9: int,
        *,
        reduce_only: bool,
        reason: str,
    ) -> Plan:
        """A single perp leg: a rebalance or the unwind of an odd leg."""
        size = floor_to_step(base_1e9, market.spec.step_base_1e9)
        if not size:
            raise ValidationError("SIZE_TOO_SMALL", f"{base_1e9} is below the step of {market.spec.symbol}")
        legs = (self._perp_leg(market, size, reduce_only),)
        stance = stance_of(account.perp_1e9)
        return self._trade(kind, market, account, book, legs, not reduce_only, reason, stance, reason)

    def spot_order(
        self,
        kind: OperationKind,
        market: MarketState,
        account: AccountState,
        book: MarginBook,
        base_1e9: int,
        reason: str,
    ) -> Plan:
        """A single spot leg that brings the spot balance back."""
        legs = (self._spot_leg(market, base_1e9, _only_closes(account, base_1e9)),)
        stance = stance_of(account.perp_1e9)
        return self._trade(kind, market, account, book, legs, False, reason, stance, reason)

    def settle(self, market: MarketState, account: AccountState, book: MarginBook) -> Plan:
        if not account.unsettled:
            raise ValidationError("NOTHING_TO_SETTLE", f"there is no unsettled PnL in {market.spec.symbol}")
        return self._still(OperationKind.SETTLE, market, account, book, None, f"settle {account.unsettled:+.2f}")

    def transfer(self, market: MarketState, account: AccountState, book: MarginBook, transfer: Transfer) -> Plan:
        kind = OperationKind.DEPOSIT if transfer.amount > 0 else OperationKind.WITHDRAW
        return self._still(kind, market, account, book, transfer, kind.value.lower())

    def _still(
        self,
        kind: OperationKind,
        market: MarketState,
        account: AccountState,
        book: MarginBook,
        transfer: Transfer | None,
        side: str,
    ) -> Plan:
        spec = market.spec
        after = book if transfer is None else book_with(book, spec, transfer)
        return Plan(
            kind=kind,
            spec=spec,
            legs=(),
            transfer=transfer,
            increases_risk=False,
            size=Decimal(0),
            price=market.oracle,
            limit_price=market.oracle,
            notional=Decimal(0),
            fees=Decimal(0),
            slippage=Decimal(0),
            side=side,
            stance=stance_of(account.perp_1e9),
            reason="",
            after=standing(after, spec),
            spot_after_1e9=account.spot_1e9,
            perp_after_1e9=account.perp_1e9,
        )

    def _perp_leg(self, market: MarketState, base_1e9: int, reduce_only: bool) -> Leg:
        return self._leg(market.spec.symbol, market.mark, base_1e9, market.spec.tick_price_1e6, reduce_only)

    def _spot_leg(self, market: MarketState, base_1e9: int, reduce_only: bool) -> Leg:
        return self._leg(market.spec.base_symbol, market.oracle, base_1e9, 1, reduce_only)

    def _leg(self, instrument: str, price: Decimal, base_1e9: int, tick_1e6: int, reduce_only: bool) -> Leg:
        limit = limit_price_1e6(
            price_to_1e6(price), buy=base_1e9 > 0, slippage_bps=self._slippage_bps, tick_1e6=tick_1e6
        )
        return Leg(instrument, base_1e9, limit, reduce_only)

    def _trade(
        self,
        kind: OperationKind,
        market: MarketState,
        account: AccountState,
        book: MarginBook,
        legs: tuple[Leg, ...],
        increases_risk: bool,
        side: str,
        stance: Stance,
        reason: str,
    ) -> Plan:
        spec = market.spec
        fees = slippage = Decimal(0)
        perp_base = spot_base = 0
        perp_quote = perp_fee = spot_quote = Decimal(0)
        for leg in legs:
            base = base_to_decimal(leg.base_1e9)
            is_perp = leg.market == spec.symbol
            price = market.mark if is_perp else market.oracle
            fill = self._costs.slippage.fill_price(price, base)
            rate = self._costs.fees.perp_taker_1e5 if is_perp else self._costs.fees.spot_1e5
            fee = abs(base) * fill * rate / FEE_PRECISION
            fees += fee
            slippage += base * (fill - price)
            if is_perp:
                perp_base += leg.base_1e9
                perp_quote -= base * fill
                perp_fee += fee
            else:
                spot_base += leg.base_1e9
                spot_quote -= base * fill + fee
        change = Change(
            perp_index=spec.perp_index,
            base_delta_1e9=perp_base,
            quote_delta_1e6=price_to_1e6(perp_quote),
            fee_1e6=price_to_1e6(perp_fee),
            token_deltas={spec.spot_index: spot_base, QUOTE_SPOT_INDEX: price_to_1e6(spot_quote)},
        )
        after = book_after(book, change)
        first = legs[0]
        size = abs(base_to_decimal(first.base_1e9))
        price = market.mark if first.market == spec.symbol else market.oracle
        return Plan(
            kind=kind,
            spec=spec,
            legs=legs,
            transfer=None,
            increases_risk=increases_risk,
            size=size,
            price=price,
            limit_price=Decimal(first.limit_price_1e6) / 10**6,
            notional=size * price,
            fees=fees,
            slippage=slippage,
            side=side,
            stance=stance,
            reason=reason,
            after=standing(after, spec),
            spot_after_1e9=account.spot_1e9 + spot_base,
            perp_after_1e9=account.perp_1e9 + perp_base,
        )


def loss_if_forced(plan: Plan, estimate: CarryEstimate | None, round_trip: float, horizon_h: float) -> float | None:
    """What forcing a trade that R6.2 rejects is expected to lose over the horizon, in quote (positive: a loss)."""
    if estimate is None:
        return None
    return float(plan.notional) * (round_trip - estimate.net * horizon_h)
