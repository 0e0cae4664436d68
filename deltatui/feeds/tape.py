"""A recorded year (or any other span) of funding, read from CSV.

The shape is that of the shipped file: one line a funding record, the columns of :data:`COLUMNS` in any order, others
ignored. A fault anywhere refuses the whole tape and names the line.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from bisect import bisect_left, bisect_right
from decimal import Decimal, InvalidOperation
from importlib import resources
from itertools import pairwise
from pathlib import Path

from deltatui.domain.errors import ValidationError
from deltatui.domain.market import FundingRecord

COLUMNS = (
    "ts",
    "fundingRate",
    "fundingRateLong",
    "fundingRateShort",
    "oraclePriceTwap",
    "markPriceTwap",
    "periodRevenue",
)
SHIPPED = {
    "SOL-PERP": "drift_SOL-PERP_funding_hourly_20250414_20260401.csv.gz",
    "BTC-PERP": "drift_BTC-PERP_funding_hourly_20250414_20260202.csv.gz",
}
"""The tapes that come with deltatui, by market (data/SOURCES.md)."""
_MAX_BYTES = 256 * 1024 * 1024
_LEAST_PRICE, _MOST_PRICE = Decimal("0.000001"), Decimal(10**12)
"""What a price of precision 1e6 can say in 64 bits."""


class Tape:
    """Funding records in rising time.

    Between two records the price path is not known; :meth:`price_at` interpolates it linearly and callers say so.
    """

    def __init__(self, name: str, records: tuple[FundingRecord, ...], digest: str) -> None:
        self.name = name
        self.records = records
        self.digest = digest
        self._times = [record.ts_s for record in records]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def first_s(self) -> int:
        return self._times[0]

    @property
    def last_s(self) -> int:
        return self._times[-1]

    def between(self, first_s: int, last_s: int) -> Tape:
        """The part from ``first_s`` to ``last_s``, both included; the whole tape where nothing is cut off."""
        if first_s <= self.first_s and last_s >= self.last_s:
            return self
        records = tuple(record for record in self.records if first_s <= record.ts_s <= last_s)
        if not records:
            raise ValidationError("BAD_TAPE", f"{self.name} has no record in the time that the tapes share")
        return Tape(self.name, records, self.digest)

    def index_at(self, market_s: float) -> int:
        """Number of records published up to and including ``market_s``."""
        return bisect_right(self._times, market_s)

    def index_before(self, market_s: float) -> int:
        """Number of records published before ``market_s``."""
        return bisect_left(self._times, market_s)

    def price_at(self, market_s: float) -> tuple[Decimal, Decimal, bool]:
        """Oracle and mark price at ``market_s`` and whether they are interpolated.

        Clamped to the first and last record.
        """
        after = self.index_at(market_s)
        if after == 0:
            return self.records[0].oracle_twap, self.records[0].mark_twap, False
        left = self.records[after - 1]
        if after == len(self.records) or left.ts_s == market_s:
            return left.oracle_twap, left.mark_twap, False
        right = self.records[after]
        share = Decimal(str(round((market_s - left.ts_s) / (right.ts_s - left.ts_s), 6)))
        oracle = left.oracle_twap + (right.oracle_twap - left.oracle_twap) * share
        mark = left.mark_twap + (right.mark_twap - left.mark_twap) * share
        return oracle, mark, True


def shipped_tape(symbol: str) -> Tape:
    """The tape of a market that comes with deltatui. Raises ValidationError("BAD_TAPE") where there is none."""
    name = SHIPPED.get(symbol)
    if name is None:
        raise ValidationError("BAD_TAPE", f"no tape of {symbol} comes with deltatui, only of {', '.join(SHIPPED)}")
    return parse_tape(resources.files("deltatui.feeds").joinpath("data", name).read_bytes(), name)


def load_tape(path: Path) -> Tape:
    """Read a tape (plain or gzip). Raises ValidationError("BAD_TAPE")."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValidationError(
                "BAD_TAPE", f"{path} is larger than {_MAX_BYTES // 1024 // 1024} MiB, which no tape is"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ValidationError("BAD_TAPE", f"there is no tape at {path}") from None
    except OSError as error:
        raise ValidationError("BAD_TAPE", f"{path} cannot be read: {error.strerror}") from None
    return parse_tape(raw, path.name)


def parse_tape(raw: bytes, name: str) -> Tape:
    """Bytes of a CSV file, gzip or not, to a tape."""
    if raw[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
                raw = unpacked.read(_MAX_BYTES)
        except (OSError, EOFError, zlib.error):
            raise _bad(name, "it looks like gzip but cannot be unpacked") from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad(name, "it is not a text file; a tape is CSV in UTF-8") from None
    reader = csv.reader(io.StringIO(text))
    try:
        header = next(reader, None)
        if not header:
            raise _bad(name, f"it is empty; the first line has to name the columns {', '.join(COLUMNS)}")
        positions = _positions(name, [column.strip() for column in header])
        records = tuple(_record(name, reader.line_num, row, positions) for row in reader if row)
    except csv.Error as error:
        raise _bad(name, f"line {reader.line_num} is not CSV: {error}") from None
    if not records:
        raise _bad(name, "it has a header but no record")
    for number, (before, after) in enumerate(pairwise(records), start=2):
        if after.ts_s <= before.ts_s:
            raise _bad(
                name, f"time must rise from record to record, but record {number} has {after.ts_s} after {before.ts_s}"
            )
    return Tape(name, records, hashlib.sha256(raw).hexdigest())


def _bad(name: str, why: str) -> ValidationError:
    return ValidationError("BAD_TAPE", f"{name} is not a usable tape: {why}")


def _positions(name: str, header: list[str]) -> list[int]:
    missing = [column for column in COLUMNS if column not in header]
    if missing:
        raise _bad(name, f"column {', '.join(missing)} is missing; it has {', '.join(header)[:200]}")
    return [header.index(column) for column in COLUMNS]


def _record(name: str, line: int, row: list[str], positions: list[int]) -> FundingRecord:
    values: list[Decimal] = []
    for column, position in zip(COLUMNS, positions, strict=True):
        if position >= len(row):
            raise _bad(name, f"line {line} ends before column {column}")
        text = row[position].strip()
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise _bad(name, f"line {line}, {column}: '{text[:40]}' is not a number") from None
        if not value.is_finite():
            raise _bad(name, f"line {line}, {column}: '{text[:40]}' is not a finite number")
        values.append(value)
    ts, rate, rate_long, rate_short, oracle, mark, revenue = values
    if ts != ts.to_integral_value() or not 0 < ts < 10**11:
        raise _bad(name, f"line {line}, ts: '{ts}' is not a time in whole unix seconds")
    if oracle <= 0 or mark <= 0:
        raise _bad(name, f"line {line}: prices must be positive, they are {oracle} and {mark}")
    if not (min(oracle, mark) >= _LEAST_PRICE and max(oracle, mark) <= _MOST_PRICE):
        bounds = f"{_LEAST_PRICE} and {_MOST_PRICE:.0e}"
        raise _bad(name, f"line {line}: prices must be between {bounds}, they are {oracle} and {mark}")
    if max(rate, rate_long, rate_short) > oracle or min(rate, rate_long, rate_short) < -oracle:
        raise _bad(name, f"line {line}: a funding rate above the price itself; rates are quote per base unit per hour")
    return FundingRecord(int(ts), rate, rate_long, rate_short, oracle, mark, revenue)
