"""The audit lines that no documented property names."""

from __future__ import annotations

from decimal import Decimal

import pytest

from deltatui.domain import audit
from deltatui.domain.errors import CriticalError
from deltatui.domain.event import Level
from deltatui.domain.verdict import Verdict, VerdictStatus


def test_cost() -> None:
    line = audit.cost(market="SOL-PERP", parts={"fees": 1.5, "slippage": Decimal("0.25")}, total=1.75, market_s=3.0)
    assert line == audit.AuditLine(
        Level.INFO,
        "COST",
        "SOL-PERP: 1.7500 (fees 1.5000, slippage 0.2500)",
        {
            "market_s": 3.0,
            "market": "SOL-PERP",
            "total": 1.75,
            "cost_fees": 1.5,
            "cost_slippage": Decimal("0.25"),
        },
    )


def test_rebalancer_says_how_long_it_still_waits() -> None:
    line = audit.rebalancer(
        action="none", reason="cooldown", net_delta=0.25, drift_pct=-2.5, cooldown_remaining_s=420.4
    )
    assert line.tag == "REBALANCER"
    assert line.message == "none: cooldown; net delta 0.25, drift -2.5 %, cooldown 420 s more"
    assert line.fields["cooldown_remaining_s"] == 420.4


def test_rebalancer_does_not_know_everything() -> None:
    line = audit.rebalancer(action="none", reason="no price", net_delta=None, drift_pct=None)
    assert line.message == "none: no price; net delta unknown, drift unknown"
    assert "net_delta" not in line.fields


@pytest.mark.parametrize(("amount", "word"), [("1.25", "received 1.2500"), ("-1.25", "paid 1.2500")])
def test_funding(amount: str, word: str) -> None:
    line = audit.funding(
        market="SOL-PERP",
        record=1_744_592_400,
        rate=Decimal("0.125"),
        base=Decimal(-10),
        amount=Decimal(amount),
        market_s=9.0,
    )
    assert line.tag == "FUNDING"
    assert line.message == f"SOL-PERP record 2025-04-14 01:00Z: {word} on -10 at 0.125 per unit"
    assert line.fields["record"] == 1_744_592_400
    assert line.fields["market_s"] == 9.0


def test_unknown_figures_read_unknown_and_never_zero() -> None:
    line = audit.profitability(
        expected_revenue=None, estimated_costs=None, net_profit=None, funding_rate=None, blended_rate=None
    )
    assert line.message.count("unknown") == 5
    assert "0" not in line.message


def test_an_unknown_input_is_said_to_block() -> None:
    line = audit.safety(Verdict("ORACLE_AGE", VerdictStatus.UNKNOWN, "unknown", "30 s", "no price yet", 4.0))
    assert line.level is Level.WARNING
    assert line.message == "ORACLE_AGE blocks (unknown): unknown, limit 30 s (no price yet)"
    assert line.fields["age_s"] == 4.0


def test_critical_errors_are_critical_and_strangers_say_their_type() -> None:
    assert audit.error("x", CriticalError("A", "b")).level is Level.CRITICAL
    line = audit.error("reading", ZeroDivisionError())
    assert (line.level, line.message) == (Level.ERROR, "reading: ZeroDivisionError: no further details")


def test_the_gates_that_passed_share_a_line() -> None:
    line = audit.safety_passed(
        (
            Verdict("leverage", VerdictStatus.ALLOWED, "1.00x", "<= 5x"),
            Verdict("gas", VerdictStatus.NOT_APPLICABLE, "n/a", "", "paper pays no gas"),
        ),
        subject="TAKE",
    )
    assert line.tag == "SAFETY"
    assert line.message == "allowed TAKE: leverage 1.00x (<= 5x); not judged: gas"
    assert line.fields == {"subject": "TAKE", "leverage": "1.00x", "gas": "not_applicable"}
