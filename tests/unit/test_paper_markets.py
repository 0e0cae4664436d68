"""The paper exchange with more than one market: one account, one margin, and what each market says of itself."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from paper_exchange import BOTH, BTC, BTC_PRICE, FREE, PRICE, SOL, START_S, Exchange, exchange, order, record_of

from deltatui.backtest.clock import SimulatedClock
from deltatui.domain import layout
from deltatui.domain.errors import ValidationError
from deltatui.domain.facts import Funding
from deltatui.domain.ledger import FlowKind
from deltatui.domain.margin import health, margin_summary
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import OperationKind, Transfer
from deltatui.ports import AccountId
from deltatui.store.paper_tables import PaperTables
from deltatui.venues.paper.markets import Markets
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP, PaperSettings
from deltatui.venues.paper.venue import PaperVenue

ACCOUNTS = Path(__file__).parent.parent / "data" / "accounts"
D = Decimal


async def take(x: Exchange, market: str, size_1e9: int) -> tuple[str, str]:
    """Short so much of a market against as much of its spot asset."""
    base = x.venue.markets()[market].base_symbol
    return await x.tried(order(market, -size_1e9), order(base, size_1e9), market=market)


# What is listed


@pytest.mark.parametrize(
    ("spec", "perp", "spot"),
    [
        (SOL_PERP, "perp_0_SOL_2026-03-10", "spot_1_SOL_2025-06-24"),
        (BTC_PERP, "perp_1_BTC_2025-06-24", "spot_3_wBTC_2025-06-24"),
    ],
)
def test_the_markets_are_those_of_the_chain(spec: MarketSpec, perp: str, spot: str) -> None:
    p = layout.decode_perp_market((ACCOUNTS / f"{perp}.bin").read_bytes())
    s = layout.decode_spot_market((ACCOUNTS / f"{spot}.bin").read_bytes())
    assert (spec.symbol, spec.perp_index) == (p.name, p.market_index)
    assert (spec.step_base_1e9, spec.min_base_1e9, spec.tick_price_1e6) == (
        p.order_step_1e9,
        p.min_order_1e9,
        p.order_tick_1e6,
    )
    assert (spec.margin_initial_1e4, spec.margin_maintenance_1e4) == (
        p.margin_ratio_initial_1e4,
        p.margin_ratio_maintenance_1e4,
    )
    assert spec.funding_interval_s == p.funding_period_s
    assert (spec.base_symbol, spec.spot_index, spec.base_decimals) == (s.name, s.market_index, s.decimals)
    assert (spec.native(spec.spot_step_1e9), spec.native(spec.spot_min_1e9)) == (s.order_step, s.min_order)
    assert spec.spot_tick_1e6 == s.order_tick_1e6
    assert spec.spot_asset_weight_initial_1e4 == s.initial_asset_weight_1e4
    assert spec.spot_asset_weight_maintenance_1e4 == s.maintenance_asset_weight_1e4
    assert spec.spot_liability_weight_initial_1e4 == s.initial_liability_weight_1e4
    assert spec.spot_liability_weight_maintenance_1e4 == s.maintenance_liability_weight_1e4


async def test_the_account_has_a_name_that_contains_the_venue() -> None:
    async with exchange(specs=BOTH) as x:
        assert x.venue.account_id == x.account.account == AccountId("paper", "paper")
        assert list(x.venue.markets()) == ["SOL-PERP", "BTC-PERP"]
        other = PaperVenue(BOTH, PaperSettings(), PaperTables(x.database), x.clock, "drift-v2 (paper)", "second")
        assert (other.name, str(other.account_id)) == ("drift-v2 (paper)", "paper/second/0")


def test_markets_that_cannot_stand_side_by_side_are_refused() -> None:
    replace = msgspec.structs.replace
    for twin in (
        replace(BTC_PERP, symbol="X-PERP", base_symbol="X", spot_index=9),
        replace(BTC_PERP, symbol="X-PERP", base_symbol="X", perp_index=9),
        replace(BTC_PERP, symbol="X-PERP", perp_index=9, spot_index=9),
        replace(SOL_PERP, symbol="X-PERP", perp_index=9, spot_index=0, base_symbol="X"),
        replace(SOL_PERP, symbol="X-PERP", perp_index=9, spot_index=9, base_symbol="USDC"),
    ):
        with pytest.raises(ValidationError, match="DUPLICATE_MARKET"):
            Markets([SOL_PERP, twin])
    Markets([SOL_PERP, replace(BTC_PERP, symbol="X-PERP", base_symbol="X", perp_index=9, spot_index=9)])


async def test_a_rate_of_what_is_not_known_or_a_wallet_of_what_is_not_taken_is_refused() -> None:
    async with exchange() as x:
        tables = PaperTables(x.database)
        for paper in (PaperSettings(borrow_apr_pct={"BTC": D(4)}), PaperSettings(lend_apr_pct={"ETH": D(4)})):
            with pytest.raises(ValidationError, match=r"the paper exchange does not know (BTC|ETH)"):
                PaperVenue([SOL_PERP], paper, tables, x.clock)
        # Settings have a rate for every asset that is known, whatever is played.
        PaperVenue([SOL_PERP], PaperSettings(lend_apr_pct={"wBTC": D(4)}), tables, x.clock)
        PaperVenue(BOTH, PaperSettings(lend_apr_pct={"wBTC": D(4), "USDC": D(5)}), tables, x.clock)
        with pytest.raises(ValidationError, match="the paper exchange does not take wBTC"):
            await PaperVenue([SOL_PERP], PaperSettings(), tables, x.clock).open(D(1), D(0), {"wBTC": D(1)})


# One account


async def test_each_hedge_stands_beside_the_other() -> None:
    async with exchange(specs=BOTH, wallet={"wBTC": D(2)}) as x:
        assert await take(x, "SOL-PERP", 5 * SOL) == ("LANDED", "")
        assert await take(x, "BTC-PERP", BTC // 10) == ("LANDED", "")
        told = x.account
        assert {name: perp.base_1e9 for name, perp in told.perps.items()} == {
            "SOL-PERP": -5 * SOL,
            "BTC-PERP": -BTC // 10,
        }
        assert {name: (spot.base_1e9, spot.wallet_1e9) for name, spot in told.spots.items()} == {
            "SOL": (5 * SOL, 0),
            "wBTC": (BTC // 10, 2 * BTC),
        }
        assert told.quote == 100_000 - 5 * PRICE - BTC_PRICE / 10
        # Each is worth what its own market says: spot and what is unsettled at the oracle, equity of perps at the mark.
        await x.price(50_000, 50_100, market="BTC-PERP")
        await x.price(140, 139)
        assert x.perp("BTC-PERP").unsettled == 1000
        assert (x.perp("BTC-PERP").mark, x.perp("BTC-PERP").entry) == (D(50_100), BTC_PRICE)
        assert (x.perp().unsettled, x.perp().mark) == (D(50), D(139))
        assert x.account.equity == 100_000 - 10 + 5
        await x.do(market="BTC-PERP", kind=OperationKind.SETTLE)
        assert x.account.settled == x.perp("BTC-PERP").settled == 1000
        assert (x.perp("BTC-PERP").unsettled, x.perp().unsettled) == (D(0), D(50))
        # What is closed and settled is not held.
        await x.do(
            order("BTC-PERP", BTC // 10, reduce_only=True),
            order("wBTC", -BTC // 10, reduce_only=True),
            market="BTC-PERP",
        )
        assert x.perp("BTC-PERP").base_1e9 == 0
        assert x.perp("BTC-PERP").unsettled == -10
        await x.do(market="BTC-PERP", kind=OperationKind.SETTLE)
        assert list(x.account.perps) == ["SOL-PERP"]
        assert x.spot("wBTC").base_1e9 == 0


async def test_margin_is_of_the_whole_account() -> None:
    async with exchange(specs=BOTH, opening=10_000) as x:
        await x.do(order("BTC-PERP", -BTC // 2), market="BTC-PERP")
        book = x.venue.margin_book()
        assert book is not None
        assert margin_summary(book).requirement_maintenance_1e6 == 30_000 * 300 * 100
        # A loss in one market leaves less for the other, and may take the whole.
        await x.price(70_000, market="BTC-PERP")
        assert x.free_initial_1e6() == (10_000 - 5_000 - 35_000 // 20) * 10**6
        assert await x.tried(order("SOL-PERP", -500 * SOL)) == ("FAILED", "InsufficientCollateral")
        assert (await x.tried(order("SOL-PERP", -400 * SOL)))[1] == "LeverageTooHigh"
        assert await x.tried(order("SOL-PERP", -90 * SOL)) == ("LANDED", "")


async def test_a_markets_spot_and_perp_move_together_and_no_others() -> None:
    """One oracle a market: beta 1 for wBTC, and nothing of SOL in it."""
    async with exchange(specs=BOTH) as x:
        await take(x, "SOL-PERP", 5 * SOL)
        await take(x, "BTC-PERP", BTC // 10)
        book = x.venue.margin_book()
        assert book is not None
        keys = {
            symbol: {book.perp_markets[spec.perp_index].oracle, book.spot_markets[spec.spot_index].oracle}
            for symbol, spec in x.venue.markets().items()
        }
        assert [len(of) for of in keys.values()] == [1, 1]
        assert not keys["SOL-PERP"] & keys["BTC-PERP"]
        assert {book.oracles[key].price_1e6 for key in keys["BTC-PERP"]} == {60_000 * 10**6}


async def test_a_liquidation_takes_every_market() -> None:
    """The SOL hedge was sound by itself; the naked short of BTC takes it along."""
    async with exchange(specs=BOTH, opening=4_000) as x:
        await take(x, "SOL-PERP", 10 * SOL)
        await x.do(order("BTC-PERP", -BTC // 4), market="BTC-PERP")
        assert x.venue.health() == 87
        await x.price(72_000, market="BTC-PERP")
        assert x.account.liquidations == 0
        assert 0 < (x.venue.health() or 0) < 50
        await x.price(74_200, market="BTC-PERP")
        told = x.account
        assert (told.liquidations, told.perps) == (1, {})
        assert x.venue.health() == 100
        equity = 4_000 - (74_200 - 60_000) / D(4)
        fees = (10 * PRICE + 74_200 / D(4)) * D("0.015")
        sold = x.spot().base_1e9 - 10 * SOL
        fees += -base(sold) * PRICE * D("0.015")
        assert abs(told.equity - (equity - fees)) < D("1e-9")
        kinds = [event.instrument for event in await x.venue.events_after(0) if event.operation_id == "liquidation"]
        assert set(kinds) == {"SOL-PERP", "BTC-PERP", "SOL"}


def base(base_1e9: int) -> Decimal:
    return D(base_1e9) / SOL


async def test_any_price_may_be_the_one_that_liquidates() -> None:
    """A funding record of one market, a price of the other."""
    async with exchange(specs=BOTH, opening=4_000) as x:
        await x.do(order("BTC-PERP", -BTC // 4), market="BTC-PERP")
        await x.do(order("SOL-PERP", -SOL))
        await x.price(73_700, market="BTC-PERP")
        assert x.account.liquidations == 0
        await x.record(record_of(START_S + 3600, "-100"))
        assert x.account.liquidations == 1
        assert x.account.perps == {}


# wBTC has eight decimals


async def test_one_wbtc_counts_as_one() -> None:
    """With nine decimals in mind 1 wBTC counted a tenth, or ten times, of itself."""
    async with exchange(specs=BOTH, wallet={"wBTC": D("1.5")}) as x:
        assert await x.tried(kind=OperationKind.DEPOSIT, transfer=Transfer("wBTC", 10**8)) == ("LANDED", "")
        assert (x.spot("wBTC").base_1e9, x.spot("wBTC").wallet_1e9) == (BTC, BTC // 2)
        assert x.account.equity == 160_000
        book = x.venue.margin_book()
        assert book is not None
        summary = margin_summary(book)
        assert summary.net_value_1e6 == 160_000 * 10**6
        assert summary.collateral_maintenance_1e6 == (100_000 + 54_000) * 10**6
        deposit, fill = await x.venue.events_after(0)
        assert (deposit.kind, deposit.amount, fill.base, fill.price) == (FlowKind.DEPOSIT, D(60_000), D(1), D(60_000))
        assert await x.tried(kind=OperationKind.WITHDRAW, transfer=Transfer("wBTC", -1)) == ("LANDED", "")
        assert x.spot("wBTC").base_1e9 == BTC - 10
        too_much = Transfer("wBTC", 50_000_002)
        assert await x.tried(kind=OperationKind.DEPOSIT, transfer=too_much) == ("FAILED", "InsufficientFunds")
        too_much = Transfer("wBTC", -(10**8))
        assert await x.tried(kind=OperationKind.WITHDRAW, transfer=too_much) == ("FAILED", "InsufficientDeposit")


@pytest.mark.parametrize(
    ("market", "size_1e9", "code"),
    [
        ("BTC-PERP", 100_000, ""),
        ("BTC-PERP", 99_999, "InvalidOrderNotStepSizeMultiple"),
        ("BTC-PERP", 150_000, "InvalidOrderNotStepSizeMultiple"),
        ("wBTC", 100_000, ""),
        ("wBTC", 100_010, "InvalidOrderNotStepSizeMultiple"),
        ("SOL", SOL, "MarketNotFound"),
    ],
)
async def test_orders_in_btc_have_its_own_steps(market: str, size_1e9: int, code: str) -> None:
    async with exchange(specs=BOTH) as x:
        for sign in (1, -1):
            assert (await x.tried(order(market, sign * size_1e9), market="BTC-PERP"))[1] == code


async def test_a_balance_with_interest_closes_to_nothing() -> None:
    """Interest leaves balances that are no multiple of a step and smaller than the least order."""
    paper = PaperSettings(costs=FREE, borrow_apr_pct={"wBTC": D(7)}, lend_apr_pct={"SOL": D(5)})
    async with exchange(paper, specs=BOTH) as x:
        await x.do(order("wBTC", -100_000), market="BTC-PERP")
        await x.do(order("SOL", 100_000_000))
        await x.record(record_of(START_S + 36_000))
        owed, held = x.spot("wBTC").base_1e9, x.spot("SOL").base_1e9
        assert owed < -100_000
        assert held > 100_000_000
        assert held % SOL_PERP.spot_step_1e9
        # Half of it first, then the rest, which is below the least order.
        assert await x.tried(order("SOL", -held // 2 - 1, reduce_only=True)) == ("LANDED", "")
        rest = x.spot("SOL").base_1e9
        assert rest < SOL_PERP.spot_min_1e9
        assert await x.tried(order("SOL", -rest)) == ("FAILED", "InvalidOrderNotStepSizeMultiple")
        assert await x.tried(order("SOL", -rest, reduce_only=True)) == ("LANDED", "")
        assert await x.tried(order("wBTC", -owed, reduce_only=True), market="BTC-PERP") == ("LANDED", "")
        assert x.account.spots == {}
        # A price comes between the look and the order: the interest of that time goes along.
        await x.do(order("SOL", SOL))
        await x.price(PRICE, after_s=3600)
        assert await x.tried(order("SOL", -SOL, reduce_only=True)) == ("LANDED", "")
        assert x.account.spots == {}
        fills = [event for event in await x.venue.events_after(0) if event.instrument == "SOL" and event.base]
        assert sum(event.base for event in fills) == 0


# Facts


async def test_a_market_that_is_paused_takes_no_orders_and_the_other_does() -> None:
    async with exchange(specs=BOTH, wallet={"SOL": D(5), "wBTC": D(5)}) as x:
        await take(x, "BTC-PERP", BTC // 10)
        await x.change("BTC-PERP", paused="oracle trouble")
        assert await take(x, "BTC-PERP", BTC // 10) == ("FAILED", "MarketPlaceOrderPaused")
        close = order("BTC-PERP", BTC // 10, reduce_only=True)
        outcome = await x.do(close, market="BTC-PERP")
        assert outcome.detail == "BTC-PERP takes no orders: oracle trouble"
        for amount, code in ((10**7, "MarketActionPaused"), (-(10**7), "MarketWithdrawPaused")):
            assert (await x.tried(kind=OperationKind.DEPOSIT, transfer=Transfer("wBTC", amount)))[1] == code
        assert await take(x, "SOL-PERP", 5 * SOL) == ("LANDED", "")
        for asset in ("SOL", "USDC"):
            assert await x.tried(kind=OperationKind.DEPOSIT, transfer=Transfer(asset, 10**8)) == ("LANDED", "")
        # Prices and funding go on.
        await x.record(record_of(START_S + 3600, "10", D(61_000)), "BTC-PERP")
        assert x.perp("BTC-PERP").unsettled == 1 - 100
        await x.change("BTC-PERP", paused="")
        assert await x.tried(close, market="BTC-PERP") == ("LANDED", "")


async def test_a_market_that_has_ended_only_takes_what_reduces_at_the_last_price() -> None:
    async with exchange(specs=BOTH) as x:
        await take(x, "SOL-PERP", 5 * SOL)
        await take(x, "BTC-PERP", BTC // 10)
        await x.record(record_of(START_S + 3600, "10", D(61_000)), "BTC-PERP")
        await x.change("BTC-PERP", ended=True)
        before = x.account
        # Nothing more is heard of it.
        await x.price(90_000, market="BTC-PERP")
        await x.record(record_of(START_S + 7200, "10", D(90_000)), "BTC-PERP")
        assert x.account is before
        assert x.venue.last_record_s("BTC-PERP") == START_S + 3600
        outcome = await x.do(order("BTC-PERP", -BTC // 10), market="BTC-PERP")
        assert outcome.error_code == "InvalidOrderNotRiskReducing"
        assert outcome.detail == "BTC-PERP has ended: no prices come any more, and it only takes what reduces"
        reverse = order("BTC-PERP", BTC // 5, reduce_only=True)
        assert await x.tried(reverse, market="BTC-PERP") == ("FAILED", "ReduceOnlyOrderIncreasedRisk")
        closes = order("BTC-PERP", BTC // 10, reduce_only=True), order("wBTC", -BTC // 10, reduce_only=True)
        assert await x.tried(*closes, market="BTC-PERP") == ("LANDED", "")
        assert {event.price for event in (await x.venue.events_after(0))[-2:]} == {61_000}
        assert await x.tried(market="BTC-PERP", kind=OperationKind.SETTLE) == ("LANDED", "")
        assert await take(x, "SOL-PERP", 5 * SOL) == ("LANDED", "")


async def test_interest_of_an_ended_market_goes_on() -> None:
    """What is owed in it is owed still; it is booked at the last price."""
    paper = PaperSettings(costs=FREE, borrow_apr_pct={"wBTC": D(10)})
    async with exchange(paper, specs=BOTH) as x:
        await x.do(order("wBTC", -BTC // 10), market="BTC-PERP")
        await x.change("BTC-PERP", ended=True)
        await x.record(record_of(START_S + 365 * 86_400))
        assert x.spot("wBTC").base_1e9 == -BTC * 11 // 100
        assert x.account.equity == 100_000 - 600


async def test_what_a_market_is_listed_as_may_change() -> None:
    async with exchange(specs=BOTH, opening=10_000) as x:
        await x.do(order("BTC-PERP", -BTC // 2), market="BTC-PERP")
        before = x.venue.margin_book()
        assert before is not None
        dear = msgspec.structs.replace(
            BTC_PERP, margin_initial_1e4=2000, margin_maintenance_1e4=1000, step_base_1e9=10**8, min_base_1e9=10**8
        )
        await x.change("BTC-PERP", spec=dear)
        assert x.venue.markets()["BTC-PERP"] == dear
        book = x.venue.margin_book()
        assert book is not None
        assert margin_summary(book).requirement_maintenance_1e6 == 3000 * 10**6
        assert margin_summary(before).requirement_maintenance_1e6 == 900 * 10**6
        assert await x.tried(order("BTC-PERP", BTC // 100), market="BTC-PERP") == (
            "FAILED",
            "InvalidOrderNotStepSizeMultiple",
        )
        # As the next price shows, the account would not be liquidated under the old ratio.
        await x.price(74_500, market="BTC-PERP")
        assert x.account.liquidations == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"margin_maintenance_1e4": 600}, "BAD_MARGIN"),
        ({"base_symbol": "cbBTC"}, "OTHER_MARKET"),
        ({"perp_index": 7}, "OTHER_MARKET"),
        ({"base_decimals": 9}, "OTHER_MARKET"),
    ],
)
async def test_a_listing_under_which_all_would_be_another_thing_changes_nothing(
    changes: dict[str, object], code: str
) -> None:
    async with exchange(specs=BOTH) as x:
        before = dict(x.venue.markets())
        with pytest.raises(ValidationError, match=code):
            await x.change("BTC-PERP", spec=msgspec.structs.replace(BTC_PERP, **changes), paused="maintenance")
        assert x.venue.markets() == before
        assert await take(x, "BTC-PERP", BTC // 10) == ("LANDED", "")


async def test_interest_of_two_tapes_is_booked_once_for_each_time() -> None:
    """Two records of the same moment, and before the second one that comes late: each asset once, never backwards."""
    paper = PaperSettings(costs=FREE, base_borrow_apr_pct=D(10), borrow_apr_pct={"wBTC": D(4)})
    async with exchange(paper, specs=BOTH) as x:
        await x.do(order("SOL", -10 * SOL))
        await x.do(order("wBTC", -BTC // 10), market="BTC-PERP")
        await x.record(record_of(START_S + 3600))
        for ts_s in (START_S + 1800, START_S + 3600):
            await x.record(record_of(ts_s, price=BTC_PRICE), "BTC-PERP")
            assert x.account.as_of_s == START_S + 3600
        assert x.venue.last_record_s("BTC-PERP") == START_S + 3600
        interest = [event for event in await x.venue.events_after(2) if event.kind is FlowKind.INTEREST]
        hour = D(3600) / (365 * 86_400) / 100
        assert [event.instrument for event in interest] == ["SOL", "wBTC"]
        assert abs(interest[0].amount + 10 * PRICE * 10 * hour) < D("1e-20")
        assert abs(interest[1].amount + BTC_PRICE / 10 * 4 * hour) < D("1e-20")
        assert {event.market_s for event in interest} == {START_S + 3600.0}
        await x.record(record_of(START_S + 7200))
        later = (await x.venue.events_after(6))[0]
        assert abs(later.amount / interest[0].amount - 1) < D("1e-4")


async def test_a_record_that_is_told_again_is_booked_once() -> None:
    async with exchange() as x:
        await take(x, "SOL-PERP", 5 * SOL)
        for ts_s in (START_S + 3600, START_S + 3600, START_S + 1800):
            await x.record(record_of(ts_s, "2"))
        assert x.perp().unsettled == 10
        assert x.venue.last_record_s("SOL-PERP") == START_S + 3600


async def test_the_other_market_is_margined_at_its_newest_record() -> None:
    async with exchange(specs=BOTH) as x:
        await take(x, "BTC-PERP", BTC // 10)
        await x.record(record_of(START_S + 3600, price=D(61_000)), "BTC-PERP")
        await x.record(record_of(START_S + 7200, price=D(160)))
        assert x.perp("BTC-PERP").mark == 61_000
        assert x.account.as_of_s == START_S + 7200


async def test_funding_without_prices_leaves_them_as_they_are() -> None:
    async with exchange(specs=BOTH) as x:
        await take(x, "SOL-PERP", 5 * SOL)
        await x.record(record_of(START_S + 3600, "2", D(999)), priced=False)
        assert x.perp().mark == PRICE
        assert x.perp().unsettled == 10
        assert x.venue.last_record_s("SOL-PERP") == START_S + 3600
    async with exchange() as x:
        unpriced = PaperVenue(BOTH, PaperSettings(), PaperTables(x.database), SimulatedClock())
        await unpriced.open(D(1), D(0))
        await unpriced.take(Funding("BTC-PERP", "test", 3600.0, record_of(3600)))
        assert unpriced.account() is None
        assert unpriced.last_record_s("BTC-PERP") == 0


async def test_funding_of_one_market_is_none_of_the_other() -> None:
    async with exchange(specs=BOTH) as x:
        await take(x, "SOL-PERP", 5 * SOL)
        await take(x, "BTC-PERP", BTC // 10)
        await x.record(record_of(START_S + 3600, "2"))
        assert (x.perp().unsettled, x.perp("BTC-PERP").unsettled) == (D(10), D(0))
        await x.record(record_of(START_S + 3600, "-30", BTC_PRICE), "BTC-PERP")
        assert (x.perp().unsettled, x.perp("BTC-PERP").unsettled) == (D(10), D(-3))
        booked = [(e.instrument, e.amount, e.record) for e in await x.venue.events_after(0) if e.kind]
        assert booked == [("SOL-PERP", D(10), 1), ("BTC-PERP", D(-3), 1)]


# Markets without a tape (R2.9)


async def test_a_position_elsewhere_is_worth_its_last_price_and_counts_in_margin() -> None:
    async with exchange(opening=10_000) as x:
        await x.venue.fill_from_elsewhere("BTC-PERP", -BTC // 10, BTC_PRICE)
        await x.venue.fill_from_elsewhere("BTC-PERP", -BTC // 10, D(61_000))
        foreign = x.perp("BTC-PERP")
        assert (foreign.base_1e9, foreign.entry, foreign.mark) == (-BTC // 5, D(60_500), D(61_000))
        assert x.account.equity == 10_000 - 100
        book = x.venue.margin_book()
        assert book is not None
        assert margin_summary(book).requirement_maintenance_1e6 == 12_200 * 300 * 100
        assert x.venue.health() == health(book) == 96
        # It pays no funding, hears no prices and takes no orders.
        await x.record(record_of(START_S + 3600, "10", D(90_000)), "BTC-PERP")
        assert x.perp("BTC-PERP") == foreign
        assert await x.tried(order("BTC-PERP", BTC // 5, reduce_only=True), market="BTC-PERP") == (
            "FAILED",
            "MarketNotFound",
        )
        assert await x.tried(market="BTC-PERP", kind=OperationKind.SETTLE) == ("FAILED", "MarketNotFound")
        for symbol in ("wBTC", "DOGE-PERP"):
            with pytest.raises(ValidationError, match=f"the paper exchange does not take {symbol}"):
                await x.venue.fill_from_elsewhere(symbol, BTC, D(1))


async def test_another_program_may_trade_in_the_listed_markets_too() -> None:
    async with exchange(PaperSettings(), specs=BOTH) as x:
        await x.venue.fill_from_elsewhere("wBTC", BTC // 10, D(59_000))
        await x.venue.fill_from_elsewhere("BTC-PERP", -BTC // 10, D(59_000))
        fees = 5_900 * (D("0.0005") + D("0.00035"))
        assert x.account.equity == 100_000 + 100 - 100 - fees
        assert x.perp("BTC-PERP").mark == BTC_PRICE
        assert {event.operation_id for event in await x.venue.events_after(0)} == {""}
    async with exchange() as x:
        venue = PaperVenue(BOTH, PaperSettings(), PaperTables(x.database), SimulatedClock())
        await venue.open(D(1), D(0))
        for symbol in ("BTC-PERP", "wBTC"):
            with pytest.raises(ValidationError, match="MarketNotActive"):
                await venue.fill_from_elsewhere(symbol, BTC, BTC_PRICE)


# Waiting for the disk


async def test_a_fact_that_comes_while_an_operation_is_written_waits_for_it() -> None:
    """What was tried on a copy takes the account's place: nothing that happened meanwhile may be lost with the old."""
    async with exchange(specs=BOTH) as x:
        await take(x, "SOL-PERP", 5 * SOL)
        tables, writing, go = x.venue._tables, asyncio.Event(), asyncio.Event()
        commit = tables.commit

        async def slow(*arguments: object) -> bytes | None:
            writing.set()
            await go.wait()
            return await commit(*arguments)  # type: ignore[arg-type]

        tables.commit = slow  # type: ignore[method-assign, assignment]
        sending = asyncio.ensure_future(take(x, "BTC-PERP", BTC // 10))
        await writing.wait()
        funded = asyncio.ensure_future(x.record(record_of(START_S + 3600, "2")))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not funded.done()
        assert x.perp().unsettled == 0
        go.set()
        assert await sending == ("LANDED", "")
        await funded
        assert x.perp().unsettled == 10
        assert x.perp("BTC-PERP").base_1e9 == -BTC // 10
        events = await PaperTables(x.database).events_after(0)
        assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
