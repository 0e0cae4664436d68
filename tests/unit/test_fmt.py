"""What the terminal writes for numbers, times and foreign text."""

from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from deltatui.tui import fmt

UNKNOWN = (None, math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("value", UNKNOWN)
@pytest.mark.parametrize(
    "formatter",
    [
        fmt.number,
        fmt.signed,
        fmt.usd,
        fmt.pct,
        fmt.apr,
        fmt.compact,
        fmt.compact_usd,
        fmt.size,
        fmt.price,
        fmt.multiple,
        fmt.age,
        fmt.hours,
        fmt.when,
        fmt.day,
        fmt.clock,
    ],
)
def test_unknown_is_never_a_number(formatter: object, value: float | None) -> None:
    assert callable(formatter)
    assert formatter(value) == "n/a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fmt.number(16942.184), "16,942.18"),
        (fmt.signed(2.7), "+2.70"),
        (fmt.signed(-3.98), "-3.98"),
        (fmt.signed(-0.004), "0.00"),
        (fmt.signed(0.0), "0.00"),
        (fmt.usd(16942.18), "$16,942.18"),
        (fmt.usd(-3.98), "-$3.98"),
        (fmt.usd(3.98, plus=True), "+$3.98"),
        (fmt.usd(-0.001), "$0.00"),
        (fmt.pct(0.02, plus=True), "+0.02 %"),
        (fmt.pct(96.96, 0), "97 %"),
        (fmt.apr(-10.2), "-10.2 %"),
        (fmt.apr(1356.2), "+1,356 %"),
        (fmt.apr(999.96), "+1,000 %"),
        (fmt.compact(0.0), "0.00"),
        (fmt.compact(99.996), "100"),
        (fmt.compact(950), "950"),
        (fmt.compact(999.6), "1.00K"),
        (fmt.compact(41_200_000), "41.2M"),
        (fmt.compact(412_000), "412K"),
        (fmt.compact(999_700), "1.00M"),
        (fmt.compact(1.02e9), "1.02B"),
        (fmt.compact(-1.02e9), "-1.02B"),
        (fmt.compact(5e15), "5,000T"),
        (fmt.compact_usd(-412_000), "-$412K"),
        (fmt.compact_usd(88e6), "$88.0M"),
        (fmt.size(99.98), "99.9800"),
        (fmt.price(84.9912), "84.9912"),
        (fmt.price(1238.02), "1,238.0"),
        (fmt.price(0.00002134), "0.00002134"),
        (fmt.price(84.9912, 2), "84.99"),
        (fmt.multiple(1.0), "1.00x"),
        (fmt.age(0.8), "0 s"),
        (fmt.age(59.9), "59 s"),
        (fmt.age(60), "1 m"),
        (fmt.age(3 * 3600 + 59), "3 h"),
        (fmt.age(2 * 86_400), "2 d"),
        (fmt.age(-5), "-5 s"),
        (fmt.hours(146), "6 d 02 h"),
        (fmt.hours(23.999), "1 d 00 h"),
        (fmt.hours(13.5), "13 h 30 m"),
        (fmt.hours(0.5), "30 m"),
        (fmt.hours(-1), "n/a"),
        (fmt.hours(None, never=True), "never"),
        (fmt.when(1760166000), "2025-10-11 07:00Z"),
        (fmt.when(1e18), "n/a"),
        (fmt.day(1760166000), "11 Oct"),
        (fmt.clock(1760166000), "07:00:00"),
    ],
)
def test_examples(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e14, max_value=1e14))
def test_compact_keeps_three_digits(value: float) -> None:
    text = fmt.compact(value)
    letter = text[-1] if text[-1] in "KMBT" else ""
    scale = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}[letter]
    read = float(text.rstrip("KMBT").replace(",", "")) * scale
    assert abs(read - value) <= max(0.005, abs(value) * 0.0051)
    assert len(text.lstrip("-")) <= 5


@given(st.floats(min_value=0, max_value=1e6))
def test_hours_round_to_what_they_show(value: float) -> None:
    parts = fmt.hours(value).replace(",", "").split()
    minutes = {"d": 1440, "h": 60, "m": 1}
    shown = sum(int(number) * minutes[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert abs(shown - value * 60) <= (30.01 if "d" in parts else 0.51)


ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)


@settings(max_examples=400)
@given(ANY_TEXT, st.integers(0, 30), st.booleans())
def test_safe_text_is_inert_and_fits(text: str, width: int, ascii_only: bool) -> None:
    safe = fmt.safe_text(text, width, ascii_only=ascii_only)
    assert cell_len(safe) <= width
    assert cell_len(safe) == sum(cell_len(char) for char in safe), "widths must add up, whatever stands together"
    for char in safe:
        assert unicodedata.category(char)[0] not in "CM"
        assert unicodedata.category(char) not in ("Zl", "Zp")
        assert unicodedata.bidirectional(char) in {"L", "EN", "ES", "ET", "CS", "WS", "ON", "NSM", "BN", ""}
    safe.encode()
    if ascii_only:
        assert safe.isascii()
    assert fmt.safe_text(safe, width, ascii_only=ascii_only) == safe


def test_safe_text_shows_what_it_took_away() -> None:
    assert fmt.safe_text("a\x1b[31mb\nc\td\x7f") == "a␛[31mb␊c␉d␡"
    assert fmt.safe_text("pay\u202eLOS") == "pay�LOS"
    assert fmt.safe_text("\ud800") == "�"
    assert fmt.safe_text("\u05d0 12") == "� 12"
    assert fmt.safe_text("zero\u200bwidth") == "zero�width"
    assert fmt.safe_text("e\u0301") == "é"
    assert fmt.safe_text("[/INST] [b]x[/b]") == "[/INST] [b]x[/b]"
    assert fmt.safe_text("x\u00a0y") == "x y"


def test_safe_text_cuts_with_an_ellipsis() -> None:
    assert fmt.safe_text("abcdef", 4) == "abc…"
    assert fmt.safe_text("abcdef", 6) == "abcdef"
    assert fmt.safe_text("日本語", 4) == "日 …"
    assert fmt.safe_text("日本語", 6) == "日本語"
    assert fmt.safe_text("x" * 10_000_000, 5) == "xxxx…"
    assert fmt.safe_text("abcdef", 4, ascii_only=True) == "abc~"
    assert fmt.safe_text("日本語 ok", ascii_only=True) == "??? ok"
