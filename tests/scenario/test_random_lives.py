"""Sixty lives of sixty random commands over two markets, on an exchange that fills in part, fails and tells late."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest
from engine_harness import BOTH, PRICES, SOL, USD, World, deposit, leave, rebalance, withdraw, world

from deltatui.domain.command import (
    AnyCommand,
    CommandResult,
    Direction,
    Kill,
    Pause,
    ResultStatus,
    SetAutomation,
    Settle,
    SpotSource,
    Take,
    Withdraw,
)
from deltatui.domain.gates import GateLimits
from deltatui.venues.paper.settings import MARKETS, PaperFaults, PaperSettings

LIVES = 60
COMMANDS = 60
LIMITS = GateLimits(max_leverage=10.0)
MOVED = (ResultStatus.DONE, ResultStatus.PARTLY_DONE)


def some_faults(dice: random.Random) -> PaperFaults:
    return PaperFaults(
        seed=dice.randrange(1000),
        fail_rate=dice.choice([0, 0, 0.2]),
        partial_rate=dice.choice([0, 0.3, 1]),
        odd_leg_rate=dice.choice([0, 0, 0.3]),
        report_late_s=dice.choice([0, 0.4, 3, 45]),
    )


def some_command(dice: random.Random, market: str) -> AnyCommand:
    """Of up to $1,350 a leg in either market."""
    spec = MARKETS[market]
    size = round(Decimal(dice.randint(1, 1350)) / PRICES[market] * SOL)
    native, asset = spec.native(size), spec.base_symbol
    usd = dice.randint(1, 1500) * USD
    source = dice.choice([SpotSource.BUY, SpotSource.BUY, SpotSource.WALLET, SpotSource.DEPOSITED])
    commands: list[AnyCommand] = [
        Take(market=market, base_1e9=size, spot=source),
        Take(market=market, base_1e9=size),
        Take(market=market, base_1e9=size, direction=Direction.REVERSE),
        leave(market),
        leave(market),
        rebalance(market),
        Settle(market=market),
        deposit(usd),
        deposit(native, asset),
        withdraw(usd),
        withdraw(native, asset),
        Kill(flatten=dice.random() < 0.5),
        Pause(),
        SetAutomation(on=dice.random() < 0.5),
    ]
    return dice.choice(commands)


def check_gates(w: World, command: AnyCommand, *, alone: bool) -> None:
    """R4.2 and R3.4 on the account as it has become; after a withdrawal a take may go lower than that may."""
    now = w.core.standing()
    assert now is not None
    if isinstance(command, Withdraw) and alone:
        assert now.summary.exact_health >= LIMITS.min_health_withdraw, command
    assert now.summary.health >= LIMITS.min_health_after, command
    assert now.leverage is None or now.leverage <= LIMITS.max_leverage, command
    for liquidation in now.liquidations:
        assert abs(liquidation.distance_pct) >= LIMITS.min_liq_distance_pct, (command, liquidation)


async def check_nothing_doubled(w: World) -> None:
    """Each leg fills at most what was asked, on the side that was asked, and all fills together are the positions."""
    asked: dict[tuple[str, str], int] = defaultdict(int)
    for stored in await w.store.operations():
        for leg in stored.operation.legs:
            asked[stored.operation.id, leg.market] += leg.base_1e9
    filled: dict[tuple[str, str], int] = defaultdict(int)
    for event in await w.venue.events_after(0):
        if event.base and event.operation_id and event.note == "":
            filled[event.operation_id, event.instrument] += round(event.base * SOL)
    for key, base_1e9 in filled.items():
        # A close of all spot takes along the interest since it was planned, and a rest below a lamport.
        most = abs(asked[key]) * 1.000001 + 1
        assert base_1e9 * asked[key] > 0, (key, base_1e9, asked[key])
        assert abs(base_1e9) <= most, (key, base_1e9, asked[key])
    for market in BOTH:
        perp = sum(base_1e9 for (_, instrument), base_1e9 in filled.items() if instrument == market)
        assert perp == w.seen(market).perp_1e9


async def calm(w: World) -> None:
    """All that is under way comes to its end."""
    w.venue._settings = msgspec.structs.replace(w.venue._settings, faults=PaperFaults())
    w.wait(100)
    for _ in range(3):
        await w.engine.tick()
        await w.step()
    assert not w.core.unresolved
    assert not any(w.core.checks())
    assert not w.core.behind


def check_answer(w: World, command: AnyCommand, result: CommandResult) -> None:
    if isinstance(command, Take) and result.status in MOVED:
        after = w.venue.perp_1e9(command.market)
        if after:
            assert (after < 0) is (command.direction == Direction.CARRY)
    if result.status is ResultStatus.PARTLY_DONE:
        assert any(part.open for part in result.parts) or result.code == "ODD_LEG"
    if result.status is ResultStatus.DONE:
        assert not any(part.open for part in result.parts)


async def some_commands(w: World, dice: random.Random) -> None:
    """One, or one of each market at the same time."""
    markets = dice.choice([["SOL-PERP"], ["BTC-PERP"], ["SOL-PERP", "BTC-PERP"], ["BTC-PERP", "SOL-PERP"]])
    commands = [some_command(dice, market) for market in markets]
    before = {market: w.venue.perp_1e9(market) for market in BOTH}
    results = await asyncio.gather(*(w.sure(command) for command in commands))
    for market in BOTH:
        after = w.venue.perp_1e9(market)
        assert before[market] * after >= 0, (commands, market, before[market], after)  # no order crosses zero
    for command, result in zip(commands, results, strict=True):
        if len(commands) == 1 or not any(isinstance(each, Kill) for each in commands):
            check_answer(w, command, result)
        if result.status in MOVED and isinstance(command, Take | Withdraw) and not w.core.behind:
            check_gates(w, command, alone=len(commands) == 1)
    w.wait(dice.choice([1, 7, 61]))
    await w.engine.tick()


@pytest.mark.parametrize("life", range(LIVES))
async def test_a_random_life(life: int) -> None:
    dice = random.Random(life)
    paper = PaperSettings(quote_borrow_apr_pct=Decimal(0))
    wallet = {"SOL": Decimal(20), "wBTC": Decimal("0.03")}
    async with world(markets=BOTH, wallet=wallet, limits=LIMITS, paper=paper, logging=False) as w:

        async def on_the_way() -> None:
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)

        w.sender.on_send = w.sender.on_sign = on_the_way
        for number in range(COMMANDS):
            if number % 7 == 0:
                await calm(w)
                assert abs(await w.gap()) < Decimal("1e-9")
                await check_nothing_doubled(w)
                w.venue._settings = msgspec.structs.replace(paper, faults=some_faults(dice))
            if w.state in ("PAUSED", "HALTED", "REDUCING"):
                await w.resume()
            for symbol in BOTH:
                if dice.random() < 0.4:
                    price = w.prices[symbol] * Decimal(dice.randint(970, 1030)) / 1000
                    await w.to_price(price.quantize(Decimal("0.01")), market=symbol)
                if dice.random() < 0.2:
                    rate = Decimal(dice.randint(-40, 40)) / 10_000 * PRICES[symbol] / PRICES["SOL-PERP"]
                    await w.record(rate, market=symbol)
            await some_commands(w, dice)
        await calm(w)
        await check_nothing_doubled(w)
        await w.check()
