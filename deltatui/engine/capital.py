"""How much may come in from the wallet and go out to it (R3)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits, allowed, judge_withdrawal
from deltatui.domain.operation import Transfer
from deltatui.domain.units import BASE_PRECISION, QUOTE_DECIMALS, QUOTE_PRECISION
from deltatui.engine.core import Core
from deltatui.engine.planner import book_with
from deltatui.engine.standing import Standing, standing_facts, withdrawals_closed
from deltatui.ports import AccountReport

GAS_ASSET = "SOL"
"""What transactions are paid in."""


class Capital:
    """For the quote asset and those of the hedges; that an asset is one of :attr:`assets` is the caller's matter.
    Amounts are in the asset's own smallest units."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def assets(self) -> tuple[str, ...]:
        return self._core.venue.quote_symbol, *(hedge.spec.base_symbol for hedge in self._core.hedges.values())

    def decimals(self, asset: str) -> int:
        hedge = self._core.hedge_of_asset(asset)
        return QUOTE_DECIMALS if hedge is None else hedge.spec.base_decimals

    def wallet(self, asset: str) -> int:
        """What the wallet holds, in smallest units. Raises ValidationError while that is not known."""
        hedge = self._core.hedge_of_asset(asset)
        if hedge is None:
            return int(self._known_account().wallet_quote * QUOTE_PRECISION)
        return hedge.spec.native(hedge.known_facts().spot.wallet_1e9)

    def gas_reserve(self, asset: str) -> int:
        """What has to stay in the wallet to pay for transactions (R3.1)."""
        if asset != GAS_ASSET or "gas" in self._core.venue.not_applicable():
            return 0
        return int(self._core.settings.limits.min_gas_sol * BASE_PRECISION)

    def largest_deposit(self, asset: str) -> Decimal:
        """The most that may be deposited (R3.1). Raises ValidationError while the wallet is not known."""
        return Decimal(max(0, self.wallet(asset) - self.gas_reserve(asset))) / self._unit(asset)

    def largest_withdrawal(self, asset: str) -> Decimal:
        """The most that may be withdrawn (R3.4), to the smallest unit. Raises ValidationError while prices or account
        are not known, or where the account cannot be judged."""
        core = self._core
        book, unit, hedge = core.known_book(), self._unit(asset), core.hedge_of_asset(asset)
        if hedge is None:
            spec, problem, held = None, "", int(self._known_account().quote * unit)
        else:
            facts = hedge.known_facts()
            spec, problem, held = hedge.spec, withdrawals_closed(facts.market), hedge.spec.native(facts.spot.base_1e9)
        limits = core.settings.limits

        def room(amount: int) -> int:
            return _room(core.stand(book_with(book, spec, Transfer(asset, -amount))), problem, limits)

        return Decimal(largest(max(0, held), room)) / unit

    def _unit(self, asset: str) -> int:
        return int(10 ** self.decimals(asset))

    def _known_account(self) -> AccountReport:
        account = self._core.world.account()
        if account is None:
            raise ValidationError("NO_DATA", "the account is not known yet")
        return account


def deposit_allowed(amount: int, wallet: int, gas_reserve: int) -> bool:
    """R3.1: accepted iff ``0 < amount <= wallet - gas reserve``; all in the asset's smallest units."""
    return 0 < amount <= wallet - gas_reserve


def _room(after: Standing, problem: str, limits: GateLimits) -> int:
    """Not negative iff the gates let a withdrawal leave the account like this; the size only says how far the nearest
    limit is off, so that the search finds it quickly."""
    passes = allowed(judge_withdrawal(standing_facts(after, problem, withdraws=True), limits))
    summary = after.summary
    collateral, requirement = summary.collateral_maintenance_1e6, summary.requirement_maintenance_1e6
    rooms = [
        (100 - limits.min_health_withdraw) * collateral - 100 * requirement,
        summary.collateral_initial_1e6 - summary.requirement_initial_1e6,
        summary.free_initial_1e6 - int(limits.min_free_quote_usd * QUOTE_PRECISION),
    ]
    if (nearest := after.nearest) is not None:
        rooms.append(int((abs(nearest.distance_pct) - limits.min_liq_distance_pct) * 1e6))
    if after.leverage is not None and summary.leverage_1e4:
        liabilities = after.leverage * summary.net_value_1e6
        rooms.append(int(limits.max_leverage * summary.net_value_1e6 - liabilities))
    room = min(rooms)
    return max(0, room) if passes else min(-1, room)


def largest(most: int, room: Callable[[int], int]) -> int:
    """The largest whole number from 0 to ``most`` with ``room(number) >= 0``; 0 where there is none.

    ``room`` never turns from negative back to not negative as its number grows. By interpolation, since it is nearly
    linear, and by halves where that does not help.
    """
    if most <= 0:
        return 0
    below = room(most)
    if below >= 0:
        return most
    above = room(0)
    if above < 0:
        return 0
    left, right = 0, most
    halve = False
    while (width := right - left) > 1:
        step = width // 2 if halve else width * above // (above - below)
        guess = left + min(max(1, step), width - 1)
        value = room(guess)
        if value >= 0:
            left, above = guess, value
        else:
            right, below = guess, value
        halve = 2 * (right - left) > width
    return left
