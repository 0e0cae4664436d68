"""``ports.Sender`` for Solana: simulate, sign once, send the same bytes down every path, find out what became of them.

The engine journals between the steps (docs/execution.md). Whatever fails here, one operation has one signature, and
only the chain says how it ended.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeVar

import msgspec

from deltatui.chain import manual, transaction
from deltatui.chain.confirm import Commitment, Confirmer
from deltatui.chain.fees import FeePolicy, budget, compute_units, tip_lamports, unit_price
from deltatui.chain.flight import Crew, Flight, PathPolicy
from deltatui.chain.jito import Jito
from deltatui.chain.pool import Pool
from deltatui.chain.program_error import ErrorNames, read_error, without_budget
from deltatui.chain.signer import Signer
from deltatui.chain.tasks import Supervisor
from deltatui.chain.transaction import LookupTable, Payload, Tip
from deltatui.chain.wire import LatestBlockhash, PrioritizationFee
from deltatui.chain.ws import Subscriptions
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.ports import Clock, Log, Outcome, Signed, Unsigned

T = TypeVar("T")

_NO_BLOCKHASH = "11111111111111111111111111111111"
_TABLE_LIVES_S = 600.0
_REMEMBERED = 5_000


class SenderPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """``least_life_blocks``: a blockhash with fewer blocks left is not signed for. ``commitment``: what counts as
    landed."""

    fees: FeePolicy = msgspec.field(default_factory=FeePolicy)
    paths: PathPolicy = msgspec.field(default_factory=PathPolicy)
    commitment: Commitment = "confirmed"
    least_life_blocks: int = 100


class _Plan(msgspec.Struct, frozen=True):
    """What simulation found out about one payload."""

    digest: bytes
    payload: Payload
    tables: tuple[LookupTable, ...]
    units: int
    price: int
    tip: Tip | None


class _Draft(msgspec.Struct, frozen=True):
    """A message that is ready to be signed."""

    operation_id: str
    digest: bytes
    message: bytes
    last_valid_block_height: int
    fees: transaction.Budget
    tip_lamports: int


class SolanaSender:
    """``jito`` None leaves the Jito path out, ``subscriptions`` None waits for the next poll instead of a notification.
    ``names`` gives error names that programs' logs do not. ``on_undone`` is called when an operation that was reported
    LANDED was taken back by a fork and can land no more: the engine must halt."""

    def __init__(
        self,
        pool: Pool,
        signer: Signer,
        clock: Clock,
        log: Log,
        policy: SenderPolicy | None = None,
        jito: Jito | None = None,
        names: ErrorNames | None = None,
        subscriptions: Subscriptions | None = None,
        on_undone: Callable[[Signed], None] | None = None,
    ) -> None:
        self._pool = pool
        self._signer = signer
        self._clock = clock
        self._log = log
        self._policy = policy or SenderPolicy()
        self._jito = jito
        self._names = names
        self._tasks = Supervisor(clock, log)
        confirmer = Confirmer(pool, self._policy.commitment, names)
        self._crew = Crew(pool, confirmer, clock, log, self._tasks, self._policy.paths, subscriptions, on_undone)
        self._plans: OrderedDict[str, _Plan] = OrderedDict()
        self._exports: OrderedDict[str, tuple[_Draft, manual.Export]] = OrderedDict()
        self._signed: OrderedDict[str, tuple[bytes, Signed]] = OrderedDict()
        self._flights: OrderedDict[str, Flight] = OrderedDict()
        self._signing = asyncio.Lock()
        self._tables: dict[str, tuple[float, LookupTable]] = {}
        self._landed_slot: int | None = None

    async def warm_up(self) -> None:
        """Read tip accounts and tip floor before the first operation needs them."""
        if self._jito is not None:
            await self._tip("")

    async def simulate(self, unsigned: Unsigned) -> None:
        """Raise ValidationError with the program's own error name as its code if it would fail (R3.2).

        TransientError if no node could simulate it, or one met a passing fault of its own.
        """
        payload = transaction.decode_payload(unsigned.payload)
        tables, price, tip = await asyncio.gather(
            self._lookup_tables(payload), self._unit_price(payload), self._tip(unsigned.operation_id)
        )
        # Price 0: with the full compute limit a fee would be judged that the real transaction does not pay.
        trial = transaction.Budget(transaction.MAX_COMPUTE_UNITS, 0)
        message = transaction.compile_message(payload, self._signer.address, tables, _NO_BLOCKHASH, trial, tip)
        raw = transaction.join(message)
        reply = await self._pool.simulate(raw, min_context_slot=self._landed_slot)
        found = reply.value
        if found.err is not None:
            self._plans.pop(unsigned.operation_id, None)
            error = read_error(found.err, found.logs, self._names)
            error = without_budget(error, payload, transaction.BUDGET_INSTRUCTIONS)
            self._log(
                Level.WARNING,
                "TX",
                f"simulation fails: {error.sentence}",
                {"operation": unsigned.operation_id, "logs": list(found.logs or ()), "transaction": raw.hex()},
            )
            if error.passing:
                raise TransientError("SIMULATION_NOT_NOW", f"the node cannot simulate it now: {error.sentence}")
            raise ValidationError(error.name, f"the simulation fails: {error.sentence}")
        units = compute_units(found.units_consumed, self._policy.fees)
        plan = _Plan(_digest(unsigned), payload, tables, units, price, tip)
        _remember(self._plans, unsigned.operation_id, plan)

    async def sign(self, unsigned: Unsigned) -> Signed:
        """Once for an operation; asking again gives the same bytes.

        Raises ValidationError NOT_SIMULATED for a payload that did not pass :meth:`simulate`, CriticalError if the
        operation was signed with another payload, TransientError if no node has a fresh blockhash.
        """
        async with self._signing:
            known = self._known(unsigned)
            if known is not None:
                return known
            if unsigned.operation_id in self._exports:
                raise ValidationError("EXPORTED", "this operation was exported to be signed outside; bring that back")
            draft = await self._draft(unsigned)
            signature = await self._signer.sign(draft.message)
            if not transaction.is_signed_by(self._signer.address, draft.message, signature):
                raise ValidationError("BAD_SIGNATURE", f"the signer gave no signature by {self._signer.address}")
            return self._record(draft, signature)

    async def export(self, unsigned: Unsigned) -> manual.Export:
        """The simulated operation, unsigned. While an export may still be signed and land, the same one is given."""
        async with self._signing:
            if self._known(unsigned) is not None:
                raise ValidationError("ALREADY_SIGNED", "this operation is signed already")
            if unsigned.operation_id in self._exports:
                draft, export = self._exports[unsigned.operation_id]
                if draft.digest != _digest(unsigned):
                    raise CriticalError("ALREADY_EXPORTED", "this operation was exported with another content")
                finalized = await self._pool.epoch_info("finalized")
                if finalized.block_height <= export.last_valid_block_height:
                    return export
            draft = await self._draft(unsigned)
            export = manual.make_export(
                draft.operation_id, self._signer.address, draft.message, draft.last_valid_block_height
            )
            _remember(self._exports, draft.operation_id, (draft, export))
            self._log(Level.INFO, "TX", "exported for signing outside", {"operation": draft.operation_id})
            return export

    async def import_signed(self, operation_id: str, text: str) -> Signed:
        """What :meth:`sign` gives, from the export signed outside. Raises ValidationError as ``manual.read_signed``
        does, and for an operation that was not exported by this process."""
        async with self._signing:
            if operation_id in self._signed:
                return self._signed[operation_id][1]
            if operation_id not in self._exports:
                raise ValidationError("NOT_EXPORTED", "this operation was not exported since the engine started")
            draft, export = self._exports[operation_id]
            signed = self._record(draft, manual.read_signed(export, text))
            del self._exports[operation_id]
            return signed

    async def send(self, signed: Signed) -> None:
        """Jito first, then RPC; from then on the same bytes go to every endpoint until it ended or expired.

        TransientError if nobody took the bytes; they are rebroadcast all the same, and :meth:`outcome` will know.
        """
        flight = self._flight(signed)
        await flight.send()

    async def outcome(self, signed: Signed) -> Outcome | None:
        """Wait up to 30 s after the first send, then 5 s at a time (R8.4). None while the chain has not decided.

        Needs nothing but ``signed``: after a restart it resumes from the journal's record, without sending.
        """
        flight = self._flight(signed)
        outcome = await flight.wait()
        if outcome is not None and flight.landed_slot is not None:
            self._landed_slot = max(self._landed_slot or 0, flight.landed_slot)
        return outcome

    def watched(self) -> Mapping[str, str]:
        """Signature -> what is known now, for everything that has not ended."""
        return {key: flight.progress for key, flight in self._flights.items() if not flight.ended}

    async def close(self) -> None:
        """Stop sending and watching. What is open stays in the journal and is resumed by :meth:`outcome`."""
        await self._tasks.close()

    def _known(self, unsigned: Unsigned) -> Signed | None:
        if unsigned.operation_id not in self._signed:
            return None
        digest, signed = self._signed[unsigned.operation_id]
        if digest != _digest(unsigned):
            raise CriticalError(
                "ALREADY_SIGNED", "this operation was signed with another content; it is never signed twice"
            )
        return signed

    async def _draft(self, unsigned: Unsigned) -> _Draft:
        plan = self._plans.get(unsigned.operation_id)
        if plan is None or plan.digest != _digest(unsigned):
            raise ValidationError("NOT_SIMULATED", "this operation was not simulated in this form; simulate it first")
        fees = budget(plan.units, plan.price, self._policy.fees)
        recent = await self._blockhash()
        message = transaction.compile_message(
            plan.payload, self._signer.address, plan.tables, recent.blockhash, fees, plan.tip
        )
        return _Draft(
            operation_id=unsigned.operation_id,
            digest=plan.digest,
            message=message,
            last_valid_block_height=recent.last_valid_block_height,
            fees=fees,
            tip_lamports=plan.tip.lamports if plan.tip else 0,
        )

    def _record(self, draft: _Draft, signature: bytes) -> Signed:
        signed = Signed(
            operation_id=draft.operation_id,
            signature=transaction.signature_text(signature),
            raw=transaction.join(draft.message, signature),
            last_valid_block_height=draft.last_valid_block_height,
        )
        _remember(self._signed, draft.operation_id, (draft.digest, signed))
        self._plans.pop(draft.operation_id, None)
        lamports = transaction.LAMPORTS_PER_SIGNATURE + draft.fees.priority_fee_lamports + draft.tip_lamports
        self._log(
            Level.INFO,
            "COST",
            f"{lamports} lamports for fees and tip",
            {
                "operation": draft.operation_id,
                "compute_units": draft.fees.units,
                "price_micro_lamports": draft.fees.price,
                "base_fee_lamports": transaction.LAMPORTS_PER_SIGNATURE,
                "priority_fee_lamports": draft.fees.priority_fee_lamports,
                "tip_lamports": draft.tip_lamports,
            },
        )
        self._log(
            Level.INFO,
            "TX",
            f"signed {signed.signature}",
            {"operation": draft.operation_id, "last_valid_block_height": signed.last_valid_block_height},
        )
        return signed

    def _flight(self, signed: Signed) -> Flight:
        transaction.check_raw(signed.raw, signed.signature)
        known = self._signed.get(signed.operation_id)
        if known is not None and known[1].signature != signed.signature:
            raise CriticalError("TWO_SIGNATURES", f"operation {signed.operation_id} has another signature already")
        if known is None:
            # Journalled by an earlier process: from now on this is the operation's one signature.
            _remember(self._signed, signed.operation_id, (b"", signed))
        flight = self._flights.get(signed.signature)
        if flight is None:
            flight = Flight(signed, self._crew, self._jito_for(signed))
            self._flights[signed.signature] = flight
            self._forget_ended()
        return flight

    def _jito_for(self, signed: Signed) -> Jito | None:
        """Jito only takes what tips one of its accounts; the plan without a tip goes by RPC."""
        return self._jito if self._jito is not None and self._jito.is_tipped(signed.raw) else None

    def _forget_ended(self) -> None:
        ended = [key for key, flight in self._flights.items() if flight.ended]
        for key in ended[: max(0, len(ended) - _REMEMBERED)]:
            del self._flights[key]

    async def _blockhash(self) -> LatestBlockhash:
        """A confirmed blockhash with most of its life ahead; every endpoint is asked when the first one's is old."""
        first = (await self._pool.latest_blockhash()).value
        if self._is_fresh(first):
            return first
        answers = await self._pool.everyone(lambda endpoint: endpoint.latest_blockhash())
        fresh = [answer.value.value for answer in answers if answer.value and self._is_fresh(answer.value.value)]
        if fresh:
            return max(fresh, key=lambda each: each.last_valid_block_height)
        raise TransientError(
            "STALE_BLOCKHASH", "no RPC endpoint has a fresh blockhash; its node hangs behind the chain"
        )

    def _is_fresh(self, found: LatestBlockhash) -> bool:
        height = self._pool.block_clock.height()
        if height is None:
            return True
        left = found.last_valid_block_height - height
        # More than a blockhash can live is as wrong as too little: a height of another chain, or made up.
        return self._policy.least_life_blocks <= left <= 2 * 150

    async def _unit_price(self, payload: Payload) -> int:
        recent: list[PrioritizationFee] | None = None
        try:
            recent = await self._pool.call_once(
                "getRecentPrioritizationFees",
                [transaction.writable_accounts(payload)[:128]],
                list[PrioritizationFee],
            )
        except (TransientError, ValidationError) as error:
            self._log(Level.WARNING, "COST", f"recent fees are not known: {error.sentence}", None)
        return unit_price(recent, self._policy.fees)

    async def _tip(self, operation_id: str) -> Tip | None:
        if self._jito is None:
            return None
        account = await self._jito.tip_account(operation_id)
        if not account:
            return None
        fixed = self._policy.fees.tip_lamports is not None
        floor = None if fixed else await self._jito.tip_floor()
        return Tip(account, tip_lamports(floor, self._policy.fees))

    async def _lookup_tables(self, payload: Payload) -> tuple[LookupTable, ...]:
        """Tables only grow, so one read some minutes ago is good."""
        now = self._clock.operator_s()
        missing = [
            each
            for each in payload.lookup_tables
            if each not in self._tables or self._tables[each][0] < now - _TABLE_LIVES_S
        ]
        if missing:
            for address, reply in zip(missing, await self._pool.accounts(missing), strict=True):
                table = transaction.read_lookup_table(address, reply.value.decoded()) if reply.value else None
                if table is None:
                    raise ValidationError("NO_LOOKUP_TABLE", f"{address} is not a live address lookup table")
                self._tables[address] = (now, table)
        return tuple(self._tables[each][1] for each in payload.lookup_tables)


def _digest(unsigned: Unsigned) -> bytes:
    return sha256(unsigned.payload).digest()


def _remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    """The newest 5,000; of older operations the journal knows."""
    memory[key] = value
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
