"""What the engine remembers: across a restart on disk, and for a moment between two commands."""

from __future__ import annotations

import msgspec

from deltatui.domain.carry import CarryState, Decision
from deltatui.domain.command import Leave, Rebalance, Take
from deltatui.domain.health import LossState
from deltatui.domain.market import MarketState
from deltatui.domain.operation import Operation
from deltatui.ports import AccountState

TradeCommand = Take | Leave | Rebalance


class Flags(msgspec.Struct, frozen=True):
    """Kept on disk. ``halted``, ``reducing`` hold the reason, empty where it is not so. ``held_by`` is who opened what
    is held; ``records`` the venue's funding records that were judged; ``operations`` numbers the engine's own;
    ``opened_s`` the market time at which the books were opened."""

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


class CarryMemory(msgspec.Struct, frozen=True):
    """Kept on disk: the carry decision and what it rests on."""

    state: CarryState
    decision: Decision | None


class HedgeCheck(msgspec.Struct, frozen=True):
    """Kept on disk while a trade is under way, so that an odd leg is found after a crash too, and what follows from
    the trade is not forgotten. The balances are those before the operation."""

    operation: Operation
    spot_1e9: int
    perp_1e9: int


class Pending(msgspec.Struct, frozen=True):
    """A trade that waits for its confirmation; ``perp_1e9`` is the position that the operator was shown."""

    operation_id: str
    command: TradeCommand
    created_s: float
    expires_s: float
    perp_1e9: int


class Facts(msgspec.Struct, frozen=True):
    """Market and account at one moment, known to be there."""

    market: MarketState
    account: AccountState
