"""The pool's ranking, failover, retries and rate limits, and the block clock, in simulated time."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from chainkit import FakeChain, LoopClock, ManualClock, Room, room, run

from deltatui.chain.blockclock import BlockClock
from deltatui.chain.bucket import TokenBucket
from deltatui.chain.errors import RpcTransientError
from deltatui.chain.http import Reply, TransportError
from deltatui.chain.rpc import EndpointConfig
from deltatui.domain.errors import CriticalError, TransientError, ValidationError
from deltatui.domain.event import Level

THREE = ("one.test", "two.test", "three.test")
BEHIND = Reply(200, b'{"jsonrpc":"2.0","error":{"code":-32005,"message":"Node is behind by 42 slots"},"id":1}')


def labels(found: Room) -> list[str]:
    return [status.label for status in found.pool.status()]


def asked(found: Room, method: str) -> list[tuple[float, str]]:
    return [(at, host) for at, host, each in found.chain.requests if each == method]


def test_ranked_by_latency() -> None:
    async def story() -> None:
        found = room(hosts=THREE, jito=False)
        slow = {"one.test": 0.4, "two.test": 0.05, "three.test": 0.2}
        found.chain.hang = lambda host, method: slow[host]
        await found.pool.probe()
        await found.pool.probe()
        assert labels(found) == ["two.test", "three.test", "one.test"]
        assert found.pool.latency_ms() == pytest.approx(70.0, abs=1.0)
        found.chain.requests.clear()
        await found.pool.slot()
        assert [host for _, host, _ in found.chain.requests] == ["two.test"]

    run(story())


def test_latency_is_the_median_of_the_last_twenty() -> None:
    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        waits = iter([1.0] * 30 + [0.1] * 11 + [2.0] * 9)
        found.chain.hang = lambda host, method: next(waits)
        assert found.pool.latency_ms() is None
        for _ in range(50):
            await found.pool.slot()
        assert found.pool.latency_ms() == pytest.approx(120.0, abs=1.0)

    run(story())


def test_a_node_that_hangs_behind_goes_last() -> None:
    async def story() -> None:
        found = room(hosts=THREE, jito=False)
        found.chain.lags["one.test"] = 40
        found.chain.hang = lambda host, method: 0.0 if host == "one.test" else 0.1
        await found.block_clock.seed(found.pool)
        await found.pool.probe()
        assert labels(found)[-1] == "one.test"
        last = found.pool.status()[-1]
        assert last.lag_slots == pytest.approx(40, abs=1)
        assert last.lag_s == pytest.approx(16.0, abs=1.0)

    run(story())


@pytest.mark.parametrize(
    "reply", [None, BEHIND, Reply(502, b""), Reply(429, b""), Reply(403, b""), Reply(200, b"<html>")]
)
def test_failover_within_one_call(reply: Reply | None) -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)

        def script(host: str, method: str) -> Reply | None:
            if host == "one.test":
                if reply is None:
                    raise TransportError("ServerDisconnectedError")
                return reply
            return None

        found.chain.script = script
        before = asyncio.get_running_loop().time()
        assert await found.pool.slot() > 0
        assert asyncio.get_running_loop().time() - before < 0.1
        assert [host for _, host in asked(found, "getSlot")] == ["one.test", "two.test"]

    run(story())


def test_retries_after_one_two_and_four_seconds_then_gives_up() -> None:
    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        found.chain.script = lambda host, method: Reply(503, b"")
        with pytest.raises(TransientError, match="RPC_SERVER_ERROR"):
            await found.pool.slot()
        times = [at for at, _ in asked(found, "getSlot")]
        assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([1.02, 2.02, 4.02])

    run(story())


def test_a_refused_request_is_not_repeated_anywhere() -> None:
    async def story() -> None:
        found = room(hosts=THREE, jito=False)
        body = b'{"jsonrpc":"2.0","error":{"code":-32602,"message":"Invalid params"},"id":1}'
        found.chain.script = lambda host, method: Reply(200, body)
        with pytest.raises(ValidationError, match="RPC_BAD_PARAMS"):
            await found.pool.slot()
        assert len(asked(found, "getSlot")) == 1
        assert all(status.errors_in_row == 0 for status in found.pool.status())

    run(story())


def test_set_aside_after_three_failures_and_taken_back() -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)
        found.chain.script = lambda host, method: Reply(500, b"") if host == "one.test" else None
        for _ in range(3):
            await found.pool.probe()
        assert [status.benched for status in found.pool.status()] == [False, True]
        assert labels(found) == ["two.test", "one.test"]
        answers = await found.pool.everyone(lambda endpoint: endpoint.slot())
        assert [answer.label for answer in answers] == ["two.test"]
        assert any(level is Level.WARNING and "set aside" in text for level, _, text, _ in found.log.lines)
        found.chain.script = lambda host, method: None
        await found.pool.probe()
        assert not any(status.benched for status in found.pool.status())
        assert any("answers again" in text for text in found.log.tagged("TX"))

    run(story())


def test_when_all_are_set_aside_all_are_asked() -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)
        found.chain.script = lambda host, method: Reply(500, b"")
        for _ in range(3):
            await found.pool.probe()
        found.chain.script = lambda host, method: None
        assert len(await found.pool.everyone(lambda endpoint: endpoint.slot())) == 2

    run(story())


def test_an_endpoint_of_another_chain_is_never_used() -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)
        found.chain.genesis["two.test"] = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG"
        found.chain.hang = lambda host, method: 0.3 if host == "two.test" else 0.0
        await found.pool.probe()
        assert labels(found) == ["one.test"]
        assert any(level is Level.CRITICAL for level, _, _, _ in found.log.lines)
        found.chain.genesis["one.test"] = "x"
        other = room(found.chain, hosts=("one.test",), jito=False)
        other.pool._genesis = "meant"
        await other.pool.probe()
        with pytest.raises(CriticalError, match="WRONG_CHAIN"):
            await other.pool.slot()

    run(story())


def test_broadcast_reaches_every_endpoint_and_reports_each() -> None:
    async def story() -> None:
        found = room(hosts=THREE, jito=False)
        found.chain.script = lambda host, method: Reply(503, b"") if host == "two.test" else None
        found.chain.arrive = lambda raw: "signature"  # type: ignore[method-assign]
        answers = {each.label: each for each in await found.pool.broadcast(b"bytes")}
        assert answers["one.test"].value == answers["three.test"].value == "signature"
        assert isinstance(answers["two.test"].error, RpcTransientError)
        assert [raw for _, _, raw in found.chain.wire] == [b"bytes"] * 3

    run(story())


def test_retry_after_is_honoured_while_another_host_serves() -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)
        found.chain.script = lambda host, method: Reply(429, b"", {"retry-after": "30"}) if host == "one.test" else None
        await found.pool.slot()
        assert found.pool.status()[-1].label == "one.test"
        assert found.pool.status()[-1].rate_wait_s == pytest.approx(30.0, abs=0.1)
        found.chain.requests.clear()
        for _ in range(5):
            await found.pool.slot()
        assert {host for _, host, _ in found.chain.requests} == {"two.test"}

    run(story())


def test_one_hosts_rate_limit_does_not_hold_the_others_up() -> None:
    async def story() -> None:
        found = room(hosts=("one.test", "two.test"), jito=False)
        found.chain.script = lambda host, method: Reply(429, b"", {"retry-after": "60"}) if host == "one.test" else None
        await found.pool.probe()
        before = asyncio.get_running_loop().time()
        answers = await found.pool.everyone(lambda endpoint: endpoint.slot())
        assert [answer.label for answer in answers] == ["two.test"]
        found.chain.script = lambda host, method: Reply(500, b"") if host == "two.test" else None
        with pytest.raises(TransientError, match="RPC_SERVER_ERROR"):
            await found.pool.call_once("getSlot", [{}], int)
        assert asyncio.get_running_loop().time() - before < 0.1
        # alone, a host is waited for
        alone = room(hosts=("one.test",), jito=False)
        alone.pool._members[0].endpoint.bucket.block(60.0)
        before = asyncio.get_running_loop().time()
        await alone.pool.slot()
        assert asyncio.get_running_loop().time() - before == pytest.approx(60.0, abs=0.1)

    run(story())


def test_two_endpoints_of_one_host_share_its_bucket_and_have_own_labels() -> None:
    async def story() -> None:
        from deltatui.chain.pool import Pool

        base = room(jito=False)
        configs = [EndpointConfig(url=f"http://same.test/{n}", requests_per_s=1.0, burst=2) for n in range(2)]
        pool = Pool(configs, base.clock, base.chain, base.block_clock, base.log)
        assert [status.label for status in pool.status()] == ["same.test", "same.test#2"]
        before = asyncio.get_running_loop().time()
        for _ in range(3):
            await pool.everyone(lambda endpoint: endpoint.slot())
        # six calls: two at once, then one a second
        assert asyncio.get_running_loop().time() - before == pytest.approx(4.0, abs=0.1)
        with pytest.raises(ValidationError, match="NO_RPC"):
            Pool([], base.clock, base.chain, base.block_clock, base.log)

    run(story())


def test_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    async def story() -> None:
        clock = LoopClock()
        bucket = TokenBucket(clock, per_second=2.0, burst=3)
        times: list[float] = []

        async def one() -> None:
            await bucket.take()
            times.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(one() for _ in range(7)))
        assert times == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0])
        await asyncio.sleep(100.0)
        assert bucket.wait_s() == 0.0
        bucket.block(4.0)
        bucket.block(2.0)
        assert bucket.wait_s() == pytest.approx(4.0)
        clock.ahead_s = -3600.0
        assert bucket.wait_s() == pytest.approx(4.0)

    run(story())


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_bucket_refuses_nonsense(rate: float, burst: int) -> None:
    with pytest.raises(ValidationError):
        TokenBucket(ManualClock(), rate, burst)


# -- the block clock -----------------------------------------------------------------------------------------------


def test_slot_length_is_measured_not_assumed() -> None:
    async def story(slot_s: float) -> None:
        found = room(FakeChain(slot_s), hosts=("one.test",), jito=False)
        clock = found.block_clock
        assert (clock.slot_s(), clock.slot(), clock.height(), clock.life_s(5), clock.age_s()) == (None,) * 5
        watching = asyncio.create_task(found.pool.watch())
        await asyncio.sleep(1.0)
        assert clock.slot_s() == pytest.approx(slot_s, rel=0.02)
        await asyncio.sleep(63.0)
        assert clock.slot_s() == pytest.approx(slot_s, rel=0.05)
        height = FakeChain.height_of(found.chain.slot())
        assert clock.height() == pytest.approx(height, abs=3)
        assert clock.life_s(height + 150) == pytest.approx(150 * slot_s, abs=4 * slot_s)
        assert (clock.life_s(height - 50) or 0.0) < 0.0
        assert clock.age_s() == pytest.approx(4.0, abs=1.5)
        watching.cancel()

    for slot_s in (0.4, 0.214):
        run(story(slot_s))


def test_skipped_slots_make_blocks_longer_than_slots() -> None:
    clock = ManualClock()
    measured = BlockClock(clock)
    for n in range(30):
        measured.observe(clock.operator_s(), 1000 + n * 10, 900 + n * 8)
        clock.advance(4.0)
    assert measured.slot_s() == pytest.approx(0.4)
    assert measured.block_s() == pytest.approx(0.5)
    assert measured.observed_height() == 900 + 29 * 8
    assert measured.height() == 900 + 29 * 8 + 8


def test_nodes_that_are_behind_do_not_turn_the_clock_back() -> None:
    clock = ManualClock()
    measured = BlockClock(clock)
    for n in range(30):
        measured.observe(clock.operator_s(), 1000 + n * 10, 900 + n * 10)
        measured.observe(clock.operator_s(), 500, 400)
        clock.advance(4.0)
    assert measured.slot_s() == pytest.approx(0.4)
    assert measured.slot() == 1000 + 300


def test_clock_set_back_forgets_what_was_measured_before() -> None:
    clock = ManualClock()
    measured = BlockClock(clock)
    measured.observe(clock.operator_s(), 1000, 900)
    clock.advance(20.0)
    measured.observe(clock.operator_s(), 1050, 950)
    clock.now_s -= 3600.0
    measured.observe(clock.operator_s(), 1060, 960)
    assert measured.slot_s() is None
    clock.advance(20.0)
    measured.observe(clock.operator_s(), 1110, 1010)
    assert measured.slot_s() == pytest.approx(0.4)


@pytest.mark.parametrize("ahead_s", [0.0, 5.0, -5.0])
def test_skew_against_the_chains_clock(ahead_s: float) -> None:
    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        found.clock.ahead_s = ahead_s
        assert found.block_clock.skew_s() is None
        for _ in range(5):
            await found.block_clock.measure_skew(found.pool)
            await asyncio.sleep(0.7)
        assert found.block_clock.skew_s() == pytest.approx(ahead_s, abs=0.5)

    run(story())


def test_skew_needs_a_quick_answer_that_can_be_read() -> None:
    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        found.chain.hang = lambda host, method: 3.0
        await found.block_clock.measure_skew(found.pool)
        found.chain.hang = lambda host, method: 0.0
        empty = b'{"jsonrpc":"2.0","result":{"context":{"slot":1},"value":null},"id":2}'
        found.chain.script = lambda host, method: Reply(200, empty)
        await found.block_clock.measure_skew(found.pool)
        assert found.block_clock.skew_s() is None

    run(story())
