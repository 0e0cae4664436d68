"""Asking the engine what a command would do while its size is being typed: never more than one question at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deltatui.domain.errors import DeltatuiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from deltatui.api.protocol import Previewed
    from deltatui.domain.snapshot import PlanView

ASK_GAP_S = 0.25
"""Between two questions, however fast the size changes."""
ASK_AGAIN_S = 1.0
"""The same question again: prices move."""


class Previews:
    """The newest wish and what is known of it. An answer to an older wish is dropped.

    ``ask`` raises a DeltatuiError where it could not be given or there is no answer; ``start`` runs a question in the
    background; ``news`` is called after each answer. Whoever owns this calls ``want`` at every tick and change.
    """

    def __init__(
        self,
        ask: Callable[[Previewed], Awaitable[PlanView]],
        start: Callable[[Coroutine[None, None, None]], None],
        clock: Callable[[], float],
        news: Callable[[], None],
    ) -> None:
        self._ask, self._start, self._clock, self._news = ask, start, clock, news
        self._wish: Previewed | None = None
        self._asked: Previewed | None = None
        self._asked_at: float | None = None
        self._under_way = False
        self._plan: PlanView | None = None
        self._plan_of: Previewed | None = None
        self._plan_at = 0.0
        self._fault = ""
        self._fault_of: Previewed | None = None

    def want(self, wish: Previewed | None, now: float) -> None:
        """``wish`` is what the operator means now; None: nothing that could be asked."""
        self._wish = wish
        if wish is None or self._under_way:
            return
        wait_s = ASK_AGAIN_S if wish == self._asked else ASK_GAP_S
        if self._asked_at is not None and now - self._asked_at < wait_s:
            return
        self._asked, self._asked_at, self._under_way = wish, now, True
        self._start(self._question(wish))

    async def _question(self, wish: Previewed) -> None:
        plan, fault = None, ""
        try:
            plan = await self._ask(wish)
        except DeltatuiError as error:
            fault = error.sentence or error.code
        finally:
            self._under_way = False
        if wish == self._wish:
            self._fault, self._fault_of = fault, wish
            if plan is not None:
                self._plan, self._plan_of, self._plan_at = plan, wish, self._clock()
        self._news()

    @property
    def plan(self) -> PlanView | None:
        """What the present wish would do; None until that is known."""
        return self._plan if self._plan_of == self._wish and self._wish is not None and not self.fault else None

    @property
    def last_plan(self) -> PlanView | None:
        """The newest plan of any wish: what it says of the time before the command holds for each."""
        return self._plan

    @property
    def fault(self) -> str:
        """Why there is no plan of the present wish; empty where nothing speaks against one."""
        return self._fault if self._fault_of == self._wish and self._wish is not None else ""

    def age_s(self, now: float) -> float:
        """Since ``last_plan`` came."""
        return max(0.0, now - self._plan_at)
