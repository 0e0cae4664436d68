"""``python tests/run_suite.py [options of pytest]``: all tests, as `make test` runs them, in two phases.

First, on all cores, what may share the machine; then alone what measures time or drives a real process on a terminal
(marker ``serial``). The last line tells both phases in pytest's own words.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
PARALLEL = ("-n", "auto", "--dist", "worksteal", "-m", "not soak and not serial")
SERIAL = ("-m", "serial and not soak")
NO_TESTS = 5


def main(options: list[str]) -> int:
    """0 if no test failed; else the first exit code of pytest that tells why."""
    began_s = time.perf_counter()
    # A tracer would slow down what measures time, and sees nothing of other processes.
    plain = [option for option in options if not option.startswith("--cov")]
    with tempfile.TemporaryDirectory(prefix="deltatui-suite-") as folder:
        reports = [Path(folder) / "parallel.xml", Path(folder) / "serial.xml"]
        codes = [_pytest(PARALLEL, options, reports[0]), _pytest(SERIAL, plain, reports[1])]
        told = [report.read_bytes() for report in reports if report.exists()]
    print(closing_line(told, time.perf_counter() - began_s))  # noqa: T201
    if all(code == NO_TESTS for code in codes):
        return NO_TESTS
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


def _pytest(phase: tuple[str, ...], options: list[str], report: Path) -> int:
    command = [sys.executable, "-m", "pytest", *phase, f"--junitxml={report}", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def closing_line(reports: list[bytes], took_s: float) -> str:
    """Sum of the phases' JUnit reports, like ``1 failed, 3299 passed, 16 skipped in 245.10s``."""
    names = {"failures": "failed", "errors": "errors", "skipped": "skipped"}
    counts = dict.fromkeys(("failed", "passed", "skipped", "errors"), 0)
    for report in reports:
        for suite in ElementTree.fromstring(report).iter("testsuite"):  # noqa: S314 (pytest has just written it)
            others = {word: int(suite.attrib[name]) for name, word in names.items()}
            counts["passed"] += int(suite.attrib["tests"]) - sum(others.values())
            for word, count in others.items():
                counts[word] += count
    told = [f"{count} {word}" for word, count in counts.items() if count or word == "passed"]
    return f"{', '.join(told)} in {took_s:.2f}s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
