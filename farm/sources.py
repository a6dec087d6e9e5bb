"""Settings merged from several sources, which remember the line of the file that each came from.

`config.py` fills `Sources` in the order of precedence and asks it for the error to raise; nothing here knows which
settings exist.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

KeyPath = tuple[str | int, ...]

_TABLE: Final = re.compile(r"\s*(\[\[?)\s*([^\]#]+?)\s*\]")
_PART: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY: Final = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")


class ConfigError(Exception):
    """What is wrong with a configuration: `str()` of it is the one line that a user reads.

    `where` is a file, an environment variable or an option; `line` is 0 when there is none to point at; `key` is
    `section.key`, or "" when the fault is not one key's.
    """

    def __init__(self, problem: str, *, where: str = "", line: int = 0, key: str = "") -> None:
        self.problem = problem
        self.where = where
        self.line = line
        self.key = key
        place = f"{where}:{line}" if line else where
        super().__init__(": ".join(part for part in (place, key, problem) if part))


class Source(NamedTuple):
    """Where settings came from: a file with its text, or a name alone (an environment variable, an option)."""

    name: str
    text: str = ""


class Sources:
    """Settings as merged so far, and which source gave which key. `main` is the file to name when none did."""

    def __init__(self, main: str) -> None:
        self.main = main
        self.values: dict[str, Any] = {}
        self.origins: dict[KeyPath, tuple[Source, KeyPath]] = {}

    def error(self, path: KeyPath, problem: str) -> ConfigError:
        """An error at `path`, with the place that the nearest known part of it came from."""
        for length in range(len(path), 0, -1):
            origin = self.origins.get(path[:length])
            if origin is not None:
                source, inside = origin
                line = find_line(source.text, (*inside, *path[length:])) if source.text else 0
                return ConfigError(problem, where=source.name, line=line, key=dotted(path))
        return ConfigError(problem, where=self.main, key=dotted(path))

    def add(self, source: Source, section: str, key: str, value: Any) -> None:
        """Set one key; what was there gives way."""
        self.values.setdefault(section, {})[key] = value
        self.origins[(section, key)] = (source, (section, key))

    def append(self, source: Source, section: str, index: int, value: Any) -> None:
        """Add one table of a repeated section, the `index`-th of its file."""
        kept = self.values.setdefault(section, [])
        self.origins[(section, len(kept))] = (source, (section, index))
        kept.append(value)


def dotted(path: KeyPath) -> str:
    """`("routes", 1, "to", 0)` as a user would say it: `routes[1].to[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse_key_path(text: str) -> KeyPath:
    """msgspec's `routes[1].to[0]` taken apart."""
    parts = re.findall(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)", text)
    return tuple(int(index) if index.isdigit() else name for index, name in parts if name or index.isdigit())


def find_line(text: str, path: KeyPath) -> int:
    """The line (from 1) of the key at `path`, or of the nearest thing around it; 0 when nothing fits.

    It reads lines, not TOML: text that parsed has keys at the start of lines, except in inline tables and in strings
    of several lines, where the line may be that of the key around or be mistaken, which an error message can bear.
    """
    best, best_length = 0, 0
    table: KeyPath = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        header = _TABLE.match(line)
        if header and not line.lstrip().startswith("[["):
            table = _split_key(header[2])
        elif header:
            name = _split_key(header[2])
            table_name = dotted(name)
            counts[table_name] = counts.get(table_name, -1) + 1
            table = (*name, counts[table_name])
        key = None if header else _KEY.match(line)
        if not header and not key:
            continue
        here = (*table, *_split_key(key[1])) if key else table
        shared = 0
        for ours, wanted in zip(here, path, strict=False):
            if ours != wanted:
                break
            shared += 1
        if shared > best_length and shared == min(len(here), len(path)):
            best, best_length = number, shared
    return best


def _split_key(text: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in text.split("."))
