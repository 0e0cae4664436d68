"""``make screenshot``: docs/screenshot.svg, drawn by the terminal itself in front of a real engine.

The engine replays both shipped tapes in August 2025, where it holds BTC-PERP and stands aside in SOL-PERP; the picture
is taken a while after it opened its hedge, with the market of that hedge selected. Nothing is kept but the picture:
config, state and socket lie in a folder of their own, and neither the user's settings nor ``.env`` are read.
"""

from __future__ import annotations

import argparse
import asyncio
import html
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltatui.api.client import Client
    from deltatui.domain.snapshot import Snapshot
    from deltatui.tui.app import DeltatuiApp

ROOT = Path(__file__).resolve().parents[1]
START = "2025-08-20"
FAST, STILL = 86_400, 60
HELD_DAYS = 5.0
MOST_BYTES = 400_000
WAIT_S = 90.0

_FONT_FACE = re.compile(r"@font-face\s*\{[^}]*\}\s*")
_FONT = re.compile(r"font-family:\s*Fira Code[^;]*;")
_TEXT = re.compile(r'(<text [^>]*x=")([0-9.]+)("[^>]*textLength=")([0-9.]+)("[^>]*>)([^<]+)</text>')
_FONTS = "font-family: 'Fira Code', 'JetBrains Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace;"


def portable(svg: str) -> str:
    """The picture in the viewer's own fonts, so that whoever looks at it fetches nothing from elsewhere; and with the
    blanks around each piece of text turned into its place, because some viewers drop them."""
    svg = _FONT.sub(_FONTS, _FONT_FACE.sub("", svg))
    svg = _TEXT.sub(_placed, svg)
    if re.search(r"url\(\s*[\"']?(?:https?:)?//", svg):
        raise SystemExit("screenshot: the picture would still load something from elsewhere")
    return svg


def _placed(found: re.Match[str]) -> str:
    before, x, between, length, after, escaped = found.groups()
    text = html.unescape(escaped)
    width, bare = float(length) / len(text), text.strip("\xa0")
    if not bare:
        return ""
    at = float(x) + (len(text) - len(text.lstrip("\xa0"))) * width
    shown = html.escape(bare).replace("\xa0", "&#160;")
    return f"{before}{at:.1f}{between}{len(bare) * width:.1f}{after}{shown}</text>"


@asynccontextmanager
async def engine(home: Path) -> AsyncIterator[Client]:
    """A replaying engine in ``home`` and a client of it."""
    from deltatui.api.client import Client
    from deltatui.domain.errors import TransientError
    from deltatui.paths import Paths

    output = home / "engine.out"
    with output.open("wb") as sink:
        process = subprocess.Popen(  # noqa: ASYNC220, S603  our own interpreter and module
            [sys.executable, "-m", "deltatui", "engine", "--speed", str(FAST)],
            cwd=home,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                client = await Client.connect(Paths.of().socket, name="screenshot")
                break
            except TransientError as error:
                if process.poll() is not None or time.monotonic() > deadline_s:
                    end = output.read_text(errors="replace")[-2000:]
                    raise SystemExit(f"screenshot: no engine ({error.sentence}). {end}") from error
                await asyncio.sleep(0.05)
        try:
            yield client
        finally:
            await client.close()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def until(client: Client, found: Callable[[Snapshot], str], what: str) -> str:
    """What ``found`` finds in the first snapshot in which it finds something."""
    from deltatui.api.protocol import SnapshotMessage

    try:
        async with asyncio.timeout(WAIT_S):
            async for message in client:
                if isinstance(message, SnapshotMessage) and (it := found(message.snapshot)):
                    return it
    except TimeoutError:
        raise SystemExit(f"screenshot: {what} not seen within {WAIT_S:g} s") from None
    raise SystemExit(f"screenshot: the engine left before {what}: {client.state.reason}")


def held_for_days(snapshot: Snapshot) -> str:
    """The first market with a hedge that has been held so long; empty where there is none."""
    now = snapshot.clock.market_s
    for hedge in snapshot.hedges:
        since = hedge.carry.held_since_market_s
        if since is not None and now is not None and now - since >= HELD_DAYS * 86_400:
            return hedge.market
    return ""


async def shoot(columns: int, rows: int, theme: str) -> str:
    """The SVG of a terminal of ``columns`` x ``rows`` on a period in which the engine holds a position."""
    from deltatui.api.client import Client
    from deltatui.domain.command import SetSpeed
    from deltatui.paths import Paths
    from deltatui.tui.app import Options, build

    with tempfile.TemporaryDirectory(prefix="dtui-") as folder:
        home = Path(folder)
        for name in [name for name in os.environ if name.startswith("DELTATUI_") or name in ("NO_COLOR", "LOG_LEVEL")]:
            del os.environ[name]
        os.environ.update(
            DELTATUI_HOME=str(home), DELTATUI_REPLAY__START=START, TERM="xterm-256color", COLORTERM="truecolor"
        )
        async with engine(home) as client:
            market = await until(client, held_for_days, "a hedge that was held for days")
            result = await client.command(SetSpeed(speed=STILL))
            if not result.success:
                raise SystemExit(f"screenshot: {result.message}")
            await client.close()

            async def connect() -> Client:
                return await Client.connect(Paths.of().socket, name="terminal")

            options = Options(theme=theme, ascii_only=False, timezone=UTC, state_dir=home)
            app = build(connect, options)
            async with app.run_test(size=(columns, rows)):
                await drawn(app, market)
                return portable(app.export_screenshot(title="deltatui"))


async def drawn(app: DeltatuiApp, market: str) -> None:
    """Wait until every pane has what it shows, of ``market`` where it is about one."""
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        view = app.store.view
        if view.snapshot is not None and view.snapshot.clock.speed == STILL and app.main.log_view.status.total:
            app.operator.select(market)
            for _ in range(4):
                await asyncio.sleep(0.5)
                app.tick(force=True)
            await asyncio.sleep(0.5)
            return
        await asyncio.sleep(0.05)
    raise SystemExit(f"screenshot: the terminal showed nothing within {WAIT_S:g} s")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the terminal in front of a replaying engine as an SVG.")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshot.svg")
    parser.add_argument("--size", default="160x48", help="columns x rows")
    parser.add_argument("--theme", default="dark")
    arguments = parser.parse_args()
    columns, _, rows = arguments.size.partition("x")
    if not (columns.isdecimal() and rows.isdecimal()):
        parser.error(f"--size looks like 160x48, not {arguments.size}")
    svg = asyncio.run(shoot(int(columns), int(rows), arguments.theme))
    size = len(svg.encode())
    if size > MOST_BYTES:
        raise SystemExit(f"screenshot: {size:,} bytes, the limit is {MOST_BYTES:,}")
    arguments.out.write_text(svg, encoding="utf-8")
    sys.stdout.write(f"{arguments.out}: {columns}x{rows}, {size:,} bytes\n")


if __name__ == "__main__":
    main()
