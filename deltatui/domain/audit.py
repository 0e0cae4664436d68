"""The audit lines of R15.2 as values: what is said, at which level, under which tag, with which fields.

Pure: no clock, no logging. A line is handed to the Log port as it is, ``log(*audit.trade(...))``. Each message holds
its figures as words, because clients see the message only; ``fields`` holds them again for programs. ``None`` is an
unknown figure and reads "unknown".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from deltatui.domain.errors import CriticalError, DeltatuiError
from deltatui.domain.event import Level
from deltatui.domain.verdict import Verdict, VerdictStatus

Number = float | Decimal
"""Money and sizes may be exact or for display; an audit line prints what it is given."""


class AuditLine(NamedTuple):
    level: Level
    tag: str
    message: str
    fields: Mapping[str, object]


def profitability(
    *,
    expected_revenue: Number | None,
    estimated_costs: Number | None,
    net_profit: Number | None,
    funding_rate: Number | None,
    blended_rate: Number | None,
    market: str = "",
    market_s: float | None = None,
) -> AuditLine:
    """Revenue, costs and net in quote over the horizon; rates as hourly fractions, positive when longs pay."""
    message = (
        f"{market + ' ' if market else ''}revenue {_usd(expected_revenue)}  costs {_usd(estimated_costs)}  "
        f"net {_usd(net_profit)}  rate {_rate(funding_rate)} (blended {_rate(blended_rate)})"
    )
    return AuditLine(
        Level.INFO,
        "PROFITABILITY",
        message,
        _fields(
            market_s,
            market=market or None,
            expected_revenue=expected_revenue,
            estimated_costs=estimated_costs,
            net_profit=net_profit,
            funding_rate=funding_rate,
            blended_rate=blended_rate,
        ),
    )


def safety(verdict: Verdict, *, subject: str = "", market_s: float | None = None) -> AuditLine:
    """A gate's verdict; WARNING when it does not allow. ``subject`` is the command it judged (``TAKE SOL-PERP``)."""
    blocking = not verdict.allowed
    word = "blocks" if verdict.status == VerdictStatus.BLOCKED else str(verdict.status).replace("_", " ")
    if verdict.status == VerdictStatus.UNKNOWN:
        word = "blocks (unknown)"
    message = f"{verdict.code} {word}{' ' + subject if subject else ''}: {verdict.observed}, limit {verdict.limit}"
    if verdict.reason:
        message += f" ({verdict.reason})"
    return AuditLine(
        Level.WARNING if blocking else Level.INFO,
        "SAFETY",
        message,
        _fields(
            market_s,
            gate=verdict.code,
            status=str(verdict.status),
            observed=verdict.observed,
            limit=verdict.limit,
            reason=verdict.reason or None,
            subject=subject or None,
            age_s=verdict.age_s,
        ),
    )


def safety_passed(verdicts: Sequence[Verdict], *, subject: str = "", market_s: float | None = None) -> AuditLine:
    """The gates that did not stop a command, in one line: what each observed, or that it was not judged."""
    judged = [v for v in verdicts if v.status == VerdictStatus.ALLOWED]
    others = [v.code for v in verdicts if v.status != VerdictStatus.ALLOWED]
    text = ", ".join(f"{v.code} {v.observed}{f' ({v.limit})' if v.limit else ''}" for v in judged)
    if others:
        text += f"{'; ' if text else ''}not judged: {', '.join(others)}"
    fields = {v.code: v.observed if v.status == VerdictStatus.ALLOWED else str(v.status) for v in verdicts}
    return AuditLine(
        Level.INFO,
        "SAFETY",
        f"allowed{' ' + subject if subject else ''}: {text}",
        _fields(market_s, subject=subject or None, **fields),
    )


def trade(
    *,
    market: str,
    side: str,
    size: Number,
    price: Number,
    tx_signature: str,
    market_s: float,
    operation_id: str = "",
) -> AuditLine:
    """A fill: ``size`` in base (positive), ``price`` in quote, ``market_s`` when it happened on the market's clock."""
    timestamp = _timestamp(market_s)
    return AuditLine(
        Level.INFO,
        "TRADE",
        f"{side} {_number(size)} {market} at {_number(price)}, signature {tx_signature}, {timestamp}",
        _fields(
            market_s,
            timestamp=timestamp,
            market=market,
            side=side,
            size=size,
            price=price,
            tx_signature=tx_signature,
            operation_id=operation_id or None,
        ),
    )


def account(
    *,
    health_ratio: int | None,
    leverage: Number | None,
    total_collateral: Number | None,
    free_collateral: Number | None,
    market_s: float | None = None,
) -> AuditLine:
    """The account: health 0..100, leverage as a multiple, collateral in quote."""
    multiple = "unknown" if leverage is None else f"{_number(leverage)}x"
    message = (
        f"health {_number(health_ratio)}, leverage {multiple}, total collateral {_usd(total_collateral)}, "
        f"free collateral {_usd(free_collateral)}"
    )
    figures = {
        "health_ratio": health_ratio,
        "leverage": leverage,
        "total_collateral": total_collateral,
        "free_collateral": free_collateral,
    }
    # Unknown figures stay among the fields: without them the line would read as if nobody had asked.
    return AuditLine(Level.INFO, "ACCOUNT", message, {**_fields(market_s), **figures})


def cost(*, market: str, parts: Mapping[str, Number], total: Number, market_s: float | None = None) -> AuditLine:
    """What a trade is expected to cost in quote, by part (``fees``, ``slippage`` ...)."""
    listed = ", ".join(f"{name} {_usd(value)}" for name, value in parts.items())
    return AuditLine(
        Level.INFO,
        "COST",
        f"{market}: {_usd(total)}{' (' + listed + ')' if listed else ''}",
        _fields(market_s, market=market, total=total, **{f"cost_{name}": value for name, value in parts.items()}),
    )


def rebalancer(
    *,
    action: str,
    reason: str,
    net_delta: Number | None,
    drift_pct: Number | None,
    market: str = "",
    cooldown_remaining_s: float = 0.0,
    market_s: float | None = None,
) -> AuditLine:
    """A decision of the rebalancer: what it does (``none``, ``expand_short`` ...) and why. Drift is signed."""
    waits = f", cooldown {cooldown_remaining_s:.0f} s more" if cooldown_remaining_s > 0 else ""
    drift = "unknown" if drift_pct is None else f"{_number(drift_pct)} %"
    return AuditLine(
        Level.INFO,
        "REBALANCER",
        f"{market + ' ' if market else ''}{action}: {reason}; net delta {_number(net_delta)}, drift {drift}{waits}",
        _fields(
            market_s,
            market=market or None,
            rebalance=action,
            reason=reason,
            net_delta=net_delta,
            drift_pct=drift_pct,
            cooldown_remaining_s=cooldown_remaining_s,
        ),
    )


def funding(
    *, market: str, record: int, rate: Number, base: Number, amount: Number, market_s: float | None = None
) -> AuditLine:
    """A funding record booked: ``record`` is its time in unix seconds, rate in quote per base (positive: longs pay),
    signed base held, cash received."""
    of = datetime.fromtimestamp(record, UTC).strftime("%Y-%m-%d %H:%MZ")
    flow = f"received {_usd(amount)}" if amount >= 0 else f"paid {_usd(-amount)}"
    return AuditLine(
        Level.INFO,
        "FUNDING",
        f"{market} record {of}: {flow} on {_number(base)} at {_number(rate)} per unit",
        _fields(market_s, market=market, record=record, rate=rate, base=base, amount=amount),
    )


def error(what: str, error: BaseException, *, market_s: float | None = None) -> AuditLine:
    """An error with its type, code and sentence; the log adds context and stack from the ``error`` field."""
    code = error.code if isinstance(error, DeltatuiError) else type(error).__name__
    text = error.sentence if isinstance(error, DeltatuiError) else str(error)
    return AuditLine(
        Level.CRITICAL if isinstance(error, CriticalError) else Level.ERROR,
        "ERROR",
        f"{what}: {code}: {text or 'no further details'}",
        _fields(market_s, error_type=type(error).__name__, code=code, error=error),
    )


def _fields(market_s: float | None, **values: object) -> dict[str, object]:
    known = {name: value for name, value in values.items() if value is not None}
    return known if market_s is None else {"market_s": market_s, **known}


def _number(value: Number | None) -> str:
    if value is None:
        return "unknown"
    # Exact figures are among the fields; a message is for reading.
    return f"{round(value, 9).normalize():f}" if isinstance(value, Decimal) else f"{value:.10g}"


def _usd(value: Number | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


def _rate(value: Number | None) -> str:
    return "unknown" if value is None else f"{value * 100:+.4f} %/h"


def _timestamp(market_s: float) -> str:
    return datetime.fromtimestamp(market_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
