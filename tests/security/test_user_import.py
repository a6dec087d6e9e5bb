"""Users out of a CSV file: every wrong line named, none in the way of another."""

from __future__ import annotations

import io
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from farm.security.user_import import read_users
from farm.security.users import BadRow, UserRow


def read(text: str) -> list[UserRow | BadRow]:
    return list(read_users(io.StringIO(text, newline="")))


def test_users_with_and_without_a_domain() -> None:
    assert read('alice,secret\nbob,"se,cr""et",example.net\r\n+4930, pass word ,\n') == [
        UserRow(1, "alice", "", "secret"),
        UserRow(2, "bob", "example.net", 'se,cr"et'),
        UserRow(3, "+4930", "", " pass word "),
    ]


def test_a_line_of_column_names_comments_and_empty_lines_are_passed_over() -> None:
    assert read("\ufeff# our users\n\nUser, Password, Domain\nalice,secret\n,,\nuser,password\n") == [
        UserRow(4, "alice", "", "secret"),
        UserRow(6, "user", "", "password"),
    ]
    assert read("\ufeffuser,password\n\ufeffx,y\n") == [UserRow(2, "\ufeffx", "", "y")]


def test_every_wrong_line_is_named_and_no_other_is_lost() -> None:
    assert read('alice,secret\nbob\nx,y,z,w\n,secret\ncarol,\ndave,"open\n"eve"x,secret\nfrank,secret') == [
        UserRow(1, "alice", "", "secret"),
        BadRow(2, "1 fields instead of user,password or user,password,domain"),
        BadRow(3, "4 fields instead of user,password or user,password,domain"),
        BadRow(4, "no user name"),
        BadRow(5, "no password for 'carol'"),
        BadRow(6, "not CSV: unexpected end of data"),
        BadRow(7, "not CSV: ',' expected after '\"'"),
        UserRow(8, "frank", "", "secret"),
    ]


def test_no_password_is_repeated_in_what_is_said_about_a_line() -> None:
    for row in read('alice,secret,a,b\n,secret\nbob,"secret\n'):
        assert isinstance(row, BadRow)
        assert "secret" not in row.problem


def test_lines_are_read_as_they_are_needed() -> None:
    def endless() -> Iterator[str]:
        while True:
            yield "alice,secret\n"

    rows = read_users(endless())
    assert [next(rows) for _ in range(3)] == [UserRow(line, "alice", "", "secret") for line in (1, 2, 3)]


@given(st.lists(st.text(), max_size=5))
def test_any_lines_are_rows_or_bad_rows(lines: list[str]) -> None:
    assert all(isinstance(row, UserRow | BadRow) for row in read_users(lines))
