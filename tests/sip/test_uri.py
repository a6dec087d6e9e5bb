"""URIs: reading, writing, equality, address-of-record."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.sip.status import SipError
from farm.sip.uri import Uri, aor_of, parse_host, parse_uri, uri_key, uris_equal
from tests.support.strategies import sip_uris, uris


def test_every_part_of_a_sip_uri_is_read() -> None:
    uri = parse_uri("SIPS:al%69ce;x=1:se%63ret@[2001:DB8::0:1]:5071;Transport=TCP;lr;maddr=[::1]?to=a&Subject=hi%20x")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == (
        "sips",
        "al%69ce;x=1",
        "se%63ret",
        "2001:db8::1",
        5071,
    )
    assert uri.params == {"transport": "TCP", "lr": None, "maddr": "[::1]"}
    assert uri.headers == "to=a&Subject=hi%20x"
    assert (uri.transport, uri.lr, uri.maddr, uri.is_sip) == ("TCP", True, "::1", True)
    assert uri.host_text == "[2001:db8::1]"


def test_a_plain_uri_has_nothing_else() -> None:
    uri = parse_uri("sip:example.com")
    assert (uri.user, uri.password, uri.port, uri.params, uri.headers) == (None, None, None, {}, "")
    assert (uri.transport, uri.lr, uri.maddr) == ("", False, "")


def test_a_uri_is_written_as_it_came() -> None:
    text = "sip:A%6c@EXAMPLE.com:05060;Lr;X=%41?a=%62"
    assert str(parse_uri(text)) == text


def test_a_uri_made_from_parts_is_written_from_them() -> None:
    assert str(Uri("sip", "bob", "2001:db8::1", 5060, {"transport": "tcp", "lr": None}, "a=b", "pw")) == (
        "sip:bob:pw@[2001:db8::1]:5060;transport=tcp;lr?a=b"
    )
    assert str(parse_uri("sip:bob@h:1;x=1?a=b").with_params({"lr": None}).without_headers()) == "sip:bob@h:1;lr"
    assert str(parse_uri("urn:service:sos")) == "urn:service:sos"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip",
        ":x",
        "sip:@host",
        "sip:user@",
        "sip:user@host:",
        "sip:user@host:0",
        "sip:user@host:65536",
        "sip:user@host:+5",
        "sip:user@host;",
        "sip:user@host;;lr",
        "sip:user@host;lr;LR=on",
        "sip:user@host;a=",
        "sip:user@host?",
        "sip:user@host?a",
        "sip:user@host ",
        " sip:user@host",
        "<sip:user@host>",
        "sip:us er@host",
        "sip:us%4xr@host",
        "sip:us%er@host",
        "sip:us\x00er@host",
        "sip:us\ner@host",
        "sip:usér@host",
        "sip:a@b@host",
        "sip:us#er@host",
        "sip:2001:db8::10",
        "sip:[2001:db8::g]",
        "sip:[2001:db8]",
        "sip:[1:2:3:4:5:6:7:8:9]",
        "sip:[::1",
        "sip:1.2.3.256",
        "sip:01.2.3.4",
        "sip:1.2.3",
        "sip:1.2.3.4.5",
        "sip:a..b",
        "sip:.a",
        "sip:-a.b",
        "sip:a-.b",
        "sip:a_b.c",
        "sip:host\n",
        "1sip:x",
        "tel:",
        "tel:+",
        "tel:+49 30",
        "tel:abc;x=",
        "urn:",
        "urn:a b",
        "urn:%4",
        "urn:<x>",
    ],
)
def test_what_the_grammar_does_not_have_is_a_400(text: str) -> None:
    with pytest.raises(SipError) as caught:
        parse_uri(text)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("sip:EXAMPLE.com.", "example.com"),
        ("sip:3f2a-9c.internal", "3f2a-9c.internal"),
        ("sip:3f2a9c", "3f2a9c"),
        ("sip:a--b.c", "a--b.c"),
        ("sip:192.0.2.1", "192.0.2.1"),
        ("sip:[::FFFF:192.0.2.10]", "::ffff:c000:20a"),
        ("sip:[2001:db8:::192.0.2.1]", "2001:db8::c000:201"),
        ("sip:[2001:db8::10:5070]", "2001:db8::10:5070"),
    ],
)
def test_a_host_is_lower_case_without_final_dot_and_canonical(text: str, host: str) -> None:
    assert parse_uri(text).host == host


def test_userinfo_may_hold_question_marks_slashes_and_semicolons() -> None:
    uri = parse_uri(
        "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    )
    assert uri.user == "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"
    assert uri.password == "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"
    assert uri.host == "example.com"


def test_other_schemes_are_opaque() -> None:
    uri = parse_uri("soap.beep://192.0.2.103:3002")
    assert (uri.scheme, uri.opaque, uri.host, uri.user, uri.is_sip) == (
        "soap.beep",
        "//192.0.2.103:3002",
        "",
        None,
        False,
    )


def test_a_tel_uri_has_its_number_as_user() -> None:
    uri = parse_uri("TEL:+49-30-1234;phone-context=Example.com;x")
    assert (uri.scheme, uri.user, uri.params) == ("tel", "+49-30-1234", {"phone-context": "Example.com", "x": None})
    assert parse_uri("tel:*21#").user == "*21#"


@pytest.mark.parametrize(
    ("text", "aor"),
    [
        ("sip:alice@EXAMPLE.com:5061;transport=tcp?a=b", "sip:alice@example.com"),
        ("sips:alice:pw@example.com", "sip:alice@example.com"),
        ("sip:Alice@example.com", "sip:Alice@example.com"),
        ("sip:%61l%69ce@example.com", "sip:alice@example.com"),
        ("sip:a%26b@example.com", "sip:a&b@example.com"),
        ("sip:null-%00-null@example.com", "sip:null-%00-null@example.com"),
        ("sip:a%3ab%40c@example.com", "sip:a%3Ab%40c@example.com"),
        ("sip:%ff@example.com", "sip:%FF@example.com"),
        ("sip:example.com", "sip:example.com"),
        ("sip:a@[2001:DB8::1]:5060", "sip:a@[2001:db8::1]"),
        ("tel:+49-(30)-12.34", "tel:+49301234"),
        ("tel:12-34;phone-context=Example.com", "tel:1234;phone-context=example.com"),
        ("URN:service:sos", "urn:service:sos"),
    ],
)
def test_the_address_of_record_is_canonical(text: str, aor: str) -> None:
    assert aor_of(parse_uri(text)) == aor
    assert aor_of(parse_uri(aor)) == aor


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
        ("sip:a@[2001:db8::0:1]", "sip:a@[2001:DB8::1]"),
        ("sip:a@h;x=%41", "sip:a@h;X=a"),
        ("tel:+49-30", "tel:+4930"),
    ],
)
def test_these_uris_are_equal_by_section_19_1_4(one: str, other: str) -> None:
    assert uris_equal(parse_uri(one), parse_uri(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@h", "sips:a@h"),
        ("sip:a@h", "sip:h"),
        ("sip:a:b@h", "sip:a@h"),
        ("sip:a@h;user=phone", "sip:a@h"),
        ("sip:a@h;ttl=1", "sip:a@h"),
        ("sip:a@h;method=INVITE", "sip:a@h"),
        ("sip:a@h;maddr=x", "sip:a@h"),
        ("sip:a;b@h", "sip:a%3bb@h"),
        ("sip:null-%00@h", "sip:null-@h"),
        ("tel:+49", "sip:+49@h"),
        ("tel:49", "tel:+49"),
    ],
)
def test_these_uris_differ_by_section_19_1_4(one: str, other: str) -> None:
    assert not uris_equal(parse_uri(one), parse_uri(other))
    assert uri_key(parse_uri(one)) != uri_key(parse_uri(other))


def test_only_a_host_in_form_is_a_host() -> None:
    assert parse_host("[::1]") == "::1"
    with pytest.raises(SipError):
        parse_host("[::1::2]")


@given(uris)
def test_a_uri_writes_the_text_it_came_as_and_equals_itself(text: str) -> None:
    uri = parse_uri(text)
    assert str(uri) == text
    assert uris_equal(uri, parse_uri(text))


@given(sip_uris())
def test_a_uri_written_from_its_parts_is_equal_to_it(text: str) -> None:
    uri = parse_uri(text)
    again = parse_uri(str(uri.with_params(uri.params)))
    assert uris_equal(uri, again)
    assert uri_key(uri) == uri_key(again)


@given(uris, uris)
def test_equality_of_uris_is_symmetric(one: str, other: str) -> None:
    left, right = parse_uri(one), parse_uri(other)
    assert uris_equal(left, right) == uris_equal(right, left)


@given(sip_uris())
def test_a_uri_spelled_otherwise_is_equal_and_has_the_same_key(text: str) -> None:
    uri = parse_uri(text)
    scheme, _, rest = text.partition(":")
    again = parse_uri(f"{scheme.upper()}:{rest}")
    assert uris_equal(uri, again)
    params = dict(reversed(uri.params.items()))
    shuffled = uri.with_params(params)
    assert uri_key(uri) == uri_key(again) == uri_key(shuffled)
    assert uris_equal(uri, shuffled)


near = st.builds(
    "{}:{}{}{}{}".format,
    st.sampled_from(["sip", "SIP", "sips"]),
    st.sampled_from(["", "a@", "%61@", "A@", "a:b@", "a%3b@", "a;@"]),
    st.sampled_from(["h", "H.", "h:5060", "[::1]", "[0::1]"]),
    st.sampled_from(["", ";lr", ";LR", ";x=1;lr", ";lr;x=%31", ";transport=udp", ";Transport=UDP"]),
    st.sampled_from(["", "?a=b&c=d", "?C=d&a=%62"]),
)


@settings(max_examples=500)
@given(near, near)
def test_equal_keys_mean_equal_uris(left: str, right: str) -> None:
    one, other = parse_uri(left), parse_uri(right)
    if uri_key(one) == uri_key(other):
        assert uris_equal(one, other)
    if one.params.keys() == other.params.keys():
        assert (uri_key(one) == uri_key(other)) == uris_equal(one, other)


@given(uris)
def test_the_address_of_record_of_an_address_of_record_is_itself(text: str) -> None:
    aor = aor_of(parse_uri(text))
    assert aor_of(parse_uri(aor)) == aor
