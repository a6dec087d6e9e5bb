"""Reading a REGISTER: which binding a contact names, and whether its phone is behind NAT."""

from __future__ import annotations

import pytest

from farm.registrar.asked import Asked, AskedContact, find_received, read_contact
from farm.registrar.binding import find_entry
from farm.registrar.record import EMPTY, Contact, Entry, Record, Register
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from tests.support.messages import make_request


def bound(key: str, uri: str = "") -> Record:
    return Record([Entry(key, [Register("c", 1, 1, 1, 0, 60, Contact(uri))])])


def make_asked(*headers: str, contact: str | None = "<sip:a@192.0.2.1>") -> Asked:
    return Asked(make_request("REGISTER", "sip:example.com", contact=contact, headers=headers))


def test_all_header_lines_are_gathered() -> None:
    asked = make_asked(
        "Contact: <sip:b@192.0.2.1>, <sip:c@192.0.2.1>",
        "Expires: 60",
        "Supported: path, outbound",
        "Path: <sip:edge.example.com;lr>",
        "User-Agent: Phone",
        "Require: path",
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1",
    )
    assert asked.contacts == ["<sip:a@192.0.2.1>", "<sip:b@192.0.2.1>", "<sip:c@192.0.2.1>"]
    assert (asked.expires, asked.hops, asked.user_agent) == (60, 3, "Phone")
    assert (asked.supported, asked.path) == (["path", "outbound"], ("<sip:edge.example.com;lr>",))


def test_a_long_user_agent_is_cut_and_foreign_bytes_are_replaced() -> None:
    assert len(make_asked(f"User-Agent: {'x' * 500}").user_agent) == 128
    agent = b"User-Agent: Ph\xffne".decode("utf-8", "surrogateescape")
    assert make_asked(agent).user_agent == "Ph?ne"


def test_a_new_contact_gets_the_canonical_key() -> None:
    contact = read_contact('"A" <sip:%61@PHONE.example.net;Ob>;expires=60;q=0.25;foo', EMPTY, True)
    assert (contact.key, contact.uri) == ("sip:a@phone.example.net;ob", "sip:%61@PHONE.example.net;Ob")
    assert (contact.expires, contact.q, contact.params, contact.host) == (60, 250, ";foo", "phone.example.net")


def test_a_known_contact_is_found_as_it_was_written_or_as_an_equal() -> None:
    record = bound("sip:a@phone.example.net;ob", "sip:a@PHONE.example.net;ob")
    for text in ("<sip:a@PHONE.example.net;ob>;expires=5", "<sip:a@PHONE.example.net;ob>", "<sip:a@phone.example.net>"):
        assert read_contact(text, record, True).key == "sip:a@phone.example.net;ob"
    assert read_contact("<sip:A@phone.example.net>", record, True).key == "sip:A@phone.example.net"


def test_the_quick_way_and_the_long_way_read_the_same() -> None:
    for text in ("<sip:a@192.0.2.1:5060>;expires=60", "<sip:a@192.0.2.1:5060>", "<sips:[2001:db8::1]:5061>;expires=0"):
        uri = text[1 : text.index(">")]
        quick = read_contact(text, bound(uri), True)
        slow = read_contact(text, EMPTY, True)
        for name in AskedContact.__struct_fields__:
            if name not in ("host", "entry"):
                assert getattr(quick, name) == getattr(slow, name), name
        assert (quick.entry is not None, slow.entry) == (True, None)
        assert quick.host.strip("[]") == slow.host


def test_outbound_names_the_binding_by_instance_and_flow() -> None:
    text = '<sip:a@192.0.2.1>;+sip.instance="<urn:uuid:1>";reg-id=3;x=y'
    contact = read_contact(text, EMPTY, True)
    assert (contact.key, contact.instance, contact.reg_id, contact.params) == (
        "<urn:uuid:1>;reg-id=3",
        "<urn:uuid:1>",
        3,
        ";x=y",
    )
    plain = read_contact(text, EMPTY, False)
    assert (plain.key, plain.reg_id, plain.params) == ("sip:a@192.0.2.1", 0, ";reg-id=3;x=y")


@pytest.mark.parametrize("reg_id", ["0", "x", "-1", "2147483648", "99999999999"])
def test_a_reg_id_is_a_positive_number(reg_id: str) -> None:
    with pytest.raises(SipError):
        read_contact(f'<sip:a@192.0.2.1>;+sip.instance="<urn:uuid:1>";reg-id={reg_id}', EMPTY, True)


def test_an_outbound_binding_is_not_found_by_its_contact() -> None:
    record = bound("<urn:uuid:1>;reg-id=1", "sip:a@192.0.2.1")
    assert read_contact("<sip:a@192.0.2.1>", record, True).key == "sip:a@192.0.2.1"
    assert find_entry(record, "sip:a@192.0.2.1") is None
    assert find_entry(record, "<urn:uuid:1>;reg-id=1") is record.entries[0]


# NAT


def received(contact: str, via: str, source: str, port: int = 5060, transport: str = "UDP") -> Hop | None:
    request: Request = make_request(
        "REGISTER", "sip:example.com", via=f"SIP/2.0/{transport} {via};branch=z9hG4bK1", contact=contact
    )
    request.source = Hop(transport, source, port, "here")
    asked = Asked(request)
    return find_received(request, asked, read_contact(contact, EMPTY, True))


@pytest.mark.parametrize(
    ("contact", "via", "source", "port"),
    [
        ("<sip:a@192.0.2.1>", "192.0.2.1", "192.0.2.1", 5060),
        ("<sip:a@192.0.2.1:6000>", "192.0.2.1:5070", "192.0.2.1", 5070),  # another port of the same host is normal
        ("<sip:a@10.0.0.1>", "10.0.0.1", "10.0.0.1", 5060),  # private, and the source's own
        ("<sip:a@phone.example.net>", "192.0.2.1", "192.0.2.1", 5060),
        ("<sip:a@8.8.8.8>", "192.0.2.1", "192.0.2.1", 5060),  # taken at its word
        ("<sip:a@[2001:db8::1]>", "[2001:DB8:0::1]", "2001:db8::1", 5060),
        ("<mailto:a@b>", "192.0.2.1", "192.0.2.1", 5060),
    ],
)
def test_a_phone_that_is_where_it_says_is_taken_at_its_word(contact: str, via: str, source: str, port: int) -> None:
    assert received(contact, via, source, port) is None


@pytest.mark.parametrize(
    ("contact", "via", "source", "port"),
    [
        ("<sip:a@192.168.1.2>", "192.168.1.2", "198.51.100.7", 5060),  # the Via is not the source
        ("<sip:a@192.0.2.1>", "192.0.2.1", "192.0.2.1", 40000),  # nor is its port
        ("<sip:a@192.168.1.2>", "8.8.4.4", "8.8.4.4", 5060),  # a private contact from elsewhere
        ("<sip:a@0.0.0.0>", "8.8.4.4", "8.8.4.4", 5060),
        ("<sip:a@8.8.4.4>", "phone.local", "8.8.4.4", 5060),
        ("<sip:a@[fe80::1]>", "[2001:db8::1]", "2001:db8::2", 5060),
    ],
)
def test_a_phone_behind_nat_is_reached_where_it_came_from(contact: str, via: str, source: str, port: int) -> None:
    assert received(contact, via, source, port) == Hop("UDP", source, port, "here")


def test_a_phone_on_a_stream_is_reached_on_that_stream() -> None:
    assert received("<sip:a@192.0.2.1>", "192.0.2.1", "192.0.2.1", 5060, "TCP") == Hop("TCP", "192.0.2.1", 5060, "here")


def test_the_source_of_a_request_from_a_proxy_is_the_proxy_s() -> None:
    request = make_request(
        "REGISTER",
        "sip:example.com",
        via=("SIP/2.0/TCP 192.0.2.7;branch=z9hG4bK1", "SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1"),
        contact="<sip:a@10.0.0.1>",
    )
    request.source = Hop("TCP", "192.0.2.7", 5060, "here")
    assert find_received(request, Asked(request), read_contact("<sip:a@10.0.0.1>", EMPTY, True)) is None


@pytest.mark.parametrize(
    ("contact", "headers", "removes"),
    [
        ("<sip:a@192.0.2.1>", [], False),
        ("<sip:a@192.0.2.1>;expires=60", ["Expires: 3600"], False),
        ("<sip:a@192.0.2.1>", ["Expires: 0"], True),
        ("<sip:a@192.0.2.1>;expires=60", ["Expires: 0"], True),
        ("<sip:a@192.0.2.1>;EXPIRES=0", [], True),
        ("<sip:a@192.0.2.1>;expires=60, <sip:b@192.0.2.1>;expires=0", [], True),
        ("*", ["Expires: 0"], True),
        ("*", [], True),
        ("<sip:a@192.0.2.1>;q=0.5", [], True),  # too careful, and no harm
        (None, [], False),
    ],
)
def test_whether_something_may_be_removed_is_seen_before_the_contacts_are_read(
    contact: str | None, headers: list[str], removes: bool
) -> None:
    assert make_asked(*headers, contact=contact).may_remove is removes
