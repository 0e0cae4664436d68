"""Which tape is of which market: from what a user writes to tapes by symbol.

Each text is ``FILE``, ``SYMBOL=FILE``, or ``SYMBOL`` alone for the tape that comes with deltatui. A file whose name
contains a market's symbol is of that market.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from deltatui.domain.errors import ValidationError
from deltatui.feeds.tape import Tape, load_tape, shipped_tape

_SYMBOL = re.compile(r"[A-Z0-9]+-PERP")


def tapes_from_texts(texts: Iterable[str], markets: Collection[str], nameless: str) -> dict[str, Tape]:
    """Tapes by symbol, in the order of the symbols; ``nameless`` is the market of a single file whose name tells none.

    Raises ValidationError for a symbol that is not among ``markets``, for two tapes of one market, for a file of
    several that tells no market, and for what is no tape."""
    wanted = list(texts)
    tapes: dict[str, Tape] = {}
    for text in wanted:
        symbol, file = _parts(text, markets)
        if not symbol:
            if len(wanted) > 1:
                raise ValidationError(
                    "NAMELESS_TAPE",
                    f"'{text}' does not tell its market; write SYMBOL={text} with one of {', '.join(markets)}",
                )
            symbol = nameless
        if symbol in tapes:
            raise ValidationError("TWO_TAPES", f"there are two tapes of {symbol}; give one for each market")
        tapes[symbol] = shipped_tape(symbol) if file is None else load_tape(file)
    return dict(sorted(tapes.items()))


def shipped_tapes(markets: Iterable[str]) -> dict[str, Tape]:
    return {symbol: shipped_tape(symbol) for symbol in sorted(markets)}


def _parts(text: str, markets: Collection[str]) -> tuple[str, Path | None]:
    """Symbol (empty: not told) and file (None: the shipped one)."""
    symbol, equals, file = text.partition("=")
    if not text or (equals and not file):
        raise ValidationError("BAD_TAPE", f"'{text}' names no tape; a tape is FILE, SYMBOL=FILE or SYMBOL")
    path = Path(text).expanduser()
    meant = "/" not in symbol and Path(file).expanduser().exists() and not path.exists()
    if equals and (_SYMBOL.fullmatch(symbol) or meant):
        _listed(symbol, markets)
        return symbol, Path(file).expanduser()
    if not path.exists() and text.upper() in markets:
        _listed(text, markets)
        return text, None
    named = sorted(set(_SYMBOL.findall(path.name)))
    if len(named) != 1:
        return "", path
    _listed(named[0], markets)
    return named[0], path


def _listed(symbol: str, markets: Collection[str]) -> None:
    if symbol not in markets:
        raise ValidationError("UNKNOWN_MARKET", f"there is no market {symbol}; listed: {', '.join(markets)}")


def absolute(text: str) -> str:
    """The same text for a process with another working directory."""
    symbol, equals, file = text.partition("=")
    if equals and _SYMBOL.fullmatch(symbol):
        return f"{symbol}={Path(file).expanduser().absolute()}"
    path = Path(text).expanduser()
    return str(path.absolute()) if path.exists() or not _SYMBOL.fullmatch(text) else text


def check_same_tapes(tapes: Mapping[str, Tape], kept: Mapping[str, str]) -> dict[str, str]:
    """The tapes' marks for the profile's state: symbol to digest. A market may be added, and one that has no tape now
    keeps its mark. Raises ValidationError where the state was made with another tape of a market."""
    for symbol, tape in tapes.items():
        if kept.get(symbol, tape.digest) != tape.digest:
            raise ValidationError(
                "OTHER_TAPE",
                f"this profile's account was played on another tape of {symbol} than {tape.name}; "
                "use another --profile, or start it anew with --fresh",
            )
    return {**kept, **{symbol: tape.digest for symbol, tape in tapes.items()}}
