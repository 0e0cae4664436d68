"""Intents: whoever sends the same command again, because its answer was lost, gets the first answer (R8.1)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine

import msgspec

from deltatui.domain.command import AnyCommand, CommandResult, Kill, ResultStatus
from deltatui.domain.principal import Principal

_REMEMBERED = 1000


class _Intent(msgspec.Struct):
    command: AnyCommand
    answer: asyncio.Future[CommandResult]


class Intents:
    """Remembers the last thousand intents of this process; across a restart the operation ids made of them do."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], _Intent] = OrderedDict()

    async def once(
        self,
        command: AnyCommand,
        principal: Principal,
        answer: Callable[[AnyCommand, Principal], Coroutine[None, None, CommandResult]],
    ) -> CommandResult:
        """The answer to ``command``, made once for each intent of a principal. Another command under a used intent is
        refused; a kill never is, and kills again."""
        intent, key = command.intent_id, (principal.name, command.intent_id)
        if not intent or isinstance(command, Kill):
            return await answer(command, principal)
        known = self._known.get(key)
        if known is None:
            future = asyncio.ensure_future(answer(command, principal))
            self._known[key] = _Intent(command, future)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return await asyncio.shield(future)
        if _same(known.command, command):
            return await asyncio.shield(known.answer)
        before, now = type(known.command).__name__.lower(), type(command).__name__.lower()
        different = "another" if before == now else "a"
        sentence = (
            f"intent {intent} was a {before}, and this is {different} {now}; nothing was done: use a new intent id"
        )
        return CommandResult(ResultStatus.REJECTED, "INTENT_USED", sentence, intent_id=intent)

    def ended(self, principal: str, intent: str, result: CommandResult) -> None:
        """What became of an intent of the principal of that name whose first answer was a question."""
        known = self._known.get((principal, intent))
        if known is not None:
            known.answer = asyncio.get_running_loop().create_future()
            known.answer.set_result(msgspec.structs.replace(result, intent_id=intent))


def _same(first: AnyCommand, second: AnyCommand) -> bool:
    """Whether both ask for the same; a client that sends again may look at a newer snapshot."""
    return msgspec.structs.replace(first, snapshot_version=0) == msgspec.structs.replace(second, snapshot_version=0)
