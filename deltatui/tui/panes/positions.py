"""Pane 2: what is held, one row a leg, and where the equity came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Pane, Part, by_sign, joined, label
from deltatui.tui.panes.health import account_age_s
from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import PositionView, Snapshot
    from deltatui.tui.widgets.palette import StyleName

COLUMNS = (
    Column("market", "market", 10),
    Column("side", "side", 6),
    Column("size", "size", 8, "right"),
    Column("entry", "entry", 8, "right", priority=3),
    Column("mark", "mark", 8, "right"),
    Column("upnl", "uPnL", 8, "right"),
    Column("funding", "funding", 8, "right", priority=1),
    Column("liq", "liq", 8, "right", priority=2),
    Column("notional", "notional", 11, "right", priority=4),
    Column("unsettled", "unsettled", 9, "right", priority=5),
)
DASH = "–"


def signed_cell(value: float | None, *, missing: str = fmt.NA) -> Cell:
    if value is None:
        return Cell(missing, "muted")
    style: StyleName = "good" if value > 0 else "bad" if value < 0 else ""
    return Cell(fmt.signed(value), style)


def position_row(position: PositionView) -> Row:
    spot = position.side in ("spot", "borrow")
    missing = DASH if spot else fmt.NA
    return Row(
        position.key,
        {
            "market": Cell(position.market, "bright"),
            "side": position.side,
            "size": Cell(fmt.size(abs(position.size), 3), "bright"),
            "entry": fmt.price(position.entry_price),
            "mark": fmt.price(position.mark_price),
            "upnl": signed_cell(position.unrealized_pnl),
            "funding": signed_cell(position.funding, missing=missing),
            "liq": Cell(missing, "muted") if position.liq_price is None else fmt.price(position.liq_price, 2),
            "notional": fmt.usd(position.notional),
            "unsettled": signed_cell(position.unsettled_pnl, missing=missing),
        },
        {
            "size": abs(position.size),
            "entry": position.entry_price,
            "mark": position.mark_price,
            "upnl": position.unrealized_pnl,
            "funding": position.funding,
            "liq": position.liq_price,
            "notional": position.notional,
            "unsettled": position.unsettled_pnl,
        },
    )


class PositionsPane(Pane):
    NUMBER: ClassVar[str] = "2"
    NAME: ClassVar[str] = "Positions"
    EVERY: ClassVar[int] = 1

    def compose(self) -> ComposeResult:
        yield LiveGrid(COLUMNS, empty="connecting", ascii_only=self.ascii_only, clock=self.clock, id="positions")
        yield Body(id="totals")

    def data_age_s(self, snapshot: Snapshot) -> float | None:
        return account_age_s(snapshot)

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        grid = self.query_one(LiveGrid)
        grid.set_rows(())
        grid.set_empty("".join(part.text for part in lines[0]))
        self.query_one(Body).show(())

    def draw(self, snapshot: Snapshot, now: float) -> None:
        grid = self.query_one(LiveGrid)
        grid.set_empty("no positions: flat" if snapshot.account.health is not None else "positions not known")
        grid.set_rows(position_row(position) for position in snapshot.positions)
        totals = self.query_one(Body)
        # The small layout has no line to spare.
        totals.display = self.rows >= 6
        if totals.display:
            totals.show([totals_line(snapshot, self.inner)])


def totals_line(snapshot: Snapshot, cells: int) -> list[Part]:
    """Net exposure and the attribution of the equity; all amounts positive when received."""
    delta, parts = snapshot.delta, snapshot.attribution

    def amount(name: str, value: float | None) -> list[Part]:
        return [label(f"{name} "), by_sign(value, fmt.signed(value))]

    net = f"{fmt.signed(delta.net, 4)} SOL" if delta.net is not None else fmt.NA
    groups = [
        [label("net "), Part(net, "$bright")],
        amount("funding", parts.funding),
        amount("fees", parts.fees),
        amount("interest", parts.interest),
        amount("trading", parts.trading),
        amount("perp", parts.unrealized_perp),
        amount("spot", parts.spot_revaluation),
    ]
    if parts.gap is not None and abs(parts.gap) >= 0.005:
        groups.insert(0, [Part(f"UNEXPLAINED {fmt.signed(parts.gap)}", "bold $down")])
    return joined(groups, cells, gap=2)
