"""Which messages belong together: branches, sent-by, methods, and what is left when a branch says nothing."""

from __future__ import annotations

import pytest

from farm.sip.message import Request
from farm.sip.via import parse_via
from farm.transaction.key import client_key, is_rfc2543, response_key, server_key
from tests.support.messages import make_reply, make_request

VIA = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf9"
OLD = "SIP/2.0/UDP 192.0.2.101:5060"


def key(request: Request, method: str = "") -> str:
    assert request.top_via is not None
    return server_key(request, request.top_via, method or request.method)


def test_a_retransmission_has_the_key_of_its_request() -> None:
    assert key(make_request(via=VIA)) == key(make_request(via=VIA))


def test_with_a_branch_nothing_else_of_the_request_counts() -> None:
    other = make_request(via=VIA, uri="sip:carol@example.com", call_id="other", cseq=9, from_="<sip:x@y.example>;tag=z")
    assert key(other) == key(make_request(via=VIA))


@pytest.mark.parametrize(
    "via",
    [
        "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK74bf8",
        "SIP/2.0/UDP 192.0.2.102:5060;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP 192.0.2.101:5070;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP 192.0.2.101;branch=z9hG4bK74bf9",
    ],
)
def test_another_branch_or_another_sender_is_another_transaction(via: str) -> None:
    """§17.2.3: the sent-by counts, as two clients may choose the same branch."""
    assert key(make_request(via=via)) != key(make_request(via=VIA))


def test_the_sent_by_is_compared_without_case() -> None:
    upper = make_request(via="SIP/2.0/UDP PC33.Example.com;branch=z9hG4bK1")
    lower = make_request(via="SIP/2.0/UDP pc33.example.com;branch=z9hG4bK1")
    assert key(upper) == key(lower)


def test_the_cookie_is_known_in_any_case() -> None:
    assert not is_rfc2543(parse_via("SIP/2.0/UDP a.example;branch=Z9HG4BKabc"))


def test_a_cancel_is_a_transaction_of_its_own_and_finds_its_invite() -> None:
    invite, cancel = make_request("INVITE", via=VIA), make_request("CANCEL", via=VIA)
    assert key(cancel) != key(invite)
    assert key(cancel, "INVITE") == key(invite)


def test_an_ack_finds_its_invite() -> None:
    ack = make_request("ACK", via=VIA, to="Bob <sip:bob@example.com>;tag=8321234356")
    assert key(ack, "INVITE") == key(make_request("INVITE", via=VIA))


def test_two_methods_with_one_branch_are_two_transactions() -> None:
    assert key(make_request("BYE", via=VIA)) != key(make_request("INFO", via=VIA))


@pytest.mark.parametrize("via", [OLD, f"{OLD};branch=1", f"{OLD};branch=z9hG4bK", f"{OLD};branch=z9hG4b"])
def test_without_a_telling_branch_an_rfc_2543_element_is_matched_by_its_request(via: str) -> None:
    """A bare cookie (RFC 4475 §3.2.1 badbranch) identifies nothing either: two calls must not be taken for one."""
    request = make_request(via=via)
    assert request.top_via is not None
    assert is_rfc2543(request.top_via)
    assert key(request) == key(make_request(via=via))
    others = [
        make_request(via=via, uri="sip:carol@example.com"),
        make_request(via=via, from_="Alice <sip:alice@example.com>;tag=other"),
        make_request(via=via, call_id="other@192.0.2.101"),
        make_request(via=via, cseq=2),
        make_request(via=f"{via};ttl=3"),
        make_request("OPTIONS", via=via),
    ]
    assert len({key(request), *map(key, others)}) == len(others) + 1


def test_an_rfc_2543_ack_finds_its_invite_though_it_has_a_to_tag_more() -> None:
    ack = make_request("ACK", via=OLD, to="Bob <sip:bob@example.com>;tag=8321234356")
    assert key(ack, "INVITE") == key(make_request("INVITE", via=OLD))


def test_an_rfc_2543_request_inside_a_dialog_is_told_apart_by_its_to_tag() -> None:
    one = make_request("BYE", via=OLD, to="<sip:bob@example.com>;tag=1")
    other = make_request("BYE", via=OLD, to="<sip:bob@example.com>;tag=2")
    assert key(one) != key(other)


def test_a_response_finds_the_request_with_its_branch_and_method() -> None:
    response = make_reply(via=VIA)
    assert response.top_via is not None
    assert response_key(response, response.top_via) == client_key("z9hG4bK74bf9", "INVITE")
    cancel = make_reply(via=VIA, method="CANCEL")
    assert cancel.top_via is not None
    assert response_key(cancel, cancel.top_via) == client_key("z9hG4bK74bf9", "CANCEL")
    assert client_key("z9hG4bK74bf9", "CANCEL") != client_key("z9hG4bK74bf9", "INVITE")
