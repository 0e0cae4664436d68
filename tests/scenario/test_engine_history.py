"""The charts' benchmarks: what was moved in or out is neither profit nor loss."""

from __future__ import annotations

import pytest
from engine_harness import rate_of, world

from deltatui.domain.command import Deposit, ResultStatus, Withdraw
from deltatui.engine.history import History


async def test_a_deposit_is_no_profit_against_flat_or_always_short() -> None:
    async with world() as w:
        history = History(w.core)

        async def ahead() -> tuple[float, float]:
            before = w.hedge.facts()
            assert before is not None
            await w.record(rate_of(0))
            record = w.hedge.facts()
            assert record is not None
            assert record.market.funding is not None
            history.add("SOL-PERP", record.market.funding)
            view = history.view()
            assert view.flat is not None
            market = view.market("SOL-PERP")
            assert market is not None
            return view.equity[-1][1] - view.flat, view.equity[-1][1] - market.always_short[-1][1]

        at_first = await ahead()
        assert (await w.give(Deposit(asset="USDC", amount=100_000_000))).status is ResultStatus.DONE
        assert await ahead() == pytest.approx(at_first, abs=0.01)
        assert (await w.give(Withdraw(asset="USDC", amount=30_000_000))).status is ResultStatus.DONE
        assert await ahead() == pytest.approx(at_first, abs=0.01)
        assert history.view().equity[-1][1] - history.view().equity[0][1] == pytest.approx(70.0, abs=0.01)


async def test_the_point_of_a_record_contains_what_the_trade_on_it_cost() -> None:
    async with world(automation=True, primed=7, apr_pct=100.0) as w:
        history, before = History(w.core), w.account.equity
        await w.record(rate_of(100.0))
        assert w.legs == (5.0, -5.0)
        history.add("SOL-PERP", w.past()[-1])
        assert history.view().equity[-1][1] == float(w.account.equity) < float(before)
