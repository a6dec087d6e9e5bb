"""Users out of a CSV file: `user,password[,domain]`, one a line (RFC 4180 quoting).

Lines are read one at a time, so that a file of any length costs no memory and progress can be shown; what is wrong
with a line is said with its number and spoils no other line. Empty lines and lines that begin with # are passed over,
and so is a first line that names the columns. What the fields may hold is `Users`' business.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final

from farm.security.users import BadRow, UserRow

_COLUMNS: Final = (["user", "password"], ["user", "password", "domain"])


def read_users(lines: Iterable[str]) -> Iterator[UserRow | BadRow]:
    """The users in the lines of a file; `domain` is "" where the line has none. Never raises for what a line holds."""
    named = False
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
            if [field.strip().lower() for field in fields] in _COLUMNS:
                continue
        user = fields[0].strip()
        if len(fields) not in (2, 3):
            yield BadRow(line, f"{len(fields)} fields instead of user,password or user,password,domain")
        elif not user:
            yield BadRow(line, "no user name")
        elif not fields[1]:
            yield BadRow(line, f"no password for {user!r}")
        else:
            yield UserRow(line, user, fields[2].strip() if len(fields) == 3 else "", fields[1])
