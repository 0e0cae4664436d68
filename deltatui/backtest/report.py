"""The report of a backtest: text with a chart, CSV, HTML."""

from __future__ import annotations

import csv
import html as escape
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from deltatui.backtest.course import EquityPoint
from deltatui.backtest.refusals import wants_capital
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.settings import Policy
from deltatui.domain.carry import Stance
from deltatui.domain.errors import ValidationError

Results = Mapping[Policy, tuple[BacktestResult, Sequence[EquityPoint]]]

_WIDTH, _HEIGHT = 72, 10


def _day(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d")


def text_report(policy: Policy, results: Results) -> str:
    """The policy's figures beside the others', a sentence that says which one won, and the curve in the terminal."""
    main, curve = results[policy]
    years = max(main.last_s - main.first_s, 1) / (365 * 86400)
    lines = [
        f"{main.tape}: {main.points} funding records, {_day(main.first_s)} to {_day(main.last_s)}",
        f"{_sizes(main)}, fees {main.fees}; start ${main.equity_start_usd:,.2f}",
        "",
        f"{'':<14}{'net $':>11}{'a year':>9}{'funding':>11}{'fees':>10}{'interest':>10}{'trading':>10}"
        f"{'switches':>10}{'in mkt':>8}{'drawdown':>10}",
    ]
    for each in (policy, *(p for p in Policy if p is not policy)):
        r = results[each][0]
        net = r.equity_end_usd - r.equity_start_usd
        a_year = net / r.equity_start_usd / years * 100
        lines.append(
            f"{each.value:<14}{net:>+11.4f}{a_year:>+8.2f}%{r.funding_usd:>+11.4f}{r.fees_usd:>+10.4f}"
            f"{r.interest_usd:>+10.4f}{r.trading_pnl_usd:>+10.4f}{r.switches:>10}{r.time_in_market_pct:>7.1f}%"
            f"{r.max_drawdown_pct:>9.2f}%"
        )
    lines += _alone(policy, results)
    lines += ["", _verdict(policy, results), *_break_even(main), *_refused(main), "", *_chart(curve), ""]
    lines.append(f"ledger gap ${main.ledger_gap_usd:.6f}; {main.entries} entries; result {main.result_hash[:16]}")
    if main.state != "RUNNING":
        lines.append(f"the engine ended {main.state}")
    return "\n".join(lines)


def _verdict(policy: Policy, results: Results) -> str:
    """Which made the most of these tapes, whatever it was: a policy on all of them, or on one alone."""
    main = results[policy][0]
    of = " on the basket" if len(main.markets) > 1 else ""
    made = {f"{each.value}{of if each is not Policy.FLAT else ''}": _net(results[each][0]) for each in results}
    for each in (policy, Policy.ALWAYS_SHORT):
        alone = results[each][0].alone
        made |= {f"{each.value} on {symbol} alone": single.net_usd for symbol, single in alone.items()}
    own = f"{policy.value}{of if policy is not Policy.FLAT else ''}"
    best = max(made, key=lambda name: made[name])
    tapes = "these tapes" if of else "this tape"
    if best == own:
        return f"{best} did best on {tapes}: {made[best]:+.4f} $."
    return f"{best} did best on {tapes}: {made[best]:+.4f} $; {own} made {made[own]:+.4f} $."


def _net(result: BacktestResult) -> float:
    return result.equity_end_usd - result.equity_start_usd


def _sizes(result: BacktestResult) -> str:
    """``SOL-PERP, 1 each leg``, or every market with its size."""
    if len(result.markets) < 2:
        return f"{result.market}, {result.size or 0:g} each leg"
    return ", ".join(f"{each.size:g} {symbol}" for symbol, each in result.markets.items()) + " each leg"


def _alone(policy: Policy, results: Results) -> list[str]:
    """Of a basket: what each market brought in it, and what it would have made by itself with the same capital."""
    main = results[policy][0]
    if len(main.markets) < 2:
        return []
    others = [each for each in (policy, Policy.ALWAYS_SHORT) if results[each][0].alone]
    lines = [
        "",
        f"{'market':<14}{'in the basket':>15}{'funding':>11}{'fees':>10}{'interest':>10}{'trading':>10}"
        + "".join(f"{f'{each.value} alone':>20}" for each in dict.fromkeys(others)),
    ]
    for symbol, each in main.markets.items():
        alone = "".join(f"{results[other][0].alone[symbol].net_usd:>+20.4f}" for other in dict.fromkeys(others))
        lines.append(
            f"{symbol:<14}{each.contribution_usd:>+15.4f}{each.funding_usd:>+11.4f}{each.fees_usd:>+10.4f}"
            f"{each.interest_usd:>+10.4f}{each.trading_pnl_usd:>+10.4f}{alone}"
        )
    if main.account is not None:
        lines.append(f"{'account':<14}{main.account.interest_usd + main.account.write_offs_usd:>+15.4f}")
    return lines


def _break_even(result: BacktestResult) -> list[str]:
    """How long a short would have to be held to earn its costs back at each tape's mean rate."""
    lines = []
    for symbol, each in result.markets.items():
        cost_bps, apr = each.round_trip_bps, each.mean_short_apr_pct
        hours = f"{cost_bps / 1e4 / (apr / 100 / 8760):,.0f} h" if apr > 0 else "never"
        of = f" of {symbol}" if len(result.markets) > 1 else ""
        mean = f"at the tape's mean of {apr:+.2f} % APR"
        lines.append(f"A round trip{of} costs {cost_bps:.1f} bp; {mean} a short breaks even: {hours}.")
    return lines


def _refused(result: BacktestResult) -> list[str]:
    """Which entries were refused and by what; then, told as a what-if, what enough capital would have made."""
    if not result.refused_entries:
        return []
    lines = ["", f"{result.refused_entries} times the entry that {result.policy} wanted was refused:"]
    for group in result.refused:
        observed = group.lowest if group.lowest == group.highest else f"{group.lowest} to {group.highest}"
        figures = f", {observed}, limit {group.limit}" if observed else ""
        times = f"{_day(group.first_s)} to {_day(group.last_s)}"
        lines.append(f"  {group.code}: {group.count} times {group.stance}, {times}{figures}")
    enough, net = result.enough_capital, result.equity_end_usd - result.equity_start_usd
    if enough is not None:
        lines += [
            f"What if there had been more capital: with {enough.multiple:.1f} times the opening notional "
            f"(${enough.equity_start_usd:,.2f}) none is refused for want of it,",
            f"and {result.policy} makes {enough.net_usd:+.4f} $ instead of {net:+.4f} $: "
            f"{_per_unit(enough.net_per_base_usd)}{enough.switches} switches, "
            f"drawdown {enough.max_drawdown_pct:.2f}%.",
        ]
    elif wants_capital(result.refused):
        lines.append("Even a hundred times the opening notional would have left entries refused for want of capital.")
    return lines


def _per_unit(net_usd: float | None) -> str:
    return "" if net_usd is None else f"{net_usd:+.4f} $ for each unit of a leg, "


def _chart(curve: Sequence[EquityPoint]) -> list[str]:
    """Equity over time in block characters; each column is the last point of its share of the tape, the bounds are
    those of the whole curve."""
    count = min(_WIDTH, len(curve))
    points = [curve[(i + 1) * len(curve) // count - 1] for i in range(count)]
    values = [point.equity for point in points]
    low, high = min(point.equity for point in curve), max(point.equity for point in curve)
    span = high - low or 1.0
    lines = []
    for row in range(_HEIGHT, 0, -1):
        label = high if row == _HEIGHT else low if row == 1 else None
        cells = "".join("●" if _row(value, low, span) == row else " " for value in values)
        lines.append(f"{'' if label is None else f'{label:,.2f}':>12} │{cells}")
    stances = "".join({Stance.FLAT: "·", Stance.CARRY: "C", Stance.REVERSE: "R"}[point.stance] for point in points)
    lines.append(f"{'stance':>12} │{stances}")
    first, last = _day(curve[0].market_s), _day(curve[-1].market_s)
    lines.append(f"{'':>12}  {first}{last:>{max(count - 10, 11)}}")
    return lines


def _row(value: float, low: float, span: float) -> int:
    return 1 + round((value - low) / span * (_HEIGHT - 1))


def write_csv(path: Path, curve: Sequence[EquityPoint]) -> None:
    """`ts,equity_usd,stance`. Raises ValidationError if the file cannot be written."""
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("ts", "equity_usd", "stance"))
            writer.writerows((point.market_s, f"{point.equity:.8f}", point.stance.value) for point in curve)
    except OSError as error:
        raise ValidationError("CANNOT_WRITE", f"{path} cannot be written: {error.strerror}") from error


def write_html(path: Path, policy: Policy, results: Results) -> None:
    """One self-contained page. Raises ValidationError if the file cannot be written."""
    main = results[policy][0]
    report = escape.escape(text_report(policy, results))
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" points="{_polyline(results, each)}">'
        f"<title>{each.value}</title></polyline>"
        for each, colour in zip(results, ("#0072b2", "#999999", "#d55e00"), strict=False)
    )
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>deltatui backtest: {escape.escape(main.tape)}</title>"
        "<style>body{font:15px/1.5 monospace;margin:2em;max-width:70em}"
        "svg{width:100%;height:18em;border:1px solid #ccc}</style>"
        f"<h1>{policy.value}</h1><svg viewBox='0 0 1000 300' preserveAspectRatio='none'>{lines}</svg>"
        f"<pre>{report}</pre></html>"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ValidationError("CANNOT_WRITE", f"{path} cannot be written: {error.strerror}") from error


def _polyline(results: Results, policy: Policy) -> str:
    values = [point.equity for _, curve in results.values() for point in curve]
    low, span = min(values), (max(values) - min(values)) or 1.0
    curve = results[policy][1]
    step = max(1, len(curve) // 500)
    return " ".join(
        f"{i / max(len(curve) - 1, 1) * 1000:.1f},{295 - (curve[i].equity - low) / span * 290:.1f}"
        for i in range(0, len(curve), step)
    )
