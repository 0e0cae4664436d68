"""Decode oracle accounts into prices, scaled for the source the market names.

As the program reads them (docs/sources.md, Drift): confidence and average are scaled like the price, a 1K or 1M source
prices that many tokens, and a stable coin within its confidence and 5 bp of $1 is $1. Wrong bytes raise
ValidationError.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from deltatui.domain.account import OraclePrice, OracleSource
from deltatui.domain.errors import ValidationError
from deltatui.domain.layout import layout
from deltatui.domain.units import PRICE_PRECISION, div_trunc

_STABLE_BAND_1E6 = 500
_SWITCHBOARD_SCALE = 10**12
"""From Switchboard's 1e18 to 1e6."""

LAZER: Final = layout(
    "PythLazerOracle",
    "9f07a1f922517985",
    48,
    (8, "i64", "price"),
    (24, "u64", "slot"),
    (32, "i32", "exponent"),
    (40, "u64", "confidence"),
)
PRELAUNCH: Final = layout(
    "PrelaunchOracle",
    "5c0e8bea48f4441a",
    120,
    (8, "i64", "price"),
    (24, "u64", "confidence"),
    (40, "u64", "slot"),
)
SWITCHBOARD_ON_DEMAND: Final = layout(
    "PullFeedAccountData",
    "c41b6cc40ad7db28",
    3208,
    (2296, "i128", "mean"),
    (2312, "i128", "range"),
)
_SUBMISSION_LANDED_AT = range(48, 2056, 64)
_PULL_DISCRIMINATOR = bytes.fromhex("22f123639d7ef4cd")
_PULL_SIZE = 134
_PULL_LEVEL_AT = 40
_PULL_MESSAGE = Struct("<32xqQi16xqQQ")
_LEGACY_MAGIC = 0xA1B2C3D4
_LEGACY_PRICE_TYPE = 3
_LEGACY_SIZE = 3312
_LEGACY_HEAD = Struct("<IIIIIiIIQQq")
_LEGACY_AGGREGATE = Struct("<qQ")
_LEGACY_AGGREGATE_AT = 208
_LEGACY_MIN_PUBLISHERS = 3
_U64 = Struct("<Q")

_LEGACY = frozenset({OracleSource.PYTH, OracleSource.PYTH_1K, OracleSource.PYTH_1M, OracleSource.PYTH_STABLE_COIN})
_PULL = frozenset(
    {
        OracleSource.PYTH_PULL,
        OracleSource.PYTH_1K_PULL,
        OracleSource.PYTH_1M_PULL,
        OracleSource.PYTH_STABLE_COIN_PULL,
    }
)
_LAZER = frozenset(
    {
        OracleSource.PYTH_LAZER,
        OracleSource.PYTH_LAZER_1K,
        OracleSource.PYTH_LAZER_1M,
        OracleSource.PYTH_LAZER_STABLE_COIN,
    }
)
_STABLE = frozenset(
    {OracleSource.PYTH_STABLE_COIN, OracleSource.PYTH_STABLE_COIN_PULL, OracleSource.PYTH_LAZER_STABLE_COIN}
)


def decode_oracle(data: bytes, source: OracleSource) -> OraclePrice:
    """The price in an oracle account. The quote asset's own source needs no account and is exactly 1.

    Raises ValidationError for bytes of another kind and for the old Switchboard v2, which is not supported.
    """
    if source in _LAZER:
        return _lazer(data, source)
    if source in _PULL:
        return _pull(data, source)
    if source in _LEGACY:
        return _legacy(data, source)
    if source is OracleSource.QUOTE_ASSET:
        return OraclePrice(PRICE_PRECISION, 1)
    if source is OracleSource.PRELAUNCH:
        fields = PRELAUNCH.read(data)
        return OraclePrice(fields["price"], fields["confidence"], fields["slot"])
    if source is OracleSource.SWITCHBOARD_ON_DEMAND:
        return _switchboard(data)
    raise ValidationError(
        "ORACLE_UNSUPPORTED",
        f"prices of oracle source {source.name} cannot be read; supported are Pyth (push, pull, Lazer), "
        "Switchboard on demand, prelaunch and the quote asset",
    )


def _scaled(
    source: OracleSource,
    exponent: int,
    price: int,
    confidence: int,
    slot: int,
    twap: int | None,
    sufficient_data: bool = True,
) -> OraclePrice:
    precision = 10 ** abs(exponent)
    if exponent > 0 or precision <= source.multiple:
        raise ValidationError(
            "BAD_ORACLE",
            f"the oracle's exponent is {exponent}; for {source.name} it must be below {-len(str(source.multiple)) + 1}",
        )
    precision //= source.multiple
    if precision > PRICE_PRECISION:
        multiply, divide = 1, precision // PRICE_PRECISION
    else:
        multiply, divide = PRICE_PRECISION // precision, 1
    price_1e6 = div_trunc(price * multiply, divide)
    confidence_1e6 = confidence * multiply // divide
    if source in _STABLE and abs(price_1e6 - PRICE_PRECISION) <= min(_STABLE_BAND_1E6, confidence_1e6):
        price_1e6 = PRICE_PRECISION
    twap_1e6 = None if twap is None else div_trunc(twap * multiply, divide)
    return OraclePrice(price_1e6, confidence_1e6, slot, twap_1e6, sufficient_data)


def _lazer(data: bytes, source: OracleSource) -> OraclePrice:
    fields = LAZER.read(data)
    return _scaled(source, fields["exponent"], fields["price"], fields["confidence"], fields["slot"], None)


def _pull(data: bytes, source: OracleSource) -> OraclePrice:
    if data[:8] != _PULL_DISCRIMINATOR or len(data) != _PULL_SIZE:
        raise ValidationError(
            "BAD_ACCOUNT",
            f"these bytes are no PriceUpdateV2: it has {_PULL_SIZE} bytes and starts with "
            f"{_PULL_DISCRIMINATOR.hex()}, these are {len(data)} and start with {data[:8].hex() or 'nothing'}",
        )
    level = data[_PULL_LEVEL_AT]
    if level > 1:
        raise ValidationError("BAD_ACCOUNT", f"the verification level is {level}; it must be 0 (partial) or 1 (full)")
    # A partial verification has its number of signatures in one byte more.
    at = _PULL_LEVEL_AT + (1 if level == 1 else 2)
    price, confidence, exponent, average, _, slot = _PULL_MESSAGE.unpack_from(data, at)
    return _scaled(source, exponent, price, confidence, slot, average)


def _legacy(data: bytes, source: OracleSource) -> OraclePrice:
    if len(data) < _LEGACY_SIZE:
        raise ValidationError(
            "BAD_ACCOUNT", f"a Pyth price account has {_LEGACY_SIZE} bytes or more, these are {len(data)}"
        )
    magic, _, kind, _, _, exponent, publishers, quoting, _, slot, average = _LEGACY_HEAD.unpack_from(data)
    if magic != _LEGACY_MAGIC or kind != _LEGACY_PRICE_TYPE:
        raise ValidationError(
            "BAD_ACCOUNT",
            f"these bytes are no Pyth price account: magic {magic:08x} and type {kind}, "
            f"it has {_LEGACY_MAGIC:08x} and {_LEGACY_PRICE_TYPE}",
        )
    price, confidence = _LEGACY_AGGREGATE.unpack_from(data, _LEGACY_AGGREGATE_AT)
    enough = quoting >= min(publishers, _LEGACY_MIN_PUBLISHERS)
    return _scaled(source, exponent, price, confidence, slot, average, enough)


def _switchboard(data: bytes) -> OraclePrice:
    # The program averages the newest submissions; the feed keeps the same number as the mean of its last result.
    fields = SWITCHBOARD_ON_DEMAND.read(data)
    slot = max(_U64.unpack_from(data, at)[0] for at in _SUBMISSION_LANDED_AT)
    confidence = abs(div_trunc(fields["range"], _SWITCHBOARD_SCALE))
    return OraclePrice(div_trunc(fields["mean"], _SWITCHBOARD_SCALE), confidence, slot)
