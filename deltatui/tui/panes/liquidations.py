"""Pane 9: liquidations by price, open interest, or funding by the hour of the day; the operator switches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from textual.widgets import ContentSwitcher

from deltatui.domain.snapshot import MarketHistory
from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Part, bright, faint, label
from deltatui.tui.panes.charts import LOADING, ChartPane, Points, grid_of, slots, tenth, x_labels
from deltatui.tui.widgets.chart import BrailleChart, Series
from deltatui.tui.widgets.glyphs import fit, width_of
from deltatui.tui.widgets.heatmap import HeatMap
from deltatui.tui.widgets.pricebars import PriceBar, PriceBars

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import HistoryView, LiquidationBucket
    from deltatui.tui.store import Shown, View

LIQUIDATIONS, OPEN_INTEREST, HOURS = "liquidations", "open-interest", "hours"
TITLES = {
    LIQUIDATIONS: "Liquidations by price",
    OPEN_INTEREST: "Open interest",
    HOURS: "Funding by hour, % APR",
}
_SPANS = {LIQUIDATIONS: "6 h", OPEN_INTEREST: "24 h"}
_WHOLE_DAY = 24
_MINUTE_S = 60.0


def why_none(history: HistoryView | None, market: str, kind: str) -> str:
    """Why there is nothing of ``kind`` to draw of ``market``; empty where there is something."""
    if history is None:
        return LOADING
    return why_nothing(history.market(market) or MarketHistory(market), kind)


def why_nothing(history: MarketHistory, kind: str) -> str:
    if kind == HOURS:
        return "" if history.funding else "no funding record yet"
    some, reason = (
        (history.liquidations, history.liquidations_reason)
        if kind == LIQUIDATIONS
        else (history.open_interest, history.open_interest_reason)
    )
    if some:
        return ""
    words = "no liquidations" if kind == LIQUIDATIONS else "no open interest"
    return f"{words}: {fmt.safe_text(reason, 80)}" if reason else f"{words} in this span"


def known(bucket: LiquidationBucket) -> bool:
    return math.isfinite(bucket.price) and math.isfinite(bucket.notional) and bucket.notional >= 0


def by_hour(points: Points, rows: int) -> tuple[list[list[float | None]], list[str], list[str]]:
    """Means by hour of the day (``rows`` of them, UTC) and day; labels of rows and columns."""
    each = _WHOLE_DAY // rows
    first, last = int(points[0][0] // 86_400), int(points[-1][0] // 86_400)
    sums: dict[tuple[int, int], tuple[float, int]] = {}
    for moment, value in points:
        cell = (int(moment % 86_400 // 3600) // each, int(moment // 86_400) - first)
        total, count = sums.get(cell, (0.0, 0))
        sums[cell] = (total + value, count + 1)
    days = range(last - first + 1)
    values = [
        [None if (row, day) not in sums else sums[row, day][0] / sums[row, day][1] for day in days]
        for row in range(rows)
    ]
    row_labels = [f"{row * each:02d}-{(row + 1) * each:02d} h" for row in range(rows)]
    return values, row_labels, [fmt.day((first + day) * 86_400.0) for day in days]


class LiquidationsPane(ChartPane):
    """Shows the first of its three pictures that has data until the operator has chosen one."""

    NUMBER: ClassVar[str] = "9"
    NAME: ClassVar[str] = "Liquidations"

    def __init__(self, clock: Callable[[], float], ascii_only: bool) -> None:
        super().__init__(clock, ascii_only)
        self._chosen: str | None = None

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial=LIQUIDATIONS):
            yield PriceBars(ascii_only=self.ascii_only, id=LIQUIDATIONS)
            yield BrailleChart(
                formatter=fmt.compact_usd, label_width=7, value_width=8, ascii_only=self.ascii_only, id=OPEN_INTEREST
            )
            yield HeatMap(formatter=tenth, label_width=8, ascii_only=self.ascii_only, id=HOURS)
        yield Body(id="pane-9-words")

    @property
    def kind(self) -> str:
        """Which picture is shown."""
        if self._chosen is not None:
            return self._chosen
        return next((kind for kind in TITLES if not self.why_none(kind)), LIQUIDATIONS)

    def why_none(self, kind: str) -> str:
        return why_none(self.history, self.market, kind)

    def switch(self) -> None:
        """The next picture, whether it has data or only a reason."""
        kinds = list(TITLES)
        self._chosen = kinds[(kinds.index(self.kind) + 1) % len(kinds)]
        self._drawn = ()

    @property
    def heading(self) -> str:
        return TITLES[self.kind]

    def headline(self) -> list[Part]:
        """The short name: the title is long."""
        return [bright(f" {fmt.safe_text(self.market, 16).removesuffix('-PERP')}")] if self.market else []

    def stamp(self, view: View) -> object:
        hedge = view.shown.hedge if view.shown is not None else None
        mark = hedge.prices.mark if hedge is not None else None
        return view.history_version, view.market, self.kind, mark if self.kind == LIQUIDATIONS else None

    def tail(self, view: View, now: float) -> Part:
        if self.old(view, now):
            return super().tail(view, now)
        if self.why_none(self.kind):
            return faint(fmt.NA)
        return super().tail(view, now) if self.kind == HOURS else Part(_SPANS[self.kind], "$label")

    def points(self, history: HistoryView) -> Points:
        return self.market_history.funding if self.market_history is not None else ()

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        bars = self.query_one(PriceBars)
        self.query_one(ContentSwitcher).current = LIQUIDATIONS
        bars.set_bars((), None)
        bars.set_empty("".join(part.text for part in lines[0]))
        self.query_one(Body).display = False

    def draw(self, shown: Shown, now: float) -> None:
        history, kind = self.market_history, self.kind
        self.query_one(ContentSwitcher).current = kind
        reason = self.why_none(kind)
        if kind == LIQUIDATIONS:
            bars = self.query_one(PriceBars)
            bars.set_empty(reason)
            found = history.liquidations if history is not None else ()
            mark = shown.hedge.prices.mark if shown.hedge is not None else None
            bars.set_bars([PriceBar(one.price, one.count, one.notional) for one in found if known(one)], mark)
        elif kind == OPEN_INTEREST:
            self._draw_interest(history, reason)
        else:
            self._draw_hours(history, reason)
        self._say()

    def _draw_interest(self, history: MarketHistory | None, reason: str) -> None:
        chart = self.query_one(BrailleChart)
        chart.set_empty(reason)
        points = history.open_interest if history is not None else ()
        if not points:
            chart.set_series(())
            return
        start, step, count = grid_of(points, _MINUTE_S)
        values = slots(points, start, step, count)
        chart.set_series([Series("open interest", values)], x_labels(start, points[-1][0], self.inner - 16))

    def _draw_hours(self, history: MarketHistory | None, reason: str) -> None:
        heat = self.query_one(HeatMap)
        heat.set_empty(reason)
        points = history.funding if history is not None else ()
        if not points:
            heat.set_data(())
            return
        room = self.rows - 3
        heat.set_data(*by_hour(points, next((rows for rows in (24, 12, 8, 6, 4) if rows <= room), 3)))

    def _say(self) -> None:
        """What the other two pictures are, or why the one in this place has nothing."""
        words = self.query_one(Body)
        missing = [self.why_none(kind) for kind in (LIQUIDATIONS, OPEN_INTEREST)] if self.history is not None else []
        here = self._chosen is None and self.kind == HOURS and all(missing)
        words.display = here or self.zoomed
        key = self.screen.operator.keymap.display("picture")  # type: ignore[attr-defined]
        if here:
            hint = f"   {key} switches"
            text = missing[0] + (hint if width_of(missing[0] + hint) <= self.inner else "")
            words.show([[label(fit(text, self.inner).rstrip())]])
        elif words.display:
            others = ", ".join(title[0].lower() + title[1:] for kind, title in TITLES.items() if kind != self.kind)
            words.show([[label(fit(f"{key} switches to {others}", self.inner).rstrip())]])
