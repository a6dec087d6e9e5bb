"""What the 200 to a REGISTER tells a phone of GRUUs; how contacts are written is in test_registrar."""

from __future__ import annotations

import re

import pytest

from farm.config import RegistrarSettings
from farm.registrar.answer import claim_outbound, write_contacts
from farm.registrar.record import EMPTY
from farm.sip.address import parse_address
from farm.sip.hop import Hop
from farm.sip.message import Response, make_header
from farm.sip.uri import parse_uri
from tests.registrar.desk import AOR, Desk

PHONE = "<sip:alice@192.0.2.101:5060>"
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"'
OTHER = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000000000002>"'
GRUU = "Supported: gruu"
PUBLIC = "sip:alice@example.com;gr=urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF"


def gruus_in(answer: Response) -> list[tuple[str, str]]:
    """The public and the temporary GRUU of each contact."""
    params = [parse_address(text).params for text in answer.all("contact")]
    return [((each.get("pub-gruu") or "").strip('"'), (each.get("temp-gruu") or "").strip('"')) for each in params]


def test_a_phone_that_knows_gruus_is_given_a_public_and_a_temporary_one() -> None:
    desk = Desk()
    answer = desk.register(f"{PHONE};{INSTANCE}", 1, GRUU)
    ((public, temporary),) = gruus_in(answer)
    assert public == PUBLIC
    assert re.fullmatch(r"sip:[A-Za-z0-9_-]+@example\.com;gr", temporary)
    target = desk.gruus.open(parse_uri(temporary).user or "")
    assert target is not None
    assert target.aor == AOR
    assert target.is_valid(desk.find())
    assert (answer.has("require"), answer.has("supported")) == (False, False), "RFC 5627 §5.2"


def test_each_refresh_brings_another_temporary_one_and_the_earlier_ones_stay_good() -> None:
    desk = Desk()
    given = [gruus_in(desk.register(f"{PHONE};{INSTANCE}", cseq, GRUU))[0] for cseq in (1, 2, 3)]
    assert [public for public, _ in given] == [PUBLIC] * 3
    targets = [desk.gruus.open(parse_uri(temporary).user or "") for _, temporary in given]
    assert len({temporary for _, temporary in given}) == 3
    assert all(target is not None and target.is_valid(desk.find()) for target in targets)
    desk.register(f"{PHONE};{INSTANCE}", 1, GRUU, call_id="after-reboot")
    assert not any(target is not None and target.is_valid(desk.find()) for target in targets)


def test_who_knows_none_or_has_no_instance_is_given_none() -> None:
    desk = Desk()
    assert gruus_in(desk.register(f"{PHONE};{INSTANCE}")) == [("", "")]
    assert gruus_in(desk.register("<sip:alice@192.0.2.102>", 1, GRUU, call_id="reg-2"))[1] == ("", "")


def test_the_user_s_other_phones_are_listed_with_theirs_and_flows_of_one_phone_share_them() -> None:
    desk = Desk()
    desk.register(f"{PHONE};{INSTANCE};reg-id=1", 1)
    desk.register(f"{PHONE};{INSTANCE};reg-id=2", 1, call_id="reg-2")
    one, two, other = gruus_in(desk.register(f"<sip:alice@192.0.2.9>;{OTHER}", 1, GRUU, call_id="reg-3"))
    assert one == two
    assert one[0] == PUBLIC
    assert other[0].endswith("000000000002")
    assert other[1] not in ("", one[1])


def test_an_instance_with_quotes_in_it_is_no_parameter_of_its_own() -> None:
    desk = Desk()
    answer = desk.register(f'{PHONE};+sip.instance="<x>\\";expires=1;a=\\""', 1, GRUU)
    (contact,) = answer.all("contact")
    params = parse_address(contact).params
    assert params["+sip.instance"] == '"<x>\\";expires=1;a=\\""'
    assert (params["expires"], "a" in params) == ("3600", False)
    assert desk.find()[0].instance == '<x>";expires=1;a="'


def test_gruus_that_a_phone_brings_itself_are_ignored() -> None:
    desk = Desk()
    brought = f'{PHONE};{INSTANCE};pub-gruu="sip:bob@example.com;gr=urn:x:1";temp-gruu="sip:x@example.com;gr";video'
    answer = desk.register(brought)
    assert answer.all("contact") == [f"{PHONE};video;{INSTANCE};expires=3600"]
    assert gruus_in(desk.register(brought, 2, GRUU))[0][0] == PUBLIC


@pytest.mark.parametrize("scheme", ["sip", "sips"])
@pytest.mark.parametrize("params", [f";{INSTANCE}", ""])
def test_a_phone_cannot_register_its_own_gruu(scheme: str, params: str) -> None:
    """RFC 5627 §5.1: calls to it would go round."""
    desk = Desk()
    temporary = gruus_in(desk.register(f"{PHONE};{INSTANCE}", 1, GRUU))[0][1]
    for uri in (f"{scheme}:alice@example.com;gr=urn:uuid:1", temporary.replace("sip:", f"{scheme}:")):
        assert desk.register(f"<{uri}>{params}", 2).status == 403
    assert desk.register(f"<{scheme}:alice@198.51.100.1;gr=urn:uuid:1>{params}", 2).status == 403, "the same domain"
    assert desk.uris() == ["sip:alice@192.0.2.101:5060"]


def test_the_gruu_of_somebody_else_may_be_registered_and_an_own_one_removed() -> None:
    desk = Desk()
    assert desk.register("<sip:bob@example.com;gr=urn:uuid:1>").status == 200
    assert desk.register("<sip:alice@elsewhere.example;gr=urn:uuid:1>", 2).status == 200
    assert desk.register("<sip:made-up@example.com;gr>", 3).status == 200, "nobody's"
    assert desk.register("<sip:alice@example.com;gr=urn:uuid:1>;expires=0", 4).status == 200


def test_an_instance_cannot_be_registered_at_its_own_address_or_beyond_sip() -> None:
    desk = Desk()
    assert desk.register(f"<sip:alice@example.com>;{INSTANCE}").status == 403
    assert desk.register(f"<mailto:alice@example.com>;{INSTANCE}").status == 403
    for uri in ("mailto:alice@example.com", "mailto:alice@example.com;gr=1"):
        assert desk.register(f"<{uri}>").status == 200, "without an instance it may be asked for"


def test_the_flow_timer_is_for_direct_connections() -> None:
    timer = make_header("flow-timer", "90")
    names = [name for name, _, _ in claim_outbound(Hop("TCP", "192.0.2.1", 1, "x"), True, timer)]
    assert names == ["require", "supported", "flow-timer"]
    for source, direct, header in (("UDP", True, timer), ("TLS", False, timer), ("WS", True, None)):
        claims = claim_outbound(Hop(source, "192.0.2.1", 1, "x"), direct, header)
        assert [text for _, _, text in claims] == ["Require: outbound", "Supported: outbound, path"]


def test_nothing_registered_nothing_written() -> None:
    assert write_contacts(EMPTY, AOR, Desk(RegistrarSettings()).gruus, 1000.0) == []
