"""Pane 4: net delta with its band and cooldown, and what the carry pays."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.plain import hedge_differs
from deltatui.tui import fmt
from deltatui.tui.panes.base import NO_MARKET, Body, Pane, Part, bright, by_sign, faint, joined, label
from deltatui.tui.panes.health import per_hour, stance_parts
from deltatui.tui.panes.positions import attribution_lines, net_parts
from deltatui.tui.widgets.gauge import bar
from deltatui.tui.widgets.glyphs import UNICODE, fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import CarryView, DeltaView, HedgeView, PricesView
    from deltatui.tui.store import Shown


def band_line(drift_pct: float | None, tolerance_pct: float, cells: int) -> list[Part]:
    """The drift on a scale from minus to plus the tolerance; beyond it an arrow at the edge."""
    left, right = f"-{tolerance_pct:g} %", f"+{tolerance_pct:g} %"
    half = max(4, (cells - len(left) - len(right) - 3) // 2)
    scale = ["─"] * (2 * half + 1)
    scale[half] = "┼"
    style = "$faint"
    if drift_pct is not None and tolerance_pct > 0:
        share = drift_pct / tolerance_pct
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


def net_lines(delta: DeltaView, base: str, cells: int) -> list[list[Part]]:
    """The account's exposure in units of ``base``; where the engine hedges another, that one too: it is held to the
    tolerance."""
    hedge = hedge_differs(delta)
    drift = delta.hedge_drift_pct if hedge else delta.drift_pct
    within = drift is not None and abs(drift) <= delta.tolerance_pct
    word = "n/a" if drift is None else "neutral" if within else "OFF"
    judged = (
        [Part(fmt.pct(drift, plus=True), "$bright" if within else "bold $warn")],
        [Part(word, "$up" if within else "bold $warn")],
    )
    band = band_line(drift, delta.tolerance_pct, cells)

    def net(name: str, value: float | None, *after: list[Part]) -> list[Part]:
        return joined([net_parts(name, value, base), *after], cells, gap=2)

    if not hedge:
        return [net("net", delta.net, *judged), band]
    return [
        net("account", delta.net, [Part(fmt.pct(delta.drift_pct, plus=True))]),
        net("hedge", delta.hedge_net, *judged),
        band,
    ]


def delta_lines(delta: DeltaView, base: str, cells: int) -> list[list[Part]]:
    cooling = delta.cooldown_remaining_s > 0
    last = "never" if delta.last_rebalance_market_s is None else fmt.when(delta.last_rebalance_market_s)[5:]
    worst = [label("worst "), Part(fmt.signed(delta.worst, 4))] if delta.worst != delta.net else []
    return [
        *net_lines(delta, base, cells),
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
        return [label(fit(name, 6)), by_sign(value, fit(fmt.apr(value), 8, "right"))]

    horizon = f"horizon {fmt.hours(carry.horizon_h)}"
    # Without an expectation nobody knows whether it pays back; only with one a missing figure means never.
    known = carry.expected_per_hour is not None
    entry = fmt.hours(carry.break_even_h, never=known and carry.break_even_h is None)
    reverse = fmt.hours(carry.reverse_break_even_h, never=known and carry.reverse_break_even_h is None)
    return [
        joined([rate("now", carry.now_apr), per_hour(carry)], cells, gap=0),
        joined([rate("24 h", carry.day_apr), rate("7 d", carry.week_apr), [label("APR")]], cells, gap=2),
        joined([[label("break-even "), bright(entry)], [label("reverse "), bright(reverse)]], cells, gap=2),
        joined([stance_parts(carry), [faint(horizon)]], cells, gap=2),
    ]


BROKEN_EVEN = "broken even"


def held(carry: CarryView) -> bool:
    return carry.stance != "FLAT" and carry.held_since_market_s is not None


def left_to_earn(carry: CarryView) -> Part:
    """How long until the carry has paid the way in and out, at the present rate."""
    if carry.held_earned is None or carry.round_trip_cost is None:
        return faint(fmt.NA)
    missing = carry.round_trip_cost - carry.held_earned
    if missing <= 0:
        return Part(BROKEN_EVEN, "$up")
    if carry.expected_per_hour is None:
        return faint(fmt.NA)
    if carry.expected_per_hour <= 0:
        return Part("never", "bold $warn")
    return bright(fmt.hours(missing / carry.expected_per_hour))


def clock_line(carry: CarryView, cells: int) -> list[Part]:
    """``earned +3.03 of 8.91  left 5 d 02 h``: the break-even clock of what is held."""
    left = left_to_earn(carry)
    return joined(
        [
            [
                label("earned "),
                by_sign(carry.held_earned, fmt.signed(carry.held_earned)),
                label(" of "),
                Part(fmt.number(carry.round_trip_cost)),
            ],
            [left] if left.text == BROKEN_EVEN else [label("left "), left],
        ],
        cells,
        gap=2,
    )


def clock_lines(carry: CarryView, cells: int) -> list[list[Part]]:
    """The clock with its bar, for the pane alone."""
    if not held(carry):
        return [[label("break-even clock  "), faint("nothing is held")]]
    lines = [
        [label("break-even clock  "), label("held since "), Part(fmt.when(carry.held_since_market_s))],
        clock_line(carry, cells),
    ]
    if carry.held_earned is not None and carry.round_trip_cost:
        share = carry.held_earned / carry.round_trip_cost
        room = max(8, min(40, cells - 12))
        filled = bar(max(0.0, min(1.0, share)), room, UNICODE.eighths)
        lines.append([faint(UNICODE.bar_left), Part(filled, "$up"), faint(UNICODE.bar_right), label(f" {share:.0%}")])
    return lines


def liquidation_line(hedge: HedgeView, cells: int) -> list[Part]:
    """The price of this market that liquidates the account while the others stand still."""
    if hedge.liq_price is None:
        return [label("liquidation "), faint("by no price of this market, or not known")]
    away = [Part(f"{fmt.pct(hedge.liq_distance_pct, 1, plus=True)} away")] if hedge.liq_distance_pct is not None else []
    return joined([[label("liquidation "), bright(fmt.price(hedge.liq_price))], away], cells, gap=2)


class DeltaPane(Pane):
    NUMBER: ClassVar[str] = "4"
    NAME: ClassVar[str] = "Delta and carry"
    EVERY: ClassVar[int] = 2
    OF_MARKET: ClassVar[bool] = True

    def compose(self) -> ComposeResult:
        yield Body()

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one(Body).show(lines)

    def draw(self, shown: Shown, now: float) -> None:
        cells, hedge = self.inner, shown.hedge
        if hedge is None:
            self.query_one(Body).show([[faint(NO_MARKET)]])
            return
        carry = carry_lines(hedge.carry, cells)
        prices = prices_line(hedge.prices, cells)
        delta = delta_lines(hedge.delta, fmt.safe_text(hedge.base_symbol, 12), cells)
        if self.zoomed:
            lines = [*delta, [], *carry, prices, liquidation_line(hedge, cells), [], *clock_lines(hedge.carry, cells)]
            self.query_one(Body).show([*lines, [], *attribution_lines(shown.snapshot, cells)[2:]])
            return
        if held(hedge.carry):
            carry.insert(3, clock_line(hedge.carry, cells))
        lines = [*delta, [], *carry]
        if len(lines) < self.rows:
            lines.append(prices)
        self.query_one(Body).show(lines)


def prices_line(prices: PricesView, cells: int) -> list[Part]:
    mark = "~" if prices.interpolated else ""
    basis = f"{fmt.signed(prices.basis_bps, 1)} bps" if prices.basis_bps is not None else fmt.NA
    return joined(
        [
            [label("oracle "), Part(mark + fmt.price(prices.oracle))],
            [label("mark "), Part(mark + fmt.price(prices.mark))],
            [label("basis "), Part(basis)],
        ],
        cells,
        gap=2,
    )
