"""Foreign strings in every place that takes one: nothing crashes, nothing is interpreted, every line has its width."""

from __future__ import annotations

import random

import pytest
from textual.widget import Widget
from widget_harness import HOSTILE, Bench, Clock, assert_inert, lines

from deltatui.tui.widgets.chart import BrailleChart, Series
from deltatui.tui.widgets.gauge import Band, Gauge
from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row
from deltatui.tui.widgets.heatmap import HeatMap
from deltatui.tui.widgets.logview import LogRecord, LogView

SIZES = ((60, 40), (23, 30), (9, 12), (2, 10), (1, 5))


def random_texts(seed: int, count: int) -> list[str]:
    """Short mixtures of all of Unicode, surrogates and unassigned code points included."""
    chance = random.Random(seed)
    pools = (
        range(0x20, 0x7F),
        range(0x300),
        range(0x2000, 0x2100),
        range(0x3000, 0xD7FF),
        range(0xD800, 0xE100),
        range(0x110000),
    )
    return [
        "".join(chr(chance.choice(chance.choice(pools))) for _ in range(chance.randrange(40))) for _ in range(count)
    ]


class Everything:
    """One of each widget, and a way to put a text into every place of it."""

    def __init__(self, *, ascii_only: bool, title: str = "title") -> None:
        self.clock = Clock()
        columns = (Column("a", title, 9), Column("b", title, 7, "right", 1), Column("c", title, 5, "center", 2))
        self.grid = LiveGrid(columns, empty=title, clock=self.clock, ascii_only=ascii_only)
        self.log = LogView(capacity=40, empty=title, ascii_only=ascii_only)
        self.chart = BrailleChart(formatter=lambda _: title, empty=title, value_width=12, ascii_only=ascii_only)
        self.heat = HeatMap(formatter=lambda _: title, empty=title, ascii_only=ascii_only)
        self.gauge = Gauge(
            bands=(Band(5, "low", "bad"), Band(None, "high", "good")), formatter=lambda _: title, ascii_only=ascii_only
        )
        self.widgets: tuple[Widget, ...] = (self.grid, self.log, self.chart, self.heat, self.gauge)

    def fill(self, texts: list[str]) -> None:
        keys = list(dict.fromkeys(texts))
        self.grid.set_rows(Row(key, {"a": key, "b": Cell(key, "good"), "c": key[::-1]}, {"a": key}) for key in keys)
        self.grid.set_rows(Row(key, {"a": key, "b": key + "x", "c": key}, {"b": key}) for key in keys[::-1])
        self.grid.set_empty(texts[0])
        self.log.append_many(LogRecord(0, text, text, text, text) for text in texts)
        self.chart.set_series(
            [Series(text, [1.0, -2.0, None]) for text in texts[:3]], [(0.0, texts[0]), (1.0, texts[-1])]
        )
        self.heat.set_data([[1.0, None], [2.0]], texts, texts[::-1], [texts])
        self.gauge.set_value(None, texts[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii_only", [False, True])
async def test_hostile_texts_are_only_drawn(size: tuple[int, int], ascii_only: bool) -> None:
    every = Everything(ascii_only=ascii_only)
    async with Bench(*every.widgets).run_test(size=size) as pilot:
        for texts in ([*HOSTILE], [text[::-1] for text in HOSTILE], random_texts(size[0], 60)):
            every.fill(texts)
            for wrap in (False, True):
                every.log.set_wrap(wrap)
                await pilot.pause()
                assert_inert(every.widgets, ascii_only=ascii_only)
            for text in texts[:10]:
                every.grid.set_filter(text)
                every.log.set_filter(text)
                every.log.search(text)
                every.log.search(text, regex=True)
                every.grid.move_to(text)
                every.heat.move_to(1, 1)
                assert_inert(every.widgets, ascii_only=ascii_only)
            every.grid.set_filter("")
            every.log.set_filter("")
            every.grid.move_to(texts[3])
            every.grid.remove_row(texts[3])
            every.gauge.set_value(3.0)
            await pilot.pause()
            assert_inert(every.widgets, ascii_only=ascii_only)


@pytest.mark.parametrize("title", HOSTILE)
async def test_the_owners_own_texts_may_be_hostile_too(title: str) -> None:
    every = Everything(ascii_only=False, title=title)
    async with Bench(*every.widgets).run_test(size=(40, 30)) as pilot:
        await pilot.pause()
        assert_inert(every.widgets)
        every.fill(["a", "b", "c", "d"])
        every.gauge.set_value(3.0)
        await pilot.pause()
        assert_inert(every.widgets)


async def test_markup_is_shown_as_it_was_written() -> None:
    every = Everything(ascii_only=False)
    text = "[b]x[/INST]"
    async with Bench(*every.widgets).run_test(size=(60, 30)) as pilot:
        every.grid.set_rows([Row("k", {"a": "[b]x[/]"})])
        every.log.append_many([LogRecord(0, "ERROR", "[red]", text, "07:00:00")])
        every.gauge.set_value(None, text)
        await pilot.pause()
        assert "[b]x[/]" in lines(every.grid)[1]
        assert f"[[red]] {text}" in lines(every.log)[0]
        assert text in lines(every.gauge)[0]
