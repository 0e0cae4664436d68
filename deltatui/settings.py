"""What may be set: one frozen model for each table of the config file. Where values come from is config.py's matter.

Units stand in the names. Sizes of orders and amounts of money that reach the ledger are Decimal and are written as
text (``"0.005"``): a float is not exact. ``None`` ("none") means off, or "by mode" where the description says so.

A default stands in the struct that uses it and is read from there (:func:`default_of`); only what no struct has stands
here as a number. A setting without an effect in this version has its line in :data:`NOT_USED`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from deltatui.api.limits import ServerLimits
from deltatui.domain.carry import CarrySettings as CarryDefaults
from deltatui.domain.costs import DOCUMENTED_SLIPPAGE
from deltatui.domain.delta import RebalanceSettings as RebalanceDefaults
from deltatui.domain.gates import GateLimits
from deltatui.domain.units import base_to_decimal
from deltatui.engine.settings import EngineSettings as EngineDefaults
from deltatui.setting_values import (
    Addresses,
    Amount,
    FundingPeriod,
    Listed,
    LogLevel,
    Percent,
    Place,
    Rate,
    SecretKey,
    Section,
    UtcTime,
    default_of,
    known_as,
    split_addresses,
)
from deltatui.store.retention import HOURLY_KEPT
from deltatui.venues.paper.settings import MARKETS, PaperFaults
from deltatui.venues.paper.settings import PaperSettings as PaperDefaults

PAPER_MAX_LEVERAGE: float = default_of(PaperDefaults, "max_leverage")
LIVE_MAX_LEVERAGE = 5.0
PAPER_AUTO_LIMIT_USD = 25_000.0

_NEEDS_LIVE = "needs live mode"
NOT_USED: dict[str, str] = {
    "live_mode": _NEEDS_LIVE,
    "limits.typed_above_usd": _NEEDS_LIVE,
    "limits.max_oracle_age_s": _NEEDS_LIVE,
    "limits.max_slot_lag": _NEEDS_LIVE,
    "paper.maintenance_fallback_pct": "every market that paper lists has a ratio of its own",
    "chain.sub_account": _NEEDS_LIVE,
    "helius.webhook_secret": "needs the receiver of webhooks",
}
"""Settings that change nothing in this version, and why. `config show` says it; a test lets the table only shrink."""


class EngineSettings(Section):
    loop_interval_s: float = Field(
        default=default_of(EngineDefaults, "loop_interval_s"),
        ge=1,
        le=3_600,
        description="operator seconds between two decisions",
    )
    save_interval_s: float = Field(
        default=default_of(EngineDefaults, "save_interval_s"),
        ge=1,
        le=60,
        description="operator seconds after which a change between two steps of the market is saved",
    )
    automation: bool | None = Field(
        default=None,
        description="whether the engine acts by itself; by mode: on in replay and paper, in live only as auto",
    )
    carry_size_sol: Amount = Field(
        default=Decimal(10), gt=0, le=1_000_000, description="size of an automatic carry position"
    )
    carry_size_btc: Amount = Field(
        default=Decimal("0.0152"), gt=0, le=1_000, description="the same in BTC-PERP: at first the notional of 10 SOL"
    )
    markets: Listed = Field(
        default=tuple(MARKETS),
        min_length=1,
        description="the markets that are carried, as far as there is data of them",
    )

    @field_validator("carry_size_sol", "carry_size_btc")
    @classmethod
    def _tradable(cls, value: Decimal, info: ValidationInfo) -> Decimal:
        symbol = {"carry_size_sol": "SOL-PERP", "carry_size_btc": "BTC-PERP"}[info.field_name or ""]
        step, least = (base_to_decimal(each) for each in MARKETS[symbol].order_sizes(spot_leg=True))
        if value < least or value % step:
            raise ValueError(f"must be a multiple of {step.normalize():f} from {least.normalize():f} on")
        return value

    @field_validator("markets")
    @classmethod
    def _known_markets(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [each for each in value if each not in MARKETS]:
            raise ValueError(f"must name markets of {', '.join(MARKETS)}, not {', '.join(unknown)}")
        if len(set(value)) != len(value):
            raise ValueError("must name each market once")
        return value


class LimitSettings(Section):
    max_leverage: float | None = Field(
        default=None,
        gt=0,
        le=PAPER_MAX_LEVERAGE,
        description="highest leverage after a trade; by mode: 5 live, 10 paper and replay",
        json_schema_extra=known_as("MAX_LEVERAGE"),
    )
    min_health_after: int = Field(
        default=default_of(GateLimits, "min_health_after"), ge=0, le=100, description="lowest health after a trade"
    )
    min_liq_distance_pct: float = Field(
        default=default_of(GateLimits, "min_liq_distance_pct"),
        ge=0,
        le=100,
        description="nearest liquidation price after a trade",
    )
    min_health_withdraw: int = Field(
        default=default_of(GateLimits, "min_health_withdraw"),
        ge=0,
        le=100,
        description="lowest health after a withdrawal",
    )
    min_free_quote_usd: float = Field(
        default=default_of(GateLimits, "min_free_quote_usd"),
        ge=0,
        le=1_000_000_000,
        description="free collateral that a trade must leave",
    )
    max_latency_ms: float = Field(
        default=default_of(GateLimits, "max_latency_ms"),
        gt=0,
        le=60_000,
        description="longest RPC round trip (median) at which new risk is taken; the documented shield is 300",
    )
    max_oracle_age_s: float = Field(
        default=default_of(GateLimits, "max_oracle_age_s"),
        gt=0,
        le=3_600,
        description="oldest oracle price at which new risk is taken",
    )
    max_slot_lag: int = Field(
        default=default_of(GateLimits, "max_slot_lag"),
        ge=0,
        le=10_000,
        description="slots that the RPC may be behind when new risk is taken",
    )
    max_clock_skew_s: float = Field(
        default=default_of(GateLimits, "max_clock_skew_s"),
        gt=0,
        le=60,
        description="most that this machine's clock may differ from the chain's when new risk is taken",
    )
    max_funding_age_intervals: float = Field(
        default=default_of(GateLimits, "max_funding_age_intervals"),
        gt=0,
        le=168,
        description="oldest funding record, in funding intervals of its market, at which new risk is taken",
    )
    max_snapshot_age_s: float = Field(
        default=default_of(EngineDefaults, "stale_snapshot_s"),
        ge=1,
        le=300,
        description="a trade decided on a screen older than this is refused",
    )
    confirm_above_usd: float = Field(
        default=default_of(EngineDefaults, "confirm_above_usd"),
        ge=0,
        description="trades above this notional ask for confirmation",
    )
    typed_above_usd: float = Field(
        default=default_of(EngineDefaults, "typed_above_usd"),
        ge=0,
        description="in live mode, a trade above this notional also asks for the market's symbol to be typed",
    )
    auto_limit_usd: float | None = Field(
        default=None,
        gt=0,
        description="automatic trades up to this notional do not ask; by mode: 25000 in paper and replay; "
        "none in live, where every automatic trade above confirm_above_usd asks",
    )
    max_market_usd: float | None = Field(
        default=default_of(EngineDefaults, "max_market_usd"),
        gt=0,
        description="most that automation opens in one market; none: as auto_limit_usd says",
    )
    max_total_usd: float | None = Field(
        default=default_of(EngineDefaults, "max_total_usd"),
        gt=0,
        description="most that automation holds in all markets together; none: only the gates bind",
    )
    confirm_timeout_s: float = Field(
        default=default_of(EngineDefaults, "confirm_timeout_s"),
        ge=5,
        le=300,
        description="a confirmation cancels itself after this time",
    )
    daily_loss_stop_usd: float | None = Field(default=None, gt=0, description="loss in a day that stops new risk")
    drawdown_stop_pct: float | None = Field(
        default=None, gt=0, le=100, description="fall from the peak that stops new risk"
    )
    commands_per_s: int = Field(
        default=default_of(ServerLimits, "commands_per_s"),
        ge=1,
        le=1_000,
        description="commands that one client may give in a second",
    )
    position_ops_per_min: int = Field(
        default=default_of(EngineDefaults, "position_ops_per_min"),
        ge=1,
        le=1_000,
        description="position operations in a minute",
    )
    health_warning: int = Field(
        default=default_of(EngineDefaults, "health_warning"),
        ge=1,
        le=100,
        description="health below this raises a warning",
    )
    health_critical: int = Field(
        default=default_of(EngineDefaults, "health_critical"),
        ge=0,
        le=99,
        description="health below this raises a critical alert",
    )

    @model_validator(mode="after")
    def _ordered(self) -> LimitSettings:
        if self.health_critical >= self.health_warning:
            raise ValueError(
                f"health_critical ({self.health_critical}) must be below health_warning ({self.health_warning})"
            )
        return self


class OrderSettings(Section):
    slippage_bps: int = Field(
        default=default_of(EngineDefaults, "slippage_bps"),
        ge=1,
        le=1_000,
        description="price limit of a market-type order, from the mark price",
    )
    reduce_slippage_bps: int = Field(
        default=default_of(EngineDefaults, "reduce_slippage_bps"),
        ge=1,
        le=1_000,
        description="the same for what reduces risk; never narrower than slippage_bps",
    )
    kill_slippage_bps: int = Field(
        default=default_of(EngineDefaults, "kill_slippage_bps"),
        ge=1,
        le=5_000,
        description="the same for what a kill closes; never narrower than the two above",
    )
    settle_above_usd: float = Field(
        default=default_of(EngineDefaults, "settle_above_quote"),
        ge=0,
        le=1_000_000,
        description="after a close, unsettled PnL above this is settled",
    )


class RebalanceSettings(Section):
    tolerance_pct: float = Field(
        default=default_of(RebalanceDefaults, "tolerance_pct"),
        gt=0,
        le=100,
        description="drift from delta neutral that calls for a correction",
        json_schema_extra=known_as("DRIFT_TOLERANCE_PCT"),
    )
    cooldown_s: float = Field(
        default=default_of(RebalanceDefaults, "cooldown_s"),
        ge=0,
        le=86_400,
        description="market seconds between two corrections",
        json_schema_extra=known_as("REBALANCE_COOLDOWN_SEC", "COOLDOWN_SECONDS"),
    )
    emergency_pct: float = Field(
        default=default_of(RebalanceDefaults, "emergency_pct"),
        gt=0,
        le=100,
        description="drift that does not wait for the cooldown",
    )
    min_trade_sol: Amount = Field(
        default=base_to_decimal(default_of(RebalanceDefaults, "min_trade_1e9")),
        ge=0,
        le=1_000,
        description="smallest correction",
        json_schema_extra=known_as("MIN_TRADE_SIZE_SOL"),
    )
    min_trade_btc: Amount = Field(
        default=base_to_decimal(MARKETS["BTC-PERP"].min_base_1e9),
        ge=0,
        le=1_000,
        description="the same in BTC-PERP",
    )
    reserved_sol: Amount = Field(
        default=Decimal(str(default_of(GateLimits, "min_gas_sol"))),
        ge=0,
        le=1_000,
        description="SOL that stays in the wallet for fees",
        json_schema_extra=known_as("RESERVED_SOL"),
    )

    @model_validator(mode="after")
    def _ordered(self) -> RebalanceSettings:
        if self.emergency_pct < self.tolerance_pct:
            raise ValueError(
                f"emergency_pct ({self.emergency_pct:g}) must not be below tolerance_pct ({self.tolerance_pct:g})"
            )
        return self


class CarrySettings(Section):
    horizon_h: float = Field(
        default=default_of(CarryDefaults, "horizon_h"),
        gt=0,
        le=8_760,
        description="a position must earn its costs back within this time",
    )
    prediction_weight: Rate = Field(
        default=default_of(CarryDefaults, "prediction_weight"),
        description="weight of the predicted rate against the average",
    )
    average_records: int = Field(
        default=default_of(CarryDefaults, "average_records"),
        ge=1,
        le=720,
        description="funding records in the average rate",
    )
    confirm_records: int = Field(
        default=default_of(CarryDefaults, "confirm_records"),
        ge=1,
        le=100,
        description="records in a row that must agree before a change",
    )
    min_records: int = Field(
        default=default_of(CarryDefaults, "min_records"),
        ge=1,
        le=720,
        description="records needed before the first decision",
    )
    gain_haircut: Rate = Field(
        default=default_of(CarryDefaults, "gain_haircut"),
        description="share of an expected gain that is believed; losses count whole",
    )
    fee_multiple: float = Field(
        default=default_of(CarryDefaults, "fee_multiple"),
        ge=0,
        le=100,
        description="profit over the horizon must exceed this many fees",
    )
    min_round_trip_bps: float = Field(
        default=default_of(CarryDefaults, "least_round_trip") * 1e4,
        ge=0,
        le=1_000,
        description="least cost of a round trip that is reckoned with, whatever the fees are",
    )
    btc_borrow_apr_pct: float = Field(
        default=default_of(CarryDefaults, "base_borrow_apr_pct"),
        ge=0,
        le=1_000,
        description="cost of borrowed wBTC; no record of it is known, so SOL's is reckoned with",
    )
    btc_lend_apr_pct: float = Field(
        default=default_of(CarryDefaults, "base_lend_apr_pct"),
        ge=0,
        le=1_000,
        description="yield of lent wBTC",
    )
    sol_borrow_apr_pct: float = Field(
        default=default_of(CarryDefaults, "base_borrow_apr_pct"),
        ge=0,
        le=1_000,
        description="cost of borrowed SOL where the tape has none",
    )
    sol_lend_apr_pct: float = Field(
        default=default_of(CarryDefaults, "base_lend_apr_pct"),
        ge=0,
        le=1_000,
        description="yield on deposited SOL where the tape has none",
    )
    quote_lend_apr_pct: float = Field(
        default=default_of(CarryDefaults, "quote_lend_apr_pct"),
        ge=0,
        le=1_000,
        description="yield on deposited quote without a tape's",
    )
    quote_borrow_apr_pct: float = Field(
        default=float(default_of(PaperDefaults, "quote_borrow_apr_pct")),
        ge=0,
        le=1_000,
        description="cost of borrowed quote without a tape's",
    )


class PaperSettings(Section):
    fees: Literal["none", "drift"] = Field(default="drift", description="fee schedule of the paper venue")
    start_equity_usd: Amount | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        description="opening quote balance; none: twice the notionals of the carry sizes of all markets",
    )
    wallet_usd: Amount = Field(default=Decimal(10_000), ge=0, le=1_000_000_000, description="quote in the paper wallet")
    wallet_sol: Amount = Field(default=Decimal(0), ge=0, le=1_000_000, description="SOL in the paper wallet")
    wallet_btc: Amount = Field(default=Decimal(0), ge=0, le=100_000, description="wBTC in the paper wallet")
    funding_period_s: FundingPeriod = Field(
        default=default_of(PaperDefaults, "funding_period_s"),
        description="0: each funding record is booked; 28800: the documented cycle of 8 hours",
    )
    slippage: Literal["preset", "size"] | None = Field(
        default=None,
        description="preset: that of paper.fees; size: grows with the size between the two bounds below; "
        "by mode: preset in replay, size in paper; a backtest has that of --fees",
    )
    slippage_min_pct: float = Field(
        default=float(DOCUMENTED_SLIPPAGE.minimum * 100),
        ge=0,
        le=10,
        description="slippage of the smallest fill, with paper.slippage size",
    )
    slippage_max_pct: float = Field(
        default=float(DOCUMENTED_SLIPPAGE.maximum * 100),
        ge=0,
        le=10,
        description="slippage of the largest fill, with paper.slippage size",
    )
    slippage_half_size_sol: Amount = Field(
        default=DOCUMENTED_SLIPPAGE.half_size,
        gt=0,
        le=1_000_000_000,
        description="size whose slippage is half way between the bounds, with paper.slippage size",
    )
    maintenance_fallback_pct: Percent = Field(
        default=default_of(PaperDefaults, "maintenance_fallback_1e4") / 100,
        gt=0,
        le=50,
        description="maintenance margin of a market that has no ratio of its own",
    )
    liquidation_fee_pct: float = Field(
        default=float(default_of(PaperDefaults, "liquidation_fee_1e5") / 1_000),
        ge=0,
        le=10,
        description="fee on what a liquidation closes",
    )
    seed: int = Field(
        default=default_of(PaperFaults, "seed"), ge=0, le=2**63 - 1, description="seed of everything random in paper"
    )
    fail_rate: Rate = Field(default=default_of(PaperFaults, "fail_rate"), description="share of operations that fail")
    partial_rate: Rate = Field(
        default=default_of(PaperFaults, "partial_rate"), description="share of operations that fill in part"
    )
    partial_leg: Literal["perp", "spot", "any"] = Field(
        default=default_of(PaperFaults, "partial_leg"), description="leg that a partial fill falls on"
    )
    odd_leg_rate: Rate = Field(
        default=default_of(PaperFaults, "odd_leg_rate"), description="share of operations of which one leg fails"
    )
    latency_ms: float = Field(
        default=default_of(PaperFaults, "latency_s") * 1e3,
        ge=0,
        le=60_000,
        description="time until an operation lands",
    )
    report_late_ms: float = Field(
        default=default_of(PaperFaults, "report_late_s") * 1e3,
        ge=0,
        le=60_000,
        description="time by which the account is told late; from 30000 on a trade is answered before it is told",
    )

    @model_validator(mode="after")
    def _ordered(self) -> PaperSettings:
        if self.slippage_min_pct > self.slippage_max_pct:
            raise ValueError(
                f"slippage_min_pct ({self.slippage_min_pct:g}) must not exceed "
                f"slippage_max_pct ({self.slippage_max_pct:g})"
            )
        if (total := self.fail_rate + self.partial_rate + self.odd_leg_rate) > 1:
            raise ValueError(f"fail_rate, partial_rate and odd_leg_rate together must not exceed 1, they are {total:g}")
        return self


class ReplaySettings(Section):
    tape: Listed = Field(
        default=(),
        description="tapes to replay, FILE or SYMBOL=FILE; without any those that come with deltatui, one a market",
    )
    speed: int = Field(default=3_600, ge=1, le=1_000_000, description="market seconds per operator second")
    start: UtcTime | None = Field(
        default=None, description="where on the tape to begin (2025-01-31 or with a time, UTC); none: its beginning"
    )


class LogSettings(Section):
    level: LogLevel = Field(
        default="INFO", description="least level that is logged", json_schema_extra=known_as("LOG_LEVEL")
    )
    folder: Place | None = Field(
        default=None, description="folder of the log files; none: in the state folder of the profile"
    )


class StorageSettings(Section):
    durability: Literal["normal", "full"] = Field(default="normal", description="full: every commit waits for the disk")
    backups: int = Field(
        default=HOURLY_KEPT, ge=0, le=1_000, description="hourly backups of the database that are kept"
    )


class ChainSettings(Section):
    rpc_url: Addresses | None = Field(
        default=None,
        description="RPC endpoints, several with commas between (they may contain a key)",
        json_schema_extra=known_as("RPC_URL"),
    )
    private_key: SecretKey | None = Field(
        default=None,
        description="secret key that signs in live mode; paper and replay never load it",
        json_schema_extra=known_as("SOLANA_PRIVATE_KEY", env_only=True),
    )
    sub_account: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="sub-account of the venue",
        json_schema_extra=known_as("DRIFT_SUB_ACCOUNT"),
    )

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        return () if self.rpc_url is None else split_addresses(self.rpc_url)


class JitoSettings(Section):
    region: Literal["amsterdam", "dublin", "frankfurt", "london", "ny", "slc", "singapore", "tokyo"] | None = Field(
        default=None, description="block engine region; none: Jito chooses", json_schema_extra=known_as("JITO_REGION")
    )


class HeliusSettings(Section):
    webhook_secret: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None,
        description="what Helius sends as the Authorization header of a webhook",
        json_schema_extra=known_as("HELIUS_WEBHOOK_SECRET", env_only=True),
    )


class Settings(Section):
    """Everything that may be set. The ``*_by_mode`` properties resolve the fields whose default depends on the mode."""

    mode: Literal["replay", "paper", "live"] = Field(
        default="replay", description="recorded market, live market, real money"
    )
    live_mode: Literal["watch", "manage", "trade", "auto"] = Field(default="watch", description="what live mode may do")
    network: Literal["mainnet", "devnet", "localnet"] = Field(
        default="mainnet", description="Solana cluster of live mode"
    )
    engine: EngineSettings = Field(default_factory=lambda: EngineSettings.model_validate({}))
    limits: LimitSettings = Field(default_factory=lambda: LimitSettings.model_validate({}))
    orders: OrderSettings = Field(default_factory=lambda: OrderSettings.model_validate({}))
    rebalance: RebalanceSettings = Field(default_factory=lambda: RebalanceSettings.model_validate({}))
    carry: CarrySettings = Field(default_factory=lambda: CarrySettings.model_validate({}))
    paper: PaperSettings = Field(default_factory=lambda: PaperSettings.model_validate({}))
    replay: ReplaySettings = Field(default_factory=lambda: ReplaySettings.model_validate({}))
    log: LogSettings = Field(default_factory=lambda: LogSettings.model_validate({}))
    storage: StorageSettings = Field(default_factory=lambda: StorageSettings.model_validate({}))
    chain: ChainSettings = Field(default_factory=lambda: ChainSettings.model_validate({}))
    jito: JitoSettings = Field(default_factory=lambda: JitoSettings.model_validate({}))
    helius: HeliusSettings = Field(default_factory=lambda: HeliusSettings.model_validate({}))

    @model_validator(mode="after")
    def _fits_mode(self) -> Settings:
        leverage = self.limits.max_leverage
        if self.mode == "live" and leverage is not None and leverage > LIVE_MAX_LEVERAGE:
            raise ValueError(f"limits.max_leverage is {leverage:g}, and live mode allows at most {LIVE_MAX_LEVERAGE:g}")
        limits = self.limits
        if self.mode == "live" and limits.typed_above_usd < limits.confirm_above_usd:
            raise ValueError(
                f"limits.typed_above_usd ({limits.typed_above_usd:g}) must not be below limits.confirm_above_usd "
                f"({limits.confirm_above_usd:g}): a trade that asks for no confirmation cannot ask for a typed one"
            )
        if self.mode == "live" and self.engine.automation and self.live_mode != "auto":
            raise ValueError(
                f"engine.automation is on, and live mode acts by itself only as live_mode auto, not {self.live_mode}"
            )
        least_bps, limit_bps = self.paper.slippage_min_pct * 100, self.orders.slippage_bps
        if self.slippage_by_mode == "size" and least_bps > limit_bps:
            raise ValueError(
                f"paper.slippage_min_pct ({self.paper.slippage_min_pct:g}) is above the price limit of "
                f"orders.slippage_bps ({limit_bps}, which is {limit_bps / 100:g} %): no order could fill"
            )
        return self

    @property
    def max_leverage_by_mode(self) -> float:
        if self.limits.max_leverage is not None:
            return self.limits.max_leverage
        return LIVE_MAX_LEVERAGE if self.mode == "live" else PAPER_MAX_LEVERAGE

    @property
    def automation_by_mode(self) -> bool:
        if self.engine.automation is not None:
            return self.engine.automation
        return self.mode != "live" or self.live_mode == "auto"

    @property
    def auto_limit_usd_by_mode(self) -> float | None:
        """None: no automatic trade above ``limits.confirm_above_usd`` goes without a confirmation."""
        if self.limits.auto_limit_usd is not None:
            return self.limits.auto_limit_usd
        return None if self.mode == "live" else PAPER_AUTO_LIMIT_USD

    @property
    def slippage_by_mode(self) -> Literal["preset", "size"]:
        """A replay charges the preset, so that it agrees with a backtest (R1.8); paper on live prices R1.3's bounds."""
        if self.paper.slippage is not None:
            return self.paper.slippage
        return "size" if self.mode == "paper" else "preset"
