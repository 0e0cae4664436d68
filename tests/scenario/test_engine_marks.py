"""The account is told by an endpoint that is behind the one before it: a mark that goes backwards (R9.2)."""

from __future__ import annotations

import pytest
from engine_harness import leave, take, world

from deltatui.domain.carry import Stance
from deltatui.domain.command import ResultStatus
from deltatui.ports import AccountReport


async def test_a_report_from_before_the_trade_changes_no_view_and_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        old = w.venue.account()
        assert (await w.take(5)).status is ResultStatus.DONE
        carry, known = w.hedge.memory.carry, w.core.world.account()
        with monkeypatch.context() as patched:
            patched.setattr(w.venue, "account", lambda: old)
            await w.step()
            assert w.core.world.account() is known
            assert w.core.behind is True
            assert w.hedge.held is Stance.CARRY
            assert w.snapshot().carry.stance == "CARRY"
            assert not w.core.board.alerts
        assert w.hedge.memory.carry == carry
        assert [w.core.behind] == [False]
        await w.check()


async def test_a_trade_waits_until_the_venue_has_caught_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        old = w.venue.account()
        assert (await w.take(5)).status is ResultStatus.DONE
        began_s, told = w.clock.operator_s(), w.venue.account

        def account() -> AccountReport | None:
            return old if w.clock.operator_s() < began_s + 5 else told()

        monkeypatch.setattr(w.venue, "account", account)
        result = await w.sure(leave())
        assert result.status is ResultStatus.DONE
        assert w.clock.operator_s() >= began_s + 5
        assert w.legs == (0, 0)
        monkeypatch.undo()
        await w.check()


async def test_one_that_never_catches_up_is_a_refusal_and_no_trade(monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as w:
        old = w.venue.account()
        assert (await w.take(5)).status is ResultStatus.DONE
        with monkeypatch.context() as patched:
            patched.setattr(w.venue, "account", lambda: old)
            result = await w.give(take(1))
        assert (result.status, result.code) == (ResultStatus.REJECTED, "NOT_REPORTED")
        assert w.legs == (5, -5)
        await w.check()
