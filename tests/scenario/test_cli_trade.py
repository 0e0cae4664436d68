"""A command of the command line on the wire: its question, how that ends, and the exit code."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
import wire
from snapshots import make_confirmation, make_snapshot, make_transfer, make_verdicts

from deltatui import cli
from deltatui.cli_trade import EXIT_CODES, all_markets, ask_and_send, finish, word_to_type
from deltatui.domain.command import (
    AnyCommand,
    Cancel,
    CommandResult,
    Confirm,
    Kill,
    Leave,
    LegPart,
    Rebalance,
    ResultStatus,
    Settle,
    Take,
)
from deltatui.domain.errors import TransientError
from deltatui.domain.principal import OPERATOR
from deltatui.domain.snapshot import HedgeView
from deltatui.paths import Paths
from deltatui.plain import confirmation_lines, status_lines

TAKE = Take(intent_id="i1", market="SOL-PERP", base_1e9=10_000_000_000)
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
        self.shown: dict[str, Any] = {}
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
        self.engine.confirmation = make_confirmation(**self.shown)
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
        result = await ask_and_send(client, Kill(intent_id="k"), intent="i", yes=False, force=False)
        assert result.status is ResultStatus.DONE
        await client.close()


# A word to type


def large(asking: Asking) -> None:
    asking.engine.mode = "live"
    asking.shown = {"notional": 10_000.5, "market": "BTC-PERP"}


async def answered(said: bytes, keyboard: Callable[[bytes], None], prepare: Callable[[Asking], None]) -> Asking:
    """A take whose engine asks, after the keyboard has said something."""
    async with wire.running() as w:
        asking = Asking(w.engine)
        prepare(asking)
        client = await w.client()
        keyboard(said)
        await ask_and_send(client, TAKE, intent="i2", yes=False, force=False)
        await client.close()
        return asking


async def test_a_large_live_command_wants_its_market_typed_and_sends_what_was_typed(
    keyboard: Callable[[bytes], None], capsys: pytest.CaptureFixture[str]
) -> None:
    asking = await answered(b"BTC-PERP\n", keyboard, large)
    confirm = asking.engine.commands[-1]
    assert isinstance(confirm, Confirm)
    assert confirm.word == "BTC-PERP"
    assert "Type BTC-PERP to do it: " in capsys.readouterr().err


@pytest.mark.parametrize("said", [b"y\n", b"yes\n", b"btc-perp\n", b"SOL-PERP\n", b"\n"])
async def test_any_other_word_is_no(keyboard: Callable[[bytes], None], said: bytes) -> None:
    asking = await answered(said, keyboard, large)
    assert not any(isinstance(command, Confirm) for command in asking.engine.commands)


@pytest.mark.parametrize(
    ("mode", "changes", "word"),
    [
        ("live", {"notional": 10_000.5}, "SOL-PERP"),
        ("live", {"notional": float("nan")}, "SOL-PERP"),
        ("live", {"notional": 10_000.0}, ""),
        ("replay", {"notional": 10_000.5}, ""),
        ("live", {"notional": 10_000.5, "asset": "USDC"}, "USDC"),
        ("live", {"notional": 10_000.5, "question": "forget them?"}, ""),
    ],
)
def test_what_has_to_be_typed(mode: str, changes: dict[str, Any], word: str) -> None:
    engine = msgspec.structs.replace(make_snapshot().engine, mode=mode)
    assert word_to_type(engine, make_confirmation(**changes)) == word


async def test_a_word_goes_with_a_yes_from_the_command_line() -> None:
    async with wire.running() as w:
        Asking(w.engine)
        client = await w.client()
        await ask_and_send(client, TAKE, intent="i2", yes=True, force=False, word="SOL-PERP")
        confirm = w.engine.commands[-1]
        assert isinstance(confirm, Confirm)
        assert confirm.word == "SOL-PERP"
        await client.close()


async def test_a_question_whose_word_is_missing_does_not_go_on_waiting() -> None:
    async with wire.running() as w:
        asking = Asking(w.engine)
        answer = asking.answer
        missing = CommandResult(ResultStatus.REJECTED, "TYPE_MARKET", "type SOL-PERP to confirm this")
        w.engine.answer = lambda command: missing if isinstance(command, Confirm) else answer(command)
        client = await w.client()
        assert await ask_and_send(client, TAKE, intent="i2", yes=True, force=False) == missing
        assert w.engine.commands[-1] == Cancel(operation_id="op-0007")
        await client.close()


# Which market


def hedge(market: str, *, perp: float | None = 0.0, spot: float | None = 0.0, price: float | None = 150.0) -> HedgeView:
    base = make_snapshot().hedges[0]
    return msgspec.structs.replace(
        base,
        market=market,
        prices=msgspec.structs.replace(base.prices, oracle=price),
        delta=msgspec.structs.replace(base.delta, perp=perp, hedge_spot=spot),
    )


SOL, BTC = hedge("SOL-PERP", perp=-5.0, spot=5.0), hedge("BTC-PERP", perp=-0.1, spot=0.1, price=90_000.0)
NO_SOL, NO_BTC = hedge("SOL-PERP"), hedge("BTC-PERP", price=90_000.0)


async def sent(command: AnyCommand, *hedges: HedgeView) -> tuple[CommandResult, list[AnyCommand]]:
    async with wire.running() as w:
        w.engine.hedges = hedges
        client = await w.client()
        result = await ask_and_send(client, command, intent="i2", yes=True, force=False)
        await client.close()
        return result, w.engine.commands


@pytest.mark.parametrize("kind", [Leave, Settle, Rebalance])
@pytest.mark.parametrize(
    ("hedges", "market"),
    [
        ((SOL,), "SOL-PERP"),
        ((NO_SOL, BTC), "BTC-PERP"),
        ((SOL, NO_BTC), "SOL-PERP"),
        # Spot of a hedge whose perp is gone is held; a rest of interest is not.
        ((hedge("SOL-PERP", spot=5.0), NO_BTC), "SOL-PERP"),
        ((hedge("SOL-PERP", spot=-5.0), NO_BTC), "SOL-PERP"),
        ((hedge("SOL-PERP", spot=0.001), BTC), "BTC-PERP"),
    ],
)
async def test_without_a_market_the_only_hedge_that_is_held_is_meant(
    kind: type[Leave | Settle | Rebalance], hedges: tuple[HedgeView, ...], market: str
) -> None:
    result, commands = await sent(kind(intent_id="i", market=""), *hedges)
    assert result.status is ResultStatus.DONE
    assert commands == [kind(intent_id="i", market=market)]


@pytest.mark.parametrize("kind", [Leave, Settle, Rebalance])
@pytest.mark.parametrize(
    ("hedges", "code", "said"),
    [
        ((SOL, BTC), "WHICH_MARKET", "SOL-PERP and BTC-PERP are held; say which with --market"),
        ((hedge("SOL-PERP", spot=5.0), BTC), "WHICH_MARKET", "SOL-PERP and BTC-PERP are held; say which with --market"),
        (
            (hedge("SOL-PERP", spot=0.001, price=None), BTC),
            "WHICH_MARKET",
            "SOL-PERP and BTC-PERP are held; say which with --market",
        ),
        ((NO_SOL,), "NOTHING_HELD", "no hedge is held; --market names another market: SOL-PERP"),
        ((NO_SOL, NO_BTC), "NOTHING_HELD", "no hedge is held; --market names another market: SOL-PERP, BTC-PERP"),
        (
            (SOL, hedge("BTC-PERP", perp=None, spot=None)),
            "NO_ACCOUNT",
            "what is held is not known yet; try again, or name the market with --market",
        ),
    ],
)
async def test_where_there_is_a_choice_or_nothing_it_is_refused_and_named(
    kind: type[Leave | Settle | Rebalance], hedges: tuple[HedgeView, ...], code: str, said: str
) -> None:
    result, commands = await sent(kind(market=""), *hedges)
    assert (result.status, result.code, result.message) == (ResultStatus.REJECTED, code, said)
    assert commands == []


async def test_a_take_means_the_only_market_that_is_carried() -> None:
    take = Take(intent_id="i", market="", base_1e9=10)
    assert (await sent(take, NO_SOL))[1] == [msgspec.structs.replace(take, market="SOL-PERP")]
    result, commands = await sent(take, SOL, NO_BTC)
    assert (result.code, commands) == ("WHICH_MARKET", [])
    assert result.message == "SOL-PERP and BTC-PERP are carried; say which with --market"


async def test_a_market_that_is_named_is_sent_as_it_is() -> None:
    """What the engine does not carry, it says itself."""
    for command in (Leave(market="DOGE-PERP"), Take(market="DOGE-PERP", base_1e9=10)):
        assert (await sent(command, SOL, BTC))[1] == [command]


async def test_a_status_has_what_depends_on_every_market(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltatui.cli_trade._DETAIL_S", 0.05)
    async with wire.running() as w:
        w.engine.hedges = (SOL, hedge("DOGE-PERP"), BTC)
        client = await w.client(read_only=True)
        snapshot, details = await all_markets(client)
        assert [each.market for each in snapshot.hedges] == ["SOL-PERP", "DOGE-PERP", "BTC-PERP"]
        assert [each.market for each in details] == ["SOL-PERP", "BTC-PERP"]
        await client.close()


# The real words


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the profile ``default`` has its socket."""
    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        monkeypatch.setenv("DELTATUI_HOME", folder)
        path = Paths.of("default").socket
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        yield path


async def words(monkeypatch: pytest.MonkeyPatch, *given: str) -> int:
    """The exit code of the command line, while the engine goes on in this thread."""
    monkeypatch.setattr(sys, "argv", ["deltatui", *given])

    def go() -> int:
        try:
            cli.main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else 0
        return 0

    return await asyncio.to_thread(go)


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (("leave", "--yes"), Leave(market="SOL-PERP")),
        (("settle",), Settle(market="SOL-PERP")),
        (("rebalance", "--yes"), Rebalance(market="SOL-PERP")),
        (("rebalance", "--market", "BTC-PERP"), Rebalance(market="BTC-PERP")),
        (("take", "0.5", "--market", "BTC-PERP"), Take(market="BTC-PERP", base_1e9=500_000_000)),
        (("kill", "--flatten", "--reason", "enough"), Kill(flatten=True, reason="enough")),
    ],
)
async def test_words_become_the_operators_command(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], command: AnyCommand
) -> None:
    w = wire.Wire(wire.FakeEngine(), home)
    w.engine.hedges = (SOL, NO_BTC)
    await w.server.start()
    assert await words(monkeypatch, *given) == 0
    assert [msgspec.structs.replace(each, intent_id="") for each in w.engine.commands] == [command]
    assert w.engine.principals == [OPERATOR]
    await w.server.close()


async def test_words_that_leave_a_choice_end_with_1_and_send_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = wire.Wire(wire.FakeEngine(), home)
    w.engine.hedges = (SOL, BTC)
    await w.server.start()
    for given in (("leave", "--yes"), ("take", "1"), ("settle",)):
        assert await words(monkeypatch, *given) == 1
        out = capsys.readouterr()
        assert out.out == ""
        assert "SOL-PERP and BTC-PERP are" in out.err
    assert await words(monkeypatch, "leave", "--market", "") == 2
    assert "--market names no market" in capsys.readouterr().err
    assert w.engine.commands == []
    await w.server.close()


async def test_a_kill_says_every_part_and_ends_with_its_code(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = wire.Wire(wire.FakeEngine(), home)
    await w.server.start()
    w.engine.answer = PARTLY
    assert await words(monkeypatch, "kill", "--flatten") == 6
    assert "  SOL-PERP: sold 3 of 10, 7 open" in capsys.readouterr().out
    assert await words(monkeypatch, "kill", "--flatten", "--json") == 6
    assert msgspec.json.decode(capsys.readouterr().out)["parts"][0]["open"] == -7.0
    await w.server.close()


async def test_a_status_says_what_blocks_each_market(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    w = wire.Wire(wire.FakeEngine(), home)
    w.engine.hedges = (SOL, NO_BTC)
    w.engine.details["BTC-PERP"] = msgspec.structs.replace(wire.market_detail("BTC-PERP"), gates=make_verdicts())
    await w.server.start()
    assert await words(monkeypatch, "status") == 0
    out = capsys.readouterr().out
    assert "BTC-PERP blocked by PROFITABILITY: a short pays" in out
    assert "SOL-PERP blocked" not in out
    await w.server.close()


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


def test_several_hedges_are_told_leg_by_leg_even_where_all_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    one = (LegPart("SOL-PERP", "perp", 5.0, 5.0, 0.0), LegPart("SOL", "spot", -5.0, -5.0, 0.0))
    other = (LegPart("BTC-PERP", "perp", 0.1, 0.1, 0.0), LegPart("wBTC", "spot", -0.1, -0.1, 0.0))
    done = CommandResult(ResultStatus.DONE, "KILLED", "halted, positions closed")
    assert said(msgspec.structs.replace(done, parts=one), capsys) == (0, "halted, positions closed\n", "")
    assert said(msgspec.structs.replace(done, parts=one + other), capsys)[1].splitlines() == [
        "halted, positions closed",
        "  SOL-PERP: bought 5 of 5",
        "  SOL: sold 5 of 5",
        "  BTC-PERP: bought 0.1 of 0.1",
        "  wBTC: sold 0.1 of 0.1",
    ]
    failed = CommandResult(ResultStatus.REJECTED, "X", "halted, but closing failed", parts=one)
    assert said(failed, capsys) == (
        1, "", "halted, but closing failed\n  SOL-PERP: bought 5 of 5\n  SOL: sold 5 of 5\n",
    )  # fmt: skip


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
    assert "SOL-PERP net delta: +0.0500 SOL (+0.50 %)" in text
    assert "written off" not in text
    hedge = base.hedges[0]
    changed = replaced(
        base,
        positions=(replaced(base.positions[0], market="BTC-PERP", foreign=True),),
        hedges=(
            replaced(
                hedge,
                market="ETH-PERP",
                base_symbol="ETH",
                delta=replaced(hedge.delta, net=3.0, drift_pct=18.0, hedge_net=0.0, hedge_drift_pct=0.0),
            ),
        ),
        attribution=replaced(base.attribution, write_offs=5.0),
    )
    text = "\n".join(status_lines(changed))
    assert "BTC-PERP (not ours: the engine leaves it alone) short" in text
    assert "ETH-PERP net delta: account +3.0000 ETH (+18.00 %), hedge +0.0000 ETH (+0.00 %)" in text
    assert "written off +5.0000" in text
