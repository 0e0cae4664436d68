"""Reading tapes: what is one, what is refused and with which words, and prices between records."""

from __future__ import annotations

import gzip
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapes import FIRST_S, csv_bytes, row, tape

from deltatui.domain.errors import ValidationError
from deltatui.feeds.tape import COLUMNS, SHIPPED, load_tape, parse_tape, shipped_tape

GOOD = [row(FIRST_S + 3600 * n, "0.01", "150") for n in range(3)]


def refusal(raw: bytes) -> str:
    with pytest.raises(ValidationError) as refused:
        parse_tape(raw, "bad.csv")
    assert refused.value.code == "BAD_TAPE"
    assert refused.value.sentence.startswith("bad.csv is not a usable tape: ")
    return refused.value.sentence


@pytest.mark.parametrize(
    ("symbol", "count", "first_s", "last_s", "short"),
    [
        ("SOL-PERP", 8467, 1_744_588_800, 1_775_066_400, "-6.06783347"),
        ("BTC-PERP", 7080, 1_744_588_800, 1_770_073_200, "4611.001564794"),
    ],
)
def test_the_shipped_tapes(symbol: str, count: int, first_s: int, last_s: int, short: str) -> None:
    shipped = shipped_tape(symbol)
    assert shipped.name == SHIPPED[symbol]
    assert (len(shipped), shipped.first_s, shipped.last_s) == (count, first_s, last_s)
    assert sum((record.rate_short for record in shipped.records), Decimal(0)) == Decimal(short)
    # Of tapes an hour is the interval that their records count for.
    assert {record.interval_s for record in shipped.records} == {3600}


def test_of_other_markets_none_is_shipped() -> None:
    with pytest.raises(ValidationError, match="no tape of ETH-PERP comes with deltatui, only of SOL-PERP, BTC-PERP"):
        shipped_tape("ETH-PERP")


def test_a_part_of_a_tape() -> None:
    whole = tape([row(FIRST_S + 3600 * n, str(n)) for n in range(5)])
    assert whole.between(FIRST_S - 1, FIRST_S + 10**6) is whole
    part = whole.between(FIRST_S + 3600, FIRST_S + 3 * 3600)
    assert part.records == whole.records[1:4]
    assert (part.name, part.digest) == (whole.name, whole.digest)
    assert whole.between(FIRST_S + 1, FIRST_S + 3601).records == whole.records[1:2]
    with pytest.raises(ValidationError, match="has no record in the time that the tapes share"):
        whole.between(FIRST_S + 1, FIRST_S + 3599)


def test_plain_and_packed_are_the_same_tape(tmp_path: Path) -> None:
    raw = csv_bytes(GOOD)
    plain, packed = tmp_path / "t.csv", tmp_path / "t.csv.gz"
    plain.write_bytes(raw)
    packed.write_bytes(gzip.compress(raw))
    assert load_tape(plain).records == load_tape(packed).records
    assert load_tape(plain).digest == load_tape(packed).digest
    assert load_tape(plain).name == "t.csv"


def test_what_may_vary() -> None:
    records = parse_tape(csv_bytes(GOOD), "t").records
    assert parse_tape(b"\xef\xbb\xbf" + csv_bytes(GOOD), "t").records == records
    assert parse_tape(csv_bytes(GOOD).replace(b"\n", b"\r\n"), "t").records == records
    assert parse_tape(csv_bytes(GOOD).replace(b",", b" , "), "t").records == records
    assert parse_tape(csv_bytes(GOOD) + b"\n\n", "t").records == records
    assert parse_tape(csv_bytes(GOOD)[:-1], "t").records == records
    assert parse_tape(csv_bytes([(*r, "more") for r in GOOD]), "t").records == records


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(column: str) -> None:
    position = COLUMNS.index(column)
    columns = [c for c in COLUMNS if c != column]
    rows = [tuple(v for n, v in enumerate(r) if n != position) for r in GOOD]
    said = refusal(csv_bytes(rows, columns))
    assert f"column {column} is missing" in said
    assert columns[0] in said


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (csv_bytes([]), "a header but no record"),
        (b"\x00\x01\x02\xff\xfe" * 100, "not a text file"),
        (bytes(range(256)), "not a text file"),
        ("ts,rate\n1,2".encode("utf-16"), "not a text file"),
        (b"\x1f\x8b" + b"not gzip at all", "cannot be unpacked"),
        (gzip.compress(csv_bytes(GOOD), mtime=0)[:-20], "cannot be unpacked"),
        (b"hello world, this is prose\nand more of it\n", "column ts, fundingRate"),
        (b"a\x00b,c\n1,2\n", "is missing"),
    ],
)
def test_what_is_no_tape(raw: bytes, said: str) -> None:
    assert said in refusal(raw)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ((FIRST_S, "x", "0", "0", "150", "150", "0"), "line 3, fundingRate: 'x' is not a number"),
        ((FIRST_S, "nan", "0", "0", "150", "150", "0"), "line 3, fundingRate: 'nan' is not a finite number"),
        ((FIRST_S, "0", "inf", "0", "150", "150", "0"), "line 3, fundingRateLong: 'inf' is not a finite number"),
        ((FIRST_S, "0", "0", "", "150", "150", "0"), "line 3, fundingRateShort: '' is not a number"),
        ((FIRST_S, "0", "0", "0", "0", "150", "0"), "prices must be positive"),
        ((FIRST_S, "0", "0", "0", "150", "-1", "0"), "prices must be positive"),
        ((FIRST_S, "151", "0", "0", "150", "150", "0"), "above the price itself"),
        ((FIRST_S, "0", "0", "-151", "150", "150", "0"), "above the price itself"),
        ((FIRST_S, "0", "1e99999999", "0", "150", "150", "0"), "above the price itself"),
        ((FIRST_S, "0", "0", "0", "1e99999999", "150", "0"), "prices must be between"),
        ((FIRST_S, "0", "0", "0", "150", "1e-99999999", "0"), "prices must be between"),
        (("2025-01-01", "0", "0", "0", "150", "150", "0"), "line 3, ts: '2025-01-01' is not a number"),
        ((f"{FIRST_S}.5", "0", "0", "0", "150", "150", "0"), "whole unix seconds"),
        ((-5, "0", "0", "0", "150", "150", "0"), "whole unix seconds"),
        ((FIRST_S * 1000, "0", "0", "0", "150", "150", "0"), "whole unix seconds"),
        ((FIRST_S, "0", "0", "0", "150"), "line 3 ends before column markPriceTwap"),
    ],
)
def test_a_bad_line_is_named(bad: tuple[object, ...], said: str) -> None:
    assert said in refusal(csv_bytes([row(FIRST_S - 3600), bad]))


def test_time_must_rise() -> None:
    said = refusal(csv_bytes(reversed(GOOD)))
    assert "time must rise" in said
    assert "record 2" in said
    assert "time must rise" in refusal(csv_bytes([GOOD[0], GOOD[0]]))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="there is no tape at"):
        load_tape(tmp_path / "none.csv")
    with pytest.raises(ValidationError, match="cannot be read"):
        load_tape(tmp_path)


def test_an_absurdly_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(300 * 1024 * 1024)
    with pytest.raises(ValidationError, match="larger than 256 MiB"):
        load_tape(path)


def only_refused(raw: bytes) -> None:
    """A tape, or our own kind of refusal; any other error comes out."""
    with suppress(ValidationError):
        parse_tape(raw, "bad.csv")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_are_a_surprise(raw: bytes) -> None:
    only_refused(raw)


cells = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.floats().map(str),
    st.sampled_from(["", "NaN", "sNaN", "-Infinity", "1e400", "-1e-400", "1_000", "0x10", '"', "'", "1e999999999"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(cells, min_size=5, max_size=8), min_size=1, max_size=5))
def test_no_cells_are_a_surprise(rows: list[list[str]]) -> None:
    only_refused(csv_bytes([(FIRST_S + 3600 * n, *r) for n, r in enumerate(rows)]))


def test_prices_between_records() -> None:
    t = tape([row(FIRST_S, price="100", mark="101"), row(FIRST_S + 4000, price="200", mark="301")])
    told = [t.price_at(FIRST_S + s) for s in (-10, 0, 1000, 4000, 9999)]
    assert told == [
        (Decimal(100), Decimal(101), False),
        (Decimal(100), Decimal(101), False),
        (Decimal(125), Decimal(151), True),
        (Decimal(200), Decimal(301), False),
        (Decimal(200), Decimal(301), False),
    ]
    assert [t.index_at(FIRST_S + s) for s in (-1, 0, 1, 4000, 9999)] == [0, 1, 1, 2, 2]
    assert (t.first_s, t.last_s, len(t)) == (FIRST_S, FIRST_S + 4000, 2)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9000), st.decimals(1, 1000, places=4)), min_size=2, max_size=6), st.data())
def test_an_interpolated_price_lies_between_its_neighbours(
    steps: list[tuple[int, Decimal]], data: st.DataObject
) -> None:
    ts, rows = FIRST_S, []
    for gap, price in steps:
        ts += gap
        rows.append(row(ts, price=price))
    t = tape(rows)
    at = data.draw(st.floats(t.first_s, t.last_s))
    oracle, mark, interpolated = t.price_at(at)
    left = t.records[max(t.index_at(at), 1) - 1]
    right = t.records[min(t.index_at(at), len(t) - 1)]
    low, high = sorted((left.oracle_twap, right.oracle_twap))
    assert low <= oracle <= high
    assert oracle == mark
    assert interpolated is (at not in {record.ts_s for record in t.records})
