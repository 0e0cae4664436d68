"""What the terminal keeps from run to run: the theme that the operator chose. Never needed, so never in the way."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path


def remembered_theme(path: Path | None) -> str | None:
    """The theme chosen last; None where nothing is kept, or nothing that can be read."""
    if path is None:
        return None
    try:
        theme = tomllib.loads(path.read_text(encoding="utf-8")).get("theme")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        return None
    return theme if isinstance(theme, str) else None


def remember_theme(path: Path | None, theme: str) -> str | None:
    """Keep the choice for the next run. Returns what went wrong, None if nothing did."""
    if path is None:
        return None
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A JSON string is a TOML string.
        beside.write_text(f"theme = {json.dumps(theme)}\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
