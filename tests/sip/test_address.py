"""Addresses as they stand in From, To, Contact and Route."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sip.address import check_address, parse_address
from farm.sip.grammar import is_token, write_params
from farm.sip.status import SipError
from tests.support.strategies import addresses, tokens


@pytest.mark.parametrize(
    ("text", "display", "uri", "params"),
    [
        ("<sip:a@h>", "", "sip:a@h", {}),
        ("sip:a@h", "", "sip:a@h", {}),
        ("sip:a@h;tag=x", "", "sip:a@h", {"tag": "x"}),
        ("<sip:a@h;tag=x>", "", "sip:a@h;tag=x", {}),
        ("caller<sip:a@h>;tag=323", "caller", "sip:a@h", {"tag": "323"}),
        ("T. desk phone <sip:a@h>", "T. desk phone", "sip:a@h", {}),
        (r'"J \"R\" \\" <sip:a@h> ; tag = x', 'J "R" \\', "sip:a@h", {"tag": "x"}),
        ('"a, <b>;c" <sip:a,b;c?d@h?e=f>;q=0.5', "a, <b>;c", "sip:a,b;c?d@h?e=f", {"q": "0.5"}),
        ("<urn:service:sos>", "", "urn:service:sos", {}),
        ("isbn:2983792873", "", "isbn:2983792873", {}),
        (
            '<sip:a@h>;+sip.instance="<urn:uuid:1>";reg-id=1',
            "",
            "sip:a@h",
            {"+sip.instance": '"<urn:uuid:1>"', "reg-id": "1"},
        ),
    ],
)
def test_an_address_has_a_display_name_a_uri_and_parameters(
    text: str, display: str, uri: str, params: dict[str, str | None]
) -> None:
    address = parse_address(text)
    assert (address.display, str(address.uri), address.params) == (display, uri, params)
    assert str(address) == text
    assert check_address(text) == address.tag == (params.get("tag") or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "*",
        "<>",
        "sip:a@h,b",
        "sip:a@h?x=y",
        "sip:a,b@h",
        "sip:a;b=c@h",
        "<sip:a@h",
        "sip:a@h>",
        "< sip:a@h >",
        "<sip:a@h >",
        "<<sip:a@h>>",
        "Bell, Alexander <sip:a@h>",
        '"never closed <sip:a@h>',
        '"a" "b" <sip:a@h>',
        '"a"b <sip:a@h>',
        'b "a" <sip:a@h>',
        "Jürgen <sip:a@h>",
        "(x) <sip:a@h>",
        "<sip:a@h>;",
        "<sip:a@h>tag=x",
        "<sip:a@h>;tag",
        '<sip:a@h>;tag="x"',
        "<sip:a@h>;tag=",
        "<sip:a@h>;tag=a;tag=b",
        "<sip:a@h>;tag=a b",
        "<sip:a@h:0>",
        "<sip:a@h:0>;tag=x",
        "<sip:a@1.2.3.256>;tag=x",
        "<sip:a@1.2.3>",
        "<sip:a@h..b>",
        "<sip:a@h_b>",
        '"\x01" <sip:a@h>',
        '"a\n" <sip:a@h>',
        "<sip:a@h>\n",
        "example.com",
    ],
)
def test_a_broken_address_in_from_or_to_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        check_address(text)
    assert caught.value.status == 400


def test_a_control_character_may_stand_escaped_in_a_display_name() -> None:
    assert parse_address('"BEL:\\\x07 NUL:\\\x00 DEL:\\\x7f" <sip:a@h>').display == "BEL:\x07 NUL:\x00 DEL:\x7f"


@given(addresses())
def test_an_address_keeps_its_text_and_reads_back(text: str) -> None:
    address = parse_address(text)
    assert str(address) == text
    again = parse_address(f"<{address.uri}>{write_params(address.params)}")
    assert (str(again.uri), again.params) == (str(address.uri), address.params)


@given(tokens.flatmap(lambda tag: st.tuples(st.just(tag), addresses(tag=tag))))
def test_the_quick_check_finds_the_tag_that_the_parser_finds(pair: tuple[str, str]) -> None:
    tag, text = pair
    assert check_address(text) == parse_address(text).tag == tag


PIECES = [
    '"',
    "<",
    ">",
    "sip:",
    "a",
    "@",
    "h",
    "1.2.3",
    ".4",
    ":",
    "5060",
    ";",
    "tag",
    "=",
    "lr",
    " ",
    ",",
    "%41",
    "\\",
    "?",
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_the_quick_check_takes_exactly_what_the_parser_takes(text: str) -> None:
    try:
        tag = parse_address(text).tag
    except SipError:
        with pytest.raises(SipError):
            check_address(text)
        return
    if tag and not is_token(tag):
        with pytest.raises(SipError):
            check_address(text)
    elif tag or ";tag" not in text:
        assert check_address(text) == tag
