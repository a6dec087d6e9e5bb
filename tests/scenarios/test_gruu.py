"""GRUUs from the REGISTER that brings them to the call that uses them (RFC 5627)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.farms import Farm
from tests.support.parties import Party

DESK = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'
SOFT = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000000000002>"'


def register(phone: Party, instance: str, **parts: Any) -> dict[str, str]:
    """Register, and answer the phone's GRUUs by kind."""
    answer = phone.register(contact=f"<{phone.contact}>;{instance}", headers=["Supported: gruu"], **parts)
    text = next(text for text in ", ".join(answer.all("contact")).split(", ") if instance in text)
    return dict(re.findall(r'(pub|temp)-gruu="([^"]*)"', text))


def add_two(farm: Farm) -> tuple[Party, Party, dict[str, str], dict[str, str]]:
    """Two phones of one user, and their GRUUs."""
    farm.add_node()
    desk = farm.add_party("bob", transport="tcp")
    soft = farm.add_party("bob", account=False)
    soft.password = "bob"
    return desk, soft, register(desk, DESK), register(soft, SOFT)


@pytest.mark.parametrize("kind", ["pub", "temp"])
def test_a_call_to_a_gruu_rings_that_phone_alone(farm: Farm, kind: str) -> None:
    desk, soft, of_desk, of_soft = add_two(farm)
    alice = farm.add_party("alice")
    for phone, other, gruus in ((desk, soft, of_desk), (soft, desk, of_soft)):
        alice.ask("INVITE", gruus[kind], to=f"<{gruus[kind]}>")
        invite = phone.expect("INVITE")
        assert ";gr" not in invite.uri
        phone.answer(invite, 486)
        alice.expect(486)
        assert other.count("INVITE") == 0
        phone.received.clear()


def test_a_temporary_gruu_tells_nobody_whose_it_is(farm: Farm) -> None:
    _, _, of_desk, of_soft = add_two(farm)
    for gruus in (of_desk, of_soft):
        assert "bob" not in gruus["temp"]
        assert len(gruus["temp"]) <= 250
    assert len(of_desk["temp"]) == len(of_soft["temp"])


def test_a_phone_that_was_booted_anew_is_not_found_by_its_old_temporary_gruus(farm: Farm) -> None:
    desk, _, of_desk, _ = add_two(farm)
    alice = farm.add_party("alice")
    again = register(desk, DESK, call_id="after-boot")
    assert again["pub"] == of_desk["pub"]
    alice.ask("INVITE", of_desk["temp"], to=f"<{of_desk['temp']}>")
    alice.expect(404)
    alice.ask("INVITE", again["temp"], to=f"<{again['temp']}>")
    desk.expect("INVITE")


@pytest.mark.parametrize(("kind", "status"), [("pub", 480), ("temp", 404)])
def test_when_the_phone_is_gone_its_public_gruu_is_unavailable_and_the_temporary_one_over(
    farm: Farm, kind: str, status: int
) -> None:
    """RFC 5627 §5.3; its user's other phone is not rung instead."""
    desk, soft, of_desk, _ = add_two(farm)
    desk.register(contact=f"<{desk.contact}>;{DESK}", expires=0)
    alice = farm.add_party("alice")
    alice.ask("INVITE", of_desk[kind], to=f"<{of_desk[kind]}>")
    alice.expect(status)
    assert soft.count("INVITE") == 0
