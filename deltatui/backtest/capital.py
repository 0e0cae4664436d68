"""What a policy would have made with more capital, where gates refused entries for want of it."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from deltatui.backtest.refusals import wants_capital
from deltatui.backtest.result import BacktestResult, EnoughCapital
from deltatui.backtest.run import run_unrefused
from deltatui.backtest.settings import BacktestSettings, Tapes, opening_notional, shared_span
from deltatui.store.database import Durability

_MOST_TENTHS = 1000


async def with_enough_capital(tapes: Tapes, settings: BacktestSettings, result: BacktestResult) -> BacktestResult:
    """``result`` with :attr:`~BacktestResult.enough_capital`, where entries were refused for want of capital.

    The start equity is doubled until no entry is refused, up to a hundred times the opening notional, and then halved
    in on: a handful of runs, of which those that are refused end there. That more capital never refuses more is taken
    for granted; what is told was run, and a tenth less was refused.
    """
    if not wants_capital(result.refused):
        return result
    notional = opening_notional(shared_span(tapes), settings)

    async def run(tenths: int) -> BacktestResult | None:
        start = notional * tenths / 10
        return await run_unrefused(
            tapes, msgspec.structs.replace(settings, start_equity=start, durability=Durability.MEMORY, path=None)
        )

    refused = int(Decimal(str(result.equity_start_usd)) / notional * 10)
    enough, found = refused, None
    while found is None:
        if enough >= _MOST_TENTHS:
            return result
        refused, enough = enough, min(max(2 * enough, 1), _MOST_TENTHS)
        found = await run(enough)
    while enough - refused > 1:
        middle = (refused + enough) // 2
        tried = await run(middle)
        if tried is None:
            refused = middle
        else:
            enough, found = middle, tried
    told = EnoughCapital(
        multiple=enough / 10,
        equity_start_usd=found.equity_start_usd,
        net_usd=found.equity_end_usd - found.equity_start_usd,
        net_per_base_usd=None if found.size is None else (found.equity_end_usd - found.equity_start_usd) / found.size,
        switches=found.switches,
        max_drawdown_pct=found.max_drawdown_pct,
    )
    return msgspec.structs.replace(result, enough_capital=told)
