"""Parameters of a JSON-RPC call, checked as a node checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from node.chain import LEVELS
from node.wire import invalid, pubkey

if TYPE_CHECKING:
    from solders.pubkey import Pubkey

    from node.chain import Level


class Params:
    """Raise RpcError -32602 for a parameter that is missing or of the wrong type."""

    def __init__(self, raw: object) -> None:
        if raw is not None and not isinstance(raw, list):
            raise invalid("`params` should be an array")
        self._list: list[object] = raw or []

    def _need(self, i: int) -> object:
        if i >= len(self._list):
            raise invalid(f"`params` should have at least {i + 1} argument(s)")
        return self._list[i]

    def text(self, i: int) -> str:
        value = self._need(i)
        if not isinstance(value, str):
            raise invalid(f"invalid type: expected a string at position {i}")
        return value

    def number(self, i: int) -> int:
        value = self._need(i)
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(f"invalid type: expected u64 at position {i}")
        return value

    def pubkey(self, i: int) -> Pubkey:
        return pubkey(self._need(i))

    def texts(self, i: int, at_most: int) -> list[str]:
        value = self._need(i)
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise invalid(f"invalid type: expected a sequence of strings at position {i}")
        if len(value) > at_most:
            raise invalid(f"Too many inputs provided; max {at_most}")
        return [str(v) for v in value]

    def optional(self, i: int) -> object:
        return self._list[i] if i < len(self._list) else None

    def config(self, i: int) -> Config:
        value = self.optional(i)
        if value is not None and not isinstance(value, dict):
            raise invalid(f"invalid type: expected a configuration object at position {i}")
        return Config(value or {})


class Config:
    """The object at the end of most calls."""

    def __init__(self, raw: Mapping[str, object]) -> None:
        self._raw = raw

    def get(self, name: str) -> object:
        return self._raw.get(name)

    def flag(self, name: str) -> bool:
        value = self._raw.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(f"invalid type: expected a boolean for {name}")
        return bool(value)

    def text(self, name: str, default: str) -> str:
        value = self._raw.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(f"invalid type: expected a string for {name}")
        return value or default

    def number(self, name: str) -> int | None:
        value = self._raw.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise invalid(f"invalid type: expected an integer for {name}")
        return value if isinstance(value, int) else None

    def level(self, name: str = "commitment") -> Level:
        """Nodes take finalized where no commitment is given."""
        value = self.text(name, "finalized")
        for level in LEVELS:
            if level == value:
                return level
        raise invalid(f"unknown variant `{value}`, expected one of `processed`, `confirmed`, `finalized`")

    def sequence(self, name: str) -> Sequence[object]:
        value = self._raw.get(name)
        if value is not None and not isinstance(value, list):
            raise invalid(f"invalid type: expected a sequence for {name}")
        return value or []
