"""Sixty lives of sixty random commands each, on an exchange that fills in part, fails and tells late."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest
from engine_harness import SOL, USD, World, deposit, leave, rebalance, withdraw, world

from deltatui.domain.command import (
    AnyCommand,
    Direction,
    Kill,
    Pause,
    ResultStatus,
    Resume,
    SetAutomation,
    Settle,
    SpotSource,
    Take,
    Withdraw,
)
from deltatui.domain.gates import GateLimits
from deltatui.venues.paper.settings import PaperFaults, PaperSettings

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


def some_command(dice: random.Random) -> AnyCommand:
    size = dice.randint(1, 900) * SOL // 100
    usd = dice.randint(1, 1500) * USD
    source = dice.choice([SpotSource.BUY, SpotSource.BUY, SpotSource.WALLET, SpotSource.DEPOSITED])
    commands: list[AnyCommand] = [
        Take(market="SOL-PERP", base_1e9=size, spot=source),
        Take(market="SOL-PERP", base_1e9=size),
        Take(market="SOL-PERP", base_1e9=size, direction=Direction.REVERSE),
        leave(),
        leave(),
        rebalance(),
        Settle(market="SOL-PERP"),
        deposit(usd),
        deposit(size, "SOL"),
        withdraw(usd),
        withdraw(size, "SOL"),
        Kill(flatten=dice.random() < 0.5),
        Pause(),
        SetAutomation(on=dice.random() < 0.5),
    ]
    return dice.choice(commands)


def check_gates(w: World, command: AnyCommand) -> None:
    """R4.2 and R3.4 on the account as it has become."""
    now = w.core.standing()
    assert now is not None
    if isinstance(command, Withdraw):
        assert now.summary.exact_health >= LIMITS.min_health_withdraw, command
    assert now.summary.health >= LIMITS.min_health_after, command
    assert now.leverage is None or now.leverage <= LIMITS.max_leverage, command
    assert now.liq_distance_pct is None or abs(now.liq_distance_pct) >= LIMITS.min_liq_distance_pct, command


async def check_nothing_doubled(w: World) -> None:
    """Each leg fills at most what was asked, on the side that was asked, and all fills together are the position."""
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
    perp = sum(base_1e9 for (_, instrument), base_1e9 in filled.items() if instrument == "SOL-PERP")
    assert perp == w.account.perp_1e9


async def calm(w: World) -> None:
    """All that is under way comes to its end."""
    w.venue._settings = msgspec.structs.replace(w.venue._settings, faults=PaperFaults())
    w.wait(100)
    for _ in range(3):
        await w.engine.tick()
        await w.engine.step()
    assert not w.core.unresolved
    assert w.hedge.check is None
    assert not w.core.behind


async def one_command(w: World, dice: random.Random) -> None:
    command = some_command(dice)
    before = w.venue._account.perp.base_1e9
    result = await w.sure(command)
    after = w.venue._account.perp.base_1e9
    assert before * after >= 0, (command, before, after)  # no order crosses zero
    if result.status in MOVED and isinstance(command, Take | Withdraw) and not w.core.behind:
        check_gates(w, command)
    if isinstance(command, Take) and result.status in MOVED and after:
        assert (after < 0) is (command.direction == Direction.CARRY)
    if result.status is ResultStatus.PARTLY_DONE:
        assert any(part.open for part in result.parts) or result.code == "ODD_LEG"
    if result.status is ResultStatus.DONE:
        assert not any(part.open for part in result.parts)
    w.wait(dice.choice([1, 7, 61]))
    await w.engine.tick()


@pytest.mark.parametrize("life", range(LIVES))
async def test_a_random_life(life: int) -> None:
    dice = random.Random(life)
    paper = PaperSettings(quote_borrow_apr_pct=Decimal(0))
    async with world(wallet_sol=20, limits=LIMITS, paper=paper, logging=False) as w:
        for number in range(COMMANDS):
            if number % 7 == 0:
                await calm(w)
                assert abs(await w.gap()) < Decimal("1e-9")
                await check_nothing_doubled(w)
                w.venue._settings = msgspec.structs.replace(paper, faults=some_faults(dice))
            if w.state in ("PAUSED", "HALTED", "REDUCING"):
                await w.give(Resume())
            if dice.random() < 0.4:
                price = w.price * Decimal(dice.randint(970, 1030)) / 1000
                await w.to_price(price.quantize(Decimal("0.01")))
            if dice.random() < 0.2:
                await w.record(Decimal(dice.randint(-40, 40)) / 10_000)
            await one_command(w, dice)
        await calm(w)
        await check_nothing_doubled(w)
        await w.check()
