"""Pane 2: what is held, one row a leg, and where the equity came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Pane, Part, bright, by_sign, faint, joined, label, width
from deltatui.tui.panes.health import NEAR_PCT, account_age_s, liq_text
from deltatui.tui.widgets.glyphs import fit
from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row
from deltatui.tui.widgets.rows import fit_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import AttributionView, PositionView, Snapshot
    from deltatui.tui.store import Shown
    from deltatui.tui.widgets.palette import StyleName

COLUMNS = (
    Column("market", "market", 9),
    Column("side", "side", 6),
    Column("size", "size", 8, "right"),
    Column("entry", "entry", 8, "right", priority=3),
    Column("mark", "mark", 8, "right"),
    Column("upnl", "uPnL", 8, "right"),
    Column("funding", "funding", 8, "right", priority=1),
    Column("liq", "liq", 8, "right", priority=2),
    Column("away", "to liq", 8, "right", priority=1),
    Column("notional", "notional", 11, "right", priority=4),
    Column("unsettled", "unsettled", 9, "right", priority=5),
    Column("settled", "settled", 9, "right", priority=6),
    Column("total", "total PnL", 9, "right", priority=7),
)
DASH = "-"
FOREIGN = "*"
"""Behind the side of a position in a market that the engine does not carry."""


def signed_cell(value: float | None, *, missing: str = fmt.NA) -> Cell:
    if value is None:
        return Cell(missing, "muted")
    style: StyleName = "good" if value > 0 else "bad" if value < 0 else ""
    return Cell(fmt.signed(value), style)


def price_text(price: float | None) -> str:
    """Within the column up to a million."""
    return fmt.price(price, 0 if price is not None and abs(price) >= 100_000 else None)


def away_cell(position: PositionView, missing: str) -> Cell:
    """How far the price is from the leg's liquidation, signed, in at most eight cells: ``+26,345%``, ``+155K%``; a near
    one with a sign of its own."""
    distance = position.liq_distance_pct
    if distance is None:
        return Cell(missing, "muted")
    text = fmt.pct(distance, 0 if abs(distance) >= 100 else 1, plus=True).replace(" %", "%")
    if abs(distance) >= 99_999.5:
        text = f"{'+' if distance > 0 else ''}{fmt.compact(distance)}%"
    return Cell(f"!{text}", "bad") if abs(distance) < NEAR_PCT else Cell(text)


def position_row(position: PositionView) -> Row:
    spot = position.side in ("spot", "borrow")
    missing = DASH if spot else fmt.NA
    return Row(
        position.key,
        {
            "market": Cell(position.market, "bright"),
            "side": Cell(f"{position.side}{FOREIGN}", "muted") if position.foreign else position.side,
            "size": Cell(fmt.amount(abs(position.size)), "bright"),
            "entry": price_text(position.entry_price),
            "mark": price_text(position.mark_price),
            "upnl": signed_cell(position.unrealized_pnl),
            "funding": signed_cell(position.funding, missing=missing),
            "liq": Cell(missing, "muted") if position.liq_price is None else liq_text(position.liq_price),
            "away": away_cell(position, missing),
            "notional": fmt.usd(position.notional),
            "unsettled": signed_cell(position.unsettled_pnl, missing=missing),
            "settled": signed_cell(position.settled_pnl, missing=missing),
            "total": signed_cell(position.total_pnl, missing=missing),
        },
        {
            "size": abs(position.size),
            "entry": position.entry_price,
            "mark": position.mark_price,
            "upnl": position.unrealized_pnl,
            "funding": position.funding,
            "liq": position.liq_price,
            "away": None if position.liq_distance_pct is None else abs(position.liq_distance_pct),
            "notional": position.notional,
            "unsettled": position.unsettled_pnl,
            "settled": position.settled_pnl,
            "total": position.total_pnl,
        },
    )


class PositionsPane(Pane):
    NUMBER: ClassVar[str] = "2"
    NAME: ClassVar[str] = "Positions"
    EVERY: ClassVar[int] = 1

    def compose(self) -> ComposeResult:
        yield LiveGrid(COLUMNS, empty="connecting", ascii_only=self.ascii_only, clock=self.clock, id="positions")
        yield Body(id="totals")

    def data_age_s(self, shown: Shown) -> float | None:
        return account_age_s(shown.snapshot)

    def headline(self) -> list[Part]:
        snapshot = self.view.snapshot if self.view is not None else None
        foreign = snapshot is not None and any(position.foreign for position in snapshot.positions)
        return [label(f"  {FOREIGN} not ours, left alone")] if foreign else []

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        grid = self.query_one(LiveGrid)
        grid.set_rows(())
        grid.set_empty("".join(part.text for part in lines[0]))
        self.query_one(Body).show(())

    def draw(self, shown: Shown, now: float) -> None:
        snapshot = shown.snapshot
        grid = self.query_one(LiveGrid)
        grid.set_empty("no positions: flat" if snapshot.account.health is not None else "positions not known")
        grid.set_rows(position_row(position) for position in snapshot.positions)
        totals = self.query_one(Body)
        # The small layout has no line to spare.
        totals.display = self.rows >= 6
        if self.zoomed:
            hidden = hidden_lines(snapshot.positions, grid.size.width, self.inner)
            totals.show([*hidden, *attribution_lines(snapshot, self.inner)])
        elif totals.display:
            totals.show(totals_lines(snapshot, self.inner, 2 if self.rows >= 8 else 1))


def hidden_lines(positions: Sequence[PositionView], grid_cells: int, cells: int) -> list[list[Part]]:
    """For each leg the columns that the table has no room for; nothing where it shows all."""
    shown = {column.id for column in fit_columns(COLUMNS, grid_cells - 2)}
    missing = [column for column in COLUMNS if column.id not in shown]
    if not missing:
        return []
    lines = []
    for position in positions:
        row = position_row(position)
        groups = [[bright(fit(fmt.safe_text(position.market, 12), 12))]]
        for column in missing:
            cell = row.cells[column.id]
            groups.append([label(f"{column.title} "), Part(cell if isinstance(cell, str) else cell.text)])
        lines.append(joined(groups, cells, gap=2))
    return [*lines, []]


def net_parts(name: str, net: float | None, base: str) -> list[Part]:
    """``net +0.0500 SOL``."""
    return [label(f"{name} "), bright(f"{fmt.signed(net, 4)} {base}" if net is not None else fmt.NA)]


def nets(snapshot: Snapshot) -> list[list[Part]]:
    """The account's exposure to the asset of each market that it has some in."""
    open_ = [hedge for hedge in snapshot.hedges if hedge.delta.spot or hedge.delta.perp or hedge.delta.net]
    if not open_:
        known = any(hedge.delta.net is not None for hedge in snapshot.hedges)
        return [[label("net "), bright("flat") if known else faint(fmt.NA)]]
    return [
        net_parts("net" if at == 0 else "and", hedge.delta.net, fmt.safe_text(hedge.base_symbol, 12))
        for at, hedge in enumerate(open_)
    ]


def sources(parts: AttributionView) -> list[tuple[str, str, float | None]]:
    """Where the equity came from: short name, long name and amount, positive when received; None: not known."""
    return [
        ("funding", "funding", parts.funding),
        ("fees", "fees, tips, gas", parts.fees),
        ("interest", "interest", parts.interest),
        ("trading", "realised trading", parts.trading),
        ("perp", "perp, unrealised", parts.unrealized_perp),
        ("spot", "spot, revaluation", parts.spot_revaluation),
        *([("written off", "written off", parts.write_offs)] if parts.write_offs else []),
    ]


def totals_lines(snapshot: Snapshot, cells: int, rows: int) -> list[list[Part]]:
    """Net exposure and the attribution of the equity on at most ``rows`` lines."""
    parts = snapshot.attribution
    groups = nets(snapshot)
    if parts.opening_equity is None:
        return [joined(groups, cells, gap=2)]
    if parts.gap is not None and abs(parts.gap) >= 0.005:
        groups.insert(0, [Part(f"UNEXPLAINED {fmt.signed(parts.gap)}", "bold $down")])
    groups += [[label(f"{name} "), by_sign(value, fmt.signed(value))] for name, _, value in sources(parts)]
    lines: list[list[Part]] = []
    while groups and len(lines) < rows:
        taken = 1
        while taken < len(groups) and sum(width(group) + 2 for group in groups[: taken + 1]) - 2 <= cells:
            taken += 1
        lines.append(joined(groups[:taken], cells, gap=2))
        del groups[:taken]
    return lines


def attribution_lines(snapshot: Snapshot, cells: int) -> list[list[Part]]:
    """From the opening to the present equity, a source a line; all amounts positive when received."""
    parts = snapshot.attribution
    exposure = joined(nets(snapshot), cells, gap=2)
    if parts.opening_equity is None:
        return [exposure, [faint("where the equity came from is not known yet")]]

    def row(name: str, amount: Part) -> list[Part]:
        return [label(fit(name, 20)), Part(fit(amount.text, 14, "right"), amount.style)]

    found = sources(parts)
    largest = max(abs(value or 0.0) for _, _, value in found) or 1.0
    lines = [exposure, [], row("opening equity", Part(fmt.number(parts.opening_equity)))]
    room = max(0, min(40, cells - 38))
    for _, name, value in found:
        length = round(abs(value or 0.0) / largest * room)
        sign = by_sign(value, ("+" if value and value > 0 else "-") * length)
        lines.append([*row(name, by_sign(value, fmt.signed(value))), Part("  "), sign])
    if parts.transfers:
        lines.append(row("in and out", Part(fmt.signed(parts.transfers))))
    lines.append(row("equity now", bright(fmt.number(parts.closing_equity))))
    gap = parts.gap
    if gap is None:
        lines.append(row("unexplained", faint(fmt.NA)))
    else:
        wrong = abs(gap) >= 0.005
        lines.append([*row("unexplained", Part(fmt.signed(gap), "bold $down" if wrong else "$label"))])
    return lines
