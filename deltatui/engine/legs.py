"""The legs of a trade: what was asked, what is filled, and the order that mends what is wrong. Nothing here is sent."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from deltatui.domain.operation import Leg, OperationKind
from deltatui.domain.units import BASE_PRECISION, floor_to_step
from deltatui.engine.core import Core
from deltatui.engine.hedge import Hedge
from deltatui.engine.memory import HedgeCheck
from deltatui.engine.planner import Plan, Planner, closing_part
from deltatui.ports import Outcome

_DUST_1E9 = 100_000
"""What a close may leave (R4.5): 0.0001."""


class Carried(msgspec.Struct, frozen=True):
    """How an operation ended and what it and its repairs have filled, by instrument in base 1e9 (positive bought).
    ``trouble`` is why the engine had to be halted over it; empty where it had not. ``cost`` is what it and its repairs
    have booked in fees and realised losses, in quote."""

    outcome: Outcome
    legs: tuple[Leg, ...] = ()
    fills: Mapping[str, int] = {}
    trouble: str = ""
    cost: Decimal = Decimal(0)

    def open_1e9(self, instrument: str) -> int:
        """What was asked of ``instrument`` and is not filled; 0 where it is dust: interest of the last seconds."""
        asked = sum(leg.base_1e9 for leg in self.legs if leg.market == instrument)
        still = asked - self.fills.get(instrument, 0)
        return still if abs(still) >= _DUST_1E9 else 0

    @property
    def complete(self) -> bool:
        return not any(self.open_1e9(leg.market) for leg in self.legs)


class Legs:
    """Looks at a hedge's trade that is under way (:class:`HedgeCheck`) beside the present account."""

    def __init__(self, core: Core, hedge: Hedge, planner: Planner) -> None:
        self._core = core
        self._hedge = hedge
        self._planner = planner

    def uneven_1e9(self, check: HedgeCheck) -> int:
        """By how much one leg moved more than the other, or of a close has less left than the other; 0 below a step and
        where there is one leg only."""
        legs, spec = check.operation.legs, self._hedge.spec
        if len(legs) < 2:
            return 0
        if check.operation.kind == OperationKind.LEAVE:
            odd = -sum(self.rests_1e9(check, legs_only=True))
        else:
            odd = check.filled_1e9(spec.base_symbol) + check.filled_1e9(spec.symbol)
        return odd if abs(odd) >= spec.step_base_1e9 else 0

    def rests_1e9(self, check: HedgeCheck, *, legs_only: bool = False) -> tuple[int, int]:
        """What a close has not filled yet: (perp, spot); (0, 0) for anything else. ``legs_only`` leaves out the spot
        that is traded once the legs are closed."""
        if check.operation.kind != OperationKind.LEAVE:
            return 0, 0
        spec, wanted = self._hedge.spec, {leg.market: leg.base_1e9 for leg in check.operation.legs}
        perp = wanted.get(spec.symbol, 0) - check.filled_1e9(spec.symbol)
        # What somebody else has closed meanwhile is not open any more.
        perp = closing_part(self._hedge.known_facts().perp.base_1e9, perp)
        spot = wanted.get(spec.base_symbol, 0) - check.filled_1e9(spec.base_symbol)
        if legs_only and spot * check.rest_1e9 < 0:
            spot = 0  # the legs are closed, and a part of the rest is traded
        elif not legs_only:
            spot += check.rest_1e9
        return floor_to_step(perp, spec.step_base_1e9), spot if abs(spot) >= _DUST_1E9 else 0

    def wrong(self, check: HedgeCheck) -> str:
        """What has to be mended, in words; empty where nothing has."""
        spec = self._hedge.spec
        spot, perp = check.filled_1e9(spec.base_symbol), check.filled_1e9(spec.symbol)
        if check.operation.kind == OperationKind.LEAVE:
            if not any(self.rests_1e9(check, legs_only=True)):
                return ""
        elif check.operation.kind != OperationKind.TAKE or not self.uneven_1e9(check):
            return ""
        return f"odd leg: spot moved {spot / BASE_PRECISION:+g}, perp {perp / BASE_PRECISION:+g}"

    def mending(self, check: HedgeCheck, text: str) -> Plan:
        """The order that makes the legs of a take even, or goes on with a close: once the engine is halted, at the
        price of a kill. ``text`` is why."""
        core, planner, spec = self._core, self._planner, self._hedge.spec
        facts, book = self._hedge.known_facts(), core.known_book()
        if check.operation.kind == OperationKind.LEAVE:
            perp, spot = self.rests_1e9(check)
            return planner.close_rest(facts, book, perp, spot, kill=bool(core.memory.halted))
        odd = self.uneven_1e9(check)
        if abs(check.filled_1e9(spec.symbol)) > abs(check.filled_1e9(spec.base_symbol)):
            return planner.perp_order(OperationKind.UNWIND, facts, book, -odd, reduce_only=True, reason=text)
        if abs(odd) < spec.spot_min_1e9 and not closing_part(facts.spot.base_1e9, -odd):
            # The spot market takes no order this small that does not reduce: the perp follows the spot.
            return planner.perp_order(OperationKind.UNWIND, facts, book, -odd, reduce_only=False, reason=text)
        return planner.spot_order(OperationKind.UNWIND, facts, book, -odd, text)
