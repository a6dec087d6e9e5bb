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


MD5 = "0123456789abcdef" * 2
SHA = "0123456789abcdef" * 4


def test_the_head_names_the_columns_of_another_registrar_s_export() -> None:
    text = f"username,domain,ha1_md5,ha1b_md5\nalice,example.com,{MD5},{MD5[::-1]}\n bob ,, {MD5} ,\n"
    assert read(text) == [
        UserRow(2, "alice", "example.com", "", (("MD5", MD5, MD5[::-1]),)),
        UserRow(3, "bob", "", "", (("MD5", MD5, ""),)),
    ]
    assert read(f"# of June\nHA1_SHA256,ha1_md5,ha1_sha512_256,User\n{SHA},{MD5},{SHA},carol\n,{MD5},,dave\n") == [
        UserRow(3, "carol", "", "", (("MD5", MD5, ""), ("SHA-256", SHA, ""), ("SHA-512-256", SHA, ""))),
        UserRow(4, "dave", "", "", (("MD5", MD5, ""),)),
    ]


def test_a_password_outdoes_hashes_and_columns_may_stand_in_any_order() -> None:
    assert read(f"domain,user,password,ha1_md5\nexample.net,alice,secret,{MD5}\n,bob, ,\n") == [
        UserRow(2, "alice", "example.net", "secret"),
        UserRow(3, "bob", "", " "),
    ]


def test_wrong_lines_under_a_head_are_named_too() -> None:
    assert read(f"user,domain,ha1_md5,ha1b_md5\nalice,example.com\n,x,{MD5},\nbob,,,\ncarol,,,{MD5}\ndave,,{MD5},") == [
        BadRow(2, "2 fields instead of the 4 that the first line names"),
        BadRow(3, "no user name"),
        BadRow(4, "neither a password nor a hash for 'bob'"),
        BadRow(5, "ha1b_md5 without ha1_md5 for 'carol'"),
        UserRow(6, "dave", "", "", (("MD5", MD5, ""),)),
    ]


def test_a_head_with_a_column_that_nobody_knows_ends_the_reading() -> None:
    """Else the domain would be everybody's password."""
    columns = "user, domain, password, ha1_md5, ha1b_md5, ha1_sha256, ha1b_sha256, ha1_sha512_256, ha1b_sha512_256"
    assert read(f"user,domain,ha1\nalice,example.com,{MD5}\n") == [
        BadRow(1, f"no column is called 'ha1'; there are {columns}")
    ]
    assert read(f"ha1_md5,name\n{MD5},alice\n") == [BadRow(1, f"no column is called 'name'; there are {columns}")]
    assert read(f"user,username,ha1_md5\na,b,{MD5}\n") == [BadRow(1, "a column is named twice")]
    assert read(f"ha1_md5\n{MD5}\n") == [BadRow(1, "no column is called 'user'")]
    assert read("user,x\nalice,domain\n") == [UserRow(1, "user", "", "x"), UserRow(2, "alice", "", "domain")]


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
