"""The main screen: status, banner, panes in three layouts, footer; below 80x24 one sentence."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from deltatui.tui.actions import PANES, Context
from deltatui.tui.commands import Target
from deltatui.tui.keymap import bindings
from deltatui.tui.panes.banner import Banner
from deltatui.tui.panes.charts import EquityPane, FundingPane
from deltatui.tui.panes.delta import DeltaPane
from deltatui.tui.panes.footer import FooterLine
from deltatui.tui.panes.health import HealthPane
from deltatui.tui.panes.liquidations import LiquidationsPane
from deltatui.tui.panes.log import LEVELS, LogPane
from deltatui.tui.panes.market import MarketPane
from deltatui.tui.panes.opportunities import OpportunitiesPane
from deltatui.tui.panes.positions import PositionsPane
from deltatui.tui.panes.status import StatusLine
from deltatui.tui.panes.why import WhyPane
from deltatui.tui.widgets.grid import LiveGrid
from deltatui.tui.widgets.logview import LogView

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    from textual import events
    from textual.app import ComposeResult
    from textual.geometry import Offset

    from deltatui.domain.snapshot import OpportunityView, PositionView, Snapshot
    from deltatui.tui.commands import Operator
    from deltatui.tui.panes.base import Pane
    from deltatui.tui.store import Store, View

MIN_WIDTH, MIN_HEIGHT = 80, 24
_WIDE = (160, 45)
_MEDIUM = (120, 35)


def layout_class(width: int, height: int) -> str:
    """The style class of a terminal's size."""
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return "-tiny"
    for name, (least_width, least_height) in (("-wide", _WIDE), ("-medium", _MEDIUM)):
        if width >= least_width and height >= least_height:
            return name
    return "-small"


def too_small(width: int, height: int) -> str:
    return f"deltatui needs a terminal of {MIN_WIDTH}x{MIN_HEIGHT}; this one is {width}x{height}."


def perp_market(market: str, snapshot: Snapshot) -> str:
    """The perp market that a row belongs to: the spot leg ``wBTC`` is a leg of ``BTC-PERP``."""
    return next((hedge.market for hedge in snapshot.hedges if hedge.base_symbol == market), market)


class MainScreen(Screen[None], inherit_bindings=False):
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(Context.EVERYWHERE, Context.MAIN)]
    AUTO_FOCUS = "#positions"

    def __init__(self, clock: Callable[[], float], *, ascii_only: bool, timezone: tzinfo | None) -> None:
        super().__init__()
        self._clock = clock
        self._ascii = ascii_only
        self._timezone = timezone
        self._mode = ""
        self._zoomed: str | None = None
        self._ticks = 0

    def compose(self) -> ComposeResult:
        yield Static("", id="too-small")
        yield StatusLine(self._timezone)
        yield Banner()
        # In the order of the grid's cells.
        panes = (
            HealthPane,
            PositionsPane,
            WhyPane,
            DeltaPane,
            OpportunitiesPane,
            MarketPane,
            FundingPane,
            EquityPane,
            LiquidationsPane,
            LogPane,
        )
        yield Container(*(pane(self._clock, self._ascii) for pane in panes), id="panes")
        yield FooterLine()

    @property
    def operator(self) -> Operator:
        operator: Operator = self.app.operator  # type: ignore[attr-defined]
        return operator

    @functools.cached_property
    def panes(self) -> list[Pane]:
        """In the order of the tab key."""
        return [self.pane(number) for number, _ in PANES]

    @functools.cached_property
    def _grids(self) -> list[LiveGrid]:
        return list(self.query(LiveGrid))

    def pane(self, number: str) -> Pane:
        pane: Pane = self.query_one(f"#pane-{number}")  # type: ignore[assignment]
        return pane

    @property
    def log_view(self) -> LogView:
        return self.query_one(LogView)

    def action_do(self, action_id: str) -> None:
        """Run an action of the registry by its id."""
        self.operator.do(action_id)

    # Size

    def on_resize(self, event: events.Resize) -> None:
        self._lay_out(event.size.width, event.size.height)

    def _lay_out(self, width: int, height: int) -> None:
        wanted = layout_class(width, height)
        for name in ("-tiny", "-small", "-medium", "-wide"):
            self.set_class(name == wanted, name)
        if wanted == "-tiny":
            self.query_one("#too-small", Static).update(Content(too_small(width, height)))

    # The tick

    def tick(self, store: Store, now: float, *, force: bool, frozen: bool) -> None:
        """Hand the view to what is visible. ``frozen`` while a dialog is open: tables keep their order."""
        view = store.view
        self._ticks += 1
        lines, dropped = store.take_lines()
        if lines or dropped:
            self.query_one(LogPane).add(lines, dropped)
        self._show_mode(view)
        self.query_one(StatusLine).apply(view, now)
        self.query_one(Banner).apply(view, now, self.operator.keymap.display("dismiss"))
        for grid in self._grids:
            grid.freeze = frozen
            grid.tick(now)
        for pane in self.panes:
            # A pane that has drawn nothing yet does not wait for its turn.
            due = force or self._ticks % pane.EVERY == 0 or pane.view is None
            if pane.is_on_screen and pane.display and due:
                pane.apply(view, now)
        operator = self.operator
        target = self.target(view)
        # Reasons are about what has the focus now; a snapshot with the same content changes none.
        stamp = (view.version, view.stale(now), operator.running, target.market_of("leave"))
        self.query_one(FooterLine).apply(
            operator.keymap, lambda action: operator.why_not(action, target), operator.label_of, stamp
        )

    def _show_mode(self, view: View) -> None:
        mode = view.snapshot.engine.mode if view.snapshot is not None else ""
        if mode != self._mode:
            self._mode = mode
            for name in ("replay", "paper", "live"):
                self.set_class(name == mode, f"-{name}")

    # What actions ask

    def zoom(self, number: str | None) -> bool:
        """Show a pane alone, or all again for None or the pane that is shown alone. False if nothing changed."""
        target = None if number == self._zoomed else number
        if target == self._zoomed:
            return False
        self._zoomed = target
        self.set_class(target is not None, "-zoom")
        for pane in self.panes:
            pane.set_class(target == pane.NUMBER, "-zoomed")
        if target is not None:
            self.focus_number(target)
        self.call_after_refresh(self.app.tick_soon)  # type: ignore[attr-defined]
        return True

    def _focus_in(self, pane: Pane) -> bool:
        """Focus what can be moved in inside ``pane``; False where nothing can."""
        inside = pane.inside()
        if inside is not None:
            inside.focus()
        return inside is not None

    def focus_number(self, number: str) -> None:
        """Focus a pane, whether or not it has something to move in."""
        pane = self.pane(number)
        if not self._focus_in(pane):
            pane.focus()

    def places(self) -> list[tuple[str, Offset]]:
        """Number and upper left corner of each pane on the screen."""
        return [(pane.NUMBER, pane.region.offset) for pane in self.panes if pane.display and pane.is_on_screen]

    def focused_grid(self) -> LiveGrid | None:
        return self.focused if isinstance(self.focused, LiveGrid) else None

    def next_picture(self) -> None:
        """Switch pane 9; where it is not on the screen, show it first."""
        pane = self.query_one(LiquidationsPane)
        if not pane.display:
            self.zoom(pane.NUMBER)
            return
        held = pane.has_focus_within
        pane.switch()
        pane.apply(self.operator.view, self._clock())
        if held:
            self.call_after_refresh(self.focus_number, pane.NUMBER)

    def on_live_grid_activated(self, event: LiveGrid.Activated) -> None:
        """Enter on a row selects its market; where that is selected already, the pane is shown alone."""
        event.stop()
        view = self.operator.view
        row = self._row(event.grid, event.key, view.snapshot)
        pane = self._focused_pane()
        if view.snapshot is not None and row is not None:
            market = perp_market(row.market, view.snapshot)
            if market != view.market:
                self.operator.select(market)
                return
        if pane is not None:
            pane.action_show_alone()

    def focus_pane(self, step: int) -> None:
        """Focus the next pane that has something to move in; where one is shown alone, show its neighbour."""
        numbers = [number for number, _ in PANES]
        if self._zoomed is not None:
            self.zoom(numbers[(numbers.index(self._zoomed) + step) % len(numbers)])
            return
        here = self._focused_pane()
        at = numbers.index(here.NUMBER) if here is not None else -step
        for offset in range(1, len(numbers) + 1):
            pane = self.pane(numbers[(at + step * offset) % len(numbers)])
            if pane.display and self._focus_in(pane):
                return

    def _focused_pane(self) -> Pane | None:
        return next((pane for pane in self.panes if pane.has_focus_within), None)

    def focused_name(self) -> str:
        pane = self._focused_pane()
        return pane.NAME if pane is not None else ""

    def target(self, view: View) -> Target:
        """What a key pressed now is about: the selected market, and the row under the cursor of the focused table."""
        snapshot, grid = view.snapshot, self.focused
        if snapshot is None:
            return Target("", 0)
        target = Target(view.market, snapshot.version)
        if not isinstance(grid, LiveGrid):
            return target
        row = self._row(grid, grid.cursor_key, snapshot)
        if row is not None:
            market = perp_market(row.market, snapshot)
            return replace(target, position=market) if grid.id == "positions" else replace(target, candidate=market)
        lost = grid.lost_key if grid.cursor_key is None else grid.cursor_key
        # An empty table has no row to choose: it is about the selected market, if the lost row was.
        if lost is None or (not grid.total and perp_market(lost, snapshot) == view.market):
            return target
        return replace(target, lost_position=lost) if grid.id == "positions" else replace(target, lost=lost)

    def _row(self, grid: LiveGrid, key: str | None, snapshot: Snapshot | None) -> PositionView | OpportunityView | None:
        """The row of a table by its key, as the snapshot has it."""
        if snapshot is None or key is None:
            return None
        rows = snapshot.positions if grid.id == "positions" else snapshot.opportunities
        return next((row for row in rows if row.key == key), None)

    def selected_text(self) -> str | None:
        """The focused row or log line as text."""
        focused = self.focused
        if isinstance(focused, LogView):
            return focused.copy_line()
        snapshot = self.operator.view.snapshot
        if isinstance(focused, LiveGrid):
            row = self._row(focused, focused.cursor_key, snapshot)
            if row is not None:
                return "  ".join(f"{name}={getattr(row, name)}" for name in row.__struct_fields__)
        return None

    def dismiss_banner(self) -> None:
        if self.query_one(Banner).alerts.dismiss(self.operator.view, self._clock()):
            self.app.tick_soon()  # type: ignore[attr-defined]

    def cycle_log_level(self) -> None:
        log = self.log_view
        now = log.status.minimum
        log.set_minimum(LEVELS[(LEVELS.index(now) + 1) % len(LEVELS)] if now in LEVELS else LEVELS[0])
        self.app.tick_soon()  # type: ignore[attr-defined]
