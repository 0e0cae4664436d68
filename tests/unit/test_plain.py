"""Snapshots as lines of text: everything that matters is said, and unknown is said to be unknown."""

from __future__ import annotations

from typing import Any

import msgspec
from engine_harness import World, in_world, take
from snapshots import make_confirmation, make_snapshot, make_verdicts

from deltatui.domain.snapshot import AlertView, MarketDetail
from deltatui.plain import confirmation_lines, status_lines


def text(**changes: Any) -> str:
    return "\n".join(status_lines(make_snapshot(**changes)))


def test_a_status_says_mode_state_and_what_is_held() -> None:
    said = text()
    assert said.startswith("REPLAY paper profile default: RUNNING")
    assert "automation: on" in said
    tape = make_snapshot().clock.tape
    assert tape is not None
    assert f"record {tape.record} of {tape.records}" in said
    assert "position: SOL-PERP short" in said
    assert "SOL-PERP stance: CARRY (by engine), best: FLAT; a short pays" in said
    assert "SOL-PERP funding APR for a short: now -7.9 %, day -4.1 %, week +2.6 %" in said
    assert "ledger gap" in said


def test_every_hedge_is_told_and_what_blocks_it() -> None:
    sol = make_snapshot().hedges[0]
    btc = msgspec.structs.replace(sol, market="BTC-PERP", base_symbol="wBTC", paused="the market is paused", ended=True)
    blocked = MarketDetail("BTC-PERP", 1, make_verdicts(), "take of 0.1 wBTC", (), ())
    said = "\n".join(status_lines(make_snapshot(hedges=(sol, btc)), [blocked]))
    assert "SOL-PERP net delta: +0.0500 SOL" in said
    assert "BTC-PERP net delta: +0.0500 wBTC" in said
    assert "BTC-PERP takes no orders now: the market is paused" in said
    assert "BTC-PERP has no prices any more" in said
    assert "BTC-PERP blocked by PROFITABILITY: a short pays" in said
    assert "SOL-PERP blocked" not in said
    assert "SOL-PERP takes no orders" not in said


def test_a_reason_and_alerts_are_said() -> None:
    engine = msgspec.structs.replace(make_snapshot().engine, state="HALTED", state_reason="kill switch: test")
    alert = AlertView("health@1", "CRITICAL", "health 12, liquidation at 250", 0.0)
    said = text(engine=engine, alerts=(alert,))
    assert "HALTED (kill switch: test)" in said
    assert "alert CRITICAL: health 12, liquidation at 250" in said


def test_unknown_is_neither_zero_nor_none() -> None:
    account = make_snapshot().account
    unknown = msgspec.structs.replace(
        account, health=None, equity=None, free_collateral=None, leverage=None, liq_price=None
    )
    hedge = make_snapshot().hedges[0]
    delta = msgspec.structs.replace(hedge.delta, net=None, drift_pct=None, reason="no account data yet")
    said = text(account=unknown, hedges=(msgspec.structs.replace(hedge, delta=delta),), positions=())
    assert "health: unknown; leverage: unknownx; liquidation price: unknown" in said
    assert "equity: unknown; free collateral: unknown" in said
    assert "net delta: unknown SOL (unknown %); no account data yet" in said
    # A liquidation price that does not exist is another thing.
    none = msgspec.structs.replace(account, liq_price=None)
    assert "liquidation price: none\n" in text(account=none)


def test_a_liquidation_price_is_told_with_its_market() -> None:
    assert "liquidation price: 412.50 of SOL-PERP" in text()


def test_whose_a_position_is_and_what_was_left_by_hand() -> None:
    hedge = make_snapshot().hedges[0]
    for stance, holder, said in (
        ("CARRY", "operator", "stance: CARRY (by hand), best"),
        ("FLAT", "operator", "stance: FLAT (left by hand), best"),
        ("FLAT", "nobody", "stance: FLAT, best"),
    ):
        carry = msgspec.structs.replace(hedge.carry, stance=stance, held_by=holder)
        assert said in text(hedges=(msgspec.structs.replace(hedge, carry=carry),))


def test_a_question_that_waits_is_told_with_the_time_that_is_left() -> None:
    base = make_snapshot()
    until = base.clock.operator_s + 14.2
    trade = make_confirmation(source="engine", expires_operator_s=until)
    moved = make_confirmation(kind="WITHDRAW", asset="wBTC", size=0.05, legs=(), source="operator")
    asked = make_confirmation(question="resume? the engine was halted: kill switch: test")
    said = text(confirmations=(trade, moved, asked))
    waits = "waits for an answer in a terminal, "
    assert (
        f"{waits}14 s left: take SOL-PERP: sell 10 SOL-PERP, buy 10 SOL, worth $1,894.20 (asked by the engine)" in said
    )
    assert "withdraw 0.05 wBTC, worth $1,894.20 (asked by the operator)" in said
    assert "resume? the engine was halted: kill switch: test (asked by the " in said
    assert waits not in text(confirmations=())


def test_a_confirmation_says_what_it_would_do_and_cost() -> None:
    said = "\n".join(confirmation_lines(make_confirmation()))
    assert "take SOL-PERP: carry; price 189.4200, notional $1,894.20" in said
    assert "sell 10 SOL-PERP (limit 188.4800); buy 10 SOL (limit 190.3700)" in said
    assert "fees $1.61, slippage $1.89; round trip $7.00; break-even never" in said
    assert "health 100 -> 97" in said
    assert "liquidation price none -> 412.50" in said
    assert "refused by PROFITABILITY" in said
    assert "expected to lose $5.25" in said
    allowed = "\n".join(confirmation_lines(make_confirmation(can_force=False, loss_if_forced=None, break_even_h=40.0)))
    assert "break-even 40 h" in allowed
    assert "--force" not in allowed


def test_a_real_engine_can_be_told_at_every_stage() -> None:
    async def scenario(w: World) -> None:
        assert "too few" in "\n".join(status_lines(w.snapshot().snapshot))
        await w.records(8, 100)
        asked = await w.give(take(5))
        view = w.snapshot().snapshot.confirmations[0]
        assert "take SOL-PERP: short perp + buy spot; price 150.0000" in confirmation_lines(view)[0]
        assert confirmation_lines(view)[1].startswith("sell 5 SOL-PERP (limit ")
        await w.confirm(asked)
        lines = status_lines(w.snapshot().snapshot)
        assert any(line.startswith("position: SOL-PERP short -5.0000, entry 149.9700") for line in lines)
        assert any(line.startswith("SOL-PERP stance: CARRY") for line in lines)

    in_world(scenario, primed=2)
