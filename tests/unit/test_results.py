"""What a command is answered, from fills and never from the plan (R4.9)."""

from __future__ import annotations

from decimal import Decimal

import pytest
from account_reports import facts_of, report
from engine_harness import PRICE, SOL, USD

from deltatui.domain.command import CommandResult, Direction, LegPart, ResultStatus, SpotSource
from deltatui.domain.costs import NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Leg, OperationKind, OperationState, Transfer
from deltatui.domain.units import SlippageLimits
from deltatui.engine.legs import Carried
from deltatui.engine.planner import Plan, Planner
from deltatui.engine.results import closing_result, legs_text, parts_of, result_of
from deltatui.engine.standing import standing
from deltatui.engine.world import Facts
from deltatui.ports import Outcome, PerpBalance, SpotBalance
from deltatui.venues.paper.account import PaperAccount, PaperPerp
from deltatui.venues.paper.margin import PaperMargin
from deltatui.venues.paper.markets import Markets
from deltatui.venues.paper.settings import SOL_PERP

PLANNER = Planner(SlippageLimits(), lambda: CostModel(NO_FEES, NO_SLIPPAGE), lambda book: standing(book, [SOL_PERP]))
MARKET = MarketState(SOL_PERP, 0.0, PRICE, PRICE, False)
LANDED = Outcome(OperationState.LANDED)


def facts(hedge: int = 0, unsettled: int = 0) -> tuple[Facts, MarginBook]:
    """Market, account and book of an account that carries ``hedge`` SOL."""
    quote, cash = Decimal(3000) - hedge * PRICE, hedge * PRICE
    markets = Markets([SOL_PERP])
    markets.perp("SOL-PERP").price(PRICE, PRICE)
    paper = PaperAccount(
        quote=quote,
        spots={"SOL": Decimal(hedge)},
        perps={"SOL-PERP": PaperPerp(base_1e9=-hedge * SOL, quote=cash, entry_quote=cash)},
    )
    account = report(
        Decimal(3000),
        quote,
        {"SOL-PERP": PerpBalance(-hedge * SOL, PRICE, Decimal(unsettled), Decimal(0), PRICE)},
        {"SOL": SpotBalance(hedge * SOL, 5 * SOL)},
        wallet_quote=Decimal(1000),
    )
    return facts_of(MARKET, account), PaperMargin(markets, 500).book(paper)


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
    now, book = facts()
    plan = PLANNER.transfer(now if transfer.asset == "SOL" else None, book, transfer)
    result = result_of("o1", plan, Carried(LANDED))
    assert (result.status, result.message, result.parts) == (ResultStatus.DONE, message, ())


def test_a_settlement_says_what_came_with_it() -> None:
    plan = PLANNER.settle(*facts(5, -7))
    assert result_of("o1", plan, Carried(LANDED), more="!").message == "settle done!"


def test_a_close_and_the_rest_of_its_spot_are_told_as_one() -> None:
    """A leave that bought back the operator's own SOL in a second order."""
    plan = leave()
    legs = (*plan.legs, *PLANNER.close_rest(*facts(), 0, 2 * SOL).legs)
    whole = Carried(LANDED, legs, {"SOL-PERP": 5 * SOL, "SOL": -3 * SOL})
    assert whole.complete
    assert result_of("o1", plan, whole).message == "leave done: bought 5 SOL-PERP, sold 3 SOL"
    half = Carried(LANDED, legs, {"SOL-PERP": 5 * SOL, "SOL": -4 * SOL})
    assert [part.open for part in parts_of("SOL-PERP", half)] == [0.0, 1.0]
    assert result_of("o1", plan, half).status is ResultStatus.PARTLY_DONE


def test_legs_in_words() -> None:
    legs = (Leg("SOL-PERP", -2 * SOL, 1), Leg("SOL", 2 * SOL + 1, 1))
    assert legs_text(legs) == "sell 2 SOL-PERP, buy 2.000000001 SOL"
    assert take().kind is OperationKind.TAKE


def result(status: ResultStatus, message: str, operation_id: str, *parts: LegPart) -> CommandResult:
    return CommandResult(status, str(status), message, operation_id, parts=parts)


SOL_SHUT = result(ResultStatus.DONE, "SOL-PERP closed", "o1", LegPart("SOL-PERP", "perp", 5.0, 5.0, 0.0))
BTC_SHUT = result(ResultStatus.DONE, "BTC-PERP closed", "o2", LegPart("BTC-PERP", "perp", 1.0, 1.0, 0.0))
BTC_HALF = result(ResultStatus.PARTLY_DONE, "bought 1 of 2", "o2", LegPart("BTC-PERP", "perp", 2.0, 1.0, 1.0))
BTC_FAILED = result(ResultStatus.REJECTED, "too far", "o2")
SOL_FAILED = result(ResultStatus.REJECTED, "no route", "o1")
SOL_UNKNOWN = result(ResultStatus.UNRESOLVED, "no word yet", "o1")


@pytest.mark.parametrize(
    ("sol", "btc", "status", "text"),
    [
        (SOL_SHUT, BTC_SHUT, ResultStatus.DONE, "positions closed (now); SOL-PERP closed; BTC-PERP closed"),
        (
            SOL_SHUT,
            BTC_HALF,
            ResultStatus.PARTLY_DONE,
            "halted, but closing BTC-PERP is not complete: bought 1 of 2; SOL-PERP closed",
        ),
        # What was closed is not undone by what was not: something was changed.
        (
            SOL_SHUT,
            BTC_FAILED,
            ResultStatus.PARTLY_DONE,
            "halted, but closing BTC-PERP failed: too far; SOL-PERP closed",
        ),
        (
            SOL_FAILED,
            BTC_FAILED,
            ResultStatus.REJECTED,
            "halted, but closing SOL-PERP failed: no route; closing BTC-PERP failed: too far",
        ),
        (
            SOL_UNKNOWN,
            BTC_SHUT,
            ResultStatus.UNRESOLVED,
            "halted, but closing SOL-PERP is unresolved: no word yet; BTC-PERP closed",
        ),
    ],
)
def test_a_kill_says_what_became_of_each_market(
    sol: CommandResult, btc: CommandResult, status: ResultStatus, text: str
) -> None:
    told = closing_result({"SOL-PERP": sol, "BTC-PERP": btc}, "now", "; DOGE-PERP is left alone")
    assert told.status is status
    assert text in told.message
    assert told.message.endswith("; DOGE-PERP is left alone")
    assert told.parts == (*sol.parts, *btc.parts)
    # The operation that has to be looked at, where one has.
    bad = [each for each in (sol, btc) if each.status is not ResultStatus.DONE]
    assert told.operation_id == (bad or [sol])[0].operation_id


def test_a_kill_that_has_one_market_or_none_to_close_names_none() -> None:
    alone = closing_result({"BTC-PERP": BTC_HALF}, "now", "")
    assert (alone.status, alone.message) == (
        ResultStatus.PARTLY_DONE,
        "halted, but closing is not complete: bought 1 of 2",
    )
    nothing = closing_result({}, "now", "")
    assert (nothing.status, nothing.code) == (ResultStatus.DONE, "KILLED")
    assert nothing.message == "halted, automation off (now); there is no position to close"
