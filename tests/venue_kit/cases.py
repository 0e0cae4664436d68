"""The cases, by number."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import NamedTuple

from deltatui.domain.command import Direction, Kill, Leave, ResultStatus, Take
from deltatui.domain.snapshot import CarryView
from venue_kit.rig import Capability, Rig

_SOL = 10**9
_DONE, _PARTLY = ResultStatus.DONE, ResultStatus.PARTLY_DONE


class Case(NamedTuple):
    number: int
    name: str
    needs: frozenset[Capability]
    run: Callable[[Rig], Awaitable[None]]


CASES: dict[int, Case] = {}


def case(
    number: int, *needs: Capability
) -> Callable[[Callable[[Rig], Awaitable[None]]], Callable[[Rig], Awaitable[None]]]:
    def register(run: Callable[[Rig], Awaitable[None]]) -> Callable[[Rig], Awaitable[None]]:
        assert number not in CASES, f"two cases have the number {number}"
        CASES[number] = Case(number, run.__name__, frozenset(needs), run)
        return run

    return register


def _take(size: float, way: Direction = Direction.CARRY, *, market: str = "SOL-PERP") -> Take:
    return Take(market=market, base_1e9=round(size * _SOL), direction=way)


_LEAVE = Leave(market="SOL-PERP")


def _carry(rig: Rig, market: str = "SOL-PERP") -> CarryView:
    hedge = rig.snapshot().hedge(market)
    assert hedge is not None
    return hedge.carry


def _alerts(rig: Rig) -> list[str]:
    return [alert.message for alert in rig.snapshot().alerts]


@case(1)
async def both_legs_in_and_out(rig: Rig) -> None:
    for way, legs in ((Direction.CARRY, (5, -5)), (Direction.REVERSE, (-5, 5))):
        assert (await rig.give(_take(5, way))).status is _DONE
        assert rig.legs() == legs
        assert (await rig.give(_LEAVE)).status is _DONE
        assert rig.legs() == (0, 0)
    await rig.check()


@case(2, Capability.LATE_REPORTS)
async def an_account_told_late_is_waited_for(rig: Rig) -> None:
    rig.tell_late(5)
    await rig.wait(5)
    result = await rig.give(_take(5))
    assert result.status is _DONE
    assert [part.open for part in result.parts] == [0, 0]
    assert rig.snapshot().engine.state == "RUNNING"
    assert rig.legs() == (5, -5)
    assert (await rig.give(_LEAVE)).status is _DONE
    assert rig.legs() == (0, 0)
    await rig.wait(5)
    await rig.check()


@case(3, Capability.LATE_REPORTS)
async def an_account_not_told_in_time_is_unresolved_and_then_known(rig: Rig) -> None:
    rig.tell_late(300)
    await rig.wait(300)
    assert (await rig.give(_take(5))).status is ResultStatus.UNRESOLVED
    assert any("not known" in text for text in _alerts(rig))
    assert not (await rig.give(_take(1))).success
    assert rig.legs() == (5, -5)
    await rig.wait(300)
    assert not _alerts(rig)
    assert (_carry(rig).stance, _carry(rig).held_by) == ("CARRY", "operator")
    await rig.check()


@case(4, Capability.PARTIAL_FILLS)
async def a_partial_fill_of_the_perp_leg_is_made_even(rig: Rig) -> None:
    rig.fill_in_part("perp")
    await _made_even(rig)


@case(5, Capability.PARTIAL_FILLS)
async def a_partial_fill_of_the_spot_leg_is_made_even(rig: Rig) -> None:
    rig.fill_in_part("spot")
    await _made_even(rig)


async def _made_even(rig: Rig) -> None:
    result = await rig.give(_take(10))
    spot, perp = rig.legs()
    assert result.status is _PARTLY
    assert spot == -perp
    assert 0 < spot < 10
    assert {part.leg: part.filled for part in result.parts} == {"perp": perp, "spot": spot}
    assert {part.leg: round(part.open, 9) for part in result.parts} == {
        "perp": round(-10 - perp, 9),
        "spot": round(10 - spot, 9),
    }
    await rig.check()


@case(6, Capability.PARTIAL_FILLS)
async def a_close_that_fills_in_part_goes_on(rig: Rig) -> None:
    assert (await rig.give(_take(10))).status is _DONE
    rig.fill_in_part("perp")
    assert (await rig.give(_LEAVE)).status is _DONE
    assert rig.legs() == (0, 0)
    await rig.check()


@case(7, Capability.OTHER_MARKETS)
async def a_position_in_another_market_is_shown_and_left_alone(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    await rig.trade_elsewhere("BTC-PERP", Decimal("-0.02"), Decimal(60_000))
    await rig.price(Decimal(151))
    shown = next(p for p in rig.snapshot().positions if p.market == "BTC-PERP")
    assert (shown.size, shown.foreign) == (-0.02, True)
    assert not _alerts(rig)
    await rig.check()
    result = await rig.give(Kill(flatten=True))
    assert result.status is _DONE
    assert "BTC-PERP" in result.message
    assert rig.legs() == (0, 0)
    assert [p.market for p in rig.snapshot().positions] == ["BTC-PERP"]
    await rig.check()


@case(8, Capability.OTHER_PROGRAMS)
async def what_another_program_trades_meanwhile_is_not_counted_as_ours(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    await rig.trade_elsewhere("SOL", Decimal(2), Decimal(150))
    result = await rig.give(_take(3))
    assert result.status is _DONE
    assert {part.leg: part.filled for part in result.parts} == {"perp": -3, "spot": 3}
    assert rig.legs() == (10, -8)
    await rig.check()


@case(9, Capability.LOST_REPLIES)
async def a_lost_reply_is_found_out_and_nothing_is_sent_twice(rig: Rig) -> None:
    rig.lose_reply()
    assert (await rig.give(_take(5))).status is ResultStatus.UNRESOLVED
    assert not (await rig.give(_take(1))).success
    rig.find_reply()
    await rig.wait(5)
    assert rig.legs() == (5, -5)
    assert not _alerts(rig)
    assert _carry(rig).held_by == "operator"
    await rig.check()


@case(10, Capability.LOST_REPLIES)
async def a_lost_reply_is_found_out_after_a_restart(rig: Rig) -> None:
    rig.lose_reply()
    assert (await rig.give(_take(5))).status is ResultStatus.UNRESOLVED
    rig.find_reply()
    await rig.restart()
    assert rig.legs() == (5, -5)
    assert _carry(rig).held_by == "operator"
    await rig.check()


@case(11, Capability.LOST_REPLIES)
async def a_lost_request_has_done_nothing(rig: Rig) -> None:
    rig.lose_request()
    assert (await rig.give(_take(5))).status is ResultStatus.UNRESOLVED
    rig.find_reply()
    await rig.wait(5)
    assert rig.legs() == (0, 0)
    assert not _alerts(rig)
    assert (await rig.give(_take(5))).status is _DONE
    await rig.check()


@case(12, Capability.LIQUIDATION)
async def a_liquidation_halts_and_leaves_no_debt(rig: Rig) -> None:
    assert (await rig.give(_take(20))).status is _DONE
    await rig.price(Decimal(1500))
    snapshot = rig.snapshot()
    assert snapshot.engine.state == "HALTED"
    assert "liquidated" in snapshot.engine.state_reason
    assert snapshot.account.equity is not None
    assert snapshot.account.equity >= 0
    assert snapshot.account.quote_balance is not None
    assert snapshot.account.quote_balance >= 0
    assert rig.legs()[1] == 0
    await rig.restart()
    assert rig.snapshot().engine.state == "HALTED"
    await rig.check()


@case(13, Capability.PAUSE)
async def a_paused_venue_is_a_refusal_of_its_own(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    await rig.pause("funding is being repaired")
    for command in (_take(1), _LEAVE):
        result = await rig.give(command)
        assert (result.status, result.code) == (ResultStatus.REJECTED, "VENUE_PAUSED")
        assert "funding is being repaired" in result.message
    result = await rig.give(Kill(flatten=True))
    assert (result.status, result.code) == (ResultStatus.REJECTED, "VENUE_PAUSED")
    assert result.message.startswith("halted, but closing failed")
    assert rig.legs() == (5, -5)
    await rig.unpause()
    assert (await rig.give(_LEAVE)).status is _DONE
    assert rig.legs() == (0, 0)
    await rig.check()


@case(14, Capability.TWO_MARKETS)
async def two_hedges_stand_side_by_side(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    result = await rig.give(_take(0.01, market="BTC-PERP"))
    assert result.status is _DONE
    assert {part.market: part.filled for part in result.parts} == {"BTC-PERP": -0.01, "wBTC": 0.01}
    assert (rig.legs(), rig.legs("BTC-PERP")) == ((5, -5), (0.01, -0.01))
    assert (await rig.give(_LEAVE)).status is _DONE
    assert (rig.legs(), rig.legs("BTC-PERP")) == ((0, 0), (0.01, -0.01))
    await rig.restart()
    assert (_carry(rig).held_by, _carry(rig, "BTC-PERP").held_by) == ("operator", "operator")
    assert _carry(rig, "BTC-PERP").stance == "CARRY"
    await rig.check()


@case(15, Capability.TWO_MARKETS, Capability.LOST_REPLIES)
async def a_lost_reply_of_one_market_keeps_nobody_from_closing_the_other(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    rig.lose_reply()
    assert (await rig.give(_take(0.01, market="BTC-PERP"))).status is ResultStatus.UNRESOLVED
    assert (await rig.give(_LEAVE)).status is ResultStatus.UNRESOLVED
    rig.find_reply()
    await rig.wait(5)
    assert (rig.legs(), rig.legs("BTC-PERP")) == ((0, 0), (0.01, -0.01))
    assert not _alerts(rig)
    await rig.check()


@case(16, Capability.TWO_MARKETS)
async def a_kill_closes_every_market(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    assert (await rig.give(_take(0.01, Direction.REVERSE, market="BTC-PERP"))).status is _DONE
    result = await rig.give(Kill(flatten=True))
    assert result.status is _DONE
    assert {part.market for part in result.parts} == {"SOL-PERP", "SOL", "BTC-PERP", "wBTC"}
    assert (rig.legs(), rig.legs("BTC-PERP")) == ((0, 0), (0, 0))
    await rig.check()


@case(17, Capability.TWO_MARKETS, Capability.PAUSE)
async def a_paused_market_does_not_stop_the_other(rig: Rig) -> None:
    assert (await rig.give(_take(5))).status is _DONE
    await rig.pause("funding is being repaired")
    assert (await rig.give(_take(0.01, market="BTC-PERP"))).status is _DONE
    result = await rig.give(Kill(flatten=True))
    assert (result.status, result.code) == (_PARTLY, "VENUE_PAUSED")
    assert {part.market: part.open for part in result.parts} == {"BTC-PERP": 0, "wBTC": 0, "SOL-PERP": 5, "SOL": -5}
    assert (rig.legs(), rig.legs("BTC-PERP")) == ((5, -5), (0, 0))
    await rig.check()
