"""Subscriptions, the account feed and supervised tasks, against a WebSocket server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from chainkit import SYSTEM, LogLines, LoopClock, ManualClock, keypair, room, run
from websockets.asyncio.server import ServerConnection, serve

from deltatui.chain import wire
from deltatui.chain.accounts import AccountFeed
from deltatui.chain.tasks import Supervisor, wait_for_event, within
from deltatui.chain.ws import Note, Subscriptions
from deltatui.domain.errors import ValidationError
from deltatui.domain.event import Level

ADDRESS = str(keypair().pubkey())


class SocketNode:
    """Answers subscriptions; sends what the test says."""

    def __init__(self) -> None:
        self.connections: list[ServerConnection] = []
        self.asked: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.silent = False
        self.refuse: set[str] = set()
        self.before_reply: list[str] = []
        self._numbers = iter(range(100, 10_000))
        self.numbers: dict[str, int] = {}
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for message in connection:
            asked = json.loads(message)
            self.asked.append(asked)
            self.heard.set()
            if self.silent:
                continue
            if asked["method"].endswith("Unsubscribe"):
                await connection.send(json.dumps({"jsonrpc": "2.0", "result": True, "id": asked["id"]}))
                continue
            number = next(self._numbers)
            self.numbers[asked["method"]] = number
            for text in self.before_reply:
                await connection.send(text.replace("NUMBER", str(number)))
            if asked["method"] in self.refuse:
                error = {"code": -32601, "message": "Method not found"}
                await connection.send(json.dumps({"jsonrpc": "2.0", "error": error, "id": asked["id"]}))
            else:
                await connection.send(json.dumps({"jsonrpc": "2.0", "result": number, "id": asked["id"]}))

    async def notify(self, method: str, result: object) -> None:
        params = {"subscription": self.numbers[method], "result": result}
        name = method.removesuffix("Subscribe") + "Notification"
        await self.connections[-1].send(json.dumps({"jsonrpc": "2.0", "method": name, "params": params}))

    async def slot(self, number: int) -> None:
        await self.notify("slotSubscribe", {"parent": number - 1, "root": number - 32, "slot": number})

    def methods(self) -> list[str]:
        return [each["method"] for each in self.asked]


class Stage:
    def __init__(self, node: SocketNode) -> None:
        self.node = node
        self.clock = ManualClock()
        self.log = LogLines()
        self.subscriptions = Subscriptions([node.url], self.clock, self.log, jitter=lambda: 1.0)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5.0):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.001)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    node = SocketNode()
    async with serve(node.handle, "127.0.0.1", 0) as server:
        node.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        found = Stage(node)
        running = asyncio.create_task(found.subscriptions.run())
        yield found
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_heartbeat_and_notifications() -> None:
    async with stage() as on:
        notes: list[Note] = []
        on.subscriptions.subscribe("accountSubscribe", [ADDRESS, {"encoding": "base64"}], notes.append)
        await on.until(lambda: len(on.node.numbers) == 2)
        assert not on.subscriptions.connected
        await on.node.slot(76)
        await on.until(lambda: on.subscriptions.connected)
        assert on.subscriptions.slot == 76
        on.clock.advance(1.5)
        assert on.subscriptions.age_s() == pytest.approx(1.5)
        value = {"lamports": 2**64 - 1, "owner": "o", "data": ["", "base64"], "rentEpoch": 2**64 - 1}
        await on.node.notify("accountSubscribe", {"context": {"slot": 5}, "value": value})
        await on.until(lambda: notes)
        assert notes[0].decode(wire.Valued[wire.Account]).value.lamports == 2**64 - 1
        with pytest.raises(msgspec.DecodeError):
            notes[0].decode(int)


async def test_a_frame_before_the_reply_is_not_lost() -> None:
    async with stage() as on:
        notes: list[Note] = []
        early = '{"jsonrpc":"2.0","method":"logsNotification","params":{"result":7,"subscription":NUMBER}}'
        await on.until(lambda: on.node.numbers)
        on.node.before_reply = [early, early.replace("NUMBER", "99999")]
        on.subscriptions.subscribe("logsSubscribe", ["all"], notes.append)
        await on.until(lambda: notes)
        assert [note.result for note in notes] == [b"7"]


async def test_reconnects_and_subscribes_again_and_tells_of_the_gap() -> None:
    async with stage() as on:
        gaps: list[int] = []
        notes: list[Note] = []
        kept = on.subscriptions.subscribe("logsSubscribe", ["all"], notes.append, lambda: gaps.append(1))
        await on.until(lambda: gaps == [1])
        old = on.node.numbers["logsSubscribe"]
        await on.node.connections[0].close()
        await on.until(lambda: any("again in 1.0 s" in text for text in on.log.tagged("TX")))
        assert not on.subscriptions.connected
        on.clock.advance(1.0)
        await on.until(lambda: gaps == [1, 1])
        assert kept.gaps == 2
        assert on.node.numbers["logsSubscribe"] != old
        # a number of the old connection means nothing on the new one
        on.node.numbers["old"] = old
        await on.node.notify("old", 1)
        await on.node.notify("logsSubscribe", 2)
        await on.until(lambda: notes)
        assert [note.result for note in notes] == [b"2"]


async def test_a_mute_socket_is_replaced_after_five_seconds() -> None:
    async with stage() as on:
        await on.until(lambda: on.node.numbers)
        await on.node.slot(5)
        await on.until(lambda: on.subscriptions.connected)
        for _ in range(4):
            on.clock.advance(1.0)
            await asyncio.sleep(0.002)
        await on.node.slot(6)
        await on.until(lambda: on.subscriptions.slot == 6)
        assert on.subscriptions.connections == 1
        # the same slot again is no sign of life
        for _ in range(4):
            on.clock.advance(1.0)
            await on.node.slot(6)
            await asyncio.sleep(0.002)
        for _ in range(2):
            on.clock.advance(1.0)
            await asyncio.sleep(0.002)
        await on.until(lambda: any("no slot for" in text for text in on.log.tagged("TX")))
        on.clock.advance(1.0)
        await on.until(lambda: on.subscriptions.connections == 2)


async def test_a_socket_that_never_answers_is_replaced_too() -> None:
    async with stage() as on:
        on.node.silent = True
        await on.until(lambda: on.node.connections)
        for _ in range(7):
            on.clock.advance(1.0)
            await asyncio.sleep(0.002)
        await on.until(lambda: any("no slot for" in text for text in on.log.tagged("TX")))


async def test_backs_off_from_one_second_to_sixty() -> None:
    clock, log = ManualClock(), LogLines()
    subscriptions = Subscriptions(["ws://127.0.0.1:1/secret-key"], clock, log, jitter=lambda: 1.0)
    running = asyncio.create_task(subscriptions.run())
    async with asyncio.timeout(5.0):
        while len(log.lines) < 9:
            clock.advance(100.0)
            await asyncio.sleep(0.001)
    running.cancel()
    pauses = [text.rpartition("again in ")[2] for text in log.tagged("TX")]
    assert pauses[:9] == ["1.0 s", "2.0 s", "4.0 s", "8.0 s", "16.0 s", "32.0 s", "60.0 s", "60.0 s", "60.0 s"]
    assert "secret" not in log.text


async def test_dropped_and_renewed_subscriptions() -> None:
    async with stage() as on:
        notes: list[Note] = []
        kept = on.subscriptions.subscribe("logsSubscribe", ["all"], notes.append)
        await on.until(lambda: "logsSubscribe" in on.node.numbers and len(on.node.asked) >= 2)
        first = on.node.numbers["logsSubscribe"]
        await on.node.notify("logsSubscribe", 1)
        await on.until(lambda: notes)
        kept.renew()
        await on.until(
            lambda: on.node.methods().count("logsSubscribe") == 2 and on.node.numbers["logsSubscribe"] != first
        )
        assert [each["params"] for each in on.node.asked if each["method"] == "logsUnsubscribe"] == [[first]]
        await on.node.notify("logsSubscribe", 2)
        await on.until(lambda: len(notes) == 2)
        kept.close()
        kept.close()
        await on.until(lambda: on.node.methods().count("logsUnsubscribe") == 2)
        await on.node.connections[0].close()
        await on.until(lambda: on.log.tagged("TX"))
        on.clock.advance(1.0)
        await on.until(lambda: on.subscriptions.connections == 2 and on.node.methods().count("slotSubscribe") == 2)
        assert on.node.methods().count("logsSubscribe") == 2


async def test_refusals_and_garbage_are_told_and_survived() -> None:
    async with stage() as on:
        on.node.refuse = {"blockSubscribe"}
        on.subscriptions.subscribe("blockSubscribe", ["all"], lambda note: None)
        await on.until(lambda: "the node refused blockSubscribe" in on.log.tagged("TX"))
        for text in ("", "null", "[1]", '{"params":{}}', "{" * 3000, '{"id":"x"}'):
            await on.node.connections[0].send(text)
        await on.node.connections[0].send(b"\xff\xfe")
        await on.node.slot(9)
        await on.until(lambda: on.subscriptions.slot == 9)
        assert on.subscriptions.connections == 1
    with pytest.raises(ValidationError, match="BAD_SUBSCRIPTION"):
        on.subscriptions.subscribe("getSlot", [], lambda note: None)
    with pytest.raises(ValidationError, match="NO_WEBSOCKET"):
        Subscriptions([], ManualClock(), LogLines())


def encoded(text: str) -> dict[str, object]:
    return {"lamports": 1, "owner": SYSTEM, "data": [base64.b64encode(text.encode()).decode(), "base64"]}


class FakeSubscriptions(Subscriptions):
    """Takes subscriptions and lets the test speak."""

    def __init__(self) -> None:
        super().__init__(["ws://none"], ManualClock(), LogLines())
        self.alive = True
        self.renewed = 0

    @property
    def connected(self) -> bool:
        return self.alive

    def renew(self, subscription: Any) -> None:
        self.renewed += 1

    def push(self, slot: int, account: dict[str, object] | None) -> None:
        for each in self._wanted:
            each.on_note(Note(json.dumps({"context": {"slot": slot}, "value": account}).encode()))


def test_account_feed_pushes_polls_and_catches_a_mute_socket() -> None:
    async def story() -> None:
        found = room(hosts=("one.test",), jito=False)
        sockets = FakeSubscriptions()
        feed = AccountFeed(found.pool, sockets, found.clock, found.log, poll_s=30.0)
        seen: list[tuple[int, str | None]] = []
        found.chain.tables[ADDRESS] = b"first"
        feed.watch(ADDRESS, lambda slot, account: seen.append((slot, account.decoded().decode() if account else None)))
        with pytest.raises(ValidationError, match="WATCHED"):
            feed.watch(ADDRESS, lambda slot, account: None)
        running = asyncio.create_task(feed.run())
        await asyncio.sleep(1.0)
        assert [text for _, text in seen] == ["first"]
        sockets.push(1010, encoded("second"))
        sockets.push(1005, encoded("older"))
        sockets._wanted[0].on_note(Note(b"{}"))
        assert [text for _, text in seen] == ["first", "second"]
        found.chain.tables[ADDRESS] = b"second"
        await asyncio.sleep(31.0)
        assert len(seen) == 2
        assert (feed.caught, sockets.renewed) == (0, 0)
        found.chain.tables[ADDRESS] = b"third"
        await asyncio.sleep(31.0)
        assert [text for _, text in seen] == ["first", "second", "third"]
        assert (feed.caught, sockets.renewed) == (1, 1)
        slot = found.chain.slot()
        sockets.push(slot + 1, {**encoded(""), "lamports": 0})
        assert seen[-1] == (slot + 1, None)
        # with the socket known to be gone a poll that finds a change catches nobody lying
        sockets.alive = False
        found.chain.tables[ADDRESS] = b"fourth"
        await asyncio.sleep(31.0)
        assert seen[-1][1] == "fourth"
        assert feed.caught == 1
        assert feed.polled_s is not None
        feed.unwatch(ADDRESS)
        assert not sockets._wanted
        running.cancel()

    run(story())


# -- tasks ---------------------------------------------------------------------------------------------------------


def test_supervised_tasks_are_reported_and_kept() -> None:
    async def story() -> None:
        log, clock = LogLines(), LoopClock()
        tasks = Supervisor(clock, log)
        runs: list[float] = []

        async def dies() -> None:
            runs.append(asyncio.get_running_loop().time())
            if len(runs) < 3:
                raise RuntimeError("https://host/secret-key")

        kept = tasks.keep("feed", dies, pause_s=2.0)
        await asyncio.sleep(5.0)
        assert runs == [0.0, 2.0, 4.0]
        assert [line for line in log.lines if line[0] is Level.ERROR and "feed/run died of RuntimeError" in line[2]]
        assert "secret" not in log.text
        await tasks.close()
        assert kept.cancelled()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    run(story())


def test_within_gives_the_result_or_the_time() -> None:
    async def story() -> None:
        clock = LoopClock()

        async def late(seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "done"

        assert await within(clock, 2.0, late(1.0)) == "done"
        with pytest.raises(TimeoutError):
            await within(clock, 1.0, late(2.0))
        with pytest.raises(KeyError):
            await within(clock, 1.0, fails())
        event = asyncio.Event()
        assert not await wait_for_event(clock, 1.0, event)
        event.set()
        assert await wait_for_event(clock, 1.0, event)
        outer = asyncio.create_task(within(clock, 100.0, late(50.0)))
        await asyncio.sleep(1.0)
        outer.cancel()
        await asyncio.gather(outer, return_exceptions=True)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    async def fails() -> None:
        raise KeyError

    run(story())
