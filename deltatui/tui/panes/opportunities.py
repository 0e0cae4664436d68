"""Pane 5: the funding scan, ranked as the engine sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Pane, Part, bright, by_sign, joined, label
from deltatui.tui.widgets.glyphs import fit, width_of
from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import OpportunityView, Snapshot
    from deltatui.tui.store import Shown
    from deltatui.tui.widgets.palette import StyleName

SELECTED = "●"
HELD = {"CARRY": "C", "REVERSE": "R"}
"""Beside the mark of the selected market; the words stand in a column that narrow screens have no room for."""
COLUMNS = (
    Column("marks", "", 2, marks=False),
    Column("market", "market", 10),
    Column("apr", "APR", 8, "right", priority=1),
    Column("net", "net APR", 8, "right"),
    Column("even", "break-even", 10, "right"),
    Column("day", "24 h", 8, "right", priority=4),
    Column("rate", "rate/h", 9, "right", priority=3),
    Column("rate8", "8 h", 9, "right", priority=5),
    Column("cost", "cost", 8, "right", priority=6),
    Column("oi", "OI", 7, "right", priority=2),
    Column("volume", "24h vol", 8, "right", priority=7),
    Column("side", "side", 6, priority=8),
    Column("held", "held", 7, priority=7),
)
STALE_S = 7200.0
"""No funding record for two hours is the venue's own refusal (R6.7)."""


def _percent(value: float | None, places: int) -> Cell:
    if value is None:
        return Cell(fmt.NA, "muted")
    style: StyleName = "good" if value > 0 else "bad" if value < 0 else ""
    return Cell(fmt.signed(value, places) + "%", style)


def _dollars(value: float | None) -> Cell:
    return Cell(fmt.compact_usd(value), "muted" if value is None else "")


def has_ended(row: OpportunityView, snapshot: Snapshot) -> bool:
    """True where no prices come any more: nothing can be taken there, and what is told is of the last record."""
    hedge = snapshot.hedge(row.market)
    return hedge is not None and hedge.ended


def break_even(row: OpportunityView, snapshot: Snapshot) -> str:
    """Without hours from a hundred days on: nobody waits for them, and the column is narrow."""
    if has_ended(row, snapshot):
        return "ended"
    if row.break_even_h is not None and row.break_even_h >= 2_400:
        return f"{row.break_even_h / 24:,.0f} d"
    return fmt.hours(row.break_even_h, never=row.break_even_h is None and row.net_apr_pct is not None)


def opportunity_row(row: OpportunityView, shown: Shown) -> Row:
    """With a mark where it is the selected market, and what is held of it."""
    hedge = shown.snapshot.hedge(row.market)
    stance = hedge.carry.stance if hedge is not None and hedge.carry.stance in HELD else ""
    selected = SELECTED if row.market == shown.market else " "
    return Row(
        row.key,
        {
            "marks": Cell(selected + HELD.get(stance, ""), "accent"),
            "held": Cell(stance.lower(), "bright"),
            "market": Cell(row.market, "bright"),
            "apr": _percent(row.apr_pct, 1),
            "net": _percent(row.net_apr_pct, 1),
            "even": break_even(row, shown.snapshot),
            "day": _percent(row.day_apr_pct, 1),
            "rate": _percent(row.rate_hour_pct, 4),
            "rate8": _percent(row.rate_8h_pct, 4),
            "cost": Cell(fmt.NA, "muted") if row.entry_cost_bps is None else f"{fmt.number(row.entry_cost_bps, 1)} bp",
            "oi": _dollars(row.open_interest),
            "volume": _dollars(row.volume_24h),
            "side": row.side,
        },
        {
            "apr": row.apr_pct,
            "net": row.net_apr_pct,
            "even": row.break_even_h,
            "day": row.day_apr_pct,
            "rate": row.rate_hour_pct,
            "rate8": row.rate_8h_pct,
            "cost": row.entry_cost_bps,
            "oi": row.open_interest,
            "volume": row.volume_24h,
        },
    )


class OpportunitiesPane(Pane):
    NUMBER: ClassVar[str] = "5"
    NAME: ClassVar[str] = "Opportunities"
    EVERY: ClassVar[int] = 2
    STALE_AFTER_S: ClassVar[float | None] = STALE_S

    def compose(self) -> ComposeResult:
        yield LiveGrid(COLUMNS, empty="connecting", ascii_only=self.ascii_only, clock=self.clock, id="opportunities")
        yield Body(id="totals")

    def data_age_s(self, shown: Shown) -> float | None:
        """Of the oldest row that is still told of. A tape runs at its own speed: there only a record that is missing
        tells anything."""
        snapshot = shown.snapshot
        told = [row.age_s for row in snapshot.opportunities if not has_ended(row, snapshot)]
        oldest = max((age_s for age_s in told if age_s is not None), default=None)
        if oldest is not None and oldest <= STALE_S and snapshot.engine.mode == "replay":
            return None
        return oldest

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        grid = self.query_one(LiveGrid)
        grid.set_rows(())
        grid.set_empty("".join(part.text for part in lines[0]))
        self.query_one(Body).show(())

    def draw(self, shown: Shown, now: float) -> None:
        rows = shown.snapshot.opportunities
        grid = self.query_one(LiveGrid)
        grid.set_empty("no market has been scanned yet")
        grid.set_rows(opportunity_row(row, shown) for row in rows)
        totals = totals_line([row for row in rows if not has_ended(row, shown.snapshot)], self.inner)
        room = self.zoomed or (self.rows >= 11 and self.inner >= 60 and len(rows) <= 4)
        best = [*card_lines(rows[:3], shown.snapshot, self.inner), []] if rows and room else []
        self.query_one(Body).show([*best, totals])


def card_lines(rows: Sequence[OpportunityView], snapshot: Snapshot, cells: int) -> list[list[Part]]:
    """The best markets as cards of four lines: name, net APR, APR now, break-even."""
    each = max(18, min(36, cells // 3 - 2))

    def line(name: str, value: Part) -> list[Part]:
        room = max(0, each - width_of(name) - 1)
        return [label(name + " "), Part(fit(value.text, room, "right"), value.style), Part("  ")]

    lines: list[list[Part]] = [[], [], [], []]
    for rank, row in enumerate(rows, 1):
        lines[0] += [bright(fit(f"{rank}. {fmt.safe_text(row.market, each - 4)}", each + 2))]
        lines[1] += line("net APR", by_sign(row.net_apr_pct, fmt.apr(row.net_apr_pct)))
        lines[2] += line("APR now", by_sign(row.apr_pct, fmt.apr(row.apr_pct)))
        lines[3] += line("break-even", Part(break_even(row, snapshot)))
    return lines


def totals_line(rows: Sequence[OpportunityView], cells: int) -> list[Part]:
    """Sums over the markets that have the figure, and how many those are when not all."""

    def total(name: str, values: list[float | None]) -> list[Part]:
        known = [value for value in values if value is not None]
        if not known:
            return [label(f"{name} "), Part(fmt.NA, "$faint")]
        part = "" if len(known) == len(values) else f" ({len(known)} of {len(values)})"
        return [label(f"{name} "), Part(fmt.compact_usd(sum(known)), "$bright"), label(part)]

    if not rows:
        return []
    rates = [row.apr_pct for row in rows if row.apr_pct is not None]
    mean = sum(rates) / len(rates) if rates else None
    return joined(
        [
            [label("average "), by_sign(mean, fmt.apr(mean)), label(" APR")],
            total("OI", [row.open_interest for row in rows]),
            total("24h volume", [row.volume_24h for row in rows]),
        ],
        cells,
    )
