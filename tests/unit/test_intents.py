"""Whoever sends a command again gets the first answer, and nobody else's (R8.1)."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from deltatui.domain.command import (
    AnyCommand,
    Command,
    CommandResult,
    Confirm,
    Deposit,
    Kill,
    Pause,
    ResultStatus,
    Take,
    Withdraw,
)
from deltatui.domain.principal import OPERATOR, Principal
from deltatui.engine.intents import Intents

TAKE = Take(market="SOL-PERP", base_1e9=10**9, intent_id="a")


class Desk:
    """Counts what it was asked to do."""

    def __init__(self) -> None:
        self.given: list[AnyCommand] = []
        self.givers: list[Principal] = []
        self.gate: asyncio.Event | None = None

    async def __call__(self, command: AnyCommand, principal: Principal) -> CommandResult:
        self.given.append(command)
        self.givers.append(principal)
        if self.gate is not None:
            await self.gate.wait()
        return CommandResult(ResultStatus.DONE, "DONE", f"number {len(self.given)}", intent_id=command.intent_id)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_the_same_command_is_acted_on_once(desk: Desk) -> None:
    intents = Intents()
    first = await intents.once(TAKE, OPERATOR, desk)
    assert await intents.once(TAKE, OPERATOR, desk) is first
    # Who sends again looks at a newer screen meanwhile.
    assert await intents.once(msgspec.structs.replace(TAKE, snapshot_version=9), OPERATOR, desk) is first
    assert desk.given == [TAKE]


async def test_one_that_is_still_under_way_is_waited_for(desk: Desk) -> None:
    intents, desk.gate = Intents(), asyncio.Event()
    waiting = [asyncio.ensure_future(intents.once(TAKE, OPERATOR, desk)) for _ in range(3)]
    await asyncio.sleep(0)
    # A client that goes away does not take the answer from the others.
    waiting[0].cancel()
    desk.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is results[2]
    assert len(desk.given) == 1


async def test_without_an_intent_every_command_counts(desk: Desk) -> None:
    intents = Intents()
    plain = msgspec.structs.replace(TAKE, intent_id="")
    assert await intents.once(plain, OPERATOR, desk) != await intents.once(plain, OPERATOR, desk)
    assert len(desk.given) == 2


@pytest.mark.parametrize(
    ("first", "second", "sentence"),
    [
        (
            Deposit(asset="USDC", amount=5, intent_id="a"),
            TAKE,
            "intent a was a deposit, and this is a take; nothing was done: use a new intent id",
        ),
        (
            TAKE,
            msgspec.structs.replace(TAKE, base_1e9=2 * 10**9),
            "intent a was a take, and this is another take; nothing was done: use a new intent id",
        ),
        (
            Deposit(asset="USDC", amount=5, intent_id="a"),
            Withdraw(asset="USDC", amount=5, intent_id="a"),
            "intent a was a deposit, and this is a withdraw; nothing was done: use a new intent id",
        ),
    ],
)
async def test_another_command_under_a_used_intent_is_refused_by_name(
    desk: Desk, first: AnyCommand, second: AnyCommand, sentence: str
) -> None:
    intents = Intents()
    answer = await intents.once(first, OPERATOR, desk)
    refused = await intents.once(second, OPERATOR, desk)
    assert refused == CommandResult(ResultStatus.REJECTED, "INTENT_USED", sentence, intent_id="a")
    assert desk.given == [first]
    # And the first answer is still that of the first command.
    assert await intents.once(first, OPERATOR, desk) is answer


async def test_a_kill_is_never_refused_for_its_intent_and_kills_again(desk: Desk) -> None:
    intents = Intents()
    await intents.once(Deposit(asset="USDC", amount=5, intent_id="a"), OPERATOR, desk)
    for number in (2, 3):
        assert (await intents.once(Kill(intent_id="a"), OPERATOR, desk)).message == f"number {number}"
    assert [type(command) for command in desk.given] == [Deposit, Kill, Kill]
    # Nor does a kill use the intent up.
    assert (await intents.once(Pause(intent_id="b"), OPERATOR, desk)).code == "DONE"
    await intents.once(Kill(intent_id="c"), OPERATOR, desk)
    assert (await intents.once(Pause(intent_id="c"), OPERATOR, desk)).code == "DONE"


@pytest.mark.parametrize("code", ["EXPIRED", "CANCELLED", "OVERTAKEN", "DONE"])
async def test_an_ended_question_answers_with_its_end(desk: Desk, code: str) -> None:
    intents = Intents()
    await intents.once(TAKE, OPERATOR, desk)
    intents.ended(OPERATOR.name, "a", CommandResult(ResultStatus.REJECTED, code, "not confirmed in time", "o1"))
    told = await intents.once(TAKE, OPERATOR, desk)
    assert told == CommandResult(ResultStatus.REJECTED, code, "not confirmed in time", "o1", "a")
    assert len(desk.given) == 1
    other: Command = Confirm(operation_id="o1", intent_id="a")
    assert (await intents.once(other, OPERATOR, desk)).code == "INTENT_USED"  # type: ignore[arg-type]


async def test_two_givers_may_use_the_same_intent(desk: Desk) -> None:
    """An id that a script counts up is nobody's but that script's: neither its answers nor their ends are another's."""
    intents, script = Intents(), Principal("api", "script")
    mine = await intents.once(TAKE, OPERATOR, desk)
    theirs = await intents.once(Pause(intent_id="a"), script, desk)
    assert (theirs.code, theirs.message) == ("DONE", "number 2")
    assert desk.givers == [OPERATOR, script]
    intents.ended(script.name, "a", CommandResult(ResultStatus.REJECTED, "EXPIRED", "not confirmed in time", "o1"))
    assert await intents.once(TAKE, OPERATOR, desk) is mine
    assert (await intents.once(Pause(intent_id="a"), script, desk)).code == "EXPIRED"
    assert len(desk.given) == 2


async def test_the_end_of_a_question_without_an_intent_is_nobodys(desk: Desk) -> None:
    intents = Intents()
    intents.ended(OPERATOR.name, "", CommandResult(ResultStatus.REJECTED, "EXPIRED", ""))
    intents.ended(OPERATOR.name, "never", CommandResult(ResultStatus.REJECTED, "EXPIRED", ""))
    assert (await intents.once(msgspec.structs.replace(TAKE, intent_id="never"), OPERATOR, desk)).code == "DONE"


async def test_the_last_thousand_are_remembered(desk: Desk) -> None:
    intents = Intents()
    for number in range(1001):
        await intents.once(Pause(intent_id=f"i{number}"), OPERATOR, desk)
    assert len(desk.given) == 1001
    await intents.once(Pause(intent_id="i1"), OPERATOR, desk)
    assert len(desk.given) == 1001
    await intents.once(Pause(intent_id="i0"), OPERATOR, desk)
    assert len(desk.given) == 1002
