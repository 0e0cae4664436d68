"""What a setting may be: kinds of values and how text becomes one, the base of all tables, where defaults come from."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from deltatui.domain.funding import DOCUMENTED_PERIOD_S
from deltatui.domain.redact import key_bytes


def default_of(struct: type[msgspec.Struct], name: str) -> Any:
    """The default that ``struct`` itself gives to its field ``name``. Raises KeyError where it gives none."""
    for field in msgspec.structs.fields(struct):
        if field.name == name and field.default is not msgspec.NODEFAULT:
            return field.default
    raise KeyError(f"{struct.__name__} has no default of {name}")


def known_as(*variables: str, env_only: bool = False) -> dict[str, Any]:
    """Plain environment variables of a field, and whether it may come from nowhere else."""
    return {"variables": list(variables), "env_only": env_only}


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


def _funding_period(value: int) -> int:
    if value not in (0, DOCUMENTED_PERIOD_S):
        raise ValueError(f"must be 0 (each record) or {DOCUMENTED_PERIOD_S} (the documented cycle of 8 hours)")
    return value


def _hundredths(value: float) -> float:
    if abs(value * 100 - round(value * 100)) > 1e-9:
        raise ValueError("must be a multiple of 0.01, because a market's ratio has four decimals")
    return value


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().lower() == "none":
        return ()
    return tuple(part for each in value.split(",") if (part := each.strip()))


Amount = Annotated[Decimal, BeforeValidator(_exact)]
Place = Annotated[Path, AfterValidator(lambda path: Path(os.path.expanduser(path)))]
Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""Several texts, as one with commas between or as a list; "none" is none of them."""
Rate = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, AfterValidator(_hundredths)]
FundingPeriod = Annotated[int, AfterValidator(_funding_period)]
UtcTime = Annotated[datetime, AfterValidator(_utc)]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)]
SecretKey = Annotated[SecretStr, AfterValidator(_secret_key)]
Addresses = Annotated[SecretStr, AfterValidator(_addresses)]


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
