"""Users out of a CSV file: `user,password[,domain]`, one a line (RFC 4180 quoting), or the columns that its head names.

Lines are read one at a time, so that a file of any length costs no memory and progress can be shown; what is wrong
with a line is said with its number and spoils no other. Empty lines and lines that begin with # are passed over. What
the fields may hold is `Users`' business.

A first line that names the columns may name those of another registrar's export too: `ha1_md5` is the hash for the
name "user" (RFC 7616 §3.4.2), `ha1b_md5` that for "user@domain", as Kamailio calls them.

Decided: a head with a column that nobody knows ends the reading. Passed over it would make users without what stands
in it; taken for a user it would make a password of a domain.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from farm.security.users import BadRow, UserRow

_ALGORITHMS: Final = {"md5": "MD5", "sha256": "SHA-256", "sha512_256": "SHA-512-256"}
_NAMES: Final = {"user": "user", "username": "user", "password": "password", "domain": "domain"}
_HASHES: Final = tuple(f"{which}_{short}" for short in _ALGORITHMS for which in ("ha1", "ha1b"))
COLUMNS: Final = ("user", "domain", "password", *_HASHES)
_PLAIN: Final = (["user", "password"], ["user", "password", "domain"])


def read_users(lines: Iterable[str]) -> Iterator[UserRow | BadRow]:
    """The users in the lines of a file; `domain` is "" where the line has none. Never raises for what a line holds."""
    named = False
    columns: list[str] = []
    for line, text in enumerate(lines, 1):
        if line == 1:
            text = text.removeprefix("\ufeff")
        try:
            # one line at a time: a quote left open must not swallow the users below it
            fields = next(csv.reader((text,), strict=True), [])
        except csv.Error as error:
            yield BadRow(line, f"not CSV: {error}")
            continue
        if not any(fields) or fields[0].lstrip().startswith("#"):
            continue
        if not named:
            named = True
            columns = _find_columns(fields)
            problem = _find_problem(columns)
            if problem:
                yield BadRow(line, problem)
                return
            if columns:
                columns = [] if columns in _PLAIN else columns
                continue
        yield _read_named(line, fields, columns) if columns else _read_plain(line, fields)


def _read_plain(line: int, fields: Sequence[str]) -> UserRow | BadRow:
    """A line of user,password[,domain]."""
    user = fields[0].strip()
    if len(fields) not in (2, 3):
        return BadRow(line, f"{len(fields)} fields instead of user,password or user,password,domain")
    if not user:
        return BadRow(line, "no user name")
    if not fields[1]:
        return BadRow(line, f"no password for {user!r}")
    return UserRow(line, user, fields[2].strip() if len(fields) == 3 else "", fields[1])


def _read_named(line: int, fields: Sequence[str], columns: Sequence[str]) -> UserRow | BadRow:
    """A line whose columns the head has named. A password outdoes the hashes: it makes those of all algorithms."""
    if len(fields) != len(columns):
        return BadRow(line, f"{len(fields)} fields instead of the {len(columns)} that the first line names")
    found = dict(zip(columns, fields, strict=True))
    user = found["user"].strip()
    password = found.get("password", "")
    hashes: list[tuple[str, str, str]] = []
    for short, algorithm in _ALGORITHMS.items():
        plain, full = (found.get(f"{which}_{short}", "").strip() for which in ("ha1", "ha1b"))
        if plain:
            hashes.append((algorithm, plain, full))
        elif full and not password:
            return BadRow(line, f"ha1b_{short} without ha1_{short} for {user!r}")
    if not user:
        return BadRow(line, "no user name")
    if not password and not hashes:
        return BadRow(line, f"neither a password nor a hash for {user!r}")
    return UserRow(line, user, found.get("domain", "").strip(), password, () if password else tuple(hashes))


def _find_columns(fields: Sequence[str]) -> list[str]:
    """The columns that a first line names; [] when it is a user's. Two names of ours make a head of it."""
    columns = [_NAMES.get(name, name) for name in (field.strip().lower() for field in fields)]
    known = [name for name in columns if name in COLUMNS]
    return columns if len(known) > 1 or columns[0].startswith("ha1") else []


def _find_problem(columns: Sequence[str]) -> str:
    """Why lines with these columns cannot be read; "" when they can, or none are named."""
    unknown = [name for name in columns if name not in COLUMNS]
    if unknown:
        return f"no column is called {unknown[0]!r}; there are {', '.join(COLUMNS)}"
    if len(set(columns)) != len(columns):
        return "a column is named twice"
    if columns and "user" not in columns:
        return "no column is called 'user'"
    return ""
