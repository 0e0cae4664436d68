"""The notice board: events, standing alerts and audit lines of the engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from deltatui.domain.event import Event, Level
from deltatui.domain.snapshot import AlertView
from deltatui.engine.telling import Teller
from deltatui.ports import Clock, Log


class Board:
    """``unsaved`` are events on their way to the store. ``tell`` is None where nobody reads audit lines."""

    def __init__(
        self,
        clock: Clock,
        log: Log | None,
        on_change: Callable[[], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self.alerts: OrderedDict[str, AlertView] = OrderedDict()
        self.unsaved: list[Event] = []
        self.tell = None if log is None else Teller(log)
        self.changed = on_change
        self._clock = clock
        self._on_event = on_event
        self._said: dict[str, str] = {}

    def emit(self, kind: str, level: Level, message: str, operation_id: str = "") -> None:
        event = Event(kind, level, message, self._clock.market_s(), self._clock.operator_s(), operation_id)
        self.unsaved.append(event)
        self._on_event(event)
        if self.tell is not None:
            self.tell.event(event)

    def emit_once(self, topic: str, kind: str, level: Level, message: str) -> None:
        """Silent while the message of the topic stays the same; an empty message forgets it."""
        if message and message != self._said.get(topic):
            self.emit(kind, level, message)
        self._said[topic] = message

    def alert(self, key: str, level: Level, message: str, kind: str = "alert") -> None:
        """Stands until it is cleared; said again only where it reads otherwise."""
        before = self.alerts.get(key)
        if before is not None and before.message == message:
            return
        now = self._clock.operator_s()
        self.alerts[key] = AlertView(f"{key}@{now:.3f}", level, message, now)
        self.emit(kind, level, message)
        self.changed()

    def restate(self, key: str, level: Level, message: str) -> None:
        """A standing alert has other figures or another level now: it reads otherwise, and nobody is called again."""
        before = self.alerts.get(key)
        if before is not None:
            self.alerts[key] = AlertView(before.id, level, message, before.since_operator_s)
            self.changed()

    def clear(self, key: str) -> None:
        """No-op where no such alert stands."""
        if key in self.alerts:
            alert = self.alerts.pop(key)
            self.emit("alert_cleared", Level.INFO, f"no longer: {alert.message}")
            self.changed()
