"""What a transaction error means: name and number as the program itself says them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from deltatui.chain.transaction import Payload

ErrorNames = Mapping[str, Mapping[int, str]]
"""Program address -> number -> name, for programs whose logs give the number only."""

_ANCHOR = re.compile(r"Error Code: (\w{1,80})\. Error Number: (\d{1,10})\. Error Message: (.{0,300}?)\.?$")
_CUSTOM = re.compile(r"^Program (\w{32,44}) failed: custom program error: 0x([0-9a-fA-F]{1,8})$")
_FAILED = re.compile(r"^Program (\w{32,44}) failed: (.{1,200})$")
# The node's own state, not the transaction: the same bytes may pass a moment later.
_PASSING = frozenset(
    {
        "AccountInUse",
        "AccountLoadedTwice",
        "BlockhashNotFound",
        "ClusterMaintenance",
        "CommitCancelled",
        "ProgramCacheHitMaxLimit",
        "ResanitizationNeeded",
        "TooManyAccountLocks",
        "WouldExceedAccountDataBlockLimit",
        "WouldExceedAccountDataTotalLimit",
        "WouldExceedMaxAccountCostLimit",
        "WouldExceedMaxBlockCostLimit",
        "WouldExceedMaxVoteCostLimit",
    }
)


class ProgramError(msgspec.Struct, frozen=True):
    """``name`` is the program's own (Solana's where no program spoke); ``number`` only for custom errors.
    ``passing`` tells an error that the same bytes may not meet again."""

    name: str
    number: int | None = None
    instruction: int | None = None
    program: str = ""
    message: str = ""
    passing: bool = False

    @property
    def sentence(self) -> str:
        text = self.name
        if self.number is not None and not self.name.endswith(str(self.number)):
            text += f" ({self.number})"
        if self.instruction is not None:
            text += f" in instruction {self.instruction}"
        if self.program:
            text += f" of program {self.program}"
        return f"{text}: {self.message}" if self.message else text


def read_error(err: Any, logs: Sequence[str] | None, names: ErrorNames | None = None) -> ProgramError:
    """The error of a simulation or a landed transaction, from its JSON and its logs (either may be incomplete)."""
    top, detail = _variant(err)
    if top != "InstructionError":
        return ProgramError(name=top, passing=top in _PASSING)
    index, inner = (detail[0], detail[1]) if isinstance(detail, list) and len(detail) == 2 else (None, detail)
    instruction = index if isinstance(index, int) and not isinstance(index, bool) else None
    name, value = _variant(inner)
    program = _failed_program(logs or ())
    if name != "Custom":
        return ProgramError(name=name, instruction=instruction, program=program)
    number = value if isinstance(value, int) and not isinstance(value, bool) else None
    found, message = _spoken(logs or (), number)
    if not found and number is not None:
        found = (names or {}).get(program, {}).get(number, "") or f"CUSTOM_{number}"
    return ProgramError(found or "CUSTOM", number, instruction, program, message)


def without_budget(error: ProgramError, payload: Payload, leading: int) -> ProgramError:
    """Number the instruction as the payload does: ``leading`` of ours come before it."""
    if error.instruction is None or not 0 <= error.instruction - leading < len(payload.instructions):
        return error
    index = error.instruction - leading
    program = error.program or payload.instructions[index].program
    return msgspec.structs.replace(error, instruction=index, program=program)


def _variant(value: Any) -> tuple[str, Any]:
    """Rust enums come as "Name" or {"Name": detail}."""
    if isinstance(value, str):
        return value[:80], None
    if isinstance(value, dict) and len(value) == 1:
        (name, detail), *_ = value.items()
        return str(name)[:80], detail
    return "UnknownError", value


def _failed_program(logs: Sequence[str]) -> str:
    """The innermost program that failed: the first such line."""
    for line in logs:
        match = _FAILED.match(line)
        if match:
            return match[1]
    return ""


def _spoken(logs: Sequence[str], number: int | None) -> tuple[str, str]:
    """Name and message from an Anchor line that gives the same number."""
    for line in logs:
        match = _ANCHOR.search(line)
        if match and (number is None or int(match[2]) == number):
            return match[1], match[3]
    return "", ""
