"""Pictures of the screen: every character and every colour, in three sizes and three kinds of terminal.

A picture is a text file under tests/tui/pictures: the lines of the screen, a legend of looks, and for each line its
runs of looks (``a40 b3``: 40 cells of look a, then 3 of b). Clocks stand still. DELTATUI_WRITE_PICTURES=1 writes them
anew; look at the difference before committing. A look keeps its letter as long as its picture has it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from painted import SIXTEEN, Look, Run, runs
from rich.cells import cell_len
from rich.color import ColorSystem
from snapshots import make_confirmation, make_hedge, with_hedge
from test_tui_screen import full_detail, full_engine, full_snapshot, log_lines
from textual.geometry import Region
from tui_fakes import FakeClient, FakeEngine, Terminal, make_history, replace, terminal

from deltatui.domain.snapshot import AlertView, Snapshot
from deltatui.tui.themes import DEFAULT_THEME

PICTURES = Path(__file__).parent / "pictures"
WRITE = "DELTATUI_WRITE_PICTURES"
MOST_LINES_OF_DIFF = 80


class Mode(NamedTuple):
    """A kind of terminal: what the app is told and what the terminal makes of its colours."""

    system: ColorSystem
    options: dict[str, Any]


MODES = {
    "truecolor": Mode(ColorSystem.TRUECOLOR, {"theme": DEFAULT_THEME}),
    "16-colours": Mode(ColorSystem.STANDARD, {"theme": "ansi"}),
    "ascii": Mode(ColorSystem.TRUECOLOR, {"theme": DEFAULT_THEME, "ascii_only": True}),
}
SMALL, MEDIUM, WIDE = (80, 24), (120, 35), (160, 48)


# Scenes


def live_snapshot() -> Snapshot:
    """Real money, and two warnings."""
    base = full_snapshot()
    alerts = (
        AlertView("a", "WARNING", "funding record 12 m late", 0.0),
        AlertView("b", "CRITICAL", "health 15, liquidation at 212.50", 0.0),
    )
    account = replace(base.account, health=15, liq_price=212.5, liq_distance_pct=12.2, delegate="7xKpQm4tZr9AbCdEfGh2")
    clock = replace(base.clock, tape=None, speed=1)
    engine = replace(base.engine, mode="live", live_mode="trade", venue="drift")
    return replace(base, engine=engine, clock=clock, account=account, alerts=alerts)


def two_held() -> Snapshot:
    """A hedge in each of two markets."""
    base, btc = full_snapshot(), make_hedge("BTC-PERP")
    perp, spot = base.positions
    rows = (
        replace(
            perp, key="BTC-PERP", market="BTC-PERP", size=-0.0152, entry_price=95_120.4, mark_price=94_190.0,
            notional=1_431.7, unrealized_pnl=14.1, unsettled_pnl=2.0, funding=1.9, settled_pnl=0.0, total_pnl=1.9,
            liq_price=141_870.0, liq_distance_pct=50.6,
        ),
        replace(
            spot, key="wBTC", market="wBTC", size=0.0152, entry_price=95_140.0, mark_price=94_214.5, notional=1_432.1,
            unrealized_pnl=-14.1,
        ),
    )  # fmt: skip
    delta = replace(btc.delta, spot=0.0152, perp=-0.0152, reason="within the tolerance of 1.0 %")
    carry = replace(
        btc.carry, stance="CARRY", decision="CARRY", sentence="a short receives 8.1 % a year", held_by="operator",
        now_apr=8.1, day_apr=7.7, week_apr=5.2, expected_per_hour=0.0133, break_even_h=146.0,
        held_since_market_s=base.clock.market_s, held_earned=1.9, round_trip_cost=1.6,
    )  # fmt: skip
    held = with_hedge(base, "BTC-PERP", delta=delta, carry=carry, liq_price=141_870.0, liq_distance_pct=50.6)
    return replace(held, positions=(*base.positions, *rows))


async def _other_market(t: Terminal) -> None:
    t.app.operator.select("BTC-PERP")
    await t.wait(0.5)


async def _take_btc(t: Terminal) -> None:
    await _other_market(t)
    await t.press("t", *"0.0152")
    await t.wait(0.5)


async def _two_questions(t: Terminal) -> None:
    other = make_confirmation(operation_id="op-0008", market="BTC-PERP", kind="LEAVE")
    await t.publish(confirmations=(make_confirmation(verdicts=full_detail().gates), other))
    await t.wait(0.5)


async def _nothing(t: Terminal) -> None:
    """The main screen as it is."""


def _keys(*keys: str) -> Callable[[Terminal], Awaitable[None]]:
    async def press(t: Terminal) -> None:
        await t.press(*keys)
        await t.wait(0.5)

    return press


async def _confirm(t: Terminal) -> None:
    await t.publish(confirmations=(make_confirmation(verdicts=full_detail().gates),))
    await t.wait(0.5)


async def _lose(t: Terminal) -> None:
    t.engine.drop()
    await t.wait(180.0, publish=False)


async def _age(t: Terminal) -> None:
    await t.wait(180.0, publish=False)


class SilentEngine(FakeEngine):
    """Answers, and has no snapshot yet."""

    async def connect(self) -> FakeClient:
        client = await super().connect()
        client._queue.get_nowait()
        return client


class Scene(NamedTuple):
    """What a picture shows: the sizes it is taken in, the engine's snapshot (None: none has come), what is done."""

    sizes: tuple[tuple[int, int], ...]
    do: Callable[[Terminal], Awaitable[None]] = _nothing
    snapshot: Callable[[], Snapshot] | None = full_snapshot


SCENES = {
    "main": Scene((SMALL, MEDIUM, WIDE)),
    "confirm": Scene((SMALL, MEDIUM, WIDE), _confirm),
    "markets": Scene((SMALL, MEDIUM, WIDE), _other_market, two_held),
    "questions": Scene((SMALL,), _two_questions, two_held),
    "take": Scene((SMALL,), _keys("t")),
    "take-btc": Scene((SMALL,), _take_btc),
    "withdraw": Scene((MEDIUM,), _keys("w", "5")),
    "kill": Scene((SMALL,), _keys("exclamation_mark")),
    "help": Scene((MEDIUM,), _keys("question_mark")),
    "palette": Scene((SMALL,), _keys("colon")),
    "why": Scene((MEDIUM,), _keys("3")),
    "old": Scene((WIDE,), _age),
    "lost": Scene((SMALL,), _lose),
    "live": Scene((WIDE,), _nothing, live_snapshot),
    "empty": Scene((MEDIUM,), _nothing, None),
}
CASES = [
    pytest.param(mode, size, scene, id=f"{mode}-{scene}-{size[0]}x{size[1]}")
    for mode in MODES
    for scene, (sizes, *_) in SCENES.items()
    for size in sizes
]


@asynccontextmanager
async def staged(mode: str, size: tuple[int, int], name: str) -> AsyncIterator[Terminal]:
    scene = SCENES[name]
    engine = full_engine(scene.snapshot()) if scene.snapshot is not None else SilentEngine()
    async with terminal(engine, size=size, **MODES[mode].options) as t:
        if scene.snapshot is not None:
            log_lines(engine)
            engine.tell_history(make_history())
        await t.settle()
        await scene.do(t)
        await t.settle()
        yield t


# The file


def letters() -> Iterator[str]:
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    yield from alphabet
    for number in count(2):
        yield from (f"{letter}.{number}." for letter in alphabet)


def legend_of(picture: str) -> dict[str, str]:
    """Look to letter, as a written picture has them."""
    legend = picture.partition("\n[looks]\n")[2].partition("\n[runs]\n")[0]
    return {look: letter for letter, _, look in (line.partition(" ") for line in legend.splitlines())}


def draw(lines: list[str], painted: list[list[Run]], before: str = "") -> str:
    """The picture as text. ``before`` is the picture that it replaces: looks keep their letters."""
    known = legend_of(before)
    free = (letter for letter in letters() if letter not in known.values())
    legend: dict[str, str] = {}
    rows = []
    for number, line in enumerate(painted, 1):
        for run in line:
            look = str(run.look)
            if look not in legend:
                legend[look] = known.get(look) or next(free)
        rows.append(f"{number:>2} " + " ".join(f"{legend[str(run.look)]}{run.cells}" for run in line))
    names = sorted(legend.items(), key=lambda item: (len(item[1]), item[1].swapcase()))
    parts = [*lines, "[looks]", *(f"{letter} {look}" for look, letter in names), "[runs]", *rows]
    return "\n".join(parts) + "\n"


def check_picture(path: Path, lines: list[str], painted: list[list[Run]]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    now = draw(lines, painted, before)
    if os.environ.get(WRITE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(now, encoding="utf-8")
        return
    if not before:
        pytest.fail(f"{path} is missing; {WRITE}=1 writes it")
    if now != before:
        name = f"{path.parent.name}/{path.name}"
        diff = list(difflib.unified_diff(before.splitlines(), now.splitlines(), name, "the screen now", "", "", 1, ""))
        rest = [f"... {len(diff) - MOST_LINES_OF_DIFF} more lines"] if len(diff) > MOST_LINES_OF_DIFF else []
        text = "\n".join([*diff[:MOST_LINES_OF_DIFF], *rest])
        pytest.fail(f"the screen differs from the picture; {WRITE}=1 writes it anew\n{text}", pytrace=False)


def picture_path(mode: str, size: tuple[int, int], scene: str) -> Path:
    return PICTURES / mode / f"{scene}-{size[0]}x{size[1]}.txt"


# What holds in every picture


def cells_of(line: str, width: int) -> list[str]:
    """The line cell by cell; a wide character is followed by an empty one."""
    cells: list[str] = []
    for char in line:
        cells += [char, *[""] * (cell_len(char) - 1)] if cell_len(char) else []
    return cells + [" "] * (width - len(cells))


CORNERS = {
    ("╭", "╮", "╰", "╯"): "─│▔▁▐▌",
    ("┌", "┐", "└", "┘"): "─│",
    ("┏", "┓", "┗", "┛"): "━┃",
    ("+", "+", "+", "+"): "-|",
}


def open_frames(t: Terminal, lines: list[str]) -> list[str]:
    """Boxes whose corners or sides are not all there. What a dialog or a toast covers is not looked at."""
    grid = [cells_of(line, t.app.size.width) for line in lines]
    faults = []
    screens = t.app.screen_stack
    for depth, screen in enumerate(screens):
        over = [
            widget.region
            for above in screens[depth + 1 :]
            for widget in above.query("#dialog, .jump")
            if widget.is_on_screen
        ] + [toast.region for toast in t.app.screen.query("Toast")]
        for widget in screen.query(".pane, #dialog"):
            region = widget.region
            if not (widget.is_on_screen and widget.display and region.area):
                continue
            faults += [f"{widget.id}: {fault}" for fault in _faults(grid, region, over)]
    return faults


def _faults(grid: list[list[str]], region: Region, over: list[Region]) -> Iterator[str]:
    def seen(x: int, y: int) -> str | None:
        return None if any(other.contains(x, y) for other in over) else grid[y][x]

    left, top, right, bottom = region.x, region.y, region.right - 1, region.bottom - 1
    places = ((left, top), (right, top), (left, bottom), (right, bottom))
    found = [seen(x, y) for x, y in places]
    kinds = [
        (corners, edges)
        for corners, edges in CORNERS.items()
        if all(char is None or char == corner for char, corner in zip(found, corners, strict=True))
    ]
    if not kinds:
        yield f"corners {found} at {places}"
        return
    edges = {edge for _, kind in kinds for edge in kind}
    for y in range(top + 1, bottom):
        for x in (left, right):
            if seen(x, y) not in (None, *edges):
                yield f"side is {seen(x, y)!r} at {x},{y}"
    # Between them stand a title and a subtitle.
    for y in (top, bottom):
        for x in (left + 1, right - 1):
            if seen(x, y) not in (None, *edges):
                yield f"edge is {seen(x, y)!r} at {x},{y}"


@pytest.mark.parametrize(("mode", "size", "scene"), CASES)
async def test_picture(mode: str, size: tuple[int, int], scene: str) -> None:
    async with staged(mode, size, scene) as t:
        lines, painted = t.lines(), runs(t.app, MODES[mode].system)
        raw = runs(t.app, ColorSystem.TRUECOLOR)
        frames = open_frames(t, lines)
    width, height = size
    assert len(lines) == height
    assert [line for line in lines if cell_len(line) > width] == []
    assert [sum(run.cells for run in line) for line in painted] == [width] * height
    assert frames == []
    if SCENES[scene].snapshot is not None:
        badge = "LIVE TRADE" if scene == "live" else "REPLAY"
        assert badge in lines[0]
        assert not any(word in lines[0] for word in {"REPLAY", "PAPER", "LIVE"} - {badge.split()[0]})
    if mode == "ascii":
        assert [line for line in lines if not line.isascii()] == []
    if mode == "16-colours":
        colours = {colour for line in raw for run in line for colour in (run.look.ink, run.look.paper)}
        assert colours <= {*SIXTEEN, "default", ""}, "before the terminal rounds"
    check_picture(picture_path(mode, size, scene), lines, painted)


def test_every_file_is_the_picture_of_a_case() -> None:
    wanted = {picture_path(*case.values) for case in CASES}  # type: ignore[arg-type]
    assert set(PICTURES.rglob("*.*")) == wanted
    assert max(path.stat().st_size for path in wanted) < 30_000


# The mechanism


def test_a_picture_sees_a_colour_that_changes() -> None:
    red, green = Look("red", "black"), Look("green", "black")
    before = draw(["word"], [[Run(red, 4)]])
    after = draw(["word"], [[Run(green, 4)]], before)
    assert before == "word\n[looks]\na red on black\n[runs]\n 1 a4\n"
    assert after == "word\n[looks]\nb green on black\n[runs]\n 1 b4\n"


def test_a_look_keeps_its_letter() -> None:
    red, green = Look("red", "black"), Look("green", "black", ("bold",))
    before = draw(["word"], [[Run(red, 4)]])
    after = draw(["word", "word"], [[Run(green, 4)], [Run(red, 3), Run(green, 1)]], before)
    assert "a red on black\nb bold green on black\n" in after
    assert " 1 b4\n 2 a3 b1\n" in after
    assert draw(["word", "word"], [[Run(green, 4)], [Run(red, 3), Run(green, 1)]], after) == after


def test_a_difference_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WRITE, raising=False)
    path = tmp_path / "x.txt"
    with pytest.raises(pytest.fail.Exception, match="is missing"):
        check_picture(path, ["health 97"], [[Run(Look("red", "black"), 9)]])
    path.write_text(draw(["health 97"], [[Run(Look("red", "black"), 9)]]), encoding="utf-8")
    check_picture(path, ["health 97"], [[Run(Look("red", "black"), 9)]])
    with pytest.raises(pytest.fail.Exception) as caught:
        check_picture(path, ["health 98"], [[Run(Look("blue", "black"), 9)]])
    for line in ("-health 97", "+health 98", "-a red on black", "+b blue on black"):
        assert line in str(caught.value).splitlines()
    monkeypatch.setenv(WRITE, "1")
    check_picture(path, ["health 98"], [[Run(Look("blue", "black"), 9)]])
    monkeypatch.delenv(WRITE)
    check_picture(path, ["health 98"], [[Run(Look("blue", "black"), 9)]])
