"""Theme files: faults, what is shipped, readable colours, live reload on the painted screen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from painted import contrast, painted
from textual.color import Color
from textual.theme import Theme
from tui_fakes import terminal

from deltatui.tui.app import locale_is_ascii
from deltatui.tui.preferences import remember_theme, remembered_theme
from deltatui.tui.themes import MAX_BYTES, VARIABLES, builtin_dir, load_themes, parse_theme, theme_stamp

SHIPPED = load_themes(None).themes
HEX = [theme for theme in SHIPPED if not theme.ansi]
WORDS = ("bright", "label", "faint", "up", "down", "warn", "mark", "replay", "paper", "live")
MODES = ("replay", "paper", "live")

_XTERM = (
    "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff"
)
_VGA = "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa 555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff"
PALETTES = {"xterm": _XTERM.split(), "console": _VGA.split()}
_ANSI = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def rgb(color: str | None) -> tuple[int, int, int]:
    assert color is not None
    return Color.parse(color).rgb


def ansi_rgb(name: str, palette: str, *, dark: bool, background: bool = False) -> tuple[int, int, int]:
    """A named colour in a terminal's own palette, on black or white."""
    if name == "ansi_default":
        return rgb("#000000" if dark == background else "#" + PALETTES[palette][7 if dark else 0])
    word = name.removeprefix("ansi_")
    bright = word.startswith("bright_")
    return rgb("#" + PALETTES[palette][_ANSI.index(word.removeprefix("bright_")) + 8 * bright])


def test_what_is_shipped() -> None:
    assert load_themes(None).faults == ()
    assert {theme.name for theme in SHIPPED} == {
        "dark",
        "light",
        "colour-blind",
        "high-contrast",
        "ansi",
        "ansi-light",
    }


@pytest.mark.parametrize("theme", HEX, ids=lambda theme: theme.name)
def test_every_word_is_readable_on_every_ground(theme: Theme) -> None:
    grounds = {"background": theme.background, "surface": theme.surface, "selection": theme.variables["selection"]}
    words = {"foreground": theme.foreground, **{name: theme.variables[name] for name in WORDS}}
    poor = {
        (word, ground): round(contrast(rgb(ink), rgb(paper)), 2)
        for word, ink in words.items()
        for ground, paper in grounds.items()
        if contrast(rgb(ink), rgb(paper)) < 4.5
    }
    assert poor == {}
    assert contrast(rgb(theme.foreground), rgb(theme.panel)) >= 4.5, "toasts"


@pytest.mark.parametrize("theme", HEX, ids=lambda theme: theme.name)
def test_badges_banners_and_frames_are_seen(theme: Theme) -> None:
    for name in (*MODES, "warn"):
        assert contrast(rgb(theme.variables["badge-text"]), rgb(theme.variables[name])) >= 4.5, name
    for mode in MODES:
        assert contrast(rgb(theme.variables[f"frame-{mode}"]), rgb(theme.background)) >= 2.5, mode
    assert contrast(rgb(theme.variables["frame-live"]), rgb(theme.background)) >= 3.5


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("theme", [theme for theme in SHIPPED if theme.ansi], ids=lambda theme: theme.name)
def test_the_sixteen_colours_are_readable_in_the_usual_palettes(theme: Theme, palette: str) -> None:
    dark = theme.dark
    ground = rgb("#000000" if dark else "#ffffff")
    for name in WORDS:
        assert contrast(ansi_rgb(theme.variables[name], palette, dark=dark), ground) >= 4.5, name
    badge = ansi_rgb(theme.variables["badge-text"], palette, dark=dark)
    for name in (*MODES, "warn"):
        assert contrast(badge, ansi_rgb(theme.variables[name], palette, dark=dark)) >= 4.5, name
    chosen = ansi_rgb(theme.variables["selection"], palette, dark=dark)
    for name in ("bright", "label", "faint"):
        assert contrast(ansi_rgb(theme.variables[name], palette, dark=dark), chosen) >= 4.5, name


@pytest.mark.parametrize("theme", SHIPPED, ids=lambda theme: theme.name)
def test_the_modes_have_colours_of_their_own(theme: Theme) -> None:
    assert len({theme.variables[mode] for mode in MODES}) == 3
    assert len({theme.variables[f"frame-{mode}"] for mode in MODES}) == 3


def test_a_short_theme_gets_the_rest_from_its_own_colours() -> None:
    theme, faults = parse_theme(
        'name = "s"\n[colors]\nprimary="#111111"\nforeground="#222222"\nbackground="#333333"\nerror="#444444"\n', "s"
    )
    assert faults == []
    assert theme is not None
    assert set(VARIABLES) <= set(theme.variables)
    assert theme.variables["live"] == "#444444"
    assert theme.variables["bright"] == "#222222"
    assert theme.variables["up"] == "#111111", "no success colour: the primary one"


GOOD = 'name = "{}"\n[colors]\nprimary="#ffffff"\nforeground="#eeeeee"\nbackground="{}"\n'


def test_two_files_of_one_name_are_a_fault_and_a_users_file_replaces_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD.format("dark", "#010203"))
    (tmp_path / "b.toml").write_text(GOOD.format("dark", "#040506"))
    found = load_themes(tmp_path)
    assert found.faults == ("b.toml: the name 'dark' is taken by a.toml",)
    assert [theme.background for theme in found.themes if theme.name == "dark"] == ["#010203"]


def test_what_is_no_small_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "large.toml").write_text("#" * (MAX_BYTES + 1))
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "deep.toml").write_text("a=" + "[" * 30_000)
    found = load_themes(tmp_path)
    assert [fault.split(":")[0] for fault in found.faults] == [
        "bytes.toml",
        "deep.toml",
        "folder.toml",
        "gone.toml",
        "large.toml",
        "pipe.toml",
    ]
    assert {theme.name for theme in found.themes} == {theme.name for theme in SHIPPED}


def test_a_folder_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert load_themes(tmp_path / "none").faults == ()
    assert theme_stamp(tmp_path / "none") == ()


def write(path: Path, background: str, stamp: int) -> None:
    path.write_text(GOOD.format("mine", background), encoding="utf-8")
    os.utime(path, (stamp, stamp))


async def test_the_active_theme_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    write(path, "#0000fa", 1)
    async with terminal(themes_dir=tmp_path, theme="mine", size=(80, 24)) as t:

        async def grounds_after_a_while() -> set[tuple[int, ...]]:
            for _ in range(10):
                await t.settle()
            # Blending rounds: a part may be off by one.
            return {tuple(round(part, -1) for part in piece.paper) for piece in painted(t.app)}

        assert (0, 0, 250) in await grounds_after_a_while()
        write(path, "#fa0000", 2)
        grounds = await grounds_after_a_while()
        assert (250, 0, 0) in grounds
        assert (0, 0, 250) not in grounds
        write(path, "#nonsense", 3)
        assert (250, 0, 0) in await grounds_after_a_while(), "the last good one stays"
        assert len([toast for toast in t.toasts() if "mine.toml" in toast]) == 1, "told once"
        path.unlink()
        assert (250, 0, 0) in await grounds_after_a_while()
        assert t.app.theme == "mine"


async def test_the_chosen_theme_is_there_again_in_the_next_run(tmp_path: Path) -> None:
    kept = tmp_path / "state" / "terminal.toml"
    async with terminal(preferences=kept) as t:
        assert t.app.theme == "dark"
        assert not kept.exists(), "what was not chosen is not kept"
        t.app.set_theme("light")
        await t.settle()
        assert t.toasts() == ["theme light"]
    async with terminal(preferences=kept) as t:
        assert t.app.theme == "light"
        await t.press("T")
        assert t.app.theme == remembered_theme(kept) != "light"
        t.app.set_theme("none such")
        assert t.app.theme == remembered_theme(kept)
    async with terminal(preferences=kept, theme="ansi") as t:
        assert t.app.theme == "ansi", "the flag wins"
    assert remembered_theme(kept) != "ansi", "a flag is not a choice for later runs"


async def test_a_remembered_theme_that_is_gone_is_told(tmp_path: Path) -> None:
    kept = tmp_path / "terminal.toml"
    remember_theme(kept, 'odd "name"')
    assert remembered_theme(kept) == 'odd "name"'
    async with terminal(preferences=kept) as t:
        assert t.app.theme == "dark"
        assert any("""there is no theme 'odd "name"'""" in toast for toast in t.toasts())


@pytest.mark.parametrize("content", [b"theme = 7", b"theme", b"\xff\xfe", b"", b"a=" + b"[" * 30_000])
def test_a_spoilt_preference_is_no_preference(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "terminal.toml"
    path.write_bytes(content)
    assert remembered_theme(path) is None
    assert remembered_theme(None) is None
    assert remembered_theme(tmp_path) is None


async def test_a_choice_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with terminal(preferences=tmp_path / "file" / "terminal.toml") as t:
        await t.press("T")
        assert any("not kept for the next run" in toast for toast in t.toasts())


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LC_ALL": "POSIX", "LANG": "en_GB.UTF-8"}, True),
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, True),
        ({"LANG": "C"}, True),
        ({"LC_ALL": "", "LANG": "en_GB.UTF-8"}, False),
        ({"LC_ALL": "C.utf8", "LANG": "C"}, False),
        ({"LC_CTYPE": "UTF-8", "LANG": "C"}, False),
    ],
)
def test_a_locale_without_utf8_gets_ascii(env: dict[str, str], expected: bool) -> None:
    assert locale_is_ascii(env) is expected


def test_the_example_of_the_document_is_a_theme() -> None:
    document = (builtin_dir().parent / "docs" / "themes.md").read_text(encoding="utf-8")
    example = document.split("```toml\n")[1].split("```")[0]
    theme, faults = parse_theme(example, "themes.md")
    assert faults == []
    assert theme is not None
    assert all(f"`{name}`" in document for name in VARIABLES)
    assert all(f"`{theme.name}`" in document for theme in SHIPPED)
