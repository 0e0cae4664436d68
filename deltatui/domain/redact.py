"""Keeping secrets out of whatever leaves the process: logs, crash reports, error texts.

Shapes that are secret whoever wrote them (64-byte keys in base58, base64, hex or as a JSON list; credentials in URLs
and headers) and the values of this process's own secrets in every form they could be printed in.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlsplit

MASK = "[redacted]"

_MIN_SECRET = 6
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_NAMES = r"api[-_]?key|apikey|access[-_]?token|auth[-_]?token|token|secret|password|passphrase|private[-_]?key|auth"
_SECRET_FIELD = re.compile(rf"(?:.*[-_.])?(?:{_NAMES}|authorization|mnemonic|seed[-_]?phrase)", re.IGNORECASE)

# Every repetition is bounded where two could share a text: a hostile line must not cost quadratic time.
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    # A solana-keygen file: 64 numbers; 32 of them are already a seed. An error text may hold it as a repr, whose line
    # breaks are the two characters of an escape.
    (re.compile(r"(?:\d{1,3}(?:\s|\\+[nrt]){0,8},(?:\s|\\+[nrt]){0,8}){31,}\d{1,3}"), MASK),
    (re.compile(r"(?:0x)?[0-9a-fA-F]{64,}"), MASK),
    (re.compile(r"[A-Za-z0-9+/_-]{86}=="), MASK),
    # 64 bytes have 64 to 88 digits in base58; addresses and blockhashes (32 bytes) have at most 44.
    (re.compile(rf"[{_BASE58}]{{64,}}"), MASK),
    (
        re.compile(
            r"(\bauthorization\b[\"']?\s{0,8}[:=]\s{0,8}[\"']?)(?:(?:bearer|basic|token)\s{1,8})?"
            r"(?!\[redacted)[^\s\"',;}]+",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\b(bearer|basic)\s{1,8}[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
    (
        re.compile(
            rf"\b((?:[a-z0-9]{{1,32}}[-_]){{0,4}}(?:{_NAMES}))(\s{{0,8}}=\s{{0,8}}|[\"']\s{{0,8}}:\s{{0,8}})"
            r"(?!\[redacted)(?:\"[^\"]*\"|'[^']*'|[^\s\"'&;,)}\]]+)",
            re.IGNORECASE,
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(://)[^/\s:@]{0,256}:[^/\s@]{1,256}@"), rf"\1{MASK}@"),
)
_SIGNATURE = re.compile(rf"[{_BASE58}]{{64,88}}")

# What a report for strangers loses on top: an endpoint's key stands anywhere after its host, and a text that nobody
# wrote for others names its secrets with a colon or a blank, and holds blobs of every kind.
_URL = re.compile(r"\b((?:https?|wss?|redis)://)[^\s\"'<>]+", re.IGNORECASE)
_HOST = re.compile(r"(?:[^@/]*@)?([^/?#]+)")
_QUOTED = r"\"[^\"]*\"|'[^']*'"
_LOOSE: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            rf"\b((?:mnemonic|seed)(?:[-_ ](?:phrase|words))?[\"']?\s{{0,8}}[:=]\s{{0,8}})"
            rf"(?!\[redacted)(?:{_QUOTED}|[^\s\"']+(?:[ \t]{{1,4}}[a-z0-9]{{3,8}}\b){{0,23}})",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (
        re.compile(
            rf"\b((?:[a-z0-9]{{1,32}}[-_]){{0,4}}(?:{_NAMES})[\"']?\s{{0,8}}:\s{{0,8}})"
            rf"(?!\[redacted)(?:{_QUOTED}|[^\s\"']+)",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"\[\s{0,8}(?:\d{1,3}\s{0,8},\s{0,8}){15,}\d{1,3}\s{0,8}\]"), MASK),
    # A digit, or long names of functions would go too.
    (re.compile(r"(?<![A-Za-z0-9+_-])(?=[A-Za-z+_-]*\d)[A-Za-z0-9+_-]{40,}={0,2}"), MASK),
)


class Redactor:
    """Masks secrets in texts. ``allowed`` texts (a transaction signature looks like a key) are kept unless they are
    one of this process's own secrets."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets for form in _forms(secret) if len(form) >= _MIN_SECRET}
        # Longest first, so that a form that contains another is masked as a whole.
        ordered = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(re.escape(form) for form in ordered)) if ordered else None

    def __call__(self, text: str, allowed: Iterable[str] = ()) -> str:
        if self._known is not None:
            text = self._known.sub(MASK, text)
        # Nothing else needs the exemption, and a short text would cut a secret into harmless-looking pieces.
        kept = [value for value in allowed if _SIGNATURE.fullmatch(value)]
        if not kept:
            return _mask_shapes(text)
        parts = re.split("(" + "|".join(re.escape(value) for value in kept) + ")", text)
        return "".join(part if index % 2 else _mask_shapes(part) for index, part in enumerate(parts))


def for_report(text: str) -> str:
    """``text`` for a report that strangers may read: what ``Redactor`` masks, everything of a URL after its host, and
    whatever else could be a secret. Rather too much than too little."""
    text = _mask_shapes(_URL.sub(_host_only, text))
    for shape, mask in _LOOSE:
        text = shape.sub(mask, text)
    return text


def _host_only(match: re.Match[str]) -> str:
    host = _HOST.match(match.string, match.end(1), match.end())
    return f"{match.group(1)}{host.group(1) if host else ''}/{MASK}"


def secret_field(name: str) -> bool:
    """Whether a field of this name is masked whatever its value."""
    return _SECRET_FIELD.fullmatch(name) is not None


def base58_decode(text: str) -> bytes:
    """Bytes of a base58 text. Raises ValueError, which never contains the text."""
    number = 0
    for character in text:
        digit = _BASE58.find(character)
        if digit < 0:
            raise ValueError("not a base58 text")
        number = number * 58 + digit
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes(len(text) - len(text.lstrip("1"))) + body


def base58_encode(data: bytes) -> str:
    number, digits = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = _BASE58[digit] + digits
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + digits


def key_bytes(secret: str) -> bytes | None:
    """The 64 bytes of a Solana secret key in base58 or as a JSON list; None if the text is neither."""
    text = secret.strip()
    try:
        data = bytes(json.loads(text)) if text.startswith("[") else base58_decode(text)
    except (ValueError, TypeError):
        return None
    return data if len(data) == 64 else None


def _forms(secret: str) -> Iterable[str]:
    """Every text that gives ``secret`` away."""
    secret = secret.strip()
    yield from (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1])
    if (key := key_bytes(secret)) is not None:
        for data in (key, key[:32]):
            yield from (base58_encode(data), data.hex(), data.hex().upper(), repr(data)[2:-1])
            encoded = base64.b64encode(data).decode()
            yield from (encoded, quote(encoded, safe=""), base64.urlsafe_b64encode(data).decode())
            yield from (str(list(data)), str(list(data))[1:-1], str(list(data)).replace(" ", ""))
    if "://" in secret:
        # An endpoint's own key stands in its path or query, and errors quote pieces of an address.
        parts = urlsplit(secret)
        yield from (piece for piece in parts.path.split("/") if len(piece) >= 16)
        yield from (value for _, value in parse_qsl(parts.query) if len(value) >= _MIN_SECRET)
        if parts.password:
            yield parts.password


def _mask_shapes(text: str) -> str:
    for shape, mask in _SHAPES:
        text = shape.sub(mask, text)
    return text
