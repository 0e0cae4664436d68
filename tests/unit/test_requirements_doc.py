"""docs/requirements.md stands for itself and says what is so."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "requirements.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")

NUMBER = re.compile(r"\bR\d+\.\d+\b")
DEFINED = re.findall(r"^- (R\d+\.\d+) ", TEXT, re.MULTILINE)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """Cells of the table in that section, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def files(*endings: str, under: str) -> Iterator[Path]:
    return (path for path in (ROOT / under).rglob("*") if path.suffix in endings)


def property_tests() -> dict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for name in all_tests():
        if of_property := re.match(r"test_property_(\d\d)(?:_and_(\d\d))?_", name):
            for number in of_property.groups():
                if number is not None:
                    found[int(number)].add(name)
    return found


def all_tests() -> set[str]:
    return {
        name
        for path in files(".py", under="tests")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_every_number_is_given_once() -> None:
    assert len(DEFINED) == len(set(DEFINED)) > 100


def test_every_requirement_that_is_mentioned_is_defined() -> None:
    paths = [
        *files(".py", ".md", ".tcss", under="deltatui"),
        *files(".py", ".md", under="tests"),
        *files(".md", under="docs"),
        *ROOT.glob("*.md"),
    ]
    unknown = {
        f"{path.relative_to(ROOT)}: {number}"
        for path in paths
        for number in set(NUMBER.findall(path.read_text(encoding="utf-8"))) - set(DEFINED)
    }
    assert not unknown


def test_what_is_missing_is_named_once() -> None:
    lacking = section("How far this version is")
    not_yet = NUMBER.findall(lacking[: lacking.index("In part:")].partition("Not yet:")[2])
    in_part = [cells[0] for cells in rows("How far this version is")]
    assert not_yet
    assert len(not_yet + in_part) == len(set(not_yet + in_part))


def test_the_documented_functions_are_those_of_the_table() -> None:
    in_code = {
        name
        for path in files(".py", under="deltatui")
        for name in re.findall(r"^\s*(?:async )?def (documented_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    in_table = {
        name for cells in rows("What the original papers say") for name in re.findall(r"documented_\w+", cells[-1])
    }
    assert in_code == in_table
    assert in_code


def test_the_constants_beside_them_are_where_it_says() -> None:
    told = re.findall(r"`(DOCUMENTED_\w+)`\s+\(`([^`]+)`\)", section("What the original papers say"))
    assert len(told) == 2
    for name, path in told:
        assert re.search(rf"^{name} = ", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), name


def test_every_property_has_its_test_or_says_that_it_has_none() -> None:
    known, of_property = all_tests(), property_tests()
    table = rows("The documented properties")
    assert [int(cells[0]) for cells in table] == list(range(1, 55))
    for cells in table:
        number, proof = int(cells[0]), cells[-1]
        named = set(re.findall(r"`(test_\w+)`", proof))
        assert named <= known, f"property {number} names tests that do not exist: {named - known}"
        if proof.startswith("not yet"):
            assert not of_property[number], f"property {number} says 'not yet' and has {of_property[number]}"
        else:
            assert named, f"property {number} names no test"
            assert named <= of_property[number], f"property {number} names tests of other properties: {named}"


@pytest.mark.parametrize("pointer", [r"\.\./", r"https?://", r"(?<![\w/])(?:facts|data|screens|shared)/"])
def test_it_points_to_nothing_outside_the_project(pointer: str) -> None:
    assert not re.findall(rf".*{pointer}.*", TEXT)


def test_what_it_points_to_is_there() -> None:
    """Links, files by name, and paths of the project."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    documents = re.findall(r"[\w./-]+\.md\b", TEXT)
    for target in {*links, *documents}:
        assert (DOCUMENT.parent / target).is_file(), target
    paths = set(re.findall(r"\b(?:deltatui|tests|docs|bench|tools)/[\w./-]*\w", TEXT))
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path
    for anchor in re.findall(r"\]\(#([^)]+)\)", TEXT):
        titles = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
        assert anchor in {title.lower().replace(" ", "-") for title in titles}, anchor
