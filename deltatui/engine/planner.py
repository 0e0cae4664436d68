"""From a command to a plan: the exact legs, what they cost, what the account looks like after them.

A plan is computed from fresh facts each time it is needed: for the dialog, and again when it is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from deltatui.domain.account import QUOTE_SPOT_INDEX
from deltatui.domain.carry import CarryEstimate, Stance
from deltatui.domain.command import Direction, SpotSource, one_of
from deltatui.domain.costs import FEE_PRECISION, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketSpec, MarketState
from deltatui.domain.operation import Leg, Operation, OperationKind, Transfer
from deltatui.domain.preview import Change, book_after
from deltatui.domain.units import (
    QUOTE_PRECISION,
    SlippageLimits,
    base_to_decimal,
    floor_to_step,
    limit_price_1e6,
    price_to_1e6,
)
from deltatui.engine.memory import ACCOUNT
from deltatui.engine.standing import Standing
from deltatui.engine.world import Facts


class Plan(msgspec.Struct, frozen=True):
    """``notional``, ``fees`` and ``slippage`` in quote for this operation alone (not the way back). ``rest_1e9`` is
    spot that a leave still has to trade afterwards, in an order that no margin rule takes for a reducing one: base of
    the operator that the hedge had sold. ``source`` is where the spot leg of a take comes from. ``spec`` is the market
    that it acts on; None for a transfer of the quote asset, which is of no market."""

    kind: OperationKind
    spec: MarketSpec | None
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
    rest_1e9: int = 0
    source: SpotSource = SpotSource.BUY

    @property
    def market(self) -> str:
        return ACCOUNT if self.spec is None else self.spec.symbol

    @property
    def spot_leg(self) -> bool:
        """Whether the way in and out trades spot as well."""
        return self.source == SpotSource.BUY


def closing_part(held_1e9: int, order_1e9: int) -> int:
    """The part of an order that brings ``held_1e9`` closer to zero and not across; 0 where none does."""
    if not held_1e9 or (order_1e9 > 0) == (held_1e9 > 0):
        return 0
    return order_1e9 if abs(order_1e9) <= abs(held_1e9) else -held_1e9


def stance_of(perp_1e9: int) -> Stance:
    if perp_1e9 == 0:
        return Stance.FLAT
    return Stance.CARRY if perp_1e9 < 0 else Stance.REVERSE


def book_with(book: MarginBook, spec: MarketSpec | None, transfer: Transfer) -> MarginBook:
    """``book`` after a deposit or withdrawal of the base asset of ``spec``; None: of the quote asset."""
    index = QUOTE_SPOT_INDEX if spec is None else spec.spot_index
    return book_after(book, Change(token_deltas={index: transfer.amount}))


def whole_units(spec: MarketSpec | None, transfer: Transfer) -> Decimal:
    """The amount that moves, unsigned, in units of its asset."""
    precision: int = QUOTE_PRECISION if spec is None else 10**spec.base_decimals
    return abs(Decimal(transfer.amount)) / precision


def take_sizes(spec: MarketSpec, source: SpotSource) -> tuple[int, int]:
    """Step and least size of a take, base 1e9: what both of its orders can have."""
    return spec.order_sizes(spot_leg=source == SpotSource.BUY)


_STANCES = {Direction.CARRY: Stance.CARRY, Direction.REVERSE: Stance.REVERSE}
_SIDES = {
    SpotSource.BUY: "short perp + buy spot",
    SpotSource.WALLET: "short perp + deposit from the wallet",
    SpotSource.DEPOSITED: "short perp against deposited spot",
}


class Planner:
    """Makes plans from what the venue says of market and account. ``costs`` are asked anew for each plan, ``stand``
    judges the account as it would be."""

    def __init__(
        self, slippage: SlippageLimits, costs: Callable[[], CostModel], stand: Callable[[MarginBook], Standing]
    ) -> None:
        self._slippage = slippage
        self._costs = costs
        self._stand = stand

    def take(
        self,
        facts: Facts,
        book: MarginBook,
        base_1e9: int,
        way: Direction,
        source: SpotSource = SpotSource.BUY,
    ) -> Plan:
        """Open or add. Raises ValidationError where the size, the direction or the source of spot cannot be."""
        spec = facts.market.spec
        held = stance_of(facts.perp.base_1e9)
        stance = _STANCES[one_of(Direction, way, "direction")]
        if held not in (Stance.FLAT, stance):
            raise ValidationError("OTHER_STANCE", f"{spec.symbol} holds {held}; leave it before taking {stance}")
        if stance == Stance.REVERSE and source != SpotSource.BUY:
            raise ValidationError("NO_SPOT_SOURCE", f"a reverse take sells borrowed spot; spot '{source}' does not fit")
        step, least_1e9 = take_sizes(spec, source)
        size = floor_to_step(base_1e9, step)
        if size < least_1e9:
            least = base_to_decimal(least_1e9)
            raise ValidationError(
                "SIZE_TOO_SMALL",
                f"size {base_to_decimal(base_1e9):f} is below the minimum of {least:f} {spec.base_symbol}",
            )
        perp = -size if stance == Stance.CARRY else size
        legs: tuple[Leg, ...] = (self._perp_leg(facts.market, perp),)
        if source == SpotSource.BUY:
            legs += (self._spot_leg(facts.market, -perp),)
        transfer = Transfer(spec.base_symbol, spec.native(size)) if source == SpotSource.WALLET else None
        side = _SIDES[source] if stance == Stance.CARRY else "long perp + sell spot"
        plan = self._trade(OperationKind.TAKE, facts, book, legs, True, side, stance, "", transfer)
        return msgspec.structs.replace(plan, source=source)

    def leave(self, facts: Facts, book: MarginBook, own_spot_1e9: int, *, kill: bool = False) -> Plan:
        """Close both legs exactly. ``own_spot_1e9`` was paid in as such and is not part of the hedge. Raises
        ValidationError where there is nothing to close."""
        return self._close(facts, book, -facts.perp.base_1e9, own_spot_1e9 - facts.spot.base_1e9, kill)

    def close_rest(
        self,
        facts: Facts,
        book: MarginBook,
        perp_1e9: int,
        spot_1e9: int,
        *,
        kill: bool = False,
    ) -> Plan:
        """What a close that filled in part has left."""
        return self._close(facts, book, floor_to_step(perp_1e9, facts.market.spec.step_base_1e9), spot_1e9, kill)

    def _close(self, facts: Facts, book: MarginBook, perp: int, spot: int, kill: bool) -> Plan:
        spec, legs = facts.market.spec, []
        if perp:
            legs.append(self._perp_leg(facts.market, perp, reduce_only=True, kill=kill))
        closing = closing_part(facts.spot.base_1e9, spot)
        if closing:
            legs.append(self._spot_leg(facts.market, closing, reduce_only=True, kill=kill, reduces=True))
        # What the spot market would not take as an order stays as it is.
        rest = floor_to_step(spot - closing, spec.spot_step_1e9)
        rest = rest if abs(rest) >= spec.spot_min_1e9 else 0
        if rest and not legs:
            legs.append(self._spot_leg(facts.market, rest, kill=kill, reduces=True))
            rest = 0
        if not legs:
            raise ValidationError("NOTHING_TO_LEAVE", f"there is no position in {spec.symbol}")
        stance = stance_of(facts.perp.base_1e9)
        plan = self._trade(OperationKind.LEAVE, facts, book, tuple(legs), False, "close", stance, "")
        return msgspec.structs.replace(plan, rest_1e9=rest)

    def perp_order(
        self,
        kind: OperationKind,
        facts: Facts,
        book: MarginBook,
        base_1e9: int,
        *,
        reduce_only: bool,
        reason: str,
    ) -> Plan:
        """A single perp leg: a rebalance or the unwind of an odd leg."""
        size = floor_to_step(base_1e9, facts.market.spec.step_base_1e9)
        if not size:
            raise ValidationError("SIZE_TOO_SMALL", f"{base_1e9} is below the step of {facts.market.spec.symbol}")
        legs = (self._perp_leg(facts.market, size, reduce_only=reduce_only),)
        stance = stance_of(facts.perp.base_1e9)
        return self._trade(kind, facts, book, legs, not reduce_only, reason, stance, reason)

    def spot_order(
        self,
        kind: OperationKind,
        facts: Facts,
        book: MarginBook,
        base_1e9: int,
        reason: str,
    ) -> Plan:
        """A single spot leg that brings the spot balance back; only its closing part where it would cross zero."""
        closing = closing_part(facts.spot.base_1e9, base_1e9)
        legs = (self._spot_leg(facts.market, closing or base_1e9, reduce_only=bool(closing), reduces=True),)
        stance = stance_of(facts.perp.base_1e9)
        return self._trade(kind, facts, book, legs, False, reason, stance, reason)

    def settle(self, facts: Facts, book: MarginBook) -> Plan:
        if not facts.perp.unsettled:
            raise ValidationError("NOTHING_TO_SETTLE", f"there is no unsettled PnL in {facts.market.spec.symbol}")
        return self._still(OperationKind.SETTLE, facts, book, None, f"settle {facts.perp.unsettled:+.2f}")

    def transfer(self, facts: Facts | None, book: MarginBook, transfer: Transfer) -> Plan:
        """``facts`` are those of the market whose base asset moves; None: the quote asset does."""
        kind = OperationKind.DEPOSIT if transfer.amount > 0 else OperationKind.WITHDRAW
        return self._still(kind, facts, book, transfer, kind.value.lower())

    def _still(
        self,
        kind: OperationKind,
        facts: Facts | None,
        book: MarginBook,
        transfer: Transfer | None,
        side: str,
    ) -> Plan:
        spec = None if facts is None else facts.market.spec
        after = book if transfer is None else book_with(book, spec, transfer)
        size = Decimal(0) if transfer is None else whole_units(spec, transfer)
        price = Decimal(1) if facts is None else facts.market.oracle
        perp_1e9, spot_1e9 = (0, 0) if facts is None else (facts.perp.base_1e9, facts.spot.base_1e9)
        if spec is not None and transfer is not None:
            spot_1e9 += spec.base_1e9(transfer.amount)
        return Plan(
            kind=kind,
            spec=spec,
            legs=(),
            transfer=transfer,
            increases_risk=kind == OperationKind.WITHDRAW,
            size=size,
            price=price,
            limit_price=price,
            notional=size * price,
            fees=Decimal(0),
            slippage=Decimal(0),
            side=side,
            stance=stance_of(perp_1e9),
            reason="",
            after=self._stand(after),
            spot_after_1e9=spot_1e9,
            perp_after_1e9=perp_1e9,
        )

    def _perp_leg(self, market: MarketState, base_1e9: int, *, reduce_only: bool = False, kill: bool = False) -> Leg:
        bps = self._slippage.bps(reduces=reduce_only, kill=kill)
        return _leg(market.spec.symbol, market.mark, base_1e9, market.spec.tick_price_1e6, reduce_only, bps)

    def _spot_leg(
        self,
        market: MarketState,
        base_1e9: int,
        *,
        reduce_only: bool = False,
        kill: bool = False,
        reduces: bool = False,
    ) -> Leg:
        bps = self._slippage.bps(reduces=reduces, kill=kill)
        return _leg(market.spec.base_symbol, market.oracle, base_1e9, market.spec.spot_tick_1e6, reduce_only, bps)

    def _trade(
        self,
        kind: OperationKind,
        facts: Facts,
        book: MarginBook,
        legs: tuple[Leg, ...],
        increases_risk: bool,
        side: str,
        stance: Stance,
        reason: str,
        transfer: Transfer | None = None,
    ) -> Plan:
        spec, market = facts.market.spec, facts.market
        fills = self._fills(facts, legs)
        first = legs[0]
        size = abs(base_to_decimal(first.base_1e9))
        price = market.mark if first.market == spec.symbol else market.oracle
        return Plan(
            kind=kind,
            spec=spec,
            legs=legs,
            transfer=transfer,
            increases_risk=increases_risk,
            size=size,
            price=price,
            limit_price=Decimal(first.limit_price_1e6) / 10**6,
            notional=size * price,
            fees=fills.fees,
            slippage=fills.slippage,
            side=side,
            stance=stance,
            reason=reason,
            after=self._stand(book_after(book, fills.change(spec, transfer))),
            spot_after_1e9=facts.spot.base_1e9
            + fills.spot_1e9
            + (0 if transfer is None else spec.base_1e9(transfer.amount)),
            perp_after_1e9=facts.perp.base_1e9 + fills.perp_1e9,
        )

    def book_with_operation(self, facts: Facts | None, book: MarginBook, operation: Operation | Plan) -> MarginBook:
        """``book`` as it would be if ``operation`` had landed, filled whole at the present prices. ``facts`` are
        those of its market; None: it moves the quote asset alone."""
        if facts is None:
            return book if operation.transfer is None else book_with(book, None, operation.transfer)
        return self.book_with_legs(facts, book, operation.legs, operation.transfer)

    def book_with_legs(
        self, facts: Facts, book: MarginBook, legs: Iterable[Leg], transfer: Transfer | None = None
    ) -> MarginBook:
        """``book`` as it would be with ``legs`` of one market filled whole at the present prices."""
        return book_after(book, self._fills(facts, legs).change(facts.market.spec, transfer))

    def _fills(self, facts: Facts, legs: Iterable[Leg]) -> _Fills:
        market, costs = facts.market, self._costs()
        fees = slippage = perp_quote = perp_fee = spot_quote = Decimal(0)
        perp_1e9 = spot_1e9 = 0
        for leg in legs:
            base = base_to_decimal(leg.base_1e9)
            is_perp = leg.market == market.spec.symbol
            price = market.mark if is_perp else market.oracle
            fill = costs.slippage.fill_price(price, base)
            rate = costs.fees.perp_taker_1e5 if is_perp else costs.fees.spot_1e5
            fee = abs(base) * fill * rate / FEE_PRECISION
            fees += fee
            slippage += base * (fill - price)
            if is_perp:
                perp_1e9 += leg.base_1e9
                perp_quote -= base * fill
                perp_fee += fee
            else:
                spot_1e9 += leg.base_1e9
                spot_quote -= base * fill + fee
        return _Fills(perp_1e9, spot_1e9, perp_quote, perp_fee, spot_quote, fees, slippage)


class _Fills(NamedTuple):
    """What orders bring if they fill whole at the expected prices; quote positive when received."""

    perp_1e9: int
    spot_1e9: int
    perp_quote: Decimal
    perp_fee: Decimal
    spot_quote: Decimal
    fees: Decimal
    slippage: Decimal

    def change(self, spec: MarketSpec, transfer: Transfer | None) -> Change:
        moved = spec.native(self.spot_1e9) + (0 if transfer is None else transfer.amount)
        return Change(
            perp_index=spec.perp_index,
            base_delta_1e9=self.perp_1e9,
            quote_delta_1e6=price_to_1e6(self.perp_quote),
            fee_1e6=price_to_1e6(self.perp_fee),
            token_deltas={spec.spot_index: moved, QUOTE_SPOT_INDEX: price_to_1e6(self.spot_quote)},
        )


def _leg(instrument: str, price: Decimal, base_1e9: int, tick_1e6: int, reduce_only: bool, slippage_bps: int) -> Leg:
    limit = limit_price_1e6(price_to_1e6(price), buy=base_1e9 > 0, slippage_bps=slippage_bps, tick_1e6=tick_1e6)
    return Leg(instrument, base_1e9, limit, reduce_only)


def loss_if_forced(plan: Plan, estimate: CarryEstimate | None, round_trip: float, horizon_h: float) -> float | None:
    """What forcing a trade that R6.2 rejects is expected to lose over the horizon, in quote (positive: a loss)."""
    if estimate is None:
        return None
    return float(plan.notional) * (round_trip - estimate.net * horizon_h)
