"""How much may come in from the wallet and go out to it (R3)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from deltatui.domain.margin import MarginSummary, margin_summary
from deltatui.domain.operation import Transfer
from deltatui.domain.units import BASE_PRECISION, QUOTE_PRECISION
from deltatui.engine.core import Core
from deltatui.engine.planner import book_with


class Capital:
    """For the quote and the base asset; that an asset is one of :attr:`assets` is the caller's matter."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def assets(self) -> tuple[str, str]:
        return self._core.venue.quote_symbol, self._core.spec.base_symbol

    def wallet(self, asset: str) -> int:
        """What the wallet holds, in smallest units. Raises ValidationError while that is not known."""
        account = self._core.known_facts().account
        if asset == self._core.venue.quote_symbol:
            return int(account.wallet_quote * QUOTE_PRECISION)
        return account.wallet_base_1e9

    def gas_reserve(self, asset: str) -> int:
        """What has to stay in the wallet to pay for transactions (R3.1)."""
        if asset == self._core.venue.quote_symbol or "gas" in self._core.venue.not_applicable():
            return 0
        return int(self._core.settings.limits.min_gas_sol * BASE_PRECISION)

    def largest_deposit(self, asset: str) -> Decimal:
        """The most that may be deposited (R3.1). Raises ValidationError while the wallet is not known."""
        return Decimal(max(0, self.wallet(asset) - self.gas_reserve(asset))) / self._unit(asset)

    def largest_withdrawal(self, asset: str) -> Decimal:
        """The most that may be withdrawn (R3.4), to the smallest unit. Raises ValidationError while prices or account
        are not known, or where the account cannot be judged."""
        core = self._core
        facts, book = core.known_facts(), core.known_book()
        unit = self._unit(asset)
        is_quote = asset == core.venue.quote_symbol
        held = int(facts.account.quote * unit) if is_quote else facts.account.spot_1e9
        least = core.settings.limits.min_health_withdraw

        def room(amount: int) -> int:
            return _room(margin_summary(book_with(book, core.spec, Transfer(asset, -amount))), least)

        return Decimal(largest(max(0, held), room)) / unit

    def _unit(self, asset: str) -> int:
        return QUOTE_PRECISION if asset == self._core.venue.quote_symbol else BASE_PRECISION


def deposit_allowed(amount: int, wallet: int, gas_reserve: int) -> bool:
    """R3.1: accepted iff ``0 < amount <= wallet - gas reserve``; all in the asset's smallest units."""
    return 0 < amount <= wallet - gas_reserve


def _room(after: MarginSummary, least_health: int) -> int:
    """Not negative iff a withdrawal may leave the account like this; the size only says how far the limit is off."""
    fits = after.health >= least_health and (after.free_initial_1e6 > 0 or after.requirement_initial_1e6 == 0)
    # Health 100 * (1 - M / C), half up, reaches ``least`` where (201 - 2 * least) * C = 200 * M.
    collateral, requirement = after.collateral_maintenance_1e6, after.requirement_maintenance_1e6
    room = (201 - 2 * least_health) * collateral - 200 * requirement
    if after.requirement_initial_1e6:
        room = min(room, after.collateral_initial_1e6 - after.requirement_initial_1e6 - 1)
    return max(0, room) if fits else min(-1, room)


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
