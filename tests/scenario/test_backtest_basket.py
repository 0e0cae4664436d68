"""Several tapes at once: the shared span, figures by market that add up to the whole, and where the capital goes."""

from __future__ import annotations

import asyncio
import hashlib
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
import pytest
from tapes import FIRST_S, apr_rate, row, steady, tape

from deltatui.backtest.capital import with_enough_capital
from deltatui.backtest.course import EquityPoint
from deltatui.backtest.report import text_report
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.run import run_alone, run_backtest
from deltatui.backtest.settings import BacktestSettings, Fees, Policy, opening_notional, shared_span, sizes_from_texts
from deltatui.domain.carry import CarrySettings, Stance
from deltatui.domain.errors import ValidationError
from deltatui.engine.settings import MarketSettings
from deltatui.feeds.tape import Tape
from deltatui.feeds.tapes import shipped_tapes
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

SOL, BTC = 10**9, 10**9
NAMES = ("BTC-PERP", "SOL-PERP")


@cache
def shipped() -> dict[str, Tape]:
    return shipped_tapes(NAMES)


def of_sizes(sol_1e9: int, btc_1e9: int, **more: Any) -> dict[str, MarketSettings]:
    return {"SOL-PERP": MarketSettings(sol_1e9, **more), "BTC-PERP": MarketSettings(btc_1e9, **more)}


def wanted(
    policy: Policy, fees: Fees = Fees.NONE, sol_1e9: int = SOL, btc_1e9: int = BTC, **more: Any
) -> BacktestSettings:
    return BacktestSettings(policy=policy, markets=of_sizes(sol_1e9, btc_1e9), fees=fees, **more)


def play(tapes: dict[str, Tape], settings: BacktestSettings) -> tuple[BacktestResult, list[EquityPoint]]:
    return asyncio.run(run_backtest(tapes, settings))


@cache
def on_the_year(policy: Policy, fees: Fees) -> BacktestResult:
    """One unit of each, and what each makes alone."""
    settings = wanted(policy, fees)
    result, _ = play(shipped(), settings)
    return msgspec.structs.replace(result, alone=asyncio.run(run_alone(shipped(), settings, result)))


def ten_thousand_each() -> dict[str, MarketSettings]:
    """Sizes of $10,000 of each market at the first prices, down to a step of it."""
    steps = {"SOL-PERP": 10_000_000, "BTC-PERP": 100_000}
    sizes = {
        symbol: int(Decimal(10_000) / t.records[0].oracle_twap * 10**9) // steps[symbol] * steps[symbol]
        for symbol, t in shipped().items()
    }
    return of_sizes(sizes["SOL-PERP"], sizes["BTC-PERP"])


def net(result: BacktestResult) -> float:
    return result.equity_end_usd - result.equity_start_usd


def adds_up(result: BacktestResult) -> None:
    """By kind of flow, by market and by the exchange's own balances it is the same."""
    scale = max(1.0, abs(result.equity_start_usd))
    flows = result.funding_usd + result.fees_usd + result.interest_usd + result.trading_pnl_usd
    assert net(result) == pytest.approx(flows, abs=1e-9 * scale)
    assert result.ledger_gap_usd < 1e-9 * scale
    assert result.account is not None
    markets = result.markets.values()
    whole = sum(each.contribution_usd for each in markets) + result.account.interest_usd + result.account.write_offs_usd
    assert net(result) == pytest.approx(whole, abs=1e-6)
    for kind in ("funding_usd", "fees_usd", "trading_pnl_usd"):
        assert sum(getattr(each, kind) for each in markets) == pytest.approx(getattr(result, kind), abs=1e-6)
    interest = sum(each.interest_usd for each in markets) + result.account.interest_usd
    assert interest == pytest.approx(result.interest_usd, abs=1e-6)
    for each in markets:
        parts = each.funding_usd + each.fees_usd + each.trading_pnl_usd + each.interest_usd
        assert each.contribution_usd == pytest.approx(parts, abs=1e-9 * scale)
    assert result.switches == sum(each.switches for each in markets)


# The shipped tapes


def test_the_figures_of_the_issue() -> None:
    """Always-short 1 and 1 without fees on the time that both tapes have."""
    result = on_the_year(Policy.ALWAYS_SHORT, Fees.NONE)
    assert result.markets["SOL-PERP"].funding_usd == pytest.approx(-4.281467, abs=1e-6)
    assert result.markets["BTC-PERP"].funding_usd == pytest.approx(4_611.001565, abs=1e-6)
    assert result.funding_usd == pytest.approx(4_606.720098, abs=1e-6)
    assert (result.points, result.switches, result.time_in_market_pct) == (2 * 7080, 2, 100.0)
    assert (result.first_s, result.last_s) == (1_744_588_800, 1_770_073_200)
    assert result.state == "RUNNING"
    adds_up(result)


@pytest.mark.parametrize("fees", list(Fees))
@pytest.mark.parametrize("policy", list(Policy))
def test_of_the_year_every_split_is_the_whole(policy: Policy, fees: Fees) -> None:
    adds_up(on_the_year(policy, fees))


def test_what_holds_the_same_whatever_the_other_does_makes_the_same_alone() -> None:
    """Always-short trades once, at prices that are its own: nothing of the other market is in its figures."""
    for fees in Fees:
        result = on_the_year(Policy.ALWAYS_SHORT, fees)
        for symbol, alone in result.alone.items():
            market = result.markets[symbol]
            assert alone.net_usd == pytest.approx(market.contribution_usd, abs=1e-9 * result.equity_start_usd)
            assert alone.funding_usd == market.funding_usd
            assert alone.fees_usd == market.fees_usd


def test_alone_is_the_single_run_on_the_shared_span_with_the_baskets_equity() -> None:
    result = on_the_year(Policy.CARRY, Fees.DRIFT)
    for symbol, alone in result.alone.items():
        settings = wanted(Policy.CARRY, Fees.DRIFT, start_equity=Decimal(str(result.equity_start_usd)))
        single, _ = play({symbol: shared_span(shipped())[symbol]}, settings)
        assert single.result_hash == alone.result_hash
        assert net(single) == alone.net_usd
        assert single.time_in_market_pct == alone.time_in_market_pct
        assert single.alone == {}


def test_capital_goes_where_it_pays() -> None:
    """$10,000 a market and $40,000 in all, with fees: the basket earns what both markets do, and no less than the
    better one alone. Two single runs added gave +346.05."""
    settings = BacktestSettings(policy=Policy.CARRY, markets=ten_thousand_each(), start_equity=Decimal(40_000))
    carry, curve = play(shipped(), settings)
    carry = msgspec.structs.replace(carry, alone=asyncio.run(run_alone(shipped(), settings, carry)))
    assert {symbol: round(each.net_usd, 2) for symbol, each in carry.alone.items()} == {
        "SOL-PERP": 215.87,
        "BTC-PERP": 130.18,
    }
    assert net(carry) >= max(each.net_usd for each in carry.alone.values())
    assert net(carry) == pytest.approx(346.05, abs=0.1)
    adds_up(carry)
    # And the report says what did better still.
    results = {Policy.CARRY: (carry, curve)}
    for policy in (Policy.ALWAYS_SHORT, Policy.FLAT):
        beside = msgspec.structs.replace(settings, policy=policy)
        played, points = play(shipped(), beside)
        results[policy] = (
            msgspec.structs.replace(played, alone=asyncio.run(run_alone(shipped(), beside, played))),
            points,
        )
    report = text_report(Policy.CARRY, results)
    assert "always-short on BTC-PERP alone did best on these tapes: +542.0503 $" in report
    assert "carry on the basket made +346.0044 $." in report


def test_a_switch_leaves_a_worse_hedge_for_a_better_one_where_both_do_not_fit() -> None:
    """R4.10: SOL pays first and is taken; when BTC pays much more there is capital for one of them."""
    hours = 24 * 10
    sol = tape(row(FIRST_S + 3600 * n, apr_rate(60)) for n in range(hours))
    btc = tape(row(FIRST_S + 3600 * n, apr_rate(0 if n < 48 else 600, "100000"), "100000") for n in range(hours))
    tapes = {"SOL-PERP": sol, "BTC-PERP": btc}
    settings = BacktestSettings(
        policy=Policy.CARRY,
        markets=of_sizes(10 * SOL, BTC // 100),
        start_equity=Decimal(2_000),
        max_total_usd=2_000.0,
    )
    result, curve = play(tapes, settings)
    assert {symbol: each.switches for symbol, each in result.markets.items()} == {"SOL-PERP": 2, "BTC-PERP": 1}
    assert result.markets["BTC-PERP"].funding_usd > 50
    assert all(point.stance in (Stance.CARRY, Stance.FLAT) for point in curve)
    adds_up(result)
    both, _ = play(tapes, msgspec.structs.replace(settings, max_total_usd=None, start_equity=Decimal(10_000)))
    assert {symbol: each.switches for symbol, each in both.markets.items()} == {"SOL-PERP": 1, "BTC-PERP": 1}


def test_a_limit_of_one_market_stops_that_market_alone() -> None:
    tapes = {"SOL-PERP": steady(100, 60), "BTC-PERP": steady(100, 60, "100000")}
    settings = wanted(Policy.CARRY, btc_1e9=BTC // 100, max_market_usd=500.0)
    result, _ = play(tapes, settings)
    assert {symbol: each.switches for symbol, each in result.markets.items()} == {"SOL-PERP": 1, "BTC-PERP": 0}


@pytest.mark.parametrize(
    ("sol_1e9", "start_usd", "limit", "code"),
    [
        (SOL // 10, 100, {}, "health_after"),
        (SOL, 5_000, {"max_total_usd": 900.0}, "TOTAL_LIMIT"),
        (SOL, 5_000, {"max_market_usd": 900.0}, "MARKET_LIMIT"),
    ],
)
def test_nothing_is_left_for_what_would_be_refused_all_the_same(
    sol_1e9: int, start_usd: int, limit: dict[str, float], code: str
) -> None:
    """BTC pays ten times as much and is too large for this account, with the other hedge or without."""
    tapes = {"SOL-PERP": steady(60, 100), "BTC-PERP": steady(600, 100, "100000")}
    settings = wanted(Policy.CARRY, Fees.DRIFT, sol_1e9, BTC // 100, start_equity=Decimal(start_usd), **limit)
    result, _ = play(tapes, settings)
    assert {symbol: each.switches for symbol, each in result.markets.items()} == {"SOL-PERP": 1, "BTC-PERP": 0}
    # And each time it was wanted is told.
    assert result.refused_entries > 50
    assert code in {group.code for group in result.refused}
    adds_up(result)


# The span and the figures of a basket


def test_what_tapes_share_is_played() -> None:
    early, late = steady(100, 60), tape(row(FIRST_S + 3600 * n, apr_rate(50)) for n in range(20, 100))
    result, curve = play({"SOL-PERP": early, "BTC-PERP": late}, wanted(Policy.ALWAYS_SHORT, btc_1e9=SOL))
    assert (result.first_s, result.last_s, result.points) == (FIRST_S + 20 * 3600, FIRST_S + 59 * 3600, 80)
    # Of two records at the same time the later one has seen both.
    assert [point.market_s for point in curve] == [FIRST_S + 3600 * n for n in range(20, 60)]
    assert result.funding_usd == pytest.approx(float(40 * (apr_rate(100) + apr_rate(50))))
    adds_up(result)


def test_tapes_that_share_no_time_are_refused() -> None:
    early, late = steady(100, 10), tape(row(FIRST_S + 3600 * n) for n in range(10, 20))
    with pytest.raises(ValidationError, match="the tapes share no time; a backtest of several plays what they share"):
        play({"SOL-PERP": early, "BTC-PERP": late}, wanted(Policy.FLAT))
    touching = tape(row(FIRST_S + 3600 * n) for n in range(9, 20))
    result, _ = play({"SOL-PERP": early, "BTC-PERP": touching}, wanted(Policy.FLAT))
    assert result.points == 2


def test_the_other_market_is_margined_at_its_newest_record() -> None:
    """Records half an hour apart: nothing is interpolated between them."""
    sol = tape(row(FIRST_S + 3600 * n, "0", str(150 + n)) for n in range(4))
    btc = tape(row(FIRST_S + 1800 + 3600 * n, "0", str(100_000 + 1000 * n)) for n in range(4))
    settings = wanted(Policy.ALWAYS_SHORT, sol_1e9=SOL, btc_1e9=BTC // 100)
    result, curve = play({"SOL-PERP": sol, "BTC-PERP": btc}, settings)
    # A hedge without fees is worth what it was at every record: a price of another moment would show.
    assert {point.equity for point in curve} == {result.equity_start_usd}
    assert [point.market_s for point in curve] == [FIRST_S + 1800 + 1800 * n for n in range(6)]


def test_the_joined_fields() -> None:
    tapes = {"SOL-PERP": steady(100, 10), "BTC-PERP": steady(-50, 10, "100000")}
    settings = wanted(Policy.ALWAYS_SHORT, Fees.DRIFT, sol_1e9=10 * SOL, btc_1e9=BTC // 200)
    result, _ = play(tapes, settings)
    assert (result.market, result.size) == ("BTC-PERP+SOL-PERP", None)
    assert result.tape == "test.csv+test.csv"
    digests = tapes["BTC-PERP"].digest + tapes["SOL-PERP"].digest
    assert result.tape_digest == hashlib.sha256(digests.encode()).hexdigest()
    assert {symbol: each.size for symbol, each in result.markets.items()} == {"BTC-PERP": 0.005, "SOL-PERP": 10.0}
    assert result.equity_start_usd == 2 * float(opening_notional(tapes, settings)) == 2 * (10 * 150 + 500)
    # 1500 at +100 % and 500 at -50 %.
    assert result.mean_short_apr_pct == pytest.approx((1500 * 100 - 500 * 50) / 2000, rel=1e-6)
    assert result.round_trip_bps == pytest.approx(25.0)


def test_a_single_tape_has_its_market_and_no_other_capital() -> None:
    result, _ = play({"SOL-PERP": steady(100, 60)}, wanted(Policy.CARRY, Fees.DRIFT))
    (market,) = result.markets.values()
    assert (result.market, result.size, market.size) == ("SOL-PERP", 1.0, 1.0)
    assert (market.funding_usd, market.fees_usd) == (result.funding_usd, result.fees_usd)
    assert market.contribution_usd == pytest.approx(net(result))
    assert result.alone == {}
    adds_up(result)


def test_which_market_comes_first_changes_nothing() -> None:
    settings = wanted(Policy.CARRY, Fees.DRIFT, btc_1e9=BTC // 100)
    tapes = {"SOL-PERP": steady(100, 100), "BTC-PERP": steady(80, 100, "100000")}
    turned = msgspec.structs.replace(settings, markets=dict(reversed(list(settings.markets.items()))))
    assert play(tapes, settings) == play(dict(reversed(tapes.items())), turned)


def test_faults_on_the_way_leave_the_ledger_tied() -> None:
    hours = 24 * 20
    tapes = {
        "SOL-PERP": tape(row(FIRST_S + 3600 * n, apr_rate(400 if n // 48 % 2 else -400)) for n in range(hours)),
        "BTC-PERP": tape(
            row(FIRST_S + 3600 * n, apr_rate(400 if n // 36 % 2 else -400, "100000"), "100000") for n in range(hours)
        ),
    }
    for seed in range(3):
        paper = PaperSettings(faults=PaperFaults(seed=seed, fail_rate=0.2, partial_rate=0.2, odd_leg_rate=0.2))
        result, _ = play(tapes, wanted(Policy.CARRY, Fees.DRIFT, btc_1e9=BTC // 100, paper=paper))
        adds_up(result)


def test_results_do_not_depend_on_how_often_is_saved() -> None:
    tapes = {"SOL-PERP": steady(200, 100), "BTC-PERP": steady(-300, 100, "100000")}
    settings = wanted(Policy.CARRY, Fees.DRIFT, btc_1e9=BTC // 100)
    one, many = (play(tapes, msgspec.structs.replace(settings, batch=batch)) for batch in (1, 1000))
    assert one == many


def test_enough_capital_is_counted_in_the_notionals_of_all() -> None:
    tapes = {"SOL-PERP": steady(-400, 100), "BTC-PERP": steady(-400, 100, "100000")}
    settings = wanted(Policy.CARRY, Fees.DRIFT, btc_1e9=BTC // 100, start_equity=Decimal(1_000))
    result, _ = play(tapes, settings)
    assert result.refused_entries > 0
    enough = asyncio.run(with_enough_capital(tapes, settings, result)).enough_capital
    assert enough is not None
    assert enough.equity_start_usd == pytest.approx(enough.multiple * 1_150)
    assert enough.net_per_base_usd is None
    played, _ = play(tapes, msgspec.structs.replace(settings, start_equity=Decimal(str(enough.equity_start_usd))))
    assert played.refused_entries == 0
    assert net(played) == enough.net_usd


def test_carry_settings_are_each_markets_own() -> None:
    """A market that asks for more records decides later, whatever the other does."""
    tapes = {"SOL-PERP": steady(200, 60), "BTC-PERP": steady(200, 60, "100000")}
    markets = {
        "SOL-PERP": MarketSettings(SOL),
        "BTC-PERP": MarketSettings(BTC // 100, carry=CarrySettings(min_records=40)),
    }
    settings = BacktestSettings(policy=Policy.CARRY, markets=markets, fees=Fees.NONE)
    result, _ = play(tapes, settings)
    hours = {symbol: each.funding_usd / float(apr_rate(200, price)) for symbol, each, price in (
        ("SOL-PERP", result.markets["SOL-PERP"], "150"),
        ("BTC-PERP", result.markets["BTC-PERP"], "1000"),
    )}  # fmt: skip
    assert {symbol: round(each) for symbol, each in hours.items()} == {"SOL-PERP": 60 - 8, "BTC-PERP": 60 - 42}


# Sizes from the command line


def test_sizes_of_all_and_of_one() -> None:
    assert sizes_from_texts([], NAMES) == {}
    assert sizes_from_texts(["2"], NAMES) == {"SOL-PERP": 2 * SOL, "BTC-PERP": 2 * BTC}
    assert sizes_from_texts(["SOL-PERP=2"], NAMES) == {"SOL-PERP": 2 * SOL}
    expected = {"SOL-PERP": 2 * SOL, "BTC-PERP": 15_200_000}
    for texts in (["SOL-PERP=2", "BTC-PERP=0.0152"], ["2", "BTC-PERP=0.0152"], ["BTC-PERP=0.0152", "2"]):
        assert sizes_from_texts(texts, NAMES) == expected


@pytest.mark.parametrize(
    ("texts", "code", "sentence"),
    [
        (["1", "2"], "TWO_SIZES", "both 1 and 2 are sizes of every market; give one"),
        (["SOL-PERP=1", "SOL-PERP=1"], "TWO_SIZES", "there are two sizes of SOL-PERP; give one"),
        (["DOGE-PERP=1"], "UNKNOWN_MARKET", "DOGE-PERP is not played; played: BTC-PERP, SOL-PERP"),
        (["=1"], "UNKNOWN_MARKET", " is not played"),
        (["SOL-PERP=0.09"], "BAD_SIZE", "the least is 0.1 SOL"),
        (["0.01"], "BAD_SIZE", "the least is 0.1 SOL"),
        (["SOL-PERP="], "BAD_SIZE", "is not a number"),
        (["SOL-PERP=1=2"], "BAD_SIZE", "is not a number"),
    ],
)
def test_sizes_that_are_refused(texts: list[str], code: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        sizes_from_texts(texts, NAMES)
    assert sentence in refused.value.sentence
    assert refused.value.code == code


def test_a_size_of_each_has_to_fit_each() -> None:
    """0.0152 is a size of BTC and none of SOL: nothing is rounded behind anybody's back."""
    with pytest.raises(ValidationError, match=r"size 0\.0152 is too small; the least is 0\.1 SOL"):
        sizes_from_texts(["0.0152"], NAMES)
    assert sizes_from_texts(["0.0152", "SOL-PERP=1"], NAMES) == {"SOL-PERP": SOL, "BTC-PERP": 15_200_000}
