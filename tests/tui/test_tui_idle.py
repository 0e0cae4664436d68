"""An engine at rest costs next to nothing: what says the same as before is not drawn again (R13.9)."""

from __future__ import annotations

import pytest
from snapshots import make_detail, make_hedge, make_snapshot, with_hedge
from test_tui_screen import full_engine
from textual.screen import Screen
from tui_fakes import Terminal, replace, tape_history, terminal

from deltatui.tui.panes.base import Body
from deltatui.tui.panes.status import StatusLine
from deltatui.tui.store import Store


async def beat(t: Terminal, seconds: float = 1.0) -> None:
    """A second of an engine that stands still: four ticks and one snapshot."""
    clock = t.engine.snapshot.clock
    t.engine.publish(
        clock=replace(clock, operator_s=clock.operator_s + seconds),
        engine=replace(t.engine.snapshot.engine, loop_lag_ms=0.1 + seconds),
    )
    await t.pilot.pause()
    for _ in range(4):
        t.clock.now += seconds / 4
        t.app.tick()
    await t.pilot.pause()


@pytest.mark.parametrize("size", [(160, 48), (120, 35), (80, 24)])
async def test_a_standing_engine_moves_only_the_clock(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[object] = []
    laid_out: list[object] = []
    update, refresh_layout = Body.update, Screen._refresh_layout
    clock_update = StatusLine.update

    def count_update(self: Body, *args: object, **kwargs: object) -> None:
        drawn.append(self)
        update(self, *args, **kwargs)  # type: ignore[arg-type]

    def count_layout(self: Screen[object], *args: object, **kwargs: object) -> None:
        laid_out.append(self)
        refresh_layout(self, *args, **kwargs)  # type: ignore[arg-type]

    async with terminal(full_engine(), size=size) as t:
        t.engine.tell_history(tape_history())
        await t.settle()
        await beat(t)
        await beat(t)
        clock_drawn: list[object] = []

        def count_clock(self: StatusLine, *args: object, **kwargs: object) -> None:
            clock_drawn.append(self)
            clock_update(self, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(Body, "update", count_update)
        monkeypatch.setattr(StatusLine, "update", count_clock)
        monkeypatch.setattr(Screen, "_refresh_layout", count_layout)
        before = t.text()
        for _ in range(5):
            await beat(t)
        assert [body for body in drawn if not isinstance(body, StatusLine)] == []
        assert laid_out == []
        assert len(clock_drawn) == 5
        assert t.text().splitlines()[1:] == before.splitlines()[1:]
        t.engine.publish(account=replace(t.engine.snapshot.account, equity=1.23))
        await t.pilot.pause()
        for _ in range(4):
            t.app.tick()
        await t.pilot.pause()
        assert drawn
        assert "$1" in t.text()


async def test_a_standing_engine_stays_fresh() -> None:
    async with terminal() as t:
        for _ in range(10):
            await beat(t)
        assert t.app.store.view.not_fresh(t.clock.now) is None
        assert " old" not in t.text()


def test_a_restarted_engine_may_have_the_same_process_id() -> None:
    store = Store()
    first = make_snapshot(version=50)
    store.put_snapshot(first, 1.0)
    started = replace(first.engine, started_operator_s=first.engine.started_operator_s + 60)
    store.put_snapshot(replace(first, version=3, engine=started), 2.0)
    assert store.view.snapshot is not None
    assert store.view.snapshot.version == 3


def test_the_store_tells_news_from_a_beat() -> None:
    store = Store()
    first = make_snapshot()
    store.put_snapshot(first, 1.0)
    version = store.view.version
    again = replace(first, version=first.version + 1, clock=replace(first.clock, operator_s=first.clock.operator_s + 1))
    store.put_snapshot(again, 2.0)
    assert store.view.version == version
    assert store.view.snapshot is again
    assert store.view.received_at == 2.0
    sol = make_hedge("SOL-PERP")
    store.put_snapshot(with_hedge(again, prices=replace(sol.prices, oracle=1.0)), 3.0)
    assert store.view.version == version + 1


def test_a_detail_that_says_the_same_is_a_beat_too() -> None:
    store = Store()
    store.put_snapshot(make_snapshot(), 1.0)
    store.put_detail(make_detail(), 1.0)
    version = store.view.version
    store.put_detail(make_detail(version=2), 2.0)
    assert store.view.version == version
    store.put_detail(make_detail(version=3, gates=()), 3.0)
    assert store.view.version == version + 1
