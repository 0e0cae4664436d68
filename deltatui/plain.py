"""Snapshots, questions and results as plain lines, for the command line and for people whose screen is read to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from deltatui.domain.command import LegPart
from deltatui.domain.snapshot import (
    AccountView,
    CarryView,
    ConfirmationView,
    DeltaView,
    HedgeView,
    LegView,
    MarketDetail,
    PlanView,
    PositionView,
    Snapshot,
)
from deltatui.domain.verdict import Verdict


def _money(value: float | None) -> str:
    if value is None:
        return "unknown"
    text = f"{abs(value):,.2f}"
    return f"-${text}" if value < 0 and text != "0.00" else f"${text}"


def _number(value: float | None, form: str = ",.4f") -> str:
    return "unknown" if value is None else format(value, form)


def _time(unix_s: float | None) -> str:
    return "unknown" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _hours(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} h"


def status_lines(snapshot: Snapshot, details: Iterable[MarketDetail] = ()) -> list[str]:
    """``details`` say what blocks an increase in their markets."""
    engine, account = snapshot.engine, snapshot.account
    tape = snapshot.clock.tape
    lines = [
        f"{engine.mode.upper()} {engine.venue} profile {engine.profile}: {engine.state}"
        + (f" ({engine.state_reason})" if engine.state_reason else ""),
        f"automation: {'on' if engine.automation else 'off'}; market time {_time(snapshot.clock.market_s)}"
        + (f", tape record {tape.record} of {tape.records}" if tape else ""),
        f"health: {_number(account.health, 'd')}; leverage: {_number(account.leverage, '.2f')}x; "
        f"liquidation price: {_liquidation(account)}",
        f"equity: {_money(account.equity)}; free collateral: {_money(account.free_collateral)}",
        f"PnL of perps: settled {_money(account.settled_pnl)}, unsettled {_money(account.unsettled_pnl)}, "
        f"total {_money(account.total_pnl)}",
    ]
    for hedge in snapshot.hedges:
        lines += _hedge(hedge)
    lines += [_position(position) for position in snapshot.positions]
    attribution = snapshot.attribution
    lines.append(
        f"since the opening: funding {attribution.funding:+.4f}, fees {attribution.fees:+.4f}, "
        f"interest {attribution.interest:+.4f}, trading {attribution.trading:+.4f}, "
        + (f"written off {attribution.write_offs:+.4f}, " if attribution.write_offs else "")
        + f"ledger gap {_number(attribution.gap, '+.6f')}"
    )
    for detail in details:
        lines += _refusals(f"{detail.market} blocked", detail.gates)
    lines += [f"alert {alert.level}: {alert.message}" for alert in snapshot.alerts]
    lines += [_waiting(view, snapshot.clock.operator_s) for view in snapshot.confirmations]
    return lines


def _liquidation(account: AccountView) -> str:
    """``54,052.93 of SOL-PERP``: an account with several markets has more than one such price."""
    if account.health is None:
        return "unknown"
    named = account.liq_price is not None and account.liq_market
    return _price(account.liq_price) + (f" of {account.liq_market}" if named else "")


def _waiting(view: ConfirmationView, operator_s: float) -> str:
    """A question is answered in a terminal; without an answer nothing is done."""
    what = view.question or f"{view.kind.lower()} {_moved(view)}, worth {_money(view.notional)}"
    left_s = max(0.0, view.expires_operator_s - operator_s)
    return f"waits for an answer in a terminal, {left_s:.0f} s left: {what} (asked by the {view.source})"


def _moved(view: ConfirmationView) -> str:
    if view.asset:
        return f"{view.size:.10g} {view.asset}"
    return f"{view.market}: " + ", ".join(leg_text(leg) for leg in view.legs)


def held_by(carry: CarryView) -> str:
    """Whose a position is, or that automation stays out of a market that was left by hand; empty where nobody's."""
    if carry.held_by == "operator":
        return "left by hand" if carry.stance == "FLAT" else "by hand"
    return "by engine" if carry.held_by == "engine" else ""


def hedge_differs(delta: DeltaView) -> bool:
    """Whether the engine hedges something else than the whole exposure of the account."""
    return delta.hedge_net is not None and delta.net is not None and abs(delta.hedge_net - delta.net) > 1e-9


def _hedge(hedge: HedgeView) -> list[str]:
    carry, name = hedge.carry, hedge.market
    whose = held_by(carry)
    lines = [
        f"{name} stance: {carry.stance}{f' ({whose})' if whose else ''}, best: {carry.decision}; {carry.sentence}",
        f"{name} {_delta(hedge.delta, hedge.base_symbol)}",
        f"{name} funding APR for a short: now {_number(carry.now_apr, '+.1f')} %, day "
        f"{_number(carry.day_apr, '+.1f')} %, week {_number(carry.week_apr, '+.1f')} %",
    ]
    if hedge.paused:
        lines.append(f"{name} takes no orders now: {hedge.paused}")
    if hedge.ended:
        lines.append(f"{name} has no prices any more; the last one stands")
    return lines


def _delta(delta: DeltaView, base: str) -> str:
    whole = f"{_number(delta.net, '+.4f')} {base} ({_number(delta.drift_pct, '+.2f')} %)"
    if not hedge_differs(delta):
        return f"net delta: {whole}; {delta.reason}"
    hedge = f"{_number(delta.hedge_net, '+.4f')} {base} ({_number(delta.hedge_drift_pct, '+.2f')} %)"
    return f"net delta: account {whole}, hedge {hedge}; {delta.reason}"


def _position(position: PositionView) -> str:
    mark = " (not ours: the engine leaves it alone)" if position.foreign else ""
    pnl = f"unrealised {_money(position.unrealized_pnl)}"
    if position.total_pnl is not None:
        pnl += f", settled {_money(position.settled_pnl)}, total {_money(position.total_pnl)}"
    return (
        f"position: {position.market}{mark} {position.side} {position.size:+.4f}, entry "
        f"{_number(position.entry_price)}, mark {_number(position.mark_price)}, {pnl}"
    )


def leg_text(leg: LegView) -> str:
    """``sell 2 SOL``: bought is positive."""
    return f"{'buy' if leg.size > 0 else 'sell'} {abs(leg.size):.10g} {leg.market}"


def part_text(part: LegPart) -> str:
    """``SOL-PERP: sold 3 of 5, 2 open``."""
    verb = "bought" if part.asked > 0 else "sold"
    if part.filled * part.asked < 0:
        verb = "sold" if part.asked > 0 else "bought"
    rest = f", {abs(part.open):.10g} open" if part.open else ""
    return f"{part.market}: {verb} {abs(part.filled):.10g} of {abs(part.asked):.10g}{rest}"


def confirmation_lines(view: ConfirmationView) -> list[str]:
    """What waits for an answer: every leg with its size, or what is moved, and what it does to the account."""
    if view.question:
        return [view.question]
    lines = _transfer_head(view) if view.asset else _trade_head(view)
    lines += [
        f"health {_number(view.health_before, 'd')} -> {_number(view.health_after, 'd')}; leverage "
        f"{_number(view.leverage_before, '.2f')}x -> {_number(view.leverage_after, '.2f')}x; liquidation price "
        f"{_price(view.liq_price_before)} -> {_price(view.liq_price_after)}; hedge delta "
        f"{_number(view.hedge_delta_before_pct, '+.2f')} % -> {_number(view.hedge_delta_after_pct, '+.2f')} %",
    ]
    if view.then:
        lines.append(f"afterwards: {view.then}")
    lines += _refusals("refused", view.verdicts)
    if view.can_force and view.loss_if_forced is not None:
        lines.append(f"forced with --force, it is expected to lose {_money(view.loss_if_forced)} over the horizon")
    return lines


def _trade_head(view: PlanView) -> list[str]:
    legs = "; ".join(f"{leg_text(leg)} (limit {leg.limit_price:,.4f})" for leg in view.legs)
    costs = f"costs now: fees {_money(view.fees)}, slippage {_money(view.slippage)}"
    if view.kind == "TAKE":
        costs += f"; round trip {_money(view.round_trip)}; break-even {_hours(view.break_even_h)}"
    return [
        f"{view.kind.lower()} {view.market}: {view.side}; price {view.price:,.4f}, notional {_money(view.notional)}",
        legs,
        costs,
    ]


def _transfer_head(view: PlanView) -> list[str]:
    return [f"{view.kind.lower()} {view.size:.10g} {view.asset}, worth {_money(view.notional)}"]


def _refusals(word: str, verdicts: Iterable[Verdict]) -> list[str]:
    return [f"{word} by {v.code}: {v.reason or f'{v.observed}, limit {v.limit}'}" for v in verdicts if not v.allowed]


def _price(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"
