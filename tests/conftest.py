"""Puts ``tests`` on the import path, so that any test can import the shared builders that lie here (``snapshots``)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: no collection has to look through it again."""
    gc.collect()
    gc.freeze()


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
