"""Load and check a configuration.

A node reads one TOML file, then `conf.d/*.toml` beside it in the order of their names, then environment variables
(`SIPFARM__SECTION__KEY`), then options of the command line (`section.key=value`); what comes later wins, except that
`[[routes]]` and `[[gateways]]` of several files add up. Unknown keys are refused, with the nearest right one named.
Whatever is wrong is one `ConfigError`, which says file, line and key. The settings themselves are in `settings.py`, and
`checks.py` says whether their values make sense together.

Decided: `tomllib` and `msgspec.convert` instead of `msgspec.toml.decode`: merging several sources needs the plain
dicts in between, and the line of a wrong key is found in the text afterwards, which only errors pay for.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_origin

import msgspec

from farm.checks import check
from farm.farm_settings import DnsSettings, OverlaySettings, StoreSettings
from farm.near_misses import choices_of, explain_unknown_key, explain_unknown_section, fields_of, suggest
from farm.settings import (
    REPEATED,
    SECTIONS,
    AuthSettings,
    Config,
    GatewaySettings,
    LimitSettings,
    NodeSettings,
    ProxySettings,
    RegistrarSettings,
    ResolverSettings,
    RouteSettings,
    SipSettings,
    TlsSettings,
)
from farm.sources import ConfigError, Source, Sources, parse_key_path
from farm.watch_settings import AccountingSettings, AdminSettings, CaptureSettings, LogSettings

__all__ = [
    "CREDENTIALS",
    "AccountingSettings",
    "AdminSettings",
    "AuthSettings",
    "CaptureSettings",
    "Config",
    "ConfigError",
    "DnsSettings",
    "GatewaySettings",
    "LimitSettings",
    "LogSettings",
    "NodeSettings",
    "OverlaySettings",
    "ProxySettings",
    "RegistrarSettings",
    "ResolverSettings",
    "RouteSettings",
    "SipSettings",
    "StoreSettings",
    "TlsSettings",
    "load",
]

ENVIRONMENT_PREFIX: Final = "SIPFARM__"
_AT: Final = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_WORDS: Final = {
    "array": "list",
    "bool": "true or false",
    "float": "number",
    "int": "whole number",
    "object": "section",
    "str": "text",
}
_WORD: Final = re.compile(rf"\b({'|'.join(_WORDS)})\b")
_PATHS: Final = (
    ("node", "state_dir"),
    ("auth", "nonce_key_file"),
    ("tls", "trust"),
    ("overlay", "identity"),
    ("store", "redis_password_file"),
    ("admin", "control"),
    ("accounting", "file"),
    ("accounting", "redis_password_file"),
    ("capture", "auth_key_file"),
    ("log", "file"),
)
_PATH_LISTS: Final = (("tls", "certificates"), ("tls", "keys"))
_CREDENTIAL: Final = "credential:"  # what LoadCredential= of systemd names
CREDENTIALS: Final = "/run/credentials/sipfarm.service"  # where root finds them, who checks what the service will read
_NO_CREDENTIALS: Final = frozenset(("state_dir", "identity", "control", "file"))  # places that are written to


def load(
    path: str | os.PathLike[str],
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] | None = None,
) -> Config:
    """The configuration of `path` with its `conf.d`, `environ` and `overrides` (`section.key=value`), checked.

    Raises ConfigError, and nothing else, whatever is in them.
    """
    main = Path(path)
    tree = Sources(str(main))
    for file in [main, *_drop_ins(main)]:
        _read_file(tree, file)
    for name, text in sorted((environ or {}).items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            _add_text(tree, Source(f"environment variable {name}"), section, key, text)
    for override in overrides:
        name, equals, text = override.partition("=")
        section, _, key = name.strip().partition(".")
        source = Source(f"option {override}")
        if not equals:
            raise ConfigError("write it as section.key=value", where=source.name)
        _add_text(tree, source, section, key, text)
    credentials = (environ or {}).get("CREDENTIALS_DIRECTORY", CREDENTIALS)
    return check(tree, _convert(tree, main.absolute().parent, credentials))


def _drop_ins(main: Path) -> list[Path]:
    """The files of `conf.d` beside the main file, in the order of their names."""
    folder = main.absolute().parent / "conf.d"
    try:
        return sorted(file for file in folder.iterdir() if file.suffix == ".toml")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(folder)) from None


def _read_file(tree: Sources, file: Path) -> None:
    name = str(file)
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=name) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError("is not UTF-8 text", where=name, line=line) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        line = int(found[1]) if found else text.count("\n") + 1
        raise ConfigError(f"is not TOML: {problem[:1].lower()}{problem[1:]}", where=name, line=line) from None
    except RecursionError:
        raise ConfigError("is not TOML: nested too deeply", where=name) from None
    _merge_file(tree, Source(name, text), document)


def _merge_file(tree: Sources, source: Source, document: Mapping[str, Any]) -> None:
    for section, content in document.items():
        tree.origins.setdefault((section,), (source, (section,)))
        if section not in SECTIONS:
            tree.origins[(section,)] = (source, (section,))
            raise tree.error((section,), explain_unknown_section(section))
        if section in REPEATED:
            if not isinstance(content, list):
                raise tree.error((section,), f"write [[{section}]], it may be given several times")
            for index, entry in enumerate(content):
                tree.append(source, section, index, entry)
        elif isinstance(content, dict):
            tree.values.setdefault(section, {})
            for key, value in content.items():
                tree.add(source, section, key, value)
        else:
            raise tree.error((section,), f"this is a section: write [{section}] on a line of its own")


def _add_text(tree: Sources, source: Source, section: str, key: str, text: str) -> None:
    """Set a key from text, read as its field's type wants it: `true`, `30`, plain text, `a,b` or a TOML array."""
    tree.origins[(section, key)] = (source, (section, key))
    if section not in SECTIONS:
        raise ConfigError(explain_unknown_section(section), where=source.name)
    if section in REPEATED:
        raise ConfigError(f"[[{section}]] can be given in files only", where=source.name)
    kind = fields_of(section).get(key)
    if kind is None:
        raise ConfigError(explain_unknown_key(section, key), where=source.name, key=f"{section}.{key}")
    value: Any = text
    listed = get_origin(kind) is tuple
    if listed and not text.lstrip().startswith("["):
        value = [part.strip() for part in text.split(",") if part.strip()]
    elif listed or kind in (bool, int, float):
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            value = text  # the conversion says what was expected
    tree.add(source, section, key, value)


def _place(tree: Sources, base: Path, credentials: str) -> None:
    """Make paths of what is written where a path belongs: `~` and `credential:NAME` are places, too."""

    def find(path: tuple[str | int, ...], text: str) -> str:
        if not text.startswith(_CREDENTIAL):
            return str(base / os.path.expanduser(text))
        name = text.removeprefix(_CREDENTIAL)
        if path[1] in _NO_CREDENTIALS:
            raise tree.error(path, "is written to, which a credential cannot be")
        if not name or "/" in name or name in (".", ".."):
            raise tree.error(path, f'"{text}" names no credential, as LoadCredential=NAME:… of the unit does')
        return os.path.join(credentials, name)

    for section, key in _PATHS:
        values = tree.values.get(section, {})
        if isinstance(values.get(key), str) and values[key]:
            values[key] = find((section, key), values[key])
    for section, key in _PATH_LISTS:
        values = tree.values.get(section, {})
        if isinstance(values.get(key), list):
            values[key] = [
                find((section, key, index), path) if isinstance(path, str) and path else path
                for index, path in enumerate(values[key])
            ]


def _convert(tree: Sources, base: Path, credentials: str) -> Config:
    """The structs, from the merged values; raises ConfigError for unknown, missing and mistyped keys."""
    for section in ("node", "sip"):
        tree.values.setdefault(section, {})
    _place(tree, base, credentials)
    try:
        return msgspec.convert(tree.values, Config)
    except msgspec.ValidationError as error:
        found = _AT.fullmatch(str(error))
        problem, place = (found[1], found[2]) if found else (str(error), "")
        path = parse_key_path(place)
    unknown = _UNKNOWN.fullmatch(problem)
    if unknown:
        raise tree.error((*path, unknown[1]), explain_unknown_key(str(path[0]), unknown[1]))
    missing = _MISSING.fullmatch(problem)
    if missing:
        raise tree.error((*path, missing[1]), "is missing")
    problem = _WORD.sub(lambda word: _WORDS[word[0]], problem.replace("`", ""))
    if "Invalid enum value" in problem and len(path) > 1:
        value = tree.values[str(path[0])]
        for step in path[1:]:
            value = value[step]
        choices = choices_of(str(path[0]), str(path[1]))
        problem = f'"{value}" is none of {", ".join(choices)}{suggest(str(value), choices)}'
    raise tree.error(path, f"{problem[:1].lower()}{problem[1:]}")
