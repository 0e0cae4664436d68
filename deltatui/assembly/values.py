"""From the values that a user sets to what engine, exchange, server and backtest take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from deltatui.api.limits import ServerLimits
from deltatui.backtest.settings import BacktestSettings, Fees, Policy
from deltatui.domain.carry import CarrySettings
from deltatui.domain.costs import DRIFT_FEES, DRIFT_SLIPPAGE, NO_FEES, NO_SLIPPAGE, CostModel, SlippageModel
from deltatui.domain.delta import RebalanceSettings
from deltatui.domain.errors import ValidationError
from deltatui.domain.gates import GateLimits
from deltatui.domain.health import LossLimits
from deltatui.domain.units import base_from_text, base_to_decimal
from deltatui.engine.settings import EngineSettings, MarketSettings
from deltatui.settings import Settings
from deltatui.venues.paper.settings import MARKETS, PaperFaults, PaperSettings


def market_settings(settings: Settings) -> dict[str, MarketSettings]:
    """How each market that may be carried is carried; what is named after an asset is its own."""
    carry, engine, rebalance = settings.carry, settings.engine, settings.rebalance
    own = {
        "SOL-PERP": (engine.carry_size_sol, rebalance.min_trade_sol, carry.sol_borrow_apr_pct, carry.sol_lend_apr_pct),
        "BTC-PERP": (engine.carry_size_btc, rebalance.min_trade_btc, carry.btc_borrow_apr_pct, carry.btc_lend_apr_pct),
    }
    return {
        symbol: MarketSettings(
            size_1e9=base_from_text(size),
            carry=carry_settings(settings, borrow_apr_pct, lend_apr_pct),
            rebalance=RebalanceSettings(
                tolerance_pct=rebalance.tolerance_pct,
                emergency_pct=rebalance.emergency_pct,
                cooldown_s=rebalance.cooldown_s,
                min_trade_1e9=base_from_text(min_trade),
            ),
        )
        for symbol in engine.markets
        for size, min_trade, borrow_apr_pct, lend_apr_pct in [own[symbol]]
    }


def carry_settings(settings: Settings, borrow_apr_pct: float, lend_apr_pct: float) -> CarrySettings:
    carry = settings.carry
    return CarrySettings(
        horizon_h=carry.horizon_h,
        prediction_weight=carry.prediction_weight,
        average_records=carry.average_records,
        confirm_records=carry.confirm_records,
        min_records=carry.min_records,
        gain_haircut=carry.gain_haircut,
        fee_multiple=carry.fee_multiple,
        base_borrow_apr_pct=borrow_apr_pct,
        base_lend_apr_pct=lend_apr_pct,
        quote_lend_apr_pct=carry.quote_lend_apr_pct,
        least_round_trip=carry.min_round_trip_bps / 1e4,
    )


def gate_limits(settings: Settings) -> GateLimits:
    limits = settings.limits
    return GateLimits(
        max_leverage=settings.max_leverage_by_mode,
        min_health_after=limits.min_health_after,
        min_liq_distance_pct=limits.min_liq_distance_pct,
        min_health_withdraw=limits.min_health_withdraw,
        min_gas_sol=float(settings.rebalance.reserved_sol),
        min_free_quote_usd=limits.min_free_quote_usd,
        max_latency_ms=limits.max_latency_ms,
        max_oracle_age_s=limits.max_oracle_age_s,
        max_slot_lag=limits.max_slot_lag,
        max_clock_skew_s=limits.max_clock_skew_s,
        max_funding_age_intervals=limits.max_funding_age_intervals,
    )


def engine_settings(settings: Settings, profile: str, carried: Iterable[str]) -> EngineSettings:
    """``carried`` are the markets that there is data of."""
    limits, markets = settings.limits, market_settings(settings)
    return EngineSettings(
        profile=profile,
        mode=settings.mode,
        live_mode=settings.live_mode,
        limits=gate_limits(settings),
        markets={symbol: markets[symbol] for symbol in carried},
        automation=settings.automation_by_mode,
        losses=LossLimits(
            daily_loss=_decimal(limits.daily_loss_stop_usd), drawdown_pct=_decimal(limits.drawdown_stop_pct)
        ),
        slippage_bps=settings.orders.slippage_bps,
        reduce_slippage_bps=settings.orders.reduce_slippage_bps,
        kill_slippage_bps=settings.orders.kill_slippage_bps,
        confirm_above_usd=limits.confirm_above_usd,
        typed_above_usd=limits.typed_above_usd,
        auto_limit_usd=settings.auto_limit_usd_by_mode,
        max_market_usd=limits.max_market_usd,
        max_total_usd=limits.max_total_usd,
        confirm_timeout_s=limits.confirm_timeout_s,
        loop_interval_s=settings.engine.loop_interval_s,
        save_interval_s=settings.engine.save_interval_s,
        stale_snapshot_s=limits.max_snapshot_age_s,
        settle_above_quote=settings.orders.settle_above_usd,
        position_ops_per_min=limits.position_ops_per_min,
        health_warning=limits.health_warning,
        health_critical=limits.health_critical,
    )


def paper_settings(settings: Settings) -> PaperSettings:
    paper, carry = settings.paper, settings.carry
    return PaperSettings(
        costs=paper_costs(settings),
        faults=PaperFaults(
            seed=paper.seed,
            fail_rate=paper.fail_rate,
            partial_rate=paper.partial_rate,
            odd_leg_rate=paper.odd_leg_rate,
            latency_s=paper.latency_ms / 1e3,
            partial_leg=paper.partial_leg,
            report_late_s=paper.report_late_ms / 1e3,
        ),
        max_leverage=settings.max_leverage_by_mode,
        base_borrow_apr_pct=Decimal(str(carry.sol_borrow_apr_pct)),
        base_lend_apr_pct=Decimal(str(carry.sol_lend_apr_pct)),
        borrow_apr_pct={"wBTC": Decimal(str(carry.btc_borrow_apr_pct))},
        lend_apr_pct={"wBTC": Decimal(str(carry.btc_lend_apr_pct))},
        quote_borrow_apr_pct=Decimal(str(carry.quote_borrow_apr_pct)),
        quote_lend_apr_pct=Decimal(str(carry.quote_lend_apr_pct)),
        funding_period_s=paper.funding_period_s,
        liquidation_fee_1e5=Decimal(str(paper.liquidation_fee_pct)) * 1_000,
        maintenance_fallback_1e4=round(paper.maintenance_fallback_pct * 100),
    )


def paper_costs(settings: Settings) -> CostModel:
    """Fees and slippage of the paper exchange. A backtest has its own, those of its fee preset."""
    paper = settings.paper
    fees, slippage = (NO_FEES, NO_SLIPPAGE) if paper.fees == "none" else (DRIFT_FEES, DRIFT_SLIPPAGE)
    if settings.slippage_by_mode == "size":
        slippage = SlippageModel(
            Decimal(str(paper.slippage_min_pct)) / 100,
            Decimal(str(paper.slippage_max_pct)) / 100,
            paper.slippage_half_size_sol,
        )
    return CostModel(fees, slippage)


class Opening(msgspec.Struct, frozen=True):
    """With what a paper account begins: ``quote`` deposited, the rest in its wallet, by asset."""

    quote: Decimal
    wallet_quote: Decimal
    wallet: Mapping[str, Decimal]


def paper_opening(settings: Settings, oracles: Mapping[str, Decimal]) -> Opening:
    """``oracles`` are the first prices by market."""
    paper, markets = settings.paper, market_settings(settings)
    quote = paper.start_equity_usd
    if quote is None:
        notionals = (base_to_decimal(markets[symbol].size_1e9) * oracle for symbol, oracle in oracles.items())
        quote = 2 * sum(notionals, Decimal(0))
    wallets = {"SOL-PERP": paper.wallet_sol, "BTC-PERP": paper.wallet_btc}
    return Opening(
        quote, paper.wallet_usd, {MARKETS[symbol].base_symbol: wallets[symbol] for symbol in oracles if wallets[symbol]}
    )


def server_limits(settings: Settings) -> ServerLimits:
    return ServerLimits(commands_per_s=settings.limits.commands_per_s)


def backtest_settings(
    settings: Settings, policy: Policy, fees: Fees, markets: Iterable[str], sizes_1e9: Mapping[str, int]
) -> BacktestSettings:
    """A backtest judges by the profile's own settings; only what the command line names is its own. A market without a
    size among ``sizes_1e9`` has that of the settings."""
    own = market_settings(settings)
    played = {}
    for symbol in markets:
        if symbol not in own:
            raise ValidationError("UNKNOWN_MARKET", f"engine.markets of this profile does not name {symbol}")
        size_1e9 = sizes_1e9.get(symbol, own[symbol].size_1e9)
        played[symbol] = msgspec.structs.replace(own[symbol], size_1e9=size_1e9)
    return BacktestSettings(
        policy=policy,
        markets=played,
        fees=fees,
        start_equity=settings.paper.start_equity_usd,
        limits=gate_limits(settings),
        paper=paper_settings(settings),
        max_market_usd=settings.limits.max_market_usd,
        max_total_usd=settings.limits.max_total_usd,
    )


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))
