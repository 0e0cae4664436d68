"""The suite about itself: its closing line, and the examples that a documented property gets."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import PROPERTY_EXAMPLES, pytest_collection_modifyitems
from hypothesis import given, settings
from hypothesis import strategies as st
from run_suite import closing_line


def junit(tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> bytes:
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    return f'<?xml version="1.0"?><testsuites><testsuite name="pytest" {counts}/></testsuites>'.encode()


@pytest.mark.parametrize(
    ("reports", "said"),
    [
        ([junit(10, skipped=2), junit(3)], "11 passed, 2 skipped in 61.50s"),
        ([junit(10, failures=1), junit(3, failures=1, errors=1)], "2 failed, 10 passed, 1 errors in 61.50s"),
        ([junit(2, failures=2)], "2 failed, 0 passed in 61.50s"),
        ([], "0 passed in 61.50s"),
    ],
)
def test_the_closing_line_tells_both_phases(reports: list[bytes], said: str) -> None:
    assert closing_line(reports, 61.5) == said


def collected(name: str, examples: int) -> Any:
    @settings(max_examples=examples)
    @given(st.integers())
    def test(number: int) -> None:
        pass

    return SimpleNamespace(name=name, nodeid=f"file::{name}", obj=test)


def test_a_documented_property_with_few_examples_is_refused() -> None:
    few = PROPERTY_EXAMPLES - 1
    with pytest.raises(pytest.UsageError, match="test_property_07_x tries 99 examples; the least is 100"):
        pytest_collection_modifyitems([collected("test_property_07_x", few)])
    pytest_collection_modifyitems([collected("test_property_07_x", PROPERTY_EXAMPLES), collected("test_other", few)])


def test_a_folder_of_a_test_leaves_room_for_the_path_of_a_socket(tmp_path: Path) -> None:
    assert len(tmp_path.name) <= len("t10000")
