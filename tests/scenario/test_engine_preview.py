"""A preview tells what a command would do now, in the very words that the command would get, and leaves no trace."""

from __future__ import annotations

import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from engine_harness import (
    BOTH,
    PRICE,
    SOL,
    World,
    blocked_by,
    deposit,
    in_world,
    leave,
    rate_of,
    rebalance,
    take,
    world,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.api.client import Client
from deltatui.api.protocol import PreviewResult, decode_server, encode
from deltatui.api.server import Server
from deltatui.domain.command import (
    AnyCommand,
    CommandResult,
    Direction,
    Kill,
    Leave,
    Pause,
    Rebalance,
    ResultStatus,
    Take,
)
from deltatui.domain.errors import ValidationError
from deltatui.domain.principal import Principal
from deltatui.domain.snapshot import MarketDetail, PlanView, Snapshot
from deltatui.engine.memory import PlannedCommand, TradeCommand
from deltatui.engine.states import ACCEPTS, EngineState

FIELDS = PlanView.__struct_fields__


def refused(w: World, command: TradeCommand) -> tuple[str, str]:
    with pytest.raises(ValidationError) as caught:
        w.preview(command)
    return caught.value.code, caught.value.sentence


def shown(w: World) -> PlanView:
    """What the open confirmation shows, without what makes it a confirmation."""
    confirmation = w.snapshot().confirmation
    assert confirmation is not None
    return PlanView(**{name: getattr(confirmation, name) for name in FIELDS})


def traces(w: World) -> dict[str, Any]:
    """Everything that a command leaves behind."""
    core, desk = w.core, w.engine.desk
    return {
        "memory": (core.memory, [hedge.memory for hedge in core.hedges.values()]),
        "state": core.state,
        "pending": dict(core.pending),
        "operations": dict(core.operations),
        "unresolved": dict(core.unresolved),
        "alerts": dict(core.board.alerts),
        "events": list(w.events),
        "unsaved": (list(core.board.unsaved), list(core.accountant.pending), core._unsaved),
        "lines": list(w.lines),
        "intents": list(desk._intents._known),
        "positions": list(desk.assess._position_times),
        "last": dict(desk.last_results),
        "database": w.gremlin.count,
        "account": w.account,
        "sent": (list(w.sender.sent), w.sender.simulated),
    }


sizes = st.one_of(st.integers(-SOL, 60 * SOL), st.sampled_from([2**63 - 1, 2**64 - 1, -(2**63), 10**15]))
commands: st.SearchStrategy[TradeCommand] = st.one_of(
    st.builds(Take, market=st.just("SOL-PERP"), base_1e9=sizes, direction=st.sampled_from(Direction)),
    st.builds(Leave, market=st.sampled_from(["SOL-PERP", "DOGE-PERP", ""])),
    st.builds(Rebalance, market=st.just("SOL-PERP")),
)


@settings(max_examples=200, deadline=None)
@given(
    command=commands,
    held=st.sampled_from([0, 0.5, 5]),
    way=st.sampled_from(Direction),
    own=st.sampled_from([0, 2]),
    move=st.decimals("0.7", "1.3", places=2),
    state=st.sampled_from([EngineState.RUNNING] * 4 + list(EngineState)),
    waiting=st.sampled_from([False, False, False, True]),
)
def test_a_preview_is_what_the_command_then_gets(
    command: TradeCommand, held: float, way: Direction, own: int, move: Decimal, state: EngineState, waiting: bool
) -> None:
    async def scenario(w: World) -> None:
        if held:
            await w.take(held, way)
        if own:
            await w.sure(deposit(own * SOL, "SOL"))
        await w.to_price(PRICE * move)
        if waiting:
            await w.give(take(0.2, way))
        w.core.state = state
        before = traces(w)
        view = none = None
        try:
            view = w.preview(command)
        except ValidationError as error:
            none = error
        assert traces(w) == before
        if view is None:
            assert none is not None
            result = await w.give(command)
            assert (result.status, result.code, result.message) == (ResultStatus.REJECTED, none.code, none.sentence)
            return
        message = PreviewResult(1, view)
        assert decode_server(encode(message)) == message
        result = await w.give(command)
        assert result.verdicts == view.verdicts
        if result.status is ResultStatus.NEEDS_CONFIRMATION:
            assert view.allowed or view.can_force
            assert shown(w) == view
        else:
            assert (result.status, result.code) == (ResultStatus.REJECTED, "BLOCKED")
            assert not view.allowed
            assert not view.can_force

    in_world(scenario, opening=3000, wallet_sol=2, confirm_above_usd=0.0, confirm_timeout_s=1e6)


async def test_a_trade_that_a_gate_refuses_is_shown_with_its_verdicts() -> None:
    async with world() as w:
        view = w.preview(take(100))
        assert not view.allowed
        assert not view.can_force
        result = await w.give(take(100))
        assert result.code == "BLOCKED"
        refusals = [verdict.code for verdict in view.verdicts if not verdict.allowed]
        assert refusals == blocked_by(result)
        assert "health_after" in refusals
        assert (view.size, view.notional) == (100.0, 15_000.0)
        assert view.leverage_after is not None
        assert view.leverage_after > 4.0


async def test_a_trade_that_does_not_pay_tells_the_loss_of_forcing_it() -> None:
    async with world() as w:
        for _ in range(30):
            await w.record(rate_of(-100))
        view = w.preview(take(1))
        assert (view.allowed, view.can_force) == (False, True)
        assert view.loss_if_forced is not None
        assert view.loss_if_forced > 0
        await w.give(take(1))
        assert shown(w) == view
    async with world(mode="live", live_mode="trade") as w:
        for _ in range(30):
            await w.record(rate_of(-100))
        view = w.preview(take(1))
        assert (view.allowed, view.can_force, view.loss_if_forced) == (False, False, None)


async def test_previews_leave_no_trace_and_count_as_nothing() -> None:
    async with world() as w:
        await w.take(1)
        before = traces(w)
        for _ in range(50):
            w.preview(take(1, intent_id="the same"))
            w.preview(leave(intent_id="the same"))
            refused(w, rebalance())
            refused(w, take(0))
        assert traces(w) == before
        # Neither the limit of position operations nor the intent was used up.
        result = await w.give(take(0.5, intent_id="the same"))
        assert result.status is ResultStatus.DONE
        await w.check()


async def test_what_the_operator_saw_long_ago_does_not_spoil_a_look_at_what_is() -> None:
    async with world() as w:
        version = w.snapshot().version
        w.wait(60.0)
        assert (await w.give(take(1, snapshot_version=version))).code == "STALE_SNAPSHOT"
        assert w.preview(take(1, snapshot_version=version)).size == 1.0


async def test_halted_says_so_and_still_shows_what_closing_would_do() -> None:
    async with world() as w:
        await w.take(5)
        await w.give(Kill())
        code, sentence = refused(w, take(1))
        assert (code, sentence) == ("NOT_ACCEPTED", "the engine is halted; resume it first")
        result = await w.give(take(1))
        assert (result.code, result.message) == (code, sentence)
        view = w.preview(leave())
        assert (view.kind, view.size, view.leverage_after, view.health_after) == ("LEAVE", 5.0, 0.0, 100)


@pytest.mark.parametrize("state", list(EngineState))
@pytest.mark.parametrize("command", [take(1), leave()], ids=["take", "leave"])
async def test_a_preview_is_there_exactly_where_the_state_takes_the_command(
    state: EngineState, command: TradeCommand
) -> None:
    async with world() as w:
        await w.take(1)
        w.core.state = state
        if type(command) in ACCEPTS[state]:
            assert w.preview(command).market == "SOL-PERP"
        else:
            assert refused(w, command)[0] == "NOT_ACCEPTED"


async def test_a_rebalance_that_widens_is_none_while_paused() -> None:
    async with world(wallet_sol=2) as w:
        await w.take(5)
        await w.sure(deposit(2 * SOL, "SOL"))
        view = w.preview(rebalance())
        assert (view.kind, view.size) == ("REBALANCE", 2.0)
        assert view.delta_before_pct == pytest.approx(200 / 7)
        assert view.delta_after_pct == 0.0
        await w.give(Pause())
        assert refused(w, rebalance()) == ("NOT_ACCEPTED", "the engine is paused; resume it first")


async def test_a_market_that_is_not_there() -> None:
    async with world() as w:
        code, sentence = refused(w, Take(market="DOGE-PERP", base_1e9=SOL))
        assert (code, sentence) == ("UNKNOWN_MARKET", "there is no market DOGE-PERP; listed: SOL-PERP")


async def test_while_another_trade_waits() -> None:
    async with world() as w:
        asked = await w.give(take(5))
        assert refused(w, take(1))[0] == "CONFIRMATION_OPEN"
        await w.confirm(asked)
        assert w.preview(take(1)).leverage_before is not None


async def test_an_account_that_cannot_be_judged_has_no_preview_and_raises_no_alert() -> None:
    async with world() as w:
        book = w.venue.margin_book()
        assert book is not None
        w.venue._book = msgspec.structs.replace(book, oracles={})
        before = traces(w)
        code, sentence = refused(w, take(1))
        assert code == "MISSING_PRICE"
        assert "no price" in sentence
        assert traces(w) == before


async def test_before_prices_are_known() -> None:
    async with world(primed=0, priced=False) as w:
        assert refused(w, take(1)) == ("NO_ACCOUNT", "the venue has not told the account's state yet")
    async with world(primed=0, markets=BOTH) as w:
        w.core.world._markets.pop("BTC-PERP")
        assert refused(w, take(1, market="BTC-PERP")) == (
            "NO_DATA",
            "the prices of BTC-PERP and the account are not known yet",
        )


async def test_over_the_wire_it_is_the_same() -> None:
    """The engine itself behind the server, and a client that may only look."""

    class Host:
        def __init__(self, w: World) -> None:
            self.w = w

        def snapshot(self) -> Snapshot:
            return self.w.snapshot().snapshot

        def detail(self, market: str, version: int) -> MarketDetail | None:
            return self.w.snapshots.detail(market, version)

        async def submit(self, command: AnyCommand, principal: Principal) -> CommandResult:
            return await self.w.engine.submit(command, principal)

        def preview(self, command: PlannedCommand, principal: Principal) -> PlanView:
            return self.w.engine.preview(command, principal)

    async with world() as w:
        with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
            server = Server(Host(w), Path(folder) / "e.sock", profile="test", mode="replay", pid=1)
            await server.start()
            client = await Client.connect(Path(folder) / "e.sock", name="test", read_only=True)
            command = take(5)
            assert await client.preview(command) == w.preview(command)
            with pytest.raises(ValidationError, match="NOTHING_TO_LEAVE: there is no position in SOL-PERP"):
                await client.preview(leave())
            assert (await client.command(command)).code == "READ_ONLY"
            await client.close()
            await server.close()
