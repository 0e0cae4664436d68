"""Panes 7 and 8: funding and equity over the last thirty days, with what standing aside would have been worth."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Pane, Part, by_sign, faint, joined, label, width
from deltatui.tui.widgets.chart import BrailleChart, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import HistoryView, MarketHistory
    from deltatui.tui.store import Shown, View

Points = tuple[tuple[float, float], ...]

HOUR_S = 3600.0
MAX_SLOTS = 720
LOADING = "waiting for the first history"


def slots(points: Points, start: float, step: float, count: int) -> list[float | None]:
    """``points`` on ``count`` evenly spaced moments from ``start``; the later of two in one slot, None in a gap."""
    out: list[float | None] = [None] * count
    for moment, value in points:
        at = int((moment - start) / step + 0.5)
        if 0 <= at < count:
            out[at] = value
    return out


def grid_of(points: Points, step: float = HOUR_S) -> tuple[float, float, int]:
    """Start, step and number of the slots that hold ``points``: ``step`` apart, at most MAX_SLOTS."""
    start, end = points[0][0], points[-1][0]
    step = max(step, (end - start) / (MAX_SLOTS - 1))
    return start, step, int((end - start) / step + 0.5) + 1


def x_labels(start: float, end: float, cells: int) -> list[tuple[float, str]]:
    """Days, or hours of a short span, under the chart; the right end is ``now``."""
    if end <= start:
        return [(1.0, "now")]
    marks = max(1, min(5, cells // 14))
    out = []
    for index in range(marks):
        moment = start + (end - start) * index / marks
        out.append((index / marks, fmt.day(moment) if end - start > 2 * 86_400 else fmt.clock(moment)[:5]))
    return [*out, (1.0, "now")]


def span(points: Points) -> str:
    """How far back ``points`` reach: ``30 d``, ``5 h``."""
    return fmt.age(points[-1][0] - points[0][0] + 1.5 * HOUR_S) if points else fmt.NA


def tenth(value: float | None) -> str:
    """``-10.2`` for the axis of a chart whose title has the unit; no decimals from 1,000."""
    return fmt.NA if value is None else fmt.signed(value, 1 if abs(value) < 999.95 else 0)


def dollars(value: float | None) -> str:
    return fmt.number(value, 2 if value is not None and abs(value) < 99_999.995 else 0)


class ChartPane(Pane):
    """Drawn at 0.5 Hz from the history, which is younger or older than the snapshot."""

    EVERY: ClassVar[int] = 8

    def stamp(self, view: View) -> object:
        return view.history_version, view.market

    def tail(self, view: View, now: float) -> Part:
        if self.old(view, now):
            return Part(f"{fmt.age(view.age_s(now))} old", "$label")
        points = self.points(view.history) if view.history is not None else ()
        return Part(span(points), "$label") if points else faint(fmt.NA)

    def points(self, history: HistoryView) -> Points:
        """The series that gives the pane its span."""
        raise NotImplementedError

    @property
    def history(self) -> HistoryView | None:
        return self.view.history if self.view is not None else None

    @property
    def market_history(self) -> MarketHistory | None:
        """Of the selected market; None where there is none yet."""
        return self.history.market(self.market) if self.history is not None else None

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        chart = self.query_one(BrailleChart)
        chart.set_series(())
        chart.set_empty("".join(part.text for part in lines[0]))
        self.query_one(Body).display = False


class FundingPane(ChartPane):
    NUMBER: ClassVar[str] = "7"
    NAME: ClassVar[str] = "Funding, % APR"
    OF_MARKET: ClassVar[bool] = True

    def compose(self) -> ComposeResult:
        yield BrailleChart(
            formatter=tenth, label_width=6, value_width=7, include_zero=True, ascii_only=self.ascii_only, id="funding"
        )
        yield Body(id="funding-words")

    def points(self, history: HistoryView) -> Points:
        return self.market_history.funding if self.market_history is not None else ()

    def draw(self, shown: Shown, now: float) -> None:
        chart, words = self.query_one(BrailleChart), self.query_one(Body)
        points = self.points(self.history) if self.history is not None else ()
        if not points:
            chart.set_series(())
            chart.set_empty(LOADING if self.history is None else "no funding record yet")
            words.display = False
            return
        start, step, count = grid_of(points)
        values = slots(points, start, step, count)
        chart.set_series(
            [Series("funding", values, "accent", area=True)], x_labels(start, points[-1][0], self.inner - 15)
        )
        # In its place among the others the chart speaks for itself.
        words.display = self.rows >= 7
        if words.display:
            words.show([funding_words(points, self.inner)])


def mean_since(points: Points, seconds: float) -> float | None:
    """Mean of the points younger than ``seconds`` before the last one."""
    recent = [value for moment, value in points if moment > points[-1][0] - seconds]
    return sum(recent) / len(recent) if recent else None


def funding_words(points: Points, cells: int) -> list[Part]:
    """The means that the eye cannot take from a curve, and how often a short received."""

    def mean(name: str, days: int) -> list[Part]:
        value = mean_since(points, days * 86_400)
        return [label(f"{name} "), by_sign(value, tenth(value))]

    received = sum(value > 0 for _, value in points)
    share = [label("short receives "), Part(f"{100 * received / len(points):.0f} %"), label(" of hours")]
    groups = [[label("mean "), *mean("24 h", 1)], mean("7 d", 7), mean("30 d", 30), share]
    return joined(groups, cells, gap=2)


class EquityPane(ChartPane):
    NUMBER: ClassVar[str] = "8"
    NAME: ClassVar[str] = "Equity, $"

    def compose(self) -> ComposeResult:
        yield BrailleChart(formatter=dollars, label_width=9, value_width=9, ascii_only=self.ascii_only, id="equity")
        yield Body(id="equity-words")

    def points(self, history: HistoryView) -> Points:
        return history.equity

    def draw(self, shown: Shown, now: float) -> None:
        chart, words = self.query_one(BrailleChart), self.query_one(Body)
        history = self.history
        if history is None or not history.equity:
            chart.set_series(())
            chart.set_empty(LOADING if history is None else "no point yet: one comes with each funding record")
            words.display = False
            return
        start, step, count = grid_of(history.equity)
        series = [Series("", slots(history.equity, start, step, count), "accent")]
        short = self.market_history.always_short if self.market_history is not None else ()
        if short:
            series.append(Series("", slots(short, start, step, count), "warn"))
        if history.flat is not None:
            series.append(Series("", [history.flat] * count, "muted"))
        chart.set_series(series, x_labels(start, history.equity[-1][0], self.inner - 20))
        words.display = True
        words.show([equity_words(history, self.market, self.inner, ascii_only=self.ascii_only)])


def equity_words(history: HistoryView, market: str, cells: int, *, ascii_only: bool = False) -> list[Part]:
    """Which line is which, and by how much the equity beats each; always-short is that of ``market``."""
    equity = history.equity[-1][1]
    found = history.market(market)
    short = found.always_short[-1][1] if found is not None and found.always_short else None
    name = fmt.safe_text(market, 12).removesuffix("-PERP")

    # As the chart draws its first, second and third line.
    solid, dashed, dotted = ("***", "+++", "ooo") if ascii_only else ("───", "─ ─", "· ·")

    def against(line: str, style: str, name: str, other: float | None) -> list[Part]:
        if other is None:
            return [Part(f"{line} ", style), label(f"{name} "), faint(fmt.NA)]
        ahead = equity - other
        return [
            Part(f"{line} ", style),
            label(f"{name} "),
            Part(dollars(other)),
            Part(" "),
            by_sign(ahead, fmt.signed(ahead)),
        ]

    head = [[Part(f"{solid} ", "$mark"), label("equity")], against(dotted, "$label", "flat", history.flat)]
    for policy in ("always-short", "short"):
        groups = [*head, against(dashed, "$warn", f"{policy} {name}".rstrip(), short)]
        if sum(width(group) + 2 for group in groups) - 2 <= cells:
            return joined(groups, cells, gap=2)
    return joined(
        [
            [label("vs flat "), *_ahead(equity, history.flat)],
            [label(f"short {name} ".lstrip()), *_ahead(equity, short)],
        ],
        cells,
        gap=2,
    )


def _ahead(equity: float, other: float | None) -> list[Part]:
    if other is None:
        return [faint(fmt.NA)]
    return [by_sign(equity - other, fmt.signed(equity - other))]
