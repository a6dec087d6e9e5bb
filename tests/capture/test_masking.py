"""What proves a password is not shown; what an operator looks for is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.capture import masking
from farm.capture.masking import mask_credentials


def mask(lines: str, body: str = "") -> str:
    data = f"REGISTER sip:h SIP/2.0\r\nVia: v\r\n{lines}\r\nTo: t\r\n\r\n{body}".encode()
    masked = mask_credentials(data)
    assert len(masked) == len(data)
    return masked.decode().removeprefix("REGISTER sip:h SIP/2.0\r\nVia: v\r\n").removesuffix(f"\r\nTo: t\r\n\r\n{body}")


def test_a_message_without_credentials_is_itself() -> None:
    data = b'REGISTER sip:h SIP/2.0\r\nWWW-Authenticate: Digest nonce="response"\r\n\r\nresponse=1'
    assert mask_credentials(data) is data


@pytest.mark.parametrize("name", ["Authorization", "Proxy-Authorization", "AUTHORIZATION ", "proxy-authorization"])
def test_the_response_of_a_digest_becomes_x_and_the_rest_stays(name: str) -> None:
    line = f'{name}: Digest username="a", nonce="n=1", response="0a1b", uri="sip:h", cnonce="c", nc=00000001'
    assert mask(line) == line.replace("0a1b", "xxxx")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Authorization: Digest response=0a1b,nc=1", "Authorization: Digest response=xxxx,nc=1"),
        ("Authorization: digest RESPONSE = \"0a\"", "Authorization: digest RESPONSE = \"xx\""),
        ("Authorization: Digest a=b,\r\n response=\"0a\"", "Authorization: Digest a=b,\r\n response=\"xx\""),
        ("Authorization: Digest response=\"0a", "Authorization: Digest response=\"xx"),
        ("Authorization: Basic YWxpY2U6cw==", "Authorization: Basic xxxxxxxxxxxx"),
        ("Authorization: Bearer a.b c", "Authorization: Bearer xxx x"),
        ("Authentication-Info: rspauth=\"0a\", nc=1", "Authentication-Info: rspauth=\"xx\", nc=1"),
        ("Authorization: Digest response=\"a\"\r\nAuthorization: Digest response=\"b\"",
         "Authorization: Digest response=\"x\"\r\nAuthorization: Digest response=\"x\""),
    ],
)  # fmt: skip
def test_it_is_found_however_it_is_written(line: str, expected: str) -> None:
    assert mask(line) == expected


def test_a_request_within_a_body_keeps_no_proof_either_and_all_else_of_the_body_stays() -> None:
    within = 'REGISTER sip:h SIP/2.0\r\nAuthorization: Digest response="0a"\r\n\r\nresponse=1'
    part = f"--b\r\nContent-Type: message/sip\r\n\r\n{within}"
    data = f"INVITE sip:h SIP/2.0\r\nVia: v\r\n\r\n{part}".encode()
    assert mask_credentials(data) == data.replace(b'response="0a"', b'response="xx"')


@pytest.mark.parametrize(
    ("line", "proof"),
    [
        ('Authorization: Digest opaque="response=", response="6629fae4"', "6629fae4"),
        ('Authorization: Digest username="a\\", response="6629fae4"', "6629fae4"),
        ('Authorization: Digest username="a, response="6629fae4", realm="b"', "6629fae4"),
        ('Authorization: Digest realm="a, b response=\\"", qop=auth, response="6629fae4"', "6629fae4"),
        ('Authorization: Digest response="66\\"29fae4"', "29fae4"),
        ('Authorization: Digest username="\xff\xfe", response=6629fae4', "6629fae4"),
        ('Authorization: Digest a="b", Basic YWxpY2U6cw==', "YWxpY2U6cw"),
        ('Authorization\r\n : Digest response="6629fae4"', "6629fae4"),
        ('Authorization: Digest username="a",\r response="6629fae4"', "6629fae4"),
        ('X: y\rAuthorization: Digest response="6629fae4"', "6629fae4"),
    ],
)  # fmt: skip
def test_no_spelling_shows_a_proof_whatever_is_written_around_it(line: str, proof: str) -> None:
    assert proof not in mask(line)


@pytest.mark.parametrize("piece", ["response=", 'response="', 'response="\\', 'response="response=', "response=, "])
def test_a_stranger_who_repeats_a_name_thousands_of_times_keeps_no_node_busy(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    covered = 0

    class Counting:
        def sub(self, new: bytes, text: bytes) -> bytes:
            nonlocal covered
            covered += len(text)
            return re.sub(rb"[^\s\"]", new, text)

    monkeypatch.setattr(masking, "_SEEN", Counting())
    mask("Authorization: Digest " + piece * 2000)
    assert covered < 3 * len(piece) * 2000


def test_a_realm_of_several_words_stays() -> None:
    line = 'Authorization: Digest realm="Acme, Inc of Springfield", response="xx"'
    assert mask(line) == line


@pytest.mark.parametrize("before", ["", "\r\n", "\r\n\r\n", "\n\n", "REGISTER sip:h SIP/2.0\n\nVia: v\r\n"])
def test_empty_lines_before_a_message_and_a_missing_first_line_hide_no_credentials(before: str) -> None:
    data = f'{before}Authorization: Digest response="6629fae4"\r\n\r\n'.encode()
    assert mask_credentials(data) == data.replace(b"6629fae4", b"xxxxxxxx")


@given(
    st.lists(
        st.sampled_from(
            [b"response", b"=", b'"', b"\\", b",", b" ", b"\t", b"\r\n ", b"Digest ", b"Basic ", b"Bearer ", b"realm",
             b"a", b"\r\n", b"\n", b"\r", b"\r\nAuthorization: ", b"\nproxy-authorization:", b"\xff", b"\r\n\r\n",
             b"rspauth"]
        ),
        max_size=25,
    ),
    st.booleans(),
)  # fmt: skip
def test_whatever_is_written_its_length_stays_and_a_plain_response_behind_it_is_not_shown(
    pieces: list[bytes], quoted: bool
) -> None:
    proof = b'"6629fae49393"' if quoted else b"6629fae49393"
    data = b"REGISTER sip:h SIP/2.0\r\nAuthorization: Digest " + b"".join(pieces)
    data += b"\r\nAuthorization: Digest username=a, response=" + proof + b"\r\n\r\n"
    masked = mask_credentials(data)
    assert len(masked) == len(data)
    assert b"6629fae49393" not in masked
    assert masked.count(b"\n") == data.count(b"\n")
    assert mask_credentials(masked) == masked
