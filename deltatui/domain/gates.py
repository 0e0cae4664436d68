"""The gates: each looks at one thing and returns a typed verdict (R6).

A gate never raises and never guesses: an input that is not known blocks (``UNKNOWN``). What only reduces risk is
exempt from the gates that R6.11 names. Limits come in with :class:`GateLimits`, facts with :class:`GateFacts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from deltatui.domain.carry import CarryEstimate
from deltatui.domain.verdict import Verdict, VerdictStatus

_ALLOWED = VerdictStatus.ALLOWED
_BLOCKED = VerdictStatus.BLOCKED
_UNKNOWN = VerdictStatus.UNKNOWN
_EXEMPT = VerdictStatus.EXEMPT

CODES = (
    "venue",
    "funding_age",
    "size",
    "profitability",
    "leverage",
    "health_after",
    "liq_distance",
    "margin",
    "quote_reserve",
    "gas",
    "latency",
    "oracle_age",
    "slot_lag",
    "clock_skew",
    "guards",
    "open_interest",
    "rate",
)
"""Every gate, in the order in which verdicts are shown."""


CAPITAL_CODES = frozenset(
    {"leverage", "health_after", "liq_distance", "margin", "quote_reserve", "InsufficientCollateral", "LeverageTooHigh"}
)
"""Gates, and errors of the venue, that more capital would have passed."""


class GateLimits(msgspec.Struct, frozen=True):
    max_leverage: float
    min_health_after: int = 60
    min_liq_distance_pct: float = 20.0
    min_health_withdraw: int = 80
    max_latency_ms: float = 500.0
    max_oracle_age_s: float = 60.0
    max_slot_lag: int = 50
    max_clock_skew_s: float = 2.0
    max_funding_age_intervals: float = 2.0
    min_gas_sol: float = 0.017
    min_free_quote_usd: float = 0.0


class GateFacts(msgspec.Struct, frozen=True):
    """What the gates look at. ``None`` is unknown. ``increases_risk`` is false for what R6.11 lets pass.

    Figures named ``after`` are those of the account once the command is done; ``health_after`` is the venue's whole
    number for a trade (R4.2) and exact for a withdrawal (R3.4). ``liq_distance_pct_after`` is unsigned;
    ``no_liquidation_after`` says that no price liquidates, ``needs_margin_after`` that margin is required at all.
    ``size_problem``, ``venue_problem`` and ``rate_problem`` are sentences, empty where all is well.
    ``carry_exempt`` says why ``carry`` is not judged; empty: it is.
    """

    increases_risk: bool
    venue_problem: str | None = ""
    size_problem: str = ""
    rate_problem: str = ""
    carry: CarryEstimate | None = None
    carry_exempt: str = ""
    leverage_after: float | None = None
    health_after: float | None = None
    liq_distance_pct_after: float | None = None
    no_liquidation_after: bool = False
    free_collateral_after: float | None = None
    needs_margin_after: bool = True
    latency_ms: float | None = None
    oracle_age_s: float | None = None
    slot_lag: int | None = None
    clock_skew_s: float | None = None
    funding_age_s: float | None = None
    funding_interval_s: int = 3600
    gas_sol_after: float | None = None
    guards: str | None = None
    open_interest_problem: str | None = None


def judge(facts: GateFacts, limits: GateLimits, not_applicable: Mapping[str, str]) -> tuple[Verdict, ...]:
    """Every gate's verdict on one command, in the order of :data:`CODES`.

    ``not_applicable`` maps the code of a gate that the venue does not have to the reason.
    """
    most_age_s = limits.max_funding_age_intervals * facts.funding_interval_s
    skew_s = None if facts.clock_skew_s is None else abs(facts.clock_skew_s)
    verdicts = (
        _venue(facts),
        _age("funding_age", facts.funding_age_s, most_age_s, facts, "the newest funding record"),
        _size(facts),
        _profitability(facts),
        _leverage(facts, limits),
        _health("health_after", facts, limits.min_health_after),
        _liquidation(facts, limits),
        _margin(facts),
        _at_least("quote_reserve", facts.free_collateral_after, limits.min_free_quote_usd, "$", facts),
        _at_least("gas", facts.gas_sol_after, limits.min_gas_sol, "SOL", facts, always=True),
        _at_most("latency", facts.latency_ms, limits.max_latency_ms, "ms", facts),
        _age("oracle_age", facts.oracle_age_s, limits.max_oracle_age_s, facts, "the oracle price"),
        _at_most("slot_lag", facts.slot_lag, limits.max_slot_lag, "slots", facts),
        _at_most("clock_skew", skew_s, limits.max_clock_skew_s, "s", facts),
        _guards(facts),
        _open_interest(facts),
        _rate(facts),
    )
    if not not_applicable:
        return verdicts
    return tuple(
        Verdict(v.code, VerdictStatus.NOT_APPLICABLE, "n/a", "", not_applicable[v.code])
        if v.code in not_applicable
        else v
        for v in verdicts
    )


def allowed(verdicts: tuple[Verdict, ...]) -> bool:
    return all(v.allowed for v in verdicts)


def blocking(verdicts: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    return tuple(v for v in verdicts if not v.allowed)


def only_profitability_blocks(verdicts: tuple[Verdict, ...]) -> bool:
    """True where forcing (R6) could help: the profitability gate is the one and only that refuses, and it knows why."""
    stopped = blocking(verdicts)
    return len(stopped) == 1 and stopped[0].code == "profitability" and stopped[0].status is _BLOCKED


def judge_withdrawal(facts: GateFacts, limits: GateLimits) -> tuple[Verdict, ...]:
    """R3.4: a withdrawal passes what a trade passes, judged on what remains, and more health."""
    return (
        _venue(facts),
        _health("withdraw_health", facts, limits.min_health_withdraw),
        _leverage(facts, limits),
        _liquidation(facts, limits),
        _margin(facts),
        _at_least("quote_reserve", facts.free_collateral_after, limits.min_free_quote_usd, "$", facts),
    )


def _exempt(code: str, observed: str = "", limit: str = "") -> Verdict:
    return Verdict(code, _EXEMPT, observed, limit, "reduces risk")


def _figure(value: float) -> float | None:
    """What JSON can carry."""
    return value if math.isfinite(value) else None


def _venue(facts: GateFacts) -> Verdict:
    if facts.venue_problem is None:
        return Verdict("venue", _UNKNOWN, "unknown", "open", "the venue's status is not known")
    if facts.venue_problem:
        return Verdict("venue", _BLOCKED, "closed", "open", facts.venue_problem)
    return Verdict("venue", _ALLOWED, "open", "open")


def _size(facts: GateFacts) -> Verdict:
    if facts.size_problem:
        return Verdict("size", _BLOCKED, "bad", "", facts.size_problem)
    return Verdict("size", _ALLOWED, "ok", "")


def _profitability(facts: GateFacts) -> Verdict:
    """Shows the rule that refuses, with what it observed and its own limit; of what is allowed, the break-even."""
    if not facts.increases_risk:
        return _exempt("profitability")
    if facts.carry_exempt:
        return Verdict("profitability", _EXEMPT, "", "", facts.carry_exempt)
    carry = facts.carry
    if carry is None:
        return Verdict("profitability", _UNKNOWN, "unknown", "", "too few funding records to judge")
    status = _ALLOWED if carry.allowed else _BLOCKED
    return Verdict("profitability", status, carry.observed, carry.limit, carry.reason)


def _leverage(facts: GateFacts, limits: GateLimits) -> Verdict:
    limit = f"<= {limits.max_leverage:g}x"
    if not facts.increases_risk:
        return _exempt("leverage", limit=limit)
    if facts.leverage_after is None:
        return Verdict("leverage", _UNKNOWN, "unknown", limit, "leverage after the trade is not known")
    status = _ALLOWED if facts.leverage_after <= limits.max_leverage else _BLOCKED
    shown = "no equity left"
    if not math.isinf(facts.leverage_after):
        shown = f"{_shown(facts.leverage_after, limits.max_leverage, '.2f')}x"
    return Verdict("leverage", status, shown, limit, value=_figure(facts.leverage_after))


def _health(code: str, facts: GateFacts, least: int) -> Verdict:
    limit = f">= {least}"
    if not facts.increases_risk:
        return _exempt(code, limit=limit)
    if facts.health_after is None:
        return Verdict(code, _UNKNOWN, "unknown", limit, "the account's health afterwards is not known")
    status = _ALLOWED if facts.health_after >= least else _BLOCKED
    return Verdict(code, status, _shown(facts.health_after, least), limit, value=_figure(facts.health_after))


def _shown(value: float, limit: float, spec: str = ".0f") -> str:
    """``value`` as short as it may be without standing on another side of the limit than it does."""
    for form in (spec, ",.2f", ",.10g"):
        text = format(value, form)
        told = float(text.replace(",", ""))
        if (told < limit, told > limit) == (value < limit, value > limit):
            return text
    return format(value, ",.17g")  # all digits that a float has


def _liquidation(facts: GateFacts, limits: GateLimits) -> Verdict:
    limit = f">= {limits.min_liq_distance_pct:g} %"
    if not facts.increases_risk:
        return _exempt("liq_distance", limit=limit)
    if facts.no_liquidation_after:
        return Verdict("liq_distance", _ALLOWED, "none", limit, "no price liquidates")
    if facts.liq_distance_pct_after is None:
        return Verdict("liq_distance", _UNKNOWN, "unknown", limit, "the liquidation price is not known")
    distance = facts.liq_distance_pct_after
    status = _ALLOWED if distance >= limits.min_liq_distance_pct else _BLOCKED
    shown = f"{_shown(distance, limits.min_liq_distance_pct)} %"
    return Verdict("liq_distance", status, shown, limit, value=_figure(distance))


def _margin(facts: GateFacts) -> Verdict:
    if not facts.increases_risk:
        return _exempt("margin", limit="> $0")
    free = facts.free_collateral_after
    if not facts.needs_margin_after:
        return Verdict("margin", _ALLOWED, "none", "> $0", "nothing needs margin")
    if free is None:
        return Verdict("margin", _UNKNOWN, "unknown", "> $0", "free collateral after the trade is not known")
    if not free > 0:
        return Verdict(
            "margin", _BLOCKED, f"${free:,.2f}", "> $0", "initial margin would not be covered", value=_figure(free)
        )
    return Verdict("margin", _ALLOWED, f"${free:,.2f}", "> $0", "initial margin", value=_figure(free))


def _at_least(
    code: str, value: float | None, least: float, unit: str, facts: GateFacts, *, always: bool = False
) -> Verdict:
    limit = f">= {least:g} {unit}"
    if not facts.increases_risk and not always:
        return _exempt(code, limit=limit)
    if value is None:
        return Verdict(code, _UNKNOWN, "unknown", limit, "not known")
    status = _ALLOWED if value >= least else _BLOCKED
    return Verdict(code, status, f"{_shown(value, least, ',.4g')} {unit}", limit, value=_figure(value))


def _at_most(code: str, value: float | None, most: float, unit: str, facts: GateFacts) -> Verdict:
    limit = f"<= {most:g} {unit}"
    if not facts.increases_risk:
        return _exempt(code, limit=limit)
    if value is None:
        return Verdict(code, _UNKNOWN, "unknown", limit, "not measured yet")
    status = _ALLOWED if value <= most else _BLOCKED
    return Verdict(code, status, f"{_shown(value, most, ',.4g')} {unit}", limit, value=_figure(value))


def _age(code: str, age_s: float | None, most_s: float, facts: GateFacts, what: str) -> Verdict:
    limit = f"<= {most_s:,.0f} s"
    if not facts.increases_risk:
        return _exempt(code, limit=limit)
    if age_s is None:
        return Verdict(code, _UNKNOWN, "unknown", limit, f"{what} has not been seen")
    if not age_s <= most_s:  # NaN too
        return Verdict(code, _BLOCKED, f"{_shown(age_s, most_s, ',.0f')} s", limit, f"{what} is too old", age_s)
    return Verdict(code, _ALLOWED, f"{_shown(max(age_s, 0.0), most_s, ',.0f')} s", limit, age_s=age_s)


def _guards(facts: GateFacts) -> Verdict:
    if not facts.increases_risk:
        return _exempt("guards", limit="passing")
    if facts.guards is None:
        return Verdict("guards", _UNKNOWN, "unknown", "passing", "no guard data")
    return Verdict("guards", _ALLOWED if facts.guards == "passing" else _BLOCKED, facts.guards, "passing")


def _open_interest(facts: GateFacts) -> Verdict:
    if not facts.increases_risk:
        return _exempt("open_interest")
    if facts.open_interest_problem is None:
        return Verdict("open_interest", _UNKNOWN, "unknown", "", "open interest is not known")
    if facts.open_interest_problem:
        return Verdict("open_interest", _BLOCKED, "full", "", facts.open_interest_problem)
    return Verdict("open_interest", _ALLOWED, "ok", "")


def _rate(facts: GateFacts) -> Verdict:
    if not facts.increases_risk:
        return _exempt("rate")
    if facts.rate_problem:
        return Verdict("rate", _BLOCKED, "too many", "", facts.rate_problem)
    return Verdict("rate", _ALLOWED, "ok", "")
