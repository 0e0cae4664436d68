"""What a red team found: each life here once ended with something told that was not so, or with something open that
nobody looked after."""

from __future__ import annotations

import msgspec
from engine_harness import SOL, World, world

from deltatui.domain.command import Kill, ResultStatus, Resume
from deltatui.venues.paper.settings import PaperFaults

DONE, REJECTED = ResultStatus.DONE, ResultStatus.REJECTED


def with_faults(w: World, faults: PaperFaults) -> None:
    w.venue._settings = msgspec.structs.replace(w.venue._settings, faults=faults)


# A resume forgets nothing that is under way


async def test_a_kill_and_a_resume_while_a_take_is_sent_change_nothing_of_its_answer() -> None:
    """It was told "one leg was not filled, the other was undone" while both stood, and had no owner."""
    async with world() as w:

        async def the_operator() -> None:
            await w.give(Kill())
            await w.give(Resume())

        w.sender.on_send = the_operator
        result = await w.take(5)
        assert w.legs == (5, -5)
        assert result.status is DONE
        assert w.core.flags.held_by == "operator"
        await w.check()


async def test_an_odd_leg_is_mended_although_the_operator_resumed_meanwhile() -> None:
    async with world() as w:

        async def the_operator() -> None:
            with_faults(w, PaperFaults(odd_leg_rate=1.0 if len(w.sender.sent) == 1 else 0.0))
            if len(w.sender.sent) == 1:
                await w.give(Kill())
                await w.give(Resume())

        w.sender.on_send = the_operator
        result = await w.take(5)
        assert w.legs == (0, 0)
        assert (result.status, result.code) == (REJECTED, "ODD_LEG")


async def test_a_flatten_goes_on_although_the_operator_resumed_meanwhile() -> None:
    async with world() as w:
        await w.take(5)

        async def the_operator() -> None:
            with_faults(w, PaperFaults(partial_rate=1.0 if len(w.sender.sent) == 2 else 0.0))
            if len(w.sender.sent) == 2:
                await w.give(Resume())

        w.sender.on_send = the_operator
        result = await w.give(Kill(flatten=True))
        assert w.legs == (0, 0)
        assert result.status is DONE


async def test_an_unresolved_take_is_looked_after_although_it_was_killed_and_resumed() -> None:
    """It landed on one leg, RUNNING, without an alert and without an owner."""
    async with world() as w:
        with_faults(w, PaperFaults(odd_leg_rate=1.0))
        w.sender.mute = True
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        await w.give(Kill())
        await w.give(Resume())
        w.sender.mute = False
        with_faults(w, PaperFaults())
        w.wait(5)
        await w.engine.tick()
        assert w.legs == (0, 0)
        assert [kind for kind, _ in await w.outcomes()] == ["TAKE", "UNWIND"]
        await w.check()
