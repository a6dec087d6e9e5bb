"""RFC 3261 §10.3 as a phone sees it: what is answered, and what a caller finds afterwards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farm.config import RegistrarSettings
from farm.overlay.local import LocalStore
from farm.overlay.quorum import Failed
from farm.overlay.store import Full, Store
from farm.registrar.record import Record
from farm.registrar.registrar import MOST_ENTRIES
from farm.security.credentials import Authenticated, Refused, Verdict
from farm.sip.hop import Hop
from farm.sip.message import Request
from tests.registrar.desk import AOR, SOURCE, Desk
from tests.support.counts import read, read_sample
from tests.support.messages import make_register

PHONE = "<sip:alice@192.0.2.101:5060>"
OTHER = "<sip:alice@192.0.2.102:5060>"
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'


# Adding, refreshing, removing, fetching


def test_a_phone_registers_and_is_found() -> None:
    desk = Desk()
    answer = desk.register()
    assert answer.status == 200
    assert answer.all("contact") == ["<sip:alice@192.0.2.101:5060>;expires=3600"]
    assert answer.to_tag == "tag1"
    assert answer.find("date") == "Tue, 14 Nov 2023 22:30:00 GMT"
    assert not answer.has("record-route")
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]
    assert desk.counted("registered") == 1


def test_a_refresh_begins_the_lifetime_anew() -> None:
    desk = Desk()
    desk.register()
    desk.now += 3000
    assert desk.register(cseq=2).all("contact") == [f"{PHONE};expires=3600"]
    desk.now += 3599
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]
    assert desk.counted("refreshed") == 1
    desk.now += 1
    assert desk.uris() == []


def test_the_answer_lists_every_binding_with_what_is_left_of_it() -> None:
    desk = Desk()
    desk.register(PHONE, 1, "Expires: 600")
    desk.now += 100.5
    answer = desk.register(f"{OTHER};q=0.5;expires=60", call_id="reg-2")
    assert answer.all("contact") == [f"{PHONE};expires=500", f"{OTHER};q=0.5;expires=60"]


def test_several_contacts_come_with_their_own_or_the_common_lifetime() -> None:
    desk = Desk()
    answer = desk.register(f"{PHONE};expires=120, {OTHER}", 1, "Expires: 240")
    assert answer.all("contact") == [f"{PHONE};expires=120", f"{OTHER};expires=240"]
    assert desk.register(None).all("contact") == answer.all("contact")
    assert desk.counted("fetched") == 1


def test_expires_zero_removes_that_contact_alone() -> None:
    desk = Desk()
    desk.register(f"{PHONE}, {OTHER}")
    answer = desk.register(f"{PHONE};expires=0", 2)
    assert answer.all("contact") == [f"{OTHER};expires=3600"]
    assert desk.counted("removed") == 1
    assert desk.register(f"{OTHER}", 3, "Expires: 0").all("contact") == []


def test_removing_what_is_not_there_is_fine() -> None:
    desk = Desk()
    assert desk.register(f"{PHONE};expires=0").all("contact") == []
    assert desk.uris() == []


def test_a_register_that_arrives_after_its_own_removal_is_out_of_order() -> None:
    """The removal went through a node that did not know the binding, or overtook the REGISTER."""
    desk = Desk()
    assert desk.register(f"{PHONE};expires=0", 5).status == 200
    assert desk.register(PHONE, 4).status == 500
    assert desk.uris() == []
    assert desk.register(PHONE, 6).status == 200


def test_removals_of_what_is_not_there_do_not_grow_without_end() -> None:
    desk = Desk()
    for number in range(100):
        assert desk.register(f"<sip:alice@192.0.2.101:{2000 + number}>;expires=0", number + 1).status == 200
    record = desk.location.read(AOR, desk.now)
    assert isinstance(record, Record)
    assert len(record.entries) == MOST_ENTRIES


def test_a_fetch_changes_nothing() -> None:
    desk = Desk()
    desk.register()
    desk.store.take_unwritten(10)
    desk.now += 10
    assert desk.register(None, 2).all("contact") == [f"{PHONE};expires=3590"]
    assert desk.store.unwritten == 0


def test_all_bindings_are_best_q_first_to_callers() -> None:
    desk = Desk()
    desk.register(f"{PHONE};q=0.1, {OTHER};q=0.9")
    assert desk.uris() == ["sip:alice@192.0.2.102:5060", "sip:alice@192.0.2.101:5060"]


# Contact: *


def test_star_removes_everything() -> None:
    desk = Desk()
    desk.register(f"{PHONE}, {OTHER}")
    answer = desk.register("*", 2, "Expires: 0")
    assert (answer.status, answer.all("contact")) == (200, [])
    assert desk.uris() == []
    assert desk.knows()


@pytest.mark.parametrize(
    ("contact", "headers"),
    [("*", ()), ("*", ("Expires: 60",)), (f"*, {PHONE}", ("Expires: 0",)), ("*, *", ("Expires: 0",))],
)
def test_star_with_anything_but_expires_zero_or_with_company_is_invalid(contact: str, headers: tuple[str, ...]) -> None:
    desk = Desk()
    desk.register()
    assert desk.register(contact, 2, *headers).status == 400
    assert len(desk.uris()) == 1


def test_star_with_an_old_cseq_of_a_binding_s_call_id_fails_and_removes_nothing() -> None:
    desk = Desk()
    desk.register(PHONE, 5)
    desk.register(OTHER, 1, call_id="reg-2")
    assert desk.register("*", 5, "Expires: 0").status == 500
    assert len(desk.uris()) == 2
    assert desk.register("*", 6, "Expires: 0").status == 200


def test_a_registration_that_was_late_does_not_undo_a_star() -> None:
    desk = Desk()
    desk.register(PHONE, 1)
    desk.register("*", 3, "Expires: 0")
    assert desk.register(PHONE, 2).status == 500
    assert desk.uris() == []
    assert desk.register(PHONE, 4).status == 200


def test_a_removal_before_a_star_is_remembered_through_it() -> None:
    desk = Desk()
    desk.register(PHONE, 1)
    desk.register(f"{PHONE};expires=0", 3)
    desk.register("*", 4, "Expires: 0")
    assert desk.register(PHONE, 2).status == 500
    assert desk.uris() == []


# Call-ID and CSeq


def test_a_lower_cseq_of_the_same_call_id_fails_whole() -> None:
    desk = Desk()
    desk.register(PHONE, 5)
    answer = desk.register(f"{OTHER}, {PHONE}", 4)
    assert answer.status == 500
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]
    assert desk.counted("failed") == 1
    assert read(desk.metrics.sip_rejected.child("cseq-out-of-order")) == 1


def test_the_same_cseq_again_is_answered_as_the_first_time() -> None:
    """The retransmission of a request whose transaction is gone."""
    desk = Desk()
    desk.register(PHONE, 5)
    desk.store.take_unwritten(10)
    desk.now += 40
    answer = desk.register(PHONE, 5)
    assert (answer.status, answer.all("contact")) == (200, [f"{PHONE};expires=3560"])
    assert desk.store.unwritten == 0


def test_the_same_cseq_again_is_well_although_the_call_id_went_on_with_another_contact() -> None:
    desk = Desk()
    desk.register(PHONE, 5)
    desk.register(OTHER, 6)
    assert desk.register(PHONE, 5).status == 200
    assert desk.register("<sip:nobody@192.0.2.9>;expires=0", 4).status == 200
    assert len(desk.uris()) == 2


def test_the_same_cseq_with_something_else_fails() -> None:
    desk = Desk()
    desk.register(PHONE, 5)
    assert desk.register(f"{PHONE};expires=60", 5).status == 500
    assert desk.register(f"{PHONE};expires=0", 5).status == 500
    assert desk.register(f"{PHONE};expires=0", 6).status == 200
    assert desk.register(f"{PHONE};expires=0", 6).status == 200
    assert desk.register(PHONE, 6).status == 500


def test_another_call_id_may_begin_at_any_cseq() -> None:
    desk = Desk()
    desk.register(PHONE, 50)
    assert desk.register(PHONE, 1, call_id="after-reboot").status == 200
    assert desk.register(PHONE, 49).status == 500
    assert desk.register(f"{PHONE};expires=0", 2, call_id="after-reboot").status == 200
    assert desk.uris() == []


def test_a_late_registration_does_not_undo_a_removal() -> None:
    desk = Desk()
    desk.register(PHONE, 1)
    desk.register(f"{PHONE};expires=0", 3)
    desk.now += 31
    assert desk.register(PHONE, 2).status == 500
    assert desk.uris() == []


def test_a_phone_that_restarts_with_its_fixed_call_id_gets_in_when_its_binding_is_over() -> None:
    desk = Desk()
    desk.register(PHONE, 100, "Expires: 600")
    desk.now += 300
    assert desk.register(PHONE, 1).status == 500  # §10.3 step 7, to the letter
    desk.now += 301
    assert desk.register(PHONE, 1).status == 500  # lapsed a second ago
    desk.now += 32
    assert desk.register(PHONE, 1).status == 200
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]
    assert desk.register(PHONE, 2).status == 200


# Lifetimes


def test_too_brief_an_interval_is_refused_with_the_least() -> None:
    desk = Desk()
    answer = desk.register(f"{PHONE};expires=59")
    assert (answer.status, answer.find("min-expires")) == (423, "60")
    assert desk.uris() == []
    assert desk.counted("refused") == 1


def test_one_brief_contact_refuses_all() -> None:
    desk = Desk()
    assert desk.register(f"{OTHER}, {PHONE};expires=10").status == 423
    assert desk.uris() == []


def test_an_hour_is_never_too_brief() -> None:
    desk = Desk(RegistrarSettings(min_expires_seconds=7000))
    assert desk.register(f"{PHONE};expires=3600").status == 200
    assert desk.register(f"{PHONE};expires=3599", 2).status == 423


def test_too_long_an_interval_is_cut() -> None:
    desk = Desk()
    assert desk.register(f"{PHONE};expires=soon").all("contact") == [f"{PHONE};expires=3600"]  # §10.2: malformed
    assert desk.register(f"{PHONE};expires=86400", 2).all("contact") == [f"{PHONE};expires=7200"]
    assert desk.register(PHONE, 3, "Expires: 4294967295").all("contact") == [f"{PHONE};expires=7200"]


def test_without_a_wish_the_default_is_granted() -> None:
    desk = Desk(RegistrarSettings(default_expires_seconds=900))
    assert desk.register().all("contact") == [f"{PHONE};expires=900"]


# Limits


def test_too_many_contacts_are_refused_whole() -> None:
    desk = Desk(RegistrarSettings(max_bindings=2))
    desk.register(f"{PHONE}, {OTHER}")
    answer = desk.register("<sip:alice@192.0.2.103>", 2)
    assert (answer.status, answer.phrase) == (403, "Too Many Bindings")
    assert len(desk.uris()) == 2
    assert desk.register(f"<sip:alice@192.0.2.103>, {PHONE};expires=0", 3).status == 200
    assert desk.register(f"{OTHER}", 4).status == 200


def test_a_contact_over_its_limit_is_refused() -> None:
    desk = Desk(RegistrarSettings(contact_bytes=100))
    assert desk.register(f"<sip:alice@192.0.2.101;x={'y' * 100}>").status == 400


def test_the_same_contact_twice_in_one_request_is_refused() -> None:
    desk = Desk()
    assert desk.register(f"{PHONE}, <sip:alice@192.0.2.101:5060>;q=0.1").status == 400
    assert desk.uris() == []


def test_a_record_that_grows_too_large_is_a_500_and_stays() -> None:
    desk = Desk(RegistrarSettings(max_bindings=100))
    for number in range(13):
        contact = f"<sip:alice@192.0.2.{number}>;x={'y' * 4000}"
        assert desk.register(contact, call_id=str(number)).status == 200
    desk.kind.record_bytes = 56_000
    answer = desk.register(f"<sip:alice@192.0.2.99>;x={'y' * 4000}", call_id="last")
    assert answer.status == 500
    assert read(desk.metrics.sip_rejected.child("store-full")) == 1
    assert len(desk.uris()) == 13


# Who may


class Judge:
    def __init__(self, verdict: Verdict, later: bool = False) -> None:
        self.verdict = verdict
        self.later = later
        self.asked: list[tuple[str, str]] = []

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Awaitable[Verdict]:
        self.asked.append((realm, header_name))
        return self._wait() if self.later else self.verdict

    async def _wait(self) -> Verdict:
        return self.verdict


@pytest.mark.parametrize("later", [False, True])
def test_the_user_may_register_for_himself(later: bool) -> None:
    judge = Judge(Authenticated(AOR), later)
    desk = Desk(authenticator=judge)
    assert desk.register().status == 200
    assert judge.asked == [("example.com", "authorization")]


@pytest.mark.parametrize("later", [False, True])
def test_another_user_may_not(later: bool) -> None:
    desk = Desk(authenticator=Judge(Authenticated("sip:mallory@example.com"), later))
    assert desk.register().status == 403
    assert desk.uris() == []


@pytest.mark.parametrize("later", [False, True])
def test_a_stranger_is_challenged(later: bool) -> None:
    refusal = Refused(401, (("www-authenticate", 'Digest realm="example.com"'),), "no-credentials")
    desk = Desk(authenticator=Judge(refusal, later))
    answer = desk.register()
    assert (answer.status, answer.find("www-authenticate")) == (401, 'Digest realm="example.com"')
    assert read(desk.metrics.sip_rejected.child("no-credentials")) == 1
    assert (desk.counted("challenged"), desk.counted("refused")) == (1, 0), "half of an attempt is no failure"
    assert read(desk.metrics.sip_registration_delay.child()) == 0, "RFC 6076 §4.1: successful ones only"


def test_in_an_open_farm_a_register_is_served_without_a_transaction_and_a_repeated_one_alike() -> None:
    desk = Desk()
    request = make_register(contact=PHONE)
    answers = []
    for _ in range(2):
        transaction = desk.receive(request)
        assert transaction.forgotten
        answers += transaction.answers
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].write() == answers[1].write()
    assert len(desk.uris()) == 1


@pytest.mark.parametrize("later", [False, True])
def test_who_proved_nothing_is_refused_once_and_nothing_is_kept_of_it(later: bool) -> None:
    """A flood of REGISTER without credentials must not fill the table; what a member did wrong is kept as ever."""
    member = Judge(Authenticated(AOR), later)
    for judge, contact, status, forgotten in (
        (Judge(Refused(401, (), "no-credentials"), later), PHONE, 401, True),
        (member, "<sip:x@192.0.2.1>;expires=5", 423, False),
        (member, PHONE, 200, False),
    ):
        desk = Desk(authenticator=judge)
        request = make_register(contact=contact)
        transaction = desk.receive(request)
        desk.run_waiting()
        assert [answer.status for answer in transaction.answers] == [status]
        assert transaction.forgotten == forgotten


def test_why_a_registration_was_refused_is_logged_with_its_source() -> None:
    desk = Desk(authenticator=Judge(Refused(401, (), "wrong-password")))
    desk.register()
    assert desk.logged == [("info", {"reason": "wrong-password", "source": "192.0.2.101", "method": "REGISTER"})]


def test_the_realm_of_an_address_that_stands_for_a_domain_is_the_domain() -> None:
    judge = Judge(Authenticated(AOR))
    desk = Desk(authenticator=judge)
    assert desk.register(uri="sip:198.51.100.1", to="<sip:alice@198.51.100.1>").status == 200
    assert judge.asked == [("example.com", "authorization")]
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]


# The address-of-record


def test_the_address_of_record_is_canonical() -> None:
    desk = Desk()
    desk.register(to='"Alice" <sip:%61lice@EXAMPLE.com:5060;user=phone>')
    assert desk.uris(AOR) == ["sip:alice@192.0.2.101:5060"]


def test_sips_and_sip_are_one_address_of_record() -> None:
    desk = Desk()
    desk.register(to="<sips:alice@example.com>")
    assert len(desk.uris(AOR)) == 1


@pytest.mark.parametrize("to", ["<sip:alice@elsewhere.net>", "<sip:example.com>"])
def test_an_address_of_record_that_is_not_ours_is_not_found(to: str) -> None:
    assert Desk().register(to=to).status == 404


def test_a_request_for_a_foreign_domain_is_not_found() -> None:
    assert Desk().register(uri="sip:elsewhere.net").status == 404


def test_an_address_of_record_in_an_unknown_scheme_is_a_bad_request() -> None:
    """unksm2 of RFC 4475."""
    assert Desk().register(to="<isbn:2983792873>").status == 400


def test_require_of_something_unknown_is_refused_by_name() -> None:
    answer = Desk().register(PHONE, 1, "Require: path, gruu, outbound, pref, x")
    assert (answer.status, answer.find("unsupported")) == (420, "pref, x")
    assert Desk().register(PHONE, 1, "Require: path").status == 200


# What is kept


def test_contact_parameters_are_the_contact_s_and_uri_parameters_the_uri_s() -> None:
    """cparam01 and cparam02 of RFC 4475."""
    desk = Desk()
    answer = desk.register("<sip:+19725552222@gw1.example.net>;unknownparam")
    assert answer.all("contact") == ["<sip:+19725552222@gw1.example.net>;unknownparam;expires=3600"]
    answer = desk.register("<sip:+19725552222@gw1.example.net;unknownparam>", 1, call_id="2", to="<sip:b@example.com>")
    assert answer.all("contact") == ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=3600"]


def test_an_escaped_route_in_a_contact_is_kept_and_not_applied() -> None:
    """regescrt of RFC 4475."""
    contact = "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>"
    desk = Desk()
    assert desk.register(contact).all("contact") == [f"{contact};expires=3600"]
    assert desk.uris() == [contact[1:-1]]
    binding = desk.find()[0]
    assert binding.path == ()


def test_a_bare_contact_s_parameters_belong_to_the_header() -> None:
    answer = Desk().register("sip:alice@192.0.2.101;expires=120;foo=bar")
    assert answer.all("contact") == ["<sip:alice@192.0.2.101>;foo=bar;expires=120"]


def test_contacts_of_other_schemes_are_kept() -> None:
    desk = Desk()
    assert desk.register("<mailto:alice@example.com>").all("contact") == ["<mailto:alice@example.com>;expires=3600"]
    assert desk.register("<mailto:alice@example.com>;expires=0", 2).all("contact") == []


def test_equal_contacts_are_one_binding_and_the_last_spelling_is_shown() -> None:
    desk = Desk()
    desk.register("<sip:alice@PHONE.example.net;x=1>")
    answer = desk.register("<sip:%61lice@phone.example.net>", 2)
    assert answer.all("contact") == ["<sip:%61lice@phone.example.net>;expires=3600"]
    assert desk.register("<sip:alice@phone.example.net;transport=tcp>", 3).all("contact")[1:] != []


def test_the_whole_contact_is_kept_in_the_binding() -> None:
    desk = Desk()
    desk.register(f'{PHONE};methods="INVITE,BYE";q=0.70;{INSTANCE}', 1, "User-Agent: Phone/2.1")
    binding = desk.find()[0]
    assert (binding.params, binding.q, binding.user_agent) == (';methods="INVITE,BYE"', 700, "Phone/2.1")
    assert binding.instance == "<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"
    assert (binding.call_id, binding.cseq, binding.granted, binding.expires_at) == ("reg-1", 1, 3600, 4600.0)


def test_text_that_is_not_utf_8_is_refused() -> None:
    contact = b'<sip:alice@192.0.2.1>;x="\xff"'.decode("utf-8", "surrogateescape")
    desk = Desk()
    assert desk.register(contact).status == 400
    assert desk.uris() == []
    agent = b"User-Agent: \xff".decode("utf-8", "surrogateescape")
    assert desk.register(PHONE, 1, agent).status == 200


@pytest.mark.parametrize(
    "contact", ["<sip:alice@>", "<sip:alice@h>;q=2", "nonsense", "<sip:a@h>;expires", "<sip:a@h>, "]
)
def test_a_contact_that_cannot_be_read_is_a_bad_request(contact: str) -> None:
    desk = Desk()
    answer = desk.register(contact)
    assert answer.status == (200 if contact.endswith(";expires") else 400)  # §20.10: malformed expires is an hour


_PIECES = ("<", ">", ";", ",", "*", '"', "=", "?", " ", "%", "sip:", "a@h", "[::1]", ":5060", "expires", "q", "reg-id")


@given(st.lists(st.sampled_from((*_PIECES, "+sip.instance", "0", "60", "tel:+49", "\u00e9", "\udcff")), max_size=12))
@settings(max_examples=300, deadline=None)
def test_any_contact_gets_an_answer_and_leaves_a_record_that_can_be_read(pieces: list[str]) -> None:
    desk = Desk()
    desk.register()
    answer = desk.register("".join(pieces), 2)
    assert answer.status in (200, 400, 423)
    assert desk.reports == []
    assert desk.register(None, 3).status == 200


# Path, Service-Route, outbound


def test_path_is_kept_and_echoed() -> None:
    desk = Desk()
    paths = ("Path: <sip:edge2.example.com;lr>, <sip:edge1.example.com;lr>",)
    answer = desk.register(PHONE, 1, *paths, "Supported: path")
    assert answer.all("path") == ["<sip:edge2.example.com;lr>, <sip:edge1.example.com;lr>"]
    binding = desk.find()[0]
    assert binding.path == ("<sip:edge2.example.com;lr>", "<sip:edge1.example.com;lr>")


def test_path_that_the_phone_does_not_know_of_is_refused() -> None:
    answer = Desk().register(PHONE, 1, "Path: <sip:edge.example.com;lr>")
    assert (answer.status, answer.find("unsupported")) == (420, "path")


def test_service_route_and_server_are_sent() -> None:
    desk = Desk(RegistrarSettings(service_route=("sip:out.example.com;lr",)), server_header="farm")
    answer = desk.register()
    assert (answer.find("service-route"), answer.find("server")) == ("<sip:out.example.com;lr>", "farm")
    refusal = desk.register(f"{PHONE};expires=1", 2)
    assert (refusal.has("service-route"), refusal.find("server")) == (False, "farm")


def test_an_instance_and_reg_id_replace_their_own_binding_whatever_the_contact() -> None:
    desk = Desk()
    desk.register(f"<sip:alice@192.0.2.101:1111>;reg-id=1;{INSTANCE}")
    answer = desk.register(f"<sip:alice@192.0.2.101:2222>;reg-id=1;{INSTANCE}", 1, call_id="after-reboot")
    assert answer.all("contact") == [f"<sip:alice@192.0.2.101:2222>;{INSTANCE};reg-id=1;expires=3600"]
    assert not answer.has("require")
    desk.register(f"<sip:alice@192.0.2.101:2222>;reg-id=2;{INSTANCE}", 2, call_id="after-reboot")
    found = desk.find()
    assert [binding.reg_id for binding in found] == [2, 1]


def test_outbound_is_claimed_on_streams_for_phones_that_know_it() -> None:
    source = Hop("TCP", "192.0.2.101", 40000, "tcp:1")
    contact = f"{PHONE};reg-id=1;{INSTANCE}"
    assert Desk().register(contact, 1, "Supported: path, outbound", source=source).find("require") == "outbound"
    assert not Desk().register(contact, 1, "Supported: path", source=source).has("require")
    assert not Desk().register(PHONE, 1, "Supported: path, outbound", source=source).has("require")


def test_outbound_is_claimed_over_udp_too_without_a_flow_timer() -> None:
    """Its phones then send their STUN as often as NATs want it (RFC 5626 §4.4)."""
    answer = Desk().register(f"{PHONE};reg-id=1;{INSTANCE}", 1, "Supported: path, outbound")
    assert (answer.find("require"), answer.find("supported")) == ("outbound", "outbound, path")
    assert not answer.has("flow-timer")


def test_a_phone_on_a_connection_is_told_how_often_to_show_that_it_is_there() -> None:
    source = Hop("TCP", "192.0.2.101", 40000, "tcp:1")
    contact = f"{PHONE};reg-id=1;{INSTANCE}"
    outbound = "Supported: path, outbound"
    assert Desk().register(contact, 1, outbound, source=source).find("flow-timer") == "120"
    silent = Desk(RegistrarSettings(flow_timer_seconds=0))
    assert silent.register(contact, 1, outbound, source=source).find("require") == "outbound"
    assert not silent.register(contact, 2, outbound, source=source).has("flow-timer")
    through = Desk().register(contact, 1, outbound, "Path: <sip:token@192.0.2.7;lr;ob>", source=source)
    assert (through.find("require"), through.has("flow-timer")) == ("outbound", False), "the flow is that proxy's"


def test_a_fetch_and_a_removal_of_everything_claim_nothing() -> None:
    """RFC 5626 §6: no reg-id in the request, no outbound in the answer, whatever was registered by that Call-ID."""
    desk = Desk()
    outbound = "Supported: path, outbound"
    desk.register(f"{PHONE};reg-id=1;{INSTANCE}", 1, outbound)
    assert not desk.register(None, 2, outbound).has("require")
    assert desk.register(f"{PHONE};reg-id=1;{INSTANCE};expires=0", 3, outbound).find("require") == "outbound"
    assert not desk.register("*", 4, outbound, "Expires: 0").has("require")


def test_a_flow_that_was_registered_is_kept_although_the_phone_is_where_it_says() -> None:
    """RFC 5626 §6: "enough information to uniquely identify the network flow", of UDP as of connections."""
    desk = Desk()
    desk.register(f"{PHONE};reg-id=1;{INSTANCE}")
    desk.register("<sip:alice@192.0.2.101:5062;ob>", call_id="reg-2")
    desk.register("<sip:alice@192.0.2.101:5064;obscure>", call_id="reg-3")
    assert [(binding.reg_id, binding.received) for binding in desk.find()] == [(0, None), (0, SOURCE), (1, SOURCE)]


def test_a_refresh_over_another_flow_moves_the_binding_there() -> None:
    desk = Desk()
    contact = f"{PHONE};reg-id=1;{INSTANCE}"
    old, new = Hop("TCP", "192.0.2.101", 40000, "tcp:a#1"), Hop("TCP", "192.0.2.101", 40001, "tcp:a#2")
    desk.register(contact, 1, source=old)
    desk.register(contact, 2, source=new)
    assert [binding.received for binding in desk.find()] == [new]


def test_reg_id_without_an_instance_is_just_a_parameter() -> None:
    answer = Desk().register(f"{PHONE};reg-id=1")
    assert answer.all("contact") == [f"{PHONE};reg-id=1;expires=3600"]


def test_a_proxy_between_us_that_knows_no_outbound() -> None:
    via = ("SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK2", "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1")
    contact = f"{PHONE};reg-id=1;{INSTANCE}"
    assert Desk().register(contact, 1, "Supported: path, outbound", via=via).status == 439
    assert Desk().register(contact, 1, via=via).all("contact") == [f"{PHONE};reg-id=1;{INSTANCE};expires=3600"]
    for path in ("<sip:token@192.0.2.7;lr;ob>", "<sip:192.0.2.9;lr>, <sip:token@192.0.2.7;lr;ob>"):
        answer = Desk().register(contact, 1, "Supported: path, outbound", f"Path: {path}", via=via)
        assert (answer.status, answer.find("require")) == (200, "outbound")


def test_two_flows_in_one_request_are_refused() -> None:
    contact = f"{PHONE};reg-id=1;{INSTANCE}, {OTHER}"
    assert Desk().register(contact).status == 400
    assert Desk().register(f"{PHONE};reg-id=1;{INSTANCE}, {OTHER};expires=0").status == 200


# Where it came from


def test_the_flow_is_kept_for_a_phone_on_a_stream() -> None:
    desk = Desk()
    source = Hop("TCP", "192.0.2.101", 40000, "tcp:0.0.0.0:5060")
    desk.register(source=source)
    found = desk.find()
    assert found[0].received == source


# When the answer is not here yet


class SlowStore:
    """Another node has the records; answers come later."""

    def __init__(self, refuse: bool = False, fail: bool = False) -> None:
        self.records: dict[str, bytes] = {}
        self.refuse = refuse
        self.fail = fail
        self.kind = None
        self.pending: list[tuple[Coroutine[Any, Any, Any], Callable[[Any, float], None]]] = []

    async def get(self, kind: str, key: str, now: float) -> bytes | None:
        if self.fail:
            raise RuntimeError("the network is gone")
        return self.records.get(key)

    async def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
        if self.refuse:
            return Full("records")
        self.records[key] = delta
        return delta

    def begin_put(self, kind: str, key: str, delta: bytes, done: Callable[[Any, float], None], now: float) -> None:
        self.pending.append((self.put(kind, key, delta, now), done))

    async def peek(self, kind: str, key: str, now: float) -> bytes | None:
        return await self.get(kind, key, now)

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        return self.records.items()


class BrokenStore(SlowStore):
    """Fails before there is anything to wait for."""

    def peek(self, kind: str, key: str, now: float) -> NoReturn:
        raise RuntimeError("a fault of ours")


def test_the_delay_of_a_register_is_from_its_arrival_to_its_200() -> None:
    class Quarter(SlowStore):
        async def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
            desk.now += 0.25
            return await super().put(kind, key, delta, now)

    desk = Desk(replicated=Quarter())
    assert desk.register().status == 200
    delay = desk.metrics.sip_registration_delay.child()
    assert (read(delay), read_sample(delay, "_sum")) == (1, 0.25)


def test_a_register_waits_for_the_overlay() -> None:
    desk = Desk(replicated=SlowStore())
    assert desk.register().all("contact") == [f"{PHONE};expires=3600"]


def test_a_quorum_that_fails_is_a_500() -> None:
    assert Desk(replicated=SlowStore(refuse=True)).register().status == 500


@pytest.mark.parametrize(("reason", "status"), [("no-owners", 503), ("clock", 503), ("too-few-owners", 500)])
def test_a_phone_is_sent_elsewhere_where_another_node_may_do_better(reason: str, status: int) -> None:
    """RFC 3263 §4.3: a client tries the next server on 503, and on no other answer."""

    class Alone(SlowStore):
        async def put(self, kind: str, key: str, delta: bytes, now: float) -> Failed:  # type: ignore[override]
            return Failed(reason)

    class Blind(Alone):
        async def get(self, kind: str, key: str, now: float) -> Failed:  # type: ignore[override]
            return Failed(reason)

    for store in (Alone(), Blind()):
        answer = Desk(replicated=store).register()
        assert answer.status == status
        assert answer.find("retry-after") == "2"


def test_what_breaks_while_waiting_is_answered_and_reported() -> None:
    desk = Desk(replicated=SlowStore(fail=True))
    assert desk.register().status == 500
    assert desk.reports == ["a REGISTER failed"]


def test_an_answer_that_nobody_can_read_is_a_500_and_reported() -> None:
    class Garbled(SlowStore):
        async def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes:
            return b"no record"

    desk = Desk(replicated=Garbled())
    assert desk.register().status == 500
    assert desk.reports == ["a REGISTER failed"]


def test_what_breaks_at_once_is_answered_and_reported() -> None:
    desk = Desk(replicated=BrokenStore())
    assert desk.register().status == 500
    assert desk.reports == ["a REGISTER failed"]


class Between:
    """What this node remembers is old; what is written meets what others have. Notes how it was read."""

    def __init__(self, store: Store) -> None:
        self.others = LocalStore(store)
        self.remembered: bytes | None = None
        self.how: list[str] = []

    @staticmethod
    def store_of(desk: Desk) -> bytes | None:
        """Alice's record as it is."""
        return desk.store.get("registration", AOR.encode())

    def get(self, kind: str, key: str, now: float) -> bytes | None:
        self.how.append("get")
        return self.others.get(kind, key, now)

    def peek(self, kind: str, key: str, now: float) -> bytes | None:
        self.how.append("peek")
        return self.remembered

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
        self.how.append("put")
        return self.others.put(kind, key, delta, now)

    def begin_put(
        self, kind: str, key: str, delta: bytes, done: Callable[[Any, float], None], now: float
    ) -> bytes | Full:
        return self.put(kind, key, delta, now)

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        return self.others.items(kind, now)


def make_between() -> tuple[Desk, Between]:
    desk = Desk()
    between = Between(desk.store)
    desk.location._store = between
    return desk, between


def test_a_register_that_another_node_knows_to_be_late_is_refused_after_the_write() -> None:
    desk, between = make_between()
    desk.register(PHONE, 5)
    answer = desk.register(PHONE, 4)
    assert (answer.status, answer.phrase) == (500, "Out Of Order")
    assert between.how[-2:] == ["peek", "put"], "only the write showed it"
    assert desk.counted("failed") == 1
    assert desk.register(PHONE, 6).status == 200


def test_a_late_register_of_one_of_two_contacts_is_refused_as_well() -> None:
    desk, _ = make_between()
    desk.register(OTHER, 5)
    assert desk.register(f"{PHONE}, {OTHER}", 4).status == 500
    assert desk.register(OTHER, 4, call_id="reg-2").status == 200


def test_a_repeated_register_is_written_again_so_that_enough_owners_have_it() -> None:
    """All is so already here, which is not to say elsewhere: the first answer may have been lost on the way."""
    desk, between = make_between()
    desk.register(PHONE, 5)
    between.remembered = between.store_of(desk)
    assert desk.register(PHONE, 5).all("contact") == [f"{PHONE};expires=3600"]
    assert between.how[-2:] == ["peek", "put"]
    assert between.store_of(desk) == between.remembered


def test_a_repeated_register_of_one_contact_is_answered_although_another_was_registered_since() -> None:
    """Both with one Call-ID, as some phones with two addresses do."""
    desk, between = make_between()
    desk.register(PHONE, 5)
    desk.register(OTHER, 6)
    between.remembered = between.store_of(desk)
    assert desk.register(PHONE, 5).status == 200
    assert len(desk.uris()) == 2


@pytest.mark.parametrize(
    ("contact", "headers"),
    [("*", ["Expires: 0"]), (f"{PHONE};expires=0", []), (PHONE, ["Expires: 0"]), (f"{PHONE};expires=0, {OTHER}", [])],
)
def test_who_removes_must_see_all_there_is_and_reads_from_a_quorum(contact: str, headers: list[str]) -> None:
    desk, between = make_between()
    desk.register(PHONE, 5)
    between.how.clear()
    assert desk.register(contact, 6, *headers).status == 200
    assert between.how == ["get", "put"]
    assert "sip:alice@192.0.2.101:5060" not in desk.uris()


def test_who_asks_reads_from_a_quorum_and_who_adds_does_not() -> None:
    desk, between = make_between()
    desk.register(PHONE, 5)
    assert between.how == ["peek", "put"]
    between.how.clear()
    assert desk.register(None, 6).all("contact") == [f"{PHONE};expires=3600"]
    assert between.how == ["get"]


@pytest.mark.parametrize("contact", [f"{PHONE};expires=0", "*", None])
def test_too_few_owners_for_a_read_are_a_500_with_its_reason(contact: str | None) -> None:
    class Blind(Between):
        def get(self, kind: str, key: str, now: float) -> Failed:  # type: ignore[override]
            return Failed("too-few-owners")

    desk = Desk()
    desk.location._store = Blind(desk.store)
    answer = desk.register(contact, 6, *["Expires: 0"] * (contact == "*"))
    assert (answer.status, answer.find("retry-after")) == (500, "2")
    assert desk.logged[-1][1]["reason"] == "store-unavailable"


def test_an_address_that_is_registered_without_end_is_a_500_with_its_reason() -> None:
    class Busy(Between):
        def put(self, kind: str, key: str, delta: bytes, now: float) -> Failed:  # type: ignore[override]
            return Failed("rate")

    desk = Desk()
    desk.location._store = Busy(desk.store)
    answer = desk.register(PHONE, 6)
    assert (answer.status, answer.find("retry-after")) == (500, "2")
    assert desk.logged[-1][1]["reason"] == "request-rate"


def test_a_store_that_is_full_is_not_one_that_cannot_be_reached() -> None:
    desk = Desk(replicated=SlowStore(refuse=True))
    desk.register()
    assert desk.logged[-1][1]["reason"] == "store-full"
