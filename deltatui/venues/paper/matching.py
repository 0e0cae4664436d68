"""What an operation does to the paper account: fills, transfers, settlement, and what the exchange refuses.

Refusals carry the names that the Drift program has for them (docs/sources.md, Drift).
"""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec

from deltatui.domain.costs import FEE_PRECISION
from deltatui.domain.errors import ValidationError
from deltatui.domain.margin import margin_summary
from deltatui.domain.operation import Leg, Operation, OperationKind, Transfer
from deltatui.domain.units import BASE_PRECISION, PRICE_PRECISION, QUOTE_PRECISION, base_to_decimal, floor_to_step
from deltatui.venues.paper.account import Change, PaperAccount
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.markets import Listing, Markets
from deltatui.venues.paper.settings import QUOTE_ASSET, PaperSettings

_ZERO = Decimal(0)


class Matching:
    """The exchange's answer to one operation."""

    def __init__(self, markets: Markets, settings: PaperSettings, margin: PaperMargin) -> None:
        self._markets = markets
        self._settings = settings
        self._margin = margin

    def apply(self, operation: Operation, change: Change, told: PaperAccount, *, faults: bool) -> None:
        """Carry it out on ``change``, which has the interest up to now; ``told`` is the account without it.

        Raises ValidationError with the exchange's error name. ``faults`` lets the scenario interfere (R1.6).
        """
        if not self._markets.priced:
            raise ValidationError("MarketNotActive", "the paper exchange has no price yet")
        for leg in operation.legs:
            _check_order(self._markets.perp(operation.market), leg)
        for leg in self._troubled(operation) if faults else operation.legs:
            self._fill(change, self._markets.perp(operation.market), leg, told, operation.id)
        if operation.kind == OperationKind.SETTLE and not change.settle(self._markets.perp(operation.market)):
            raise ValidationError("NoUnsettledPnl", "there is no unsettled PnL to settle")
        if operation.transfer is not None:
            self._transfer(change, operation.transfer, operation.id)
        self._check_margin(change.account, operation)

    def _troubled(self, operation: Operation) -> tuple[Leg, ...]:
        """What the scenario leaves of the legs."""
        chances, legs = self._settings.faults, operation.legs
        dice = random.Random(f"{chances.seed}:{operation.id}")  # noqa: S311  a scenario, not a secret
        if dice.random() < chances.fail_rate:
            raise ValidationError("SimulatedFailure", "the scenario let this transaction fail")
        if legs and dice.random() < chances.partial_rate:
            legs = self._in_part(operation, dice)
        if len(legs) > 1 and dice.random() < chances.odd_leg_rate:
            legs = legs[:1]
        return legs

    def _in_part(self, operation: Operation, dice: random.Random) -> tuple[Leg, ...]:
        """The same legs, one of them smaller: in whole steps of the perp, on the spot leg too, so that what is then
        missing can be traded in either."""
        spec, which = self._markets.perp(operation.market).spec, self._settings.faults.partial_leg
        names = {"perp": (spec.symbol,), "spot": (spec.base_symbol,)}.get(which)
        open_to_it = [leg for leg in operation.legs if names is None or leg.market in names]
        if not open_to_it:
            return operation.legs
        hit = dice.choice(open_to_it)
        part = floor_to_step(int(hit.base_1e9 * dice.uniform(0.2, 0.9)), spec.step_base_1e9)
        smaller = msgspec.structs.replace(hit, base_1e9=part or hit.base_1e9)
        return tuple(smaller if leg is hit else leg for leg in operation.legs)

    def _fill(self, change: Change, listing: Listing, leg: Leg, told: PaperAccount, operation_id: str) -> None:
        is_perp, now = leg.market == listing.spec.symbol, listing.state()
        if not is_perp:
            leg = _with_interest(leg, told, change.account)
        held = _held_1e9(change.account, leg.market, is_perp=is_perp)
        if leg.reduce_only and (held == 0 or (held > 0) == (leg.base_1e9 > 0) or abs(leg.base_1e9) > abs(held)):
            raise ValidationError("ReduceOnlyOrderIncreasedRisk", f"{leg.market}: order {leg.base_1e9} on {held}")
        base = base_to_decimal(leg.base_1e9)
        costs = self._settings.costs
        price = costs.slippage.fill_price(now.mark if is_perp else now.oracle, base)
        limit = Decimal(leg.limit_price_1e6) / PRICE_PRECISION
        if (price > limit) if leg.base_1e9 > 0 else (price < limit):
            raise ValidationError(
                "PriceLimitNotMet", f"{leg.market}: fill at {price:.6f} is beyond the limit {limit:.6f}"
            )
        rate = costs.fees.perp_taker_1e5 if is_perp else costs.fees.spot_1e5
        fee = abs(base) * price * rate / FEE_PRECISION
        if is_perp:
            change.trade_perp(listing, leg.base_1e9, price, fee, operation_id)
        else:
            change.trade_spot(leg.market, base, price, fee, operation_id)

    def _transfer(self, change: Change, transfer: Transfer, operation_id: str) -> None:
        account, asset, listing = change.account, transfer.asset, None
        if asset == QUOTE_ASSET:
            amount = Decimal(transfer.amount) / QUOTE_PRECISION
            wallet, held = account.wallet_quote, account.quote
        else:
            listing = self._markets.spot(asset)
            if listing.paused:
                code = "MarketActionPaused" if transfer.amount > 0 else "MarketWithdrawPaused"
                raise ValidationError(
                    code, f"{asset} cannot be moved, {listing.spec.symbol} is paused: {listing.paused}"
                )
            amount = base_to_decimal(listing.spec.base_1e9(transfer.amount))
            wallet, held = account.wallet.get(asset, _ZERO), account.spots.get(asset, _ZERO)
        if amount > wallet:
            raise ValidationError("InsufficientFunds", f"the wallet holds {wallet:.10g} {asset}, not {amount:.10g}")
        if amount < 0 and -amount > max(held, _ZERO):
            raise ValidationError("InsufficientDeposit", f"the account holds {held:.10g} {asset}, not {-amount:.10g}")
        if listing is None:
            change.transfer_quote(amount, operation_id)
        else:
            change.transfer_spot(listing, amount, operation_id)

    def _check_margin(self, account: PaperAccount, operation: Operation) -> None:
        """Increases and withdrawals must leave initial margin and stay below the paper leverage limit (R1.4), both over
        all markets."""
        increases = any(not leg.reduce_only for leg in operation.legs)
        withdraws = operation.transfer is not None and operation.transfer.amount < 0
        if not increases and not withdraws:
            return
        summary = margin_summary(self._margin.book(account))
        if summary.free_initial_1e6 <= 0 and summary.requirement_initial_1e6 > 0:
            raise ValidationError("InsufficientCollateral", "initial margin would not be covered")
        if increases and summary.leverage_1e4 > self._settings.max_leverage * 10_000:
            raise ValidationError(
                "LeverageTooHigh",
                f"it would be {summary.leverage_1e4 / 10_000:.2f}x, paper allows {self._settings.max_leverage:g}x",
            )


def _check_order(listing: Listing, leg: Leg) -> None:
    """The rules of the market for an order as such. What reduces spot may have any size: interest leaves balances that
    are no multiple of a step, and they must close to zero (R4.5)."""
    spec = listing.spec
    if leg.market == spec.symbol:
        step_1e9, least_1e9, any_size = spec.step_base_1e9, spec.min_base_1e9, False
    elif leg.market == spec.base_symbol:
        step_1e9, least_1e9, any_size = spec.spot_step_1e9, spec.spot_min_1e9, leg.reduce_only
    else:
        raise ValidationError("MarketNotFound", f"an operation in {spec.symbol} cannot trade {leg.market}")
    if listing.paused:
        raise ValidationError("MarketPlaceOrderPaused", f"{spec.symbol} takes no orders: {listing.paused}")
    if listing.ended and not leg.reduce_only:
        text = f"{spec.symbol} has ended: no prices come any more, and it only takes what reduces"
        raise ValidationError("InvalidOrderNotRiskReducing", text)
    if leg.base_1e9 == 0:
        raise ValidationError("InvalidOrderSizeTooSmall", "an order of nothing")
    if leg.base_1e9 % step_1e9 and not any_size:
        raise ValidationError(
            "InvalidOrderNotStepSizeMultiple", f"{leg.market}: {leg.base_1e9} is no multiple of {step_1e9}"
        )
    if abs(leg.base_1e9) < least_1e9 and not leg.reduce_only:
        raise ValidationError(
            "InvalidOrderMinOrderSize", f"{leg.market}: {abs(leg.base_1e9)} is below the least order of {least_1e9}"
        )


def _held_1e9(account: PaperAccount, market: str, *, is_perp: bool) -> int:
    if is_perp:
        perp = account.perps.get(market)
        return 0 if perp is None else perp.base_1e9
    return int(account.spots.get(market, _ZERO) * BASE_PRECISION)


def _with_interest(leg: Leg, told: PaperAccount, now: PaperAccount) -> Leg:
    """A close of all spot that was told takes the interest since then along (R4.5)."""
    if leg.reduce_only and leg.base_1e9 == -_held_1e9(told, leg.market, is_perp=False):
        return msgspec.structs.replace(leg, base_1e9=-_held_1e9(now, leg.market, is_perp=False))
    return leg
