"""Export of what the database holds, as CSV or Parquet (R10.6)."""

from __future__ import annotations

import asyncio
import csv
import importlib
import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from deltatui.domain.errors import ValidationError
from deltatui.store.copies import PART_SUFFIX, publish
from deltatui.store.database import Database
from deltatui.store.faults import from_os

_PAGE_ROWS = 10_000


class ExportKind(StrEnum):
    OPERATIONS = "operations"
    LEDGER = "ledger"
    FUNDING = "funding"
    FILLS = "fills"


class ExportFormat(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


_OPERATION_COLUMNS = (
    *("number", "id", "kind", "market", "source", "created_market_s", "created_operator_s", "state"),
    *("updated_operator_s", "signature", "error_code", "detail", "body"),
)
_LEDGER_COLUMNS = (
    *("sequence", "venue_sequence", "market_s", "kind", "instrument", "amount", "operation_id", "note"),
    *("account", "event_id"),
)
_FILL_COLUMNS = ("sequence", "market_s", "instrument", "operation_id", "base", "price", "note")

_LEDGER = (
    "SELECT l.sequence, l.venue_sequence, l.market_s, l.kind, l.instrument, l.amount, l.operation_id, l.note,"
    " coalesce(e.account, ''), coalesce(e.event_id, '')"
    " FROM ledger l LEFT JOIN venue_events e ON e.number = l.venue_sequence"
)

# The first column grows with every row and pages by it. Money is text: exact in both formats.
_QUERIES: dict[ExportKind, tuple[tuple[str, ...], str]] = {
    ExportKind.OPERATIONS: (
        _OPERATION_COLUMNS,
        "SELECT o.number, o.id, o.kind, o.market, o.source, o.created_market_s, o.created_operator_s, o.state,"
        " o.updated_operator_s, coalesce(s.signature, ''), j.error_code, j.detail, CAST(o.body AS TEXT)"
        " FROM operations o JOIN journal j ON j.operation_id = o.id AND j.state = o.state"
        " LEFT JOIN journal s ON s.operation_id = o.id AND s.state = 'SIGNED'"
        " WHERE o.number > ? ORDER BY o.number LIMIT ?",
    ),
    ExportKind.LEDGER: (
        _LEDGER_COLUMNS,
        f"{_LEDGER} WHERE l.sequence > ? ORDER BY l.sequence LIMIT ?",
    ),
    ExportKind.FUNDING: (
        _LEDGER_COLUMNS,
        f"{_LEDGER} WHERE l.kind = 'funding' AND l.sequence > ? ORDER BY l.sequence LIMIT ?",
    ),
    ExportKind.FILLS: (
        _FILL_COLUMNS,
        "SELECT sequence, market_s, instrument, operation_id, base, price, note FROM paper_events"
        " WHERE kind = '' AND sequence > ? ORDER BY sequence LIMIT ?",
    ),
}

_INTEGERS = frozenset({"number", "sequence", "venue_sequence"})


async def export(
    database: Database, kind: ExportKind, path: Path, form: ExportFormat = ExportFormat.CSV, *, overwrite: bool = False
) -> int:
    """Write ``kind`` to ``path`` and return the number of rows. The file appears when it is complete.

    Times are unix seconds, amounts in quote (positive when we receive), ``base`` signed, positive bought. ``account``
    and ``event_id`` name the venue's event behind a ledger entry, empty where there is none; ``venue_sequence`` is its
    number in this database alone. Fills are those of the paper venue. Parquet needs duckdb. Raises ValidationError
    (EXPORT_EXISTS, BAD_PATH, NO_PARQUET), TransientError (DISK_FULL, DISK_ERROR).
    """
    duckdb = _duckdb() if form is ExportFormat.PARQUET else None
    header, query = _QUERIES[kind]
    part = path.with_name(path.name + PART_SUFFIX)
    try:
        if not overwrite and await asyncio.to_thread(path.exists):
            raise ValidationError(
                "EXPORT_EXISTS", f"{path} is already there; name a file that is not, or say overwrite"
            )
        rows = 0
        file = await asyncio.to_thread(_open, part, header)
        try:
            last = 0
            while page := await database.run(partial(_page, query, last)):
                await asyncio.to_thread(_write_rows, file, page)
                rows, last = rows + len(page), page[-1][0]
        finally:
            await asyncio.to_thread(file.close)
        if duckdb is not None:
            await asyncio.to_thread(_to_parquet, duckdb, part, header)
        await asyncio.to_thread(publish, part, path)
    except OSError as error:
        raise from_os(error, path) from error
    finally:
        await asyncio.to_thread(part.unlink, missing_ok=True)
    return rows


def _page(query: str, last: int, connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(query, (last, _PAGE_ROWS)).fetchall()


def _open(part: Path, header: Sequence[str]) -> TextIO:
    file = part.open("w", encoding="utf-8", newline="")
    csv.writer(file).writerow(header)
    return file


def _write_rows(file: TextIO, rows: Sequence[tuple[Any, ...]]) -> None:
    csv.writer(file).writerows(rows)


def _duckdb() -> Any:
    try:
        return importlib.import_module("duckdb")
    except ImportError:
        raise ValidationError(
            "NO_PARQUET", "Parquet needs the package duckdb, which is not installed; install it or export as csv"
        ) from None


def _to_parquet(duckdb: Any, part: Path, header: Sequence[str]) -> None:
    """Replace the CSV by the same rows as Parquet."""
    types = {name: "BIGINT" if name in _INTEGERS else "DOUBLE" if name.endswith("_s") else "VARCHAR" for name in header}
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in types.items())
    # Or an empty text would come back as NULL.
    texts = ", ".join(f"'{name}'" for name, kind in types.items() if kind == "VARCHAR")
    table = part.with_name(part.name + ".parquet")
    try:
        with duckdb.connect() as connection:
            connection.execute(
                f"COPY (SELECT * FROM read_csv({_quoted(part)}, auto_detect = false, header = true, delim = ',',"  # noqa: S608
                f" quote = '\"', escape = '\"', columns = {{{columns}}}, force_not_null = [{texts}]))"
                f" TO {_quoted(table)} (FORMAT parquet)"
            )
        table.replace(part)
    finally:
        table.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
