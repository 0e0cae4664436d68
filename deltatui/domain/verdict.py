"""A gate's verdict: what was observed, what the limit is, whether it allows (R6)."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class VerdictStatus(StrEnum):
    ALLOWED = "allowed"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"
    """An input is missing: not allowed (fail closed)."""
    NOT_APPLICABLE = "not_applicable"
    """The venue or mode has no such thing; ``reason`` says why."""
    EXEMPT = "exempt"
    """Not judged, because the command only reduces risk (R6.11)."""


class Verdict(msgspec.Struct, frozen=True):
    """``observed`` and ``limit`` are display texts with their units; ``reason`` is one short clause. ``value`` is the
    figure that ``observed`` shows, None where it shows none or it is not kept."""

    code: str
    status: VerdictStatus
    observed: str
    limit: str
    reason: str = ""
    age_s: float | None = None
    value: float | None = None

    @property
    def allowed(self) -> bool:
        return self.status not in (VerdictStatus.BLOCKED, VerdictStatus.UNKNOWN)
