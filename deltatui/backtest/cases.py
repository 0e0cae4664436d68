"""`deltatui backtest`: one policy, and beside it what flat and always-short would have made of the same tapes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from deltatui.backtest.capital import with_enough_capital
from deltatui.backtest.course import EquityPoint
from deltatui.backtest.report import text_report, write_csv, write_html
from deltatui.backtest.result import BacktestResult
from deltatui.backtest.run import run_alone, run_backtest
from deltatui.backtest.settings import BacktestSettings, Policy, Tapes


async def run_case(
    wanted: BacktestSettings, tapes: Tapes, *, as_json: bool, html: Path | None, csv: Path | None
) -> None:
    """Run, print, write. Raises ValidationError where the tapes cannot be played or a file not be written."""
    result, curve = await run_backtest(tapes, wanted)
    result = await with_enough_capital(tapes, wanted, result)
    result = msgspec.structs.replace(result, alone=await run_alone(tapes, wanted, result))
    if as_json and html is None and csv is None:
        typer.echo(msgspec.json.encode(result).decode())
        return
    results: dict[Policy, tuple[BacktestResult, list[EquityPoint]]] = {wanted.policy: (result, curve)}
    for other in Policy:
        if other not in results:
            beside = msgspec.structs.replace(wanted, policy=other)
            played, points = await run_backtest(tapes, beside)
            if other == Policy.ALWAYS_SHORT:
                played = msgspec.structs.replace(played, alone=await run_alone(tapes, beside, result))
            results[other] = played, points
    if csv is not None:
        write_csv(csv, curve)
    if html is not None:
        write_html(html, wanted.policy, results)
    typer.echo(msgspec.json.encode(result).decode() if as_json else text_report(wanted.policy, results))
