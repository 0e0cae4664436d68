"""A command of the command line on the wire: its question, how that ends, and the exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import typer
import wire
from snapshots import make_confirmation, make_snapshot, make_transfer

from deltatui.cli_trade import EXIT_CODES, ask_and_send, finish
from deltatui.domain.command import AnyCommand, Cancel, CommandResult, Confirm, Kill, LegPart, ResultStatus, Take
from deltatui.domain.errors import TransientError
from deltatui.plain import confirmation_lines, status_lines

TAKE = Take(intent_id="i1", source="api", market="SOL-PERP", base_1e9=10_000_000_000)
WAITS = CommandResult(ResultStatus.NEEDS_CONFIRMATION, "CONFIRM", "confirm", "op-0007")
DONE = CommandResult(ResultStatus.DONE, "DONE", "take done: sold 10 SOL-PERP, bought 10 SOL", "op-0007")
PARTLY = CommandResult(
    ResultStatus.PARTLY_DONE,
    "PARTIAL",
    "take partly done: sold 3 SOL-PERP, bought 3 SOL; not filled: 7 of 10 SOL-PERP, 7 of 10 SOL",
    "op-0007",
    parts=(LegPart("SOL-PERP", "perp", -10.0, -3.0, -7.0), LegPart("SOL", "spot", 10.0, 3.0, 7.0)),
)


def over(code: str) -> CommandResult:
    return CommandResult(ResultStatus.REJECTED, code, f"{code}: nothing was done", "op-0007")


class Asking:
    """An engine whose question is answered by Confirm and Cancel, and which knows the end of the intent."""

    def __init__(self, engine: wire.FakeEngine) -> None:
        self.engine = engine
        self.end: CommandResult | None = None
        self.then = DONE
        engine.answer = self.answer

    def answer(self, command: AnyCommand) -> CommandResult:
        if isinstance(command, Take):
            if self.end is None:
                self.show()
            return self.end or WAITS
        if self.end is not None:
            return CommandResult(ResultStatus.REJECTED, "NOT_PENDING", "that does not wait any more")
        self.finish(self.then if isinstance(command, Confirm) else over("CANCELLED"))
        return self.end or DONE

    def show(self) -> None:
        self.engine.confirmation = make_confirmation()
        self.engine.change()

    def finish(self, end: CommandResult) -> None:
        self.end = end
        self.engine.confirmation = None
        self.engine.change()


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """A standard input to which the test writes; no byte ends it."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as source:
        monkeypatch.setattr(sys, "stdin", source)
        ended = False

        def say(text: bytes) -> None:
            nonlocal ended
            if text:
                os.write(writing, text)
            else:
                os.close(writing)
                ended = True

        yield say
        if not ended:
            os.close(writing)


async def asked(work: Callable[[Asking, wire.Wire], None], *, yes: bool = False) -> tuple[CommandResult, list[str]]:
    """The result of a take whose engine asks, and the commands that were sent."""
    async with wire.running(commands_per_s=100_000) as w:
        asking = Asking(w.engine)
        client = await w.client()
        sending = asyncio.create_task(ask_and_send(client, TAKE, intent="i2", yes=yes, force=False))
        await wire.eventually(lambda: bool(w.engine.commands))
        await wire.settle(200)
        work(asking, w)
        async with asyncio.timeout(5):
            result = await sending
        await client.close()
        return result, [type(command).__name__ for command in w.engine.commands]


@pytest.mark.parametrize("said", [b"y\n", b" YES \n", b"y"])
async def test_yes_confirms(keyboard: Callable[[bytes], None], said: bytes) -> None:
    def work(asking: Asking, w: wire.Wire) -> None:
        keyboard(said)
        if not said.endswith(b"\n"):
            keyboard(b"")

    assert await asked(work) == (DONE, ["Take", "Confirm"])


@pytest.mark.parametrize("said", [b"n\n", b"\n", b"maybe\n", b""])
async def test_all_else_cancels_and_is_told_as_the_end_of_the_intent(
    keyboard: Callable[[bytes], None], said: bytes
) -> None:
    result, sent = await asked(lambda asking, w: keyboard(said))
    assert (result.status, result.code) == (ResultStatus.REJECTED, "CANCELLED")
    assert sent == ["Take", "Cancel", "Take"]


async def test_a_file_as_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("y\n")
    with (tmp_path / "answer").open() as source:
        monkeypatch.setattr(sys, "stdin", source)
        assert (await asked(lambda asking, w: None))[0] == DONE


@pytest.mark.parametrize("code", ["EXPIRED", "OVERTAKEN", "CANCELLED", "KILLED"])
async def test_a_question_that_ends_elsewhere_ends_here(keyboard: Callable[[bytes], None], code: str) -> None:
    """Nobody types anything: the snapshots no longer have the question, and the same intent is told its end."""

    def work(asking: Asking, w: wire.Wire) -> None:
        asking.finish(over(code))
        w.server.notify_dirty()

    result, sent = await asked(work)
    assert (result.status, result.code) == (ResultStatus.REJECTED, code)
    assert sent == ["Take", "Take"]


async def test_a_question_that_was_confirmed_elsewhere_is_done(keyboard: Callable[[bytes], None]) -> None:
    def work(asking: Asking, w: wire.Wire) -> None:
        asking.finish(DONE)
        w.server.notify_dirty()

    assert (await asked(work))[0] == DONE


async def test_a_question_that_cannot_be_shown_is_waited_for_not_for_ever(
    keyboard: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits in the engine, and what it would do cannot be said: no snapshot has it."""
    monkeypatch.setattr("deltatui.cli_trade._ASK_AGAIN_S", 0.001)
    monkeypatch.setattr(Asking, "show", lambda self: self.engine.change())

    def work(asking: Asking, w: wire.Wire) -> None:
        asking.finish(over("EXPIRED"))
        w.server.notify_dirty()

    result, sent = await asked(work)
    assert result.code == "EXPIRED"
    assert set(sent) == {"Take"}


async def test_a_confirmation_that_came_too_late_tells_the_end() -> None:
    async with wire.running() as w:
        asking = Asking(w.engine)
        client = await w.client()
        answer = asking.answer

        def late(command: AnyCommand) -> CommandResult:
            if isinstance(command, Confirm):
                asking.finish(over("EXPIRED"))
            return answer(command)

        w.engine.answer = late
        result = await ask_and_send(client, TAKE, intent="i2", yes=True, force=False)
        assert result.code == "EXPIRED"
        await client.close()


async def test_an_engine_that_goes_away_while_it_asks(keyboard: Callable[[bytes], None]) -> None:
    async with wire.running() as w:
        Asking(w.engine)
        client = await w.client()
        sending = asyncio.create_task(ask_and_send(client, TAKE, intent="i2", yes=False, force=False))
        await wire.eventually(lambda: bool(w.engine.commands))
        await wire.settle(200)
        await w.server.close()
        with pytest.raises(TransientError, match="the engine went away"):
            async with asyncio.timeout(5):
                await sending


async def test_an_interrupted_question_is_cancelled(keyboard: Callable[[bytes], None]) -> None:
    async with wire.running() as w:
        Asking(w.engine)
        client = await w.client()
        sending = asyncio.create_task(ask_and_send(client, TAKE, intent="i2", yes=False, force=False))
        await wire.eventually(lambda: bool(w.engine.commands))
        await wire.settle(200)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert isinstance(w.engine.commands[-1], Cancel)
        await client.close()


async def test_what_is_not_asked_about_is_answered_at_once() -> None:
    async with wire.running() as w:
        client = await w.client()
        result = await ask_and_send(client, Kill(intent_id="k", source="api"), intent="i", yes=False, force=False)
        assert result.status is ResultStatus.DONE
        await client.close()


# Exit codes


def said(result: CommandResult, capsys: pytest.CaptureFixture[str], *, as_json: bool = False) -> tuple[int, str, str]:
    code = 0
    try:
        finish(result, as_json)
    except typer.Exit as ended:
        code = ended.exit_code
    out = capsys.readouterr()
    return code, out.out, out.err


def test_every_end_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert EXIT_CODES.keys() == set(ResultStatus) - {ResultStatus.NEEDS_CONFIRMATION}
    for status, code in (("done", 0), ("rejected", 1), ("unresolved", 5), ("partly_done", 6)):
        result = CommandResult(ResultStatus(status), "X", "what happened")
        assert said(result, capsys)[0] == code, status
        assert said(result, capsys, as_json=True)[0] == code, status


def test_what_is_partly_done_names_every_leg(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said(PARTLY, capsys)
    assert (code, err) == (6, "")
    assert out.splitlines() == [
        PARTLY.message,
        "  SOL-PERP: sold 3 of 10, 7 open",
        "  SOL: bought 3 of 10, 7 open",
    ]
    code, out, _ = said(PARTLY, capsys, as_json=True)
    assert msgspec.json.decode(out)["parts"][0] == {
        "market": "SOL-PERP", "leg": "perp", "asked": -10.0, "filled": -3.0, "open": -7.0,
    }  # fmt: skip


# Plain words


def test_a_question_in_plain_words() -> None:
    text = "\n".join(confirmation_lines(make_confirmation()))
    assert "sell 10 SOL-PERP (limit 188.4800); buy 10 SOL (limit 190.3700)" in text
    assert "break-even never" in text
    left = "\n".join(confirmation_lines(make_confirmation(kind="LEAVE")))
    assert "break-even" not in left
    moved = "\n".join(confirmation_lines(make_transfer(then="automation will reduce short by 3 SOL")))
    assert "withdraw 300 USDC, worth $300.00" in moved
    assert "afterwards: automation will reduce short by 3 SOL" in moved
    assert "limit" not in moved
    assert confirmation_lines(make_confirmation(question="forget them?")) == ["forget them?"]


def test_status_says_what_is_unsettled_foreign_and_hedged() -> None:
    base = make_snapshot()
    replaced = msgspec.structs.replace
    text = "\n".join(status_lines(base))
    assert "settled -$31.24, unsettled $18.90, total -$12.34" in text
    assert "net delta: +0.0500 SOL (+0.50 %)" in text
    assert "written off" not in text
    changed = replaced(
        base,
        positions=(replaced(base.positions[0], market="BTC-PERP", foreign=True),),
        delta=replaced(base.delta, net=3.0, drift_pct=18.0, hedge_net=0.0, hedge_drift_pct=0.0),
        attribution=replaced(base.attribution, write_offs=5.0),
    )
    text = "\n".join(status_lines(changed))
    assert "BTC-PERP (not ours: the engine leaves it alone) short" in text
    assert "net delta: account +3.0000 SOL (+18.00 %), hedge +0.0000 SOL (+0.00 %)" in text
    assert "written off +5.0000" in text
