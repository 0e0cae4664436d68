"""The registry of actions: keys, footer, help, palette, keymap file and docs/keys.md all read it (R13.12)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from deltatui.tui.enabled import always, connected, delegated, offered, pause_or_resume, speed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deltatui.tui.commands import Operator, Target
    from deltatui.tui.enabled import Enabled

    Handler = Callable[[Operator, Target], None]


class Context(StrEnum):
    """Where a key works. EVERYWHERE and the one open screen are live at the same time; DIALOG with each dialog, ROWS
    with the panes: what has the focus takes its keys first."""

    EVERYWHERE = "everywhere"
    MAIN = "panes"
    ROWS = "tables, log, charts"
    DIALOG = "any dialog"
    TAKE = "amount dialogs"
    CONFIRM = "confirmation"
    KILL = "kill dialog"
    QUIT = "quit dialog"
    PROMPT = "text dialogs"


TOGETHER: tuple[frozenset[Context], ...] = (
    frozenset({Context.EVERYWHERE, Context.MAIN, Context.ROWS}),
    *(
        frozenset({Context.EVERYWHERE, Context.DIALOG, dialog})
        for dialog in (Context.TAKE, Context.CONFIRM, Context.KILL, Context.QUIT, Context.PROMPT)
    ),
)
"""Sets of contexts that are live at once; a key may mean one thing in each."""


@dataclass(frozen=True, slots=True)
class Action:
    """``footer`` is the order in the footer, 0 keeps it out. ``footer_to`` shows a range: this action's key, a sign and
    the key of the action named. ``handler`` is None for keys that a dialog handles itself."""

    id: str
    keys: tuple[str, ...]
    label: str
    help: str
    group: str
    context: Context = Context.MAIN
    enabled: Enabled = always
    handler: Handler | None = None
    footer: int = 0
    footer_to: tuple[str, str] | None = None
    footer_label: str = ""


_TRADE = "Trade"
_ENGINE = "Engine"
_PANES = "Panes"
_LOG = "Log"
_ROWS = "Rows and lines"
_TERMINAL = "Terminal"
_DIALOGS = "Dialogs"

PANES: tuple[tuple[str, str], ...] = (
    ("1", "Health"),
    ("2", "Positions"),
    ("3", "Why"),
    ("4", "Delta and carry"),
    ("5", "Opportunities"),
    ("6", "Market"),
    ("7", "Funding"),
    ("8", "Equity"),
    ("9", "Liquidations"),
    ("0", "Log"),
)
"""Number and name of each pane, in the order of the tab key."""


def _zoom(number: str, name: str) -> Action:
    return Action(
        f"pane-{number}",
        (number,),
        f"{name}",
        f"Show the pane {name} alone; the same key, or back, shows all panes again.",
        _PANES,
        handler=lambda operator, target: operator.zoom(number),
        footer=12 if number == "1" else 0,
        footer_to=("-", "pane-0") if number == "1" else None,
        footer_label="panes" if number == "1" else "",
    )


ACTIONS: tuple[Action, ...] = (
    Action(
        "take",
        ("t",),
        "take",
        "Open or add to a hedged position in the selected market: asks the size and shows live what it would do.",
        _TRADE,
        enabled=offered("TAKE", fresh=True),
        handler=lambda operator, target: operator.take(target),
        footer=1,
    ),
    Action(
        "leave",
        ("l",),
        "leave",
        "Close both legs of the position under the cursor, else of the selected market; asks first.",
        _TRADE,
        enabled=offered("LEAVE", fresh=True),
        handler=lambda operator, target: operator.leave(target),
        footer=2,
    ),
    Action(
        "rebalance",
        ("r",),
        "rebalance",
        "Make the whole exposure to the market's asset neutral now, not the hedge's alone; no tolerance, no cooldown.",
        _TRADE,
        enabled=offered("REBALANCE", fresh=True),
        handler=lambda operator, target: operator.rebalance(target),
        footer=3,
    ),
    Action(
        "settle",
        ("s",),
        "settle",
        "Move unsettled profit and loss into the quote balance, of the market that leave is about; asks first.",
        _TRADE,
        enabled=offered("SETTLE", fresh=True),
        handler=lambda operator, target: operator.settle(target),
        footer=4,
    ),
    Action(
        "deposit",
        ("d",),
        "deposit",
        "Move quote or the selected market's asset from the wallet into the account: asks the amount.",
        _TRADE,
        enabled=offered("DEPOSIT", fresh=True),
        handler=lambda operator, target: operator.deposit(target),
        footer=5,
    ),
    Action(
        "withdraw",
        ("w",),
        "withdraw",
        "Move quote or the selected market's asset from the account into the wallet; health bounds it.",
        _TRADE,
        enabled=offered("WITHDRAW", fresh=True),
        handler=lambda operator, target: operator.withdraw(target),
        footer=6,
    ),
    Action(
        "delegate",
        ("D",),
        "delegate",
        "Show who may trade on the account's behalf.",
        _TRADE,
        enabled=delegated,
        handler=lambda operator, target: operator.delegate(),
    ),
    Action(
        "pause",
        ("p",),
        "pause",
        "Pause the engine (no new risk, nothing automatic, a tape stops); again: resume by way of reconciliation.",
        _ENGINE,
        enabled=pause_or_resume,
        handler=lambda operator, target: operator.pause(target),
        footer=7,
    ),
    Action(
        "automation",
        ("a",),
        "auto",
        "Turn automation on (asks first: the engine then takes, leaves and rebalances by itself) or off (at once).",
        _ENGINE,
        enabled=offered("SET_AUTOMATION"),
        handler=lambda operator, target: operator.automation(target),
        footer=8,
    ),
    Action(
        "speed-up",
        ("plus", "equals_sign"),
        "faster",
        "Next higher speed of a replay: 1, 60, 600, 3600, 21600, 86400, 604800.",
        _ENGINE,
        enabled=speed(up=True),
        handler=lambda operator, target: operator.speed(target, up=True),
        footer=9,
        footer_to=("/", "speed-down"),
        footer_label="speed",
    ),
    Action(
        "speed-down",
        ("minus",),
        "slower",
        "Next lower speed of a replay.",
        _ENGINE,
        enabled=speed(up=False),
        handler=lambda operator, target: operator.speed(target, up=False),
    ),
    Action(
        "forget-losses",
        ("ctrl+g",),
        "forget losses",
        "Count the day's loss and the peak anew, so that a loss limit no longer stands; the engine asks first.",
        _ENGINE,
        enabled=offered("FORGET_LOSSES"),
        handler=lambda operator, target: operator.forget_losses(target),
    ),
    Action(
        "kill",
        ("exclamation_mark",),
        "kill",
        "Kill switch: cancel everything, automation off, engine halted; asks for a reason and whether to flatten.",
        _ENGINE,
        Context.EVERYWHERE,
        enabled=connected,
        handler=lambda operator, target: operator.kill(target),
        footer=10,
    ),
    *(_zoom(number, name) for number, name in PANES),
    Action(
        "next-pane",
        ("tab",),
        "next pane",
        "Focus the next pane.",
        _PANES,
        handler=lambda operator, target: operator.focus_pane(1),
    ),
    Action(
        "previous-pane",
        ("shift+tab",),
        "previous pane",
        "Focus the pane before.",
        _PANES,
        handler=lambda operator, target: operator.focus_pane(-1),
    ),
    Action(
        "jump",
        ("ctrl+o",),
        "jump",
        "Put a letter on every pane; the letter focuses it.",
        _PANES,
        handler=lambda operator, target: operator.jump(),
    ),
    Action(
        "sort",
        ("o",),
        "sort",
        "Sort the focused table by its next column, after the last in the engine's order.",
        _PANES,
        handler=lambda operator, target: operator.sort(),
    ),
    Action(
        "sort-reverse",
        ("O",),
        "reverse sort",
        "Turn the sorting of the focused table around.",
        _PANES,
        handler=lambda operator, target: operator.reverse_sort(),
    ),
    Action(
        "filter-rows",
        ("F",),
        "filter rows",
        "Show only rows of the focused table that contain a text; an empty text shows all.",
        _PANES,
        handler=lambda operator, target: operator.filter_rows(),
    ),
    Action(
        "picture",
        ("i",),
        "picture",
        "Pane 9: liquidations by price, open interest, funding by the hour of the day in turn.",
        _PANES,
        handler=lambda operator, target: operator.next_picture(),
    ),
    Action(
        "copy",
        ("c",),
        "copy",
        "Copy the selected row or log line (over SSH by OSC 52; in tmux: set -s set-clipboard on).",
        _PANES,
        handler=lambda operator, target: operator.copy(),
    ),
    Action(
        "back",
        ("escape",),
        "back",
        "Back to all panes; without a zoomed pane, take the banner away.",
        _PANES,
        handler=lambda operator, target: operator.back(),
    ),
    Action(
        "dismiss",
        ("x",),
        "dismiss",
        "Take the warning banner away; it comes back when it is raised anew.",
        _PANES,
        handler=lambda operator, target: operator.dismiss(),
    ),
    Action(
        "log-filter",
        ("slash",),
        "filter",
        "Show only log lines that contain a text or match a regular expression; an empty text shows all.",
        _LOG,
        handler=lambda operator, target: operator.log_filter(),
        footer=11,
    ),
    Action(
        "log-search",
        ("ctrl+f",),
        "search",
        "Find a text or a regular expression in the log; n and N go on from hit to hit.",
        _LOG,
        handler=lambda operator, target: operator.log_search(),
    ),
    Action(
        "log-level",
        ("v",),
        "level",
        "Lowest level that the log shows: DEBUG, INFO, WARNING, ERROR in turn.",
        _LOG,
        handler=lambda operator, target: operator.log_level(),
    ),
    Action(
        "next-error",
        ("e",),
        "next error",
        "Go to the next ERROR or CRITICAL line of the log; while it follows, to the newest.",
        _LOG,
        handler=lambda operator, target: operator.log_error(1),
    ),
    Action(
        "previous-error",
        ("E",),
        "previous error",
        "Go to the ERROR or CRITICAL line before.",
        _LOG,
        handler=lambda operator, target: operator.log_error(-1),
    ),
    Action(
        "follow",
        ("f",),
        "follow",
        "Follow the newest log line, or stop following.",
        _LOG,
        handler=lambda operator, target: operator.log_follow(),
    ),
    Action(
        "wrap",
        ("W",),
        "wrap",
        "Go on in the next line with log lines that are too long, or cut them.",
        _LOG,
        handler=lambda operator, target: operator.log_wrap(),
    ),
    Action("next-match", ("n",), "next hit", "Focused log: the next hit of the search.", _LOG, Context.ROWS),
    Action("previous-match", ("N",), "previous hit", "Focused log: the hit before.", _LOG, Context.ROWS),
    Action("row-up", ("up", "k"), "up", "One row, line or bucket up.", _ROWS, Context.ROWS),
    Action("row-down", ("down", "j"), "down", "One row, line or bucket down.", _ROWS, Context.ROWS),
    Action("page-up", ("pageup",), "page up", "One page up.", _ROWS, Context.ROWS),
    Action("page-down", ("pagedown",), "page down", "One page down.", _ROWS, Context.ROWS),
    Action("first-row", ("home",), "first", "The first row or line.", _ROWS, Context.ROWS),
    Action("last-row", ("end",), "last", "The last row; in the log: follow the newest line.", _ROWS, Context.ROWS),
    Action("cell-left", ("left",), "left", "Heat map: the cell to the left.", _ROWS, Context.ROWS),
    Action("cell-right", ("right",), "right", "Heat map: the cell to the right.", _ROWS, Context.ROWS),
    Action(
        "open-row",
        ("enter",),
        "select, open",
        "Select the market of the row; where it is selected, and in panes without rows, show the focused pane alone.",
        _ROWS,
        Context.ROWS,
    ),
    Action(
        "palette",
        ("colon", "ctrl+p"),
        "palette",
        "Find an action or a theme by its name, or by what it does.",
        _TERMINAL,
        handler=lambda operator, target: operator.palette(target),
        footer=13,
    ),
    Action(
        "help",
        ("question_mark",),
        "help",
        "Show every key, and why an action cannot be done now.",
        _TERMINAL,
        handler=lambda operator, target: operator.help(),
        footer=14,
    ),
    Action(
        "theme",
        ("T",),
        "theme",
        "Next theme.",
        _TERMINAL,
        handler=lambda operator, target: operator.next_theme(),
    ),
    Action(
        "close",
        ("q", "ctrl+c"),
        "close",
        "Back to all panes; from there, quit (asks first).",
        _TERMINAL,
        handler=lambda operator, target: operator.close(),
    ),
    Action(
        "quit",
        ("ctrl+q",),
        "quit",
        "Leave the terminal (asks first). A live engine keeps running; the last terminal may stop paper or replay.",
        _TERMINAL,
        Context.EVERYWHERE,
        handler=lambda operator, target: operator.quit(),
        footer=15,
    ),
    Action(
        "suspend",
        ("ctrl+z",),
        "suspend",
        "Give the shell back; fg brings the terminal again. The engine does not notice.",
        _TERMINAL,
        Context.EVERYWHERE,
        handler=lambda operator, target: operator.suspend(),
    ),
    Action("dialog-no", ("n", "escape", "ctrl+c"), "cancel", "Close the dialog, do nothing.", _DIALOGS, Context.DIALOG),
    Action(
        "dialog-yes",
        ("y",),
        "yes",
        "Do it. Works only once the dialog has been open for 0.4 s and, for a trade, only on fresh data.",
        _DIALOGS,
        Context.DIALOG,
    ),
    Action("take-go", ("enter",), "go on", "Send the size or amount to the engine.", _DIALOGS, Context.TAKE),
    Action("transfer-asset", ("a",), "asset", "Deposit and withdraw: the other asset.", _DIALOGS, Context.TAKE),
    Action("transfer-most", ("m",), "maximum", "Deposit and withdraw: the largest amount.", _DIALOGS, Context.TAKE),
    Action(
        "take-direction",
        ("d",),
        "direction",
        "Carry (spot long, perp short) or reverse (spot borrowed, perp long).",
        _DIALOGS,
        Context.TAKE,
    ),
    Action(
        "take-spot",
        ("s",),
        "spot",
        "Take: where the spot comes from, as far as there is some: bought, from the wallet, already deposited.",
        _DIALOGS,
        Context.TAKE,
    ),
    Action("take-more", ("up",), "one step more", "Add one step to the size.", _DIALOGS, Context.TAKE),
    Action("take-less", ("down",), "one step less", "Take one step off the size.", _DIALOGS, Context.TAKE),
    Action(
        "confirm-force",
        ("f",),
        "force",
        "Accept that the profitability gate refuses, where the engine allows it; shows the expected loss.",
        _DIALOGS,
        Context.CONFIRM,
    ),
    Action(
        "kill-flatten",
        ("f",),
        "flatten",
        "Whether every position is closed once the engine has halted.",
        _DIALOGS,
        Context.KILL,
    ),
    Action("kill-reason", ("r",), "reason", "Write the reason that is recorded.", _DIALOGS, Context.KILL),
    Action(
        "prompt-regex",
        ("ctrl+r",),
        "regular expression",
        "Take the text as a regular expression, or as it stands.",
        _DIALOGS,
        Context.PROMPT,
    ),
    Action("quit-keep", ("k",), "keep", "Quit and let the engine run on.", _DIALOGS, Context.QUIT),
)

BY_ID: Mapping[str, Action] = {action.id: action for action in ACTIONS}


def in_contexts(*contexts: Context) -> list[Action]:
    return [action for action in ACTIONS if action.context in contexts]


def footer_actions() -> list[Action]:
    """The actions of the footer in their order."""
    return sorted((action for action in ACTIONS if action.footer), key=lambda action: action.footer)


def keys_markdown(display: Callable[[str], str], actions: Iterable[Action] = ACTIONS) -> str:
    """docs/keys.md. ``display`` turns a key name into what stands on the key."""
    out = [
        "# Keys",
        "",
        "Generated from the action registry (`deltatui/tui/actions.py`); do not edit by hand.",
        "",
        "Keys can be changed in `keys.toml` of the profile's config folder: a table `[keys]` of action and key, or",
        'list of keys (`take = "t"`, `speed-up = ["+", "="]`). A file with an unknown action, an unknown key, a clash',
        "or an action left without a key is refused, with all its faults in one message.",
    ]
    groups: dict[str, list[Action]] = {}
    for action in actions:
        groups.setdefault(action.group, []).append(action)
    for group, members in groups.items():
        out += ["", f"## {group}", "", "| key | action | where | what it does |", "|---|---|---|---|"]
        for action in members:
            keys = ", ".join(f"`{display(key)}`" for key in action.keys)
            out.append(f"| {keys} | `{action.id}` | {action.context.value} | {action.help} |")
    return "\n".join(out) + "\n"
