"""``python tests/coverage_gate.py``: whether the tests that have just run covered enough. Run by .ci/run.

Reads ``.coverage`` (statements, `[tool.coverage]` in pyproject.toml) and exits with 1 where a group is below its share.
"""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from coverage import Coverage

ROOT = Path(__file__).resolve().parent.parent


class Group(NamedTuple):
    """``files`` are paths below ``deltatui``, or folders with a slash at the end; the share holds for them together."""

    name: str
    least_pct: float
    files: tuple[str, ...]


GROUPS = (
    Group("engine", 90.0, ("engine/",)),
    Group("domain", 90.0, ("domain/",)),
    Group(
        "error handling",
        80.0,
        (
            "domain/errors.py",
            "domain/redact.py",
            "engine/supervisor.py",
            "engine/recovery.py",
            "store/faults.py",
            "store/copies.py",
            "chain/errors.py",
            "chain/program_error.py",
            "log.py",
        ),
    ),
    Group(
        "commands",
        85.0,
        (
            "domain/command.py",
            "engine/desk.py",
            "engine/questions.py",
            "engine/control.py",
            "engine/actions.py",
            "cli.py",
            "cli_chain.py",
            "cli_trade.py",
        ),
    ),
)


def main() -> int:
    coverage = Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))
    coverage.load()
    too_low = False
    for group in GROUPS:
        covered_pct = percent(coverage, group)
        too_low |= covered_pct < group.least_pct
        print(f"coverage of {group.name}: {covered_pct:.1f} %, at least {group.least_pct:g} %")  # noqa: T201
    return int(too_low)


def percent(coverage: Coverage, group: Group) -> float:
    """Share of the group's statements that ran. Raises SystemExit for a file that was not measured."""
    package = ROOT / "deltatui"
    measured = coverage.get_data().measured_files()
    wanted = [file for name in group.files for file in files_of(package / name)]
    unseen = [str(file.relative_to(ROOT)) for file in wanted if str(file) not in measured]
    if unseen:
        sys.exit(
            f"coverage of {group.name}: {', '.join(unseen)} was not measured; correct GROUPS or [tool.coverage.run]"
        )
    return coverage.report(include=[str(file) for file in wanted], file=StringIO())


def files_of(path: Path) -> list[Path]:
    return sorted(path.glob("*.py")) if path.is_dir() else [path]


if __name__ == "__main__":
    sys.exit(main())
