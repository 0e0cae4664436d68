"""Tapes made in a test: rows to the bytes of a CSV file, and back through the real parser."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

from deltatui.feeds.tape import COLUMNS, Tape, parse_tape

FIRST_S = 1_700_000_000 // 3600 * 3600
Row = tuple[object, ...]


def csv_bytes(rows: Iterable[Sequence[object]], columns: Sequence[str] = COLUMNS) -> bytes:
    """``rows`` in the order of ``columns``."""
    lines = [",".join(columns), *(",".join(str(value) for value in row) for row in rows)]
    return ("\n".join(lines) + "\n").encode()


def row(
    ts: int,
    rate: Decimal | str = "0",
    price: Decimal | str = "150",
    *,
    rate_long: Decimal | str | None = None,
    rate_short: Decimal | str | None = None,
    mark: Decimal | str | None = None,
) -> Row:
    return (
        ts,
        rate,
        rate if rate_long is None else rate_long,
        rate if rate_short is None else rate_short,
        price,
        price if mark is None else mark,
        0,
    )


def tape(rows: Iterable[Row], name: str = "test.csv") -> Tape:
    return parse_tape(csv_bytes(rows), name)


def apr_rate(apr_pct: float, price: Decimal | str = "150") -> Decimal:
    """Hourly rate in quote per base, to nine places as the venue publishes it."""
    return round(Decimal(str(apr_pct)) / 100 / 8760 * Decimal(price), 9)


def steady(apr_pct: float, hours: int = 24 * 14, price: Decimal | str = "150") -> Tape:
    return tape(row(FIRST_S + 3600 * n, apr_rate(apr_pct, price), price) for n in range(hours))


def flipping(apr_pct: float, hours: int = 24 * 30, every: int = 1) -> Tape:
    return tape(row(FIRST_S + 3600 * n, apr_rate(apr_pct if n // every % 2 == 0 else -apr_pct)) for n in range(hours))
