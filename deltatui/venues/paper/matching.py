"""What an operation does to the paper account: fills, transfers, settlement, and what the exchange refuses."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.costs import FEE_PRECISION
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import margin_summary
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import Leg, Operation, OperationKind, Transfer
from deltatui.domain.units import BASE_PRECISION, QUOTE_PRECISION, base_to_decimal, floor_to_step
from deltatui.venues.paper.account import Change, PaperAccount, PaperMarket
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.settings import QUOTE_ASSET, PaperSettings


class Matching:
    """One listed market and the spot market beside it."""

    def __init__(self, spec: MarketSpec, settings: PaperSettings, margin: PaperMargin) -> None:
        self._spec = spec
        self._settings = settings
        self._margin = margin

    def apply(
        self,
        operation: Operation,
        change: Change,
        told: PaperAccount,
        market: PaperMarket,
        other_marks: Mapping[str, Decimal],
        *,
        faults: bool,
    ) -> None:
        """Carry it out on ``change``, which has the interest up to now; ``told`` is the account without it.

        Raises ValidationError with the exchange's error name. ``faults`` lets the scenario interfere (R1.6).
        """
        legs = self._troubled(operation) if faults else operation.legs
        for leg in legs:
            self._fill(change, self._with_interest(leg, told, change), market, operation.id)
        if operation.kind == OperationKind.SETTLE and not change.settle(market):
            raise ValidationError("NoUnsettledPnl", "there is no unsettled PnL to settle")
        if operation.transfer is not None:
            self._transfer(change, operation.transfer, market, operation.id)
        self._check_margin(change.account, market, other_marks, operation)

    def _troubled(self, operation: Operation) -> tuple[Leg, ...]:
        chances, legs = self._settings.faults, operation.legs
        dice = random.Random(f"{chances.seed}:{operation.id}")  # noqa: S311  a scenario, not a secret
        if dice.random() < chances.fail_rate:
            raise ValidationError("SimulatedFailure", "the scenario let this transaction fail")
        if legs and dice.random() < chances.partial_rate:
            legs = self._in_part(legs, dice)
        if len(legs) > 1 and dice.random() < chances.odd_leg_rate:
            legs = legs[:1]
        return legs

    def _in_part(self, legs: tuple[Leg, ...], dice: random.Random) -> tuple[Leg, ...]:
        """The same legs, one of them smaller."""
        which = self._settings.faults.partial_leg
        names = {"perp": (self._spec.symbol,), "spot": (self._spec.base_symbol,)}.get(which)
        open_to_it = [leg for leg in legs if names is None or leg.market in names]
        if not open_to_it:
            return legs
        hit = dice.choice(open_to_it)
        return tuple(self._part_of(leg, dice) if leg is hit else leg for leg in legs)

    def _part_of(self, leg: Leg, dice: random.Random) -> Leg:
        part = floor_to_step(int(leg.base_1e9 * dice.uniform(0.2, 0.9)), self._spec.step_base_1e9)
        return msgspec.structs.replace(leg, base_1e9=part or leg.base_1e9)

    def _with_interest(self, leg: Leg, told: PaperAccount, change: Change) -> Leg:
        """A close of all spot that was told takes the interest since then along (R4.5)."""
        before, held = int(told.spot * BASE_PRECISION), int(change.account.spot * BASE_PRECISION)
        if leg.market == self._spec.base_symbol and leg.reduce_only and leg.base_1e9 == -before:
            return msgspec.structs.replace(leg, base_1e9=-held)
        return leg

    def _fill(self, change: Change, leg: Leg, market: PaperMarket, operation_id: str) -> None:
        is_perp = leg.market == self._spec.symbol
        if not is_perp and leg.market != self._spec.base_symbol:
            raise ValidationError("MarketNotFound", f"the paper exchange does not list {leg.market}")
        if is_perp and leg.base_1e9 % self._spec.step_base_1e9:
            raise ValidationError(
                "InvalidOrderStepSize", f"{leg.base_1e9} is no multiple of {self._spec.step_base_1e9}"
            )
        if leg.base_1e9 == 0:
            raise ValidationError("InvalidOrderSizeTooSmall", "an order of nothing")
        account = change.account
        held = account.perp.base_1e9 if is_perp else int(account.spot * BASE_PRECISION)
        if leg.reduce_only and (held == 0 or (held > 0) == (leg.base_1e9 > 0) or abs(leg.base_1e9) > abs(held)):
            raise ValidationError("ReduceOnlyOrderIncreasedRisk", f"{leg.market}: order {leg.base_1e9} on {held}")
        base = base_to_decimal(leg.base_1e9)
        costs = self._settings.costs
        price = costs.slippage.fill_price(market.mark if is_perp else market.oracle, base)
        limit = Decimal(leg.limit_price_1e6) / 10**6
        if (price > limit) if leg.base_1e9 > 0 else (price < limit):
            raise ValidationError(
                "PriceLimitNotMet", f"{leg.market}: fill at {price:.6f} is beyond the limit {limit:.6f}"
            )
        rate = costs.fees.perp_taker_1e5 if is_perp else costs.fees.spot_1e5
        fee = abs(base) * price * rate / FEE_PRECISION
        if is_perp:
            change.trade_perp(leg.base_1e9, price, fee, market.index_long, market.index_short, operation_id)
        else:
            change.trade_spot(base, price, fee, operation_id)

    def _transfer(self, change: Change, transfer: Transfer, market: PaperMarket, operation_id: str) -> None:
        account = change.account
        if transfer.asset == QUOTE_ASSET:
            amount = Decimal(transfer.amount) / QUOTE_PRECISION
            wallet, held = account.wallet_quote, account.quote
        elif transfer.asset == self._spec.base_symbol:
            amount = base_to_decimal(transfer.amount)
            wallet, held = account.wallet_spot, account.spot
        else:
            raise ValidationError("SpotMarketNotFound", f"the paper exchange does not take {transfer.asset}")
        if amount > wallet:
            raise ValidationError(
                "InsufficientFunds", f"the wallet holds {wallet:.10g} {transfer.asset}, not {amount:.10g}"
            )
        if amount < 0 and -amount > max(held, Decimal(0)):
            raise ValidationError(
                "InsufficientDeposit", f"the account holds {held:.10g} {transfer.asset}, not {-amount:.10g}"
            )
        if transfer.asset == QUOTE_ASSET:
            change.transfer_quote(amount, operation_id)
        else:
            change.transfer_spot(amount, market.oracle, operation_id)

    def _check_margin(
        self, account: PaperAccount, market: PaperMarket, other_marks: Mapping[str, Decimal], operation: Operation
    ) -> None:
        """Increases and withdrawals must leave initial margin and stay below the paper leverage limit (R1.4)."""
        increases = any(not leg.reduce_only for leg in operation.legs)
        withdraws = operation.transfer is not None and operation.transfer.amount < 0
        if not increases and not withdraws:
            return
        summary = margin_summary(self._margin.book(account, market, other_marks))
        if summary.free_initial_1e6 <= 0 and summary.requirement_initial_1e6 > 0:
            raise ValidationError("InsufficientCollateral", "initial margin would not be covered")
        if increases and summary.leverage_1e4 > self._settings.max_leverage * 10_000:
            raise ValidationError(
                "LeverageTooHigh",
                f"it would be {summary.leverage_1e4 / 10_000:.2f}x, paper allows {self._settings.max_leverage:g}x",
            )
