"""What of a message a trace looks at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.capture.reading import MOST_URIS, Sought, find_aors, find_call_id, read_aor, split_head

INVITE = (
    b"INVITE sip:bob@192.0.2.9:5070;transport=tcp SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=1\r\n"
    b'From: "Alice" <sip:alice@EXAMPLE.com:5060;x=y>;tag=1\r\nTo: sip:bob@example.com;tag=2\r\n'
    b"P-Asserted-Identity: <tel:+49-30-123>, <sips:alice@example.net>\r\nCall-ID: abc@h\r\n\r\n"
    b"\r\nFrom: <sip:body@example.com>\r\nCall-ID: body\r\n"
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Call-ID: a b", b"a b"),
        (b"i:short", b"short"),
        (b"CALL-ID \t:  loud ", b"loud"),
        (b"Call-ID:\r\n folded", b"folded"),
        (b"X-Call-ID: no", b""),
        (b"In-Reply-To: i", b""),
    ],
)
def test_a_call_id_is_found_however_it_is_written(line: bytes, expected: bytes) -> None:
    assert find_call_id(b"OPTIONS sip:a SIP/2.0\r\n" + line + b"\r\nTo: x\r\n\r\n") == expected


def test_a_call_id_in_the_body_is_none() -> None:
    assert find_call_id(b"OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\nline\r\nCall-ID: body\r\n") == b""
    assert find_call_id(b"OPTIONS sip:a SIP/2.0\nTo: x\n\nCall-ID: body\n") == b""


def test_a_head_ends_at_the_first_empty_line() -> None:
    assert split_head(b"a\r\n\r\nb\r\n\r\nc") == (b"a", b"\r\n\r\nb\r\n\r\nc")
    assert split_head(b"a\r\nb") == (b"a\r\nb", b"")


def test_whom_a_message_is_about_is_in_four_places() -> None:
    assert list(find_aors(INVITE)) == [
        "sip:bob@192.0.2.9",
        "sip:alice@example.com",
        "sip:bob@example.com",
        "tel:+4930123",
        "sip:alice@example.net",
    ]


def test_a_response_has_no_request_uri_and_short_names_count() -> None:
    assert list(find_aors(b"SIP/2.0 200 OK\r\nf: <sip:a@h>\r\nt:\r\n <sip:b@h>\r\n\r\n")) == ["sip:a@h", "sip:b@h"]


@pytest.mark.parametrize(
    ("line", "aor"),
    [
        (b"From: <sip:alice;day=tuesday@example.com>;tag=1", "sip:alice;day=tuesday@example.com"),
        (b"From: <sip:a,b?c@example.com>;tag=1", "sip:a,b?c@example.com"),
        (b"To: <tel:7042;phone-context=example.com>", "tel:7042;phone-context=example.com"),
        (b"To: sip:bob@example.com;tag=2;x=\"y z\"", "sip:bob@example.com"),
        (b"P-Asserted-Identity: sip:bob@example.com, tel:+491", "tel:+491"),
        (b"From: <sip:anonymous@anonymous.invalid>;tag=1\r\nP-Preferred-Identity: <sip:bob@example.com>",
         "sip:bob@example.com"),
    ],
)  # fmt: skip
def test_a_user_is_found_with_all_that_a_uri_may_have(line: bytes, aor: str) -> None:
    assert Sought(read_aor(aor)).is_in(b"INVITE sip:x@192.0.2.1 SIP/2.0\r\n" + line + b"\r\n\r\n")


@pytest.mark.parametrize("before", [b"\r\n", b"\r\n\r\n", b"\n\n"])
def test_line_ends_before_a_message_hide_neither_its_call_nor_its_parties(before: bytes) -> None:
    assert find_call_id(before + INVITE) == b"abc@h"
    assert list(find_aors(before + INVITE)) == list(find_aors(INVITE))


def test_thousands_of_uris_are_not_read() -> None:
    line = b"From: " + b"<sip:a@h>," * 5000
    assert len(list(find_aors(b"SIP/2.0 200 OK\r\n" + line + b"\r\n\r\n"))) == MOST_URIS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sip:1000@Example.com", "sip:1000@example.com"),
        ("1000@example.com:5070", "sip:1000@example.com"),
        ("sips:%31000@example.com", "sip:1000@example.com"),
        ("tel:+49-30", "tel:+4930"),
        ("no good", ""),
    ],
)
def test_an_address_of_record_is_compared_in_one_form(text: str, expected: str) -> None:
    assert read_aor(text) == expected


@pytest.mark.parametrize(
    "aor", ["sip:alice@example.com", "sip:bob@example.com", "sip:alice@example.net", "tel:+4930123"]
)
def test_a_message_about_who_is_sought_is_found(aor: str) -> None:
    assert Sought(aor).is_in(INVITE)


@pytest.mark.parametrize("aor", ["sip:alic@example.com", "sip:body@example.com", "sip:carol@example.com", "tel:+49"])
def test_a_message_about_others_is_not(aor: str) -> None:
    assert not Sought(aor).is_in(INVITE)


def test_a_user_with_an_escape_is_found() -> None:
    assert Sought("sip:bob@h").is_in(b"OPTIONS sip:%62ob@h SIP/2.0\r\n\r\n")


def test_a_call_is_sought_by_its_whole_call_id() -> None:
    assert Sought(call_id="abc@h").is_in(INVITE)
    assert not Sought(call_id="abc").is_in(INVITE)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b"\r\n", b"\n", b"INVITE ", b"From: ", b"\nt:", b"<sip:", b"tel:+4", b"@", b"[", b"]", b"%", b"%61",
                 b";", b"?", b",", b":", b"alice@example.com", b"\xff", b">", b'"', b"\r\nCall-ID:"]
            ),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_whatever_is_written_is_read_and_a_plain_party_behind_it_is_found(pieces: list[bytes]) -> None:
    data = b"INVITE x SIP/2.0" + b"".join(pieces).replace(b"\r\n\r\n", b"").replace(b"\n\n", b"")
    head, rest = split_head(data)
    assert head + rest == data
    assert all(aor.startswith(("sip:", "tel:")) for aor in find_aors(data))
    find_call_id(data)
    assert Sought("sip:bob@example.com").is_in(b"INVITE sip:bob@example.com SIP/2.0\r\n" + data)
