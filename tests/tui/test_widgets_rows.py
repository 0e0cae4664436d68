"""The rows of a grid without a screen: the cursor is what the user chose, or nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from widget_harness import Clock

from deltatui.tui.widgets.rows import FREEZE_S, MARK_S, Cell, Column, Row, RowModel, fit_columns

COLUMNS = (Column("name", "market", 6), Column("pnl", "uPnL", 8, "right"), Column("age", "age", 4, marks=False))
KEYS = ("SOL", "BTC", "ETH", "JUP", "WIF")


def row(key: str, pnl: float | None = 0.0, age: str = "1 s") -> Row:
    return Row(key, {"name": key, "pnl": Cell("n/a" if pnl is None else f"{pnl:+.2f}"), "age": age}, {"pnl": pnl})


PNL = st.one_of(st.none(), st.just(math.nan), st.integers(-3, 3).map(float))
ROWS = st.lists(st.tuples(st.sampled_from(KEYS), PNL), max_size=5, unique_by=lambda pair: pair[0])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), ROWS),
        st.tuples(st.just("update"), st.tuples(st.sampled_from(KEYS), PNL)),
        st.tuples(st.just("remove"), st.sampled_from(KEYS)),
        st.tuples(st.just("sort"), st.tuples(st.sampled_from([None, "name", "pnl"]), st.booleans())),
        st.tuples(st.just("filter"), st.sampled_from(["", "o", "sol", "+1", "nothing"])),
        st.tuples(st.just("move"), st.integers(-3, 3).filter(bool)),
        st.tuples(st.just("choose"), st.sampled_from(KEYS)),
        st.tuples(st.just("freeze"), st.booleans()),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 2.0])),
    ),
    max_size=40,
)


def apply_step(model: RowModel, clock: Clock, kind: str, value: object) -> None:
    match kind, value:
        case "set", list(pairs):
            model.set_rows(row(key, pnl) for key, pnl in pairs)
        case "update", (str(key), None | float() as pnl):
            model.update_row(row(key, pnl))
        case "remove", str(key):
            model.remove(key)
        case "sort", (None | str() as column, bool(descending)):
            model.sort_by(column, descending)
        case "filter", str(text):
            model.set_filter(text)
        case "move", int(delta):
            model.move(delta)
        case "choose", str(key):
            model.choose(key)
        case "freeze", bool(freeze):
            model.freeze = freeze
        case "wait", float(seconds):
            clock.now += seconds
            model.tick()
        case _:
            raise AssertionError(f"no step {kind} {value!r}")


@settings(max_examples=500, deadline=None)
@given(STEPS)
def test_the_cursor_is_what_the_user_chose_or_nothing(steps: list[tuple[str, object]]) -> None:
    clock = Clock()
    model = RowModel(COLUMNS, clock)
    held: dict[str, float | None] = {}
    needle = ""
    chosen: str | None = None
    for kind, value in steps:
        before, order_before = model.cursor_key, list(model.view)
        apply_step(model, clock, kind, value)
        match kind, value:
            case "set", list(pairs):
                held = dict(pairs)
            case "update", (str(key), None | float() as pnl):
                held[key] = pnl
            case "remove", str(key):
                held.pop(key, None)
            case "filter", str(text):
                needle = text
        visible = {
            key
            for key, pnl in held.items()
            if any(needle in cell for cell in (key.lower(), "n/a" if pnl is None else f"{pnl:+.2f}", "1 s"))
        }
        assert set(model.view) == visible
        assert len(model.view) == len(visible)
        assert model.total == len(held)
        # The only ways to another row: the user's own move, and the very first row ever shown.
        if kind == "choose" and value in visible:
            chosen = str(value)
        elif kind == "move" and model.view:
            now = model.cursor_key
            assert now is not None
            if before is not None:
                assert isinstance(value, int)
                wanted = max(0, min(len(order_before) - 1, order_before.index(before) + value))
                assert now == order_before[wanted]
            chosen = now
        elif chosen is None and model.view:
            chosen = model.view[0]
        assert model.cursor_key == (chosen if chosen in visible else None)
        assert model.lost_key == (None if chosen in visible else chosen)
        if model.freeze and kind != "filter":
            survivors = [key for key in order_before if key in visible]
            assert [key for key in model.view if key in set(survivors)] == survivors


def test_without_a_freeze_rows_are_sorted_and_unknowns_are_last() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("SOL", 1.0), row("BTC", None), row("ETH", 3.0), row("JUP", math.nan), row("WIF", 2.0)])
    model.sort_by("pnl", descending=True)
    assert model.view == ["ETH", "WIF", "SOL", "BTC", "JUP"]
    model.sort_by("pnl")
    assert model.view == ["SOL", "WIF", "ETH", "BTC", "JUP"]
    model.sort_by("name")
    assert model.view == ["BTC", "ETH", "JUP", "SOL", "WIF"]
    model.sort_by(None)
    assert model.view == ["SOL", "BTC", "ETH", "JUP", "WIF"]


def test_the_order_stands_still_after_a_move_and_catches_up() -> None:
    clock = Clock()
    model = RowModel(COLUMNS, clock)
    model.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
    model.sort_by("pnl")
    model.move(1)
    model.set_rows([row("SOL", 5.0), row("BTC", 2.0), row("ETH", 0.0)])
    assert model.view == ["SOL", "BTC", "ETH"], "frozen: old rows keep their place, new ones come last"
    model.tick(clock.now + FREEZE_S - 0.01)
    assert model.view == ["SOL", "BTC", "ETH"]
    model.tick(clock.now + FREEZE_S)
    assert model.view == ["ETH", "BTC", "SOL"]
    assert model.cursor_key == "BTC"


def test_a_dialog_freezes_even_the_users_own_sorting_until_it_closes() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
    model.freeze = True
    model.sort_by("pnl", descending=True)
    assert model.view == ["SOL", "BTC"]
    model.freeze = False
    assert model.view == ["BTC", "SOL"]


def test_the_users_sorting_does_not_wait_for_the_move_before_it() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
    model.move(1)
    model.sort_by("pnl", descending=True)
    assert model.view == ["BTC", "SOL"]


def test_a_lost_cursor_comes_back_beside_where_it_was() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row(key) for key in KEYS])
    model.choose("ETH")
    model.remove("ETH")
    assert (model.cursor_key, model.lost_key) == (None, "ETH")
    model.move(1)
    assert model.cursor_key == "JUP"
    model.choose("BTC")
    model.remove("BTC")
    model.move(-1)
    assert model.cursor_key == "SOL"


def test_the_chosen_row_gets_its_cursor_back_when_it_returns() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("SOL"), row("BTC")])
    model.choose("BTC")
    model.set_rows([])
    assert model.cursor_key is None
    model.set_rows([row("SOL"), row("BTC")])
    assert model.cursor_key == "BTC"


def test_marks_say_where_a_number_went_and_end() -> None:
    clock = Clock()
    model = RowModel(COLUMNS, clock)
    model.set_rows([row("SOL", 1.0), row("BTC", 1.0), row("ETH", None), row("JUP", 1.0)])
    assert not any(model.held(key).marks for key in model.view), "a first picture is no change"
    model.dirty.clear()
    model.set_rows([row("SOL", 2.0, age="2 s"), row("BTC", 0.5), row("ETH", 1.0), row("JUP", 1.0)])
    assert {key: {c: mark for c, (mark, _) in model.held(key).marks.items()} for key in model.view} == {
        "SOL": {"pnl": "up"},
        "BTC": {"pnl": "down"},
        "ETH": {"pnl": "changed"},
        "JUP": {},
    }
    assert model.dirty == {"SOL", "BTC", "ETH"}
    model.dirty.clear()
    model.tick(clock.now + MARK_S - 0.01)
    assert not model.dirty
    model.tick(clock.now + MARK_S)
    assert model.dirty == {"SOL", "BTC", "ETH"}
    assert not any(model.held(key).marks for key in model.view)


def test_the_same_again_is_no_change() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
    model.dirty.clear()
    model.reordered = False
    model.set_rows([row("SOL", 1.0), row("BTC", 2.0)])
    model.tick()
    assert not model.dirty
    assert not model.reordered


def test_bad_input_is_refused() -> None:
    model = RowModel(COLUMNS, Clock())
    model.set_rows([row("BTC")])
    with pytest.raises(ValueError, match="two rows have the key 'SOL'"):
        model.set_rows([row("SOL"), row("SOL")])
    assert model.view == ["BTC"]
    with pytest.raises(ValueError, match="no column 'x'; the columns are name, pnl, age"):
        model.sort_by("x")
    with pytest.raises(ValueError, match="each with its own id"):
        RowModel((COLUMNS[0], COLUMNS[0]), Clock())


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(0, 4)), min_size=1, max_size=8),
    st.integers(0, 100),
)
def test_narrow_tables_lose_the_least_important_columns(specs: list[tuple[int, int]], width: int) -> None:
    columns = tuple(
        Column(str(i), str(i), column_width, priority=priority) for i, (column_width, priority) in enumerate(specs)
    )
    fitted = fit_columns(columns, width)
    assert fitted
    assert [column.id for column in fitted] == [column.id for column in columns if column in fitted]
    assert len(fitted) == 1 or sum(column.width + 1 for column in fitted) <= width
    dropped = [column for column in columns if column not in fitted]
    if dropped:
        assert max(column.priority for column in fitted) <= min(column.priority for column in dropped)
        # Nothing was left out without need.
        last = min(dropped, key=lambda column: (column.priority, int(column.id)))
        assert sum(column.width + 1 for column in (*fitted, last)) > width
