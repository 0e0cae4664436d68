"""``python tests/wheel_smoke.py``: the wheel, in an environment that has nothing else, does its first steps.

What a checkout has and a wheel forgets (themes, the shipped tapes) is missed here: all runs outside the checkout.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STEPS = (
    (("--version",), "deltatui "),
    (("backtest",), "always-short"),
    (("backtest", "--tape", "SOL-PERP", "--tape", "BTC-PERP", "--policy", "flat"), "BTC-PERP alone"),
    (("doctor",), "replay can start"),
)
"""Words of the command line, and what must stand in the answer; each has to end with 0."""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="deltatui-wheel-") as name:
        folder = Path(name)
        pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", name, str(ROOT))
        (wheel,) = folder.glob("*.whl")
        _run(sys.executable, "-m", "venv", str(folder / "venv"))
        python = str(folder / "venv" / "bin" / "python")
        _run(python, *pip, "install", "-c", str(ROOT / "constraints.txt"), str(wheel))
        outside = folder / "outside"
        outside.mkdir()
        for words, wanted in STEPS:
            said = _run(str(folder / "venv" / "bin" / "deltatui"), *words, cwd=outside, env=_environment(folder))
            if wanted not in said:
                sys.exit(f"deltatui {' '.join(words)} of {wheel.name} did not say '{wanted}':\n{said}")
        print(f"{wheel.name}: {', '.join(' '.join(words) for words, _ in STEPS)} work outside the checkout")  # noqa: T201
    return 0


def _environment(home: Path) -> dict[str, str]:
    """Nothing of this checkout and of its user's configuration."""
    return {
        "PATH": os.environ.get("PATH", ""),
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "DELTATUI_HOME": str(home / "home"),
    }


def _run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Its standard output; the program ends with what it said where it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
