"""docs/operations.md knows every code that the engine answers with."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ANSWERS = ("CommandResult", "result", "_end", "Outcome", "replace")
NO_ANSWER = {"AUTOMATION", "SPEED", "STOPPING", "REDUCING"}
"""Of commands that are done: the table names some of these and says what they have in common."""


def codes() -> Iterator[str]:
    """What an error or an answer of the engine has as its code."""
    sources = [*(ROOT / "deltatui" / "engine").glob("*.py"), ROOT / "deltatui" / "venues" / "paper" / "venue.py"]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            if not (name.endswith("Error") or name == "done" or name in ANSWERS):
                continue
            for given in [*node.args, *(keyword.value for keyword in node.keywords)]:
                if isinstance(given, ast.Constant) and re.fullmatch(r"[A-Z]+(_[A-Z]+)*", str(given.value)):
                    yield str(given.value)


def test_every_code_stands_in_the_table_with_what_to_do() -> None:
    table = TEXT.partition("### Codes of answers\n")[2].partition("\n## ")[0]
    told = {
        code
        for line in table.splitlines()
        if line.startswith("| `")
        for code in re.findall(r"`([A-Z_]+)`", line.split("|")[1] + line.split("|")[3])
    }
    assert told == set(codes()) - NO_ANSWER
