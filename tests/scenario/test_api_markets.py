"""What depends on the market that a client has selected: sent beside the snapshots, to this client alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from snapshots import make_snapshot
from wire import Raw, Wire, eventually, market_detail, running

from deltatui.api import newest as room
from deltatui.api.client import Client
from deltatui.api.protocol import MarketMessage, Ping, Pong, Select, SnapshotMessage, encode
from deltatui.domain.errors import TransientError
from deltatui.domain.snapshot import MarketDetail


async def market(client: Client, condition: Callable[[MarketDetail], bool] = lambda _: True) -> MarketDetail:
    """The next market told to the client that fits."""
    async with asyncio.timeout(5):
        async for message in client:
            if isinstance(message, MarketMessage) and condition(message.detail):
                return message.detail
    raise AssertionError(client.state)


def known(client: Client) -> str:
    """The market of which the client has the figures; empty: none."""
    return "" if client.detail is None else client.detail.market


async def selected(wire: Wire, name: str) -> Raw:
    """A raw client that has heard its first snapshot and selects a market."""
    raw = await wire.raw()
    await raw.until(SnapshotMessage)
    raw.send(encode(Select(name)))
    return raw


async def answered(raw: Raw) -> list[str]:
    """The kinds of the messages up to the answer to a ping."""
    raw.send(encode(Ping(1)))
    kinds: list[str] = []
    while not isinstance(message := await raw.message(), Pong):
        kinds.append(type(message).__name__)
    return kinds


async def test_a_market_comes_at_once_and_after_every_snapshot_with_its_version() -> None:
    async with running() as wire:
        raw = await selected(wire, "SOL-PERP")
        first = await raw.message()
        assert first == MarketMessage(msgspec.structs.replace(market_detail("SOL-PERP"), version=1))
        for version in (2, 3):
            wire.server.publish(make_snapshot(version=version))
            snapshot, detail = await raw.message(), await raw.message()
            assert isinstance(snapshot, SnapshotMessage)
            assert isinstance(detail, MarketMessage)
            assert (detail.detail.market, detail.detail.version) == ("SOL-PERP", snapshot.snapshot.version)
        raw.close()


async def test_a_market_is_judged_when_the_snapshot_is_made_and_not_when_a_client_has_room() -> None:
    async with running() as wire:
        raw = await selected(wire, "SOL-PERP")
        await raw.message()
        wire.server.publish(make_snapshot(version=2))
        assert wire.engine.judged == [("SOL-PERP", 1), ("SOL-PERP", 2)]
        raw.close()


async def test_a_market_is_judged_and_encoded_once_for_all_who_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []

    def counting(message: object) -> bytes:
        if isinstance(message, MarketMessage):
            encoded.append(message.detail.market)
        return encode(message)

    monkeypatch.setattr(room, "encode", counting)
    async with running() as wire:
        raws = [await selected(wire, name) for name in ("SOL-PERP", "SOL-PERP", "BTC-PERP")]
        nobody = await wire.raw()
        await nobody.until(SnapshotMessage)
        for raw in raws:
            await raw.message()
        assert sorted(encoded) == ["BTC-PERP", "SOL-PERP"]
        encoded.clear()
        wire.server.publish(make_snapshot(version=2))
        told = []
        for raw in raws:
            message = await raw.until(MarketMessage)
            assert isinstance(message, MarketMessage)
            told.append((message.detail.market, message.detail.version))
        assert told == [("SOL-PERP", 2), ("SOL-PERP", 2), ("BTC-PERP", 2)]
        assert sorted(encoded) == ["BTC-PERP", "SOL-PERP"]
        assert await answered(nobody) == ["SnapshotMessage"]
        for raw in (*raws, nobody):
            raw.close()


@pytest.mark.parametrize("name", ["DOGE-PERP", ""])
async def test_of_a_market_that_is_not_carried_nothing_comes(name: str) -> None:
    async with running() as wire:
        raw = await selected(wire, "SOL-PERP")
        await raw.message()
        raw.send(encode(Select(name)))
        assert await answered(raw) == []
        wire.server.publish(make_snapshot(version=2))
        assert await answered(raw) == ["SnapshotMessage"]
        assert wire.faults == []
        raw.close()


async def test_a_market_that_cannot_be_judged_takes_no_snapshot_from_anybody() -> None:
    async with running() as wire:
        wire.engine.details["SOL-PERP"] = TransientError("NO_DATA", "not known yet")
        raw = await selected(wire, "SOL-PERP")
        await eventually(lambda: bool(wire.engine.judged))
        wire.server.publish(make_snapshot(version=2))
        assert await answered(raw) == ["SnapshotMessage"]
        wire.engine.details["SOL-PERP"] = market_detail("SOL-PERP")
        wire.server.publish(make_snapshot(version=3))
        assert await answered(raw) == ["SnapshotMessage", "MarketMessage"]
        assert wire.faults == []
        raw.close()


async def test_an_unforeseen_error_is_reported_and_ends_no_client() -> None:
    async with running() as wire:
        wire.engine.details["SOL-PERP"] = KeyError("surprise")
        raw = await selected(wire, "SOL-PERP")
        assert await answered(raw) == []
        assert [(what, type(error)) for what, error in wire.faults] == [("market", KeyError)]
        raw.close()


async def test_only_the_newest_is_kept_for_a_client_that_reads_slowly() -> None:
    async with running() as wire:
        raw = await selected(wire, "SOL-PERP")
        await raw.message()
        for version in range(2, 50):
            wire.server.publish(make_snapshot(version=version))
        assert await answered(raw) == ["SnapshotMessage", "MarketMessage"]
        raw.close()


async def test_a_client_selects_and_hears_of_its_market_alone() -> None:
    async with running() as wire:
        client = await wire.client(read_only=True)
        await client.select("BTC-PERP")
        assert (await market(client)).market == "BTC-PERP"
        assert known(client) == "BTC-PERP"
        await client.select("SOL-PERP")
        assert known(client) == "", "what is known of another market says nothing of this one"
        wire.server.publish(make_snapshot(version=2))
        assert (await market(client, lambda detail: detail.version == 2)).market == "SOL-PERP"
        await client.select("")
        wire.server.publish(make_snapshot(version=3))
        await client.ping()
        assert client.snapshot is not None
        assert client.snapshot.version == 3
        assert known(client) == ""
        await client.close()
        with pytest.raises(TransientError, match="NOT_CONNECTED"):
            await client.select("BTC-PERP")


async def test_what_was_under_way_of_the_market_before_is_dropped() -> None:
    async with running() as wire:
        client = await wire.client()
        await client.select("BTC-PERP")
        await client.select("SOL-PERP")
        await client.ping()
        async with asyncio.timeout(5):
            assert (await market(client)).market == "SOL-PERP"
        assert wire.engine.judged == [("BTC-PERP", 1), ("SOL-PERP", 1)]
        await client.close()
