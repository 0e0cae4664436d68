"""The backtest report: figures beside each other, a verdict that is true, a curve, and files that can be opened."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tapes import FIRST_S, apr_rate, row, steady, tape

from deltatui.backtest.capital import with_enough_capital
from deltatui.backtest.course import EquityPoint
from deltatui.backtest.report import text_report, write_csv, write_html
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.run import run_alone, run_backtest
from deltatui.backtest.settings import BacktestSettings, Fees, Policy
from deltatui.domain.errors import ValidationError
from deltatui.engine.settings import MarketSettings
from deltatui.feeds.tape import Tape

SOL = 10**9


def results(t: Tape, fees: Fees = Fees.DRIFT) -> dict[Policy, tuple[BacktestResult, list[EquityPoint]]]:
    return {policy: asyncio.run(run_backtest({"SOL-PERP": t}, wanted(policy, fees=fees))) for policy in Policy}


def wanted(policy: Policy, **more: Any) -> BacktestSettings:
    """One SOL in each leg."""
    return BacktestSettings(policy=policy, markets={"SOL-PERP": MarketSettings(SOL)}, **more)


BOTH = {"SOL-PERP": MarketSettings(SOL), "BTC-PERP": MarketSettings(SOL // 100)}


def basket(sol_apr: float, btc_apr: float) -> dict[Policy, tuple[BacktestResult, list[EquityPoint]]]:
    """Every policy on two tapes, and what each market makes alone."""
    tapes = {"BTC-PERP": steady(btc_apr, price="100000"), "SOL-PERP": steady(sol_apr)}

    async def play(policy: Policy) -> tuple[BacktestResult, list[EquityPoint]]:
        settings = BacktestSettings(policy=policy, markets=BOTH)
        result, curve = await run_backtest(tapes, settings)
        return msgspec.structs.replace(result, alone=await run_alone(tapes, settings, result)), curve

    return {policy: asyncio.run(play(policy)) for policy in Policy}


def table(report: str) -> dict[str, list[str]]:
    return {
        line.split()[0]: line.split()[1:]
        for line in report.splitlines()
        if re.match(r"(carry|always-short|flat) +[+-]", line)
    }


def test_three_policies_beside_each_other_the_asked_one_first() -> None:
    report = text_report(Policy.FLAT, results(steady(100)))
    rows = table(report)
    assert list(rows) == ["flat", "always-short", "carry"]
    assert rows["flat"][0] == "+0.0000"
    assert float(rows["always-short"][0]) > 0
    assert "336 funding records, 2023-11-14 to 2023-11-28" in report
    assert "each leg, fees drift; start $300.00" in report


@pytest.mark.parametrize(
    ("apr", "best"), [(100.0, "always-short"), (-1.0, "flat"), (-300.0, "carry")], ids=["pays", "nothing", "turned"]
)
def test_the_verdict_names_the_one_that_won(apr: float, best: str) -> None:
    found = results(steady(apr))
    winner = max(found, key=lambda p: found[p][0].equity_end_usd - found[p][0].equity_start_usd)
    assert winner == best
    for policy in Policy:
        report = text_report(policy, found)
        assert f"{winner.value} did best on this tape" in report
        net = found[policy][0].equity_end_usd - found[policy][0].equity_start_usd
        assert f"{net:+.4f} $." in report


def test_negative_carry_is_not_hidden() -> None:
    report = text_report(Policy.ALWAYS_SHORT, results(steady(-50)))
    assert "breaks even: never" in report
    assert "-50.00 % APR" in report
    assert table(report)["always-short"][0].startswith("-")


def test_the_curve_has_its_bounds_and_stances() -> None:
    found = results(steady(100))
    report = text_report(Policy.CARRY, found)
    _, curve = found[Policy.CARRY]
    high, low = max(p.equity for p in curve), min(p.equity for p in curve)
    assert f"{high:,.2f} │" in report
    assert f"{low:,.2f} │" in report
    (stances,) = [line for line in report.splitlines() if line.strip().startswith("stance")]
    assert set(stances.split("│")[1]) == {"·", "C"}
    assert len(stances.split("│")[1]) == 72
    assert any(re.fullmatch(" +2023-11-14 +2023-11-28", line) for line in report.splitlines())


def test_a_tape_of_one_record_and_one_without_movement() -> None:
    one = text_report(Policy.CARRY, results(tape([row(FIRST_S, apr_rate(10))])))
    assert "1 funding records" in one
    flat = text_report(Policy.FLAT, results(steady(0, 5)))
    assert flat.count("●") == 5


def test_an_engine_that_did_not_end_running_is_told() -> None:
    found = dict(results(steady(100, 30)))
    result, curve = found[Policy.CARRY]
    found[Policy.CARRY] = (msgspec.structs.replace(result, state="HALTED: odd leg"), curve)
    assert text_report(Policy.CARRY, found).splitlines()[-1] == "the engine ended HALTED: odd leg"


def test_files(tmp_path: Path) -> None:
    found = results(steady(100, 600))
    write_html(tmp_path / "r.html", Policy.CARRY, found)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 3
    assert {policy.value for policy in Policy} == set(re.findall("<title>([a-z-]+)</title></polyline>", page))
    points = [float(n) for n in re.findall(r"-?\d+\.\d", "".join(re.findall('points="([^"]*)"', page)))]
    assert all(0 <= n <= 1000 for n in points)
    write_csv(tmp_path / "r.csv", found[Policy.CARRY][1])
    assert (tmp_path / "r.csv").read_text().startswith("ts,equity_usd,stance\n")
    with pytest.raises(ValidationError, match="cannot be written"):
        write_html(tmp_path / "no" / "r.html", Policy.CARRY, found)
    with pytest.raises(ValidationError, match="cannot be written"):
        write_csv(tmp_path, found[Policy.CARRY][1])


def test_a_name_is_text_and_never_markup(tmp_path: Path) -> None:
    raw = steady(100, 20)
    found = results(Tape("<script>alert(1)</script>", raw.records, raw.digest))
    write_html(tmp_path / "r.html", Policy.CARRY, found)
    assert "<script>" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_refused_entries_are_told_and_what_capital_would_have_done_is_a_what_if() -> None:
    settings = wanted(Policy.CARRY, start_equity=Decimal(30))
    t = steady(100, 60)
    found = results(t)
    tapes = {"SOL-PERP": t}
    result, curve = asyncio.run(run_backtest(tapes, settings))
    found[Policy.CARRY] = asyncio.run(with_enough_capital(tapes, settings, result)), curve
    report = text_report(Policy.CARRY, found)
    assert f"{result.refused_entries} times the entry that carry wanted was refused:" in report
    assert "health_after: 53 times CARRY, 2023-11-15 to 2023-11-17, 8, limit >= 60" in report
    assert re.search(r"What if there had been more capital: with \d\.\d times the opening notional", report)
    assert "carry makes +" in report
    assert "instead of +0.0000 $" in report
    assert "refused" not in text_report(Policy.FLAT, found)
    found[Policy.CARRY] = result, curve
    assert "Even a hundred times the opening notional" in text_report(Policy.CARRY, found)


def test_of_a_basket_each_market_stands_by_itself_and_alone() -> None:
    """SOL costs while BTC pays; a basket that is forced to hold both does worse than the one that pays."""
    found = basket(-10.0, 100.0)
    main = found[Policy.ALWAYS_SHORT][0]
    report = text_report(Policy.ALWAYS_SHORT, found)
    assert "0.01 BTC-PERP, 1 SOL-PERP each leg, fees drift; start $2,300.00" in report
    for symbol in BOTH:
        each, alone = main.markets[symbol], main.alone[symbol]
        (line,) = [line for line in report.splitlines() if line.startswith(symbol)]
        figures = [each.contribution_usd, each.funding_usd, each.fees_usd, each.interest_usd, each.trading_pnl_usd]
        assert line.split()[1:] == [f"{figure:+.4f}" for figure in [*figures, alone.net_usd]]
        assert f"A round trip of {symbol} costs" in report
    assert main.account is not None
    (line,) = [line for line in report.splitlines() if line.startswith("account ")]
    assert line.split()[1:] == [f"{main.account.interest_usd:+.4f}"]
    of_btc, whole = main.alone["BTC-PERP"].net_usd, main.equity_end_usd - main.equity_start_usd
    assert of_btc > 0 > main.alone["SOL-PERP"].net_usd
    assert f"always-short on BTC-PERP alone did best on these tapes: {of_btc:+.4f} $" in report
    assert f"always-short on the basket made {whole:+.4f} $." in report


def test_a_report_of_a_basket_sets_both_policies_beside_each_market_alone() -> None:
    found = basket(-300.0, 100.0)
    report = text_report(Policy.CARRY, found)
    for symbol in BOTH:
        (line,) = [line for line in report.splitlines() if line.startswith(symbol)]
        alone = [found[policy][0].alone[symbol].net_usd for policy in (Policy.CARRY, Policy.ALWAYS_SHORT)]
        assert line.split()[-2:] == [f"{figure:+.4f}" for figure in alone]
    # Both are held, each in the direction that pays.
    assert "carry on the basket did best on these tapes" in report
    assert "on the basket" not in text_report(Policy.CARRY, results(steady(100)))


def test_where_nothing_pays_flat_did_best_and_is_no_basket() -> None:
    report = text_report(Policy.ALWAYS_SHORT, basket(-10.0, -10.0))
    assert "flat did best on these tapes: +0.0000 $" in report
