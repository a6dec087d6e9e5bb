"""What is read from a message on demand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from farm.sip.address import parse_address
from farm.sip.headers import (
    STAR,
    contact_expires,
    contacts,
    expires,
    max_breadth,
    max_forwards,
    parse_cseq,
    paths,
    proxy_require,
    quality,
    require,
    routes,
    supported,
    vias,
)
from farm.sip.message import Message
from farm.sip.status import SipError
from tests.support.messages import make_register, make_request


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 INVITE", (1, "INVITE")), ("0009 \t INVITE", (9, "INVITE")), ("2147483647 X.y", (2147483647, "X.y"))],
)
def test_cseq_is_a_number_below_two_to_the_31_and_a_method(text: str, value: tuple[int, str]) -> None:
    assert parse_cseq(text) == value


@pytest.mark.parametrize(
    "text",
    ["", "1", "INVITE", "1INVITE", "2147483648 X", "36893488147419103232 X", "-1 X", "+1 X", "1 X Y", "1 X\n", "1_0 X"],
)
def test_a_broken_cseq_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        parse_cseq(text)
    assert (caught.value.status, caught.value.reason) == (400, "bad-cseq")


def test_contacts_are_read_over_all_lines() -> None:
    request = make_register(contact='"a, b" <sip:x,y@h>;q=0.5, sip:z@h;expires=5', headers=["m: <sip:w@h>"])
    found = contacts(request)
    assert found != STAR
    assert [str(contact.uri) for contact in found if not isinstance(contact, str)] == [
        "sip:x,y@h",
        "sip:z@h",
        "sip:w@h",
    ]
    assert contacts(make_register(contact=None)) == []


def test_the_star_stands_alone() -> None:
    assert contacts(make_register(contact="*")) == STAR
    with pytest.raises(SipError):
        contacts(make_register(contact="*", headers=["Contact: <sip:a@h>"]))
    with pytest.raises(SipError):
        contacts(make_register(contact="*, *"))


@pytest.mark.parametrize("contact", ["", "<sip:a@h>,", "sip:a@h?b=c", '"a <sip:a@h>', "<sip:a@h>;;;;", "*;q=1"])
def test_a_broken_contact_is_a_400(contact: str) -> None:
    with pytest.raises(SipError) as caught:
        contacts(make_register(contact=contact))
    assert caught.value.status == 400


@pytest.mark.parametrize(("read", "name"), [(routes, "Route"), (paths, "Path")])
def test_routes_are_read_topmost_first_and_stand_in_brackets(
    read: Callable[[Message], Sequence[object]], name: str
) -> None:
    request = make_request(headers=[f"{name}: <sip:a;lr>;x=1,<sip:b;lr>", f"{name}: <sip:c>"])
    assert [str(address) for address in read(request)] == ["<sip:a;lr>;x=1", "<sip:b;lr>", "<sip:c>"]
    assert list(read(make_request())) == []
    with pytest.raises(SipError) as caught:
        read(make_request(headers=[f"{name}: sip:a;lr"]))
    assert caught.value.reason == f"bad-{name.lower()}"


def test_vias_are_read_topmost_first() -> None:
    request = make_request(via=["SIP/2.0/UDP a;branch=z9hG4bK1, SIP/2.0/TCP b", "SIP/2.0/UDP c"])
    assert [via.host for via in vias(request)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("read", "name", "good", "bad"),
    [
        (max_forwards, "Max-Forwards", ["0", "0068", "255"], ["256", "300", "-1", "x", "", "1 2", "1.0"]),
        (max_breadth, "Max-Breadth", ["60"], ["4294967296", "a"]),
    ],
)
def test_numbers_are_read_or_refused(
    read: Callable[[Message], int | None], name: str, good: list[str], bad: list[str]
) -> None:
    for text in good:
        assert read(make_request(max_forwards=None, headers=[f"{name}: {text}"])) == int(text)
    for text in bad:
        with pytest.raises(SipError) as caught:
            read(make_request(max_forwards=None, headers=[f"{name}: {text}"]))
        assert caught.value.reason == f"bad-{name.lower()}"
    assert read(make_request(max_forwards=None)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7200", 7200),
        ("4294967296", 4294967295),
        ("1" + "0" * 100, 4294967295),
        ("", 3600),
        ("-1", 3600),
        ("Thu, 01 Dec 1994 16:00:00 GMT", 3600),
        ("٣", 3600),
    ],
)
def test_a_lifetime_that_is_no_number_is_an_hour_and_one_too_large_the_largest(text: str, seconds: int) -> None:
    assert expires(make_register(headers=[f"Expires: {text}"])) == seconds
    quoted = text if text.isascii() and text.isdigit() else f'"{text}"'
    assert contact_expires(parse_address(f"<sip:a@h>;expires={quoted}")) == seconds


def test_no_lifetime_is_none() -> None:
    assert expires(make_register()) is None
    assert contact_expires(parse_address("<sip:a@h>")) is None
    assert contact_expires(parse_address("<sip:a@h>;expires")) == 3600


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("0", 0), ("1", 1000), ("0.33", 330), ("0.7", 700), ("0.", 0), ("1.000", 1000), ("0.005", 5)],
)
def test_q_is_counted_in_thousandths(text: str, thousandths: int) -> None:
    assert quality(parse_address(f"<sip:a@h>;q={text}")) == thousandths


@pytest.mark.parametrize("text", ["1.1", "2", ".5", "0.1234", "x", "-0", "1.001", "0.5e1"])
def test_a_q_outside_its_grammar_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        quality(parse_address(f"<sip:a@h>;q={text}"))
    assert caught.value.reason == "bad-q"


def test_a_contact_without_q_is_as_good_as_any() -> None:
    assert quality(parse_address("<sip:a@h>")) == 1000


def test_option_tags_are_lower_case_and_counted_once() -> None:
    request = make_request(headers=["Require: Path, 100rel", "Require: PATH", "k: a,b", "Proxy-Require: sec"])
    assert require(request) == ["path", "100rel"]
    assert supported(request) == ["a", "b"]
    assert proxy_require(request) == ["sec"]
    assert supported(make_request()) == []
    assert supported(make_request(headers=["Supported:"])) == []


def test_a_broken_option_tag_is_a_400() -> None:
    for headers in (["Require: a b"], ["Require: "], ["Require: a,,b"]):
        with pytest.raises(SipError) as caught:
            require(make_request(headers=headers))
        assert caught.value.reason == "bad-require"
