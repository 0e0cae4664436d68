"""The largest deposit and withdrawal that clients are shown: exactly what the engine takes."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from engine_harness import FREE, PRICE, SOL, USD, World, deposit, in_world, withdraw, world
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.carry import Stance
from deltatui.domain.command import Direction, Kill, ResultStatus
from deltatui.domain.gates import GateLimits
from deltatui.domain.snapshot import ActionView
from deltatui.venues.paper.settings import PaperSettings

UNITS = {"USDC": USD, "SOL": SOL}
NO_RULES = GateLimits(max_leverage=1e9, min_health_after=0, min_liq_distance_pct=0)


def amounts(w: World, action: str) -> dict[str, float | None]:
    view: ActionView = next(a for a in w.snapshot().actions if a.action == action)
    return {amount.asset: amount.max_amount for amount in view.amounts}


def units(w: World, action: str, asset: str) -> int:
    most = amounts(w, action)[asset]
    assert most is not None
    return round(most * UNITS[asset])


@settings(max_examples=150, deadline=None)
@given(
    action=st.sampled_from(["DEPOSIT", "WITHDRAW"]),
    asset=st.sampled_from(sorted(UNITS)),
    held=st.integers(0, 400),
    way=st.sampled_from(Direction),
    own=st.integers(0, 3 * SOL),
    move=st.decimals("0.7", "1.4", places=2),
    opening=st.integers(200, 3000),
    least=st.sampled_from([0, 50, 80, 95, 100]),
)
def test_the_amount_shown_is_taken_and_one_smallest_unit_more_is_not(
    action: str, asset: str, held: int, way: Direction, own: int, move: Decimal, opening: int, least: int
) -> None:
    async def scenario(w: World) -> None:
        if own:
            await w.sure(deposit(own, "SOL"))
        if held:
            await w.take(held / 100, way)
        await w.to_price(PRICE * move)
        command = deposit if action == "DEPOSIT" else withdraw
        most = units(w, action, asset)
        before = w.account
        assert (await w.sure(command(most + 1, asset))).status is ResultStatus.REJECTED
        assert w.account == before
        if most:
            assert (await w.sure(command(most, asset))).status is ResultStatus.DONE
            assert w.account != before
            # Nothing more can follow: what is shown has moved with the account.
            assert units(w, action, asset) == 0 or action == "WITHDRAW"
        await w.check()

    limits = msgspec.structs.replace(NO_RULES, min_health_withdraw=least)
    paper = PaperSettings(costs=FREE, base_borrow_apr_pct=Decimal(0), quote_borrow_apr_pct=Decimal(0))
    in_world(scenario, opening=opening, wallet_sol=3, limits=limits, hold=Stance.CARRY, paper=paper)


async def test_they_follow_account_wallet_and_price() -> None:
    async with world(wallet_sol=2) as w:
        assert amounts(w, "DEPOSIT") == {"USDC": 1000.0, "SOL": 2.0}
        assert amounts(w, "WITHDRAW") == {"USDC": 3000.0, "SOL": 0.0}
        await w.sure(deposit(400 * USD))
        await w.sure(deposit(SOL, "SOL"))
        assert amounts(w, "DEPOSIT") == {"USDC": 600.0, "SOL": 1.0}
        assert amounts(w, "WITHDRAW") == {"USDC": 3400.0, "SOL": 1.0}


async def test_a_withdrawal_is_less_once_the_price_has_moved_against_the_position() -> None:
    async with world(hold=Stance.REVERSE) as w:
        assert (await w.take(2, Direction.REVERSE)).status is ResultStatus.DONE
        seen: list[float] = []
        for price in ("150", "165", "180"):
            await w.to_price(price)
            most = units(w, "WITHDRAW", "USDC") / USD
            assert most == float(w.engine.desk.capital.largest_withdrawal("USDC"))
            seen.append(most)
        assert len(set(seen)) == 3
        assert min(seen) > 0
        assert max(seen) < float(w.account.quote)


async def test_gas_stays_in_the_wallet_where_the_venue_needs_it() -> None:
    async with world(wallet_sol=2, limits=GateLimits(max_leverage=10.0, min_gas_sol=0.5)) as w:
        w.venue.not_applicable = dict  # type: ignore[method-assign]
        assert amounts(w, "DEPOSIT") == {"USDC": 1000.0, "SOL": 1.5}
        result = await w.sure(deposit(1_500_000_001, "SOL"))
        assert (result.code, result.message) == ("WALLET_TOO_SMALL", "the wallet can give at most 1.5 SOL")
        assert (await w.sure(deposit(1_500_000_000, "SOL"))).status is ResultStatus.DONE
        assert amounts(w, "DEPOSIT")["SOL"] == 0.0


async def test_unknown_is_unknown() -> None:
    async with world() as w:
        book = w.venue.margin_book()
        assert book is not None
        w.venue._book = msgspec.structs.replace(book, oracles={})
        assert amounts(w, "WITHDRAW") == {"USDC": None, "SOL": 0.0}
        assert amounts(w, "DEPOSIT") == {"USDC": 1000.0, "SOL": 0.0}
    async with world(primed=0, priced=False) as w:
        assert amounts(w, "WITHDRAW") == amounts(w, "DEPOSIT") == {"USDC": None, "SOL": None}


async def test_a_state_that_takes_none_says_so_beside_the_amounts() -> None:
    async with world() as w:
        await w.give(Kill())
        view = next(a for a in w.snapshot().actions if a.action == "WITHDRAW")
        assert (view.enabled, view.reason) == (False, "the engine is halted; resume it first")
        assert amounts(w, "WITHDRAW")["USDC"] == 3000.0


async def test_they_are_searched_for_once_while_nothing_moves() -> None:
    async with world() as w:
        await w.take(5)
        asked: list[str] = []
        search = w.engine.desk.capital.largest_withdrawal

        def counted(asset: str) -> Decimal:
            asked.append(asset)
            return search(asset)

        w.engine.desk.capital.largest_withdrawal = counted  # type: ignore[method-assign]
        for _ in range(5):
            w.snapshot()
        assert asked == ["USDC", "SOL"]
        await w.to_price("151")
        w.snapshot()
        w.snapshot()
        assert asked == ["USDC", "SOL"] * 2
