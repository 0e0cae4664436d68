"""The log: ring, filter, wrapping, following and searching."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.geometry import Offset
from textual.screen import Screen
from textual.strip import Strip
from widget_harness import Bench, lines, screen, style_of

from deltatui.tui.widgets.logbuffer import LogBuffer, LogRecord, wrap
from deltatui.tui.widgets.logview import LogView

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def record(number: int, level: str = "INFO", message: str | None = None) -> LogRecord:
    return LogRecord(number, level, "SAFETY", f"message {number}" if message is None else message, "07:00:00")


def records(first: int, count: int) -> list[LogRecord]:
    return [record(number) for number in range(first, first + count)]


# Without a screen


@settings(max_examples=300, deadline=None)
@given(
    st.integers(1, 12),
    st.lists(
        st.one_of(
            st.tuples(
                st.just("add"), st.lists(st.tuples(st.sampled_from(LEVELS), st.text("ab日 ", max_size=30)), max_size=15)
            ),
            st.tuples(st.just("level"), st.sampled_from(LEVELS)),
            st.tuples(st.just("filter"), st.sampled_from(["", "a", "b 日"])),
            st.tuples(st.just("wrap"), st.sampled_from([0, 12, 25])),
            st.tuples(st.just("clear"), st.none()),
        ),
        max_size=12,
    ),
)
def test_the_view_is_what_a_plain_list_would_show(capacity: int, steps: list[tuple[str, object]]) -> None:
    buffer = LogBuffer(capacity)
    plain: list[LogRecord] = []
    level, needle, width, count = "DEBUG", "", 0, 0
    for step in steps:
        match step:
            case "add", list(pairs):
                fresh = [record(count + i, lvl, text) for i, (lvl, text) in enumerate(pairs)]
                count += len(fresh)
                plain = (plain + fresh)[-capacity:]
                buffer.append_many(iter(fresh))
            case "level", str(level):
                buffer.set_minimum(level)
            case "filter", str(needle):
                buffer.set_filter(needle, regex=False)
            case "wrap", int(width):
                buffer.set_wrap_width(width)
            case "clear", None:
                plain = []
                buffer.clear()
        passing = [
            r
            for r in plain
            if LEVELS.index(r.level) >= LEVELS.index(level)
            and needle in f"07:00:00 {r.level:<8} [SAFETY] {r.message}".lower()
        ]
        assert [buffer.record(number) for number in buffer.view] == passing
        assert buffer.total == len(plain)
        expected = [
            (r, part)
            for r, number in zip(passing, buffer.view, strict=True)
            for part in range(len(wrap(buffer.line(number)[0], width)) if width else 1)
        ]
        assert buffer.rows == len(expected)
        places = [buffer.at_row(y) for y in range(buffer.rows)]
        assert [(buffer.record(place[0]), place[1]) for place in places if place] == expected
        assert buffer.at_row(buffer.rows) is None
        assert buffer.at_row(-1) is None
        for index in range(len(passing)):
            assert places[buffer.row_of(index)] == (buffer.view[index], 0)
            assert buffer.height_of(index) == sum(1 for r, _ in expected if r is passing[index])


@given(st.text("ab 日x", max_size=120), st.integers(4, 40))
def test_wrapping_loses_nothing_and_fits(text: str, width: int) -> None:
    pieces = wrap(text, width)
    assert "".join(text[start:end] for start, end in pieces) == text
    for index, (start, end) in enumerate(pieces):
        assert cell_len(text[start:end]) <= (width - 2 if index else width)


def test_wrapping_prefers_spaces() -> None:
    text = "add to SOL-PERP blocked: profitability"
    assert [text[a:b] for a, b in wrap(text, 18)] == ["add to SOL-PERP ", "blocked: ", "profitability"]


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity is 0"):
        LogBuffer(0)
    buffer = LogBuffer(5)
    with pytest.raises(ValueError, match="no log level 'LOUD'; the levels are DEBUG, INFO"):
        buffer.set_minimum("LOUD")
    buffer.append_many(records(0, 3))
    buffer.set_filter("message 1", regex=True)
    with pytest.raises(re.error):
        buffer.set_filter("(", regex=True)
    assert [buffer.record(n).sequence for n in buffer.view] == [1]


# On a screen


def shown(view: LogView) -> list[str]:
    """The numbers of the messages on the screen."""
    return [line.split("message ")[1] for line in lines(view) if "message" in line]


def follows(view: LogView) -> bool:
    return view.status.follow


async def test_it_follows_the_tail() -> None:
    view = LogView(capacity=50)
    app = Bench(view)
    async with app.run_test(size=(50, 5)) as pilot:
        assert lines(view)[0] == " no log lines yet"
        view.append_many(records(0, 2))
        await pilot.pause()
        assert screen(app)[0].rstrip() == " 07:00:00 INFO     [SAFETY] message 0"
        view.append_many(records(2, 100))
        await pilot.pause()
        assert shown(view) == ["97", "98", "99", "100", "101"]
        assert (view.status.follow, view.status.new, view.status.total) == (True, 0, 50)


async def test_lines_may_come_before_it_is_mounted() -> None:
    view = LogView()
    view.append_many(records(0, 30))
    async with Bench(view).run_test(size=(50, 5)) as pilot:
        await pilot.pause()
        assert shown(view) == ["25", "26", "27", "28", "29"]


@pytest.mark.parametrize("way", ["up", "pageup", "home", "wheel", "bar"])
async def test_going_up_stops_it_and_only_end_follows_again(way: str) -> None:
    view = LogView(capacity=200)
    app = Bench(view)
    async with app.run_test(size=(50, 5)) as pilot:
        view.append_many(records(0, 100))
        await pilot.pause()
        match way:
            case "wheel":
                await pilot._post_mouse_events([_wheel_up()], LogView)
            case "bar":
                view.scroll_to(y=40, animate=False, force=True)
            case _:
                await pilot.press(way)
        await pilot.pause()
        standing = shown(view)
        assert not follows(view)
        view.append_many(records(100, 7))
        await pilot.pause()
        assert shown(view) == standing
        assert view.status.new == 7
        assert view.status.text.startswith("+7 new")
        for _ in range(30):
            view.action_page(1)
        await pilot.press("down", "down")
        view.append_many(records(107, 1))
        await pilot.pause()
        assert not follows(view), "reaching the last line is not following"
        assert "107" not in shown(view)
        await pilot.press("end")
        assert follows(view)
        assert view.status.new == 0
        assert shown(view)[-1] == "107"


def _wheel_up() -> type:
    from textual.events import MouseScrollUp

    return MouseScrollUp


async def test_text_stands_still_while_old_lines_leave() -> None:
    view = LogView(capacity=100)
    async with Bench(view).run_test(size=(50, 5)) as pilot:
        view.append_many(records(0, 100))
        await pilot.press(*["up"] * 20)
        standing = shown(view)
        view.append_many(records(100, 50))
        await pilot.pause()
        assert shown(view) == standing
        assert view.cursor_record == record(79)
        view.append_many(records(150, 100))
        await pilot.pause()
        assert shown(view)[0] == "150", "its lines are gone: the oldest that are left"
        assert view.cursor_record == record(150)


async def test_level_and_filter() -> None:
    view = LogView()
    app = Bench(view)
    async with app.run_test(size=(60, 6)) as pilot:
        view.append_many([record(n, LEVELS[n % 5]) for n in range(20)])
        view.set_minimum("ERROR")
        await pilot.pause()
        assert shown(view) == ["8", "9", "13", "14", "18", "19"]
        assert view.set_filter("MESSAGE 1")
        await pilot.pause()
        assert shown(view) == ["13", "14", "18", "19"]
        assert (view.status.shown, view.status.total, view.status.minimum) == (4, 20, "ERROR")
        assert view.set_filter(r"message 1[34]$", regex=True)
        assert shown(view) == ["13", "14"]
        assert view.set_filter("[34]$")
        assert shown(view) == [], "plain text, no expression"
        await pilot.pause()
        assert [line.rstrip() for line in screen(app)] == [" none of 20 lines passes level and filter"] + [""] * 5


async def test_a_bad_expression_is_reported_and_changes_nothing() -> None:
    view = LogView()
    app = Bench(view)
    async with app.run_test(size=(60, 6)) as pilot:
        view.append_many(records(0, 4))
        view.set_filter("message [12]", regex=True)
        assert not view.set_filter("(", regex=True)
        assert shown(view) == ["1", "2"]
        assert view.status.error.startswith("'(' is no regular expression: missing )")
        for too_large in ("a{99999999999999999999}", "(" * 20_000 + ")" * 20_000):
            assert not view.set_filter(too_large, regex=True)
            assert "too large" in view.status.error
        assert not view.search("*", regex=True)
        assert view.status.error.startswith("'*' is no regular expression: nothing to repeat")
        await pilot.pause()
        told = [m.status for m in app.seen if isinstance(m, LogView.StatusChanged)]
        assert told[-1] == view.status
        assert view.search("message")
        assert view.status.error == ""


async def test_searching_goes_from_match_to_match() -> None:
    view = LogView()
    async with Bench(view).run_test(size=(60, 6)) as pilot:
        view.append_many(records(0, 300))
        await pilot.pause()
        assert view.search("message 7")
        assert view.cursor_record == record(79)
        assert style_of(view, shown(view).index("79"), "message 7").reverse
        await pilot.press("N")
        assert view.cursor_record == record(78)
        await pilot.press("n", "n")
        assert view.cursor_record == record(79), "no next one: it stays"
        assert not view.next_match()
        assert not view.search("nowhere")
        assert view.cursor_record == record(79)
        assert not view.search("")
        assert not view.next_match()


async def test_errors_are_one_step_away() -> None:
    view = LogView()
    async with Bench(view).run_test(size=(60, 6)) as pilot:
        levels = {7: "CRITICAL", 9: "ERROR"}
        view.append_many([record(n, levels.get(n % 50, "INFO")) for n in range(200)])
        await pilot.pause()
        assert view.next_error(), "nothing is below the tail: the newest one"
        assert view.cursor_record == record(159, "ERROR")
        assert not follows(view)
        assert not view.next_error(), "none below"
        view.set_follow(True)
        view.append_many([record(200, "ERROR")])
        assert view.previous_error(), "the newest line too"
        assert view.cursor_record == record(200, "ERROR")
        assert view.previous_error()
        assert view.cursor_record == record(159, "ERROR")
        assert view.previous_error()
        assert view.cursor_record == record(157, "CRITICAL")
        assert "157" in shown(view)
        assert view.previous_error()
        assert view.next_error()
        assert view.cursor_record == record(157, "CRITICAL")


async def test_copy_gives_the_whole_line_without_control_characters() -> None:
    view = LogView()
    async with Bench(view).run_test(size=(40, 6)) as pilot:
        assert view.copy_line() is None
        view.append_many([record(0, message="rm -rf\n\x1b[31m" + "x" * 5_000), record(1)])
        await pilot.press("up")
        assert view.copy_line() == "07:00:00 INFO     [SAFETY] rm -rf␊␛[31m" + "x" * 5_000


async def test_wrapping_shows_the_whole_line() -> None:
    view = LogView()
    app = Bench(view)
    async with app.run_test(size=(40, 6)) as pilot:
        view.append_many([record(0, message="add to SOL-PERP blocked: profitability, break-even never")])
        await pilot.pause()
        assert screen(app)[0].rstrip() == " 07:00:00 INFO     [SAFETY] add to SOL…"
        view.set_wrap(True)
        await pilot.pause()
        assert [line.rstrip() for line in screen(app)[:3]] == [
            " 07:00:00 INFO     [SAFETY] add to",
            "   SOL-PERP blocked: profitability,",
            "   break-even never",
        ]
        await pilot.resize_terminal(80, 6)
        await pilot.pause()
        assert [line.rstrip() for line in screen(app)[:2]] == [
            " 07:00:00 INFO     [SAFETY] add to SOL-PERP blocked: profitability, break-even",
            "   never",
        ]


async def test_a_click_puts_the_cursor_on_a_line() -> None:
    view = LogView()
    async with Bench(view).run_test(size=(50, 5)) as pilot:
        view.append_many(records(0, 40))
        await pilot.pause()
        await pilot.click(LogView, offset=Offset(10, 1))
        assert view.cursor_record == record(36)
        assert lines(view)[1].startswith("▸07:00:00")


async def test_full_and_scrolled_up_new_lines_draw_nothing() -> None:
    class Counting(LogView):
        drawn = 0

        def render_line(self, y: int) -> Strip:
            self.drawn += 1
            return super().render_line(y)

    view = Counting(capacity=200)
    async with Bench(view).run_test(size=(50, 5)) as pilot:
        view.append_many(records(0, 200))
        await pilot.press(*["up"] * 6)
        await pilot.pause()
        view.drawn = 0
        for n in range(10):
            view.append_many(records(200 + n, 1))
            await pilot.pause()
        # The text stands still, only the scroll offset behind it changes: a repaint from kept strips.
        assert view.drawn <= 10 * 5
        assert len(view._strips) <= 20


async def test_lines_beyond_the_screen_lay_nothing_out_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen laid out anew is composed and sent whole: the dearest thing that a log line could do."""
    laid_out: list[Screen[object]] = []
    refresh_layout = Screen._refresh_layout

    def count(self: Screen[object], *args: object, **kwargs: object) -> None:
        laid_out.append(self)
        refresh_layout(self, *args, **kwargs)  # type: ignore[arg-type]

    view = LogView(capacity=200)
    async with Bench(view).run_test(size=(50, 5)) as pilot:
        monkeypatch.setattr(Screen, "_refresh_layout", count)
        view.append_many(records(0, 20))
        await pilot.pause()
        assert laid_out, "the scrollbar came"
        assert view.vertical_scrollbar.position == view.scroll_y == 15
        laid_out.clear()
        for n in range(10):
            view.append_many(records(20 + 10 * n, 10))
            await pilot.pause()
            assert shown(view)[-1] == str(29 + 10 * n)
        assert laid_out == []
        assert view.vertical_scrollbar.window_virtual_size == view.virtual_size.height == 120
        assert view.max_scroll_y == 115
        view.set_filter("message 119")
        await pilot.pause()
        assert laid_out, "the scrollbar went"
        assert shown(view) == ["119"]


async def test_levels_differ_by_word_and_style() -> None:
    view = LogView()
    async with Bench(view).run_test(size=(50, 6)):
        view.append_many([record(n, level) for n, level in enumerate(LEVELS)])
        styles = [style_of(view, y, level) for y, level in enumerate(LEVELS)]
        assert styles[2] != styles[1]
        assert styles[3] != styles[2]
        assert styles[3] == styles[4]
