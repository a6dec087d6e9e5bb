"""The torture messages of RFC 4475 and RFC 5118, whole and as streams cut at every octet, against their verdicts."""

from __future__ import annotations

import pytest

from farm.sip.address import Address, parse_address
from farm.sip.framing import Broken, Frame, StreamFramer
from farm.sip.headers import contacts, expires, max_forwards, proxy_require, routes, vias
from farm.sip.message import Message, Request, Response, make_response
from farm.sip.parser import Malformed, ParserLimits, parse
from farm.sip.status import SipError
from farm.sip.uri import aor_of, parse_uri, uris_equal
from tests.sip.verdicts import VECTORS, VERDICTS, Verdict, find_verdict

LIMITS = ParserLimits()

every_vector = pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.name)


def take(name: str) -> Message:
    """A vector that parses."""
    return parse(find_verdict(name).data, LIMITS)


def take_request(name: str) -> Request:
    """A vector that is a request."""
    request = take(name)
    assert isinstance(request, Request)
    return request


def take_contacts(name: str) -> list[Address]:
    """The contacts of a vector."""
    found = contacts(take(name))
    assert not isinstance(found, str)
    return found


def test_the_table_names_every_vector_once() -> None:
    names = [verdict.name for verdict in VERDICTS]
    assert sorted(names) == sorted(f"{path.parent.name}/{path.stem}" for path in VECTORS.glob("*/*.dat"))
    assert len(names) == 49 + 12


@every_vector
def test_the_parser_keeps_to_the_verdict(verdict: Verdict) -> None:
    if verdict.parser == "valid":
        message = parse(verdict.data, LIMITS)
        written = message.write()
        again = parse(written, LIMITS)
        assert again.write() == written
        assert again.headers == message.headers
        return
    with pytest.raises(Malformed) as caught:
        parse(verdict.data, LIMITS)
    error = caught.value
    assert (error.status, error.reason) == (verdict.status, verdict.reason)
    assert (error.request is not None) == (verdict.parser == "answer")
    if error.request is not None:
        assert error.status in verdict.answers
        answer = make_response(error.request, error.status, to_tag="mine").write()
        assert answer.startswith(f"SIP/2.0 {verdict.status} ".encode())
        assert [line[:5] for line in answer.split(b"\r\n")[1:]].count(b"Via: ") == len(error.request.all("via")) > 0
        assert b"\r\nCSeq: " in answer


@every_vector
def test_the_stream_keeps_to_the_verdict_however_it_is_cut(verdict: Verdict) -> None:
    data = verdict.data
    for cut in range(len(data) + 1):
        framer = StreamFramer(LIMITS)
        frames = framer.receive(data[:cut]) + framer.receive(data[cut:])
        check_stream(verdict, framer, frames)
    framer = StreamFramer(LIMITS)
    frames = []
    for index in range(len(data)):
        frames += framer.receive(data[index : index + 1])
    check_stream(verdict, framer, frames)


def check_stream(verdict: Verdict, framer: StreamFramer, frames: list[Frame]) -> None:
    """Compare what came out of a stream with the verdict."""
    found = [message for message in frames if isinstance(message, bytes)]
    assert len(found) == verdict.messages
    assert isinstance(frames[-1] if frames else None, Broken) == (verdict.ending == "closes")
    assert framer.partial == (verdict.ending == "waits")
    if found and verdict.parser == "valid":
        assert parse(found[0], LIMITS).write() == parse(verdict.data, LIMITS).write()


def test_wsinv_is_read_through_all_its_white_space() -> None:
    request = take_request("wsinv")
    assert (request.call_id, request.cseq, request.cseq_method) == ("wsinv.ndaksdj@192.0.2.1", 9, "INVITE")
    assert (request.from_tag, request.to_tag, max_forwards(request)) == ("98asjd8", "1918181833n", 68)
    assert [(via.transport, via.host, via.branch) for via in vias(request)] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    assert [str(route.uri) for route in routes(request)] == [
        "sip:services.example.com;lr;unknownwith=value;unknown-no-value"
    ]
    assert parse_address(request.find("from") or "").display == 'J Rosenberg \\"'
    assert request.find("newfangledheader") == "newfangled value continued newfangled value"
    assert len(request.body) == 150
    contact = take_contacts("wsinv")[0]
    assert contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}


def test_intmeth_keeps_every_strange_character() -> None:
    request = take_request("intmeth")
    assert request.method == "!interesting-Method0123456789_*+`.%indeed'~"
    assert request.uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert parse_address(request.find("to") or "").display == "BEL:\x07 NUL:\x00 DEL:\x7f"
    assert request.from_tag == "_token~1'+`*%!-."
    assert request.find("extensionheader-!.%*+_`'~") == "\ufeff大停電"


def test_esc01_and_escnull_compare_by_their_characters() -> None:
    request = take_request("esc01")
    assert request.uri.user == "sips%3Auser%40example.com"
    assert uris_equal(parse_address(request.find("to") or "").uri, parse_uri("sip:user@example.com"))
    one, other = take_contacts("escnull")
    assert not uris_equal(one.uri, other.uri)
    assert aor_of(parse_address(take("escnull").find("to") or "").uri) == "sip:null-%00-null@example.com"


def test_esc02_is_no_register_and_has_two_contacts() -> None:
    request = take_request("esc02")
    assert request.method == "RE%47IST%45R"
    assert len(contacts(request)) == 2
    assert request.find("c%6fntact") == "<sip:alias2@host2.example.com>"


def test_dblreq_is_one_message_over_udp() -> None:
    request = take_request("dblreq")
    assert (request.method, request.body) == ("REGISTER", b"")
    assert b"INVITE" not in request.write()


def test_semiuri_has_no_parameter() -> None:
    assert take_request("semiuri").uri.user == "user;par=u%40example.net"
    assert take_request("semiuri").uri.params == {}


def test_mpart01_keeps_its_binary_body() -> None:
    data = find_verdict("mpart01").data
    assert take("mpart01").body == data[data.index(b"\r\n\r\n") + 4 :]
    assert take("mpart01").write() == data


def test_the_two_unknown_parameters_belong_to_contact_and_to_uri() -> None:
    one, other = take_contacts("cparam01")[0], take_contacts("cparam02")[0]
    assert (one.params, one.uri.params) == ({"unknownparam": None}, {})
    assert (other.params, other.uri.params) == ({}, {"unknownparam": None})


def test_regbadct_is_refused_and_regescrt_kept_by_who_reads_contacts() -> None:
    with pytest.raises(SipError) as caught:
        contacts(take("regbadct"))
    assert caught.value.status == 400
    contact = take_contacts("regescrt")[0]
    assert contact.uri.headers == "Route=%3Csip:sip.example.com%3E"


def test_bext01_names_what_no_proxy_knows() -> None:
    assert proxy_require(take("bext01")) == ["noproxiessupportthis", "nordoanyproxiessupportthis"]


def test_badbranch_and_inv2543_fall_back_to_rfc_2543() -> None:
    for name in ("badbranch", "inv2543"):
        via = take(name).top_via
        assert via is not None
        assert not via.is_magic
    assert take("inv2543").from_tag == ""
    assert max_forwards(take("inv2543")) is None


def test_the_schemes_nobody_knows_are_uris_all_the_same() -> None:
    assert take_request("unkscm").uri.scheme == "nobodyknowsthisscheme"
    assert take_request("novelsc").uri.scheme == "soap.beep"
    assert parse_address(take("unksm2").find("to") or "").uri.scheme == "isbn"


def test_the_phrases_of_unreason_and_noreason_stay() -> None:
    unreason, noreason = take("unreason"), take("noreason")
    assert isinstance(unreason, Response)
    assert isinstance(noreason, Response)
    assert unreason.phrase == "= 2**3 * 5**2 но сто девяносто девять - простое"
    assert (noreason.status, noreason.phrase) == (100, "")


def test_the_overlarge_lifetimes_of_scalar02_are_lifetimes_still() -> None:
    data = find_verdict("scalar02").data.replace(b"36893488147419103232", b"36893488").replace(b": 300", b": 30")
    message = parse(data, LIMITS)
    assert expires(message) == 2**32 - 1


def test_the_ports_and_addresses_of_rfc_5118() -> None:
    ambiguous, clear = take_request("port-ambiguous").uri, take_request("port-unambiguous").uri
    assert (ambiguous.host, ambiguous.port) == ("2001:db8::10:5070", None)
    assert (clear.host, clear.port) == ("2001:db8::10", 5070)
    for name in ("via-received-param-no-delim", "via-received-param-with-delim"):
        via = take(name).top_via
        assert via is not None
        assert via.received == "2001:db8::9:255"
    three, two = take_request("ipv6-bug-abnf-3-colons").uri, take_request("ipv6-correct-abnf-2-colons").uri
    assert three.host == two.host == "2001:db8::c000:201"
    assert uris_equal(three, two)


def test_ipv6_in_sdp_is_accepted_and_leaves_with_its_true_length() -> None:
    data = find_verdict("ipv6-in-sdp").data
    true = data.replace(b"Content-Length: 268", b"Content-Length: 251")
    message = parse(data, LIMITS)
    assert len(message.body) == 251
    assert message.write() == true
    assert StreamFramer(LIMITS).receive(true) == [true]


@pytest.mark.parametrize("body", [b"v=0\r\ns=cut of", b"v=0\r\n"])
def test_a_body_that_is_cut_or_lacks_more_than_an_address_translator_takes_is_refused(body: bytes) -> None:
    short = find_verdict("ipv6-in-sdp").data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    with pytest.raises(Malformed) as caught:
        parse(short, LIMITS)
    assert (caught.value.status, caught.value.reason) == (400, "short-body")


@pytest.mark.parametrize("name", ["baddn", "ipv6-bug-abnf-3-colons", "ipv6-correct-abnf-2-colons"])
def test_the_vectors_without_an_empty_line_are_whole_once_a_stream_brings_it(name: str) -> None:
    data = find_verdict(name).data + b"\r\n"
    assert StreamFramer(LIMITS).receive(data) == [data]
