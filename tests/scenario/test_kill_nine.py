"""R9.4: ``kill -9`` of the engine at every step of an operation, and at every step of the recovery from it.

Real processes, killed by the kernel, on a real file. What the next engine finds on that file is judged: one outcome for
each operation, both legs or none, no fill twice, books that tie to the exchange, and an intent that trades only once.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from crash_child import FILE, SCENARIOS, Answer, Job, OperationReport, Report, State

from deltatui.domain.operation import OperationState

pytestmark = pytest.mark.slow

CHILD = Path(__file__).parents[1] / "crash_child.py"
FINAL = {state.value for state in OperationState if state.final}

OPERATIONS = [name for name in SCENARIOS if name not in ("funding", "pause", "automation off")]
# The others recover as one of these does.
RECOVERIES = [name for name in OPERATIONS if name not in ("settle", "withdraw", "automatic take", "automatic leave")]
PARTS = 3
"""A scenario has dozens of steps; each test takes every third of them, so that the cores share one scenario."""
BY_ITSELF = [name for name in OPERATIONS if name.startswith("automatic")]
TWO_MARKETS = [name for name in OPERATIONS if len(SCENARIOS[name].markets) > 1]
IN_ANY_ORDER = {*BY_ITSELF, *TWO_MARKETS}
"""Where several things go on at the same time, the disk decides which step comes first."""


class Children:
    """The process that forks engines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.process = subprocess.Popen([sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answer(self, job: Job) -> Answer:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(msgspec.json.encode(job) + b"\n")
        self.process.stdin.flush()
        return msgspec.json.decode(self.process.stdout.readline(), type=Answer)

    def report(self, job: Job) -> Report:
        """Of a job that is to live."""
        answer = self.answer(job)
        assert answer.report is not None, f"{job}: {answer.error or answer}"
        return answer.report

    def folder(self, like: Path | None = None) -> Path:
        """A new profile, empty or with a copy of another's file as a killed process leaves it."""
        self._number += 1
        folder = self._folder / str(self._number)
        folder.mkdir()
        if like is not None:
            for file in like.glob(FILE + "*"):
                shutil.copyfile(file, folder / file.name)
        return folder

    def killed(self, like: Path, job: Job) -> tuple[Path, str]:
        """The file that an engine leaves that is killed; the name of the step at which it was."""
        folder = self.folder(like)
        answer = self.answer(msgspec.structs.replace(job, folder=str(folder)))
        assert answer.signal == signal.SIGKILL, answer
        assert answer.report is None
        return folder, answer.killed_at


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Children]:
    running = Children(tmp_path_factory.mktemp("kill"))
    yield running
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(10) == 0
    assert running.process.stdout is not None
    running.process.stdout.close()


class Case:
    """A scenario's file before the action, and the two states between which nothing may come to rest."""

    def __init__(self, children: Children, name: str) -> None:
        self.name = name
        self.file = children.folder()
        self.before = children.report(Job(str(self.file), name, prepare=True)).acted
        clean = children.report(Job(str(children.folder(self.file)), name))
        self.clean, self.after, self.steps = clean, clean.acted, clean.steps
        self.old = {operation.id for operation in self.before.operations}

    def new(self, state: State, market: str | None = None) -> list[OperationReport]:
        """The operations of the action itself, in one market or all."""
        return [
            operation
            for operation in state.operations
            if operation.id not in self.old and not operation.parent_id and market in (None, operation.market)
        ]

    def landed(self, state: State, market: str | None = None) -> list[tuple[str, str]]:
        """Kinds and markets of those that landed."""
        return [(each.kind, each.market) for each in self.new(state, market) if each.journal[-1] == "LANDED"]

    @property
    def flattens(self) -> bool:
        return self.name.startswith("kill and flatten")

    def faults(self, state: State) -> Iterator[str]:
        """What is wrong with a state that an engine came to rest in."""
        if state.open_operations:
            yield f"{state.open_operations} operations are open"
        if state.unknown_fills:
            yield f"{state.unknown_fills} fills belong to no operation"
        for operation in state.operations:
            ends = [word for word in operation.journal if word in FINAL]
            if len(ends) != 1 or operation.journal[-1] != ends[0]:
                yield f"{operation.id} has the journal {operation.journal}"
            landed = ends[:1] == ["LANDED"]
            if operation.receipts != landed:
                yield f"{operation.id} is {ends} and the exchange has {operation.receipts} receipts"
            if not landed and operation.fills:
                yield f"{operation.id} is {ends} and filled {operation.fills}"
            if landed and operation.legs and not operation.fills:
                yield f"{operation.id} landed without a fill"
            if len({instrument for instrument, _ in operation.fills}) != len(operation.fills):
                yield f"{operation.id} filled twice: {operation.fills}"
            if not set(operation.fills) <= set(operation.legs):
                yield f"{operation.id} filled {operation.fills}, ordered {operation.legs}"
        if state.wallet_quote not in (self.before.wallet_quote, self.after.wallet_quote):
            yield f"wallet {state.wallet_quote}"
        for market in state.hedges:
            yield from self.faults_of(state, market)
        if abs(state.ledger_gap) >= 1e-9:
            yield f"ledger and exchange differ by {state.ledger_gap}"
        if state.ledger_cursor != state.events:
            yield f"{state.events} events of the exchange, {state.ledger_cursor} booked"

    def faults_of(self, state: State, market: str) -> Iterator[str]:
        """One hedge is as it was before or after, whatever has become of the other."""
        found, before, after = (each.hedges[market] for each in (state, self.before, self.after))
        if (found.spot_1e9, found.perp_1e9) not in [(each.spot_1e9, each.perp_1e9) for each in (before, after)]:
            yield f"{market}: spot {found.spot_1e9}, perp {found.perp_1e9}"
        memory = after if self.landed(state, market) else before
        kept = [(each.held_by, each.held_since_s is not None, each.rebalanced) for each in (found, memory)]
        if kept[0] != kept[1]:
            yield f"{market}: held by, held since, rebalanced: {kept[0]}, should be {kept[1]}"

    def all_faults(self, report: Report) -> Iterator[str]:
        """Of the recovered state, and of the state after the same action was asked for again."""
        found, again = report.recovered, report.acted
        yield from self.faults(found)
        yield from (f"again: {fault}" for fault in self.faults(again))
        kinds = self.landed(again)
        if self.flattens:
            left = [(kind, market) for kind, market in kinds if kind == "LEAVE"]
            if again.engine != "HALTED" or sorted(left) != sorted(("LEAVE", market) for market in again.hedges):
                yield f"again: {again.engine}, landed {kinds}"
            yield from (f"again: perp {held.perp_1e9}" for held in again.hedges.values() if held.perp_1e9)
            return
        if (found.engine, found.alerts) != ("RUNNING", []):
            yield f"{found.engine}: {found.reason}; {found.alerts}"
        if (again.engine, again.alerts) != ("RUNNING", []):
            yield f"again: {again.engine}: {again.reason}; {again.alerts}"
        if self.name in BY_ITSELF:
            # A position that was unwound is opened again, and only then.
            most = 2 if "odd" in self.name else 1
            legs = [[(held.spot_1e9, held.perp_1e9) for held in each.hedges.values()] for each in (again, self.after)]
            if legs[0] != legs[1] or len(kinds) > most:
                yield f"again: spot and perp {legs[0]}, landed {kinds}"
            return
        if len(kinds) != len(set(kinds)):
            yield f"again: landed {kinds}"
        used = [operation.intent_id for operation in self.new(found) if operation.intent_id]
        expected = sorted([*["SAME_INTENT"] * len(used), *self.clean.results[len(used) :]])
        if sorted(report.results) != expected:
            yield f"again: answered {report.results}, expected {expected}"
        if len(used) == len(report.results) and again.events != found.events:
            yield f"again: {again.events - found.events} more events of the exchange"


def part_of(steps: list[str], part: int) -> list[tuple[int, str]]:
    """Number (from 1) and name of those steps that belong to ``part``."""
    return list(enumerate(steps, 1))[part::PARTS]


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", OPERATIONS)
def test_kill_nine_at_every_step_of_an_operation(children: Children, name: str, part: int) -> None:
    case = Case(children, name)
    assert list(case.faults(case.after)) == []
    for step in ("after append_journal PLANNED", "before send", "append_journal LANDED not committed", "answered"):
        assert step in case.steps
    assert len(case.steps) > 30
    wrong: list[str] = []
    for number, step in part_of(case.steps, part):
        folder, killed_at = children.killed(case.file, Job("", name, kill_at=number))
        assert killed_at == step or name in IN_ANY_ORDER
        answer = children.answer(Job(str(folder), name))
        if answer.report is None:
            wrong.append(f"{number} {step}: {answer.error or answer}")
            continue
        wrong += [f"{number} {step}: {fault}" for fault in case.all_faults(answer.report)]
        shutil.rmtree(folder)
    assert wrong == [], "\n".join(wrong)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", RECOVERIES)
def test_kill_nine_at_every_step_of_the_recovery(children: Children, name: str, part: int) -> None:
    """From the worst place: the exchange has it (of two markets both), the journal does not know."""
    case = Case(children, name)
    markets = len(SCENARIOS[name].markets)
    died, _ = children.killed(case.file, Job("", name, kill_at=markets, kill_on="after commit paper"))
    unbroken = children.report(Job(str(children.folder(died)), name, phase="recovery", act=False))
    steps, accepted = unbroken.steps, case.landed(unbroken.recovered)
    assert len(accepted) == markets
    assert "before append_journal LANDED" in steps
    wrong: list[str] = []
    for number, step in part_of(steps, part):
        folder, killed_at = children.killed(died, Job("", name, kill_at=number, phase="recovery"))
        assert killed_at == step
        answer = children.answer(Job(str(folder), name))
        if answer.report is None:
            wrong.append(f"{number} {step}: {answer.error or answer}")
            continue
        wrong += [f"{number} {step}: {fault}" for fault in case.all_faults(answer.report)]
        if case.landed(answer.report.recovered) != accepted:
            wrong.append(f"{number} {step}: what the exchange accepted is forgotten")
        shutil.rmtree(folder)
    assert wrong == [], "\n".join(wrong)


def test_kill_nine_at_every_step_of_a_funding_record(children: Children) -> None:
    """No payment is lost or booked twice, by the exchange or by the ledger."""
    case = Case(children, "funding")
    assert case.after.equity - case.before.equity == 2 * Decimal("1.25")
    assert case.after.events == case.before.events + 2
    assert sum(step.startswith("after append_ledger") for step in case.steps) >= 2
    for number, step in enumerate(case.steps, 1):
        folder, _ = children.killed(case.file, Job("", "funding", kill_at=number))
        report = children.report(Job(str(folder), "funding"))
        assert list(case.faults(report.recovered)) == [], step
        assert list(case.faults(report.acted)) == [], step
        assert (report.acted.equity, report.acted.events) == (case.after.equity, case.after.events), step


@pytest.mark.parametrize("name", ["pause", "automation off", "kill and flatten"])
def test_what_the_operator_was_told_outlives_kill_nine(children: Children, name: str) -> None:
    case = Case(children, name)
    folder, _ = children.killed(case.file, Job("", name, kill_at=len(case.steps)))
    found = children.report(Job(str(folder), name, act=False)).recovered
    assert (found.engine, found.automation) == (case.after.engine, case.after.automation)


@pytest.mark.parametrize("count", [1, PARTS, 7, 40])
def test_the_parts_are_all_steps_once(count: int) -> None:
    steps = [f"step {number}" for number in range(1, count + 1)]
    parts = [taken for part in range(PARTS) for taken in part_of(steps, part)]
    assert sorted(parts) == list(enumerate(steps, 1))


def test_a_kill_that_never_comes_is_noticed(children: Children) -> None:
    case = Case(children, "deposit")
    with pytest.raises(AssertionError):
        children.killed(case.file, Job("", "deposit", kill_at=len(case.steps) + 1))
