"""What the engine remembers: across a restart on disk, and for a moment between two commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from deltatui.domain.allocation import Rivalry
from deltatui.domain.carry import CarryState, Decision
from deltatui.domain.command import Deposit, ForgetLosses, Leave, Rebalance, Resume, Take, Withdraw
from deltatui.domain.health import LossState
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.operation import Operation
from deltatui.domain.principal import Principal
from deltatui.domain.units import BASE_PRECISION

TradeCommand = Take | Leave | Rebalance
PlannedCommand = TradeCommand | Deposit | Withdraw
"""What a plan is made for."""
AccountCommand = ForgetLosses | Resume
"""What moves nothing and is asked about all the same."""
AskedCommand = PlannedCommand | AccountCommand
"""What may wait for the operator's confirmation."""
ACCOUNT = ""
"""Stands for the account where a market's symbol would stand: questions and operations of no hedge alone."""


class AccountMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kept on disk, for the account. ``halted``, ``reducing`` hold the reason, empty where it is not so. ``operations``
    numbers the engine's own; ``opened_s`` is the market time at which the books were opened."""

    automation: bool = True
    halted: str = ""
    reducing: str = ""
    paused: bool = False
    operations: int = 0
    losses: LossState = LossState()
    liquidations: int = 0
    speed: int = 0
    opened_s: float | None = None
    rivalry: Rivalry = Rivalry()


class HedgeMemory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kept on disk, for one market: the carry decision with what it rests on, and who opened what is held
    (``held_by``). ``pledged_1e9`` is base of the operator, in the wallet or paid in, that the hedge counts as its spot
    leg (never sold by a leave)."""

    carry: CarryState = CarryState()
    decision: Decision | None = None
    held_by: str = "nobody"
    held_since_s: float | None = None
    last_rebalance_s: float | None = None
    pledged_1e9: int = 0


class HedgeCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Kept on disk while a trade is under way, so that an odd leg is found after a crash too, and what follows from
    the trade is not forgotten. ``repairs`` are the operations that mend it; ``fills`` what it and they have filled so
    far, by instrument in base 1e9 (positive bought), up to the venue's event number ``counted``. ``rest_1e9`` is spot
    that a close trades once its legs are closed (:class:`Plan`).

    ``spot_1e9`` and ``perp_1e9`` stand in what 0.1.0 left behind, in place of the fills: the balances before the trade.
    """

    operation: Operation
    fills: Mapping[str, int] | None = None
    repairs: tuple[str, ...] = ()
    counted: int = 0
    rest_1e9: int = 0
    spot_1e9: int | None = None
    perp_1e9: int | None = None

    def filled_1e9(self, instrument: str) -> int:
        return 0 if self.fills is None else self.fills.get(instrument, 0)

    def with_fills(self, events: Iterable[VenueEvent]) -> HedgeCheck:
        """Count those of ``events`` that belong to this trade; each number once."""
        ours = {self.operation.id, *self.repairs}
        fills, counted = dict(self.fills or {}), self.counted
        for event in events:
            if event.sequence <= counted:
                continue
            counted = event.sequence
            if event.base and event.operation_id in ours:
                fills[event.instrument] = fills.get(event.instrument, 0) + round(event.base * BASE_PRECISION)
        return msgspec.structs.replace(self, fills=fills, counted=counted)


class Pending(msgspec.Struct, frozen=True):
    """What waits for its confirmation, asked by ``principal``; ``market`` is empty for what concerns no hedge alone.
    ``perp_1e9`` is the position that the operator was shown, ``reduces`` whether it takes risk away, ``word`` what
    has to be typed (empty: nothing)."""

    operation_id: str
    market: str
    command: AskedCommand
    principal: Principal
    created_s: float
    expires_s: float
    perp_1e9: int
    reduces: bool
    word: str = ""
