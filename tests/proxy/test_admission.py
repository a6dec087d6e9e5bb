"""Who may: the matrix of senders, open and closed farms and methods, and what the digest check decides."""

from __future__ import annotations

import pytest

from farm.proxy.admission import Admission, Caller
from farm.proxy.domains import Domains
from farm.proxy.request import RouteInformation
from farm.security.credentials import Authenticated, Refused, Verdict
from farm.sip.hop import Hop
from farm.sip.message import Request
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from tests.support.element import CHALLENGE, Addresses
from tests.support.messages import make_request
from tests.support.recorders import Promise, run

DOMAINS = Domains(["example.com"], Addresses())
ALICE = "Alice <sip:alice@example.com>;tag=1"
FOREIGN = "<sip:mallory@foreign.example>;tag=1"
TEL = "<tel:+4930123>;tag=1"
HOME, OUTSIDE, TRUNK = "192.0.2.101", "203.0.113.7", "10.0.0.9"
CHALLENGED = "challenged"


class Check:
    """A digest check that says what it was told to, and remembers whether it was asked."""

    def __init__(self, verdict: Verdict | Promise[Verdict]) -> None:
        self.verdict = verdict
        self.asked: list[tuple[str, str]] = []

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Promise[Verdict]:
        self.asked.append((realm, header_name))
        return self.verdict


def make_admission(check: Check, *, open_farm: bool = False) -> Admission:
    return Admission(DOMAINS, check, open_farm=open_farm, trusted=("10.0.0.0/8", "2001:db8::/32"))


def test_who_has_proved_a_trusted_domain_is_trusted_and_who_has_proved_another_is_not() -> None:
    proved = {"tls:a#1": ("peer.example", "example.org"), "tls:a#2": ("example.org",), "tls:a#3": ()}
    admission = Admission(
        DOMAINS,
        Check(CHALLENGE),
        open_farm=False,
        trusted=(),
        trusted_domains=("Peer.Example",),
        domains_of=lambda hop: proved[hop.local],
    )
    for name in proved:
        request = request_from(FOREIGN, OUTSIDE)
        request.source = Hop("TLS", OUTSIDE, 5061, name)
        expected = Caller.TRUSTED if name == "tls:a#1" else Caller.STRANGER
        assert admission.admit(request, make_route(), 0.0) is expected


def make_route(proven: bool = False) -> RouteInformation:
    route = RouteInformation(parse_uri("sip:bob@example.com"), "sip:bob@example.com", [], proven)
    route.proven = proven
    return route


def request_from(sender: str, host: str, method: str = "INVITE") -> Request:
    request = make_request(method, from_=sender)
    request.source = Hop("UDP", host, 5060)
    return request


MATRIX = [
    # from, source, in a dialog of ours, open farm, method: what it is taken for
    (ALICE, HOME, False, False, "INVITE", CHALLENGED),
    (ALICE, HOME, False, False, "BYE", CHALLENGED),
    (ALICE, HOME, False, False, "MESSAGE", CHALLENGED),
    (ALICE, HOME, False, False, "SUBSCRIBE", CHALLENGED),
    (ALICE, HOME, False, False, "OPTIONS", CHALLENGED),
    (ALICE, HOME, False, False, "NEWMETHOD", CHALLENGED),
    (ALICE, HOME, False, False, "REGISTER", CHALLENGED),  # to a foreign registrar
    (ALICE, OUTSIDE, False, False, "INVITE", CHALLENGED),
    (ALICE, HOME, False, False, "ACK", Caller.STRANGER),  # cannot be challenged
    (ALICE, HOME, False, True, "INVITE", Caller.OURS),
    (ALICE, HOME, False, True, "ACK", Caller.OURS),
    (ALICE, HOME, True, False, "INVITE", Caller.DIALOG),
    (ALICE, HOME, True, False, "BYE", Caller.DIALOG),
    (ALICE, HOME, True, False, "ACK", Caller.DIALOG),
    (FOREIGN, OUTSIDE, True, False, "BYE", Caller.DIALOG),
    (FOREIGN, OUTSIDE, False, False, "INVITE", Caller.STRANGER),
    (FOREIGN, OUTSIDE, False, True, "INVITE", Caller.STRANGER),  # open to our users, not to relay for the world
    (FOREIGN, OUTSIDE, False, False, "ACK", Caller.STRANGER),
    (TEL, OUTSIDE, False, False, "INVITE", Caller.STRANGER),
    (FOREIGN, TRUNK, False, False, "INVITE", Caller.TRUSTED),
    (ALICE, TRUNK, False, False, "INVITE", Caller.TRUSTED),
    (TEL, TRUNK, False, False, "INVITE", Caller.TRUSTED),
    (FOREIGN, TRUNK, True, False, "BYE", Caller.TRUSTED),
    (ALICE, TRUNK, False, True, "INVITE", Caller.TRUSTED),  # who is believed more than an open farm's users
    (FOREIGN, TRUNK, False, False, "ACK", Caller.TRUSTED),
    (FOREIGN, "2001:db8::7", False, False, "INVITE", Caller.TRUSTED),
    (FOREIGN, "not an address", False, False, "INVITE", Caller.STRANGER),
]


@pytest.mark.parametrize(("sender", "source", "proven", "open_farm", "method", "expected"), MATRIX)
def test_each_sender_is_taken_for_what_they_are(
    sender: str, source: str, proven: bool, open_farm: bool, method: str, expected: Caller | str
) -> None:
    check = Check(CHALLENGE)
    admission = make_admission(check, open_farm=open_farm)
    request = request_from(sender, source, method)
    if expected == CHALLENGED:
        with pytest.raises(SipError) as refusal:
            admission.admit(request, make_route(proven), 0.0)
        assert refusal.value.status == 407
        assert refusal.value.headers == CHALLENGE.headers
        assert check.asked == [("example.com", "proxy-authorization")]
    else:
        assert admission.admit(request, make_route(proven), 0.0) is expected
        assert check.asked == []


def test_a_caller_who_proves_to_be_who_from_says_is_ours() -> None:
    admission = make_admission(Check(Authenticated("sip:alice@example.com")))
    assert admission.admit(request_from(ALICE, HOME), make_route(), 0.0) is Caller.OURS


@pytest.mark.parametrize("sender", ["<sip:bob@example.com>;tag=1", "<sip:example.com>;tag=1"])
def test_a_caller_who_proves_to_be_somebody_else_is_refused(sender: str) -> None:
    """Alice's password does not let her call as bob."""
    admission = make_admission(Check(Authenticated("sip:alice@example.com")))
    with pytest.raises(SipError) as refusal:
        admission.admit(request_from(sender, HOME), make_route(), 0.0)
    assert (refusal.value.status, refusal.value.reason) == (403, "not-the-sender")


ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=1'


@pytest.mark.parametrize("sender", [ANONYMOUS, TEL])
@pytest.mark.parametrize(
    "target", ["sip:carol@elsewhere.example", "sip:+4930123@example.com;user=phone", "tel:+4930123"]
)
def test_a_user_who_withholds_its_name_is_challenged_where_a_stranger_may_not_call(sender: str, target: str) -> None:
    route = RouteInformation(parse_uri(target), target, [], False)
    check = Check(CHALLENGE)
    with pytest.raises(SipError) as refusal:
        make_admission(check).admit(request_from(sender, HOME), route, 0.0)
    assert refusal.value.status == 407
    assert check.asked == [("example.com", "proxy-authorization")]
    member = make_admission(Check(Authenticated("sip:alice@example.com")))
    assert member.admit(request_from(sender, HOME), route, 0.0) is Caller.OURS
    assert make_admission(check, open_farm=True).admit(request_from(sender, HOME), route, 0.0) is Caller.STRANGER


def test_an_anonymous_call_to_a_user_of_ours_needs_no_proof() -> None:
    check = Check(CHALLENGE)
    assert make_admission(check).admit(request_from(ANONYMOUS, OUTSIDE), make_route(), 0.0) is Caller.STRANGER
    assert check.asked == []


def test_a_refusal_of_the_digest_check_is_passed_on_as_it_is() -> None:
    admission = make_admission(Check(Refused(403, (), "banned")))
    with pytest.raises(SipError) as refusal:
        admission.admit(request_from(ALICE, HOME), make_route(), 0.0)
    assert (refusal.value.status, refusal.value.reason) == (403, "banned")


def test_a_check_that_takes_time_is_waited_for() -> None:
    promise: Promise[Verdict] = Promise()
    admitted = make_admission(Check(promise)).admit(request_from(ALICE, HOME), make_route(), 0.0)
    assert not isinstance(admitted, Caller)
    promise.resolve(Authenticated("sip:alice@example.com"))
    assert run(admitted) is Caller.OURS


def test_a_check_that_takes_time_may_refuse() -> None:
    promise: Promise[Verdict] = Promise()
    admitted = make_admission(Check(promise)).admit(request_from(ALICE, HOME), make_route(), 0.0)
    assert not isinstance(admitted, Caller)
    promise.resolve(CHALLENGE)
    with pytest.raises(SipError) as refusal:
        run(admitted)
    assert refusal.value.status == 407


def test_a_from_that_cannot_be_read_is_a_400() -> None:
    request = request_from(ALICE, HOME)
    request.headers = [header for header in request.headers if header[0] != "from"]
    with pytest.raises(SipError) as refusal:
        make_admission(Check(CHALLENGE)).admit(request, make_route(), 0.0)
    assert refusal.value.status == 400
