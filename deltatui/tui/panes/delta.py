"""Pane 4: net delta with its band and cooldown, and what the carry pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.tui import fmt
from deltatui.tui.panes.base import Body, Pane, Part, bright, by_sign, faint, joined, label
from deltatui.tui.panes.health import per_hour, stance_parts
from deltatui.tui.widgets.glyphs import fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import CarryView, DeltaView, Snapshot


def band_line(delta: DeltaView, cells: int) -> list[Part]:
    """The drift on a scale from minus to plus the tolerance; beyond it an arrow at the edge."""
    left, right = f"-{delta.tolerance_pct:g} %", f"+{delta.tolerance_pct:g} %"
    half = max(4, (cells - len(left) - len(right) - 3) // 2)
    scale = ["─"] * (2 * half + 1)
    scale[half] = "┼"
    style = "$faint"
    if delta.drift_pct is not None and delta.tolerance_pct > 0:
        share = delta.drift_pct / delta.tolerance_pct
        at = round(half + share * half)
        scale[max(0, min(2 * half, at))] = "●" if abs(share) <= 1 else "▶" if share > 0 else "◀"
        style = "$up" if abs(share) <= 1 else "bold $down"
    spot = next((i for i, char in enumerate(scale) if char in "●▶◀"), None)
    if spot is None:
        return [label(left + " "), faint("".join(scale)), label(" " + right)]
    return [
        label(left + " "),
        faint("".join(scale[:spot])),
        Part(scale[spot], style),
        faint("".join(scale[spot + 1 :])),
        label(" " + right),
    ]


def delta_lines(delta: DeltaView, cells: int) -> list[list[Part]]:
    within = delta.drift_pct is not None and abs(delta.drift_pct) <= delta.tolerance_pct
    word = "n/a" if delta.drift_pct is None else "neutral" if within else "OFF"
    cooling = delta.cooldown_remaining_s > 0
    last = "never" if delta.last_rebalance_market_s is None else fmt.when(delta.last_rebalance_market_s)[5:]
    worst = [label("worst "), Part(fmt.signed(delta.worst, 4))] if delta.worst != delta.net else []
    return [
        joined(
            [
                [label("net "), bright(f"{fmt.signed(delta.net, 4)} SOL" if delta.net is not None else fmt.NA)],
                [Part(fmt.pct(delta.drift_pct, plus=True), "$bright" if within else "bold $warn")],
                [Part(word, "$up" if within else "bold $warn")],
            ],
            cells,
            gap=2,
        ),
        band_line(delta, cells),
        joined(
            [
                [label("spot "), Part(fmt.signed(delta.spot, 4))],
                [label("perp "), Part(fmt.signed(delta.perp, 4))],
                worst,
            ],
            cells,
            gap=2,
        ),
        joined(
            [
                [label("cooldown "), Part(fmt.age(delta.cooldown_remaining_s) if cooling else "ready")],
                [label("last "), Part(last)],
            ],
            cells,
            gap=2,
        ),
    ]


def carry_lines(carry: CarryView, cells: int) -> list[list[Part]]:
    def rate(name: str, value: float | None) -> list[Part]:
        return [label(fit(name, 6)), by_sign(value, fit(fmt.apr(value), 9, "right"))]

    horizon = f"horizon {fmt.hours(carry.horizon_h)}"
    # Without an expectation nobody knows whether it pays back; only with one a missing figure means never.
    known = carry.expected_per_hour is not None
    entry = fmt.hours(carry.break_even_h, never=known and carry.break_even_h is None)
    reverse = fmt.hours(carry.reverse_break_even_h, never=known and carry.reverse_break_even_h is None)
    return [
        [*rate("now", carry.now_apr), label(" APR"), *per_hour(carry)],
        joined([rate("24 h", carry.day_apr), rate("7 d", carry.week_apr)], cells, gap=2),
        joined([[label("break-even "), bright(entry)], [label("reverse "), bright(reverse)]], cells, gap=2),
        joined([stance_parts(carry), [faint(horizon)]], cells, gap=2),
    ]


class DeltaPane(Pane):
    NUMBER: ClassVar[str] = "4"
    NAME: ClassVar[str] = "Delta and carry"
    EVERY: ClassVar[int] = 2

    def compose(self) -> ComposeResult:
        yield Body()

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one(Body).show(lines)

    def draw(self, snapshot: Snapshot, now: float) -> None:
        cells = self.inner
        lines = [
            *delta_lines(snapshot.delta, cells),
            [],
            *carry_lines(snapshot.carry, cells),
        ]
        prices = snapshot.prices
        mark = "~" if prices.interpolated else ""
        lines.append(
            joined(
                [
                    [label("oracle "), Part(mark + fmt.price(prices.oracle))],
                    [label("mark "), Part(mark + fmt.price(prices.mark))],
                    [
                        label("basis "),
                        Part(f"{fmt.signed(prices.basis_bps, 1)} bps" if prices.basis_bps is not None else fmt.NA),
                    ],
                ],
                cells,
                gap=2,
            )
        )
        self.query_one(Body).show(lines)
