"""Logs: one way in (the Log port), file, stderr and clients out, and nothing secret on any of them.

Every record passes one patcher before any sink sees it: message, fields and exception text are redacted there, and
exceptions are turned into text without local variables. Lines look like

    2026-11-21T01:02:03.456Z WARNING [SAFETY] LEVERAGE blocks TAKE SOL-PERP: 12x, limit 10x | gate=LEVERAGE ...
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from deltatui.api.endpoint import private_folder
from deltatui.domain.event import Level, LogLine
from deltatui.domain.redact import MASK, Redactor, secret_field

if TYPE_CHECKING:
    from loguru import Message, Record

RETENTION_DAYS = 30
MAX_FILE_BYTES = 200_000_000
MAX_FILES_PER_DAY = 3
"""Finished files kept of one day; with the one being written 800 MB, under 1 GB a day (R15.1)."""
MAX_TEXT = 16_000
"""Longest message or stack that is kept, in characters."""

_FORMAT = "{extra[utc]} {level.name}{extra[tag_text]} {message}{extra[field_text]}{extra[stack]}\n"
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: " ", 10: "\\n", 13: "\\r"}
_CONTROL |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


class Logs:
    """What :func:`setup` gives back; calling it logs, as the port ``deltatui.ports.Log`` wants."""

    def __init__(self, redactor: Redactor) -> None:
        self.redact = redactor
        self._sinks: list[int] = []
        self._sequence = itertools.count(1)

    def __call__(self, level: Level, tag: str, message: str, fields: Mapping[str, object] | None = None) -> None:
        """Log one line. An exception among ``fields`` is logged with type, context and stack; ``market_s`` is the
        market time of the line."""
        given = dict(fields or {})
        error = next((value for value in given.values() if isinstance(value, BaseException)), None)
        plain = {name: value for name, value in given.items() if not isinstance(value, BaseException)}
        logger.opt(exception=error).bind(tag=tag, fields=plain).log(str(level), message)

    def to_clients(self, publish: Callable[[LogLine], None], level: str = "DEBUG") -> None:
        """Send every line to ``publish`` on the running event loop, whatever thread logs it."""
        loop = asyncio.get_running_loop()

        def sink(message: Message) -> None:
            line = self._line(message.record)
            try:
                running = asyncio.get_running_loop()
            except RuntimeError:
                running = None
            if running is loop:
                publish(line)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(publish, line)

        self._add(sink, level)

    def close(self) -> None:
        """Remove the sinks; files are flushed and closed."""
        while self._sinks:
            logger.remove(self._sinks.pop())

    def _add(self, sink: Any, level: str, **options: Any) -> None:
        self._sinks.append(
            logger.add(sink, level=level, format=_template, colorize=False, backtrace=False, diagnose=False, **options)
        )

    def _line(self, record: Record) -> LogLine:
        extra = record["extra"]
        return LogLine(
            sequence=next(self._sequence),
            level=Level(record["level"].name),
            tag=extra["tag"],
            message=record["message"],
            operator_s=record["time"].timestamp(),
            market_s=extra["market_s"],
        )


def setup(
    *,
    level: str = "INFO",
    folder: Path | None = None,
    name: str = "engine",
    stderr: bool = False,
    secrets: Iterable[str] = (),
    max_file_bytes: int = MAX_FILE_BYTES,
) -> Logs:
    """Make this process log to ``folder/name.log`` (None: no file) and, if asked, to stderr (headless runs only: the
    terminal draws there). ``secrets`` are values that must never appear. Replaces what was set up before.

    Raises ValidationError if ``folder`` cannot be used.
    """
    logs = Logs(Redactor(secrets))
    logger.remove()
    logger.configure(patcher=lambda record: _patch(record, logs.redact))
    if folder is not None:
        private_folder(folder, close=False)
        logs._add(
            folder / f"{name}.log",
            level,
            rotation=_Rotation(max_file_bytes),
            retention=_expire,
            encoding="utf-8",
            opener=_open_private,
        )
    if stderr:
        logs._add(sys.stderr, level)
    _take_standard_logging(level)
    return logs


class _StandardHandler(logging.Handler):
    """Lines of the standard library's logging (asyncio reports dead tasks there) join the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next((name for name in _LEVELS if logging.getLevelName(name) <= record.levelno), "DEBUG")
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            # The caller's arguments do not fit its format; the line is worth keeping all the same.
            text = str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        logger.opt(exception=error).bind(tag="", fields={"logger": record.name}).log(level, text)


_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


def _take_standard_logging(level: str) -> None:
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _StandardHandler)]
    root.addHandler(_StandardHandler())
    # Other people's libraries talk a lot below WARNING.
    root.setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _template(_record: Record) -> str:
    return _FORMAT


def _patch(record: Record, redact: Redactor) -> None:
    """Make a record safe and ready to print."""
    extra = record["extra"]
    raw: Mapping[str, object] = extra.get("fields") or {name: extra[name] for name in extra if name != "tag"}
    signature = raw.get("tx_signature")
    allowed = (signature,) if isinstance(signature, str) else ()
    fields = {
        name: MASK if secret_field(name) else _tidy(redact(_plain(value), allowed if name == "tx_signature" else ()))
        for name, value in raw.items()
        if name != "market_s"
    }
    market_s = raw.get("market_s")
    tag = _tidy(str(extra.get("tag", "")))
    error = record["exception"]
    stack = ""
    if error is not None and error.value is not None:
        described = traceback.TracebackException.from_exception(error.value, capture_locals=False)
        stack = "\n" + _cut(redact("".join(described.format()).rstrip(), allowed)).translate(_STACK_CONTROL)
    record["exception"] = None
    record["message"] = _tidy(redact(record["message"], allowed))
    extra.clear()
    extra.update(
        tag=tag,
        fields=fields,
        market_s=float(market_s) if isinstance(market_s, (int, float)) else None,
        utc=record["time"].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        tag_text=f" [{tag}]" if tag else "",
        field_text=" | " + " ".join(f"{name}={_quoted(text)}" for name, text in fields.items()) if fields else "",
        stack=stack,
    )


_STACK_CONTROL = {code: text for code, text in _CONTROL.items() if code not in (9, 10)}


def _plain(value: object) -> str:
    """The text of a field. Bytes are never shown: they are keys or transactions."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        items = ((str(name), MASK if secret_field(str(name)) else _plain(item)) for name, item in value.items())
        return json.dumps(dict(items), ensure_ascii=False)
    if isinstance(value, (list, tuple, set, frozenset)):
        return f"[{', '.join(_plain(item) for item in value)}]"
    return str(value)


def _tidy(text: str) -> str:
    """One printable line: no control characters, no direction marks, bounded."""
    return _cut(text.translate(_CONTROL))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text) - MAX_TEXT} characters more)"


def _quoted(text: str) -> str:
    simple = text and not any(character in text for character in ' "=|\\')
    return text if simple else json.dumps(text, ensure_ascii=False)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Rotation:
    """A new file for each UTC day, and earlier if one grows too large."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._day: date | None = None

    def __call__(self, message: Message, file: Any) -> bool:
        today = message.record["time"].astimezone(UTC).date()
        if self._day is None:
            size = os.fstat(file.fileno()).st_size
            written = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC).date()
            self._day = written if size else today
        full = file.tell() + len(message.encode()) > self._max_bytes
        if today == self._day and not full:
            return False
        self._day = today
        return True


def _expire(files: list[str]) -> None:
    """Delete files older than RETENTION_DAYS, and of one day all but the newest MAX_FILES_PER_DAY."""
    oldest = datetime.now(UTC) - timedelta(days=RETENTION_DAYS)
    kept: dict[date, int] = {}
    dated = sorted(((os.stat(file).st_mtime, file) for file in files), reverse=True)
    for written_s, file in dated:
        written = datetime.fromtimestamp(written_s, UTC)
        kept[written.date()] = kept.get(written.date(), 0) + 1
        if written < oldest or kept[written.date()] > MAX_FILES_PER_DAY:
            Path(file).unlink(missing_ok=True)
