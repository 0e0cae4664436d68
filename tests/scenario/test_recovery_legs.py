"""A connection that goes while legs are being mended: nothing trades until it is back, then they are mended first."""

from __future__ import annotations

from engine_harness import World, world

from deltatui.domain.command import Kill, ResultStatus
from deltatui.engine.states import EngineState
from deltatui.venues.paper.settings import PaperFaults


async def lose_with_the_first_trade(w: World) -> None:
    """One leg fails, and when the trade has gone out the connection is lost."""

    async def before_sending() -> None:
        w.with_faults(PaperFaults(odd_leg_rate=1.0) if len(w.sender.sent) == 1 else PaperFaults())
        if len(w.sender.sent) == 1:
            w.core.go(EngineState.RECOVERING, "test")

    w.sender.on_send = before_sending


async def test_an_odd_leg_waits_for_the_connection_and_is_mended_before_anything_else() -> None:
    async with world() as w:
        await lose_with_the_first_trade(w)
        result = await w.take(5)
        assert (result.status, result.code) == (ResultStatus.UNRESOLVED, "RECOVERING")
        assert result.operation_id
        assert w.legs == (0.0, -5.0)
        assert w.sender.sent == [result.operation_id]
        # Neither by itself while it lasts ...
        await w.engine.tick()
        assert len(w.sender.sent) == 1
        assert w.state == "RECOVERING"
        # ... but first of all when it is over.
        w.core.go(EngineState.RECONCILING, "test")
        await w.engine.desk.reconcile()
        w.core.go_after_reconciliation()
        assert w.legs == (0.0, 0.0)
        assert await w.outcomes() == [("TAKE", "LANDED"), ("UNWIND", "LANDED")]
        assert w.hedge.check is None
        assert w.state == "RUNNING"
        await w.check()


async def test_what_is_mended_by_itself_stops_when_the_connection_goes() -> None:
    async with world() as w:
        w.sender.mute = True
        w.with_faults(PaperFaults(odd_leg_rate=1.0))
        assert (await w.take(5)).status is ResultStatus.UNRESOLVED
        w.sender.mute = False
        w.with_faults(PaperFaults(fail_rate=1.0))

        async def before_sending() -> None:
            w.core.go(EngineState.RECOVERING, "test")
            w.sender.on_send = None

        w.sender.on_send = before_sending
        await w.engine.tick()
        assert w.state == "RECOVERING"
        assert len(w.sender.sent) == 2
        assert w.hedge.check is not None
        w.with_faults(PaperFaults())
        w.core.go(EngineState.RECONCILING, "test")
        await w.engine.desk.reconcile()
        w.core.go_after_reconciliation()
        assert w.legs == (0.0, 0.0)
        assert w.state == "RUNNING"
        await w.check()


async def test_a_flattening_kill_and_a_settlement_say_that_they_are_unresolved() -> None:
    async with world() as w:
        assert (await w.take(5)).status is ResultStatus.DONE
        await w.record("3")

        async def settling_is_mute() -> None:
            w.sender.mute = len(w.sender.sent) == 3

        w.sender.on_send = settling_is_mute
        left = await w.leave()
        assert left.status is ResultStatus.DONE
        assert "settling is unresolved" in left.message
        w.sender.on_send = None
        w.sender.mute = False
        await w.engine.tick()
        assert not w.core.unresolved
        assert (await w.take(5)).status is ResultStatus.DONE
        w.sender.mute = True
        killed = await w.give(Kill(flatten=True, reason="test"))
        assert killed.status is ResultStatus.UNRESOLVED
        assert killed.message.startswith("halted, but closing is unresolved")
        assert list(w.core.unresolved) == [killed.operation_id]
        assert w.state == "HALTED"
        w.sender.mute = False
        await w.engine.tick()
        assert w.legs == (0.0, 0.0)
        await w.check()


async def test_stopping_lets_a_trade_end_and_asks_nobody_any_more() -> None:
    async with world() as w:
        w.sender.mute = True
        result = await w.take(5)
        assert result.status is ResultStatus.UNRESOLVED
        assert list(w.core.unresolved) == [result.operation_id]
        await w.engine.tick()
        await w.engine.stop()
        assert w.state == "STOPPED"
        assert not w.engine.desk._resolving
