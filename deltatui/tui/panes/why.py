"""Pane 3: what the engine thinks best, and each gate of the next increase with its observed value and limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from deltatui.domain.verdict import Verdict, VerdictStatus
from deltatui.plain import held_by
from deltatui.tui import fmt
from deltatui.tui.enabled import asking
from deltatui.tui.panes.base import NO_MARKET, Body, Pane, Part, bright, faint, label, width, wrapped
from deltatui.tui.widgets.glyphs import fit, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from deltatui.domain.snapshot import HedgeView
    from deltatui.tui.store import Shown

MARKS: dict[VerdictStatus, tuple[str, str, str]] = {
    VerdictStatus.BLOCKED: ("✕", "bold $down", "blocks"),
    VerdictStatus.UNKNOWN: ("?", "bold $warn", "unknown"),
    VerdictStatus.ALLOWED: ("✓", "$up", "ok"),
    VerdictStatus.EXEMPT: ("○", "$label", "exempt"),
    VerdictStatus.NOT_APPLICABLE: ("–", "$faint", "n/a"),
}
"""Mark, style and word of each status."""
_GRAVITY = tuple(MARKS)
ASIDE = (VerdictStatus.EXEMPT, VerdictStatus.NOT_APPLICABLE)
"""What was not judged; its names share a line where there is no room."""


_SHOWN_AS = {"withdraw_health": "health after"}
"""Names that would be cut."""


def gate_name(verdict: Verdict) -> str:
    code = fmt.safe_text(verdict.code, 40).lower()
    return _SHOWN_AS.get(code, code.replace("_", " "))


def by_gravity(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """What refuses first; the engine's order within a status."""
    return sorted(verdicts, key=lambda verdict: _GRAVITY.index(verdict.status))


def limit_text(verdict: Verdict) -> str:
    """``limit 168 h``, or as it is where it compares: ``<= 10x``."""
    limit = fmt.safe_text(verdict.limit, 40)
    return limit if not limit or limit[0] in "<>=" else f"limit {limit}"


def aside(verdicts: Sequence[Verdict], status: VerdictStatus, cells: int, most: int = 4) -> list[list[Part]]:
    """All gates of one status by name, on as many lines as they need up to ``most``: ``- n/a: gas, latency``."""
    names = [gate_name(verdict) for verdict in verdicts if verdict.status is status]
    if not names:
        return []
    mark, style, word = MARKS[status]
    count = f" {len(names)}" if most == 1 else ""
    lines = wrapped(f"{word}{count}: {', '.join(names)}", cells - 2, "$faint", most)
    return [[Part(f"{mark} " if index == 0 else "  ", style), *line] for index, line in enumerate(lines)]


def gate_line(verdict: Verdict, cells: int, *, name_cells: int = 13, with_reason: bool = True) -> list[Part]:
    """One gate on one line: mark, name, observed, limit, and the reason and age as far as they fit."""
    mark, style, word = MARKS[verdict.status]
    plain = verdict.status in (VerdictStatus.NOT_APPLICABLE, VerdictStatus.EXEMPT)
    refused = not verdict.allowed
    line = [
        Part(f"{mark} ", style),
        Part(fit(gate_name(verdict), name_cells) + " ", "$foreground" if refused else "$label"),
    ]
    room = cells - 2 - name_cells - 1
    reason = fmt.safe_text(verdict.reason, 200)
    if plain:
        text = f"{word}  {reason}" if reason else word
        return [*line, faint(fit(text, max(0, room)).rstrip())]
    observed = fmt.safe_text(verdict.observed, 40) or word
    limit = limit_text(verdict)
    first = max(8, width_of(observed))
    parts = [Part(fit(observed, min(first, max(0, room))), style if refused else "$bright")]
    room -= first
    extras = [
        limit,
        reason if refused and with_reason else "",
        f"{fmt.age(verdict.age_s)} old" if verdict.age_s is not None else "",
    ]
    for extra in extras:
        if extra and room >= 6:
            text = fit(extra, min(room - 1, max(12, width_of(extra))))
            parts.append(faint(" " + text))
            room -= 1 + width_of(text)
    return [*line, *parts]


def gate_lines(verdicts: Sequence[Verdict], cells: int, rows: int) -> list[list[Part]]:
    """All gates in the engine's order with the reason of each refusal below it; with less room those that were not
    judged by name only; with still less, what refuses first and the rest counted."""

    def listed(chosen: Sequence[Verdict]) -> list[list[Part]]:
        lines: list[list[Part]] = []
        for verdict in chosen:
            lines.append(gate_line(verdict, cells, with_reason=False))
            if not verdict.allowed and verdict.reason:
                lines += [[Part("  "), *line] for line in wrapped(verdict.reason, cells - 2, "$faint", 2)]
        return lines

    full = listed(verdicts)
    if len(full) <= rows:
        return full
    judged = listed([verdict for verdict in verdicts if verdict.status not in ASIDE])
    for status in ASIDE:
        judged += aside(verdicts, status, cells)
    if len(judged) <= rows:
        return judged
    short = [gate_line(verdict, cells) for verdict in by_gravity(verdicts)]
    if len(short) <= rows:
        return short
    named = [gate_line(verdict, cells, with_reason=False) for verdict in verdicts if verdict.status not in ASIDE]
    named += [line for status in ASIDE for line in aside(verdicts, status, cells, 1)]
    if len(named) <= rows:
        return named
    kept = max(0, rows - 1)
    return [*short[:kept], [faint(f"  and {len(short) - kept} more: {counts(by_gravity(verdicts)[kept:])}")]]


def counts(verdicts: Sequence[Verdict]) -> str:
    """``6 ok, 2 n/a``."""
    found = {status: sum(verdict.status is status for verdict in verdicts) for status in MARKS}
    return ", ".join(f"{number} {MARKS[status][2]}" for status, number in found.items() if number)


def one_line(shown: Shown, cells: int) -> list[Part]:
    """The whole pane on one line: what is held and what would be better; why the engine does not run, else the first
    gate that refuses the next increase and how many others; without a refusal, the reason of the decision."""
    if shown.hedge is None:
        return [faint(NO_MARKET)]
    engine, carry = shown.snapshot.engine, shown.hedge.carry
    stance, decision = fmt.safe_text(carry.stance, 10), fmt.safe_text(carry.decision, 10)
    head = [bright(stance if stance == decision else f"{stance}→{decision}")]
    grave = f"{engine.state}: {engine.state_reason}" if engine.state_reason else standing_still(shown.hedge)
    if grave:
        return [*head, Part(fit(f"  {fmt.safe_text(grave)}", max(0, cells - width(head))), "$warn")]
    if shown.detail is None:
        return [*head, faint("  " + asking(shown.market))]
    gates = shown.detail.gates
    refusing = [verdict for verdict in by_gravity(gates) if not verdict.allowed]
    if refusing:
        first = refusing[0]
        mark, style, _ = MARKS[first.status]
        verb = fmt.safe_text(shown.detail.gates_subject, 40).split(" ")[0].lower()
        head += [label(f"  {verb} "), Part(f"{mark} ", style)]
        limit = limit_text(first)
        why = f" ({limit})" if limit else f": {fmt.safe_text(first.reason, 80)}" if first.reason else ""
        said = f"{gate_name(first)} {fmt.safe_text(first.observed, 24)}{why}"
    else:
        head.append(label(": "))
        said = fmt.safe_text(carry.sentence)
    tail = "   " + counts([verdict for verdict in gates if verdict not in refusing[:1]])
    return [*head, Part(fit(said, max(0, cells - width(head) - width_of(tail)))), faint(tail)]


def standing_still(hedge: HedgeView) -> str:
    """Why the market takes no orders, or only those that reduce; empty where it takes all."""
    if hedge.ended:
        return "ended: no prices come any more, the last one stands"
    return f"paused: {hedge.paused}" if hedge.paused else ""


class WhyPane(Pane):
    NUMBER: ClassVar[str] = "3"
    NAME: ClassVar[str] = "Why"
    EVERY: ClassVar[int] = 2
    OF_MARKET: ClassVar[bool] = True

    def compose(self) -> ComposeResult:
        yield Body()

    def no_data(self, lines: Sequence[Sequence[Part]]) -> None:
        self.query_one(Body).show(lines)

    def draw(self, shown: Shown, now: float) -> None:
        lines = zoomed_lines(shown, self.inner) if self.zoomed else why_lines(shown, self.inner, self.rows)
        self.query_one(Body).show(lines)


def head_lines(shown: Shown, cells: int) -> list[list[Part]]:
    """What is held, what would be better, and the reason in a sentence."""
    engine, hedge = shown.snapshot.engine, shown.hedge
    if hedge is None:
        return [[faint(NO_MARKET)]]
    carry = hedge.carry
    stance, decision = fmt.safe_text(carry.stance, 10), fmt.safe_text(carry.decision, 10)
    change = [] if stance == decision else [label("  best "), Part(decision, "bold $warn")]
    head = [[label("holds "), bright(stance), *change, faint(f"  {held_by(carry)}".rstrip())]]
    head += wrapped(carry.sentence, cells, "$foreground", 2)
    if engine.state_reason:
        head += wrapped(f"{engine.state}: {engine.state_reason}", cells, "$warn", 2)
    if still := standing_still(hedge):
        head += wrapped(still, cells, "$warn", 2)
    return head


def foot_lines(shown: Shown, cells: int) -> list[list[Part]]:
    """What comes next: the rebalancer's reason and the next funding."""
    foot: list[list[Part]] = []
    if shown.hedge is None:
        return foot
    if shown.hedge.delta.reason:
        foot += wrapped(f"rebalancer: {shown.hedge.delta.reason}", cells, "$label", 2)
    if shown.hedge.carry.next_funding_in_s is not None:
        foot.append([label("next funding in "), Part(fmt.age(shown.hedge.carry.next_funding_in_s))])
    return foot


def no_gates(shown: Shown) -> str:
    return asking(shown.market) if shown.detail is None and shown.market else "no gate has been judged yet"


def why_lines(shown: Shown, cells: int, rows: int) -> list[list[Part]]:
    """The gates come first where there is no room for all: the foot gives way, then the gates' reasons."""
    if rows <= 1:
        return [one_line(shown, cells)]
    head, foot = head_lines(shown, cells), foot_lines(shown, cells)
    subject = fmt.safe_text(shown.detail.gates_subject, 40) if shown.detail is not None else ""
    title = [[], [label(f"gates of {subject}" if subject else "gates")]]
    if shown.detail is None or not shown.detail.gates:
        said = [[faint(no_gates(shown))]]
        return [*head, *title, *said, [], *foot] if rows > len(head) + 4 + len(foot) else [*head, *said]
    for chosen, under in ((title, foot), (title, []), ([], [])):
        room = rows - len(head) - len(chosen) - (len(under) + 1 if under else 0)
        gates = gate_lines(shown.detail.gates, cells, max(1, room))
        counted = any("more: " in part.text for part in gates[-1])
        if not counted:
            break
    return [*head, *chosen, *gates, *([[]] if under else []), *under]


def zoomed_lines(shown: Shown, cells: int) -> list[list[Part]]:
    """Every gate with verdict, value, limit, age and reason, what refuses first."""
    lines = [*head_lines(shown, cells), []]
    foot = foot_lines(shown, cells)
    lines += [*foot, []] if foot else []
    if shown.detail is None or not shown.detail.gates:
        return [*lines, [faint(no_gates(shown))]]
    gates, subject = shown.detail.gates, fmt.safe_text(shown.detail.gates_subject, 60)
    names = max(12, min(26, max(width_of(gate_name(verdict)) for verdict in gates)))
    lines.append([label(f"gates of {subject}" if subject else "gates"), faint(f"   {counts(gates)}")])
    lines.append(
        [label("  " + fit("verdict", 9) + fit("gate", names + 2) + fit("value", 14) + fit("limit", 12) + "age")]
    )
    for verdict in by_gravity(gates):
        mark, style, word = MARKS[verdict.status]
        refused = not verdict.allowed
        lines.append(
            [
                Part(f"{mark} ", style),
                Part(fit(word, 9), style),
                Part(fit(gate_name(verdict), names + 2), "$foreground" if refused else "$label"),
                Part(fit(fmt.safe_text(verdict.observed, 40) or fmt.NA, 13) + " ", style if refused else "$bright"),
                label(fit(fmt.safe_text(verdict.limit, 40) or "–", 11) + " "),
                faint("–" if verdict.age_s is None else fmt.age(verdict.age_s)),
            ]
        )
        if verdict.reason:
            reason = wrapped(verdict.reason, max(20, cells - 11), "$warn" if refused else "$faint", 6)
            lines += [[Part(" " * 11), *line] for line in reason]
    return lines
