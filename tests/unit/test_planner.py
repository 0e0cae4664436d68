"""From a command to exact legs: sizes, sides, limits, and what the account is promised to look like."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from account_reports import facts_of, report
from engine_harness import PRICE, SOL, USD

from deltatui.domain.account import OraclePrice, PerpMarket, PerpPosition, SpotMarket, SpotPosition, UserAccount
from deltatui.domain.carry import CarryEstimate, CarryRule, Stance
from deltatui.domain.command import Direction, SpotSource
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits, judge
from deltatui.domain.margin import MarginBook
from deltatui.domain.market import MarketState
from deltatui.domain.operation import OperationKind, Transfer
from deltatui.domain.units import SlippageLimits
from deltatui.engine.planner import Planner, loss_if_forced, stance_of, take_sizes
from deltatui.engine.standing import Standing, closed, standing, standing_facts, withdrawals_closed
from deltatui.engine.world import Facts
from deltatui.ports import PerpBalance, SpotBalance
from deltatui.venues.paper.settings import BTC_PERP, SOL_PERP

SOL_KEY, BTC_KEY, USD_KEY = b"s" * 32, b"b" * 32, b"u" * 32
MARKET = MarketState(SOL_PERP, 0.0, PRICE, PRICE, False)


def account(spot_1e9: int = 0, perp_1e9: int = 0, quote: Decimal | int = 3000) -> Facts:
    """An account at the price of :data:`MARKET`, where its position was opened."""
    quote = Decimal(quote)
    perp = PerpBalance(perp_1e9, PRICE if perp_1e9 else None, Decimal(0), Decimal(0), PRICE)
    told = report(quote + PRICE * spot_1e9 / SOL, quote, {"SOL-PERP": perp}, {"SOL": SpotBalance(spot_1e9, 0)})
    return facts_of(MARKET, told)


def book(facts: Facts) -> MarginBook:
    spot_1e9, perp_1e9 = facts.spot.base_1e9, facts.perp.base_1e9
    cash = int(-perp_1e9 * PRICE * USD / SOL)
    quote = int(facts.account.quote * SOL)
    user = UserAccount(
        (SpotPosition(0, abs(quote), quote < 0), SpotPosition(1, abs(spot_1e9), spot_1e9 < 0)),
        (PerpPosition(0, perp_1e9, cash, cash, cash),) if perp_1e9 else (),
    )
    return MarginBook(
        user,
        {0: PerpMarket(0, SOL_KEY, 500, 300, order_step_1e9=SOL_PERP.step_base_1e9, name="SOL-PERP")},
        {0: SpotMarket(0, USD_KEY, 6), 1: SpotMarket(1, SOL_KEY, 9, 8_000, 9_000, 12_000, 11_000)},
        {SOL_KEY: OraclePrice(int(PRICE * USD)), USD_KEY: OraclePrice(USD)},
    )


def stand(book: MarginBook) -> Standing:
    return standing(book, [SOL_PERP])


PLANNER = Planner(SlippageLimits(), lambda: CostModel(DRIFT_FEES, DRIFT_SLIPPAGE), stand)


def legs(plan: object) -> dict[str, tuple[int, bool]]:
    return {leg.market: (leg.base_1e9, leg.reduce_only) for leg in plan.legs}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("way", "perp", "stance"),
    [(Direction.CARRY, -2 * SOL, Stance.CARRY), (Direction.REVERSE, 2 * SOL, Stance.REVERSE)],
)
def test_take(way: Direction, perp: int, stance: Stance) -> None:
    state = account()
    plan = PLANNER.take(state, book(state), 2 * SOL + 9_999_999, way)
    assert legs(plan) == {"SOL-PERP": (perp, False), "SOL": (-perp, False)}
    assert plan.increases_risk
    assert plan.stance is stance
    assert (plan.size, plan.notional) == (Decimal(2), Decimal(300))
    # 3.5 bp and 5 bp of about 300, and 2 bp on each leg.
    assert plan.fees == pytest.approx(Decimal("0.255"), rel=Decimal("0.001"))
    assert plan.slippage == Decimal("0.12")
    assert (plan.spot_after_1e9, plan.perp_after_1e9) == (-perp, perp)
    first = plan.legs[0]
    limit = Decimal(first.limit_price_1e6) / USD
    assert limit == plan.limit_price == (PRICE * Decimal("0.995") if perp < 0 else PRICE * Decimal("1.005"))
    lost = state.account.equity - Decimal(plan.after.summary.net_value_1e6) / USD
    assert lost == pytest.approx(plan.fees + plan.slippage, abs=Decimal("0.00001"))


def test_take_refuses_what_cannot_be() -> None:
    state = account()
    for size in (0, -SOL, 9_999_999):
        with pytest.raises(ValidationError, match="SIZE_TOO_SMALL"):
            PLANNER.take(state, book(state), size, Direction.CARRY)
    carrying = account(SOL, -SOL)
    with pytest.raises(ValidationError, match="OTHER_STANCE"):
        PLANNER.take(carrying, book(carrying), SOL, Direction.REVERSE)
    assert PLANNER.take(carrying, book(carrying), SOL, Direction.CARRY).perp_after_1e9 == -2 * SOL


@pytest.mark.parametrize(
    ("spot", "perp", "own", "spot_leg", "rest"),
    [
        (5 * SOL, -5 * SOL, 0, (-5 * SOL, True), 0),
        (-5 * SOL, 5 * SOL, 0, (5 * SOL, True), 0),
        (7 * SOL, -5 * SOL, 2 * SOL, (-5 * SOL, True), 0),
        (-3 * SOL, 5 * SOL, 2 * SOL, (3 * SOL, True), 2 * SOL),
        (5 * SOL + 123, -5 * SOL, 0, (-5 * SOL - 123, True), 0),
        (3 * SOL, -5 * SOL, 3 * SOL, None, 0),
        (3 * SOL, -5 * SOL, 4 * SOL, None, SOL),
    ],
)
def test_leave(spot: int, perp: int, own: int, spot_leg: tuple[int, bool] | None, rest: int) -> None:
    """Legs only reduce; what the hedge had sold of the operator's own SOL is bought back afterwards."""
    state = account(spot, perp)
    plan = PLANNER.leave(state, book(state), own)
    expected = {"SOL-PERP": (-perp, True)}
    if spot_leg is not None:
        expected["SOL"] = spot_leg
    assert legs(plan) == expected
    assert plan.perp_after_1e9 == 0
    assert plan.rest_1e9 == rest
    assert plan.spot_after_1e9 + rest == own
    assert not plan.increases_risk


def test_what_a_close_has_left_over_is_bought_without_the_perp() -> None:
    state = account()
    plan = PLANNER.close_rest(state, book(state), 0, 2 * SOL)
    assert legs(plan) == {"SOL": (2 * SOL, False)}
    assert (plan.rest_1e9, plan.spot_after_1e9, plan.increases_risk) == (0, 2 * SOL, False)


@pytest.mark.parametrize(
    ("kill", "slippage", "factor"),
    [
        (False, SlippageLimits(), "0.99"),
        (True, SlippageLimits(), "0.95"),
        (False, SlippageLimits(50, 200, 500), "0.98"),
        # Never narrower than an entry's, whatever is set (R6.11).
        (False, SlippageLimits(300, 100, 500), "0.97"),
        (True, SlippageLimits(300, 200, 100), "0.97"),
    ],
)
def test_what_reduces_risk_has_a_wider_limit(kill: bool, slippage: SlippageLimits, factor: str) -> None:
    planner = Planner(slippage, lambda: CostModel(DRIFT_FEES, DRIFT_SLIPPAGE), stand)
    state = account(5 * SOL, -5 * SOL)
    perp, spot = planner.leave(state, book(state), 0, kill=kill).legs
    share = Decimal(factor)
    assert Decimal(perp.limit_price_1e6) == PRICE * (2 - share) * USD
    assert Decimal(spot.limit_price_1e6) == PRICE * share * USD
    entry = planner.take(account(), book(account()), SOL, Direction.REVERSE).legs[0]
    assert Decimal(entry.limit_price_1e6) == PRICE * (10_000 + slippage.enter_bps) / 10_000 * USD


def test_where_the_spot_of_a_take_comes_from() -> None:
    """R4.1: bought, from the wallet in the same operation, or there already."""
    state = account(3 * SOL)
    bought = PLANNER.take(state, book(state), 2 * SOL, Direction.CARRY)
    assert (bought.spot_leg, bought.transfer, bought.spot_after_1e9) == (True, None, 5 * SOL)
    there = PLANNER.take(state, book(state), 2 * SOL, Direction.CARRY, SpotSource.DEPOSITED)
    assert legs(there) == {"SOL-PERP": (-2 * SOL, False)}
    assert (there.spot_leg, there.transfer, there.spot_after_1e9) == (False, None, 3 * SOL)
    wallet = PLANNER.take(state, book(state), 2 * SOL, Direction.CARRY, SpotSource.WALLET)
    assert legs(wallet) == {"SOL-PERP": (-2 * SOL, False)}
    assert (wallet.spot_leg, wallet.transfer) == (False, Transfer("SOL", 2 * SOL))
    assert wallet.spot_after_1e9 == 5 * SOL
    assert wallet.after.summary.net_value_1e6 - there.after.summary.net_value_1e6 == 2 * 150 * USD
    for source in (SpotSource.WALLET, SpotSource.DEPOSITED):
        with pytest.raises(ValidationError, match="a reverse take sells borrowed spot"):
            PLANNER.take(state, book(state), SOL, Direction.REVERSE, source)


def test_costs_are_asked_anew_for_each_plan() -> None:
    """A fee that changed counts in the next plan."""
    models = iter([CostModel(DRIFT_FEES, DRIFT_SLIPPAGE), CostModel(NO_FEES, NO_SLIPPAGE)])
    planner = Planner(SlippageLimits(), lambda: next(models), stand)
    state = account()
    dear, free = (planner.take(state, book(state), 2 * SOL, Direction.CARRY) for _ in range(2))
    assert dear.fees > 0
    assert free.fees == free.slippage == 0


def test_leave_of_one_leg_alone_and_of_nothing() -> None:
    naked = account(0, -5 * SOL)
    assert legs(PLANNER.leave(naked, book(naked), 0)) == {"SOL-PERP": (5 * SOL, True)}
    spot = account(5 * SOL)
    plan = PLANNER.leave(spot, book(spot), 0)
    assert legs(plan) == {"SOL": (-5 * SOL, True)}
    assert plan.size == 5
    nothing = account()
    with pytest.raises(ValidationError, match="NOTHING_TO_LEAVE"):
        PLANNER.leave(nothing, book(nothing), 0)


def test_single_orders() -> None:
    state = account(5 * SOL, -4 * SOL)
    plan = PLANNER.perp_order(OperationKind.REBALANCE, state, book(state), -SOL - 5, reduce_only=False, reason="drift")
    assert legs(plan) == {"SOL-PERP": (-SOL, False)}
    assert plan.increases_risk
    assert plan.reason == "drift"
    with pytest.raises(ValidationError, match="SIZE_TOO_SMALL"):
        PLANNER.perp_order(OperationKind.UNWIND, state, book(state), 5, reduce_only=True, reason="")
    plan = PLANNER.spot_order(OperationKind.UNWIND, state, book(state), -5 * SOL, "odd")
    assert legs(plan) == {"SOL": (-5 * SOL, True)}
    assert not plan.increases_risk
    plan = PLANNER.spot_order(OperationKind.UNWIND, state, book(state), SOL, "odd")
    assert legs(plan) == {"SOL": (SOL, False)}
    plan = PLANNER.close_rest(state, book(state), 4 * SOL + 7, -SOL)
    assert legs(plan) == {"SOL-PERP": (4 * SOL, True), "SOL": (-SOL, True)}


def test_settle_and_transfers() -> None:
    state = account(5 * SOL, -5 * SOL)
    with pytest.raises(ValidationError, match="NOTHING_TO_SETTLE"):
        PLANNER.settle(state, book(state))
    due = msgspec.structs.replace(state, perp=msgspec.structs.replace(state.perp, unsettled=Decimal("-3.5")))
    plan = PLANNER.settle(due, book(due))
    assert (plan.kind, plan.legs, plan.side) == (OperationKind.SETTLE, (), "settle -3.50")
    plan = PLANNER.transfer(None, book(state), Transfer("USDC", 100 * USD))
    before = stand(book(state))
    assert plan.kind is OperationKind.DEPOSIT
    assert plan.after.summary.net_value_1e6 - before.summary.net_value_1e6 == 100 * USD
    plan = PLANNER.transfer(state, book(state), Transfer("SOL", -SOL))
    assert plan.kind is OperationKind.WITHDRAW
    assert plan.after.summary.net_value_1e6 - before.summary.net_value_1e6 == -150 * USD


def test_standing() -> None:
    flat = account()
    now = stand(book(flat))
    assert (now.leverage, now.liquidations, now.nearest) == (0.0, (), None)
    short = account(0, -10 * SOL, 1000)
    now = stand(book(short))
    assert now.leverage == pytest.approx(1.5)
    (liquidation,) = now.liquidations
    assert now.nearest is liquidation is now.liquidation("SOL-PERP")
    assert now.liquidation("BTC-PERP") is None
    assert liquidation.market == "SOL-PERP"
    assert liquidation.price > 150
    assert liquidation.distance_pct == pytest.approx((liquidation.price / 150 - 1) * 100)
    gone = account(0, -10 * SOL, -1)
    assert stand(book(gone)).leverage is None


def test_a_trade_is_judged_by_the_health_in_whole_numbers_a_withdrawal_by_the_figure_itself() -> None:
    """R2.3, R4.2 and R3.4: 1000 of quote against 405 of maintenance margin."""
    state = account(0, -90 * SOL, 1000)
    now = stand(book(state))
    assert (now.summary.health, now.summary.exact_health) == (60, 59.5)
    for withdraws, health in ((False, 60), (True, 59.5)):
        facts = standing_facts(now, "", withdraws=withdraws)
        assert facts.health_after == health
        (judged,) = (v for v in judge(facts, GateLimits(max_leverage=100.0), {}) if v.code == "health_after")
        assert judged.allowed is not withdraws
    assert facts.leverage_after == pytest.approx(13.5)
    assert facts.free_collateral_after == 1000 - 675
    assert facts.needs_margin_after


def test_without_equity_only_an_empty_account_has_no_leverage() -> None:
    for state, leverage in ((account(0, 0, 0), 0.0), (account(0, -SOL, -1), float("inf"))):
        assert standing_facts(stand(book(state)), "", withdraws=True).leverage_after == leverage


def test_the_market_that_liquidates_first_is_named() -> None:
    """Two shorts on one account: each has the price that is its own while the other stands still, in its direction."""
    facts, rise = account(0, -10 * SOL, 3000), 100_000 * USD
    one = book(facts)
    perps = (*one.user.perp_positions, PerpPosition(1, -SOL // 100, 1000 * USD, 1000 * USD, 1000 * USD))
    both = msgspec.structs.replace(
        one,
        user=msgspec.structs.replace(one.user, perp_positions=perps),
        perp_markets={**one.perp_markets, 1: PerpMarket(1, BTC_KEY, 500, 300, order_step_1e9=100_000, name="BTC-PERP")},
        oracles={**one.oracles, BTC_KEY: OraclePrice(rise)},
    )
    now = stand(both)
    sol, btc = now.liquidation("SOL-PERP"), now.liquidation("BTC-PERP")
    assert sol is not None
    assert btc is not None
    # 3000 and two shorts of 1500 and 1000: what the other needs is not there for the one.
    assert sol.price == pytest.approx((3000 + 1500 - 1000 * 0.03) / (10 * 1.03), rel=1e-4)
    assert btc.price == pytest.approx((3000 + 1000 - 1500 * 0.03) / (0.01 * 1.03), rel=1e-4)
    assert now.nearest is sol
    assert standing_facts(now, "", withdraws=False).liq_distance_pct_after == pytest.approx(sol.distance_pct)


def test_a_market_that_takes_no_orders_is_told_with_its_reason() -> None:
    """What has ended only reduces; what it holds can still be moved."""
    now = stand(book(account()))
    paused = msgspec.structs.replace(MARKET, paused="an upgrade")
    ended = msgspec.structs.replace(MARKET, ended=True)
    assert closed(MARKET) == withdrawals_closed(MARKET) == withdrawals_closed(ended) == ""
    assert closed(paused) == withdrawals_closed(paused) == "SOL-PERP is paused: an upgrade"
    assert closed(ended) == "SOL-PERP only reduces: no prices come any more"
    for problem in ("", "SOL-PERP is paused: an upgrade", None):
        assert standing_facts(now, problem, withdraws=True).venue_problem == problem


def test_a_size_that_one_of_both_orders_cannot_have_is_none_of_a_take() -> None:
    """The spot market's least is ten times the perp's; without a spot order it does not count."""
    there = account(SOL)
    for source, least in ((SpotSource.BUY, SOL // 10), (SpotSource.DEPOSITED, SOL // 100)):
        with pytest.raises(ValidationError, match="SIZE_TOO_SMALL"):
            PLANNER.take(there, book(there), least - 1, Direction.CARRY, source)
        assert PLANNER.take(there, book(there), least, Direction.CARRY, source).perp_after_1e9 == -least
    coarse = msgspec.structs.replace(SOL_PERP, spot_step_1e9=30_000_000)
    # Both steps divide 0.03, and 0.12 is the first such size that is not below the least.
    assert take_sizes(coarse, SpotSource.BUY) == (30_000_000, 120_000_000)
    assert take_sizes(BTC_PERP, SpotSource.BUY) == (100_000, 100_000)


def test_an_asset_with_fewer_decimals_moves_by_its_own_units() -> None:
    """wBTC has 8: one of it is 10^8 of its smallest, however base is counted here."""
    market = MarketState(BTC_PERP, 0.0, Decimal(100_000), Decimal(100_000), False)
    told = report(Decimal(150_000), Decimal(50_000), {}, {"wBTC": SpotBalance(SOL, SOL)})
    facts = facts_of(market, told)
    user = UserAccount((SpotPosition(0, 50_000 * SOL, False), SpotPosition(3, SOL, False)), ())
    margin_book = MarginBook(
        user,
        {1: PerpMarket(1, BTC_KEY, 500, 300, order_step_1e9=100_000, name="BTC-PERP")},
        {0: SpotMarket(0, USD_KEY, 6), 3: SpotMarket(3, BTC_KEY, 8, 8_000, 9_000, 12_000, 11_000)},
        {BTC_KEY: OraclePrice(100_000 * USD), USD_KEY: OraclePrice(USD)},
    )
    planner = Planner(
        SlippageLimits(), lambda: CostModel(NO_FEES, NO_SLIPPAGE), lambda book: standing(book, [BTC_PERP])
    )
    before = standing(margin_book, [BTC_PERP]).summary.net_value_1e6
    assert before == 150_000 * USD
    took = planner.take(facts, margin_book, SOL // 2, Direction.CARRY, SpotSource.WALLET)
    assert took.transfer == Transfer("wBTC", 50_000_000)
    assert took.spot_after_1e9 == SOL * 3 // 2
    assert took.after.summary.net_value_1e6 - before == 50_000 * USD
    bought = planner.take(facts, margin_book, SOL // 2, Direction.CARRY)
    assert bought.after.summary.net_value_1e6 == before
    moved = planner.transfer(facts, margin_book, Transfer("wBTC", -25_000_000))
    assert (moved.size, moved.notional, moved.spot_after_1e9) == (Decimal("0.25"), Decimal(25_000), SOL * 3 // 4)
    assert moved.after.summary.net_value_1e6 - before == -25_000 * USD


def test_the_trap_of_sol_in_the_wallet() -> None:
    """R4.2: $1,700, short 100 SOL at 85: 5x and 85 % health, and a rally of a sixth takes all of it."""
    price = Decimal(85)
    perp = PerpBalance(-100 * SOL, price, Decimal(0), Decimal(0), price)
    spots = {"SOL": SpotBalance(0, 100 * SOL)}
    state = facts_of(MARKET, report(Decimal(1700), Decimal(1700), {"SOL-PERP": perp}, spots))
    user = UserAccount(
        (SpotPosition(0, 1700 * SOL, False),), (PerpPosition(0, -100 * SOL, 8500 * USD, 8500 * USD, 8500 * USD),)
    )
    margin_book = msgspec.structs.replace(
        book(state), user=user, oracles={SOL_KEY: OraclePrice(85 * USD), USD_KEY: OraclePrice(USD)}
    )
    now = stand(margin_book)
    assert now.leverage == pytest.approx(5.0)
    assert now.summary.health == 85
    assert now.nearest is not None
    assert now.nearest.distance_pct == pytest.approx(16.5, abs=0.1)


@pytest.mark.parametrize(("perp", "stance"), [(0, Stance.FLAT), (-1, Stance.CARRY), (1, Stance.REVERSE)])
def test_stance_of(perp: int, stance: Stance) -> None:
    assert stance_of(perp) is stance


def test_what_forcing_costs() -> None:
    state = account()
    plan = PLANNER.take(state, book(state), 2 * SOL, Direction.CARRY)
    bad = CarryEstimate(Stance.CARRY, -1e-5, -1e-5, -1e-5, None, CarryRule.NEGATIVE)
    assert loss_if_forced(plan, bad, 0.0025, 168.0) == pytest.approx(300 * (0.0025 + 0.00168))
    assert loss_if_forced(plan, None, 0.0025, 168.0) is None
