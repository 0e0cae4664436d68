"""Messages between an engine and its clients: typed, versioned, one JSON object a line.

Client to server: HELLO first, then COMMAND, PREVIEW, SELECT and PING. Server to client: WELCOME (or BYE with the
reason), then SNAPSHOT, MARKET (of the market that the client has selected) and HISTORY (only ever the latest), LOG and
EVENT batches, COMMAND_RESULT, PREVIEW_RESULT, PONG, BYE.

In place of HELLO a client of any version may send KILL. It is answered by KILL_RESULT and the end of the connection.
The form of these two never changes, but for new fields with a default.
"""

from __future__ import annotations

import msgspec

from deltatui.domain.command import AnyCommand, CommandResult, Deposit, Leave, LegPart, Rebalance, Take, Withdraw
from deltatui.domain.event import Event, LogLine
from deltatui.domain.snapshot import HistoryView, MarketDetail, PlanView, Snapshot

PROTOCOL_VERSION = 4
MAX_LINE_BYTES = 4 * 1024 * 1024

Previewed = Take | Leave | Rebalance | Deposit | Withdraw
"""What a client may ask about before it gives the command."""


class Hello(msgspec.Struct, frozen=True, tag="HELLO"):
    """``log_backlog`` and ``event_backlog`` are how many past log lines and events the client would like."""

    protocol: int
    client: str
    read_only: bool = False
    log_backlog: int = 500
    event_backlog: int = 200


class CommandMessage(msgspec.Struct, frozen=True, tag="COMMAND"):
    """``id`` is the client's own number for matching the result."""

    id: int
    command: AnyCommand


class PreviewMessage(msgspec.Struct, frozen=True, tag="PREVIEW"):
    """Asks what ``command`` would do now; nothing is changed, recorded or counted as an attempt."""

    id: int
    command: Previewed


class Select(msgspec.Struct, frozen=True, tag="SELECT"):
    """A MARKET message about ``market`` comes at once, and from now on with every snapshot. Empty: none. Of a market
    that the engine does not carry, or cannot judge just now, none comes."""

    market: str


class KillNow(msgspec.Struct, frozen=True, tag="KILL"):
    """The kill switch as a first line. ``flatten`` closes every position as well; ``reason`` is recorded."""

    flatten: bool = False
    reason: str = ""


class Ping(msgspec.Struct, frozen=True, tag="PING"):
    id: int


ClientMessage = Hello | CommandMessage | PreviewMessage | Select | Ping
"""KILL is none: it has no place after HELLO, where COMMAND has one."""


class Welcome(msgspec.Struct, frozen=True, tag="WELCOME"):
    protocol: int
    server: str
    profile: str
    mode: str
    pid: int
    read_only: bool


class SnapshotMessage(msgspec.Struct, frozen=True, tag="SNAPSHOT"):
    snapshot: Snapshot


class MarketMessage(msgspec.Struct, frozen=True, tag="MARKET"):
    """``detail.version`` is that of the snapshot that came before it."""

    detail: MarketDetail


class HistoryMessage(msgspec.Struct, frozen=True, tag="HISTORY"):
    history: HistoryView


class LogBatch(msgspec.Struct, frozen=True, tag="LOG"):
    """``dropped`` counts lines that were lost to this client because it read too slowly; ``backlog`` marks lines from
    before it came."""

    lines: tuple[LogLine, ...]
    dropped: int = 0
    backlog: bool = False


class EventBatch(msgspec.Struct, frozen=True, tag="EVENT"):
    """``dropped`` and ``backlog`` as in LogBatch; an event of the backlog is history, not news."""

    events: tuple[Event, ...]
    dropped: int = 0
    backlog: bool = False


class ResultMessage(msgspec.Struct, frozen=True, tag="COMMAND_RESULT"):
    id: int
    result: CommandResult


class PreviewResult(msgspec.Struct, frozen=True, tag="PREVIEW_RESULT"):
    """``plan`` None: there is no such trade now; ``code`` and ``reason`` say why."""

    id: int
    plan: PlanView | None
    code: str = ""
    reason: str = ""


class KillResult(msgspec.Struct, frozen=True, tag="KILL_RESULT"):
    """What became of a KILL, as a CommandResult says it; ``success`` only where everything that was asked is done.
    ``status`` is a ResultStatus by value, or a word of a later version."""

    success: bool
    code: str
    message: str
    status: str = ""
    operation_id: str = ""
    parts: tuple[LegPart, ...] = ()


class Pong(msgspec.Struct, frozen=True, tag="PONG"):
    id: int


class Bye(msgspec.Struct, frozen=True, tag="BYE"):
    code: str
    reason: str


ServerMessage = (
    Welcome
    | SnapshotMessage
    | MarketMessage
    | HistoryMessage
    | LogBatch
    | EventBatch
    | ResultMessage
    | PreviewResult
    | KillResult
    | Pong
    | Bye
)


class AnyLine(msgspec.Struct, frozen=True):
    """What a line of any protocol version has."""

    type: str = ""


class AnyHello(msgspec.Struct, frozen=True):
    """What a HELLO of any protocol version has; read before the rest is judged."""

    protocol: int


encode = msgspec.json.Encoder().encode
decode_client = msgspec.json.Decoder(ClientMessage).decode
decode_server = msgspec.json.Decoder(ServerMessage).decode
decode_any_line = msgspec.json.Decoder(AnyLine).decode
decode_kill = msgspec.json.Decoder(KillNow).decode
decode_any_hello = msgspec.json.Decoder(AnyHello).decode
