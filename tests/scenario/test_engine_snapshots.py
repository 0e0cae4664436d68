"""What clients are shown: true of the moment, unknown where it is not known, and every action with its reason."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from engine_harness import FREE, PRICE, SOL, USD, World, blocked_by, deposit, in_world, leave, rate_of, take, world
from hypothesis import given, settings
from hypothesis import strategies as st

from deltatui.domain.carry import Stance
from deltatui.domain.command import Direction, Kill, Pause, ResultStatus
from deltatui.domain.gates import GateLimits
from deltatui.domain.snapshot import ActionView, MarketDetail, Snapshot
from deltatui.engine.states import ACCEPTS, EngineState
from deltatui.venues.paper.settings import PaperSettings


def action(w: World, name: str) -> ActionView:
    return next(a for a in w.snapshot().actions if a.action == name)


async def test_it_travels_and_is_numbered() -> None:
    async with world(automation=True) as w:
        one, two = w.snapshot(), w.snapshot()
        assert two.version == one.version + 1
        assert msgspec.json.decode(msgspec.json.encode(two.snapshot), type=Snapshot) == two.snapshot
        assert msgspec.structs.replace(two.snapshot, version=one.version) == one.snapshot
        assert msgspec.json.decode(msgspec.json.encode(two.detail), type=MarketDetail) == two.detail
        assert msgspec.structs.replace(two.detail, version=one.version) == one.detail


async def test_each_action_has_a_reason_where_it_cannot_be() -> None:
    async with world() as w:
        assert action(w, "TAKE").enabled
        assert action(w, "LEAVE").reason == "there is no position"
        assert action(w, "SETTLE").reason == "nothing is unsettled"
        assert action(w, "REBALANCE").reason == "delta is neutral"
        assert action(w, "RESUME").reason == "the engine is already running"
        asked = await w.give(take(5))
        assert action(w, "TAKE").reason == "another question waits for its answer"
        await w.confirm(asked)
        await w.to_price("140")
        assert action(w, "LEAVE").enabled
        assert action(w, "SETTLE").enabled
        await w.give(Kill())
        assert action(w, "TAKE").reason == "the engine is halted; resume it first"
        assert action(w, "LEAVE").enabled
    async with world(mode="paper") as w:
        assert action(w, "SET_SPEED").reason == "only a replay has a speed"


@pytest.mark.parametrize("state", list(EngineState))
async def test_an_action_is_enabled_only_where_the_state_takes_it(state: EngineState) -> None:
    async with world() as w:
        await w.take(1)
        w.core.state = state
        accepted = {kind.__struct_config__.tag for kind in ACCEPTS[state]}
        for view in w.snapshot().actions:
            if view.enabled:
                assert view.action in accepted
            else:
                assert view.reason


@settings(max_examples=100, deadline=None)
@given(st.integers(5, 5000), st.sampled_from(list(Direction)), st.integers(0, 30), st.decimals("0.8", "1.2", places=2))
def test_the_largest_size_passes_and_one_step_more_does_not(
    opening: int, way: Direction, held: int, move: Decimal
) -> None:
    async def scenario(w: World) -> None:
        if held:
            await w.take(held / 10, way)
        await w.to_price(PRICE * move)
        way_now = Direction.REVERSE if w.account.perp_1e9 > 0 else Direction.CARRY
        view = action(w, "TAKE")
        assert view.max_size is not None
        assert (view.min_size, view.step) == (0.1, 0.01)
        too_much = await w.give(take(view.max_size + 0.01, way_now))
        assert too_much.status is ResultStatus.REJECTED
        assert set(blocked_by(too_much)) <= {"leverage", "health_after", "liq_distance", "margin", "quote_reserve"}
        if not view.max_size:
            assert (await w.give(take(0.1, way_now))).status is ResultStatus.REJECTED
        else:
            before = abs(w.legs[1])
            result = await w.sure(take(view.max_size, way_now))
            assert result.status is ResultStatus.DONE, result
            assert abs(w.legs[1]) - before == pytest.approx(view.max_size)

    in_world(
        scenario,
        opening=opening,
        hold=Stance.CARRY,
        paper=PaperSettings(costs=FREE, base_borrow_apr_pct=Decimal(0), quote_borrow_apr_pct=Decimal(0)),
    )


@pytest.mark.parametrize("opening", [12, 14, 19])
async def test_a_largest_size_near_the_minimum_is_found(opening: int) -> None:
    """What is below the minimum says nothing of what is above it: a search that tries it first found 0."""
    limits = GateLimits(max_leverage=10.0, min_health_after=70)
    async with world(opening=opening, hold=Stance.CARRY, paper=PaperSettings(costs=FREE), limits=limits) as w:
        largest = action(w, "TAKE").max_size
        assert largest is not None
        assert largest >= 0.1
        assert (await w.give(take(largest + 0.01))).status is ResultStatus.REJECTED
        assert (await w.sure(take(largest))).status is ResultStatus.DONE


async def test_the_gates_shown_are_those_of_the_next_increase() -> None:
    async with world() as w:
        snapshot = w.snapshot()
        assert snapshot.gates_subject == "take SOL-PERP (carry, 5)"
        assert all(verdict.allowed for verdict in snapshot.gates)
        for _ in range(30):
            await w.record(rate_of(-100))
        snapshot = w.snapshot()
        assert snapshot.gates_subject == "take SOL-PERP (reverse, 5)"
        await w.take(1)
        snapshot = w.snapshot()
        assert snapshot.gates_subject == "add to SOL-PERP (carry, 5)"
        assert [v.code for v in snapshot.gates if not v.allowed] == ["profitability"]


async def test_prices_account_and_positions() -> None:
    async with world(paper=PaperSettings(costs=FREE)) as w:
        await w.take(5)
        await w.to_price("160", mark="161")
        s = w.snapshot()
        assert (s.prices.oracle, s.prices.mark) == (160.0, 161.0)
        assert s.prices.basis_bps == pytest.approx(62.5)
        assert s.prices.interpolated
        perp, spot = s.positions
        assert (perp.key, perp.side, perp.size, perp.entry_price) == ("SOL-PERP", "short", -5.0, 150.0)
        assert perp.unrealized_pnl == pytest.approx(-55.0)
        assert (spot.key, spot.side, spot.size, spot.entry_price) == ("SOL", "spot", 5.0, 150.0)
        assert spot.unrealized_pnl == pytest.approx(50.0)
        assert s.account.equity == pytest.approx(3000 - 5)
        assert s.account.max_leverage == 10.0
        a = s.attribution
        explained = (
            (a.opening_equity or 0) + a.funding + a.fees + a.interest + a.trading + a.transfers
            + (a.unrealized_perp or 0) + a.spot_revaluation
        )  # fmt: skip
        assert a.closing_equity == pytest.approx(explained)
        assert s.delta.drift_pct == 0.0
        assert s.delta.direction == "none"


async def test_the_next_funding_and_its_age() -> None:
    async with world() as w:
        await w.to_price("150", after_s=600)
        s = w.snapshot()
        assert s.carry.next_funding_in_s == 3000.0
        (opportunity,) = s.opportunities
        assert opportunity.age_s == 600.0
        assert opportunity.apr_pct == pytest.approx(100.0)
        assert opportunity.rate_8h_pct == pytest.approx(100.0 / 365 / 3)
        assert s.carry.now_apr == pytest.approx(100.0)
        assert s.carry.expected_per_hour == pytest.approx(50.0 / 100 / 8760 * 750)


async def test_what_the_terminal_is_told_of_the_engine() -> None:
    async with world(typed_above_usd=1234.5) as w:
        engine = w.snapshot().engine
        assert engine.typed_above_usd == 1234.5
        # A tape has neither chain nor feeds: none is made up.
        assert (engine.rpc_ms, engine.slot, engine.feeds) == (None, None, ())


async def test_a_paused_engine_is_shown_as_such() -> None:
    async with world() as w:
        await w.give(Pause())
        s = w.snapshot()
        assert s.clock.paused
        assert (s.engine.state, s.engine.state_reason) == ("PAUSED", "paused by the operator")


async def test_equity_that_is_gone_is_no_small_leverage() -> None:
    """No number says how bad it is; the gate must not take it for 0x."""
    limits = GateLimits(max_leverage=1e9, min_health_after=0, min_liq_distance_pct=0)
    async with world(opening=1, limits=limits) as w:
        w.tamper(quote=Decimal(-50))
        w.tamper("SOL-PERP", base_1e9=-SOL, quote=Decimal(150), entry_quote=Decimal(150))
        s = w.snapshot()
        assert s.account.leverage is None
        assert s.account.health == 0
        assert not next(v for v in s.gates if v.code == "leverage").allowed
        assert action(w, "TAKE").max_size == 0.0


async def test_deposits_are_shown_as_transfers() -> None:
    async with world() as w:
        await w.sure(deposit(100 * USD))
        s = w.snapshot()
        assert s.attribution.transfers == 100.0
        assert s.account.wallet_quote == 900.0
        assert s.vault.balance == 3100.0


async def test_a_confirmation_follows_the_market() -> None:
    async with world(confirm_timeout_s=1e6) as w:
        await w.take(5)
        await w.give(leave())
        one = w.snapshot().confirmation
        await w.to_price("155")
        two = w.snapshot().confirmation
        assert one is not None
        assert two is not None
        assert (one.price, two.price) == (150.0, 155.0)
        assert one.operation_id == two.operation_id
        assert (one.leverage_after, one.health_after) == (0.0, 100)
