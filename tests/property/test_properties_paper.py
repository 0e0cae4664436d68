"""Documented properties 1, 3, 7, 15, 53 and 54 at the paper exchange itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from paper_exchange import (
    BOTH,
    BTC_PRICE,
    FREE,
    PRICE,
    SOL,
    START_S,
    Exchange,
    order,
    record_of,
)
from paper_exchange import (
    on_exchange as on_any,
)

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain.costs import DOCUMENTED_SLIPPAGE, DRIFT_FEES, CostModel, SlippageModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.facts import Funding, Prices
from deltatui.domain.ledger import FlowKind
from deltatui.domain.operation import Leg, Operation, OperationKind, OperationState, Transfer
from deltatui.domain.units import base_to_decimal
from deltatui.store.database import Database, Durability
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.settings import SOL_PERP, PaperFaults, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

examples = settings(max_examples=150, deadline=None)

steps = st.integers(1, 2000)
spot_steps = st.integers(SOL_PERP.spot_min_1e9 // SOL_PERP.step_base_1e9, 2000)
"""Steps of the perp that are enough for an order in spot too."""
prices = st.decimals(1, 5000, places=4)
RICH = 10**9

T = TypeVar("T")


def on_exchange(
    scenario: Callable[[Exchange], Awaitable[T]],
    paper: PaperSettings | None = None,
    *,
    opening: int = RICH,
    price: Decimal = PRICE,
) -> T:
    return on_any(scenario, paper, opening=opening, wallet={"SOL": Decimal(10)}, price=price)


def perp(base_1e9: int, *, reduce_only: bool = False, limit: int | None = None) -> Leg:
    return order("SOL-PERP", base_1e9, reduce_only=reduce_only, limit=limit)


def spot(base_1e9: int, *, reduce_only: bool = False) -> Leg:
    return order("SOL", base_1e9, reduce_only=reduce_only)


@examples
@given(prices, spot_steps, st.booleans(), st.booleans())
def test_property_03_and_54_fills_of_both_legs(price: Decimal, size: int, buy: bool, in_spot: bool) -> None:
    """0.1 to 0.3 % with the documented slippage, on the side that costs us."""
    base = size * 10_000_000 * (1 if buy else -1)

    async def scenario(x: Exchange) -> None:
        assert (await x.tried(spot(base) if in_spot else perp(base)))[0] == "LANDED"
        (fill,) = await x.venue.events_after(0)
        slip = (fill.price / price - 1) * (1 if buy else -1)
        assert Decimal("0.001") <= slip <= Decimal("0.003")
        assert price * (1 - Decimal("0.003")) <= fill.price <= price * (1 + Decimal("0.003"))
        assert fill.base == base_to_decimal(base)

    model = CostModel(FREE.fees, DOCUMENTED_SLIPPAGE)
    on_exchange(scenario, PaperSettings(costs=model), price=price)


@examples
@given(steps, st.booleans(), st.lists(prices, min_size=1, max_size=8))
def test_property_07_pnl_follows_each_price(size: int, long: bool, path: list[Decimal]) -> None:
    base = size * 10_000_000 * (1 if long else -1)

    async def scenario(x: Exchange) -> None:
        await x.tried(perp(base))
        before = x.account.equity
        for price in path:
            await x.price(price, after_s=1)
            assert x.perp().entry == PRICE
            pnl = (price - PRICE) * base_to_decimal(size * 10_000_000) * (1 if long else -1)
            assert x.account.equity - before == pnl
            assert x.perp().unsettled == pnl

    on_exchange(scenario)


@examples
@given(steps, st.booleans(), prices, st.lists(st.integers(1, 5), max_size=4))
def test_property_15_and_53_closing_takes_exactly_what_is_there(
    size: int, long: bool, price: Decimal, adds: list[int]
) -> None:
    sign = 1 if long else -1

    async def scenario(x: Exchange) -> None:
        await x.tried(perp(sign * size * 10_000_000))
        for add in adds:
            await x.tried(perp(sign * add * 10_000_000))
        await x.price(price, after_s=1)
        held = x.perp().base_1e9
        assert await x.tried(perp(-held - sign * 10_000_000, reduce_only=True)) == (
            "FAILED",
            "ReduceOnlyOrderIncreasedRisk",
        )
        assert x.perp().base_1e9 == held
        assert (await x.tried(perp(-held, reduce_only=True)))[0] == "LANDED"
        assert x.perp().base_1e9 == 0
        assert x.perp().entry is None

    on_exchange(scenario)


@examples
@given(st.integers(2, 2000), st.integers(1, 1999), st.booleans())
def test_a_reduction_keeps_the_entry_price_and_its_share_of_it(size: int, part: int, long: bool) -> None:
    assume(part < size)
    sign = 1 if long else -1

    async def scenario(x: Exchange) -> None:
        await x.tried(perp(sign * size * 10_000_000))
        await x.price(Decimal(200), after_s=1)
        await x.tried(perp(-sign * part * 10_000_000, reduce_only=True))
        entry = x.perp().entry
        assert entry is not None
        assert abs(entry - PRICE) < Decimal("1e-12")
        # Turned round it has the price of the day.
        await x.tried(perp(-sign * (size - part + 1) * 10_000_000))
        assert x.perp().entry == 200

    on_exchange(scenario)


@examples
@given(st.integers(1, 100), st.integers(1, 3000), st.sampled_from([2.0, 5.0, 10.0]))
def test_property_04_paper_rejects_beyond_its_leverage_and_never_a_reduction(
    quote: int, size: int, most: float
) -> None:
    base = -size * 10_000_000
    notional = size * PRICE / 100
    fits = notional <= Decimal(str(most)) * quote

    async def scenario(x: Exchange) -> None:
        state, code = await x.tried(perp(base))
        if not fits:
            assert state == "FAILED"
            assert code in ("LeverageTooHigh", "InsufficientCollateral")
            assert x.perp().base_1e9 == 0
            return
        assert state == "LANDED"
        # The price goes against it; adding is refused, reducing is not.
        higher = PRICE * Decimal("1.05")
        await x.price(higher, after_s=1)
        if x.perp().base_1e9:
            assert (await x.tried(perp(-base // 10_000_000 // 2 * 10_000_000 or -base, reduce_only=True)))[
                0
            ] == "LANDED"

    on_exchange(scenario, PaperSettings(costs=FREE, max_leverage=most), opening=quote)


@examples
@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=10))
def test_an_operation_id_is_accepted_once(names: list[str]) -> None:
    async def scenario(x: Exchange) -> None:
        for name in names:
            assert (await x.tried(perp(-10_000_000), name=name))[0] == "LANDED"
        assert x.perp().base_1e9 == -10_000_000 * len(set(names))

    on_exchange(scenario)


@examples
@given(prices, st.integers(-200, 200), st.booleans())
def test_property_14_a_fill_beyond_the_limit_is_refused(price: Decimal, offset_bps: int, buy: bool) -> None:
    """At the exchange: a limit that the fill would miss fails the whole order."""
    limit = int(price * 10**6 * (10_000 + offset_bps)) // 10_000
    base = 10_000_000 if buy else -10_000_000
    filled = price * Decimal("1.0002") if buy else price * Decimal("0.9998")
    fits = filled * 10**6 <= limit if buy else filled * 10**6 >= limit

    async def scenario(x: Exchange) -> None:
        state, code = await x.tried(perp(base, limit=limit))
        assert (state == "LANDED") is fits
        assert fits or code == "PriceLimitNotMet"

    two_bp = SlippageModel(Decimal("0.0002"), Decimal("0.0002"))
    on_exchange(scenario, PaperSettings(costs=CostModel(FREE.fees, two_bp)), price=price)


@examples
@given(st.integers(1, 10**9), st.booleans(), st.booleans())
def test_property_11_a_transfer_moves_exactly_its_amount(amount: int, in_base: bool, out: bool) -> None:
    async def scenario(x: Exchange) -> None:
        asset = "SOL" if in_base else "USDC"
        if in_base:
            assert (await x.tried(kind=OperationKind.DEPOSIT, transfer=Transfer("SOL", 5 * SOL)))[0] == "LANDED"
        before, before_spot = x.account, x.spot()
        kind = OperationKind.WITHDRAW if out else OperationKind.DEPOSIT
        assert (await x.tried(kind=kind, transfer=Transfer(asset, -amount if out else amount)))[0] == "LANDED"
        after, after_spot = x.account, x.spot()
        signed = -amount if out else amount
        if in_base:
            assert after_spot.base_1e9 - before_spot.base_1e9 == signed
            assert before_spot.wallet_1e9 - after_spot.wallet_1e9 == signed
        else:
            assert after.quote - before.quote == Decimal(signed) / 10**6
            assert before.wallet_quote - after.wallet_quote == Decimal(signed) / 10**6

    on_exchange(scenario)


@examples
@given(
    st.integers(0, 2**31),
    st.floats(0, 0.4),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.integers(10, 100),
)
def test_a_scenario_repeats_exactly(seed: int, fail: float, partial: float, odd: float, size: int) -> None:
    """R1.6: dice are drawn from seed and id; what does not fail fills no more than was ordered."""

    async def scenario(x: Exchange) -> list[tuple[tuple[str, str], int, int]]:
        told = []
        for _ in range(5):
            before = x.perp().base_1e9
            outcome = await x.tried(perp(-size * 10_000_000), spot(size * 10_000_000))
            told.append((outcome, x.perp().base_1e9, x.spot().base_1e9))
            moved = before - x.perp().base_1e9
            assert 0 <= moved <= size * 10_000_000
            assert (moved == 0) is (outcome[0] == "FAILED")
        return told

    paper = PaperSettings(costs=FREE, faults=PaperFaults(seed, fail, partial, odd))
    assert on_exchange(scenario, paper) == on_exchange(scenario, paper)


@examples
@given(st.integers(1, 1000), st.lists(st.decimals(-1, 1, places=6), min_size=1, max_size=30), st.booleans())
def test_property_01_the_documented_period_can_be_set(size: int, rates: list[Decimal], long: bool) -> None:
    """One booking a cycle, of that record's rate times eight, at its mark; the venue's own way books each record."""
    base = size * 10_000_000 * (1 if long else -1)

    def booked(period_s: int) -> list[Decimal]:
        async def scenario(x: Exchange) -> list[Decimal]:
            await x.tried(perp(base))
            for number, rate in enumerate(rates, 1):
                await x.record(record_of(START_S + 3600 * number, rate))
            return [e.amount for e in await x.venue.events_after(0) if e.kind is FlowKind.FUNDING]

        return on_exchange(scenario, PaperSettings(costs=FREE, funding_period_s=period_s))

    size_1 = base_to_decimal(base)
    assert booked(0) == [-size_1 * rate for rate in rates]
    documented = booked(28_800)
    firsts = [rate for number, rate in enumerate(rates, 1) if number % 8 == 0]
    assert [float(cash) for cash in documented] == pytest.approx([float(-size_1 * rate * 8) for rate in firsts])


@examples
@given(st.decimals(0, 50, places=2), st.integers(10, 100), st.integers(1, 100_000))
def test_borrowed_sol_costs_its_rate_over_time(apr: Decimal, size: int, seconds: int) -> None:
    async def scenario(x: Exchange) -> None:
        await x.tried(perp(size * SOL // 100), spot(-size * SOL // 100))
        before = x.account.equity
        await x.record(record_of(START_S + seconds, Decimal(0)))
        cost = base_to_decimal(size * SOL // 100) * PRICE * apr / 100 * seconds / (365 * 86_400)
        assert abs(before - x.account.equity - cost) < Decimal("1e-12")

    on_exchange(scenario, PaperSettings(costs=FREE, base_borrow_apr_pct=apr))


def test_a_market_without_a_maintenance_ratio_has_the_fallback() -> None:
    """R1.5: the market's own figure wins, the documented 5 % is for a market that tells none."""

    async def ratio(own_1e4: int | None, fallback_1e4: int = 500) -> int:
        database = await Database.open(None, Durability.MEMORY)
        try:
            spec = msgspec.structs.replace(SOL_PERP, margin_maintenance_1e4=own_1e4)
            paper = PaperSettings(maintenance_fallback_1e4=fallback_1e4)
            venue = PaperVenue([spec], paper, PaperTables(database), SimulatedClock(float(START_S)))
            await venue.open(Decimal(1000), Decimal(0))
            await venue.take(Prices("SOL-PERP", "test", float(START_S), PRICE, PRICE))
            book = venue.margin_book()
            assert book is not None
            return book.perp_markets[spec.perp_index].margin_ratio_maintenance_1e4
        finally:
            await database.close()

    assert asyncio.run(ratio(300)) == 300
    assert asyncio.run(ratio(None)) == PaperSettings().maintenance_fallback_1e4 == 500
    assert asyncio.run(ratio(None, 425)) == 425
    with pytest.raises(ValidationError, match=r"a maintenance margin of 6 % is above its initial margin of 5 %"):
        asyncio.run(ratio(None, 600))


def test_interest_does_not_begin_before_the_account() -> None:
    """The first that an exchange hears of may be a record."""

    async def scenario() -> Decimal:
        database = await Database.open(None, Durability.MEMORY)
        paper = PaperSettings(quote_lend_apr_pct=Decimal(10))
        venue = PaperVenue([SOL_PERP], paper, PaperTables(database), SimulatedClock(float(START_S)))
        await venue.open(Decimal(1000), Decimal(0))
        await venue.take(Funding("SOL-PERP", "test", float(START_S), record_of(START_S), priced=True))
        account = venue.account()
        await database.close()
        assert account is not None
        return account.equity

    assert asyncio.run(scenario()) == 1000


@pytest.mark.parametrize(
    ("legs", "code"),
    [
        ((Leg("BTC-PERP", SOL, 1),), "MarketNotFound"),
        ((perp(1),), "InvalidOrderNotStepSizeMultiple"),
        ((perp(SOL + 1, reduce_only=True),), "InvalidOrderNotStepSizeMultiple"),
        ((perp(0),), "InvalidOrderSizeTooSmall"),
        ((spot(SOL + 99_999),), "InvalidOrderNotStepSizeMultiple"),
        ((spot(-99_900_000),), "InvalidOrderMinOrderSize"),
        ((perp(SOL), spot(99_900_000)), "InvalidOrderMinOrderSize"),
        ((perp(SOL, reduce_only=True),), "ReduceOnlyOrderIncreasedRisk"),
        ((spot(SOL, reduce_only=True),), "ReduceOnlyOrderIncreasedRisk"),
        ((perp(SOL), spot(0)), "InvalidOrderSizeTooSmall"),
    ],
)
def test_orders_that_the_exchange_refuses_change_nothing(legs: tuple[Leg, ...], code: str) -> None:
    async def scenario(x: Exchange) -> None:
        before = x.account
        assert await x.tried(*legs) == ("FAILED", code)
        assert x.account is before
        assert await x.venue.events_after(0) == ()

    on_exchange(scenario)


@pytest.mark.parametrize(
    ("transfer", "code"),
    [
        (Transfer("DOGE", 1), "SpotMarketNotFound"),
        (Transfer("USDC", 1001 * 10**6), "InsufficientFunds"),
        (Transfer("SOL", -1), "InsufficientDeposit"),
    ],
)
def test_transfers_that_the_exchange_refuses(transfer: Transfer, code: str) -> None:
    async def scenario(x: Exchange) -> None:
        assert (await x.tried(kind=OperationKind.DEPOSIT, transfer=transfer))[1] == code

    on_exchange(scenario)


def test_without_a_price_nothing_is_known_and_nothing_trades() -> None:
    async def scenario() -> None:
        database = await Database.open(None, Durability.MEMORY)
        venue = PaperVenue(BOTH, PaperSettings(), PaperTables(database), SimulatedClock())
        await venue.open(Decimal(1000), Decimal(0))
        assert venue.account() is None
        assert venue.margin_book() is None
        assert venue.health() is None
        operation = Operation("op", OperationKind.TAKE, "SOL-PERP", "test", 0.0, 0.0, (perp(SOL),))
        with pytest.raises(ValidationError, match="MarketNotActive: the paper exchange has no price yet"):
            await venue.simulate(await venue.build(operation))
        # The price of one market is enough to know the account, and not to trade in another.
        await venue.take(Prices("BTC-PERP", "test", 1.0, BTC_PRICE, BTC_PRICE))
        account = venue.account()
        assert account is not None
        assert account.equity == 1000
        assert not account.perps
        assert not account.spots
        with pytest.raises(ValidationError, match="MarketNotActive: the paper exchange has no price of SOL-PERP yet"):
            await venue.simulate(await venue.build(operation))
        await database.close()

    asyncio.run(scenario())


def test_what_is_not_listed_is_unknown() -> None:
    async def scenario(x: Exchange) -> None:
        assert list(x.venue.markets()) == ["SOL-PERP"]
        before = x.account
        await x.price(1, market="BTC-PERP")
        await x.record(record_of(START_S + 3600), market="DOGE-PERP")
        assert x.account is before
        assert await x.tried(Leg("BTC-PERP", SOL, 1), market="BTC-PERP") == ("FAILED", "MarketNotFound")

    on_exchange(scenario)


def test_fees_of_the_drift_preset() -> None:
    """3.5 bp on the perp leg, 5 bp on the spot leg, of the notional filled."""

    async def scenario(x: Exchange) -> None:
        await x.tried(perp(-10 * SOL), spot(10 * SOL))
        fees = [e.amount for e in await x.venue.events_after(0) if e.kind is FlowKind.FEE]
        assert fees == [Decimal("-0.525"), Decimal("-0.75")]

    on_exchange(scenario, PaperSettings(costs=CostModel(DRIFT_FEES, FREE.slippage)))


def test_outcome_of_what_was_never_sent() -> None:
    async def scenario(x: Exchange) -> None:
        operation = Operation("ghost", OperationKind.TAKE, "SOL-PERP", "test", 0.0, 0.0, (perp(SOL),))
        outcome = await x.venue.outcome(await x.venue.sign(await x.venue.build(operation)))
        assert outcome is not None
        assert outcome.state is OperationState.EXPIRED

    on_exchange(scenario)
