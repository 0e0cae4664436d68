"""Events: what happened, once, in order. They persist as activity and reach every client."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Level(StrEnum):
    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class Event(msgspec.Struct, frozen=True):
    """``kind`` is a stable word (``order_submitted``, ``order_filled``, ``kill_switch``, ``health_alert`` ...)."""

    kind: str
    level: Level
    message: str
    market_s: float
    operator_s: float
    operation_id: str = ""
    data: dict[str, str] = {}


class LogLine(msgspec.Struct, frozen=True):
    """One line of the log as a client sees it. ``tag`` is the audit tag without brackets (``SAFETY``) or empty;
    ``market_s`` is None for lines that no market time belongs to."""

    sequence: int
    level: Level
    tag: str
    message: str
    operator_s: float
    market_s: float | None = None
