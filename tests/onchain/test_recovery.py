"""R8.4, R9.2: what the engine does about what is not known, and about a connection that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from chainkit import run
from hypothesis import given, settings
from hypothesis import strategies as st
from node import Blackhole, Dropped, Hide, Late, Reorg
from node.faults import Rule
from scene import Scene, scene

from deltatui.chain.pool import Pool
from deltatui.domain.command import Confirm, Kill, Pause, ResultStatus, Resume, Settle, Withdraw
from deltatui.domain.errors import CriticalError, TransientError
from deltatui.domain.event import Level
from deltatui.domain.operation import OperationState
from deltatui.domain.principal import OPERATOR

FAST = settings(max_examples=100, deadline=None, database=None)


def story(tell: Callable[[Scene], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with scene(seed=3) as s:
            await tell(s)

    run(whole())


def cut(s: Scene) -> list[Rule]:
    return [s.node.faults.requests(Dropped(), host=host) for host in ("rpc", "ws", "jito")]  # type: ignore[arg-type]


def mend(rules: list[Rule]) -> None:
    for rule in rules:
        rule.clear()


def kinds(s: Scene) -> list[str]:
    return [event.kind for event in s.events]


def test_after_a_minute_the_alert_names_the_signature_and_the_loop_goes_on() -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Hide(140))
        result = await s.deposit("a")
        assert result.status is ResultStatus.UNRESOLVED
        (open_operation,) = s.engine.core.unresolved.values()
        alerts = s.engine.core.board.alerts
        key = f"unresolved {result.operation_id}"
        assert open_operation.signature not in alerts[key].message
        # Asking takes the sender five seconds, and nobody waits for that.
        began = asyncio.get_running_loop().time()
        await s.engine.tick()
        assert (await s.engine.submit(Pause(), OPERATOR)).status is ResultStatus.DONE
        assert (await s.engine.submit(Resume(), OPERATOR)).status is ResultStatus.DONE
        assert asyncio.get_running_loop().time() - began < 0.1
        # New risk has to wait, and so has a withdrawal: its health would be judged by balances that may change.
        withdrawal = await s.engine.submit(Withdraw(asset="USDC", amount=1_000_000), OPERATOR)
        assert (withdrawal.status, withdrawal.code) == (ResultStatus.REJECTED, "UNRESOLVED_OPEN")
        await s.until(lambda: key not in alerts or open_operation.signature in alerts[key].message, 60)
        assert alerts[key].level is Level.ERROR
        assert "60 s" in alerts[key].message
        assert s.clock.operator_s() - open_operation.operation.created_operator_s < 70
        await s.settle()
        assert key not in alerts
        assert (await s.operations())[result.operation_id] is OperationState.LANDED

    story(tell)


def test_what_is_asked_every_five_seconds_is_the_chain() -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Hide(140))
        assert (await s.deposit("a")).status is ResultStatus.UNRESOLVED
        before = s.node.records.requests["rpc", "getSignatureStatuses"]
        await asyncio.sleep(20.0)
        polls = (s.node.records.requests["rpc", "getSignatureStatuses"] - before) / 2
        assert 4 <= polls <= 8

    story(tell)


def test_an_operation_that_the_chain_takes_back_for_good_halts_the_engine() -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Reorg(after=3, reland_after=None), via="jito")
        result = await s.deposit("a")
        assert result.status is ResultStatus.DONE
        # What is sent again goes nowhere, until the blockhash is dead.
        s.node.faults.transactions(Blackhole())
        await s.until(lambda: s.state == "HALTED", 300)
        alert = s.engine.core.board.alerts["halted"]
        assert alert.level is Level.CRITICAL
        (line, *_) = [line for line in await s.journal(result.operation_id) if line.signature]
        assert line.signature in alert.message
        assert "undone" in kinds(s)
        await asyncio.sleep(2.0)
        await s.restart()
        assert s.state == "HALTED"

    story(tell)


def test_a_kill_while_recovering_stays_and_the_connection_comes_back_all_the_same() -> None:
    async def tell(s: Scene) -> None:
        rules = cut(s)
        await s.until(lambda: s.state == "RECOVERING", 40)
        await s.engine.submit(Kill(reason="test"), OPERATOR)
        assert s.state == "HALTED"
        mend(rules)
        await s.until(lambda: "recovered" in kinds(s), 30)
        assert s.state == "HALTED"
        assert "link" not in s.engine.core.board.alerts
        assert s.synced == 1

    story(tell)


def test_a_connection_lost_while_halted_comes_back_before_trading_resumes() -> None:
    async def tell(s: Scene) -> None:
        await s.engine.submit(Kill(reason="test"), OPERATOR)
        rules = cut(s)
        await s.until(lambda: "link" in s.engine.core.board.alerts, 40)
        assert s.state == "HALTED"
        asked = await s.engine.submit(Resume(), OPERATOR)
        assert asked.status is ResultStatus.NEEDS_CONFIRMATION
        resumed = await s.engine.submit(Confirm(operation_id=asked.operation_id), OPERATOR)
        assert resumed.code == "RECOVERING"
        assert s.state == "RECOVERING"
        assert (await s.deposit("a")).code == "NOT_ACCEPTED"
        mend(rules)
        await s.settle()
        assert s.state == "RUNNING"

    story(tell)


def test_an_engine_that_starts_without_a_connection_recovers_first() -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Late(60))
        asked = asyncio.create_task(s.deposit("a"))
        await asyncio.sleep(5.0)
        rules = cut(s)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        s.events.clear()
        await s.restart()
        assert s.state == "RECOVERING"
        assert not any(event.message.startswith("RUNNING") for event in s.events)
        mend(rules)
        await s.settle()
        assert list((await s.operations()).values()) == [OperationState.LANDED]

    story(tell)


def test_a_chain_that_stands_still_is_a_lost_connection() -> None:
    async def tell(s: Scene) -> None:
        for index in range(2):
            s.node.endpoint(index).view.freeze()
        await s.until(lambda: s.state == "RECOVERING", 40)
        assert "new slot" in s.engine.core.state_reason
        for index in range(2):
            s.node.endpoint(index).view.thaw()
        await s.settle()
        assert s.state == "RUNNING"

    story(tell)


def test_a_settlement_that_waited_for_its_turn_is_refused_while_recovering() -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Late(110))
        asked = asyncio.create_task(s.deposit("a"))
        await asyncio.sleep(1.0)
        waiting = asyncio.create_task(s.engine.submit(Settle(market="SOL-PERP"), OPERATOR))
        rules = cut(s)
        await s.until(lambda: s.state == "RECOVERING", 40)
        assert (await asked).status is ResultStatus.UNRESOLVED
        assert (await waiting).code == "NOT_ACCEPTED"
        mend(rules)
        await s.settle()

    story(tell)


@pytest.mark.parametrize("error", [TransientError("NOT_YET", "the account cannot be read"), CriticalError("BAD", "no")])
def test_what_resync_raises_keeps_recovering_or_halts(error: Exception) -> None:
    async def tell(s: Scene) -> None:
        failing = True

        async def read(pool: Pool = s.pool) -> None:
            if failing:
                raise error

        s.link._resync = (read,)
        rules = cut(s)
        await s.until(lambda: s.state == "RECOVERING", 40)
        mend(rules)
        await asyncio.sleep(25.0)
        if isinstance(error, CriticalError):
            assert s.state == "HALTED"
            return
        assert s.state == "RECOVERING"
        assert "the account cannot be read" in s.engine.core.state_reason
        failing = False
        await s.settle()
        assert s.state == "RUNNING"

    story(tell)


def attempts(s: Scene) -> Callable[[], list[float]]:
    """When the connection was tried to be brought back."""
    tried: list[float] = []
    reconnect = s.link.reconnect

    async def noted() -> None:
        tried.append(asyncio.get_running_loop().time())
        await reconnect()

    s.link.reconnect = noted  # type: ignore[method-assign]
    return lambda: tried


@pytest.mark.slow
@FAST
@given(outage_s=st.floats(25.0, 130.0))
def test_property_43_reconnection_every_ten_seconds(outage_s: float) -> None:
    async def tell(s: Scene) -> None:
        tried = attempts(s)
        rules = cut(s)
        await asyncio.sleep(outage_s)
        mend(rules)
        back = asyncio.get_running_loop().time()
        await s.settle()
        pauses = [later - earlier for earlier, later in zip(tried(), tried()[1:], strict=False)]
        assert all(10.0 <= pause < 16.1 for pause in pauses), pauses
        assert tried()[-1] < back + 16.1
        assert kinds(s).count("connection_lost") == kinds(s).count("recovered") == 1

    story(tell)


@pytest.mark.slow
@FAST
@given(outage_s=st.floats(1.0, 60.0), late=st.integers(1, 140))
def test_property_44_state_is_synced_before_operations_resume(outage_s: float, late: int) -> None:
    async def tell(s: Scene) -> None:
        s.node.faults.transactions(Late(late))
        asked = asyncio.create_task(s.deposit("a"))
        await asyncio.sleep(0.5)
        rules = cut(s)
        await s.until(lambda: s.state == "RECOVERING", 40)
        asyncio.get_running_loop().call_later(outage_s, lambda: mend(rules))
        await s.until(lambda: s.state == "RUNNING", 300)
        # Read anew, and the journal asked, before the first command is taken.
        assert s.synced >= 1
        await asked
        for operation_id, state in (await s.operations()).items():
            assert state.final or operation_id in s.engine.core.unresolved
        await s.settle()
        assert s.node.double_landings == 0

    story(tell)


@pytest.mark.slow
@FAST
@given(outage_s=st.floats(20.0, 90.0), asks=st.lists(st.floats(0.1, 20.0), min_size=1, max_size=6))
def test_property_45_no_trade_during_recovery(outage_s: float, asks: list[float]) -> None:
    async def tell(s: Scene) -> None:
        rules = cut(s)
        await s.until(lambda: s.state == "RECOVERING", 40)
        asyncio.get_running_loop().call_later(outage_s, lambda: mend(rules))
        executed = []
        for number, pause_s in enumerate(asks):
            recovering = s.state in ("RECOVERING", "RECONCILING")
            result = await s.deposit(f"intent {number}")
            if recovering:
                assert result.code == "NOT_ACCEPTED"
            else:
                executed.append(result.operation_id)
            await asyncio.sleep(pause_s)
        await s.settle()
        assert set(await s.operations()) <= set(executed)
        assert s.node.records.operations.keys() <= set(executed)

    story(tell)
