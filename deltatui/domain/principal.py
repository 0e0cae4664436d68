"""Who gives a command. Set by the session that it came through, never by the client."""

from __future__ import annotations

from typing import Literal

import msgspec

Source = Literal["operator", "api", "engine"]
Power = Literal["watch", "manage", "trade", "auto"]
"""In rising order (R2.1)."""


class Principal(msgspec.Struct, frozen=True):
    """``name`` tells two of the same source apart: intents are counted for each. ``power`` is the most that he may do,
    whatever the live mode allows."""

    source: Source
    name: str
    power: Power = "auto"


OPERATOR = Principal("operator", "operator")
"""Whoever can open the engine's unix socket."""
ENGINE = Principal("engine", "engine")
"""The engine's own automation."""
