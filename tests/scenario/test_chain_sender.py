"""The sender against each fault of nodes, block engine and chain, in simulated time."""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from chainkit import FakeChain, Landed, Room, keypair, memo_of, room, run, seed, unsigned
from solders.message import MessageV0
from solders.pubkey import Pubkey

from deltatui.chain import manual, transaction
from deltatui.chain.fees import FeePolicy
from deltatui.chain.flight import PathPolicy
from deltatui.chain.http import Reply, TransportError
from deltatui.chain.sender import SolanaSender
from deltatui.chain.signer import OutsideSigner, SeedSigner
from deltatui.chain.transaction import AccountMeta, Instruction, Payload
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, ValidationError
from deltatui.domain.event import Level
from deltatui.domain.operation import OperationState
from deltatui.ports import Outcome, Signed, Unsigned

NULL_ID = Reply(
    429,
    b'{"jsonrpc":"2.0","error":{"code":-32097,"message":"Network congested. Endpoint is globally rate limited.",'
    b'"data":null},"id":null}',
)


def story(
    tell: Callable[[Room], Awaitable[None]], hosts: tuple[str, ...] = ("one.test", "two.test"), jito: bool = True
) -> Room:
    """Run ``tell`` in a room whose pool is watched, and close it."""

    async def whole() -> Room:
        found = room(hosts=hosts, jito=jito)
        watching = asyncio.create_task(found.pool.watch())
        await asyncio.sleep(1.0)
        await found.sender.warm_up()
        await asyncio.sleep(1.0)
        await tell(found)
        watching.cancel()
        await found.sender.close()
        return found

    return run(whole())


async def signed(found: Room, operation_id: str = "a") -> Signed:
    await found.sender.simulate(unsigned(operation_id))
    return await found.sender.sign(unsigned(operation_id))


async def until_ended(found: Room, each: Signed) -> tuple[Outcome, int]:
    """The outcome and how often it was not known yet."""
    rounds = 0
    while (outcome := await found.sender.outcome(each)) is None:
        rounds += 1
    return outcome, rounds


def now() -> float:
    return asyncio.get_running_loop().time()


def sent_to(found: Room, host: str) -> list[float]:
    return [at for at, where, _ in found.chain.wire if where == host]


def test_healthy_goes_through_jito_alone() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        before = now()
        await found.sender.send(each)
        assert now() - before < 0.1
        outcome, rounds = await until_ended(found, each)
        assert (outcome.state, rounds) == (OperationState.LANDED, 0)
        assert len(sent_to(found, "jito.test")) == 1
        assert not sent_to(found, "one.test")
        assert found.chain.operations_landed() == ["a"]
        assert any(line.startswith("taken at try 1") for line in found.log.tagged("JITO"))
        assert any(line.startswith("LANDED") for line in found.log.tagged("TX"))
        assert found.log.tagged("COST") == ["35269 lamports for fees and tip"]
        # nothing goes on in the background
        requests = sum(method == "sendTransaction" for _, _, method in found.chain.requests)
        await asyncio.sleep(60.0)
        assert sum(method == "sendTransaction" for _, _, method in found.chain.requests) == requests

    story(tell)


def test_the_transaction_has_budget_first_and_tip_last() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        message = MessageV0.from_bytes(transaction.split(each.raw)[1][1:])
        keys = [str(key) for key in message.account_keys]
        programs = [keys[step.program_id_index] for step in message.instructions]
        assert programs[0] == programs[1] == "ComputeBudget111111111111111111111111111111"
        # 20,000 units in simulation, a fifth more; the 75th percentile of 0, 100 .. 14,900
        assert message.instructions[0].data == b"\x02" + (24_000).to_bytes(4, "little")
        assert message.instructions[1].data == b"\x03" + (11_200).to_bytes(8, "little")
        tip = message.instructions[-1]
        assert tip.data == (2).to_bytes(4, "little") + (30_000).to_bytes(8, "little")
        assert keys[tip.accounts[1]] in found.chain.tip_accounts
        assert each.last_valid_block_height is not None
        assert str(message.recent_blockhash) in found.chain.heights

    story(tell)


@pytest.mark.parametrize("fault", ["refused", "429 null id", "429 in 200", "hang", "lost reply"])
def test_dead_jito_falls_back_within_three_tries(fault: str) -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)

        def script(host: str, method: str) -> Reply | None:
            if host == "jito.test" and method == "sendTransaction":
                if fault == "refused":
                    raise TransportError("ClientConnectorError")
                if fault == "429 null id":
                    return NULL_ID
                if fault == "429 in 200":
                    return Reply(200, NULL_ID.body)
            return None

        found.chain.script = script
        found.chain.hang = lambda host, method: 60.0 if fault == "hang" and host == "jito.test" else 0.0
        found.chain.after = lambda host, method: fault == "lost reply" and host == "jito.test"
        await found.sender.send(each)
        tries = sent_to(found, "jito.test")
        assert len(tries) == 3
        assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in itertools.pairwise(tries))
        assert sent_to(found, "one.test")
        assert sent_to(found, "two.test")
        assert len({raw for _, _, raw in found.chain.wire}) == 1
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        assert found.chain.operations_landed() == ["a"]

    story(tell)


def test_longer_back_off_of_jito_ends_its_path_at_once() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        text = b"Rate limit exceeded. Limit: 1 per second for txn requests. Back-off triggered: Retry after 9000ms"
        found.chain.script = lambda host, method: Reply(429, text) if host == "jito.test" else None
        await found.sender.send(each)
        assert len(sent_to(found, "jito.test")) == 1
        assert sent_to(found, "one.test")

    story(tell)


def test_jito_without_tip_accounts_is_left_out() -> None:
    async def whole() -> None:
        chain = FakeChain()
        chain.script = lambda host, method: Reply(503, b"") if host == "jito.test" else None
        found = room(chain)
        each = await signed(found)
        assert found.log.tagged("JITO")
        await found.sender.send(each)
        assert not sent_to(found, "jito.test")
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        await found.sender.close()

    run(whole())


def test_bundle_that_never_lands_is_rebroadcast_to_every_rpc() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        arrivals: list[str] = []

        def fate(signature: str) -> int | None:
            arrivals.append(signature)
            return 1 if len(arrivals) >= 6 else None

        found.chain.fate = fate
        began = now()
        await found.sender.send(each)
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        for host in ("one.test", "two.test"):
            times = [at - began for at in sent_to(found, host)]
            assert times[0] == pytest.approx(2.0, abs=0.2)
            pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
            assert pauses == pytest.approx([2.0] * len(pauses), abs=0.2)
        assert len({raw for _, _, raw in found.chain.wire}) == 1

    story(tell)


def test_nobody_takes_it_is_transient_and_retried_with_the_same_bytes() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)

        def down(host: str, method: str) -> Reply | None:
            if method == "sendTransaction":
                raise TransportError("ClientConnectorError")
            return None

        found.chain.script = down
        with pytest.raises(TransientError, match="SEND_UNKNOWN"):
            await found.sender.send(each)
        with pytest.raises(TransientError, match="SEND_UNKNOWN"):
            await found.sender.send(each)
        assert len(sent_to(found, "jito.test")) == 3
        found.chain.script = lambda host, method: None
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        assert len({raw for _, _, raw in found.chain.wire}) == 1
        await found.sender.send(each)
        assert found.chain.operations_landed() == ["a"]

    story(tell)


def test_never_lands_expires_after_finality_and_says_so() -> None:
    async def tell(found: Room) -> None:
        found.chain.fate = lambda signature: None
        each = await signed(found)
        began = now()
        await found.sender.send(each)
        outcome, rounds = await until_ended(found, each)
        assert outcome.state is OperationState.EXPIRED
        assert each.last_valid_block_height is not None
        tip = FakeChain.height_of(found.chain.slot()) - 32
        assert tip > each.last_valid_block_height
        # 150 blocks and 32 more of 0.4 s
        assert 70.0 < now() - began < 95.0
        assert rounds >= 8
        assert not [at for at in sent_to(found, "one.test") if at - began > 70.0]
        assert any("is unresolved after 6" in line for line in found.log.tagged("TX"))

    story(tell)


def test_late_landing_is_found() -> None:
    async def tell(found: Room) -> None:
        found.chain.fate = lambda signature: 120
        each = await signed(found)
        await found.sender.send(each)
        outcome, rounds = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        assert rounds >= 3

    story(tell)


def test_landed_but_hidden_status_is_waited_for() -> None:
    async def tell(found: Room) -> None:
        found.chain.hide_s = 50.0
        each = await signed(found)
        await found.sender.send(each)
        outcome, rounds = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        assert rounds >= 4

    story(tell)


def test_status_index_that_forgot_is_caught_by_the_address_history() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        await found.sender.send(each)
        found.chain._status = lambda host, signature: None  # type: ignore[method-assign]
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED

    story(tell)


def test_stuck_at_processed_is_never_landed() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        found.chain.stuck_at_processed.add(each.signature)
        await found.sender.send(each)
        for _ in range(30):
            assert await found.sender.outcome(each) is None
        assert "not confirmed yet" in found.sender.watched()[each.signature]
        found.chain.stuck_at_processed.clear()
        assert (await until_ended(found, each))[0].state is OperationState.LANDED

    story(tell)


def test_reorg_before_confirmation_lands_again_from_the_rebroadcast() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        found.chain.stuck_at_processed.add(each.signature)
        await found.sender.send(each)
        await asyncio.sleep(3.0)
        assert each.signature in found.chain.landed
        del found.chain.landed[each.signature]
        found.chain.stuck_at_processed.clear()
        outcome, _ = await until_ended(found, each)
        assert outcome.state is OperationState.LANDED
        assert found.chain.operations_landed() == ["a"]

    story(tell)


def test_confirmed_and_taken_back_lands_again() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        await found.sender.send(each)
        assert (await until_ended(found, each))[0].state is OperationState.LANDED
        del found.chain.landed[each.signature]
        await asyncio.sleep(60.0)
        assert found.chain.operations_landed() == ["a"]
        assert any("taken back by a fork" in line for line in found.log.tagged("TX"))
        assert len({raw for _, _, raw in found.chain.wire}) == 1
        # final now: nobody watches any more
        before = len(found.chain.wire)
        del found.chain.landed[each.signature]
        await asyncio.sleep(60.0)
        assert len(found.chain.wire) == before

    story(tell)


def test_landed_and_undone_for_good_is_told() -> None:
    async def whole() -> None:
        base = room(jito=False)
        undone: list[Signed] = []
        sender = SolanaSender(base.pool, SeedSigner(seed()), base.clock, base.log, on_undone=undone.append)
        await sender.simulate(unsigned("a"))
        each = await sender.sign(unsigned("a"))
        await sender.send(each)
        outcome = await sender.outcome(each)
        assert outcome is not None
        base.chain.fate = lambda signature: None
        base.chain.landed.clear()
        await asyncio.sleep(50.0)
        assert not undone
        await asyncio.sleep(100.0)
        assert undone == [each]
        assert [line for line in base.log.lines if line[0] is Level.CRITICAL]
        await sender.close()

    run(whole())


def test_on_chain_failure_has_the_programs_name() -> None:
    async def tell(found: Room) -> None:
        found.chain.chain_error = {"InstructionError": [2, {"Custom": 6015}]}
        each = await signed(found)
        await found.sender.send(each)
        outcome, _ = await until_ended(found, each)
        assert (outcome.state, outcome.error_code) == (OperationState.FAILED, "Slippage")
        assert "6015" in outcome.detail
        assert each.signature in outcome.detail

    story(tell)


def test_failed_simulation_names_the_programs_error_and_keeps_the_key() -> None:
    async def tell(found: Room) -> None:
        # facts: the real preflight failure of a Drift liquidator, our two budget instructions before it
        found.chain.simulation = {
            "err": {"InstructionError": [2, {"Custom": 6004}]},
            "logs": [
                "Program log: AnchorError occurred. Error Code: SufficientCollateral. Error Number: 6004. "
                "Error Message: Sufficient collateral.",
                "Program dRiftyHA39MWEi3m9aunc5MzRF1JYuBsbn6VPcn33UH failed: custom program error: 0x1774",
            ],
            "unitsConsumed": 61866,
        }
        with pytest.raises(ValidationError) as caught:
            await found.sender.simulate(unsigned("a"))
        assert caught.value.code == "SufficientCollateral"
        assert "instruction 0 of program dRifty" in caught.value.sentence
        with pytest.raises(ValidationError, match="NOT_SIMULATED"):
            await found.sender.sign(unsigned("a"))
        assert not found.chain.wire

    story(tell)


def test_a_passing_simulation_error_is_transient() -> None:
    async def tell(found: Room) -> None:
        found.chain.simulation = {"err": "AccountInUse", "logs": [], "unitsConsumed": 0}
        with pytest.raises(TransientError, match="SIMULATION_NOT_NOW"):
            await found.sender.simulate(unsigned("a"))

    story(tell)


@pytest.mark.parametrize("doubt", ["context behind", "pruned", "no history", "other chain", "not final"])
def test_one_nodes_ignorance_is_no_proof_of_expiry(doubt: str) -> None:
    """A node that is behind, forgets, or is of another chain cannot end an operation that landed."""

    async def whole() -> None:
        chain = FakeChain()
        found = room(chain, hosts=("one.test",), jito=False)
        each = await signed(found)
        await found.sender.send(each)
        await asyncio.sleep(1.0)
        assert found.chain.operations_landed() == ["a"]
        await found.sender.close()
        await asyncio.sleep(600.0)
        # a new process; the node's indexes do not know the signature
        late = room(chain, hosts=("one.test",), jito=False)
        truth = dict(chain.landed)
        chain.landed.clear()
        if doubt == "context behind":
            honest = chain._valued
            chain._valued = lambda host, value: {**honest(host, value), "context": {"slot": 5}}  # type: ignore[method-assign]
        elif doubt == "pruned":
            chain.first_block["one.test"] = chain.slot() - 10
        elif doubt == "no history":
            chain.history_works = False
        elif doubt == "other chain":
            late.pool._genesis = "another"
        elif doubt == "not final":
            honest_info = chain.do_getEpochInfo
            chain.do_getEpochInfo = lambda host, config: (  # type: ignore[method-assign]
                {**honest_info(host, config), "blockHeight": each.last_valid_block_height or 0}
            )
        for _ in range(20):
            assert await late.sender.outcome(each) is None
        assert "not known" in late.sender.watched()[each.signature]
        chain.landed.update(truth)
        chain.history_works = True
        assert (await until_ended(late, each))[0].state is OperationState.LANDED
        assert len(chain.wire) == 1
        await late.sender.close()

    run(whole())


def test_one_denial_is_not_enough() -> None:
    async def whole() -> None:
        chain = FakeChain()
        found = room(chain, hosts=("one.test",), jito=False)
        chain.fate = lambda signature: None
        each = await signed(found)
        await asyncio.sleep(600.0)
        denied: list[float] = []
        answered = chain.do_getFirstAvailableBlock

        def first_block(host: str) -> int:
            denied.append(now())
            if len(denied) == 1:
                asyncio.get_running_loop().call_later(
                    2.0, chain.landed.update, {each.signature: Landed(chain.slot() - 400)}
                )
            return answered(host)

        chain.do_getFirstAvailableBlock = first_block  # type: ignore[method-assign]
        assert (await until_ended(found, each))[0].state is OperationState.LANDED
        await found.sender.close()

    run(whole())


def test_resumed_from_the_journal_alone_without_sending() -> None:
    async def whole() -> None:
        chain = FakeChain()
        first = room(chain)
        each = await signed(first)
        await first.sender.close()
        copy = Signed(each.operation_id, each.signature, each.raw, each.last_valid_block_height)
        second = room(chain)
        outcome, rounds = await until_ended(second, copy)
        assert outcome.state is OperationState.EXPIRED
        assert rounds >= 10
        assert not chain.wire
        with pytest.raises(CriticalError, match="ALREADY_SIGNED"):
            await second.sender.sign(unsigned("a"))
        await second.sender.close()

    run(whole())


def test_resumed_and_landed_meanwhile() -> None:
    async def whole() -> None:
        chain = FakeChain()
        first = room(chain)
        each = await signed(first)
        await first.sender.send(each)
        await first.sender.close()
        await asyncio.sleep(1000.0)
        second = room(chain)
        assert (await until_ended(second, each))[0].state is OperationState.LANDED
        await second.sender.close()

    run(whole())


def test_damaged_journal_is_critical() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        other = await signed(found, "b")
        with pytest.raises(CriticalError, match="SIGNATURE_MISMATCH"):
            await found.sender.send(Signed("a", each.signature, other.raw, each.last_valid_block_height))
        with pytest.raises(CriticalError, match="SIGNATURE_MISMATCH"):
            await found.sender.outcome(Signed("a", each.signature, b"", None))
        with pytest.raises(CriticalError, match="TWO_SIGNATURES"):
            await found.sender.send(Signed("a", other.signature, other.raw, other.last_valid_block_height))
        assert not found.chain.wire

    story(tell)


def test_signed_once_even_when_asked_at_the_same_time() -> None:
    async def tell(found: Room) -> None:
        await found.sender.simulate(unsigned("a"))
        # each reads the blockhash later than the one before, so each would sign something else
        waits = itertools.count(1)
        found.chain.hang = lambda host, method: 0.5 * next(waits)
        several = await asyncio.gather(*(found.sender.sign(unsigned("a")) for _ in range(5)))
        assert len({each.raw for each in several}) == 1
        changed = Unsigned("a", unsigned("b").payload)
        await found.sender.simulate(changed)
        with pytest.raises(CriticalError, match="ALREADY_SIGNED"):
            await found.sender.sign(changed)

    story(tell)


def test_what_was_taken_is_not_sent_again_by_asking_again() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        found.chain.fate = lambda signature: 3
        await asyncio.gather(*(found.sender.send(each) for _ in range(3)))
        await found.sender.send(each)
        assert len(found.chain.wire) == 1

    story(tell)


@pytest.mark.parametrize("age_s", [0.0, 55.0, 65.0, 1e9])
def test_an_old_tip_floor_is_not_used(age_s: float) -> None:
    async def tell(found: Room) -> None:
        await asyncio.sleep(40.0)
        made = datetime.fromtimestamp(found.clock.operator_s() - age_s, UTC)
        old = [{**found.chain.tip_floor()[0], "time": made.isoformat()}]
        found.chain.tip_floor = lambda: old  # type: ignore[method-assign]
        each = await signed(found)
        tip = MessageV0.from_bytes(transaction.split(each.raw)[1][1:]).instructions[-1]
        assert int.from_bytes(tip.data[4:], "little") == (30_000 if age_s < 60.0 else 10_000)

    story(tell)


def test_old_blockhash_of_a_lagging_node_is_not_signed_for() -> None:
    async def tell(found: Room) -> None:
        found.chain.lags["one.test"] = 100
        found.pool._members[0].latencies_ms.extend([1.0] * 20)
        found.pool._members[0].slot = None
        each = await signed(found)
        height = FakeChain.height_of(found.chain.slot())
        assert each.last_valid_block_height is not None
        assert each.last_valid_block_height - height > 140
        found.chain.lags["two.test"] = 100
        await found.sender.simulate(unsigned("b"))
        with pytest.raises(TransientError, match="STALE_BLOCKHASH"):
            await found.sender.sign(unsigned("b"))

    story(tell)


def test_simulation_after_a_landing_waits_for_a_node_that_has_it() -> None:
    async def tell(found: Room) -> None:
        each = await signed(found)
        await found.sender.send(each)
        await until_ended(found, each)
        found.chain.lags.update({"one.test": 0, "two.test": 300})
        found.pool._members[0].latencies_ms.extend([400.0] * 20)
        found.pool._members[1].latencies_ms.extend([1.0] * 20)
        before = len(found.chain.requests)
        await found.sender.simulate(unsigned("b"))
        asked = [host for _, host, method in found.chain.requests[before:] if method == "simulateTransaction"]
        assert asked[-1] == "one.test"

    story(tell)


def test_fees_unknown_are_not_free() -> None:
    async def tell(found: Room) -> None:
        def script(host: str, method: str) -> Reply | None:
            return Reply(503, b"") if method in ("getRecentPrioritizationFees", "tip_floor") else None

        found.chain.script = script
        found.chain.simulation = {"err": None, "logs": None}
        await asyncio.sleep(40.0)
        each = await signed(found)
        message = MessageV0.from_bytes(transaction.split(each.raw)[1][1:])
        assert message.instructions[0].data == b"\x02" + (600_000).to_bytes(4, "little")
        assert message.instructions[1].data == b"\x03" + (10_000).to_bytes(8, "little")
        assert message.instructions[-1].data[4:] == (10_000).to_bytes(8, "little")
        assert found.log.tagged("JITO")

    story(tell)


def test_lookup_tables_are_read_and_used() -> None:
    async def tell(found: Room) -> None:
        table = str(keypair("table").pubkey())
        inside = [str(Pubkey.from_bytes(bytes([n]) * 32)) for n in range(1, 30)]
        header = (1).to_bytes(4, "little") + b"\xff" * 8 + bytes(44)
        found.chain.tables[table] = header + b"".join(bytes(Pubkey.from_string(each)) for each in inside)
        many = unsigned("a", (table,), tuple(inside))
        await found.sender.simulate(many)
        each = await found.sender.sign(many)
        message = MessageV0.from_bytes(transaction.split(each.raw)[1][1:])
        assert len(message.address_table_lookups) == 1
        assert len(message.account_keys) < 8
        with pytest.raises(ValidationError, match="NO_LOOKUP_TABLE"):
            await found.sender.simulate(unsigned("b", (str(keypair("none").pubkey()),)))
        with pytest.raises(ValidationError, match="TX_TOO_LARGE"):
            await found.sender.simulate(
                unsigned("b", (), tuple(inside + [str(keypair(str(n)).pubkey()) for n in range(10)]))
            )

    story(tell)


def test_exported_signed_outside_and_brought_back() -> None:
    async def whole() -> None:
        chain = FakeChain()
        base = room(chain, jito=False)
        outside = SolanaSender(base.pool, OutsideSigner(str(keypair().pubkey())), base.clock, base.log)
        await outside.simulate(unsigned("a"))
        with pytest.raises(ValidationError, match="NEEDS_OUTSIDE_SIGNATURE"):
            await outside.sign(unsigned("a"))
        export = await outside.export(unsigned("a"))
        assert await outside.export(unsigned("a")) == export
        raw = base64.b64decode(export.transaction)
        assert raw[1:65] == bytes(64)
        assert memo_of(raw) == "a"
        good = keypair().sign_message(export.message_bytes)
        with pytest.raises(ValidationError, match="BAD_SIGNATURE"):
            await outside.import_signed("a", str(keypair("thief").sign_message(export.message_bytes)))
        tampered = bytearray(raw)
        tampered[-1] ^= 1
        with pytest.raises(ValidationError, match="NOT_THE_SAME"):
            await outside.import_signed("a", base64.b64encode(bytes(tampered)).decode())
        with pytest.raises(ValidationError, match="NOT_EXPORTED"):
            await outside.import_signed("b", str(good))
        whole_text = base64.b64encode(transaction.join(export.message_bytes, bytes(good))).decode()
        each = await outside.import_signed("a", whole_text)
        assert each.signature == str(good)
        assert await outside.import_signed("a", "again") == each
        with pytest.raises(ValidationError, match="ALREADY_SIGNED"):
            await outside.export(unsigned("a"))
        await outside.send(each)
        outcome = None
        while outcome is None:
            outcome = await outside.outcome(each)
        assert outcome.state is OperationState.LANDED
        await outside.close()

    run(whole())


def test_a_new_export_only_when_the_old_one_is_dead() -> None:
    async def tell(found: Room) -> None:
        await found.sender.simulate(unsigned("a"))
        first = await found.sender.export(unsigned("a"))
        with pytest.raises(ValidationError, match="EXPORTED"):
            await found.sender.sign(unsigned("a"))
        await asyncio.sleep(65.0)
        # expired, but a block with it may still become final
        assert await found.sender.export(unsigned("a")) == first
        await asyncio.sleep(20.0)
        second = await found.sender.export(unsigned("a"))
        assert second != first
        with pytest.raises(ValidationError, match="BAD_SIGNATURE"):
            await found.sender.import_signed("a", str(keypair().sign_message(first.message_bytes)))
        assert isinstance(second, manual.Export)

    story(tell)


def test_a_signer_that_lies_is_found_out() -> None:
    class Liar:
        address = str(keypair().pubkey())

        async def sign(self, message: bytes) -> bytes:
            return bytes(keypair("other").sign_message(message))

    async def whole() -> None:
        base = room()
        sender = SolanaSender(base.pool, Liar(), base.clock, base.log)
        await sender.simulate(unsigned("a"))
        with pytest.raises(ValidationError, match="BAD_SIGNATURE"):
            await sender.sign(unsigned("a"))
        assert not base.chain.wire

    run(whole())


def test_clock_set_back_or_ahead_changes_no_outcome() -> None:
    async def whole(jump_s: float) -> OperationState:
        found = room()
        watching = asyncio.create_task(found.pool.watch())
        await asyncio.sleep(3.0)
        each = await signed(found)
        await found.sender.send(each)
        found.chain.landed.clear()
        found.chain.pending.clear()
        found.chain.fate = lambda signature: 5
        found.clock.ahead_s += jump_s
        outcome, _ = await until_ended(found, each)
        watching.cancel()
        await found.sender.close()
        return outcome.state

    for jump_s in (-3600.0, -5.0, 5.0, 3600.0):
        assert run(whole(jump_s)) is OperationState.LANDED


def test_no_secret_reaches_a_log_or_an_error() -> None:
    async def tell(found: Room) -> None:
        echo = (
            b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"bad key key-of-one.test and key-of-two.test"},"id":1}'
        )
        found.chain.script = lambda host, method: Reply(200, echo)
        errors: list[DeltatuiError] = []
        for _ in range(3):
            with pytest.raises(TransientError) as caught:
                await found.pool.slot()
            errors.append(caught.value)
        await found.pool.probe()
        shown = found.log.text + repr(errors) + repr(found.pool.status()) + repr(found.pool._members[0].endpoint.config)
        assert "key-of" not in shown
        assert str(keypair()) not in shown
        assert "***" in shown

    story(tell)


def test_payloads_that_are_none() -> None:
    async def tell(found: Room) -> None:
        budget = Instruction("ComputeBudget111111111111111111111111111111", (), b"\x02")
        twice = Instruction(
            keypair("p").pubkey().__str__(), (AccountMeta(str(keypair("q").pubkey()), True, True),), b""
        )
        wrong = Instruction("not an address", (), b"")
        for data, code in (
            (b"", "BAD_PAYLOAD"),
            (b"\xff" * 40, "BAD_PAYLOAD"),
            (Payload(()).encoded(), "BAD_PAYLOAD"),
            (Payload((budget,)).encoded(), "BAD_PAYLOAD"),
            (Payload((wrong,)).encoded(), "BAD_PAYLOAD"),
            (Payload((twice,)).encoded(), "MORE_SIGNERS"),
        ):
            with pytest.raises(ValidationError) as caught:
                await found.sender.simulate(Unsigned("a", data))
            assert caught.value.code == code
        assert not any(method == "simulateTransaction" for _, _, method in found.chain.requests)

    story(tell)


def test_policies_refuse_nonsense() -> None:
    for make in (
        lambda: PathPolicy(jito_tries=4),
        lambda: PathPolicy(poll_s=0.0),
        lambda: FeePolicy(tip_lamports=5),
        lambda: FeePolicy(tip_lamports=10**9),
        lambda: FeePolicy(units_if_unknown=0),
        lambda: FeePolicy(price_percentile=101),
    ):
        with pytest.raises(ValidationError):
            make()
