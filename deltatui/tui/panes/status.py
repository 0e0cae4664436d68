"""The line at the top: is it real money, when, where, in which state."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from textual.widgets import Static

from deltatui.tui import fmt
from deltatui.tui.panes.base import Part, bright, by_sign, content, faint, label, width
from deltatui.tui.panes.health import delegate_text
from deltatui.tui.store import LinkState

if TYPE_CHECKING:
    from datetime import tzinfo

    from deltatui.domain.snapshot import HedgeView, MarketDetail, Snapshot
    from deltatui.tui.store import View

_STATE_STYLE = {
    "RUNNING": "$up",
    "PAUSED": "bold $warn",
    "REDUCING": "bold $warn",
    "RECOVERING": "bold $warn",
    "HALTED": "bold $down",
    "STOPPED": "bold $down",
}
_GAP = 3


def badge(snapshot: Snapshot) -> list[Part]:
    """REPLAY, PAPER, or LIVE with what it may do."""
    engine = snapshot.engine
    word = f"LIVE {engine.live_mode.upper()}" if engine.mode == "live" else engine.mode.upper()
    return [
        Part("▐", f"${engine.mode}"),
        Part(word, f"bold $badge-text on ${engine.mode}"),
        Part("▌", f"${engine.mode}"),
    ]


def speed_text(snapshot: Snapshot) -> str:
    clock = snapshot.clock
    if clock.paused:
        return "paused"
    if clock.tape is not None and clock.tape.ended:
        return "tape ended"
    return f"×{clock.speed}"


def status_parts(view: View, now: float, cells: int, timezone: tzinfo | None) -> list[Part]:
    """The line for ``cells``; what matters least goes first when space is short."""
    shown = view.shown
    moment = view.operator_now(now)
    clock = "--:--:--" if moment is None else datetime.fromtimestamp(moment, timezone).strftime("%H:%M:%S")
    right = [bright(clock)]
    if shown is None:
        word = "connecting" if view.link.state is LinkState.CONNECTING else view.link.state.value
        return _fit([[label("deltatui")], [Part(word, "$warn")]], [], right, cells)
    snapshot, engine = shown.snapshot, shown.snapshot.engine
    when = [bright(fmt.when(snapshot.clock.market_s))]
    if engine.mode == "replay":
        when.append(label(f" {speed_text(snapshot)}"))
    state = [Part(fmt.safe_text(engine.state, 12), _STATE_STYLE.get(engine.state, "bold $warn"))]
    auto = [Part("auto", "$up")] if engine.automation else [Part("Automation: off", "$label")]
    short_auto = [Part("auto", "$up")] if engine.automation else [Part("auto off", "$label")]
    health = snapshot.account.health
    optional = [
        (2, [label(f"{fmt.safe_text(engine.venue, 16)} · {fmt.safe_text(shown.market, 16) or 'no market'}")]),
        (5, [label(f"{engine.clients} client{'s' if engine.clients != 1 else ''}")]),
        (1, blocks(shown.detail)),
        (4, oracle(shown.hedge)),
        (3, [label("health "), by_sign(None if health is None else 1, fmt.NA if health is None else str(health))]),
    ]
    if cells >= 110:
        del optional[-1]
        optional.append((3, plumbing(snapshot)))
    if snapshot.account.delegate:
        optional.append((1, [Part(f"delegate {delegate_text(snapshot.account)}", "bold $mark")]))
    alerts = len(snapshot.alerts)
    if alerts:
        optional.append((0, [Part(f"▲ {alerts} alert{'s' if alerts != 1 else ''}", "bold $down")]))
    if view.link.read_only:
        optional.append((0, [Part("read-only", "bold $warn")]))
    if not view.link.up:
        optional.append((0, [Part("NO ENGINE", "bold $down")]))
    head = [Part("deltatui ", "$label"), *badge(snapshot)]
    fixed = [[*head, Part(" "), *when], [*state, label(" · "), *auto]]
    short = [[*head, Part(" "), *when], [*state, Part(" "), *short_auto]]
    # The small terminal has health in its own pane and room for the short form only.
    return _fit(fixed if cells >= 110 else short, optional, right, cells)


def blocks(detail: MarketDetail | None) -> list[Part]:
    """How many gates refuse the next increase in the selected market."""
    if detail is None:
        return [label("blocks "), faint(fmt.NA)]
    count = sum(not verdict.allowed for verdict in detail.gates)
    return [Part(f"⚑ {count} block{'s' if count != 1 else ''}", "$warn") if count else Part("no blocks", "$label")]


def oracle(hedge: HedgeView | None) -> list[Part]:
    if hedge is None:
        return [label("oracle "), faint(fmt.NA)]
    return [label("oracle "), Part(("~" if hedge.prices.interpolated else "") + fmt.price(hedge.prices.oracle))]


def plumbing(snapshot: Snapshot) -> list[Part]:
    """Wallet, RPC latency, slot and feeds. A tape has no RPC and no feed; where an engine does not tell, they are not
    known."""
    engine, account = snapshot.engine, snapshot.account
    if engine.mode == "replay":
        return [label("wallet "), Part("paper"), label(" · rpc, feeds "), faint("n/a replay")]
    known = account.wallet_quote is not None or bool(account.assets)
    wallet = "paper" if engine.mode == "paper" else "read" if known else None
    rpc = None if engine.rpc_ms is None else f"{fmt.number(engine.rpc_ms, 0)} ms"
    slot = None if engine.slot is None else f"{engine.slot:,}"
    line = [
        part
        for name, value in (("wallet ", wallet), (" · rpc ", rpc), (" · slot ", slot), (" · feeds ", None))
        for part in (label(name), faint(fmt.NA) if value is None else Part(value))
    ]
    if engine.feeds:
        up = sum(feed.up for feed in engine.feeds)
        line[-1] = Part(f"{up} of {len(engine.feeds)}", "$foreground" if up == len(engine.feeds) else "bold $warn")
    return line


def _fit(fixed: list[list[Part]], optional: list[tuple[int, list[Part]]], right: list[Part], cells: int) -> list[Part]:
    gap = _GAP if cells >= 100 else 2
    used = 2 + sum(width(group) + gap for group in fixed) + width(right)
    kept: set[int] = set()
    for index in sorted(range(len(optional)), key=lambda index: optional[index][0]):
        need = width(optional[index][1]) + gap
        if used + need <= cells:
            kept.add(index)
            used += need
    line = [Part(" ")]
    for group in [*fixed, *(optional[index][1] for index in sorted(kept))]:
        line += [*group, Part(" " * gap)]
    fill = max(0, cells - 1 - width(line) - width(right))
    return [*line, Part(" " * fill), *right, Part(" ")]


class StatusLine(Static):
    """One line, drawn when the second or the view changed."""

    def __init__(self, timezone: tzinfo | None) -> None:
        super().__init__(id="status")
        self._timezone = timezone
        self._shown: object = None

    def apply(self, view: View, now: float) -> None:
        moment = view.operator_now(now)
        state = (view.version, None if moment is None else int(moment), self.size.width, self.app.theme)
        if state != self._shown:
            self._shown = state
            self.update(content([status_parts(view, now, self.size.width, self._timezone)]), layout=False)
