"""Where a profile keeps its things: config file, state, socket, logs, themes. Needs no pydantic, so attaching is quick.

``DELTATUI_HOME`` puts config and state of all profiles below one folder (containers, tests); otherwise the platform's
own folders hold them, which on Linux follow ``XDG_CONFIG_HOME`` and ``XDG_STATE_HOME``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deltatui.api.endpoint import MAX_PATH_BYTES, check_path
from deltatui.domain.errors import ValidationError

if TYPE_CHECKING:
    from deltatui.ports import AccountId

DEFAULT_PROFILE = "default"

_PROFILE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Paths:
    """``theme_folders`` in rising order of precedence: shipped, then the user's own. ``account_locks`` is shared by all
    profiles below one home."""

    profile: str
    config_file: Path
    dotenv: Path
    state_folder: Path
    socket: Path
    lock: Path
    account_locks: Path
    log_folder: Path
    database: Path
    theme_folders: tuple[Path, ...]

    @classmethod
    def of(cls, profile: str = DEFAULT_PROFILE, env: Mapping[str, str] | None = None) -> Paths:
        """The places of ``profile``; nothing is created. Raises ValidationError BAD_PROFILE or SOCKET_PATH_TOO_LONG."""
        env = os.environ if env is None else env
        if not _PROFILE.fullmatch(profile):
            raise ValidationError(
                "BAD_PROFILE",
                f"'{profile}' is no profile name; use up to 32 small letters, digits, '-' and '_', "
                "beginning with a letter or digit",
            )
        home = env.get("DELTATUI_HOME", "")
        if home:
            config, states = Path(home).absolute() / "config", Path(home).absolute() / "state"
        else:
            import platformdirs

            config = platformdirs.user_config_path("deltatui")
            states = platformdirs.user_state_path("deltatui")
        state = states / profile
        # A home of its own means separate engines, and a runtime folder is shared by all of a user's.
        runtime = None if home else _runtime_folder(env)
        return cls(
            profile=profile,
            config_file=config / f"{profile}.toml",
            dotenv=Path.cwd() / ".env",
            state_folder=state,
            socket=_socket(runtime, state, profile),
            lock=state / "engine.lock",
            # No profile can be called so.
            account_locks=states / ".accounts",
            log_folder=state / "log",
            database=state / "deltatui.sqlite",
            theme_folders=(_shipped_themes(), config / "themes"),
        )

    def account_lock(self, account: AccountId) -> Path:
        """The lock file of an account, the same for every profile. Two accounts never have the same, whatever text an
        authority is: its name is a digest, and who holds it stands in the file."""
        identity = json.dumps([account.venue, account.authority, account.sub_account])
        return self.account_locks / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.lock"


def _runtime_folder(env: Mapping[str, str]) -> Path | None:
    folder = env.get("XDG_RUNTIME_DIR", "")
    if not folder or not os.path.isabs(folder) or not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        return None
    return Path(folder)


def _socket(runtime: Path | None, state: Path, profile: str) -> Path:
    if runtime is not None:
        path = runtime / "deltatui" / f"{profile}.sock"
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return path
    return check_path(state / "engine.sock")


def _shipped_themes() -> Path:
    # An editable install does not see the folder that the wheel carries.
    package = Path(__file__).resolve().parent
    installed = package / "_themes"
    return installed if installed.is_dir() else package.parent / "themes"
