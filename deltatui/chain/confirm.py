"""What the chain says about a signature (R8.3)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from deltatui.chain import wire
from deltatui.chain.errors import RpcError
from deltatui.chain.pool import Pool
from deltatui.chain.program_error import ErrorNames, ProgramError, read_error
from deltatui.chain.rpc import Endpoint
from deltatui.domain.errors import TransientError, ValidationError
from deltatui.domain.operation import OperationState
from deltatui.ports import Outcome, Signed

Commitment = Literal["confirmed", "finalized"]
_LEVELS = {"processed": 0, "confirmed": 1, "finalized": 2}
_BLOCKHASH_BLOCKS = 150
# Slots of a stretch of the chain, at most, for each of its blocks (skipped slots).
_SLOTS_PER_BLOCK = 1.5
# Every node, however young, has the signatures of 300 slots in its status cache; some slots are empty.
_REMEMBERED_BLOCKS = 240


class Sight(StrEnum):
    """``NOTHING``: endpoints answered and do not know it. ``UNKNOWN``: none answered. ``SEEN``: in a block that may
    still go away."""

    UNKNOWN = "UNKNOWN"
    NOTHING = "NOTHING"
    SEEN = "SEEN"
    ENDED = "ENDED"


class Finding(msgspec.Struct, frozen=True):
    """``final``: no fork can take it back any more."""

    sight: Sight
    slot: int | None = None
    err: object = None
    why: str = ""
    final: bool = False


class Confirmer:
    """Reads the fate of one signature from every endpoint; any endpoint that has it at ``commitment`` decides."""

    def __init__(self, pool: Pool, commitment: Commitment = "confirmed", names: ErrorNames | None = None) -> None:
        self._pool = pool
        self._least = _LEVELS[commitment]
        self._names = names

    async def look(self, signature: str) -> Finding:
        async def ask(endpoint: Endpoint) -> wire.SignatureStatus | None:
            return (await endpoint.signature_status(signature)).value[0]

        answers = await self._pool.everyone(ask)
        statuses = [answer.value for answer in answers if answer.value is not None]
        ended = self._ended(statuses)
        if ended is not None:
            return ended
        if statuses:
            return Finding(Sight.SEEN, slot=max(each.slot for each in statuses))
        failed = [answer.error.sentence for answer in answers if answer.error is not None]
        if len(failed) == len(answers):
            return Finding(Sight.UNKNOWN, why=failed[0])
        return Finding(Sight.NOTHING)

    async def gone(self, signed: Signed, payer: str) -> Finding:
        """NOTHING only if the signature can never land: an endpoint has finalized a height above the last valid one,
        still has the blocks in which it could be, and finds it neither by signature nor in the payer's history.

        All of that is asked of the same endpoint, and its status must be from a bank at least as far as the finalized
        one: a node that hangs behind, or forgets, proves nothing. UNKNOWN with the reason otherwise.
        """
        answers = await self._pool.everyone(lambda endpoint: self._testimony(endpoint, signed, payer))
        found = [answer.value for answer in answers if answer.value is not None]
        for sight in (Sight.ENDED, Sight.SEEN, Sight.NOTHING):
            for finding in found:
                if finding.sight is sight:
                    return finding
        reasons = [finding.why for finding in found]
        reasons += [answer.error.sentence for answer in answers if answer.error is not None]
        return Finding(Sight.UNKNOWN, why=reasons[0] if reasons else "no endpoint answered")

    async def outcome(self, signature: str, finding: Finding) -> Outcome:
        """LANDED or FAILED from an ENDED finding; the program's own error name, from the logs where they are had."""
        where = f"in slot {finding.slot}" if finding.slot is not None else "in a block"
        if finding.err is None:
            return Outcome(OperationState.LANDED, detail=f"{signature} landed {where}")
        error = await self._explain(signature, finding.err)
        return Outcome(OperationState.FAILED, error.name, f"{signature} failed {where}: {error.sentence}")

    async def _explain(self, signature: str, err: object) -> ProgramError:
        logs: Sequence[str] = ()
        try:
            found = await self._pool.call_once(
                "getTransaction",
                [signature, {"encoding": "base64", "commitment": "confirmed", "maxSupportedTransactionVersion": 1}],
                wire.TransactionInfo,
            )
            if found.meta is not None:
                logs = found.meta.log_messages or ()
        except (TransientError, ValidationError):
            logs = ()  # the status alone has the number; the name is a comfort
        return read_error(err, logs, self._names)

    def _ended(self, statuses: Sequence[wire.SignatureStatus]) -> Finding | None:
        firm = [each for each in statuses if _LEVELS.get(each.commitment, 0) >= self._least]
        if not firm:
            return None
        best = max(firm, key=lambda each: _LEVELS.get(each.commitment, 0))
        return Finding(Sight.ENDED, best.slot, best.err, final=best.commitment == "finalized")

    async def _testimony(self, endpoint: Endpoint, signed: Signed, payer: str) -> Finding:
        last_valid = signed.last_valid_block_height
        label = endpoint.label
        if not await self._pool.same_chain(endpoint):
            return Finding(Sight.UNKNOWN, why=f"RPC {label} is on another chain")
        tip = await endpoint.epoch_info("finalized")
        if last_valid is None:
            return Finding(Sight.UNKNOWN, why="its last valid block height was not recorded")
        if tip.block_height <= last_valid:
            left = last_valid - tip.block_height
            return Finding(Sight.UNKNOWN, why=f"{left} finalized blocks left until it expires")
        reply = await endpoint.signature_status(signed.signature)
        status = reply.value[0]
        if status is not None:
            return self._ended([status]) or Finding(Sight.SEEN, status.slot)
        if reply.context.slot < tip.absolute_slot:
            return Finding(Sight.UNKNOWN, why=f"RPC {label} answers from a node that is behind")
        # The block it could have landed in earliest, reckoned back from the finalized tip.
        blocks_back = tip.block_height - last_valid + _BLOCKHASH_BLOCKS
        earliest_slot = tip.absolute_slot - int(blocks_back * _SLOTS_PER_BLOCK)
        if blocks_back > _REMEMBERED_BLOCKS and await endpoint.first_available_block() > max(earliest_slot, 0):
            return Finding(Sight.UNKNOWN, why=f"RPC {label} no longer has the blocks it could be in")
        for entry in await self._history(endpoint, payer):
            if entry.signature == signed.signature:
                level = _LEVELS.get(entry.confirmation_status or "finalized", 0)
                sight = Sight.ENDED if level >= self._least else Sight.SEEN
                return Finding(sight, entry.slot, entry.err, final=level == _LEVELS["finalized"])
        return Finding(Sight.NOTHING)

    async def _history(self, endpoint: Endpoint, payer: str) -> list[wire.SignatureEntry]:
        """A second index of the same node; not every node keeps it."""
        try:
            return await endpoint.signatures_for_address(payer)
        except RpcError as error:
            if error.code in ("RPC_METHOD_UNKNOWN", "RPC_NO_HISTORY", "RPC_NOT_INDEXED"):
                return []
            raise
