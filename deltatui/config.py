"""Where settings come from: defaults, the profile's TOML file, ``.env``, environment, flags, in rising order (R17.2).

Imports pydantic (40 ms): import it where settings are used, not at the top of the command line.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

import msgspec
import pydantic
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from deltatui.domain.errors import ValidationError
from deltatui.paths import DEFAULT_PROFILE, Paths
from deltatui.setting_values import kinds_of
from deltatui.settings import NOT_USED, Settings

__all__ = ["Entry", "Loaded", "Origin", "Paths", "Settings", "entries", "load", "render", "secret_values"]

PREFIX = "DELTATUI_"
RESERVED = frozenset({"DELTATUI_PROFILE", "DELTATUI_HOME", "DELTATUI_DRIFT_PROGRAM"})
"""Variables of the prefix that are no settings: the profile, the home of all profiles, a program for tests."""

Layer = Literal["default", "file", ".env", "environment", "flag"]


class Origin(msgspec.Struct, frozen=True):
    """The layer a value comes from, and its name there (a file, a variable, a flag)."""

    layer: Layer
    name: str = ""

    def __str__(self) -> str:
        return f"{self.layer} {self.name}" if self.name else self.layer


@dataclass(frozen=True, slots=True)
class Loaded:
    """``origins`` has every key (``limits.max_leverage``). ``warnings`` are sentences for the operator."""

    settings: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...]
    paths: Paths


class Entry(msgspec.Struct, frozen=True):
    """One line of ``config show``; ``value`` is a display text and never a secret. ``variables`` in rising order.
    ``not_used`` says why this version makes no use of it; empty where it does."""

    key: str
    value: str
    origin: str
    default: str
    description: str
    variables: tuple[str, ...]
    not_used: str = ""


@dataclass(frozen=True, slots=True)
class _Key:
    dotted: str
    field: FieldInfo
    kinds: tuple[Any, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        return (*self._extra("variables", ()), PREFIX + self.dotted.upper().replace(".", "__"))

    @property
    def env_only(self) -> bool:
        return bool(self._extra("env_only", False))

    @property
    def secret(self) -> bool:
        return any(kind is SecretStr or SecretStr in get_args(kind) for kind in self.kinds)

    def _extra(self, name: str, default: Any) -> Any:
        extra = self.field.json_schema_extra
        return extra.get(name, default) if isinstance(extra, dict) else default


def _keys() -> Iterator[_Key]:
    for name, field in Settings.model_fields.items():
        annotation: object = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
            for inner, inner_field in annotation.model_fields.items():
                yield _Key(f"{name}.{inner}", inner_field, kinds_of(annotation, inner))
        else:
            yield _Key(name, field, kinds_of(Settings, name))


_KEYS: dict[str, _Key] = {key.dotted: key for key in _keys()}
_SECTIONS = frozenset(dotted.partition(".")[0] for dotted in _KEYS if "." in dotted)
_VARIABLES: dict[str, str] = {variable: key.dotted for key in _KEYS.values() for variable in key.variables}


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    origin: Origin


def load(
    profile: str = DEFAULT_PROFILE,
    flags: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    paths: Paths | None = None,
) -> Loaded:
    """Read all layers of ``profile``. ``flags`` maps dotted keys to values; a None value is a flag not given.

    Raises ValidationError BAD_CONFIG whose sentence has one line for every fault, each with its place and key.
    """
    env = os.environ if env is None else env
    paths = Paths.of(profile, env) if paths is None else paths
    faults: list[str] = []
    warnings: list[str] = []
    layers = (
        _from_file(paths, faults),
        _from_variables(_dotenv(paths, faults, warnings), ".env", faults),
        _from_variables(env, "environment", faults),
        _from_flags(flags or {}, faults),
    )
    merged: dict[str, _Given] = {}
    for layer in layers:
        # Each layer by itself too: a fault in the file is a fault even where a variable hides it.
        _check(layer, faults, whole=False)
        merged.update(layer)
    settings = _check(merged, faults, whole=True)
    if settings is None or faults:
        lines = "\n".join(f"  {fault}" for fault in dict.fromkeys(faults))
        raise ValidationError("BAD_CONFIG", f"the configuration of profile '{profile}' has faults:\n{lines}")
    origins = {key: merged[key].origin if key in merged else Origin("default") for key in _KEYS}
    return Loaded(settings, origins, tuple(warnings), paths)


def entries(loaded: Loaded) -> tuple[Entry, ...]:
    """Every key with value, origin and description; secrets only as set or not set."""
    resolved = {
        "engine.automation": loaded.settings.automation_by_mode,
        "limits.max_leverage": loaded.settings.max_leverage_by_mode,
        "limits.auto_limit_usd": loaded.settings.auto_limit_usd_by_mode,
        "paper.slippage": loaded.settings.slippage_by_mode,
    }
    shown = []
    for key in _KEYS.values():
        value = _value(loaded.settings, key.dotted)
        text = _text(value)
        if value is None and key.dotted in resolved:
            text = f"{_text(resolved[key.dotted])} (by mode)"
        shown.append(
            Entry(
                key.dotted,
                text,
                str(loaded.origins[key.dotted]),
                _text(key.field.default),
                key.field.description or "",
                key.variables,
                NOT_USED.get(key.dotted, ""),
            )
        )
    return tuple(shown)


def render(loaded: Loaded) -> str:
    """The text of ``config show``: one aligned line a key, and the warnings."""
    rows = entries(loaded)
    widths = max(len(row.key) for row in rows), max(len(row.value) for row in rows)
    lines = [
        f"{row.key:<{widths[0]}}  {row.value:<{widths[1]}}  {row.origin}"
        + (f"  (not used by this version: {row.not_used})" if row.not_used else "")
        for row in rows
    ]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in loaded.warnings)])


def secret_values(settings: Settings) -> tuple[str, ...]:
    """The values that no log may show."""
    values = (_value(settings, key.dotted) for key in _KEYS.values() if key.secret)
    listed = tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
    return (*listed, *settings.chain.rpc_urls)


def _from_file(paths: Paths, faults: list[str]) -> dict[str, _Given]:
    try:
        text = paths.config_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{paths.config_file}: cannot be read ({_why(error)})")
        return {}
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        faults.append(f"{paths.config_file}: is no valid TOML: {error}")
        return {}
    origin = Origin("file", str(paths.config_file))
    given: dict[str, _Given] = {}
    for name, value in tables.items():
        if name in _SECTIONS:
            if not isinstance(value, dict):
                faults.append(f"{origin.name}: {name} is a table; write [{name}] and its keys below it")
                continue
            pairs = {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            pairs = {name: value}
        for key, inner_value in pairs.items():
            if key not in _KEYS:
                faults.append(f"{origin.name}: {_unknown(key)}")
            elif _KEYS[key].env_only:
                variable = _KEYS[key].variables[0]
                faults.append(f"{origin.name}: {key} may not stand in a config file; set the variable {variable}")
            else:
                given[key] = _Given(inner_value, origin)
    return given


def _dotenv(paths: Paths, faults: list[str], warnings: list[str]) -> dict[str, str]:
    if not paths.dotenv.is_file():
        return {}
    import dotenv

    try:
        values = dotenv.dotenv_values(paths.dotenv, interpolate=False, encoding="utf-8")
        mode = paths.dotenv.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{paths.dotenv}: cannot be read ({_why(error)})")
        return {}
    found = {name: value for name, value in values.items() if value is not None}
    if mode & 0o077 and any(found.get(name) and _KEYS[key].secret for name, key in _VARIABLES.items()):
        warnings.append(f"{paths.dotenv} holds secrets and others may read it; run: chmod 600 {paths.dotenv}")
    return found


def _from_variables(env: Mapping[str, str], layer: Layer, faults: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    # In the order of _VARIABLES, so that a setting's own DELTATUI_ name wins over its documented plain one.
    for variable, key in _VARIABLES.items():
        value = env.get(variable, "")
        if not value.strip():
            continue
        before = given.get(key)
        if before is not None and not variable.startswith(PREFIX) and before.value != value:
            faults.append(f"{layer}: {before.origin.name} and {variable} both set {key} and differ; keep one")
        given[key] = _Given(value, Origin(layer, variable))
    for variable in env:
        if variable.startswith(PREFIX) and variable not in _VARIABLES and variable not in RESERVED:
            near = difflib.get_close_matches(variable, _VARIABLES, 1, 0.6)
            hint = f"; did you mean {near[0]}?" if near else "; 'deltatui config show' lists all settings"
            faults.append(f"{layer}: {variable} is no setting{hint}")
    return given


def _from_flags(flags: Mapping[str, object], faults: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for key, value in flags.items():
        if value is None:
            continue
        if key not in _KEYS:
            faults.append(f"flag: {_unknown(key)}")
        elif _KEYS[key].secret:
            # A command line is visible to every user of the machine.
            faults.append(f"flag: {key} may not be given on the command line; set {_KEYS[key].variables[0]}")
        else:
            given[key] = _Given(value, Origin("flag", key))
    return given


def _check(given: Mapping[str, _Given], faults: list[str], *, whole: bool) -> Settings | None:
    """Build settings from what is given. ``whole`` also reports faults between keys, which one layer cannot judge."""
    tree: dict[str, Any] = {}
    for key, item in given.items():
        section, _, name = key.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = item.value
    try:
        return Settings.model_validate(tree)
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
    for detail in details:
        key = _key_of(detail["loc"])
        sentence = _sentence(detail)
        if key in given:
            faults.append(f"{_place(given[key].origin)}: {key} {sentence}")
        elif whole:
            places = dict.fromkeys(
                _place(given[name].origin) for name in given if not key or name.startswith(f"{key}.")
            )
            faults.append(f"{', '.join(places) or 'default'}: {f'{key}: ' if key else ''}{sentence}")
    return None


def _key_of(location: tuple[int | str, ...]) -> str:
    """The longest known key at the beginning of a pydantic location, else its section."""
    for length in range(len(location), 0, -1):
        dotted = ".".join(str(part) for part in location[:length])
        if dotted in _KEYS or dotted in _SECTIONS:
            return dotted
    return ""


def _place(origin: Origin) -> str:
    return origin.name if origin.layer == "file" else str(origin)


def _sentence(detail: Any) -> str:
    """What would be right, in plain words; never the value, which may be a secret."""
    context: Mapping[str, Any] = detail.get("ctx", {})
    match detail["type"]:
        case "greater_than":
            return f"must be greater than {context['gt']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than":
            return f"must be less than {context['lt']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case "int_parsing" | "int_type" | "int_from_float":
            return "must be a whole number"
        case "float_parsing" | "float_type" | "finite_number":
            return "must be a number"
        case "decimal_parsing" | "decimal_type" | "decimal_max_digits" | "decimal_whole_digits":
            return 'must be a number written as text, like "0.5"'
        case "bool_parsing" | "bool_type":
            return "must be true or false"
        case "string_type" | "path_type":
            return "must be a text"
        case "too_short":
            return f"must name at least {context['min_length']}"
        case "string_too_short":
            return f"must have at least {context['min_length']} characters"
        case "string_pattern_mismatch":
            return f"must look like {context['pattern']}"
        case "value_error":
            return str(context["error"])
        case kind if kind.startswith("datetime"):
            return "must be a date like 2025-01-31 or 2025-01-31T12:00:00Z"
        case _:
            return f"is not right: {detail['msg']}"


def _unknown(key: str) -> str:
    near = difflib.get_close_matches(key, _KEYS, 1, 0.6)
    if not near:
        last = key.rpartition(".")[2]
        names = {dotted.rpartition(".")[2]: dotted for dotted in _KEYS}
        near = [names[name] for name in difflib.get_close_matches(last, names, 1, 0.75)]
    hint = f"did you mean {near[0]}?" if near else "'deltatui config show' lists all settings"
    return f"{key} is no setting; {hint}"


def _value(settings: Settings, dotted: str) -> object:
    section, _, name = dotted.rpartition(".")
    return cast("object", getattr(getattr(settings, section) if section else settings, name))


def _text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, SecretStr):
        parts = urlsplit(value.get_secret_value())
        return f"set ({parts.scheme}://{parts.hostname})" if parts.scheme in ("http", "https") else "set (hidden)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Decimal):
        return f'"{value:f}"'
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return str(value)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "unknown reason" if isinstance(error, OSError) else "it is not UTF-8 text"
