"""Every venue against every case of the kit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from venue_kit.cases import CASES, Case
from venue_kit.paper import PaperRig
from venue_kit.rig import Rig

VENUES: dict[str, Callable[[], Rig]] = {"paper": PaperRig}

SKIPS: dict[str, frozenset[int]] = {"paper": frozenset()}
"""Cases that a venue cannot play yet. An entry may go, none may come."""


def playable(rig: Rig, case: Case) -> bool:
    return case.needs <= rig.capabilities


@pytest.mark.parametrize("number", sorted(CASES))
@pytest.mark.parametrize("venue", sorted(VENUES))
async def test_a_venue_passes_the_case(venue: str, number: int) -> None:
    case, rig = CASES[number], VENUES[venue]()
    if not playable(rig, case):
        lacking = ", ".join(sorted(case.needs - rig.capabilities))
        pytest.skip(f"{venue} cannot play case {number} ({case.name}): {lacking}")
    async with rig.opened(case) as opened:
        await case.run(opened)


@pytest.mark.parametrize("venue", sorted(VENUES))
def test_nothing_is_skipped_that_is_not_on_the_list(venue: str) -> None:
    rig = VENUES[venue]()
    assert {number for number, case in CASES.items() if not playable(rig, case)} == SKIPS[venue]


def test_a_rig_without_a_capability_skips_what_needs_it() -> None:
    rig = PaperRig()
    rig.capabilities = frozenset()
    assert {number for number, case in CASES.items() if playable(rig, case)} == {1}
