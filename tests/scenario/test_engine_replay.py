"""Tapes played to a running engine: speed, standing still, waiting for the disk, and going on after a restart."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from engine_harness import BOTH, START_S, Killed, World, rate_of, take, world
from replay_player import hourly, playing, simulated

from deltatui.domain.carry import CarrySettings
from deltatui.domain.command import Cancel, Kill, Pause, ResultStatus, Resume, SetSpeed
from deltatui.domain.facts import Fact, Funding, MarketChange, Prices
from deltatui.feeds.tape import Tape

# Speed and standing


@simulated
async def test_speed_is_market_seconds_per_second() -> None:
    async with playing(hourly(50)) as p:
        await p.play(3.0)
        assert p.clock.market_s() == pytest.approx(START_S + 3 * 3600)
        assert p.record == 4
        await p.w.give(SetSpeed(speed=36_000))
        await p.play(1.0)
        assert p.clock.market_s() == pytest.approx(START_S + 13 * 3600)
        assert p.record == 14
        assert p.w.hedge.window.count == 14
        await p.play(0.1)
        assert p.source.speed == 36_000


@simulated
async def test_the_tape_before_the_start_fills_every_average_and_the_count() -> None:
    settings = CarrySettings(average_records=400, min_records=410)
    async with playing(hourly(450), start_s=START_S + 420 * 3600.0, carry=settings) as p:
        assert (len(p.w.hedge.window), p.w.hedge.window.count) == (400, 410)
        await p.play(1.1)
        assert p.w.hedge.memory.decision is not None
        assert p.w.hedge.memory.decision.judged is not None


@simulated
async def test_between_records_the_price_is_interpolated_and_says_so() -> None:
    async with playing(hourly(50)) as p:
        await p.play(1.5)
        market = p.w.core.world.market("SOL-PERP")
        assert market is not None
        assert market.interpolated
        assert market.oracle == Decimal("151.5")
        assert p.source.view().interpolated


@simulated
async def test_a_pause_an_open_question_and_the_end_stop_the_tape() -> None:
    async with playing(hourly(31, apr_pct=0)) as p:
        await p.play(10.0)
        at = p.clock.market_s()
        await p.w.give(Pause())
        assert p.source.speed == 0
        beats = p.changes
        await p.play(5.0)
        assert p.clock.market_s() == at
        # Clients take silence for a dead engine.
        assert p.changes > beats
        await p.w.give(Resume())
        asked = await p.w.give(take(5))
        await p.play(5.0)
        assert p.clock.market_s() == at
        await p.w.give(Cancel(operation_id=asked.operation_id))
        await p.play(25.0)
        assert p.source.ended
        assert p.clock.market_s() == p.tapes["SOL-PERP"].last_s
        assert [fact.ended for fact in p.heard_of(MarketChange)] == [True]
        await p.play(1.0)
        assert len(p.heard_of(MarketChange)) == 1
        refused = await p.w.give(take(0.5))
        assert refused.status is ResultStatus.REJECTED
        assert any("SOL-PERP only reduces: no prices come any more" in v.reason for v in refused.verdicts)


@simulated
async def test_a_question_that_nobody_answers_lets_the_tape_go_on() -> None:
    async with playing(hourly(50)) as p:
        await p.play(10.0)
        await p.w.give(take(5))
        at = p.clock.market_s()
        await p.play(29.0)
        assert p.clock.market_s() == at
        await p.play(3.0)
        assert p.clock.market_s() > at
        assert "confirmation_expired" in p.w.kinds()


@simulated
async def test_a_question_about_one_market_stops_the_tapes_of_all() -> None:
    """Nobody decides about prices that have run away meanwhile (R16.1)."""
    tapes = {"SOL-PERP": hourly(50), "BTC-PERP": hourly(50, price=100_000)}
    async with playing(tapes, markets=BOTH) as p:
        await p.play(5.0)
        asked = await p.w.give(take(5))
        at = p.clock.market_s()
        await p.play(5.0)
        assert p.clock.market_s() == at
        assert (p.source.speed, p.w.core.world.market("BTC-PERP").as_of_s) == (0, at)  # type: ignore[union-attr]
        await p.w.give(Cancel(operation_id=asked.operation_id))
        await p.play(1.0)
        assert p.clock.market_s() == pytest.approx(at + 3600)


@simulated
async def test_a_halted_engine_still_sees_the_market() -> None:
    async with playing(hourly(50)) as p:
        await p.w.give(Kill())
        await p.play(5.0)
        assert p.record == 6
        assert p.w.state == "HALTED"


@simulated
async def test_it_takes_by_itself_on_the_way() -> None:
    async with playing(hourly(50), speed=36_000, automation=True) as p:
        await p.play(2.0)
        assert p.w.legs == (5.0, -5.0)
        await p.w.check()


# The disk, the clocks, the charts


@simulated
async def test_the_tape_waits_for_a_disk_that_refuses() -> None:
    """R9.7: every record is judged and booked once, however long it takes."""
    async with playing(hourly(60), speed=36_000, automation=True) as p:
        await p.play(1.0)
        assert p.w.legs == (5.0, -5.0)
        p.w.gremlin.refuse()
        await p.play(3.0)
        stood, at = p.record, p.clock.market_s()
        assert stood <= 12
        await p.play(30.0)
        assert (p.record, p.clock.market_s()) == (stood, at)
        assert any(
            alert.id.startswith("paper store") and alert.message.startswith("the tape waits: ")
            for alert in p.w.snapshot().alerts
        )
        p.w.gremlin.quiet()
        await p.play(2.0)
        assert p.record > stood
        assert p.w.hedge.window.count == p.record
        assert not p.w.snapshot().alerts
        await p.w.check()
        booked = [e for e in await p.w.store.ledger() if e.kind == "funding"]
        assert [e.market_s for e in booked] == sorted({e.market_s for e in booked})


@simulated
async def test_a_clock_that_jumps_is_told_and_followed() -> None:
    async with playing(hourly(50)) as p:
        await p.play(1.0)
        p.wall_ahead_s += 3600.0
        before, at = p.clock.market_s(), p.clock.operator_s()
        await p.play(1.0)
        told = [event.message for event in p.w.events if event.kind == "clock_jump"]
        assert told == ["the clock of this machine jumped by +3600.0 s"]
        assert p.clock.operator_s() == pytest.approx(at + 3601.0)
        # A laptop that slept does not make the tape leap.
        assert p.clock.market_s() - before <= 1.5 * 3600
        p.wall_ahead_s -= 7200.0
        at = p.clock.operator_s()
        await p.play(0.5)
        assert p.clock.operator_s() >= at
        assert len([event for event in p.w.events if event.kind == "clock_jump"]) > 1


@simulated
async def test_a_stall_makes_no_leap_and_is_measured() -> None:
    async with playing(hourly(50)) as p:
        await p.play(1.0)
        before = p.clock.market_s()
        p.stall(5.0)
        await p.play(0.04)
        assert 0 < p.clock.market_s() - before <= 0.5 * 3600 + 1
        assert p.loop.loop_lag_ms == pytest.approx(5000.0, abs=100.0)
        await p.play(1.0)
        assert p.loop.loop_lag_ms == pytest.approx(0.0, abs=1e-6)


@simulated
async def test_clients_hear_of_an_engine_whose_market_stands_once_a_second() -> None:
    async with playing(hourly(50)) as p:
        await p.w.give(Pause())
        await p.play(1.0)
        beats = p.changes
        await p.play(10.0)
        assert 9 <= p.changes - beats <= 11


@simulated
async def test_history_for_the_charts() -> None:
    async with playing(hourly(60), speed=36_000, automation=True) as p:
        await p.play(4.0)
        view = p.histories[-1]
        (market,) = view.markets
        assert view.version > p.histories[0].version
        # The first record lies behind: its funding is shown, and the equity of then is not known.
        assert len(market.funding) == len(view.equity) + 1 == len(market.always_short) + 1
        assert market.funding[-1][1] == pytest.approx(100.0, rel=0.5)
        taken = p.tapes["SOL-PERP"].records[: len(market.funding)]
        short = float(sum((r.rate_short for r in taken), Decimal(0))) * 5
        assert market.always_short[-1][1] == pytest.approx(3000 + short)
        assert len(p.histories) <= 4


@simulated
async def test_the_first_price_of_a_new_exchange() -> None:
    async with playing(hourly(3, first_s=START_S + 7200)) as p:
        market = p.w.core.world.market("SOL-PERP")
        assert market is not None
        assert (market.as_of_s, market.oracle, market.interpolated) == (START_S + 7200, Decimal(150), False)


# Two tapes


def of_two(sol_first: int, sol: int, btc_first: int, btc: int, apr_pct: float = 100.0) -> dict[str, Tape]:
    """SOL-PERP and BTC-PERP with so many records from so many hours after the start."""
    return {
        "SOL-PERP": hourly(sol, first_s=START_S + 3600 * sol_first, step=0, apr_pct=apr_pct),
        "BTC-PERP": hourly(btc, first_s=START_S + 3600 * btc_first, price=100_000, step=0, apr_pct=apr_pct),
    }


@simulated
async def test_two_tapes_are_heard_by_time_and_then_by_symbol() -> None:
    async with playing(of_two(0, 40, 0, 40), markets=BOTH) as p:
        await p.play(5.0)
        records = [(fact.source_s, fact.instrument) for fact in p.heard if isinstance(fact, Funding)]
        assert records == sorted(records)
        assert [symbol for _, symbol in records] == ["BTC-PERP", "SOL-PERP"] * 5
        assert {hedge.window.count for hedge in p.w.core.hedges.values()} == {6}


@simulated
async def test_a_tape_that_begins_later_has_no_price_before() -> None:
    async with playing(of_two(0, 40, 10, 30), markets=BOTH) as p:
        world = p.w.core.world
        assert (world.market("SOL-PERP") is None, world.market("BTC-PERP")) == (False, None)
        await p.play(9.9)
        assert world.market("BTC-PERP") is None
        assert not p.heard_of(Prices, "BTC-PERP")
        unknown = await p.w.give(take(0.01, market="BTC-PERP"))
        assert (unknown.status, unknown.code) == (ResultStatus.REJECTED, "NO_DATA")
        # What is there can be traded meanwhile.
        await p.w.sure(take(1))
        assert p.w.legs == (1.0, -1.0)
        await p.play(0.2)
        assert [fact.source_s for fact in p.heard_of(Funding, "BTC-PERP")] == [START_S + 36_000]
        assert world.market("BTC-PERP") is not None
        await p.w.check()


@simulated
async def test_an_ended_tape_posts_its_end_once_after_what_followed_from_its_last_record() -> None:
    """Automation leaves the market that has ended, and the other one goes on."""
    async with playing(of_two(0, 21, 0, 41), markets=BOTH, automation=True) as p:
        await p.play(19.5)
        sol, btc = (p.w.core.hedges[symbol] for symbol in BOTH)
        assert (str(sol.held), str(btc.held)) == ("CARRY", "CARRY")
        await p.play(1.0)
        last = max(n for n, fact in enumerate(p.heard) if isinstance(fact, Funding) and fact.instrument == "SOL-PERP")
        end = next(n for n, fact in enumerate(p.heard) if isinstance(fact, MarketChange))
        assert p.heard[end] == MarketChange("SOL-PERP", "tape", START_S + 72_000.0, ended=True)
        assert last < end
        assert (str(sol.held), str(btc.held)) == ("FLAT", "CARRY")
        market = p.w.core.world.market("SOL-PERP")
        assert market is not None
        assert (market.ended, market.oracle, market.next_funding_s) == (True, Decimal(150), None)
        await p.play(15.0)
        assert str(btc.held) == "CARRY"
        assert (len(p.heard_of(MarketChange)), p.source.ended) == (1, False)
        await p.play(10.0)
        assert p.source.ended
        assert [fact.instrument for fact in p.heard if isinstance(fact, MarketChange)] == ["SOL-PERP", "BTC-PERP"]
        assert str(btc.held) == "FLAT"
        await p.w.check()


@simulated
async def test_time_that_no_tape_covers_is_passed_over() -> None:
    """A tape has ended and the next one has not begun: there is nothing to wait for."""
    async with playing(of_two(0, 11, 100, 10), markets=BOTH) as p:
        await p.play(10.2)
        assert [fact.instrument for fact in p.heard_of(MarketChange)] == ["SOL-PERP"]
        await p.play(0.5)
        assert p.clock.market_s() >= START_S + 100 * 3600
        assert p.w.core.world.market("BTC-PERP") is not None
        await p.play(5.0)
        assert p.clock.market_s() <= START_S + 106 * 3600
        await p.w.check()


@simulated
async def test_the_view_of_two_tapes() -> None:
    async with playing(of_two(0, 20, 10, 30), markets=BOTH) as p:
        await p.play(15.5)
        view = p.source.view()
        assert (view.first_s, view.last_s) == (START_S, START_S + 39 * 3600)
        assert (view.record, view.records) == (16 + 6, 50)
        assert view.name == "test.csv + test.csv"
        assert not view.ended


@simulated
async def test_rest_is_waited_for_between_two_records() -> None:
    """The next record is not posted before what follows from the last is done, also at a speed of many a tick."""
    async with playing(hourly(60), speed=360_000, automation=True) as p:
        rested: list[int] = []
        rest = p.w.engine.automation.rest

        async def noted() -> None:
            await rest()
            rested.append(len(p.heard_of(Funding)))

        p.w.engine.automation.rest = noted  # type: ignore[method-assign]
        await p.play(0.3)
        heard = len(p.heard_of(Funding))
        assert heard >= 20
        assert set(range(1, heard)) <= set(rested)
        # So the trade is made at the record that decided it, not at one a tick later.
        (took,) = [e for e in await p.w.store.operations() if str(e.operation.kind) == "TAKE"]
        decided = p.tapes["SOL-PERP"].records[7]
        assert took.operation.created_market_s == decided.ts_s


# Restarts


@simulated
async def test_a_restart_in_the_middle_goes_on_where_it_was() -> None:
    """Nothing is played twice, nothing is left out."""
    async with playing(of_two(0, 40, 5, 30), markets=BOTH, automation=True) as p:
        await p.play(17.5)
        held = p.w.legs
        assert held == (5.0, -5.0)
        await p.w.core.save()
        await p.restart()
        # Of the prices since the last record nothing is kept.
        assert p.clock.market_s() == START_S + 17 * 3600
        assert p.w.legs == held
        assert {symbol: hedge.window.count for symbol, hedge in p.w.core.hedges.items()} == {
            "SOL-PERP": 18,
            "BTC-PERP": 13,
        }
        await p.play(40.0)
        assert p.source.ended
        for symbol, tape in p.tapes.items():
            heard = [fact.source_s for fact in p.heard_of(Funding, symbol)]
            assert heard == [float(record.ts_s) for record in tape.records][1 if symbol == "SOL-PERP" else 0 :]
        await p.w.check()


@simulated
async def test_a_restart_after_the_end_of_one_tape_knows_that_it_has_ended() -> None:
    async with playing(of_two(0, 10, 0, 40), markets=BOTH) as p:
        await p.play(15.0)
        await p.restart()
        market = p.w.core.world.market("SOL-PERP")
        assert market is not None
        assert (market.ended, market.oracle) == (True, Decimal(150))
        refused = await p.w.sure(take(1))
        assert any("only reduces" in verdict.reason for verdict in refused.verdicts)
        await p.play(1.0)
        assert not [fact for fact in p.heard[-20:] if fact.instrument == "SOL-PERP" and isinstance(fact, Prices)]


@pytest.mark.parametrize("market", list(BOTH))
@pytest.mark.parametrize("by", ["exchange", "engine"])
@simulated
async def test_a_death_between_two_records_of_one_time_loses_and_doubles_none(market: str, by: str) -> None:
    """BTC-PERP's comes before SOL-PERP's of the same hour, and each is seen by the exchange before the engine."""
    async with playing(of_two(0, 30, 0, 30), markets=BOTH, automation=True) as p:
        await p.play(11.5)
        fatal_s = START_S + 12 * 3600.0
        taker = p.w.venue if by == "exchange" else p.w.engine
        take_fact = taker.take

        async def never(fact: Fact) -> None:
            if (fact.instrument, fact.source_s) == (market, fatal_s) and isinstance(fact, Funding):
                await asyncio.Event().wait()
            await take_fact(fact)

        taker.take = never  # type: ignore[method-assign]
        await p.play(1.0)
        assert p.clock.market_s() == fatal_s
        await p.restart()
        await p.play(5.0)
        for symbol, hedge in p.w.core.hedges.items():
            behind = p.tapes[symbol].index_at(p.clock.market_s())
            assert (symbol, hedge.window.count) == (symbol, behind)
            await p.w.core.save()
            kept = await p.w.store.funding(symbol, 6)
            assert list(kept) == list(p.tapes[symbol].records[behind - 6 : behind])
        booked = [(e.instrument, e.market_s) for e in await p.w.store.ledger() if e.kind == "funding"]
        assert len(booked) == len(set(booked))
        await p.w.check()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True])
async def test_a_death_around_a_record_changes_no_decision(number: int, after: bool) -> None:
    """What was booked and not judged is judged after the restart, what was judged is not judged twice."""

    async def life(w: World) -> tuple[object, object, object, object]:
        for apr in (150.0, -80.0, 120.0, -30.0):
            await w.record(rate_of(apr))
        hedge = w.hedge
        return hedge.memory.carry, hedge.memory.decision, hedge.window.mean, hedge.window.count

    async with world(primed=7) as w:
        undisturbed = await life(w)
    async with world(primed=7) as w:
        w.gremlin.kill_at(number, after=after)
        try:
            await w.record(rate_of(150))
        except Killed:
            await w.restart()
        else:
            w.gremlin.quiet()
        for apr in (-80.0, 120.0, -30.0):
            await w.record(rate_of(apr))
        hedge = w.hedge
        assert (hedge.memory.carry, hedge.memory.decision, hedge.window.mean) == undisturbed[:3]
        assert hedge.window.count == undisturbed[3] == 11
