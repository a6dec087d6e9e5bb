"""What a wrong word in a configuration may have meant: the nearest key, section or choice, for the error's text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any, Final, get_type_hints

from farm.settings import SECTIONS

_SLIP: Final = 0.85  # as near as a letter more or less: it is meant, also where another section has the key as it is
_SECRET: Final = re.compile(r"passw|secret|token|private|ha1")


def fields_of(section: str) -> dict[str, Any]:
    """Names and types of a section's keys."""
    return get_type_hints(SECTIONS[section])


def choices_of(section: str, key: str) -> list[str]:
    """What an enumerated key may be."""
    kind = fields_of(section)[key]
    found: list[str] = []
    stack = [kind]
    while stack:
        part = stack.pop(0)
        if isinstance(part, str):
            found.append(part)
        stack.extend(getattr(part, "__args__", ()))
    return found


def explain_unknown_section(section: str) -> str:
    """What is wrong with a section that there is not, and which was meant."""
    near = suggest(section, list(SECTIONS), 0.7)
    return f"unknown section{near or '; the sections are ' + ', '.join(SECTIONS)}"


def explain_unknown_key(section: str, key: str) -> str:
    """The words for a key that no section, or not this one, has."""
    slip = suggest(key, list(fields_of(section)), _SLIP)
    if slip:
        return f"unknown key{slip}"
    for other in SECTIONS:
        if key in fields_of(other):
            return f'unknown key; did you mean "{key}" of section [{other}]?'
    problem = f"unknown key{suggest(key, list(fields_of(section)))}"
    if "did you mean" in problem:
        return problem
    if _SECRET.search(key.lower()):
        return f"{problem} (secrets are never settings: they are named by file)"
    return problem


def suggest(word: str, known: Sequence[str], likeness: float = 0.5) -> str:
    """ "; did you mean …?" for the nearest of the known words, "" when none is near."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=likeness)
    return f'; did you mean "{by_lower[close[0]]}"?' if close else ""
