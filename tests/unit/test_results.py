"""What a command is answered, from fills and never from the plan (R4.9)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from engine_harness import PRICE, SOL, USD

from deltatui.domain.command import Direction, LegPart, ResultStatus, SpotSource
from deltatui.domain.costs import NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Leg, OperationKind, OperationState, Transfer
from deltatui.domain.units import SlippageLimits
from deltatui.engine.legs import Carried
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.results import legs_text, parts_of, result_of
from deltatui.ports import AccountState, Outcome
from deltatui.venues.paper.account import PaperAccount, PaperMarket, PaperPerp
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.settings import SOL_PERP

PLANNER = Planner(SlippageLimits(), lambda: CostModel(NO_FEES, NO_SLIPPAGE))
MARKET = MarketState(SOL_PERP, 0.0, PRICE, PRICE, False, True, None, 0, None)
LANDED = Outcome(OperationState.LANDED)


def facts(hedge: int = 0) -> tuple[MarketState, AccountState, MarginBook]:
    """Market, account and book of an account that carries ``hedge`` SOL."""
    quote, cash = Decimal(3000) - hedge * PRICE, hedge * PRICE
    paper = PaperAccount(quote=quote, spot=Decimal(hedge), perp=PaperPerp(-hedge * SOL, cash, cash))
    book = PaperMargin(SOL_PERP, 500).book(paper, PaperMarket(PRICE, PRICE), {})
    account = AccountState(
        0.0, 0, Decimal(3000), quote, hedge * SOL, -hedge * SOL, PRICE, Decimal(0), Decimal(1000), 5 * SOL
    )
    return MARKET, account, book


def take(size: int = 5, source: SpotSource = SpotSource.BUY) -> Plan:
    return PLANNER.take(*facts(), size * SOL, Direction.CARRY, source)


def leave(size: int = 5) -> Plan:
    return PLANNER.leave(*facts(size), 0)


def carried(plan: Plan, perp: float = 0, spot: float = 0, trouble: str = "") -> Carried:
    fills = {"SOL-PERP": round(perp * SOL), "SOL": round(spot * SOL)}
    return Carried(LANDED, plan.legs, {name: base for name, base in fills.items() if base}, trouble)


def test_a_trade_that_filled_as_asked_is_done() -> None:
    plan = take()
    result = result_of("o1", plan, carried(plan, -5, 5))
    assert result.status is ResultStatus.DONE
    assert (result.code, result.message) == ("DONE", "take done: sold 5 SOL-PERP, bought 5 SOL")
    assert result.operation_id == "o1"
    assert result.parts == (LegPart("SOL-PERP", "perp", -5.0, -5.0, 0.0), LegPart("SOL", "spot", 5.0, 5.0, 0.0))
    assert result.success


def test_a_trade_that_filled_in_part_says_what_is_open() -> None:
    """Never "done" at -2.77."""
    plan = leave()
    result = result_of("o1", plan, carried(plan, 2.23, -5), more="; PnL settled")
    assert result.status is ResultStatus.PARTLY_DONE
    assert result.code == "PARTIAL"
    assert result.message == (
        "leave partly done: bought 2.23 SOL-PERP, sold 5 SOL; not filled: 2.77 of 5 SOL-PERP; PnL settled"
    )
    perp, spot = result.parts
    assert (perp.asked, perp.filled) == (5.0, 2.23)
    assert perp.open == pytest.approx(2.77)
    assert (spot.asked, spot.filled, spot.open) == (-5.0, -5.0, 0.0)
    assert not result.success


def test_both_legs_in_part_are_both_named() -> None:
    plan = take()
    result = result_of("o1", plan, carried(plan, -2, 2))
    assert result.status is ResultStatus.PARTLY_DONE
    assert result.message == (
        "take partly done: sold 2 SOL-PERP, bought 2 SOL; not filled: 3 of 5 SOL-PERP, 3 of 5 SOL"
    )


@pytest.mark.parametrize(("open_1e9", "status"), [(99_999, ResultStatus.DONE), (100_000, ResultStatus.PARTLY_DONE)])
def test_what_is_less_than_a_ten_thousandth_is_dust(open_1e9: int, status: ResultStatus) -> None:
    """R4.5."""
    plan = leave()
    fills = {"SOL-PERP": 5 * SOL, "SOL": -5 * SOL + open_1e9}
    assert result_of("o1", plan, Carried(LANDED, plan.legs, fills)).status is status


def test_a_take_whose_legs_were_undone_failed() -> None:
    plan = take()
    result = result_of("o1", plan, carried(plan))
    assert result.status is ResultStatus.REJECTED
    assert (result.code, result.message) == (
        "ODD_LEG",
        "take failed: one leg was not filled, the other was undone, which cost $0.00",
    )
    assert [part.open for part in result.parts] == [-5.0, 5.0]


def test_nothing_filled_of_what_is_no_pair() -> None:
    for plan in (leave(), take(source=SpotSource.WALLET)):
        result = result_of("o1", plan, carried(plan))
        assert (result.status, result.code) == (ResultStatus.REJECTED, "NOT_FILLED")
        assert result.message == f"{plan.kind.lower()} failed: nothing was filled"


def test_an_odd_leg_that_stays_is_told_with_the_halt() -> None:
    plan = take()
    trouble = "odd leg: spot moved +0, perp moved -5; 3 tries to mend it failed, it is still open"
    result = result_of("o1", plan, carried(plan, -5, 0, trouble))
    assert (result.status, result.code) == (ResultStatus.PARTLY_DONE, "ODD_LEG")
    assert result.message == f"take partly done, the engine is halted: {trouble}"
    assert [part.filled for part in result.parts] == [-5.0, 0.0]


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    [
        (Outcome(OperationState.FAILED, "PriceLimitNotMet", "too far"), "PriceLimitNotMet", "take failed: too far"),
        (Outcome(OperationState.FAILED, "Oops"), "Oops", "take failed: Oops"),
        (Outcome(OperationState.EXPIRED, "", "never arrived"), "EXPIRED", "take failed: never arrived"),
    ],
)
def test_what_did_not_land_changed_nothing(outcome: Outcome, code: str, message: str) -> None:
    plan = take()
    result = result_of("o1", plan, Carried(outcome, plan.legs))
    assert (result.status, result.code, result.message) == (ResultStatus.REJECTED, code, message)
    assert result.parts == ()


@pytest.mark.parametrize(
    ("transfer", "message"),
    [
        (Transfer("USDC", 12_345_600), "deposit of 12.3456 USDC done"),
        (Transfer("SOL", -SOL // 2), "withdraw of 0.5 SOL done"),
        (Transfer("USDC", -100 * USD), "withdraw of 100 USDC done"),
    ],
)
def test_a_transfer_says_its_amount(transfer: Transfer, message: str) -> None:
    plan = PLANNER.transfer(*facts(), transfer)
    result = result_of("o1", plan, Carried(LANDED))
    assert (result.status, result.message, result.parts) == (ResultStatus.DONE, message, ())


def test_a_settlement_says_what_came_with_it() -> None:
    market, account, book = facts(5)
    account = AccountState(0.0, 0, Decimal(0), Decimal(0), 0, 0, None, Decimal(-7), Decimal(0), 0)
    plan = PLANNER.settle(market, account, book)
    assert result_of("o1", plan, Carried(LANDED), more="!").message == "settle done!"


def test_a_close_and_the_rest_of_its_spot_are_told_as_one() -> None:
    """A leave that bought back the operator's own SOL in a second order."""
    plan = leave()
    legs = (*plan.legs, *PLANNER.close_rest(*facts(), 0, 2 * SOL).legs)
    whole = Carried(LANDED, legs, {"SOL-PERP": 5 * SOL, "SOL": -3 * SOL})
    assert whole.complete
    assert result_of("o1", plan, whole).message == "leave done: bought 5 SOL-PERP, sold 3 SOL"
    half = Carried(LANDED, legs, {"SOL-PERP": 5 * SOL, "SOL": -4 * SOL})
    assert [part.open for part in parts_of(SOL_PERP, half)] == [0.0, 1.0]
    assert result_of("o1", plan, half).status is ResultStatus.PARTLY_DONE


def test_legs_in_words() -> None:
    legs = (Leg("SOL-PERP", -2 * SOL, 1), Leg("SOL", 2 * SOL + 1, 1))
    assert legs_text(legs) == "sell 2 SOL-PERP, buy 2.000000001 SOL"
    assert take().kind is OperationKind.TAKE
