"""Policies over whole tapes: the shipped year and made ones, and what their figures must add up to."""

from __future__ import annotations

import asyncio
import csv
import random
from decimal import Decimal
from functools import cache
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapes import FIRST_S, Row, apr_rate, csv_bytes, flipping, row, steady, tape

from deltatui.backtest import capital
from deltatui.backtest.capital import with_enough_capital
from deltatui.backtest.clock import SimulatedClock
from deltatui.backtest.course import EquityPoint
from deltatui.backtest.report import write_csv
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.run import run_backtest, run_unrefused
from deltatui.backtest.settings import BacktestSettings, Fees, Policy, Tapes, size_from_text
from deltatui.domain.carry import Stance
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.engine.settings import MarketSettings
from deltatui.feeds.tape import Tape, parse_tape, shipped_tape
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

SOL = 10**9
ISSUE_FUNDING = -6.067833
LOOSE = GateLimits(max_leverage=10.0, min_health_after=0, min_liq_distance_pct=0.0)


def wanted(policy: Policy, size_1e9: int, fees: Fees) -> BacktestSettings:
    return BacktestSettings(policy=policy, markets={"SOL-PERP": MarketSettings(size_1e9)}, fees=fees)


def play(
    t: Tape, policy: Policy = Policy.ALWAYS_SHORT, size_1e9: int = SOL, fees: Fees = Fees.NONE, **more: object
) -> tuple[BacktestResult, list[EquityPoint]]:
    """On SOL-PERP alone."""
    settings = msgspec.structs.replace(wanted(policy, size_1e9, fees), **more)
    return asyncio.run(run_backtest({"SOL-PERP": t}, settings))


def adds_up(result: BacktestResult) -> None:
    """The promise of :class:`BacktestResult`, and the two paths to the equity."""
    end = result.equity_start_usd + result.funding_usd + result.fees_usd + result.interest_usd + result.trading_pnl_usd
    scale = max(1.0, abs(result.equity_start_usd))
    assert end == pytest.approx(result.equity_end_usd, abs=1e-9 * scale)
    assert result.ledger_gap_usd < 1e-9 * scale


@cache
def shipped() -> Tape:
    return shipped_tape("SOL-PERP")


@cache
def on_the_year(policy: Policy, size_1e9: int, fees: Fees) -> tuple[BacktestResult, list[EquityPoint]]:
    return play(shipped(), policy, size_1e9, fees)


# The shipped year


def test_the_year_of_the_issue() -> None:
    result, curve = on_the_year(Policy.ALWAYS_SHORT, SOL, Fees.NONE)
    assert result.funding_usd == pytest.approx(ISSUE_FUNDING, abs=1e-6)
    assert result.points == len(shipped()) == len(curve) == 8467
    assert result.fees_usd == 0.0
    assert result.ledger_gap_usd < 0.01
    assert result.time_in_market_pct == 100.0
    assert result.switches == 1
    assert result.state == "RUNNING"
    assert result.entries == 8467
    adds_up(result)


def test_twice_the_size_is_twice_the_funding() -> None:
    one, _ = on_the_year(Policy.ALWAYS_SHORT, SOL, Fees.NONE)
    two, _ = on_the_year(Policy.ALWAYS_SHORT, 2 * SOL, Fees.NONE)
    assert two.funding_usd == pytest.approx(2 * ISSUE_FUNDING, abs=2e-6)
    assert two.funding_usd == pytest.approx(2 * one.funding_usd, abs=1e-12)
    assert two.result_hash != one.result_hash


def test_the_same_run_has_the_same_hash() -> None:
    one, curve = on_the_year(Policy.ALWAYS_SHORT, SOL, Fees.NONE)
    again, again_curve = play(shipped())
    assert again == one
    assert again_curve == curve
    dear, _ = on_the_year(Policy.ALWAYS_SHORT, SOL, Fees.DRIFT)
    assert dear.result_hash != one.result_hash


def test_the_year_by_carry_is_better_than_always_short_and_flat_is_nothing() -> None:
    carry, _ = on_the_year(Policy.CARRY, SOL, Fees.DRIFT)
    short, _ = on_the_year(Policy.ALWAYS_SHORT, SOL, Fees.DRIFT)
    flat, _ = on_the_year(Policy.FLAT, SOL, Fees.DRIFT)
    assert carry.equity_end_usd - carry.equity_start_usd > short.equity_end_usd - short.equity_start_usd
    assert flat.equity_end_usd == flat.equity_start_usd
    assert flat.entries == flat.switches == 0
    for result in (carry, short, flat):
        assert result.state == "RUNNING"
        adds_up(result)


def test_the_opening_equity_is_twice_the_notional_or_what_is_said() -> None:
    t = steady(10, 5)
    result, _ = play(t, size_1e9=3 * SOL)
    assert result.equity_start_usd == 2 * 3 * 150
    result, _ = play(t, start_equity=Decimal(1234))
    assert result.equity_start_usd == 1234


@pytest.mark.parametrize(
    ("policy", "fees", "prefix"),
    [
        (Policy.ALWAYS_SHORT, Fees.NONE, "292ac923"),
        (Policy.ALWAYS_SHORT, Fees.DRIFT, "93fdb0bb"),
        (Policy.CARRY, Fees.NONE, "b4bb5435"),
        (Policy.CARRY, Fees.DRIFT, "3ffa7e9a"),
        (Policy.FLAT, Fees.NONE, "e3b0c442"),
        (Policy.FLAT, Fees.DRIFT, "e3b0c442"),
    ],
)
def test_what_is_booked_on_the_year_stays(policy: Policy, fees: Fees, prefix: str) -> None:
    assert on_the_year(policy, SOL, fees)[0].result_hash.startswith(prefix)


# Refused entries


def test_the_year_tells_its_refused_entries_and_what_capital_would_have_done() -> None:
    result, _ = on_the_year(Policy.CARRY, SOL, Fees.DRIFT)
    assert result.refused_entries == 64
    (group,) = result.refused
    assert (group.code, group.stance, group.count) == ("health_after", "REVERSE", 64)
    assert (group.lowest, group.highest, group.limit) == ("51", "58", ">= 60")
    assert (group.first_s, group.last_s) == (1760155202, 1762380015)  # 2025-10-11, 2025-11-05
    assert result.equity_end_usd - result.equity_start_usd == pytest.approx(0.5507, abs=5e-5)
    assert result.enough_capital is None
    enough = asyncio.run(
        with_enough_capital({"SOL-PERP": shipped()}, wanted(Policy.CARRY, SOL, Fees.DRIFT), result)
    ).enough_capital
    assert enough is not None
    assert enough.multiple == 2.6
    assert enough.net_per_base_usd == pytest.approx(3.3061, abs=5e-5)
    # It is no figure of speech: a run with that much says the same, and a tenth less is refused.
    notional = shipped().records[0].oracle_twap
    again, _ = play(shipped(), Policy.CARRY, SOL, Fees.DRIFT, start_equity=notional * Decimal("2.6"))
    assert again.refused_entries == 0
    assert again.equity_end_usd - again.equity_start_usd == enough.net_usd
    less, _ = play(shipped(), Policy.CARRY, SOL, Fees.DRIFT, start_equity=notional * Decimal("2.5"))
    assert less.refused_entries > 0


def test_the_capital_that_is_enough_does_not_depend_on_the_size() -> None:
    result, _ = on_the_year(Policy.CARRY, 10 * SOL, Fees.DRIFT)
    settings = wanted(Policy.CARRY, 10 * SOL, Fees.DRIFT)
    enough = asyncio.run(with_enough_capital({"SOL-PERP": shipped()}, settings, result)).enough_capital
    assert enough is not None
    assert enough.multiple == 2.6
    assert enough.net_per_base_usd is not None
    assert enough.net_usd == pytest.approx(10 * enough.net_per_base_usd)


def counted_runs(monkeypatch: pytest.MonkeyPatch) -> list[Decimal]:
    starts: list[Decimal] = []

    async def run(tapes: Tapes, settings: BacktestSettings) -> BacktestResult | None:
        assert settings.start_equity is not None
        starts.append(settings.start_equity)
        return await run_unrefused(tapes, settings)

    monkeypatch.setattr(capital, "run_unrefused", run)
    return starts


def searched(t: Tape, monkeypatch: pytest.MonkeyPatch, **more: object) -> tuple[BacktestResult, list[Decimal]]:
    starts = counted_runs(monkeypatch)
    settings = msgspec.structs.replace(wanted(Policy.CARRY, SOL, Fees.DRIFT), **more)
    tapes = {"SOL-PERP": t}
    result, _ = asyncio.run(run_backtest(tapes, settings))
    return asyncio.run(with_enough_capital(tapes, settings, result)), starts


def test_nothing_is_run_again_where_nothing_was_refused_for_want_of_capital(monkeypatch: pytest.MonkeyPatch) -> None:
    result, starts = searched(steady(100, 60), monkeypatch)
    assert (result.refused_entries, result.refused, result.enough_capital, starts) == (0, (), None, [])
    failing = PaperSettings(faults=PaperFaults(fail_rate=1.0))
    result, starts = searched(steady(100, 20), monkeypatch, paper=failing)
    (group,) = result.refused
    assert (group.code, group.stance, group.limit) == ("SimulatedFailure", "CARRY", "")
    assert result.refused_entries == group.count == 13
    assert (result.enough_capital, starts) == (None, [])


def test_a_search_that_finds_nothing_ends_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    unreachable = GateLimits(max_leverage=10.0, min_free_quote_usd=1e9)
    result, starts = searched(steady(100, 60), monkeypatch, limits=unreachable)
    assert [group.code for group in result.refused] == ["quote_reserve"]
    assert result.enough_capital is None
    assert [start / 150 for start in starts] == [4, 8, 16, 32, 64, 100]


def test_an_account_with_next_to_nothing_finds_its_capital_too(monkeypatch: pytest.MonkeyPatch) -> None:
    result, starts = searched(steady(100, 60), monkeypatch, start_equity=Decimal(1))
    assert {group.code for group in result.refused} > {"leverage", "health_after"}
    enough = result.enough_capital
    assert enough is not None
    less = msgspec.structs.replace(
        wanted(Policy.CARRY, SOL, Fees.DRIFT), start_equity=150 * Decimal(str(enough.multiple)) - 15
    )
    assert asyncio.run(run_unrefused({"SOL-PERP": steady(100, 60)}, less)) is None
    assert len(starts) <= 12


# The curve


def test_the_curve_contains_what_the_last_trade_cost() -> None:
    """Six records until anything is judged, and carry has to be seen three times: it is taken at the eighth."""
    result, curve = play(steady(100, 8), Policy.CARRY, fees=Fees.DRIFT)
    assert result.switches == 1
    assert curve[-1].stance is Stance.CARRY
    assert curve[-1].equity == result.equity_end_usd < curve[-2].equity
    lost = curve[-2].equity - curve[-1].equity
    assert result.max_drawdown_pct == pytest.approx(lost / curve[-2].equity * 100)


@pytest.mark.parametrize("apr", [-300.0, 300.0])
def test_no_dip_of_the_curve_is_deeper_than_the_drawdown(apr: float) -> None:
    result, curve = play(flipping(apr, 24 * 20, 72), Policy.CARRY, fees=Fees.DRIFT)
    assert result.switches > 2
    peak, deepest = result.equity_start_usd, 0.0
    for point in curve:
        peak = max(peak, point.equity)
        deepest = max(deepest, (peak - point.equity) / peak * 100)
    assert 0 < deepest <= result.max_drawdown_pct + 1e-9


# Other tapes


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(10, 400))
def test_any_tape_is_right_with_any_rates_and_any_spacing(seed: int, count: int, steps: int) -> None:
    """fundingRateShort counts and nothing else; records, not seconds, are booked."""
    dice = random.Random(seed)
    ts, price, rows = FIRST_S, Decimal(150), []
    for _ in range(count):
        price = max(Decimal(1), price * Decimal(str(round(dice.uniform(0.97, 1.03), 6))))
        price = round(price, dice.choice([2, 6, 9]))
        rates = [Decimal(dice.randint(-(10**8), 10**8)).scaleb(-dice.choice([9, 10, 12])) for _ in range(3)]
        mark = round(price * Decimal(str(round(dice.uniform(0.999, 1.001), 6))), 6)
        rows.append(row(ts, rates[0], price, rate_long=rates[1], rate_short=rates[2], mark=mark))
        ts += dice.choice([3539, 3600, 3665, 60, 7200, 90_000])
    size = steps * 10_000_000
    result, _ = play(tape(rows), size_1e9=size)
    expected = sum((Decimal(str(r[3])) for r in rows), Decimal(0)) * size / SOL
    assert result.funding_usd == pytest.approx(float(expected), abs=1e-9)
    assert result.points == count
    adds_up(result)


def test_a_short_receives_by_the_short_rate_and_a_long_pays_by_the_long_rate() -> None:
    rows = [row(FIRST_S + 3600 * n, "9", rate_long="-0.03", rate_short="0.02") for n in range(40)]
    short, _ = play(tape(rows))
    assert short.funding_usd == pytest.approx(40 * 0.02)
    carry, curve = play(tape(rows), Policy.CARRY)
    assert carry.funding_usd > 0
    assert {point.stance for point in curve} <= {Stance.FLAT, Stance.CARRY, Stance.REVERSE}


def test_one_record_only() -> None:
    t = tape([row(FIRST_S, "0.01", "123.45")])
    for policy in Policy:
        for fees in Fees:
            result, curve = play(t, policy, fees=fees)
            assert result.points == len(curve) == 1
            assert result.funding_usd == (pytest.approx(0.01) if policy is Policy.ALWAYS_SHORT else 0.0)
            adds_up(result)


@pytest.mark.parametrize("price", ["0.001", "0.0375", "1", "123456.789012", "1000000000", "1000000000000"])
@pytest.mark.parametrize("policy", list(Policy))
def test_huge_and_tiny_prices(price: str, policy: Policy) -> None:
    result, _ = play(steady(100, 60, price), policy)
    rates = 60 * apr_rate(100, price)
    if policy is Policy.ALWAYS_SHORT:
        assert result.funding_usd == pytest.approx(float(rates))
    adds_up(result)


@pytest.mark.parametrize("price", ["0.00000099", "1e-400", "1e13", "1e400"])
def test_prices_that_no_exchange_can_say_are_refused(price: str) -> None:
    with pytest.raises(ValidationError, match="line 2: prices must be"):
        parse_tape(csv_bytes([row(FIRST_S, "0", price)]), "t.csv")


def test_columns_in_another_order_with_others_between() -> None:
    columns = ["x", "markPriceTwap", "fundingRateShort", "ts", "fundingRate", "note", "oraclePriceTwap",
               "periodRevenue", "fundingRateLong"]  # fmt: skip
    rows = [("?", 150, "0.01", FIRST_S + 3600 * n, "5", "a b", 150, 0, "-1") for n in range(10)]
    result, _ = play(parse_tape(csv_bytes(rows, columns), "t.csv"))
    assert result.funding_usd == pytest.approx(0.1)


# Carry (R18.3)


@pytest.mark.parametrize("apr", [100.0, 300.0, 1000.0])
@pytest.mark.parametrize("fees", list(Fees))
def test_a_tape_that_pays_is_entered(apr: float, fees: Fees) -> None:
    result, curve = play(steady(apr), Policy.CARRY, fees=fees)
    assert curve[-1].stance is Stance.CARRY
    assert result.switches == 1
    assert result.funding_usd > 0
    assert result.time_in_market_pct > 90
    assert result.equity_end_usd > result.equity_start_usd
    adds_up(result)


@pytest.mark.parametrize("apr", [-1.0, -100.0, -1000.0])
@pytest.mark.parametrize("fees", list(Fees))
def test_a_tape_that_costs_is_never_paid_for(apr: float, fees: Fees) -> None:
    result, curve = play(steady(apr), Policy.CARRY, fees=fees)
    assert result.funding_usd >= 0
    assert all(point.stance is not Stance.CARRY for point in curve)
    if apr <= -100:
        assert curve[-1].stance is Stance.REVERSE
        assert result.equity_end_usd > result.equity_start_usd
    else:
        assert result.entries == 0
    adds_up(result)


@pytest.mark.parametrize("fees", list(Fees))
@pytest.mark.parametrize("apr", [10.0, 100.0, 1000.0])
def test_an_hourly_flip_does_not_churn(apr: float, fees: Fees) -> None:
    result, _ = play(flipping(apr), Policy.CARRY, fees=fees)
    assert result.switches <= 2
    assert result.equity_end_usd >= result.equity_start_usd * 0.995
    adds_up(result)


@pytest.mark.parametrize("every", [2, 3, 4, 6, 12])
def test_flips_that_fit_into_the_average_do_not_churn_either(every: int) -> None:
    result, _ = play(flipping(100.0, 24 * 30, every), Policy.CARRY, fees=Fees.DRIFT)
    assert result.switches <= 2
    assert result.equity_end_usd >= result.equity_start_usd * 0.995
    adds_up(result)


@pytest.mark.parametrize("every", [8, 16, 24])
def test_flips_in_step_with_the_average_are_soon_given_up(every: int) -> None:
    """Each round trip that did not earn its costs doubles the patience before the next."""
    result, _ = play(flipping(300.0, 24 * 60, every), Policy.CARRY, fees=Fees.DRIFT)
    assert result.switches <= 12
    assert result.equity_end_usd > result.equity_start_usd * 0.98


def test_free_trading_does_not_look_free() -> None:
    """Small noise around zero is not worth trading even where nothing is charged."""
    dice = random.Random(4)
    rows = [row(FIRST_S + 3600 * n, apr_rate(dice.uniform(-3, 3))) for n in range(24 * 30)]
    result, _ = play(tape(rows), Policy.CARRY)
    assert result.switches == 0


# Liquidation


def moon(to: str, hours: int = 30) -> list[Row]:
    prices = ["150"] * 10 + [to] * (hours - 10)
    return [row(FIRST_S + 3600 * n, "0.001", price) for n, price in enumerate(prices)]


def test_a_liquidation_is_booked_and_the_ledger_still_ties() -> None:
    """A hedge with thin collateral: SOL counts nine tenths, the short's loss counts whole."""
    result, curve = play(tape(moon("900")), start_equity=Decimal(80), limits=LOOSE)
    assert result.state.startswith("HALTED: the account was liquidated")
    adds_up(result)
    debt = 80 - 150 - (900 - 150) - 900 * 0.015  # the short's loss and fee, and what the SOL was bought on
    # But for what the hours of interest on the debt before are.
    assert result.fees_usd == pytest.approx(-900 * 0.015 + debt / (1 - 0.015) * 0.015, rel=1e-5)
    assert [point.stance for point in curve[8:12]] == [Stance.CARRY] * 2 + [Stance.FLAT] * 2
    assert result.switches == 2
    assert result.time_in_market_pct == pytest.approx(11 / 30 * 100)
    # Nothing is taken again by itself.
    assert curve[-1].stance is Stance.FLAT


def test_a_crash_liquidates_a_reversed_hedge_that_is_too_thin() -> None:
    rows = [row(FIRST_S + 3600 * n, apr_rate(-400)) for n in range(12)]
    rows += [row(FIRST_S + 3600 * n, "0", "20") for n in range(12, 24)]
    paper = PaperSettings(base_borrow_apr_pct=Decimal(0))
    thin = GateLimits(max_leverage=10.0, min_health_after=0, min_liq_distance_pct=0.0)
    result, curve = play(tape(rows), Policy.CARRY, start_equity=Decimal(40), limits=thin, paper=paper)
    assert curve[11].stance is Stance.REVERSE
    adds_up(result)


def test_faults_on_the_way_leave_the_ledger_tied() -> None:
    for seed in range(5):
        faults = PaperFaults(seed=seed, fail_rate=0.2, partial_rate=0.2, odd_leg_rate=0.2)
        result, _ = play(
            flipping(400.0, 24 * 20, 48), Policy.CARRY, fees=Fees.DRIFT, paper=PaperSettings(faults=faults)
        )
        adds_up(result)


# Refusals and the outside


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-1", "too small"),
        ("0", "too small"),
        ("0.001", "too small"),
        ("0.09", "too small; the least is 0.1 SOL"),
        ("1.005", "no multiple"),
        ("1.0000000001", "no multiple"),
        ("nan", "finite"),
        ("inf", "finite"),
        ("sNaN", "finite"),
        ("one", "not a number"),
        ("", "not a number"),
        ("1,5", "not a number"),
        ("1e30", "more than any market"),
        ("1e400", "more than any market"),
        ("1e99999999", "more than any market"),
        ("-1e99999999", "more than any market"),
    ],
)
def test_sizes_that_are_none(text: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        size_from_text(text, "SOL-PERP")


def test_sizes_that_are() -> None:
    """The larger of the least sizes of perp and spot, and what is a multiple of both steps."""
    assert size_from_text("1", "SOL-PERP") == SOL
    assert size_from_text("0.1", "SOL-PERP") == 100_000_000
    assert size_from_text("1.01", "SOL-PERP") == 1_010_000_000
    assert size_from_text("1e2", "SOL-PERP") == 100 * SOL
    assert size_from_text("0.0001", "BTC-PERP") == 100_000
    with pytest.raises(ValidationError, match=r"too small; the least is 0\.0001 wBTC"):
        size_from_text("0.00001", "BTC-PERP")
    with pytest.raises(ValidationError, match=r"no multiple of the step 0\.0001 wBTC"):
        size_from_text("0.01525", "BTC-PERP")


def test_an_unknown_market() -> None:
    with pytest.raises(ValidationError, match="SOL-PERP"):
        size_from_text("1", "DOGE-PERP")
    with pytest.raises(ValidationError, match="SOL-PERP"):
        asyncio.run(run_backtest({"DOGE-PERP": steady(1, 3)}, wanted(Policy.FLAT, SOL, Fees.NONE)))


def test_a_position_that_cannot_be_taken_is_said() -> None:
    with pytest.raises(ValidationError, match=r"NOT_TAKEN.*leverage"):
        play(steady(1, 3), start_equity=Decimal(1))


def test_results_do_not_depend_on_how_often_is_saved() -> None:
    t = flipping(400.0, 24 * 10, 48)
    one, _ = play(t, Policy.CARRY, fees=Fees.DRIFT, batch=1)
    many, _ = play(t, Policy.CARRY, fees=Fees.DRIFT, batch=1000)
    assert one == many


def test_the_simulated_clock_never_goes_back() -> None:
    clock = SimulatedClock(100.0)
    clock.advance_to(50.0)
    assert (clock.market_s(), clock.operator_s()) == (100.0, 100.0)
    asyncio.run(clock.sleep(10.0))
    clock.advance_to(105.0)
    assert (clock.market_s(), clock.operator_s()) == (105.0, 110.0)


def test_the_curve_can_be_read_back(tmp_path: Path) -> None:
    result, curve = play(steady(100, 40), Policy.CARRY)
    write_csv(tmp_path / "curve.csv", curve)
    with (tmp_path / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert float(rows[-1]["equity_usd"]) == pytest.approx(result.equity_end_usd, abs=1e-8)
    assert rows[-1]["stance"] == "CARRY"
