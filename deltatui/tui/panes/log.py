"""Pane 0: the log, with level, filter, search and follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Pane, Part, faint, label
from deltatui.tui.widgets.logview import LogRecord, LogView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.event import LogLine
    from deltatui.tui.store import Shown, View

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
"""The lowest level shown, in the order of the level key."""


def record(line: LogLine) -> LogRecord:
    """Market time where the line has one, else the operator's."""
    moment = line.market_s if line.market_s is not None else line.operator_s
    return LogRecord(line.sequence, line.level.value, line.tag, line.message, fmt.clock(moment))


class LogPane(Pane):
    NUMBER: ClassVar[str] = "0"
    NAME: ClassVar[str] = "Log"
    EVERY: ClassVar[int] = 1

    def compose(self) -> ComposeResult:
        yield LogView(ascii_only=self.ascii_only, id="log")

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    def on_mount(self) -> None:
        self.log_view.set_minimum("INFO")

    def add(self, lines: Sequence[LogLine], dropped: int) -> None:
        """Take the lines of one tick; a gap is said where it is."""
        records = [record(line) for line in lines]
        if dropped:
            at = records[0] if records else None
            records.insert(
                0,
                LogRecord(
                    at.sequence if at else 0,
                    "WARNING",
                    "",
                    f"{dropped} lines were lost here: this terminal read too slowly; the engine's log file has them",
                    at.time if at else "",
                ),
            )
        if records:
            self.log_view.append_many(records)

    def headline(self) -> list[Part]:
        status = self.log_view.status
        parts = [label("  follow" if status.follow else "  stopped"), label(f"  level {status.minimum}")]
        if status.wrap:
            parts.append(label("  wrap"))
        if status.filter:
            parts.append(
                Part(f"  filter {fmt.safe_text(status.filter, 24)} ({status.shown} of {status.total})", "$mark")
            )
        if status.search:
            parts.append(Part(f"  search {fmt.safe_text(status.search, 24)}", "$mark"))
        if status.error:
            parts.append(Part(f"  {fmt.safe_text(status.error, 60)}", "$warn"))
        return parts

    def tail(self, view: View, now: float) -> Part:
        status = self.log_view.status
        return (
            faint("newest") if status.follow else Part(f"+{status.new:,} new", "bold $mark" if status.new else "$label")
        )

    def old(self, view: View, now: float) -> bool:
        """Log lines are history: they do not grow stale."""
        return False

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        """An empty log says so itself."""

    def draw(self, shown: Shown, now: float) -> None:
        """Lines come by :meth:`add`."""
