"""The four kinds of error. Their docstrings say what the engine does with each (R9.3)."""

from __future__ import annotations


class DeltatuiError(Exception):
    """Base of the four kinds: a stable ``code`` for programs and a ``sentence`` for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence

    def __reduce__(self) -> tuple[type[DeltatuiError], tuple[str, str]]:
        return (type(self), (self.code, self.sentence))


class TransientError(DeltatuiError):
    """May pass by itself. The engine retries up to three times (1, 2, 4 s), then treats it as unresolved."""


class ValidationError(DeltatuiError):
    """The request cannot be done as asked. The engine rejects it, tells the caller why, and changes nothing."""


class CriticalError(DeltatuiError):
    """The engine's picture of the world cannot be trusted. It goes to HALTED and tells the operator what is open."""


class UnresolvedError(DeltatuiError):
    """The outcome of an operation is not known. New risk is blocked until reconciliation has found it out."""
