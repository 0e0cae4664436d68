"""What a command is answered: from fills, never from the plan (R4.9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from deltatui.domain.command import CommandResult, LegPart, ResultStatus
from deltatui.domain.market import MarketSpec
from deltatui.domain.operation import Leg, OperationKind, OperationState
from deltatui.domain.units import BASE_PRECISION
from deltatui.domain.verdict import Verdict
from deltatui.engine.legs import Carried
from deltatui.engine.planner import Plan


def done(code: str, message: str) -> CommandResult:
    return CommandResult(ResultStatus.DONE, code, message)


def parts_of(market: str, carried: Carried) -> tuple[LegPart, ...]:
    """One part for each leg that was asked for."""
    instruments = dict.fromkeys(leg.market for leg in carried.legs)
    return tuple(
        LegPart(
            instrument,
            "perp" if instrument == market else "spot",
            sum(leg.base_1e9 for leg in carried.legs if leg.market == instrument) / BASE_PRECISION,
            carried.fills.get(instrument, 0) / BASE_PRECISION,
            carried.open_1e9(instrument) / BASE_PRECISION,
        )
        for instrument in instruments
    )


def unfilled_parts(spec: MarketSpec, perp_1e9: int, spot_1e9: int) -> tuple[LegPart, ...]:
    """Of the orders ``perp_1e9`` and ``spot_1e9`` that nothing was filled of."""
    orders: tuple[tuple[str, Literal["perp", "spot"], int], ...] = (
        (spec.symbol, "perp", perp_1e9),
        (spec.base_symbol, "spot", spot_1e9),
    )
    return tuple(
        LegPart(instrument, leg, base_1e9 / BASE_PRECISION, 0.0, base_1e9 / BASE_PRECISION)
        for instrument, leg, base_1e9 in orders
        if base_1e9
    )


def result_of(
    operation_id: str, plan: Plan, carried: Carried, verdicts: tuple[Verdict, ...] = (), more: str = ""
) -> CommandResult:
    """The answer to a trade or transfer that has ended. ``more`` is said of what came after it."""
    word, outcome = plan.kind.lower(), carried.outcome
    parts = parts_of(plan.market, carried)

    def result(status: ResultStatus, code: str, message: str) -> CommandResult:
        return CommandResult(status, code, message, operation_id, verdicts=verdicts, parts=parts)

    if outcome.state != OperationState.LANDED:
        why = outcome.detail or outcome.error_code
        return CommandResult(
            ResultStatus.REJECTED, outcome.error_code or outcome.state, f"{word} failed: {why}", operation_id
        )
    if not plan.legs:
        return result(ResultStatus.DONE, "DONE", f"{_what(plan)} done{more}")
    if plan.transfer is not None:
        # It landed with the trade, whatever was filled of that.
        more = f"; deposited {plan.size:f} {plan.transfer.asset}{more}"
    if carried.trouble:
        return result(
            ResultStatus.PARTLY_DONE, "ODD_LEG", f"{word} partly done, the engine is halted: {carried.trouble}"
        )
    if carried.complete:
        return result(ResultStatus.DONE, "DONE", f"{word} done: {filled_text(parts)}{more}")
    if not any(part.filled for part in parts):
        if plan.kind == OperationKind.TAKE and len(plan.legs) > 1:
            undone = "take failed: one leg was not filled, the other was undone"
            return result(ResultStatus.REJECTED, "ODD_LEG", f"{undone}, which cost ${carried.cost:,.2f}")
        return result(ResultStatus.REJECTED, "NOT_FILLED", f"{word} failed: nothing was filled")
    text = f"{word} partly done: {filled_text(parts)}; {open_text(parts)}{more}"
    return result(ResultStatus.PARTLY_DONE, "PARTIAL", text)


def closing_result(closed: Mapping[str, CommandResult], reason: str, others: str) -> CommandResult:
    """The answer to a kill that was to close every market: what became of each. ``others`` is what it does not touch or
    could not stop: empty, or begun with a semicolon."""
    parts = tuple(part for each in closed.values() for part in each.parts)
    if not closed:
        return done("KILLED", f"halted, automation off ({reason}); there is no position to close{others}")
    told = "; ".join(each.message for each in closed.values())
    if all(each.status == ResultStatus.DONE for each in closed.values()):
        text = f"halted, automation off, positions closed ({reason}); {told}{others}"
        return CommandResult(ResultStatus.DONE, "KILLED", text, next(iter(closed.values())).operation_id, parts=parts)
    words = {ResultStatus.UNRESOLVED: "is unresolved", ResultStatus.PARTLY_DONE: "is not complete"}
    named = [
        f"closing{f' {symbol}' if len(closed) > 1 else ''} {words.get(each.status, 'failed')}: {each.message}"
        for symbol, each in closed.items()
        if each.status != ResultStatus.DONE
    ]
    good = [each.message for each in closed.values() if each.status == ResultStatus.DONE]
    status, worst = _worst(list(closed.values()))
    text = f"halted, but {'; '.join(named)}" + (f"; {'; '.join(good)}" if good else "") + others
    return CommandResult(status, worst.code, text, worst.operation_id, verdicts=worst.verdicts, parts=parts)


def _worst(closed: list[CommandResult]) -> tuple[ResultStatus, CommandResult]:
    """What is said of closings that are not all done, and the one that it is said for: unresolved where any is, refused
    where nothing at all was done."""
    by_status = {each.status: each for each in reversed(closed)}
    if ResultStatus.UNRESOLVED in by_status:
        return ResultStatus.UNRESOLVED, by_status[ResultStatus.UNRESOLVED]
    if set(by_status) == {ResultStatus.REJECTED}:
        return ResultStatus.REJECTED, by_status[ResultStatus.REJECTED]
    return ResultStatus.PARTLY_DONE, by_status.get(ResultStatus.PARTLY_DONE) or by_status[ResultStatus.REJECTED]


def _what(plan: Plan) -> str:
    if plan.transfer is None:
        return plan.kind.lower()
    return f"{plan.kind.lower()} of {plan.size:f} {plan.transfer.asset}"


def filled_text(parts: Iterable[LegPart]) -> str:
    """``sold 2 SOL-PERP, bought 2 SOL``."""
    return ", ".join(
        f"{'bought' if part.filled > 0 else 'sold'} {abs(part.filled):.10g} {part.market}"
        for part in parts
        if part.filled
    )


def open_text(parts: Iterable[LegPart]) -> str:
    """``not filled: 3 of 5 SOL-PERP``."""
    still = [f"{abs(part.open):.10g} of {abs(part.asked):.10g} {part.market}" for part in parts if part.open]
    return f"not filled: {', '.join(still)}"


def legs_text(legs: Iterable[Leg]) -> str:
    """``sell 2 SOL-PERP, buy 2 SOL``."""
    return ", ".join(
        f"{'buy' if leg.base_1e9 > 0 else 'sell'} {abs(leg.base_1e9) / BASE_PRECISION:.10g} {leg.market}"
        for leg in legs
    )
