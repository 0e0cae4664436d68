"""Numbers, times and foreign text for display. Pure; an unknown (None, NaN, infinity) is ``n/a``, never 0."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

from rich.cells import cell_len, set_cell_size

NA = "n/a"
NEVER = "never"
CONTROL = "\N{REPLACEMENT CHARACTER}"


def _fixed(value: float, places: int, *, plus: bool = False) -> str:
    # A value that rounds to zero has no sign: "-0.00" would say that something is owed.
    text = f"{abs(value):,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        return text
    return ("-" if value < 0 else "+" if plus else "") + text


def number(value: float | None, places: int = 2) -> str:
    """``16942.184`` -> ``16,942.18``."""
    if value is None or not math.isfinite(value):
        return NA
    return _fixed(value, places)


def signed(value: float | None, places: int = 2) -> str:
    """``2.7`` -> ``+2.70``; what rounds to zero has no sign."""
    if value is None or not math.isfinite(value):
        return NA
    return _fixed(value, places, plus=True)


def usd(value: float | None, places: int = 2, *, plus: bool = False) -> str:
    """``-3.98`` -> ``-$3.98``."""
    if value is None or not math.isfinite(value):
        return NA
    text = _fixed(value, places, plus=plus)
    return f"{text[0]}${text[1:]}" if text[0] in "+-" else f"${text}"


def pct(value: float | None, places: int = 2, *, plus: bool = False) -> str:
    """A number already in percent: ``0.02`` -> ``0.02 %`` (``+0.02 %`` with ``plus``)."""
    if value is None or not math.isfinite(value):
        return NA
    return f"{_fixed(value, places, plus=plus)} %"


def apr(value: float | None) -> str:
    """Percent a year, signed, one decimal below 1,000: ``-10.2 %``, ``+1,356 %``."""
    if value is None or not math.isfinite(value):
        return NA
    return pct(value, 1 if abs(value) < 999.95 else 0, plus=True)


_SCALES = ((1e3, "K"), (1e6, "M"), (1e9, "B"), (1e12, "T"))


def compact(value: float | None) -> str:
    """Three digits and K, M, B or T: ``950``, ``1.20K``, ``41.2M``, ``412M``, ``1.02B``; below 100 two decimals."""
    if value is None or not math.isfinite(value):
        return NA
    size_ = abs(value)
    if size_ < 99.995:
        return _fixed(value, 2)
    if size_ < 999.5:
        return _fixed(value, 0)
    for scale, letter in _SCALES:
        scaled = value / scale
        if abs(scaled) < 999.5 or letter == "T":
            digits = abs(scaled)
            places = 2 if digits < 9.995 else 1 if digits < 99.95 else 0
            return _fixed(scaled, places) + letter
    raise AssertionError("the last scale takes every number")


def compact_usd(value: float | None) -> str:
    """``41.2e6`` -> ``$41.2M``."""
    text = compact(value)
    if text == NA:
        return NA
    return f"-${text[1:]}" if text.startswith("-") else f"${text}"


def size(value: float | None, places: int = 4) -> str:
    """An amount of the base asset: ``99.98`` -> ``99.9800``."""
    return number(value, places)


def amount(value: float | None) -> str:
    """An amount of an asset with at least three decimals, more where it is small: ``9.950``, ``0.0152``,
    ``0.001520``."""
    if value is None or not math.isfinite(value):
        return NA
    magnitude = abs(value)
    return _fixed(value, 3 if magnitude >= 1 or magnitude == 0 else 4 if magnitude >= 0.01 else 6)


def price(value: float | None, places: int | None = None) -> str:
    """A price with decimals by magnitude: ``101,234.5``, ``1,238.0``, ``84.9912``, ``0.512300``, ``0.00002134``."""
    if value is None or not math.isfinite(value):
        return NA
    if places is None:
        magnitude = abs(value)
        places = 1 if magnitude >= 1_000 else 4 if magnitude >= 1 else 6 if magnitude >= 0.01 or magnitude == 0 else 8
    return _fixed(value, places)


def multiple(value: float | None) -> str:
    """Leverage: ``1.0`` -> ``1.00x``."""
    return NA if value is None or not math.isfinite(value) else f"{_fixed(value, 2)}x"


def age(seconds: float | None) -> str:
    """``2 s``, ``4 m``, ``3 h``, ``2 d``, rounded down. A negative age (clocks disagree) keeps its sign."""
    if seconds is None or not math.isfinite(seconds):
        return NA
    whole = int(seconds)
    mark = "-" if whole < 0 else ""
    whole = abs(whole)
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if whole >= unit_s:
            return f"{mark}{whole // unit_s} {unit}"
    return f"{mark}{whole} s"


def hours(value: float | None, *, never: bool = False) -> str:
    """A break-even in hours: ``6 d 02 h``, ``13 h 20 m``, ``40 m``. ``never`` only when told so."""
    if never:
        return NEVER
    if value is None or not math.isfinite(value) or value < 0:
        return NA
    minutes = int(value * 60 + 0.5)
    if minutes < 60:
        return f"{minutes} m"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} m"
    whole = int(value + 0.5)
    return f"{whole // 24:,} d {whole % 24:02d} h"


def _utc(unix_s: float | None) -> datetime | None:
    if unix_s is None or not math.isfinite(unix_s):
        return None
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def when(unix_s: float | None) -> str:
    """Unix seconds -> ``2025-10-11 07:00Z``."""
    moment = _utc(unix_s)
    return NA if moment is None else f"{moment:%Y-%m-%d %H:%M}Z"


def day(unix_s: float | None) -> str:
    """Unix seconds -> ``04 Oct`` (UTC)."""
    moment = _utc(unix_s)
    return NA if moment is None else f"{moment.day:02d} {_MONTHS[moment.month - 1]}"


# strftime's %b follows the locale; an axis must not.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def clock(unix_s: float | None) -> str:
    """Unix seconds -> ``07:00:00`` (UTC)."""
    moment = _utc(unix_s)
    return NA if moment is None else f"{moment:%H:%M:%S}"


class _Safe(dict[int, str]):
    """Code point -> what may be drawn for it, found once for each character."""

    def __missing__(self, code: int) -> str:
        drawn = self[code] = _drawn(chr(code))
        return drawn


def _drawn(char: str) -> str:
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    if code in (0xFE0E, 0xFE0F):
        # Emoji and text style selectors only change widths; without them the character stands for itself.
        return ""
    if (
        unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me", "Mc")
        # Letters from right to left turn whole lines around in terminals that know them: numbers would change place.
        or unicodedata.bidirectional(char) in ("R", "AL", "AN")
        # Flags and skin tones join with their neighbour in some terminals and not in others.
        or 0x1F1E6 <= code <= 0x1F1FF
        or 0x1F3FB <= code <= 0x1F3FF
        or cell_len(char) not in (1, 2)
    ):
        return CONTROL
    return " " if char.isspace() else char


_SAFE = _Safe()


def safe_text(text: str, max_len: int | None = None, *, ascii_only: bool = False) -> str:
    """Any foreign string as one line that can only be drawn: nothing in it moves the cursor or sets a colour.

    Control characters (with newline and ESC) become their pictures (``␊``, ``␛``); bidi and other invisible controls,
    letters that run from right to left, lone combining marks and surrogates become ``�``. The result takes as many
    cells as ``rich.cells.cell_len`` says, at most ``max_len``; a cut ends in ``…``. ``ascii_only`` draws every other
    character as ``?``.
    """
    if max_len is not None and len(text) > 4 * max_len + 64:
        # Composition below can at most shorten the text by the marks of each letter.
        text = text[: 4 * max_len + 64]
        cut = True
    else:
        cut = False
    if not (text.isascii() and text.isprintable()):
        text = unicodedata.normalize("NFC", text).translate(_SAFE)
        if ascii_only:
            text = text.encode("ascii", "replace").decode("ascii")
    if max_len is None:
        return text
    width = len(text) if text.isascii() else cell_len(text)
    if width <= max_len and not cut:
        return text
    if max_len <= 0:
        return ""
    end = "~" if ascii_only else "…"
    return (text[: max_len - 1] if text.isascii() else set_cell_size(text, max_len - 1)) + end
