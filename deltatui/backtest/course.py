"""What is seen of a run from record to record."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

import msgspec

from deltatui.backtest.refusals import Refusals
from deltatui.domain.carry import Stance
from deltatui.domain.command import ResultStatus
from deltatui.domain.errors import CriticalError
from deltatui.domain.health import LossLimits, watch_losses
from deltatui.engine.engine import Engine
from deltatui.engine.planner import stance_of
from deltatui.ports import NO_PERP

T = TypeVar("T")


class EquityPoint(msgspec.Struct, frozen=True):
    market_s: int
    equity: float
    stance: Stance


class Course:
    """What is seen of a run from record to record."""

    def __init__(self, engine: Engine) -> None:
        self.curve: list[EquityPoint] = []
        self.switches = dict.fromkeys(engine.core.hedges, 0)
        self.in_market = self.points = 0
        self.max_drawdown_pct = Decimal(0)
        self.refusals = Refusals()
        self._engine = engine
        self._held = dict.fromkeys(engine.core.hedges, Stance.FLAT)
        self._in = {symbol: hedge.held for symbol, hedge in engine.core.hedges.items()}
        """What was held when the record came; at first what was taken before there was any."""
        self._overall = Stance.FLAT
        self._answered = dict(engine.desk.last_results)

    def see(self, symbol: str, ts_s: int) -> None:
        """After the engine took a record of that market in, and acted on it."""
        core = self._engine.core
        account = known(core.world.account())
        perp = account.perps.get(symbol, NO_PERP)
        before, after = self._in[symbol], stance_of(perp.base_1e9)
        self._in[symbol] = after
        if after is not self._held[symbol]:
            self.switches[symbol] += 1
            self._held[symbol] = after
            self._overall = _overall(self._held.values())
        self.points += 1
        self.in_market += before is not Stance.FLAT
        if self.curve and self.curve[-1].market_s == ts_s:
            self.curve.pop()  # of two markets at the same time the later one has seen both
        self.curve.append(EquityPoint(ts_s, float(account.equity), self._overall))
        answer = self._engine.desk.last_results.get(symbol)
        drawdown_pct = core.memory.losses.max_drawdown_pct
        if answer is not None and answer is not self._answered.get(symbol):
            self._answered[symbol] = answer
            # The engine looked before it traded; what that trade cost is part of the curve too.
            losses, _ = watch_losses(
                core.memory.losses, LossLimits(), account.equity, core.accountant.transfers, account.as_of_s
            )
            drawdown_pct = losses.max_drawdown_pct
            # From flat nothing but an entry is ever tried.
            if before is Stance.FLAT and after is Stance.FLAT and answer.status == ResultStatus.REJECTED:
                self.refusals.add(answer, core.hedges[symbol].target or Stance.FLAT, ts_s)
        self.max_drawdown_pct = max(self.max_drawdown_pct, drawdown_pct)


def _overall(held: Iterable[Stance]) -> Stance:
    """One letter for the curve: CARRY or REVERSE where any market is held so, CARRY first."""
    stances = set(held)
    return next((each for each in (Stance.CARRY, Stance.REVERSE) if each in stances), Stance.FLAT)


def known(known: T | None) -> T:
    if known is None:
        raise CriticalError("NO_ACCOUNT", "the paper exchange lost its account")
    return known
