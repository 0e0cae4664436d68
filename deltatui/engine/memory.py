"""What the engine remembers: across a restart on disk, and for a moment between two commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from deltatui.domain.carry import CarryState, Decision
from deltatui.domain.command import Deposit, ForgetLosses, Leave, Rebalance, Take, Withdraw
from deltatui.domain.health import LossState
from deltatui.domain.ledger import VenueEvent
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Operation
from deltatui.domain.units import BASE_PRECISION
from deltatui.ports import AccountState

TradeCommand = Take | Leave | Rebalance
PlannedCommand = TradeCommand | Deposit | Withdraw
"""What a plan is made for."""
AskedCommand = PlannedCommand | ForgetLosses
"""What may wait for the operator's confirmation."""


class Flags(msgspec.Struct, frozen=True):
    """Kept on disk. ``halted``, ``reducing`` hold the reason, empty where it is not so. ``held_by`` is who opened what
    is held; ``records`` the venue's funding records that were judged; ``operations`` numbers the engine's own;
    ``opened_s`` the market time at which the books were opened. ``pledged_1e9`` is SOL of the operator, in the
    wallet or paid in, that the hedge counts as its spot leg (never sold by a leave)."""

    automation: bool = True
    halted: str = ""
    reducing: str = ""
    paused: bool = False
    held_by: str = "nobody"
    last_rebalance_s: float | None = None
    operations: int = 0
    losses: LossState = LossState()
    liquidations: int = 0
    records: int = 0
    speed: int = 0
    held_since_s: float | None = None
    opened_s: float | None = None
    pledged_1e9: int = 0


class CarryMemory(msgspec.Struct, frozen=True):
    """Kept on disk: the carry decision and what it rests on."""

    state: CarryState
    decision: Decision | None


class HedgeCheck(msgspec.Struct, frozen=True):
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
    """What waits for its confirmation; ``perp_1e9`` is the position that the operator was shown, ``reduces`` whether it
    takes risk away."""

    operation_id: str
    command: AskedCommand
    created_s: float
    expires_s: float
    perp_1e9: int
    reduces: bool


class Facts(msgspec.Struct, frozen=True):
    """Market and account at one moment, known to be there."""

    market: MarketState
    account: AccountState
