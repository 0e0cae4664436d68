"""Previews over the wire: who may ask, how often, and what a client hears where there is none."""

from __future__ import annotations

import asyncio

import pytest
from snapshots import make_plan
from wire import eventually, running, settle

from deltatui.api.protocol import Bye, PreviewMessage, PreviewResult, encode
from deltatui.domain.command import Leave, Rebalance, SetSpeed, Take
from deltatui.domain.errors import CriticalError, DeltatuiError, TransientError, ValidationError
from deltatui.domain.principal import OPERATOR

TAKE = Take(market="SOL-PERP", base_1e9=10**9)


async def test_a_preview_is_asked_and_answered_and_is_no_command() -> None:
    async with running() as wire:
        client = await wire.client()
        for command in (TAKE, Leave(market="SOL-PERP"), Rebalance(market="SOL-PERP")):
            assert await client.preview(command) == make_plan()
        assert [type(command).__name__ for command in wire.engine.previewed] == ["Take", "Leave", "Rebalance"]
        assert wire.engine.commands == []
        await client.close()


async def test_a_read_only_client_may_look() -> None:
    async with running() as wire:
        client = await wire.client(read_only=True)
        assert await client.preview(TAKE) == make_plan()
        assert wire.engine.previewed == [TAKE]
        await client.close()


@pytest.mark.parametrize("kind", [ValidationError, TransientError, CriticalError])
async def test_where_there_is_none_the_client_hears_why(kind: type[DeltatuiError]) -> None:
    async with running() as wire:
        wire.engine.plan = kind("NOT_ACCEPTED", "the engine is halted; resume it first")
        client = await wire.client()
        with pytest.raises(ValidationError) as caught:
            await client.preview(TAKE)
        assert (caught.value.code, caught.value.sentence) == ("NOT_ACCEPTED", "the engine is halted; resume it first")
        assert wire.faults == []
        await client.close()


async def test_an_unforeseen_error_is_answered_and_reported() -> None:
    async with running() as wire:
        wire.engine.plan = KeyError("surprise")
        client = await wire.client()
        with pytest.raises(ValidationError, match="INTERNAL_ERROR"):
            await client.preview(TAKE)
        await settle()
        assert [(what, type(error)) for what, error in wire.faults] == [("preview", KeyError)]
        wire.engine.plan = make_plan()
        assert await client.preview(TAKE) == make_plan()
        await client.close()


async def test_nobody_may_look_in_the_engines_name() -> None:
    async with running() as wire:
        for read_only in (False, True):
            client = await wire.client(read_only=read_only)
            await client.preview(Leave(market="SOL-PERP", source="engine"))
            await client.close()
        assert wire.engine.previewed == [Leave(market="SOL-PERP", source="operator")] * 2
        assert wire.engine.principals == [OPERATOR] * 2


async def test_a_client_that_looks_too_often_is_told_so_and_may_act_all_the_same() -> None:
    async with running(previews_per_s=3, commands_per_s=2) as wire:
        client = await wire.client()
        answers = await asyncio.gather(*(client.preview(TAKE) for _ in range(5)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, ValidationError)]
        assert [error.code for error in refused] == ["RATE_LIMIT"] * 2
        assert len(wire.engine.previewed) == 3
        results = [await client.command(SetSpeed(speed=speed)) for speed in (1, 2, 3)]
        assert [result.code for result in results] == ["DONE", "DONE", "RATE_LIMIT"]
        other = await wire.client()
        assert await other.preview(TAKE) == make_plan()
        await client.close()
        await other.close()


async def test_a_preview_does_not_wait_behind_a_slow_command() -> None:
    async with running() as wire:
        wire.engine.gate = asyncio.Event()
        client = await wire.client()
        slow = asyncio.create_task(client.command(TAKE))
        await eventually(lambda: bool(wire.engine.commands))
        assert await client.preview(TAKE) == make_plan()
        assert not slow.done()
        wire.engine.gate.set()
        assert (await slow).success
        await client.close()


@pytest.mark.parametrize("action", ["PAUSE", "DEPOSIT", "FLY"])
async def test_only_trades_can_be_previewed(action: str) -> None:
    async with running() as wire:
        raw = await wire.raw()
        raw.send_json(type="PREVIEW", id=1, command={"action": action})
        bye = await raw.until(Bye)
        assert isinstance(bye, Bye)
        assert bye.code == "BAD_MESSAGE"
        assert wire.engine.previewed == []


async def test_each_answer_carries_the_number_of_its_question() -> None:
    async with running() as wire:
        raw = await wire.raw()
        raw.send(encode(PreviewMessage(7, TAKE)))
        raw.send(encode(PreviewMessage(7_000_000, TAKE)))
        for number in (7, 7_000_000):
            answer = await raw.until(PreviewResult)
            assert answer == PreviewResult(number, make_plan())
        raw.close()


async def test_a_lost_connection_leaves_nothing_open() -> None:
    async with running() as wire:
        client = await wire.client()
        asked = asyncio.create_task(client.preview(TAKE))
        await asyncio.sleep(0)
        client._writer.transport.abort()
        with pytest.raises(TransientError, match="CONNECTION_LOST"):
            await asked
        with pytest.raises(TransientError, match="NOT_CONNECTED"):
            await client.preview(TAKE)
        await client.close()


async def test_no_answer_in_time_and_a_late_one_is_dropped() -> None:
    async with running() as wire:
        client = await wire.client()
        with pytest.raises(TransientError, match="NO_ANSWER"):
            await client.preview(TAKE, timeout_s=0.0)
        assert await client.preview(TAKE) == make_plan()
        assert client._previews == {}
        await client.close()


async def test_the_end_of_the_engine_ends_the_wait() -> None:
    async with running() as wire:
        client = await wire.client()
        wire.server._closing = True
        with pytest.raises(ValidationError, match="STOPPING"):
            await client.preview(TAKE)
        await client.close()
