"""The engine's memory on disk: named blobs of JSON, and how those of earlier versions are read.

A field that this version does not know is refused, never dropped: it may say that somebody else owns a position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from deltatui.domain.carry import CarryState, Decision, Stance
from deltatui.domain.errors import CriticalError
from deltatui.domain.health import LossState
from deltatui.engine.memory import AccountMemory, HedgeCheck, HedgeMemory

encode = msgspec.json.Encoder().encode

_ONLY_MARKET = "SOL-PERP"
"""The one that engines before schema 3 could carry."""
_T = TypeVar("_T")


def hedge_name(symbol: str) -> str:
    return f"hedge {symbol}"


def check_name(symbol: str) -> str:
    return f"check {symbol}"


class Kept(msgspec.Struct, frozen=True):
    """What was found. ``outdated`` are blobs of an earlier version, to be emptied with the first save."""

    account: AccountMemory | None
    books: bytes | None
    hedges: Mapping[str, HedgeMemory]
    checks: Mapping[str, HedgeCheck]
    outdated: Mapping[str, bytes] = {}

    def hedge(self, symbol: str) -> tuple[HedgeMemory, HedgeCheck | None]:
        return self.hedges.get(symbol, HedgeMemory()), self.checks.get(symbol)


class _Flags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Blob ``flags`` up to schema 2: account and hedge in one. ``records`` counted the records judged, which the table
    ``funding`` tells now."""

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


class _OldDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Up to schema 2 both directions' estimates were kept; the next record makes new ones."""

    target: Stance
    sentence: str
    carry: msgspec.Raw
    reverse: msgspec.Raw


class _Carry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Blob ``carry`` up to schema 2."""

    state: CarryState
    decision: _OldDecision | None


def read_kept(state: Mapping[str, bytes]) -> Kept:
    """Raises CriticalError for what this version cannot read."""
    books = state.get("books") or None
    if not state.get("account"):
        return _of_one_market(state, books)
    hedges, checks = {}, {}
    for name, raw in state.items():
        kind, _, symbol = name.partition(" ")
        if kind == "hedge" and raw:
            hedges[symbol] = _read(name, raw, HedgeMemory)
        elif kind == "check" and raw:
            checks[symbol] = _read(name, raw, HedgeCheck)
    return Kept(_read("account", state["account"], AccountMemory), books, hedges, checks)


def _of_one_market(state: Mapping[str, bytes], books: bytes | None) -> Kept:
    """Up to schema 2 the blobs were ``flags``, ``carry`` and ``hedge_check``, and there was one market."""
    outdated = {name: b"" for name in ("flags", "carry", "hedge_check") if state.get(name)}
    if not state.get("flags"):
        return Kept(None, books, {}, {}, outdated)
    flags = _read("flags", state["flags"], _Flags)
    account = AccountMemory(
        automation=flags.automation,
        halted=flags.halted,
        reducing=flags.reducing,
        paused=flags.paused,
        operations=flags.operations,
        losses=flags.losses,
        liquidations=flags.liquidations,
        speed=flags.speed,
        opened_s=flags.opened_s,
    )
    carry = _read("carry", state["carry"], _Carry) if state.get("carry") else _Carry(CarryState(), None)
    hedge = HedgeMemory(
        carry=carry.state,
        decision=None if carry.decision is None else Decision(carry.decision.target, None, carry.decision.sentence),
        held_by=flags.held_by,
        held_since_s=flags.held_since_s,
        last_rebalance_s=flags.last_rebalance_s,
        pledged_1e9=flags.pledged_1e9,
    )
    checks = {}
    if raw := state.get("hedge_check"):
        checks[_ONLY_MARKET] = _read("hedge_check", raw, HedgeCheck)
    return Kept(account, books, {_ONLY_MARKET: hedge}, checks, outdated)


def _read(name: str, raw: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        raise CriticalError(
            "STATE_UNREADABLE",
            f"the kept state '{name}' cannot be read by this version ({error}); start the deltatui that wrote it",
        ) from error
