"""A plan in words: what a trade or a transfer would cost and change, and what each gate says of it (R7.1, R3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltatui.domain.verdict import VerdictStatus
from deltatui.plain import leg_text
from deltatui.tui import fmt
from deltatui.tui.panes.base import Part, bright, faint, label, width, wrapped
from deltatui.tui.panes.why import ASIDE, MARKS, by_gravity, counts, gate_line, gate_name, limit_text
from deltatui.tui.widgets.glyphs import fit, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from deltatui.domain.snapshot import PlanView, Snapshot
    from deltatui.domain.verdict import Verdict

Lines = list[list[Part]]

NAME_CELLS = 12
HEDGE_DELTA = "hedge delta"
UNKNOWN_YET = "…"
"""Stands where a figure is being asked for."""


def base_symbol(market: str, snapshot: Snapshot | None) -> str:
    """The asset in which sizes of ``market`` are counted; empty where the engine does not carry it."""
    hedge = snapshot.hedge(market) if snapshot is not None else None
    return fmt.safe_text(hedge.base_symbol, 12) if hedge is not None else ""


def named(name: str, *parts: Part) -> list[Part]:
    return [label(fit(name, NAME_CELLS)), *parts]


def leg_lines(plan: PlanView, cells: int) -> Lines:
    """Every leg with its own size: ``sell 2 SOL  buy 5 SOL-PERP``."""
    return _flow("legs", [[bright(fmt.safe_text(leg_text(leg), 40))] for leg in plan.legs], cells)


def then_lines(plan: PlanView, cells: int) -> Lines:
    """What automation will do about what a transfer leaves."""
    if not plan.then:
        return []
    first, *more = wrapped(plan.then, max(10, cells - NAME_CELLS), "bold $warn", 3)
    return [named("afterwards", *first), *(named("", *line) for line in more)]


def figures(plan: PlanView | None, cells: int) -> Lines:
    """Notional and prices, costs, break-even; ``…`` for None."""
    if plan is None:
        return [named(name, faint(UNKNOWN_YET)) for name in ("notional", "costs", "break-even")]
    bps = (plan.limit_price / plan.price - 1) * 10_000 if plan.price else None
    price = [label("price "), Part(fmt.price(plan.price))]
    limit = [
        label("limit "),
        Part(fmt.price(plan.limit_price)),
        faint(f" ({fmt.signed(bps, 0)} bps)" if bps is not None else ""),
    ]
    costs = plan.fees + plan.slippage
    fees = f"fees {fmt.number(plan.fees)} · slippage {fmt.number(plan.slippage)}"
    # Whoever leaves has nothing to earn back.
    enters = plan.kind.upper() == "TAKE"
    back = [[label("round trip "), Part(fmt.usd(plan.round_trip))]] if enters else []
    return [
        *_flow("notional", [[bright(fmt.usd(plan.notional))], price, limit], cells),
        *_flow("costs", [[Part(fmt.usd(costs)), faint(f" ({fees})")], *back], cells),
        *(break_even_lines(plan, cells) if enters else []),
    ]


def _flow(name: str, groups: Sequence[Sequence[Part]], cells: int) -> Lines:
    """``groups`` beside ``name``; what does not fit on the line goes on below whole."""
    lines = [named(name)]
    for at, group in enumerate(groups):
        if at and width(lines[-1]) + 2 + width(group) > cells:
            lines.append(named(""))
        elif at:
            lines[-1].append(Part("  "))
        lines[-1] += group
    return lines


def break_even(plan: PlanView) -> str:
    """``never`` only where profitability could be judged."""
    judged = not any(_is_profitability(v) and v.status == VerdictStatus.UNKNOWN for v in plan.verdicts)
    return fmt.hours(plan.break_even_h, never=plan.break_even_h is None and judged)


def _is_profitability(verdict: Verdict) -> bool:
    return verdict.code.lower() == "profitability"


def break_even_reason(plan: PlanView) -> str:
    """What carry is expected, or why that cannot be judged."""
    if plan.carry_sentence:
        return plan.carry_sentence
    return next((v.reason for v in plan.verdicts if _is_profitability(v)), "")


def break_even_lines(plan: PlanView, cells: int) -> Lines:
    """The reason is never cut: it goes on below where the line is full."""
    said = break_even(plan)
    first = named("break-even", bright(said))
    room = cells - NAME_CELLS - width_of(said) - 2
    reason = break_even_reason(plan)
    if not reason or reason.startswith("break-even after"):
        return [first]
    if width_of(fmt.safe_text(reason)) <= room:
        return [[*first, faint("  " + fmt.safe_text(reason))]]
    below = wrapped(reason, max(10, cells - NAME_CELLS), "$faint", 4)
    return [first, *([Part(" " * NAME_CELLS), *line] for line in below)]


def consequences(
    plan: PlanView | None, *, asking: bool = False, note: str = "", delta_name: str = "delta", base: str = ""
) -> Lines:
    """Health, leverage, liquidation and delta, now and after. ``asking``: ``plan`` is another size's, so only what
    stands under ``now`` is shown of it. ``note`` stands beside the heading. The delta is the account's; the hedge's
    own has a line where it is another, and stands alone for a transfer. ``delta_name`` while there is no plan. ``base``
    is the asset of the plan's market."""
    after_known = plan is not None and not asking

    def row(name: str, before: str, after: str, remark: str = "", style: str = "$bright") -> list[Part]:
        before = before if plan is not None else UNKNOWN_YET
        if not after_known:
            after, remark, style = UNKNOWN_YET, "", "$faint"
        return named(name, Part(fit(before, 11, "right")), Part(fit(after, 12, "right"), style), faint(remark))

    heading = named("", label(fit("now", 11, "right")), label(fit("after", 12, "right")), Part(f"   {note}", "$warn"))
    if plan is None:
        return [heading, *(row(name, "", "") for name in ("health", "leverage", "liquidation", delta_name))]

    def liquidation(price: float | None) -> str:
        # Eleven cells: a small hedge of a dear asset is liquidated at hundreds of millions.
        return "none" if price is None else fmt.price(price) if abs(price) < 9_999_999 else fmt.compact(price)

    worse = plan.health_before is not None and plan.health_after is not None and plan.health_after < plan.health_before
    away = ""
    # The price of a transfer is its asset's.
    if plan.liq_price_after is not None and plan.price and plan.asset in ("", base):
        away = f"   {fmt.pct((plan.liq_price_after / plan.price - 1) * 100, 0, plus=True)} away"
    return [
        heading,
        row(
            "health",
            fmt.number(plan.health_before, 0),
            fmt.number(plan.health_after, 0),
            "   lower" if worse else "",
            "$warn" if worse else "$bright",
        ),
        row("leverage", fmt.multiple(plan.leverage_before), fmt.multiple(plan.leverage_after)),
        row("liquidation", liquidation(plan.liq_price_before), liquidation(plan.liq_price_after), away),
        *(row(name, fmt.pct(before, plus=True), fmt.pct(after, plus=True)) for name, before, after in _deltas(plan)),
    ]


def _deltas(plan: PlanView) -> list[tuple[str, float | None, float | None]]:
    account = ("delta", plan.delta_before_pct, plan.delta_after_pct)
    hedge = (HEDGE_DELTA, plan.hedge_delta_before_pct, plan.hedge_delta_after_pct)
    if plan.asset:
        return [hedge]
    known = plan.hedge_delta_after_pct is not None
    return [account, hedge] if known and hedge[1:] != account[1:] else [account]


def refused_text(plan: PlanView, force_key: str) -> list[Part]:
    """What a refusal means for the operator; empty where every gate allows."""
    if plan.allowed:
        return []
    if plan.asset:
        return [Part("refused by its gates", "bold $down")]
    if plan.can_force:
        return [label(f"refused; {force_key} in the confirmation forces it")]
    return [Part("refused: this trade cannot be forced", "bold $down")]


# Gates


def gates(plan: PlanView, cells: int, rows: int | None = None) -> Lines:
    """Every verdict: refusals first, one a line with the reason; then what allows, then what was not judged. With
    less than ``rows`` lines to draw on, closer and closer; at last what does not refuse by its number only."""
    layouts: tuple[Callable[[], Lines], ...] = (
        lambda: [*_refusals(plan, cells, whole=True), *_in_columns(plan, cells), *_not_judged(plan, cells, 4)],
        lambda: [*_refusals(plan, cells), *_in_columns(plan, cells), *_not_judged(plan, cells, 4)],
        lambda: [*_refusals(plan, cells), *_flowing(plan, cells), *_not_judged(plan, cells, 4)],
        lambda: [*_refusals(plan, cells), *_flowing(plan, cells), *_not_judged(plan, cells, 1)],
        lambda: [*_refusals(plan, cells), *_names(plan, VerdictStatus.ALLOWED, cells, 3), *_not_judged(plan, cells, 1)],
        lambda: brief_gates(plan, cells),
        lambda: [*_refusals(plan, cells), _counted(plan)],
    )
    lines: Lines = []
    for layout in layouts:
        lines = layout()
        if rows is None or len(lines) <= rows:
            return lines
    return lines


def brief_gates(plan: PlanView, cells: int, most: int = 1) -> Lines:
    """Refusals with value and limit, ``9 more gates ok``, and the others by name on at most ``most`` lines for each
    status."""
    ok = sum(v.status == VerdictStatus.ALLOWED for v in plan.verdicts)
    lines = _refusals(plan, cells)
    if ok:
        more = "more " if lines else ""
        mark, style, _ = MARKS[VerdictStatus.ALLOWED]
        lines.append([Part(f"{mark} ", style), label(f"{ok} {more}gate{'s' if ok > 1 else ''} ok")])
    return [*lines, *_not_judged(plan, cells, most)]


def _refusals(plan: PlanView, cells: int, *, whole: bool = False) -> Lines:
    """``whole``: a reason that the line would cut goes on below."""
    told = break_even_reason(plan)
    lines: Lines = []
    for verdict in by_gravity(plan.verdicts):
        if verdict.allowed:
            continue
        reason = fmt.safe_text(verdict.reason, 200)
        # What stands beside the break-even is not said twice.
        if _is_profitability(verdict) and verdict.reason == told:
            reason = ""
        line = gate_line(verdict, cells, with_reason=False)
        room = cells - width(line) - 1
        below = whole and width_of(reason) > room
        if reason and room > 0 and not below:
            line.append(faint(" " + fit(reason, room).rstrip()))
        lines.append(line)
        if below:
            lines += [[Part("  "), *more] for more in wrapped(reason, cells - 2, "$faint", 3)]
    return lines


def _allowing(plan: PlanView) -> list[str]:
    said = []
    for verdict in by_gravity(plan.verdicts):
        if verdict.status == VerdictStatus.ALLOWED:
            limit = f"  {limit_text(verdict)}" if verdict.limit else ""
            said.append(f"{gate_name(verdict)} {fmt.safe_text(verdict.observed, 16)}{limit}")
    return said


def _in_columns(plan: PlanView, cells: int) -> Lines:
    half = max(20, (cells - 2) // 2)
    texts = [[Part("✓ ", "$up"), Part(fit(text, half - 2), "$label")] for text in _allowing(plan)]
    return [[part for text in texts[at : at + 2] for part in text] for at in range(0, len(texts), 2)]


def _flowing(plan: PlanView, cells: int) -> Lines:
    """One after the other, as many on a line as fit."""
    lines: Lines = []
    used = cells
    for text in _allowing(plan):
        said = fit(text.replace("  ", " "), min(width_of(text), cells - 2)).rstrip()
        need = width_of(said) + 2
        if used + 2 + need > cells:
            lines.append([])
            used = 0
        else:
            lines[-1].append(Part("  "))
            used += 2
        lines[-1] += [Part("✓ ", "$up"), Part(said, "$label")]
        used += need
    return lines


def _names(plan: PlanView, status: VerdictStatus, cells: int, most: int) -> Lines:
    """``- 3 n/a: gas, latency, guards`` on at most ``most`` lines."""
    names = [gate_name(v) for v in plan.verdicts if v.status is status]
    if not names:
        return []
    mark, style, word = MARKS[status]
    said = f"{len(names)} {word}: {', '.join(names)}"
    lines = wrapped(said, cells - 2, "$label" if status == VerdictStatus.ALLOWED else "$faint", most)
    return [[Part("  " if at else f"{mark} ", style), *line] for at, line in enumerate(lines)]


def _not_judged(plan: PlanView, cells: int, most: int) -> Lines:
    return [line for status in ASIDE for line in _names(plan, status, cells, most)]


def _counted(plan: PlanView) -> list[Part]:
    return [faint(counts([verdict for verdict in plan.verdicts if verdict.allowed]))]


def fitted(
    head: Sequence[Sequence[Part]], plan: PlanView, foot: Sequence[Sequence[Part]], cells: int, rows: int
) -> Lines:
    """``head``, the gates as fully as ``rows`` lines allow, ``foot``; blank lines between them where there is room."""
    roomy: Lines = [*map(list, head), [], *gates(plan, cells), *([[]] if foot else []), *map(list, foot)]
    if len(roomy) <= rows:
        return roomy
    tight = [list(line) for line in head if line]
    below = [list(line) for line in foot if line]
    return [*tight, *gates(plan, cells, max(0, rows - len(tight) - len(below))), *below]
