"""Compare our account decoding with driftpy's, where driftpy installs; say so where it does not. Run by `make test`.

driftpy pins old versions of almost everything and compiles two of them, so it lives in an environment of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-drift"
READY = VENV / ".ready"
TEST = "tests/conformance/test_driftpy_decoder.py"
_INSTALL_S = 420


def main() -> int:
    if sys.version_info >= (3, 13):
        print("driftpy does not install on Python 3.13 and later: its comparison is skipped")  # noqa: T201
        return 0
    if not READY.exists():
        print("installing driftpy for the comparison of account decoding ...", flush=True)  # noqa: T201
        why = _install()
        if why:
            print(f"driftpy does not install here ({why}): its comparison is skipped")  # noqa: T201
            return 0
        READY.touch()
    return subprocess.run([str(VENV / "bin" / "python"), "-m", "pytest", TEST], cwd=ROOT, check=False).returncode


def _install() -> str:
    try:
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True)
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run(
            [*pip, "-e", f"{ROOT}[drift]", "pytest", "pytest-asyncio", "hypothesis"],
            check=True,
            capture_output=True,
            timeout=_INSTALL_S,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else f"exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        return f"not done within {_INSTALL_S} s"
    return ""


if __name__ == "__main__":
    sys.exit(main())
