"""Puts ``tests`` on the import path, so that any test can import the shared builders that lie here (``snapshots``)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

# Loaded before any test module is read, so that each `settings(...)` there inherits from it; --hypothesis-profile
# chooses the other. What a test says itself (its number of examples) holds in both.
settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("dev")

PROPERTY_EXAMPLES = 100


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A documented property is tried with enough examples whatever the profile."""
    for item in items:
        test = getattr(item, "obj", None)
        if item.name.startswith("test_property_") and test is not None and is_hypothesis_test(test):
            examples = test._hypothesis_internal_use_settings.max_examples
            if examples < PROPERTY_EXAMPLES:
                raise pytest.UsageError(f"{item.nodeid} tries {examples} examples; the least is {PROPERTY_EXAMPLES}")


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: no collection has to look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short name. The path of a socket may have 103 bytes, and below the folder of a process of
    pytest-xdist the name of a test leaves too little of them."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture(autouse=True)
def fast_pilot(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The terminal's tests wait for what is to be done and not for wall-clock time."""
    if request.path.parent.name != "tui":
        yield
        return
    import fast_pilot

    fast_pilot.install(monkeypatch)
    yield
    fast_pilot.clean_up()
