"""Tokens, quoting, lists, parameters, numbers and header names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sip.grammar import (
    CANONICAL,
    COMPACT,
    NAMES,
    canonical_name,
    is_token,
    parse_number,
    parse_params,
    quote,
    split_commas,
    unquote,
    write_params,
)
from farm.sip.status import SipError
from tests.support.strategies import header_params, tokens


@pytest.mark.parametrize("text", ["a", "-.!%*_+`'~", "INVITE", "z9hG4bK"])
def test_these_are_tokens(text: str) -> None:
    assert is_token(text)


@pytest.mark.parametrize("text", ["", "a b", "a\n", "a;b", "ä", "a\x01", "a:b", '"a"', "<a>", "a@b", "a/b"])
def test_these_are_no_tokens(text: str) -> None:
    assert not is_token(text)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Via", "via"),
        ("v", "via"),
        ("V", "via"),
        ("vIA", "via"),
        ("CSeq", "cseq"),
        ("cSEQ", "cseq"),
        ("TO \t", "to"),
        ("t  ", "to"),
        ("X-Anything", "x-anything"),
        ("C%6Fntact", "c%6fntact"),
    ],
)
def test_a_header_name_is_found_in_any_spelling_with_white_space_before_its_colon(spelling: str, name: str) -> None:
    assert canonical_name(spelling) == name


@pytest.mark.parametrize(
    "spelling", ["", " ", "Con tact", "Contact\x01", "\x00", "Via\r", "Vía", "Via\x0b", "To\u00a0"]
)
def test_a_space_or_a_control_character_inside_a_header_name_is_a_400(spelling: str) -> None:
    with pytest.raises(SipError) as caught:
        canonical_name(spelling)
    assert (caught.value.status, caught.value.reason) == (400, "bad-header-name")


def test_the_tables_of_names_agree() -> None:
    assert all(name == spelling.lower() for name, spelling in NAMES.items())
    assert set(COMPACT.values()) <= set(NAMES)
    assert set(CANONICAL.values()) <= set(NAMES)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("0068", 68), ("4294967295", 4294967295), ("0000000007", 7)])
def test_a_number_is_one_to_ten_digits(text: str, number: int) -> None:
    assert parse_number(text, 2**32 - 1) == number


@pytest.mark.parametrize("text", ["", "+5", "-1", "1_0", " 1", "1 ", "1\n", "٣", "²", "0x1", "1.0", "00000000001"])
def test_what_int_would_take_is_still_no_number(text: str) -> None:
    with pytest.raises(SipError):
        parse_number(text, 2**32 - 1)


def test_a_number_over_its_limit_is_refused() -> None:
    assert parse_number("255", 255) == 255
    with pytest.raises(SipError):
        parse_number("256", 255)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a,b ,\tc", ["a", "b", "c"]),
        ("", [""]),
        ("a,,b", ["a", "", "b"]),
        ('"x, y" <sip:a>, <sip:b,c>;p="1,2"', ['"x, y" <sip:a>', '<sip:b,c>;p="1,2"']),
        (r'"a\",b", c', [r'"a\",b"', "c"]),
        (r'"a\\",b', [r'"a\\"', "b"]),
        ('"never closed, x', ['"never closed, x']),
        ("<never closed, x", ["<never closed, x"]),
        ('a, "b\\', ["a", '"b\\']),
    ],
)
def test_commas_split_a_list_outside_quotes_and_brackets(text: str, parts: list[str]) -> None:
    assert split_commas(text) == parts


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("", {}),
        (";a", {"a": None}),
        (";A=b;c = d ; e", {"a": "b", "c": "d", "e": None}),
        (' ;q="a;b\\"c"', {"q": '"a;b\\"c"'}),
        (";received=2001:db8::1;x=[2001:db8::1]", {"received": "2001:db8::1", "x": "[2001:db8::1]"}),
    ],
)
def test_parameters_keep_order_and_quotes_and_lose_case_in_names(text: str, params: dict[str, str | None]) -> None:
    assert parse_params(text) == params
    assert list(parse_params(text)) == list(params)


@pytest.mark.parametrize(
    "text",
    [";", ";;", ";a;", ";a=", ";=b", "a", ";a b", ';a="b', ";a=b c", ";a=@", ";a=\x00", ';a="\x01"', " ", ";a,b"],
)
def test_a_broken_parameter_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        parse_params(text)
    assert caught.value.reason == "bad-parameter"


def test_a_parameter_given_twice_is_a_400() -> None:
    with pytest.raises(SipError) as caught:
        parse_params(";tag=a;Tag=b")
    assert caught.value.reason == "repeated-parameter"


@given(header_params())
def test_parameters_written_read_the_same(text: str) -> None:
    params = parse_params(text)
    assert parse_params(write_params(params)) == params


@given(st.text())
def test_a_quoted_text_unquotes_to_itself(text: str) -> None:
    if not any((ord(character) < 32 and character != "\t") or character == "\x7f" for character in text):
        assert unquote(quote(text)) == text


@given(tokens)
def test_what_is_not_quoted_stays(text: str) -> None:
    assert unquote(text) == text


@given(st.lists(st.text(st.characters(exclude_characters=',"<', exclude_categories=["Cs"]))))
def test_what_commas_joined_commas_split(parts: list[str]) -> None:
    assert split_commas(",".join(parts)) == [part.strip(" \t") for part in parts or [""]]
