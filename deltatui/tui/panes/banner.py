"""Full-width notices under the status line: the engine is gone, or a standing alert has been raised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.widgets import Static

from deltatui.tui import fmt
from deltatui.tui.panes.base import Part, content, wrapped
from deltatui.tui.store import LinkState
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from deltatui.domain.snapshot import AlertView
    from deltatui.tui.store import View

ALERT_SHOWN_S = 10.0
SILENT_S = 5.0
"""A connected engine that has not published for so long is said to be silent; it publishes every second."""
_RANK = {"CRITICAL": 0, "ERROR": 1, "WARNING": 2}


def link_sentence(view: View, now: float) -> str | None:
    """What is wrong with the link and what happens next; None while all is well or the first try is under way."""
    link, age = view.link, view.age_s(now)
    if link.up and age is not None and age > SILENT_S:
        return (
            f"ENGINE SILENT: connected, but no data for {fmt.age(age)}. No order is sent on old data; the kill switch"
            " still works."
        )
    if link.up or (link.state is LinkState.CONNECTING and view.snapshot is None):
        return None
    wait = None if link.retry_at is None else max(0.0, link.retry_at - now)
    again = "trying now" if wait is None else f"next try in {wait:.0f} s"
    reason = fmt.safe_text(link.reason, 160).rstrip(".")
    if link.state is LinkState.STOPPED:
        return f"ENGINE STOPPED: {reason}. Start it again with deltatui; this terminal attaches by itself ({again})."
    if view.snapshot is None:
        return f"NO ENGINE: {reason}. This terminal attaches by itself as soon as it answers ({again})."
    goes_on = "A live engine goes on trading without this terminal. " if view.snapshot.engine.mode == "live" else ""
    return f"ENGINE GONE: {reason}. {goes_on}Reconnecting by itself ({again}); the figures below are old."


class Alerts:
    """Which alert is shown: each id once, for ALERT_SHOWN_S, or until it is dismissed or no longer stands."""

    def __init__(self) -> None:
        self._first_seen: dict[str, float] = {}
        self._dismissed: set[str] = set()

    def showing(self, view: View, now: float) -> list[AlertView]:
        """Alerts to show now, the gravest first."""
        standing = view.snapshot.alerts if view.snapshot is not None else ()
        ids = {alert.id for alert in standing}
        self._first_seen = {key: seen for key, seen in self._first_seen.items() if key in ids}
        self._dismissed &= ids
        shown = []
        for alert in standing:
            seen = self._first_seen.setdefault(alert.id, now)
            if now - seen < ALERT_SHOWN_S and alert.id not in self._dismissed:
                shown.append(alert)
        return sorted(shown, key=lambda alert: _RANK.get(alert.level, 3))

    def dismiss(self, view: View, now: float) -> bool:
        """Take away what is shown; False if nothing is."""
        shown = self.showing(view, now)
        self._dismissed.update(alert.id for alert in shown)
        return bool(shown)


class Banner(Static):
    """The link's notice before any alert. No line of the screen while there is nothing to say."""

    def __init__(self) -> None:
        super().__init__(id="banner")
        self.alerts = Alerts()
        self._shown: object = None
        self.display = False

    def apply(self, view: View, now: float, dismiss_key: str) -> None:
        cells = max(20, self.app.size.width - 2)
        alerts = self.alerts.showing(view, now)
        sentence = link_sentence(view, now)
        lines: list[list[Part]] = []
        kind = ""
        if sentence is not None:
            kind = "-gone"
            lines = wrapped(sentence, cells, "bold $badge-text", 3)
        elif alerts:
            first = alerts[0]
            kind = "-critical" if _RANK.get(first.level, 3) < 2 else "-warning"
            more = f"   and {len(alerts) - 1} more" if len(alerts) > 1 else ""
            close = f"   {dismiss_key} dismiss"
            text = f"▲ {fmt.safe_text(first.level, 10)}: {fmt.safe_text(first.message)}"
            room = max(10, cells - len(more) - len(close))
            lines = [[Part(fit(text, room) + more + close, "bold $badge-text")]]
        state = (tuple(tuple(line) for line in lines), kind, self.app.theme)
        if state == self._shown:
            return
        self._shown = state
        self.display = bool(lines)
        for name in ("-gone", "-critical", "-warning"):
            self.set_class(name == kind, name)
        self.update(content(lines))
