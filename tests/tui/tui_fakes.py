"""An engine in memory, a clock that stands, and a screen as lines of text, for the tests of the terminal."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from snapshots import MARKET_S, as_plan, make_detail, make_plan, make_snapshot, make_transfer
from textual.pilot import Pilot

from deltatui.api.client import Connection, Update
from deltatui.api.protocol import (
    EventBatch,
    HistoryMessage,
    LogBatch,
    MarketMessage,
    Previewed,
    SnapshotMessage,
    Welcome,
)
from deltatui.domain.command import AnyCommand, CommandResult, Deposit, ResultStatus, Take, Withdraw
from deltatui.domain.errors import TransientError, UnresolvedError
from deltatui.domain.event import Event, Level, LogLine
from deltatui.domain.snapshot import (
    ActionView,
    CardView,
    HistoryView,
    LiquidationBucket,
    MarketDetail,
    MarketHistory,
    PlanView,
    Snapshot,
)
from deltatui.tui.app import DeltatuiApp, Options
from deltatui.tui.keymap import Keymap, load_keymap
from deltatui.tui.store import MARKET_COMMANDS
from deltatui.tui.themes import load_themes

replace = msgspec.structs.replace
PRICES = {"SOL-PERP": 189.42, "BTC-PERP": 94_214.5}
DECIMALS = {"USDC": 6, "SOL": 9, "wBTC": 8}


def plan_for(command: Previewed) -> PlanView:
    """What a take of this size would do; notional, costs and leverage grow with it. Other trades: of 10 SOL."""
    if isinstance(command, Deposit | Withdraw):
        return as_plan(make_transfer(type(command).__name__.upper(), command.asset, units(command)))
    size = command.base_1e9 / 1e9 if isinstance(command, Take) else 10.0
    price = PRICES[command.market]
    worth = size * price / PRICES["SOL-PERP"]
    return make_plan(
        market=command.market,
        size=size,
        price=price,
        limit_price=price * 188.48 / 189.42,
        notional=size * price,
        fees=worth * 0.161,
        slippage=worth * 0.189,
        round_trip=worth * 0.7,
        leverage_after=worth / 10,
        liq_price_after=price * 412.5 / 189.42,
    )


def units(command: Deposit | Withdraw) -> float:
    return command.amount / float(10 ** DECIMALS[command.asset])


class FakeClock:
    """Monotonic seconds that move only when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeEngine:
    """Answers as told and keeps what was sent. ``answer`` decides on each command; ``hold`` keeps answers back.
    ``details`` are told in the place of :func:`make_detail`; ``selected`` is what the terminals asked about."""

    def __init__(
        self, snapshot: Snapshot | None = None, details: Iterable[MarketDetail] = (), *, read_only: bool = False
    ) -> None:
        self.snapshot = make_snapshot() if snapshot is None else snapshot
        self.details = {detail.market: detail for detail in (make_detail(), make_detail("BTC-PERP"), *details)}
        self.selected: list[str] = []
        self.commands: list[AnyCommand] = []
        self.answer: Callable[[AnyCommand], CommandResult] = lambda command: CommandResult(
            ResultStatus.DONE, "", "done"
        )
        self.hold: asyncio.Event | None = None
        self.previews: list[Previewed] = []
        self.plan: Callable[[Previewed], PlanView] = plan_for
        self.preview_hold: asyncio.Event | None = None
        self.up = True
        self.fail: Exception | None = None
        self.read_only = read_only
        self.connects = 0
        self.clients: list[FakeClient] = []

    async def connect(self) -> FakeClient:
        self.connects += 1
        if self.fail is not None:
            raise self.fail
        if not self.up:
            raise TransientError("NO_ENGINE", "no engine answers at /run/x.sock")
        client = FakeClient(self)
        self.clients.append(client)
        return client

    def publish(self, **changes: Any) -> Snapshot:
        """The next snapshot, with changed fields, to every client."""
        self.snapshot = replace(self.snapshot, version=self.snapshot.version + 1, **changes)
        for client in self.clients:
            client.put(SnapshotMessage(self.snapshot))
            client.put_detail()
        return self.snapshot

    def publish_detail(self, market: str = "SOL-PERP", **changes: Any) -> None:
        """The next snapshot, with changed fields of what is told of a market."""
        self.details[market] = replace(self.details[market], **changes)
        self.publish()

    def tell_history(self, history: HistoryView) -> None:
        for client in self.clients:
            client.put(HistoryMessage(history))

    def log(self, *lines: LogLine, dropped: int = 0) -> None:
        for client in self.clients:
            client.put(LogBatch(tuple(lines), dropped))

    def events(self, *events: Event) -> None:
        for client in self.clients:
            client.put(EventBatch(tuple(events)))

    def drop(self, code: str = "CONNECTION_LOST", reason: str = "the engine closed the connection") -> None:
        self.up = False
        for client in self.clients:
            client.end(code, reason)
        self.clients.clear()


class FakeClient:
    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        view = engine.snapshot.engine
        self.welcome = Welcome(1, "test", view.profile, view.mode, view.pid, engine.read_only)
        self.state = Connection(True)
        self.closed = False
        self.market = ""
        self._queue: asyncio.Queue[Update | None] = asyncio.Queue()
        self.put(SnapshotMessage(engine.snapshot))

    def put(self, update: Update) -> None:
        self._queue.put_nowait(update)

    def put_detail(self) -> None:
        detail = self.engine.details.get(self.market)
        if detail is not None:
            self.put(MarketMessage(replace(detail, version=self.engine.snapshot.version)))

    def end(self, code: str, reason: str) -> None:
        self.state = Connection(False, code, reason)
        self._queue.put_nowait(None)

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    async def __anext__(self) -> Update:
        update = await self._queue.get()
        if update is None:
            raise StopAsyncIteration
        return update

    async def command(self, command: AnyCommand, timeout_s: float = 60.0) -> CommandResult:
        self.engine.commands.append(command)
        if not self.state.connected:
            raise UnresolvedError("CONNECTION_LOST", "the connection broke")
        if self.engine.hold is not None:
            await self.engine.hold.wait()
        return self.engine.answer(command)

    async def preview(self, command: Previewed, timeout_s: float = 5.0) -> PlanView:
        self.engine.previews.append(command)
        if self.engine.preview_hold is not None:
            await self.engine.preview_hold.wait()
        return self.engine.plan(command)

    async def select(self, market: str) -> None:
        self.engine.selected.append(market)
        self.market = market
        self.put_detail()

    async def close(self) -> None:
        self.closed = True


class Terminal:
    """An app under test with its engine and clock."""

    def __init__(self, app: DeltatuiApp, pilot: Pilot[None], engine: FakeEngine, clock: FakeClock) -> None:
        self.app, self.pilot, self.engine, self.clock = app, pilot, engine, clock

    async def settle(self) -> None:
        """Let messages and tasks run, then one tick and its painting."""
        await self.pilot.pause()
        self.app.tick(force=True)
        await self.pilot.pause()

    async def wait(self, seconds: float, *, publish: bool = True) -> None:
        """Time passes; the engine goes on publishing unless told otherwise."""
        self.clock.now += seconds
        if publish:
            clock = replace(self.engine.snapshot.clock, operator_s=self.engine.snapshot.clock.operator_s + seconds)
            self.engine.publish(clock=clock)
        await self.settle()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.settle()

    async def publish(self, **changes: Any) -> None:
        self.engine.publish(**changes)
        await self.settle()

    async def publish_detail(self, market: str = "SOL-PERP", **changes: Any) -> None:
        self.engine.publish_detail(market, **changes)
        await self.settle()

    def lines(self) -> list[str]:
        return screen_lines(self.app)

    def text(self) -> str:
        return "\n".join(self.lines())

    def toasts(self) -> list[str]:
        """What the toasts say, without the sign of their severity."""
        return [notification.message.removeprefix("▲ ").removeprefix("✕ ") for notification in self.app._notifications]


def screen_lines(app: DeltatuiApp) -> list[str]:
    """What the terminal shows, line by line, without colours, dialogs included."""
    width, height = app.size
    from rich.console import Console

    console = Console(width=width, height=height, force_terminal=True, color_system="truecolor", legacy_windows=False)
    update = app.screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert update is not None
    lines: list[str] = [""]
    for segment in console.render(update, console.options.update(width=width, height=height)):
        if segment.control:
            continue
        for index, piece in enumerate(segment.text.split("\n")):
            if index:
                lines.append("")
            lines[-1] += piece
    return [line.rstrip() for line in lines]


@asynccontextmanager
async def terminal(
    engine: FakeEngine | None = None,
    *,
    size: tuple[int, int] = (120, 40),
    keymap: Path | None = None,
    clock: FakeClock | None = None,
    market: str = "SOL-PERP",
    **options: Any,
) -> AsyncIterator[Terminal]:
    """A running app on ``engine``, with its first snapshot on the screen. ``market`` is selected where the engine
    carries it; empty: the terminal's own choice stays."""
    engine = engine or FakeEngine()
    clock = clock or FakeClock()
    options.setdefault("ascii_only", False)
    options.setdefault("sleep", hanging_sleep)
    options.setdefault("state_dir", Path(tempfile.gettempdir()) / "deltatui-tests")
    settings = Options(timezone=UTC, tick_s=None, clock=clock, **options)
    keys: Keymap = load_keymap(keymap)
    app = DeltatuiApp(engine.connect, settings, keys, load_themes(settings.themes_dir))
    async with app.run_test(size=size, notifications=True) as pilot:
        running = Terminal(app, pilot, engine, clock)
        await running.settle()
        if market and app.store.select(market):
            app.background(app.connector.tell_selection(), "select")
        await running.settle()
        yield running


async def hanging_sleep(seconds: float) -> None:
    """A wait that never ends: whoever tests a reconnection brings a sleep of its own."""
    await asyncio.Event().wait()


def make_history(**changes: Any) -> HistoryView:
    """Thirty days of funding and equity; liquidations and open interest as a feed would have them."""
    moments = [MARKET_S - 3600.0 * (719 - hour) for hour in range(720)]
    why = "a tape has none"
    sol = MarketHistory(
        market="SOL-PERP",
        funding=tuple((t, 20 * math.sin(i / 40) + 8 * math.sin(i / 7)) for i, t in enumerate(moments)),
        always_short=tuple((t, 3_800 - 0.03 * i) for i, t in enumerate(moments)),
        open_interest=tuple((MARKET_S - 60.0 * (1439 - i), 1.02e9 + 1e7 * math.sin(i / 90)) for i in range(1440)),
        liquidations=tuple(
            LiquidationBucket(189.0 * (1 + step * 0.0025), 30 - 2 * abs(step), 6e6 / (1 + abs(step)))
            for step in range(-12, 13)
        ),
    )
    btc = MarketHistory(
        market="BTC-PERP",
        funding=tuple((t, 6 + 9 * math.sin(i / 25)) for i, t in enumerate(moments)),
        always_short=tuple((t, 3_800 + 0.05 * i) for i, t in enumerate(moments)),
        open_interest_reason=why,
        liquidations_reason=why,
    )
    base = HistoryView(
        version=1,
        markets=(sol, btc),
        equity=tuple((t, 3_800 - 0.02 * i + 3 * math.sin(i / 30)) for i, t in enumerate(moments)),
        flat=3_800.0,
    )
    return replace(base, **changes)


def with_market(history: HistoryView, market: str = "SOL-PERP", **changes: Any) -> HistoryView:
    """``history`` with changed fields of one market."""
    markets = tuple(replace(one, **changes) if one.market == market else one for one in history.markets)
    return replace(history, markets=markets)


def tape_history(market: str = "SOL-PERP", **changes: Any) -> HistoryView:
    """What a replay has: no open interest and no liquidations, and the reason. ``changes`` are of ``market``."""
    why = "a tape has none"
    base = with_market(
        make_history(), open_interest=(), liquidations=(), open_interest_reason=why, liquidations_reason=why
    )
    return with_market(base, market, **changes)


def make_cards() -> tuple[CardView, ...]:
    """One card of each status."""
    return (
        CardView("spread", "spread", 1.2, "bps", "good", "", 0.8),
        CardView("depth", "depth 10 bp", 412e3, "usd", "good", "", 0.8),
        CardView("funding", "funding APR", -9.9, "%", "warning", "beyond 5 %", 100.0),
        CardView("basis", "basis", 2.1, "bps", "neutral", "", 0.8),
        CardView("open_interest", "open int.", None, "usd", "unknown", "no feed"),
        CardView("liquidations", "liqs 5 m", 12.0, "", "bad", "more than 10", 2.0),
    )


Offers = TypeVar("Offers", Snapshot, MarketDetail)


def with_action(told: Offers, action: str, **changes: Any) -> Offers:
    """A snapshot or a detail with one ActionView changed; the action must be there."""
    assert any(view.action == action for view in told.actions), action
    return replace(
        told, actions=tuple(replace(view, **changes) if view.action == action else view for view in told.actions)
    )


def offering(action: str, market: str = "SOL-PERP", snapshot: Snapshot | None = None, **changes: Any) -> FakeEngine:
    """An engine that says something else than usual of one command: of ``market``'s, where it acts on one."""
    if action in MARKET_COMMANDS:
        return FakeEngine(snapshot, [with_action(make_detail(market), action, **changes)])
    return FakeEngine(with_action(snapshot or make_snapshot(), action, **changes))


def log_line(sequence: int, message: str, level: Level = Level.INFO, tag: str = "") -> LogLine:
    return LogLine(sequence, level, tag, message, 1_763_700_000.0 + sequence, 1_735_693_200.0 + sequence)


__all__ = [
    "ActionView",
    "FakeClock",
    "FakeEngine",
    "Terminal",
    "log_line",
    "make_cards",
    "make_history",
    "offering",
    "plan_for",
    "replace",
    "tape_history",
    "terminal",
    "with_action",
    "with_market",
]
