"""Chart, heat map and gauge."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.geometry import Offset
from widget_harness import Bench, lines, screen, strips, style_of

from deltatui.tui import fmt
from deltatui.tui.widgets.braille import Canvas, sample
from deltatui.tui.widgets.chart import BrailleChart, Series
from deltatui.tui.widgets.gauge import HEALTH_BANDS, Band, Gauge, bar
from deltatui.tui.widgets.heatmap import HeatCell, HeatMap

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=80)


# Dots


@given(VALUES, st.integers(1, 60))
def test_sampling_keeps_extremes_and_invents_nothing(values: list[float | None], columns: int) -> None:
    sampled = sample(values, columns)
    known = [value for value in values if value is not None]
    drawn = [column for column in sampled if column is not None]
    assert len(sampled) == columns
    assert bool(known) == bool(drawn)
    if known:
        assert max(column[2] for column in drawn) == max(known)
        assert min(column[1] for column in drawn) == min(known)


def test_a_gap_stays_a_gap() -> None:
    assert [column is None for column in sample([1.0, 2.0, None, 4.0], 4)] == [False, False, True, False]
    wide = sample([1.0, None, None, 4.0], 10)
    assert [index for index, column in enumerate(wide) if column is not None] == [0, 9]
    joined = sample([0.0, 9.0], 10)
    assert [column[0] for column in joined if column] == pytest.approx(list(range(10)))


def test_a_single_value_is_the_newest() -> None:
    assert [column is not None for column in sample([5.0], 4)] == [False, False, False, True]


def test_a_rising_line_in_dots_and_in_ascii() -> None:
    canvas = Canvas(2, 1)
    canvas.draw(sample([0.0, 1.0, 2.0, 3.0], 4), 0.0, 3.0, 0)
    assert canvas.row(0) == [("⡠⠊", 0)]
    plain = Canvas(4, 4, ascii_only=True)
    plain.draw(sample([0.0, 1.0, 2.0, 3.0], 4), 0.0, 3.0, 0)
    assert ["".join(text for text, _ in plain.row(y)) for y in range(4)] == ["   *", "  * ", " *  ", "*   "]


def test_an_area_fills_to_its_ground_from_both_sides() -> None:
    canvas = Canvas(2, 3, ascii_only=True)
    canvas.draw(sample([1.0, -1.0], 2), -1.0, 1.0, 0, fill_to=0.0)
    assert ["".join(text for text, _ in canvas.row(y)) for y in range(3)] == ["* ", "**", " *"]


def test_the_front_line_owns_the_cell_and_others_are_dashed() -> None:
    canvas = Canvas(12, 1)
    canvas.draw(sample([0.0] * 24, 24), 0.0, 1.0, 1)
    assert [owner for _, owner in canvas.row(0)] == [1, -1, 1, -1, 1, -1, 1, -1]
    canvas.draw(sample([0.0] * 24, 24), 0.0, 1.0, 0)
    assert [owner for _, owner in canvas.row(0)] == [0]


# Chart


async def test_the_chart_reads_without_a_legend() -> None:
    chart = BrailleChart(formatter=lambda value: fmt.number(value, 0), label_width=4, value_width=5)
    app = Bench(chart)
    async with app.run_test(size=(34, 7)) as pilot:
        assert lines(chart)[0] == " no data"
        chart.set_series([Series("apr", [float(n) for n in range(-10, 21)])], [(0, "04 Oct"), (0.5, "06"), (1, "now")])
        await pilot.pause()
        text = [line.rstrip() for line in screen(app)]
        assert text[0].startswith("  20┤")
        assert text[0].endswith(" 20"), "the newest value at the line's end"
        assert text[3].startswith("   0┼──")
        assert text[4].startswith("    │")
        assert text[5].startswith(" -10┤⣀⠔⠊⠉")
        assert text[6] == "    └04 Oct    06        now"


async def test_the_newest_value_is_na_when_it_is_a_gap() -> None:
    chart = BrailleChart(label_width=4, value_width=5)
    async with Bench(chart).run_test(size=(34, 5)):
        chart.set_series([Series("apr", [1.0, 2.0, None])])
        assert lines(chart)[0].endswith(" n/a")
        chart.set_series([Series("apr", [1.0, 2.0, math.nan])])
        assert lines(chart)[0].endswith(" n/a")
        chart.set_series([Series("apr", [None, math.inf])])
        assert lines(chart)[0] == " no data"


async def test_several_lines_carry_their_names_on_rows_of_their_own() -> None:
    chart = BrailleChart(value_width=16)
    async with Bench(chart).run_test(size=(60, 6)):
        chart.set_series(
            [
                Series("equity", [1.0, 2.0]),
                Series("flat", [2.0, 2.0], "muted"),
                Series("always-short", [0.0, 1.99], "warn"),
            ]
        )
        ends = [line[-20:].split() for line in lines(chart)]
        assert [end[-2:] for end in ends[:3]] == [["equity", "2.00"], ["flat", "2.00"], ["always-sho…", "1.99"]]
        assert style_of(chart, 0, "equity") == chart._palette.get("accent")


async def test_a_flat_line_and_one_value_have_a_scale() -> None:
    chart = BrailleChart(label_width=8)
    async with Bench(chart).run_test(size=(40, 5)):
        for values in ([5.0], [5.0, 5.0], [0.0], [1e-300, 0.0], [-1e89, 1e89], [1e300, 1.0], [1e9, 1e9 + 1e-7]):
            chart.set_series([Series("x", values)])
            top, bottom = lines(chart)[0].split("┤")[0].split("┼")[0], lines(chart)[-1].split("┤")[0]
            assert top.strip() != bottom.strip() or values[0] == 1e9
            assert any("⠀" < char <= "⣿" for line in lines(chart) for char in line)


async def test_a_label_that_does_not_fit_is_shortened_as_a_number_not_cut() -> None:
    chart = BrailleChart(formatter=lambda value: fmt.number(value, 2), label_width=6)
    async with Bench(chart).run_test(size=(40, 4)):
        chart.set_series([Series("x", [1_000_000.0, 2_000_000.0])])
        assert lines(chart)[0].startswith(" 2.00M┤")


async def test_a_narrow_chart_gives_up_values_then_labels() -> None:
    chart = BrailleChart(label_width=6, value_width=6)
    app = Bench(chart)
    async with app.run_test(size=(22, 4)) as pilot:
        chart.set_series([Series("x", [1.0, 2.0])])
        assert lines(chart)[0].endswith("2.00")
        await pilot.resize_terminal(18, 4)
        await pilot.pause()
        assert lines(chart)[0].startswith("  2.00┤")
        assert not lines(chart)[0].endswith("2.00")
        await pilot.resize_terminal(10, 4)
        await pilot.pause()
        assert "┤" not in lines(chart)[0]


async def test_an_ascii_chart_is_ascii() -> None:
    chart = BrailleChart(ascii_only=True)
    async with Bench(chart).run_test(size=(40, 8)):
        chart.set_series([Series("a", [-1.0, 2.0, None, 1.0]), Series("b", [0.0, 1.0])], [(0, "Mär"), (1, "now")])
        text = "\n".join(lines(chart))
        assert text.isascii()
        assert "*" in text
        assert "+" in text


async def test_the_same_series_again_paints_nothing() -> None:
    chart = BrailleChart()
    async with Bench(chart).run_test(size=(40, 8)) as pilot:
        chart.set_series([Series("a", [1.0, 2.0])])
        await pilot.pause()
        first = strips(chart)
        chart.set_series([Series("a", [1.0, 2.0])])
        assert all(a is b for a, b in zip(first, strips(chart), strict=True))


# Heat map


def read(heat: HeatMap) -> HeatCell | None:
    return heat.cursor_cell


async def test_the_cursor_reads_a_cell_and_keeps_its_labels() -> None:
    heat = HeatMap(label_width=5)
    app = Bench(heat)
    async with app.run_test(size=(40, 6)) as pilot:
        assert lines(heat)[0] == " no data"
        heat.set_data([[1.0, 2.0], [None, 4e6]], ["85.0", "84.0"], ["06:00", "07:00"], [["", ""], ["", "41 liqs"]])
        await pilot.press("down", "down")
        assert read(heat) == HeatCell(1, 1, "84.0", "07:00", 4e6, "41 liqs")
        assert lines(heat)[-1] == " 84.0  07:00  4.00M  41 liqs"
        assert lines(heat)[1].startswith(" 84.0▸·")
        heat.set_data([[9.0, 9.0], [1.0, 2.0], [None, 5.0]], ["86.0", "85.0", "84.0"], ["06:00", "07:00"])
        assert read(heat) == HeatCell(2, 1, "84.0", "07:00", 5.0, "")
        heat.set_data([[9.0]], ["86.0"], ["06:00"])
        assert read(heat) is None
        await pilot.pause()
        moved = [m.cell for m in app.seen if isinstance(m, HeatMap.CursorMoved)]
        assert moved[-1] is None


async def test_unknown_is_a_dot_and_never_cold() -> None:
    heat = HeatMap()
    async with Bench(heat).run_test(size=(20, 3)):
        heat.set_data([[0.0, None, math.nan, 8.0]])
        assert lines(heat)[0].rstrip("█").strip(" ") == "·" * 8
        heat.move_to(0, 1)
        assert lines(heat)[-1] == " n/a"


async def test_heat_is_at_most_sixteen_steps_in_runs() -> None:
    heat = HeatMap()
    app = Bench(heat)
    async with app.run_test(size=(101, 3)):
        app.console._color_system = app.console._color_system.__class__.TRUECOLOR  # type: ignore[union-attr]
        heat.set_data([[float(n) for n in range(100)]])
        strip = heat.render_line(0)
        colors = [segment.style.bgcolor for segment in strip if segment.style][1:]
        assert len(colors) == len(set(colors)) == 16
        assert strip.cell_length == 101


async def test_without_colours_shades_tell_the_steps_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    heat, plain = HeatMap(), HeatMap(ascii_only=True)
    async with Bench(heat, plain).run_test(size=(41, 6)):
        for one in (heat, plain):
            one.set_data([[0.0, 1.0, 2.0, 3.0, None]])
        assert lines(heat)[0] == "         ░░░░░░░░▓▓▓▓▓▓▓▓████████········"
        assert lines(plain)[0] == "         ::::::::========########????????"


async def test_too_many_columns_show_the_newest_and_rows_follow_the_cursor() -> None:
    heat = HeatMap(label_width=3)
    async with Bench(heat).run_test(size=(14, 4)) as pilot:
        heat.set_data([[float(c) for c in range(30)] for _ in range(9)], [f"r{n}" for n in range(9)])
        await pilot.press("down")
        assert heat.cursor_cell is not None
        assert (heat.cursor_cell.row, heat.cursor_cell.column) == (0, 29)
        for _ in range(8):
            await pilot.press("down")
        assert lines(heat)[2].startswith(" r8▸")
        await pilot.click(HeatMap, offset=Offset(4, 0))
        assert heat.cursor_cell is not None
        assert (heat.cursor_cell.row, heat.cursor_cell.column) == (6, 20)


def test_a_heat_map_of_a_hundred_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="2 to 16 steps, not 100"):
        HeatMap(steps=100)


# Gauge


async def test_the_gauge_says_number_bar_and_word() -> None:
    gauge, plain = Gauge(), Gauge(ascii_only=True)
    app = Bench(gauge, plain)
    async with app.run_test(size=(40, 4)) as pilot:
        gauge.set_value(96.96)
        plain.set_value(34)
        await pilot.pause()
        assert lines(gauge) == [
            "   97 ▕████│██████│██████████▎▏ safe",
            "       0   20     50       100",
        ]
        assert lines(plain)[0] == "   34 [####|###   |           ] warning"


@pytest.mark.parametrize(
    ("value", "word"),
    [(0, "critical"), (19.99, "critical"), (20, "warning"), (49.9, "warning"), (50, "safe"), (120, "safe")],
)
async def test_bands_begin_at_their_limit(value: float, word: str) -> None:
    gauge = Gauge()
    async with Bench(gauge).run_test(size=(40, 2)):
        gauge.set_value(value)
        assert gauge.word == word
        assert lines(gauge)[0].endswith(word)
        style = {"critical": "bad", "warning": "warn", "safe": "good"}[word]
        assert style_of(gauge, 0, word) == gauge._palette.get(style)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
async def test_an_unknown_health_has_no_bar(value: float | None) -> None:
    gauge = Gauge()
    async with Bench(gauge).run_test(size=(40, 2)):
        gauge.set_value(50)
        gauge.set_value(value, "the account was not read yet")
        assert lines(gauge)[0] == "  n/a the account was not read yet"
        assert gauge.word == "n/a"
        assert gauge.value is None


def test_a_gauge_without_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="high must be above its low"):
        Gauge(low=1, high=1)
    with pytest.raises(ValueError, match="no upper end"):
        Gauge(bands=(Band(5, "low", "bad"),))


@settings(max_examples=300)
@given(st.floats(-2, 3), st.integers(1, 60), st.sampled_from([" ▏▎▍▌▋▊▉█", " -#"]))
def test_bars_have_their_width_and_never_shrink(fraction: float, width: int, eighths: str) -> None:
    drawn = bar(fraction, width, eighths)
    assert len(drawn) == width
    longer = bar(fraction + 0.1, width, eighths)
    assert sum(eighths.index(char) for char in drawn) <= sum(eighths.index(char) for char in longer)
    assert bar(1.0, width, eighths) == eighths[-1] * width
    assert bar(0.0, width, eighths) == " " * width


def test_health_bands_follow_the_limits() -> None:
    assert [(band.below, band.word) for band in HEALTH_BANDS] == [(20, "critical"), (50, "warning"), (None, "safe")]
