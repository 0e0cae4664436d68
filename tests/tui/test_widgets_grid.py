"""The live table on a screen."""

from __future__ import annotations

import pytest
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from widget_harness import Bench, Clock, lines, screen, style_of

from deltatui.tui.widgets.grid import Cell, Column, LiveGrid, Row

COLUMNS = (
    Column("market", "market", 9),
    Column("side", "side", 6, priority=2),
    Column("pnl", "uPnL", 8, "right", priority=1),
)


class Counting(LiveGrid):
    """Remembers which lines were drawn anew."""

    drawn: list[int]

    def render_line(self, y: int) -> Strip:
        self.drawn.append(y)
        return super().render_line(y)


def make(clock: Clock | None = None, *, ascii_only: bool = False) -> Counting:
    grid = Counting(COLUMNS, empty="no positions", clock=clock or Clock(), ascii_only=ascii_only)
    grid.drawn = []
    return grid


def row(key: str, pnl: float, side: str = "short") -> Row:
    return Row(
        key, {"market": key, "side": side, "pnl": Cell(f"{pnl:+.2f}", "good" if pnl > 0 else "bad")}, {"pnl": pnl}
    )


def rows(count: int) -> list[Row]:
    return [row(f"M{index}", float(index)) for index in range(count)]


async def test_it_draws_header_rows_and_the_empty_text() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 6)) as pilot:
        assert lines(grid)[:2] == ["  market    side       uPnL", "  no positions"]
        assert grid.cursor_key is None
        grid.set_rows(rows(2))
        await pilot.pause()
        assert screen(app)[0].rstrip() == "  market    side       uPnL"
        assert screen(app)[1].rstrip() == "▸ M0        short     +0.00"
        assert screen(app)[2].rstrip() == "  M1        short     +1.00"
        assert (grid.shown, grid.total, grid.keys) == (2, 2, ("M0", "M1"))


async def test_rows_may_come_before_it_is_mounted() -> None:
    grid = make()
    grid.set_rows(rows(2))
    grid.move_to("M1")
    async with Bench(grid).run_test(size=(40, 6)):
        assert lines(grid)[2] == "▸ M1        short     +1.00"


async def test_keys_move_the_cursor_and_enter_opens_its_row() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 6)) as pilot:
        grid.set_rows(rows(20))
        for key, expected in (
            ("down", "M1"),
            ("j", "M2"),
            ("k", "M1"),
            ("up", "M0"),
            ("up", "M0"),
            ("pagedown", "M4"),
            ("end", "M19"),
            ("pageup", "M15"),
            ("home", "M0"),
        ):
            await pilot.press(key)
            assert grid.cursor_key == expected
            cursor = [line for line in lines(grid) if line.startswith("▸")]
            assert len(cursor) == 1
            assert cursor[0].split()[1] == expected
        await pilot.press("end", "enter")
        activated = [m for m in app.seen if isinstance(m, LiveGrid.Activated)]
        assert [(m.key, m.control) for m in activated] == [("M19", grid)]


async def test_the_cursor_stays_on_its_row_and_its_line_while_rows_move() -> None:
    clock = Clock()
    grid = make(clock)
    async with Bench(grid).run_test(size=(40, 6)) as pilot:
        grid.set_rows(rows(20))
        await pilot.pause()
        grid.move_to("M10")
        await pilot.pause()
        line = next(y for y, text in enumerate(lines(grid)) if text.startswith("▸"))
        clock.now += 10
        for index in (0, 1, 2):
            grid.remove_row(f"M{index}")
        await pilot.pause()
        assert grid.cursor_key == "M10"
        assert lines(grid)[line].startswith("▸ M10")
        grid.sort_by("pnl", descending=True)
        await pilot.pause()
        assert grid.cursor_key == "M10"
        assert lines(grid)[line].startswith("▸ M10")


async def test_a_lost_row_is_said_and_enter_does_nothing() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(60, 6)) as pilot:
        grid.set_rows(rows(3))
        await pilot.press("down")
        grid.remove_row("M1")
        await pilot.press("enter")
        assert (grid.cursor_key, grid.lost_key) == (None, "M1")
        assert not [m for m in app.seen if isinstance(m, LiveGrid.Activated)]
        assert screen(app)[0].startswith("! market")
        assert screen(app)[3].rstrip() == "! M1 is gone; move to choose another"
        moved = [m.key for m in app.seen if isinstance(m, LiveGrid.CursorMoved)]
        assert moved == ["M0", "M1", None]
        await pilot.press("down")
        assert grid.cursor_key == "M2"
        assert screen(app)[0].startswith("  market")
        assert screen(app)[3].strip() == ""


async def test_a_filter_hides_rows_and_says_so() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(60, 6)) as pilot:
        grid.set_rows([row("SOL-PERP", 1.0), row("BTC-PERP", 2.0)])
        grid.set_filter("btc")
        await pilot.pause()
        assert (grid.shown, grid.total, grid.lost_key) == (1, 2, "SOL-PERP")
        assert screen(app)[2].rstrip() == "! SOL-PERP is hidden by the filter; move to choose another"
        grid.set_filter("zzz")
        await pilot.pause()
        assert screen(app)[1].rstrip() == "  none of 2 rows has 'zzz'"
        grid.set_filter("")
        assert grid.cursor_key == "SOL-PERP"


async def test_a_click_chooses_the_row_that_was_drawn_there() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows(rows(4))
        await pilot.pause()
        await pilot.click(LiveGrid, offset=(5, 3))
        assert grid.cursor_key == "M2"
        await pilot.click(LiveGrid, offset=(5, 7))
        assert grid.cursor_key == "M2", "no row there"


async def test_a_click_means_what_was_on_the_screen_when_it_came() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows([row("SOL", 1.0), row("BTC", 2.0), row("ETH", 3.0)])
        await pilot.pause()
        # Other data arrive between the paint that the user saw and the click.
        grid.set_rows([row("NEW", 9.0), row("ETH", 3.0), row("SOL", 1.0)])
        grid.on_click(click(grid, 3))
        assert grid.cursor_key == "ETH"
        await pilot.pause()
        grid.set_rows([row("NEW", 9.0), row("ETH", 3.0), row("BTC", 2.0)])
        grid.on_click(click(grid, 3))
        assert grid.cursor_key == "ETH", "the row that stood there is gone: nothing is chosen in its place"


def click(grid: LiveGrid, y: int) -> events.Click:
    return events.Click(grid, 5, y, 0, 0, 1, False, False, False, screen_x=5, screen_y=y)


async def test_a_click_on_a_title_sorts() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows(rows(3))
        await pilot.pause()
        await pilot.click(LiveGrid, offset=(24, 0))
        assert grid.sorting == ("pnl", True)
        assert grid.keys == ("M2", "M1", "M0")
        await pilot.pause()
        assert screen(app)[0].rstrip() == "  market    side      ▼uPnL"
        await pilot.click(LiveGrid, offset=(24, 0))
        assert grid.sorting == ("pnl", False)


async def test_sorting_cycles_through_the_columns_and_back() -> None:
    grid = make()
    async with Bench(grid).run_test(size=(40, 8)):
        grid.set_rows(rows(2))
        lines(grid)
        seen = []
        for _ in range(5):
            grid.cycle_sort()
            seen.append(grid.sorting)
        assert seen == [("market", False), ("side", False), ("pnl", True), (None, False), ("market", False)]
        grid.reverse_sort()
        assert grid.sorting == ("market", True)


async def test_a_change_is_marked_in_its_own_cell_until_the_tick_ends_it() -> None:
    clock = Clock()
    grid = make(clock)
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows([row("SOL", 1.0), row("BTC", 2.0), row("ETH", 3.0)])
        grid.set_rows([row("SOL", 1.5), row("BTC", 1.5), row("ETH", 3.0, "long")])
        await pilot.pause()
        assert [line.rstrip() for line in screen(app)[1:4]] == [
            "▸ SOL       short    ▲+1.50",
            "  BTC       short    ▼+1.50",
            "  ETH      •long      +3.00",
        ]
        assert style_of(grid, 2, "+1.50").bold
        clock.now += 1.5
        grid.tick()
        await pilot.pause()
        assert screen(app)[2].rstrip() == "  BTC       short     +1.50"
        assert not style_of(grid, 2, "+1.50").bold


async def test_ascii_draws_nothing_else() -> None:
    grid = make(ascii_only=True)
    async with Bench(grid).run_test(size=(40, 8)):
        grid.set_rows([row("SOL", 1.0), row("Zürich-PERP-LONG", 2.0)])
        grid.set_rows([row("SOL", 1.5), row("Zürich-PERP-LONG", 1.5)])
        grid.sort_by("pnl")
        assert lines(grid)[:3] == [
            "  market    side      ^uPnL",
            "> SOL       short    ^+1.50",
            "  Z?rich-P~ short    v+1.50",
        ]


async def test_only_what_changed_is_drawn_again() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 12)) as pilot:
        grid.set_rows(rows(9))
        await pilot.pause()
        grid.drawn.clear()
        grid.set_rows(rows(9))
        grid.tick()
        await pilot.pause()
        assert grid.drawn == [], "the same rows again"
        grid.update_row(row("M4", 99.0))
        await pilot.pause()
        assert grid.drawn == [5]
        grid.drawn.clear()
        await pilot.press("down")
        assert sorted(grid.drawn) == [1, 2]


async def test_repaints_ask_for_the_lines_that_differ() -> None:
    asked: list[Region] = []

    class Asking(LiveGrid):
        def refresh(
            self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
        ) -> Asking:
            asked.extend(regions)
            super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)
            return self

    grid = Asking(COLUMNS, clock=Clock())
    async with Bench(grid).run_test(size=(40, 12)) as pilot:
        grid.set_rows(rows(9))
        await pilot.pause()
        asked.clear()
        grid.update_row(row("M8", 99.0))
        assert asked == [Region(0, 9, 40, 1)]


async def test_narrow_it_leaves_columns_out_and_never_wraps() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(24, 5)) as pilot:
        grid.set_rows(rows(2))
        await pilot.pause()
        assert lines(grid)[:2] == ["  market        uPnL", "▸ M0           +0.00"]
        await pilot.resize_terminal(12, 5)
        await pilot.pause()
        assert lines(grid)[:2] == ["  market", "▸ M0"]
        await pilot.resize_terminal(60, 5)
        await pilot.pause()
        assert lines(grid)[1] == "▸ M0        short     +0.00"


async def test_a_scrollbar_takes_no_column_away() -> None:
    grid = make()
    app = Bench(grid)
    # 2 cells of its own and 26 for the columns.
    async with app.run_test(size=(28, 5)) as pilot:
        grid.set_rows(rows(30))
        await pilot.pause()
        assert grid.show_vertical_scrollbar
        assert screen(app)[1].startswith("▸ M0        short     +0.00")


async def test_a_freeze_keeps_rows_where_they_are() -> None:
    clock = Clock()
    grid = make(clock)
    async with Bench(grid).run_test(size=(40, 8)):
        grid.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
        grid.sort_by("pnl", descending=True)
        clock.now += 10
        grid.freeze = True
        grid.set_rows([row("SOL", 9.0), row("BTC", 2.0)])
        assert grid.keys == ("BTC", "SOL")
        grid.freeze = False
        assert grid.keys == ("SOL", "BTC")


async def test_styles_follow_the_theme_and_the_focus() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows([row("SOL", 1.0), row("BTC", 1.0)])
        await pilot.pause()
        focused = style_of(grid, 1, "SOL").bgcolor
        before = style_of(grid, 2, "+1.00").color
        app.theme = "textual-light"
        await pilot.pause()
        light = style_of(grid, 2, "+1.00").color
        assert light != before
        painted = next(s.style for s in app.screen._compositor.render_strips()[2] if "+1.00" in s.text)
        assert painted is not None
        assert painted.color == light
        app.theme = "textual-dark"
        await pilot.pause()
        app.set_focus(None)
        await pilot.pause()
        assert style_of(grid, 1, "SOL").bgcolor != focused
        assert lines(grid)[1].startswith("▸"), "without colour the sign tells it"


async def test_a_new_background_behind_it_reaches_its_lines() -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows([row("SOL", 1.0), row("BTC", 1.0)])
        await pilot.pause()
        app.screen.styles.background = "#102030"
        await pilot.pause()
        for y in range(8):
            colors = {
                s.style.bgcolor.name for s in app.screen._compositor.render_strips()[y] if s.style and s.style.bgcolor
            }
            assert y == 1 or colors == {"#102030"}, y


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light"])
async def test_it_draws_with_the_terminals_own_colours(theme: str) -> None:
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        app.theme = theme
        grid.set_rows(rows(2))
        await pilot.pause()
        assert screen(app)[1].startswith("▸ M0")


async def test_no_color_keeps_every_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    grid = make()
    app = Bench(grid)
    async with app.run_test(size=(40, 8)) as pilot:
        grid.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
        grid.set_rows([row("SOL", 0.5), row("BTC", 2.0)])
        grid.sort_by("pnl", descending=True)
        await pilot.pause()
        assert app.no_color
        assert screen(app)[0].rstrip() == "  market    side      ▼uPnL"
        assert screen(app)[2].rstrip() == "▸ SOL       short    ▼+0.50"
        for strip in app.screen._compositor.render_strips():
            for segment in strip:
                color = segment.style.color if segment.style else None
                assert color is None or color.triplet is None or len(set(color.triplet)) == 1, "a grey"
