"""What may be set: one frozen model for each table of the config file. Where values come from is config.py's matter.

Units stand in the names. Sizes of orders and amounts of money that reach the ledger are Decimal and are written as
text (``"0.005"``): a float is not exact. ``None`` ("none") means off, or "by mode" where the description says so.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from deltatui.domain.redact import key_bytes

PAPER_MAX_LEVERAGE = 10.0
LIVE_MAX_LEVERAGE = 5.0
PAPER_AUTO_LIMIT_USD = 25_000.0


def _exact(value: object) -> object:
    if isinstance(value, float):
        raise ValueError(f'must be written as text, like "{value:g}", because a float is not exact')
    return value.strip() if isinstance(value, str) else value


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _secret_key(value: SecretStr) -> SecretStr:
    if key_bytes(value.get_secret_value()) is None:
        raise ValueError("must be a secret key of 64 bytes, as base58 text or as a JSON list of 64 numbers")
    return value


def _addresses(value: SecretStr) -> SecretStr:
    try:
        parts = [urlsplit(address) for address in split_addresses(value)]
        good = bool(parts) and all(part.scheme in ("http", "https") and part.hostname for part in parts)
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            "must be one or more addresses, with commas between, beginning with https:// (or http:// on this machine)"
        )
    return value


def split_addresses(value: SecretStr) -> tuple[str, ...]:
    """The addresses of a value that lists them with commas between."""
    return tuple(part.strip() for part in value.get_secret_value().split(",") if part.strip())


def _known(*variables: str, env_only: bool = False) -> dict[str, Any]:
    """Plain environment variables of a field, and whether it may come from nowhere else."""
    return {"variables": list(variables), "env_only": env_only}


Amount = Annotated[Decimal, BeforeValidator(_exact)]
Place = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
Rate = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of all tables: frozen, nothing unknown, and no value in an error text."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        """``none`` for fields that may be off; true and false are no numbers."""
        kinds = kinds_of(cls, info.field_name or "")
        if NoneType in kinds and isinstance(value, str) and value.strip().lower() == "none":
            return None
        if isinstance(value, bool) and bool not in kinds:
            raise ValueError("must not be true or false")
        return value


def kinds_of(model: type[BaseModel], name: str) -> tuple[Any, ...]:
    """The types that a field admits (``int | None`` gives int and NoneType)."""
    annotation = model.model_fields[name].annotation
    return get_args(annotation) or (annotation,)


class EngineSettings(Section):
    loop_interval_s: float = Field(default=60.0, ge=1, le=3_600, description="operator seconds between two decisions")
    automation: bool | None = Field(
        default=None,
        description="whether the engine acts by itself; by mode: on in replay and paper, in live only as auto",
    )
    carry_size_sol: Amount = Field(
        default=Decimal(10), gt=0, le=1_000_000, description="size of an automatic carry position"
    )
    market: str = Field(default="SOL-PERP", pattern=r"^[A-Z0-9]{1,16}-PERP$", description="the market that is carried")


class LimitSettings(Section):
    max_leverage: float | None = Field(
        default=None,
        gt=0,
        le=PAPER_MAX_LEVERAGE,
        description="highest leverage after a trade; by mode: 5 live, 10 paper and replay",
        json_schema_extra=_known("MAX_LEVERAGE"),
    )
    min_health_after: int = Field(default=60, ge=0, le=100, description="lowest health after a trade")
    min_liq_distance_pct: float = Field(
        default=20.0, ge=0, le=100, description="nearest liquidation price after a trade"
    )
    min_health_withdraw: int = Field(default=80, ge=0, le=100, description="lowest health after a withdrawal")
    confirm_above_usd: float = Field(default=100.0, ge=0, description="trades above this notional ask for confirmation")
    typed_above_usd: float = Field(
        default=10_000.0,
        ge=0,
        description="in live mode, a trade above this notional also asks for the market's symbol to be typed",
    )
    auto_limit_usd: float | None = Field(
        default=None,
        gt=0,
        description="automatic trades up to this notional do not ask; by mode: 25000 in paper and replay; "
        "none in live, where every automatic trade above confirm_above_usd asks",
    )
    confirm_timeout_s: float = Field(
        default=30.0, ge=5, le=300, description="a confirmation cancels itself after this time"
    )
    daily_loss_stop_usd: float | None = Field(default=None, gt=0, description="loss in a day that stops new risk")
    drawdown_stop_pct: float | None = Field(
        default=None, gt=0, le=100, description="fall from the peak that stops new risk"
    )
    commands_per_s: int = Field(default=5, ge=1, le=1_000, description="commands that one client may give in a second")
    position_ops_per_min: int = Field(default=10, ge=1, le=1_000, description="position operations in a minute")
    health_warning: int = Field(default=50, ge=1, le=100, description="health below this raises a warning")
    health_critical: int = Field(default=20, ge=0, le=99, description="health below this raises a critical alert")

    @model_validator(mode="after")
    def _ordered(self) -> LimitSettings:
        if self.health_critical >= self.health_warning:
            raise ValueError(
                f"health_critical ({self.health_critical}) must be below health_warning ({self.health_warning})"
            )
        return self


class OrderSettings(Section):
    slippage_bps: int = Field(
        default=50, ge=1, le=1_000, description="price limit of a market-type order, from the mark price"
    )


class RebalanceSettings(Section):
    tolerance_pct: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="drift from delta neutral that calls for a correction",
        json_schema_extra=_known("DRIFT_TOLERANCE_PCT"),
    )
    cooldown_s: float = Field(
        default=1_800.0,
        ge=0,
        le=86_400,
        description="market seconds between two corrections",
        json_schema_extra=_known("REBALANCE_COOLDOWN_SEC", "COOLDOWN_SECONDS"),
    )
    emergency_pct: float = Field(default=5.0, gt=0, le=100, description="drift that does not wait for the cooldown")
    min_trade_sol: Amount = Field(
        default=Decimal("0.005"),
        ge=0,
        le=1_000,
        description="smallest correction",
        json_schema_extra=_known("MIN_TRADE_SIZE_SOL"),
    )
    reserved_sol: Amount = Field(
        default=Decimal("0.017"),
        ge=0,
        le=1_000,
        description="SOL that stays in the wallet for fees",
        json_schema_extra=_known("RESERVED_SOL"),
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
        default=168.0, gt=0, le=8_760, description="a position must earn its costs back within this time"
    )
    prediction_weight: Rate = Field(default=0.25, description="weight of the predicted rate against the average")
    average_h: int = Field(default=24, ge=1, le=720, description="funding records in the average rate")
    confirm_records: int = Field(
        default=3, ge=1, le=100, description="records in a row that must agree before a change"
    )
    min_records: int = Field(default=6, ge=1, le=720, description="records needed before the first decision")
    gain_haircut: Rate = Field(
        default=0.5, description="share of an expected gain that is believed; losses count whole"
    )
    fee_multiple: float = Field(
        default=2.0, ge=0, le=100, description="profit over the horizon must exceed this many fees"
    )
    sol_borrow_apr_pct: float = Field(
        default=7.5, ge=0, le=1_000, description="cost of borrowed SOL where the tape has none"
    )
    sol_lend_apr_pct: float = Field(
        default=0.0, ge=0, le=1_000, description="yield on deposited SOL where the tape has none"
    )
    quote_lend_apr_pct: float = Field(
        default=0.0, ge=0, le=1_000, description="yield on deposited quote without a tape's"
    )
    quote_borrow_apr_pct: float = Field(
        default=10.0, ge=0, le=1_000, description="cost of borrowed quote without a tape's"
    )


class PaperSettings(Section):
    fees: Literal["none", "drift"] = Field(default="drift", description="fee schedule of the paper venue")
    start_equity_usd: Amount | None = Field(
        default=None,
        gt=0,
        le=1_000_000_000,
        description="opening quote balance; none: twice the notional of carry_size_sol",
    )
    wallet_usd: Amount = Field(default=Decimal(10_000), ge=0, le=1_000_000_000, description="quote in the paper wallet")
    slippage_min_pct: float = Field(
        default=0.1, ge=0, le=10, description="slippage of the smallest fill without a book"
    )
    slippage_max_pct: float = Field(default=0.3, ge=0, le=10, description="slippage of the largest fill without a book")
    seed: int = Field(default=7, ge=0, le=2**63 - 1, description="seed of everything random in paper")
    fail_rate: Rate = Field(default=0.0, description="share of operations that fail")
    partial_rate: Rate = Field(default=0.0, description="share of operations that fill in part")
    odd_leg_rate: Rate = Field(default=0.0, description="share of operations of which one leg fails")
    latency_ms: float = Field(default=0.0, ge=0, le=60_000, description="time until an operation lands")

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
    tape: Place | None = Field(default=None, description="tape to replay; none: the one that comes with deltatui")
    speed: int = Field(default=3_600, ge=1, le=1_000_000, description="market seconds per operator second")
    start: Annotated[datetime, AfterValidator(_utc)] | None = Field(
        default=None, description="where on the tape to begin (2025-01-31 or with a time, UTC); none: its beginning"
    )


class LogSettings(Section):
    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = Field(
        default="INFO", description="least level that is logged", json_schema_extra=_known("LOG_LEVEL")
    )
    folder: Place | None = Field(
        default=None, description="folder of the log files; none: in the state folder of the profile"
    )


class StorageSettings(Section):
    durability: Literal["normal", "full"] = Field(default="normal", description="full: every commit waits for the disk")
    backups: int = Field(default=24, ge=0, le=1_000, description="hourly backups of the database that are kept")


class ChainSettings(Section):
    rpc_url: Annotated[SecretStr, AfterValidator(_addresses)] | None = Field(
        default=None,
        description="RPC endpoints, several with commas between (they may contain a key)",
        json_schema_extra=_known("RPC_URL"),
    )
    private_key: Annotated[SecretStr, AfterValidator(_secret_key)] | None = Field(
        default=None,
        description="secret key that signs in live mode; paper and replay never load it",
        json_schema_extra=_known("SOLANA_PRIVATE_KEY", env_only=True),
    )
    sub_account: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="sub-account of the venue",
        json_schema_extra=_known("DRIFT_SUB_ACCOUNT"),
    )

    @property
    def rpc_urls(self) -> tuple[str, ...]:
        return () if self.rpc_url is None else split_addresses(self.rpc_url)


class JitoSettings(Section):
    region: Literal["amsterdam", "dublin", "frankfurt", "london", "ny", "slc", "singapore", "tokyo"] | None = Field(
        default=None, description="block engine region; none: Jito chooses", json_schema_extra=_known("JITO_REGION")
    )


class HeliusSettings(Section):
    webhook_secret: Annotated[SecretStr, Field(min_length=8)] | None = Field(
        default=None,
        description="what Helius sends as the Authorization header of a webhook",
        json_schema_extra=_known("HELIUS_WEBHOOK_SECRET", env_only=True),
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
