"""Snapshots as plain lines, for `deltatui status` and for people whose screen is read to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from deltatui.domain.snapshot import PlanView, Snapshot
from deltatui.domain.verdict import Verdict


def _money(value: float | None) -> str:
    return "unknown" if value is None else f"${value:,.2f}"


def _number(value: float | None, form: str = ",.4f") -> str:
    return "unknown" if value is None else format(value, form)


def _time(unix_s: float | None) -> str:
    return "unknown" if unix_s is None else datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _hours(value: float | None) -> str:
    return "never" if value is None else f"{value:.0f} h"


def status_lines(snapshot: Snapshot) -> list[str]:
    engine, account, carry, delta = snapshot.engine, snapshot.account, snapshot.carry, snapshot.delta
    tape = snapshot.clock.tape
    lines = [
        f"{engine.mode.upper()} {engine.venue} profile {engine.profile}: {engine.state}"
        + (f" ({engine.state_reason})" if engine.state_reason else ""),
        f"automation: {'on' if engine.automation else 'off'}; market time {_time(snapshot.clock.market_s)}"
        + (f", tape record {tape.record} of {tape.records}" if tape else ""),
        f"stance: {carry.stance}, best: {carry.decision}; {carry.sentence}",
        f"health: {_number(account.health, 'd')}; leverage: {_number(account.leverage, '.2f')}x; "
        f"liquidation price: {'unknown' if account.health is None else _price(account.liq_price)}",
        f"equity: {_money(account.equity)}; free collateral: {_money(account.free_collateral)}",
        f"net delta: {_number(delta.net, '+.4f')} SOL ({_number(delta.drift_pct, '+.2f')} %); {delta.reason}",
        f"funding APR for a short: now {_number(carry.now_apr, '+.1f')} %, day {_number(carry.day_apr, '+.1f')} %, "
        f"week {_number(carry.week_apr, '+.1f')} %",
    ]
    for position in snapshot.positions:
        lines.append(
            f"position: {position.market} {position.side} {position.size:+.4f}, entry {_number(position.entry_price)}, "
            f"mark {_number(position.mark_price)}, unrealised {_money(position.unrealized_pnl)}"
        )
    attribution = snapshot.attribution
    lines.append(
        f"since the opening: funding {attribution.funding:+.4f}, fees {attribution.fees:+.4f}, "
        f"interest {attribution.interest:+.4f}, trading {attribution.trading:+.4f}, "
        f"ledger gap {_number(attribution.gap, '+.6f')}"
    )
    lines += _refusals("blocked", snapshot.gates)
    lines += [f"alert {alert.level}: {alert.message}" for alert in snapshot.alerts]
    return lines


def confirmation_lines(view: PlanView) -> list[str]:
    lines = [
        f"{view.kind.lower()} {view.market}: {view.side}, {view.size:g} at {view.price:,.4f} "
        f"(limit {view.limit_price:,.4f}), notional {_money(view.notional)}",
        f"costs now: fees {_money(view.fees)}, slippage {_money(view.slippage)}; "
        f"round trip {_money(view.round_trip)}; break-even {_hours(view.break_even_h)}",
        f"health {_number(view.health_before, 'd')} -> {_number(view.health_after, 'd')}; leverage "
        f"{_number(view.leverage_before, '.2f')}x -> {_number(view.leverage_after, '.2f')}x; liquidation price "
        f"{_price(view.liq_price_before)} -> {_price(view.liq_price_after)}",
    ]
    lines += _refusals("refused", view.verdicts)
    if view.can_force and view.loss_if_forced is not None:
        lines.append(f"forced with --force, it is expected to lose {_money(view.loss_if_forced)} over the horizon")
    return lines


def _refusals(word: str, verdicts: Iterable[Verdict]) -> list[str]:
    return [f"{word} by {v.code}: {v.reason or f'{v.observed}, limit {v.limit}'}" for v in verdicts if not v.allowed]


def _price(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"
