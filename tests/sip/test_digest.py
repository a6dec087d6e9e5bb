"""Digest as pure functions: the RFCs' own examples, what phones really write, and any text whatsoever."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.sip import digest
from farm.sip.digest import (
    CREDENTIALS_CHARACTERS,
    Credentials,
    available_algorithms,
    digests_equal,
    find_credentials,
    is_available,
    make_challenge,
    make_digest,
    make_ha1,
    parse_credentials,
)
from farm.sip.message import Request, make_header
from farm.sip.status import SipError

PHONE = (
    'Digest username="bob",realm="biloxi.com",nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",uri="sip:bob@biloxi.com",'
    'qop=auth,nc=00000001,cnonce="0a4f113b",response="6629fae49393a05397450978507c4ef1",'
    'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
)


def fields(credentials: Credentials) -> tuple[str, ...]:
    return (
        credentials.username,
        credentials.realm,
        credentials.nonce,
        credentials.uri,
        credentials.response,
        credentials.algorithm,
        credentials.cnonce,
        credentials.qop,
        credentials.nc_text,
    )


def request_with(*headers: tuple[str, str]) -> Request:
    return Request("REGISTER", "sip:biloxi.com", [make_header(name, value) for name, value in headers])


class TestTheRfcsOwnExamples:
    @pytest.mark.parametrize(
        ("algorithm", "response"),
        [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_rfc_7616_section_3_9_1(self, algorithm: str, response: str) -> None:
        credentials = parse_credentials(
            'Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", '
            f"algorithm={algorithm}, "
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, '
            'cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, '
            f'response="{response}", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
        )
        ha1 = make_ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
        assert make_digest(credentials, ha1, "GET") == response
        assert digests_equal(make_digest(credentials, ha1, "GET"), credentials.response)

    def test_rfc_7616_section_3_9_2_with_the_hashes_of_erratum_4897(self) -> None:
        """The RFC prints a truncated SHA-512; the erratum has SHA-512/256, as FIPS 180-4 defines it."""
        credentials = Credentials(
            "J\u00e4s\u00f8n Doe",
            "api@example.org",
            "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            "/doe.json",
            "",
            algorithm="SHA-512-256",
            cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            qop="auth",
            nc_text="00000001",
        )
        ha1 = make_ha1("SHA-512-256", credentials.username, credentials.realm, "Secret, or not?")
        expected = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"
        assert make_digest(credentials, ha1, "GET") == expected

    def test_rfc_2617_section_3_5(self) -> None:
        credentials = parse_credentials(
            'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
            'uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", '
            'response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
        )
        ha1 = make_ha1("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life")
        assert ha1 == "939e7578ed9e3c518a452acee763bce9"
        assert make_digest(credentials, ha1, "GET") == "6629fae49393a05397450978507c4ef1"

    def test_rfc_2069_without_qop_as_corrected_by_its_erratum(self) -> None:
        """RFC 2069 §2.4's example; its printed response is wrong, erratum 749 gives this one."""
        credentials = parse_credentials(
            'Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
            'uri="/dir/index.html", response="1949323746fe6a43ef61f9606e7febea"'
        )
        ha1 = make_ha1("MD5", "Mufasa", "testrealm@host.com", "CircleOfLife")
        assert (credentials.qop, credentials.nonce_count) == ("", 0)
        assert make_digest(credentials, ha1, "GET") == "1949323746fe6a43ef61f9606e7febea"

    @pytest.mark.parametrize(
        ("algorithm", "empty"),
        [
            ("MD5", "d41d8cd98f00b204e9800998ecf8427e"),
            ("SHA-256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ],
    )
    def test_auth_int_hashes_the_body_and_of_none_the_empty_string(self, algorithm: str, empty: str) -> None:
        """RFC 3261 §22.4 item 7, RFC 8760 §2.6 item 7."""
        credentials = Credentials(
            "bob", "r", "n", "sip:r", "", algorithm=algorithm, cnonce="c", qop="auth-int", nc_text="00000001"
        )
        ha1 = make_ha1(algorithm, "bob", "r", "secret")
        hash_of = hashlib.new("md5" if algorithm == "MD5" else "sha256")

        def hexed(text: str) -> str:
            made = hash_of.copy()
            made.update(text.encode())
            return made.hexdigest()

        expected = hexed(f"{ha1}:n:00000001:c:auth-int:{hexed(f'INVITE:sip:r:{empty}')}")
        assert make_digest(credentials, ha1, "INVITE") == expected
        assert make_digest(credentials, ha1, "INVITE", b"v=0\r\n") != expected


class TestParsing:
    def test_the_example_of_rfc_3261_section_22_2(self) -> None:
        assert fields(parse_credentials(PHONE)) == (
            "bob",
            "biloxi.com",
            "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            "sip:bob@biloxi.com",
            "6629fae49393a05397450978507c4ef1",
            "MD5",
            "0a4f113b",
            "auth",
            "00000001",
        )

    @pytest.mark.parametrize(
        "written",
        [
            PHONE.replace("Digest", "digest"),
            PHONE.replace("Digest ", "DIGEST \t "),
            PHONE.replace(",", " , "),
            PHONE.replace("=", " = "),
            PHONE + ",",
            PHONE.replace(",", ", ,"),
            PHONE.replace('"biloxi.com"', "biloxi.com"),
            PHONE.replace('"sip:bob@biloxi.com"', "sip:bob@biloxi.com"),
            PHONE.replace("qop=auth", 'qop="auth"').replace("nc=00000001", 'nc="00000001"'),
            PHONE.replace("username", "USERNAME").replace("response", "Response"),
            PHONE + ",algorithm=md5",
            PHONE + ',algorithm="MD5"',
            PHONE + ',future="a, \\" b=c"',
            PHONE.replace('"bob"', '"b\\ob"'),
        ],
    )
    def test_what_phones_write_differently_means_the_same(self, written: str) -> None:
        assert fields(parse_credentials(written)) == fields(parse_credentials(PHONE))

    def test_a_username_and_a_realm_are_unescaped_and_foreign_bytes_survive(self) -> None:
        credentials = parse_credentials(
            'Digest username="a\\"b\\\\c\udce9", realm="a \\"realm\\"", nonce="n", uri="sip:x", response="0"'
        )
        assert (credentials.username, credentials.realm) == ('a"b\\c\udce9', 'a "realm"')
        assert len(make_ha1("MD5", credentials.username, credentials.realm, "p")) == 32

    def test_a_client_without_a_nonce_yet_is_read(self) -> None:
        """RFC 8760 §2.7 allows empty values before the first challenge; IMS phones send them."""
        credentials = parse_credentials(
            'Digest username="bob@biloxi.com",realm="biloxi.com",nonce="",uri="sip:biloxi.com",response="",qop=auth'
        )
        assert (credentials.nonce, credentials.response, credentials.nonce_count) == ("", "", 0)

    @pytest.mark.parametrize(
        ("written", "why"),
        [
            ("", "nothing"),
            ("Digest", "no parameters"),
            ("Digest ", "no parameters"),
            ("Digestusername=bob", "no space"),
            ("Basic Ym9iOnNlY3JldA==", "another scheme"),
            (PHONE.replace('username="bob",', ""), "no username"),
            (PHONE.replace('realm="biloxi.com",', ""), "no realm"),
            (PHONE.replace('nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",', ""), "no nonce"),
            (PHONE.replace('uri="sip:bob@biloxi.com",', ""), "no uri"),
            (PHONE.replace('response="6629fae49393a05397450978507c4ef1",', ""), "no response"),
            (PHONE.replace('cnonce="0a4f113b",', ""), "qop without cnonce"),
            (PHONE.replace("nc=00000001,", ""), "qop without nc"),
            (PHONE.replace("nc=00000001", "nc=0000000g"), "nc is no number"),
            (PHONE.replace("nc=00000001", "nc=000000001"), "nc has nine digits"),
            (PHONE.replace("nc=00000001", "nc=+1"), "nc is signed"),
            (PHONE.replace("nc=00000001", "nc=\u0661"), "nc in other digits"),
            (PHONE + ',USERNAME="alice"', "username twice"),
            (PHONE + ",qop=auth", "qop twice"),
            (PHONE + ',x="open', "an open quote"),
            (PHONE + ',x="open\\', "an open escape"),
            (PHONE + ",x", "a name alone"),
            (PHONE + ",=x", "a value alone"),
            (PHONE + " x=y", "no comma"),
            (PHONE + ',a b="c"', "a space in a name"),
            (PHONE + "," + ",".join(f"p{number}=1" for number in range(40)), "too many"),
            (PHONE + ',x="' + "x" * CREDENTIALS_CHARACTERS + '"', "too long"),
        ],
    )
    def test_what_cannot_be_read_is_a_400(self, written: str, why: str) -> None:
        with pytest.raises(SipError) as caught:
            parse_credentials(written)
        assert (caught.value.status, caught.value.reason) == (400, "bad-credentials"), why

    @given(st.text(max_size=300))
    def test_any_text_is_credentials_or_a_400(self, text: str) -> None:
        statuses: list[int] = []
        for written in (text, f"Digest {text}", f"{PHONE},{text}"):
            try:
                credentials = parse_credentials(written)
            except SipError as error:
                statuses.append(error.status)
            else:
                digest = make_digest(credentials, "0" * 32, "INVITE") if credentials.algorithm == "MD5" else ""
                assert not digests_equal(digest, credentials.response + "!")
        assert set(statuses) <= {400}

    @given(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=40))
    def test_a_quoted_username_comes_back_as_it_was(self, name: str) -> None:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        written = f'Digest username="{escaped}", realm="r", nonce="n", uri="sip:r", response="0"'
        assert parse_credentials(written).username == name

    @pytest.mark.parametrize("unit", ['x="', "x=\\", 'a="\\"', ",", "a=b ", '"', "=", "a", " "])
    def test_junk_is_taken_once_and_at_the_end_so_that_the_worst_text_takes_linear_steps(self, unit: str) -> None:
        junk = [bool(item[3]) for item in digest._PARAMETER.findall(unit * 20000)]
        assert junk[:-1].count(True) == 0


class TestFindingOurs:
    def test_credentials_for_other_realms_and_other_schemes_are_passed_over(self) -> None:
        request = request_with(
            ("authorization", "NoOneKnowsThisScheme opaque-data=here"),
            ("authorization", PHONE.replace("biloxi.com", "atlanta.com")),
            ("proxy-authorization", PHONE.replace('"bob"', '"proxy"')),
            ("authorization", PHONE),
            ("authorization", PHONE.replace('"bob"', '"second"')),
        )
        found = find_credentials(request, "authorization", "biloxi.com")
        assert found is not None
        assert found.username == "bob"
        assert find_credentials(request, "authorization", "chicago.com") is None
        assert find_credentials(request, "authorization", "Biloxi.com") is None

    def test_an_unknown_scheme_alone_is_as_good_as_nothing(self) -> None:
        """RFC 4475 §3.3.7 (regaut01) wants a new challenge."""
        request = request_with(("authorization", "NoOneKnowsThisScheme opaque-data=here"))
        assert find_credentials(request, "authorization", "biloxi.com") is None

    def test_a_broken_neighbour_does_not_spoil_ours_but_alone_it_is_an_error(self) -> None:
        broken = ("authorization", 'Digest username="bob')
        found = find_credentials(request_with(broken, ("authorization", PHONE)), "authorization", "biloxi.com")
        assert found is not None
        with pytest.raises(SipError):
            find_credentials(request_with(broken), "authorization", "biloxi.com")


class TestWriting:
    def test_a_challenge(self) -> None:
        assert make_challenge("example.com", "abc", "SHA-256") == (
            'Digest realm="example.com", nonce="abc", algorithm=SHA-256, qop="auth"'
        )

    def test_a_stale_challenge_with_integrity_and_a_realm_that_needs_escapes(self) -> None:
        assert make_challenge('my "realm" \\', "abc", "MD5", qop=("auth", "auth-int"), stale=True) == (
            'Digest realm="my \\"realm\\" \\\\", nonce="abc", algorithm=MD5, qop="auth,auth-int", stale=true'
        )


class TestAlgorithms:
    def test_what_this_python_can_do(self) -> None:
        assert "SHA-256" in available_algorithms()
        assert not is_available("MD5-sess")
        assert not is_available("md5")

    def test_a_build_of_openssl_without_sha_512_256_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def absent(data: bytes) -> str:
            raise ValueError("unsupported hash type sha512_256")

        monkeypatch.setitem(digest._HASHES, "SHA-512-256", absent)
        assert not is_available("SHA-512-256")
        assert available_algorithms() == ("SHA-256", "MD5")

    def test_comparison_takes_any_text_and_forgives_capitals(self) -> None:
        assert digests_equal("abc0", "ABC0")
        assert not digests_equal("abc0", "abc")
        assert not digests_equal("abc0", "\u00e4\udce9")
