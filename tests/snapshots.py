"""A snapshot with realistic values, for tests of the wire and of the terminal."""

from __future__ import annotations

from typing import Any

import msgspec

from deltatui.domain.snapshot import (
    SCHEMA_VERSION,
    AccountView,
    ActionView,
    AmountView,
    AssetView,
    AttributionView,
    CarryView,
    ClockView,
    ConfirmationView,
    DeltaView,
    EngineView,
    HedgeView,
    LegView,
    MarketDetail,
    OpportunityView,
    PlanView,
    PositionView,
    PricesView,
    Snapshot,
    TapeView,
    VaultView,
)
from deltatui.domain.verdict import Verdict, VerdictStatus

MARKET_S = 1_735_693_200.0
OPERATOR_S = 1_763_700_000.0

_ACTIONS = (
    "CONFIRM",
    "CANCEL",
    "PAUSE",
    "RESUME",
    "KILL",
    "FORGET_LOSSES",
    "SET_SPEED",
    "SET_AUTOMATION",
    "STOP_ENGINE",
)
_SIZES = {"SOL-PERP": (0.01, 100.0, 0.01), "BTC-PERP": (0.0001, 0.3015, 0.0001)}
"""Least and largest size of a take, and its step."""
_BASES = {
    "SOL-PERP": (AmountView("SOL", 0.5, 9), AmountView("SOL", 10.0, 9)),
    "BTC-PERP": (AmountView("wBTC", 0.02, 8), AmountView("wBTC", 0.0, 8)),
}
"""The most of a market's asset that could be deposited, and withdrawn."""


def make_verdicts() -> tuple[Verdict, ...]:
    """One verdict of each status."""
    return (
        Verdict("PROFITABILITY", VerdictStatus.BLOCKED, "never", "168 h", "a short pays 0.0009 %/h"),
        Verdict("LEVERAGE", VerdictStatus.ALLOWED, "1.00x", "10x"),
        Verdict("HEALTH", VerdictStatus.ALLOWED, "97", "60"),
        Verdict("ORACLE_AGE", VerdictStatus.UNKNOWN, "unknown", "30 s", "no oracle price yet"),
        Verdict("LATENCY", VerdictStatus.NOT_APPLICABLE, "none", "500 ms", "paper has no RPC"),
        Verdict("RATE_LIMIT", VerdictStatus.EXEMPT, "2/min", "10/min", "the command only reduces risk", 1.5),
    )


def make_confirmation(**changes: Any) -> ConfirmationView:
    """A take of 10 SOL that the profitability gate refuses and that may be forced."""
    base = ConfirmationView(
        operation_id="op-0007",
        kind="TAKE",
        market="SOL-PERP",
        side="carry",
        size=10.0,
        notional=1_894.2,
        price=189.42,
        limit_price=188.48,
        fees=1.61,
        slippage=1.89,
        round_trip=7.0,
        break_even_h=None,
        carry_sentence="a short pays 7.9 % a year",
        leverage_before=0.0,
        leverage_after=1.0,
        health_before=100,
        health_after=97,
        liq_price_before=None,
        liq_price_after=412.5,
        delta_before_pct=0.0,
        delta_after_pct=0.0,
        verdicts=make_verdicts(),
        allowed=False,
        can_force=True,
        loss_if_forced=5.25,
        legs=(LegView("SOL-PERP", -10.0, 188.48), LegView("SOL", 10.0, 190.37)),
        source="operator",
        created_operator_s=OPERATOR_S - 4.0,
        expires_operator_s=OPERATOR_S + 26.0,
    )
    return msgspec.structs.replace(base, **changes)


def make_transfer(kind: str = "WITHDRAW", asset: str = "USDC", size: float = 300.0, **changes: Any) -> ConfirmationView:
    """A transfer out of (or into) an account with a hedge of 10 SOL, which its gates allow."""
    price = 189.42 if asset == "SOL" else 1.0
    verdicts = (
        Verdict("HEALTH", VerdictStatus.ALLOWED, "61", "60"),
        Verdict("LEVERAGE", VerdictStatus.ALLOWED, "1.2x", "10x"),
    )
    base = make_confirmation(
        kind=kind,
        side=kind.lower(),
        asset=asset,
        size=size,
        notional=size * price,
        price=price,
        limit_price=price,
        fees=0.0,
        slippage=0.0,
        round_trip=0.0,
        carry_sentence="",
        legs=(),
        leverage_before=1.0,
        leverage_after=1.2,
        health_before=97,
        health_after=61,
        liq_price_before=412.5,
        liq_price_after=388.25,
        hedge_delta_before_pct=0.0,
        hedge_delta_after_pct=0.0,
        verdicts=() if kind == "DEPOSIT" else verdicts,
        allowed=True,
        can_force=False,
        loss_if_forced=None,
    )
    return msgspec.structs.replace(base, **changes)


def as_plan(confirmation: ConfirmationView) -> PlanView:
    """The same as a preview says it."""
    fields = msgspec.structs.asdict(confirmation)
    return PlanView(**{name: fields[name] for name in PlanView.__struct_fields__})


def make_plan(**changes: Any) -> PlanView:
    """What :func:`make_confirmation` would do."""
    return msgspec.structs.replace(as_plan(make_confirmation()), **changes)


def make_hedge(market: str, **changes: Any) -> HedgeView:
    """SOL-PERP, of which 10 SOL of carry are held, or BTC-PERP, of which nothing is."""
    sol = HedgeView(
        market="SOL-PERP",
        base_symbol="SOL",
        prices=PricesView(
            oracle=189.42, mark=189.31, basis_bps=-5.8, as_of_market_s=MARKET_S - 12.0, interpolated=True
        ),
        delta=DeltaView(
            spot=10.0,
            perp=-9.95,
            net=0.05,
            worst=0.05,
            drift_pct=0.5,
            tolerance_pct=1.0,
            emergency_pct=5.0,
            direction="none",
            reason="within the tolerance of 1.0 %",
            cooldown_remaining_s=420.0,
            last_rebalance_market_s=MARKET_S - 1_380.0,
        ),
        carry=CarryView(
            stance="CARRY",
            decision="FLAT",
            sentence="a short pays 7.9 % a year; flat is better",
            held_by="engine",
            now_apr=-7.9,
            day_apr=-4.1,
            week_apr=2.6,
            expected_per_hour=-0.0171,
            break_even_h=None,
            reverse_break_even_h=412.0,
            horizon_h=168.0,
            next_funding_in_s=1_740.0,
        ),
        liq_price=412.5,
        liq_distance_pct=117.8,
    )
    btc = HedgeView(
        market="BTC-PERP",
        base_symbol="wBTC",
        prices=PricesView(
            oracle=94_214.5, mark=94_190.0, basis_bps=-2.6, as_of_market_s=MARKET_S - 12.0, interpolated=True
        ),
        delta=msgspec.structs.replace(
            sol.delta,
            spot=0.0,
            perp=0.0,
            net=0.0,
            worst=0.0,
            drift_pct=0.0,
            reason="nothing is held",
            cooldown_remaining_s=0.0,
            last_rebalance_market_s=None,
        ),
        carry=msgspec.structs.replace(
            sol.carry,
            stance="FLAT",
            sentence="a short pays 10.5 % a year; flat is best",
            held_by="nobody",
            now_apr=-10.5,
            day_apr=-6.2,
            week_apr=-1.3,
            expected_per_hour=-0.0224,
            reverse_break_even_h=230.0,
        ),
    )
    return msgspec.structs.replace({"SOL-PERP": sol, "BTC-PERP": btc}[market], **changes)


def make_detail(market: str = "SOL-PERP", **changes: Any) -> MarketDetail:
    """What the engine tells of the selected market beside :func:`make_snapshot`: one gate of each status, no cards."""
    deposit, withdrawal = _BASES[market]
    base = MarketDetail(
        market=market,
        version=1,
        gates=make_verdicts(),
        gates_subject=f"TAKE {market}",
        actions=(
            ActionView("TAKE", True, "", *_SIZES[market]),
            *(ActionView(action, True) for action in ("LEAVE", "REBALANCE", "SETTLE")),
            ActionView("DEPOSIT", True, amounts=(AmountView("USDC", 10_000.0, 6), deposit)),
            ActionView("WITHDRAW", True, amounts=(AmountView("USDC", 1_897.1, 6), withdrawal)),
        ),
        cards=(),
    )
    return msgspec.structs.replace(base, **changes)


def with_hedge(snapshot: Snapshot, market: str = "SOL-PERP", **changes: Any) -> Snapshot:
    """``snapshot`` with changed fields of one hedge."""
    replaced = msgspec.structs.replace
    hedges = tuple(replaced(hedge, **changes) if hedge.market == market else hedge for hedge in snapshot.hedges)
    return replaced(snapshot, hedges=hedges)


def make_snapshot(**changes: Any) -> Snapshot:
    """A replay of two markets that holds 10 SOL of carry. ``changes`` replaces fields of the snapshot as a whole
    (``version=7``, ``account=msgspec.structs.replace(make_snapshot().account, health=12)``)."""
    base = Snapshot(
        version=1,
        schema=SCHEMA_VERSION,
        engine=EngineView(
            profile="default",
            venue="paper",
            mode="replay",
            live_mode="watch",
            state="RUNNING",
            state_reason="",
            automation=True,
            clients=1,
            loop_lag_ms=0.4,
            pid=4242,
            started_operator_s=OPERATOR_S - 3_600.0,
        ),
        clock=ClockView(
            market_s=MARKET_S,
            operator_s=OPERATOR_S,
            speed=3_600,
            paused=False,
            tape=TapeView(
                name="drift SOL-PERP 2025 + drift BTC-PERP 2025",
                first_s=MARKET_S - 86_400.0 * 30,
                last_s=MARKET_S + 86_400.0 * 300,
                record=1_440,
                records=15_840,
                interpolated=True,
                ended=False,
            ),
        ),
        account=AccountView(
            health=97,
            equity=3_791.37,
            collateral_initial=3_412.2,
            collateral_maintenance=3_601.8,
            free_collateral=3_222.8,
            initial_requirement=189.4,
            maintenance_requirement=94.7,
            leverage=0.5,
            max_leverage=10.0,
            liq_price=412.5,
            liq_distance_pct=117.8,
            quote_balance=1_897.1,
            wallet_quote=10_000.0,
            assets=(AssetView("SOL", 10.0, 0.5), AssetView("wBTC", 0.0, 0.02)),
            liq_market="SOL-PERP",
            as_of_market_s=MARKET_S - 12.0,
            settled_pnl=-31.24,
            unsettled_pnl=18.9,
            total_pnl=-12.34,
        ),
        vault=VaultView(
            balance=3_222.8,
            allocated_capital=1_883.6,
            available_capital=3_222.8,
            realized_funding=-12.34,
            last_sync_operator_s=OPERATOR_S - 3.0,
        ),
        attribution=AttributionView(
            opening_equity=3_800.0,
            funding=-12.34,
            fees=-1.61,
            interest=0.0,
            trading=-0.4,
            transfers=0.0,
            unrealized_perp=31.2,
            spot_revaluation=-25.48,
            closing_equity=3_791.37,
            gap=0.0,
        ),
        hedges=(make_hedge("SOL-PERP"), make_hedge("BTC-PERP")),
        positions=(
            PositionView(
                key="SOL-PERP",
                market="SOL-PERP",
                side="short",
                size=-9.95,
                entry_price=192.45,
                mark_price=189.31,
                notional=1_883.6,
                unrealized_pnl=31.2,
                unsettled_pnl=18.9,
                funding=-12.34,
                liq_price=412.5,
                settled_pnl=-31.24,
                total_pnl=-12.34,
            ),
            PositionView(
                key="SOL",
                market="SOL",
                side="spot",
                size=10.0,
                entry_price=191.97,
                mark_price=189.42,
                notional=1_894.2,
                unrealized_pnl=-25.5,
                unsettled_pnl=None,
                funding=None,
                liq_price=None,
            ),
        ),
        opportunities=(
            OpportunityView(
                key="SOL-PERP",
                market="SOL-PERP",
                rate_hour_pct=-0.0009,
                rate_8h_pct=-0.0072,
                apr_pct=-7.9,
                day_apr_pct=-4.1,
                net_apr_pct=-15.4,
                entry_cost_bps=18.5,
                break_even_h=None,
                open_interest=None,
                volume_24h=None,
                side="short",
                age_s=12.0,
            ),
            OpportunityView(
                key="BTC-PERP",
                market="BTC-PERP",
                rate_hour_pct=-0.0012,
                rate_8h_pct=-0.0096,
                apr_pct=-10.5,
                day_apr_pct=-6.2,
                net_apr_pct=-17.4,
                entry_cost_bps=11.0,
                break_even_h=None,
                open_interest=None,
                volume_24h=None,
                side="short",
                age_s=12.0,
            ),
        ),
        alerts=(),
        actions=tuple(ActionView(action, True) for action in _ACTIONS),
    )
    return msgspec.structs.replace(base, **changes)
