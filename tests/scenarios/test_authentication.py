"""Digest everywhere: who is challenged, with what, and what wrong credentials are answered."""

from __future__ import annotations

import re

import pytest

from farm.registrar.location import Located
from tests.support.digest import parse_challenge
from tests.support.farms import Farm, run
from tests.support.parties import Message, Party, exchange, set_up_call


def mask(message: Message) -> str:
    """A message without what is random in it."""
    text = re.sub(r'nonce="[^"]*"', "nonce", message.text)
    return re.sub(r"(?m)^To: (.*);tag=\S+\r$", r"To: \1;tag\r", text)


def register_with(phone: Party, password: str, *, username: str = "", count: int = 1) -> Message:
    """The answer to a REGISTER with these credentials."""
    sent = phone.request(
        "REGISTER", f"sip:{phone.domain}", to=f"<{phone.aor}>", headers=[f"Contact: <{phone.contact}>"]
    )
    challenge = phone.expect(401)
    line = phone.make_credentials(sent, challenge, username=username, password=password, count=count)
    return resend(phone, sent, line)


def resend(phone: Party, sent: Message, line: str) -> Message:
    """The answer to the same request with a credentials line."""
    headers = [f"Contact: <{phone.contact}>", line]
    parts = {"call_id": sent.first("call-id"), "cseq": sent.cseq + 1, "to": sent.first("to"), "headers": headers}
    phone.request(sent.method, sent.uri, **parts)
    answer = phone.wait()
    assert answer is not None
    return answer


def test_a_phone_registers_and_calls_with_every_algorithm(farm: Farm) -> None:
    algorithms = ["SHA-512-256", "SHA-256", "MD5"]
    farm.add_node(auth={"algorithms": algorithms})
    for algorithm in algorithms:
        alice = farm.add_party(f"alice-{algorithm.lower()}")
        bob = farm.add_party(f"bob-{algorithm.lower()}")
        alice.algorithm = bob.algorithm = f"algorithm={algorithm}"
        bob.register()
        ours, theirs = set_up_call(alice, bob)
        exchange(ours, theirs, "BYE")


def test_several_challenges_offer_the_strongest_first(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    challenges = [parse_challenge(value) for value in alice.expect(401).all("www-authenticate")]
    assert [challenge["algorithm"] for challenge in challenges] == ["SHA-256", "MD5"]
    assert {challenge["realm"] for challenge in challenges} == {"example.com"}
    alice.request("INVITE", "sip:bob@example.com")
    assert len(alice.expect(407).all("proxy-authenticate")) == 2


def test_a_wrong_password_is_challenged_again_and_registers_nobody(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    assert register_with(alice, "wrong").status == 401
    assert node.node.core.location.find(alice.aor, node.seconds()) == ([], False)
    assert node.value("sip_rejected", "wrong-password") == 1


def test_known_and_unknown_users_are_refused_with_the_same_bytes(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice", address="192.0.2.150")
    known = register_with(alice, "wrong")
    alice.user = "alicf"
    unknown = register_with(alice, "wrong")
    ids = [message.first("call-id") for message in (known, unknown)]
    texts = [mask(message).replace("alicf", "alice") for message in (known, unknown)]
    texts = [text.replace(call_id, "id") for text, call_id in zip(texts, ids, strict=True)]
    texts = [re.sub(r"branch=\w+", "branch", text) for text in texts]
    assert texts[0] == texts[1]
    assert known.size == unknown.size


def test_an_old_nonce_is_stale_and_the_phone_is_not_asked_for_its_password(farm: Farm) -> None:
    farm.add_node(auth={"nonce_life_seconds": 60})
    alice = farm.add_party("alice")
    sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    challenge = alice.expect(401)
    assert "stale" not in parse_challenge(challenge.first("www-authenticate"))
    farm.run(61)
    late = resend(alice, sent, alice.make_credentials(sent, challenge))
    assert late.status == 401
    assert parse_challenge(late.first("www-authenticate"))["stale"] == "true"
    assert resend(alice, sent, alice.make_credentials(sent, late)).status == 200


def test_credentials_that_were_used_are_worth_nothing_to_who_recorded_them(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    eve = farm.add_party("alice", address="192.0.2.66", account=False)
    sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    line = alice.make_credentials(sent, alice.expect(401))
    assert resend(alice, sent, line).status == 200
    replayed = resend(eve, sent, line)
    assert replayed.status == 401
    assert node.value("sip_rejected", "replayed-nonce") == 1
    found = node.node.core.location.find(alice.aor, node.seconds())
    assert isinstance(found, Located)
    assert [binding.uri for binding in found.bindings] == [alice.contact]


def test_one_nonce_serves_many_requests_when_its_count_grows(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    sent = alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
    challenge = alice.expect(401)
    for count in (1, 2, 7):
        fresh = alice.make_request("REGISTER", "sip:example.com", to=f"<{alice.aor}>")
        line = alice.make_credentials(sent, challenge, count=count)
        alice.send(fresh.replace("Content-Length", f"{line}\r\nContent-Length"))
        alice.expect(200)


def test_nobody_registers_for_another(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    farm.add_party("bob")
    alice.user = "bob"
    assert register_with(alice, "alice", username="alice").status == 403


def test_nobody_calls_under_another_name(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    bob.register()
    sent = alice.request("INVITE", bob.aor, sender="<sip:bob@example.com>;tag=1")
    challenge = alice.expect(407)
    alice.ask_again(sent, challenge, sender="<sip:bob@example.com>;tag=1")
    final = alice.expect(403)
    assert final.status == 403
    assert node.value("sip_rejected", "not-the-sender") == 1
    bob.expect_nothing(1)


@pytest.mark.parametrize(
    "method", ["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "OPTIONS", "PUBLISH", "BYE", "FROBNICATE"]
)
def test_no_method_goes_on_from_a_user_of_ours_without_proof(farm: Farm, method: str) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    bob.register()
    sent = alice.request(method, bob.aor)
    challenge = alice.expect(407)
    if method == "INVITE":
        alice.acknowledge(sent, challenge)
    bob.expect_nothing(1)
    alice.ask_again(sent, challenge)
    request = bob.expect(method)
    assert request.first("proxy-authorization") == ""
    bob.answer(request, 488)
    alice.expect(488)
    if method == "INVITE":
        bob.expect("ACK")


def test_a_to_tag_made_up_is_no_dialog_of_ours(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    bob.register()
    alice.request("BYE", bob.aor, to=f"<{bob.aor}>;tag=invented", headers=["Route: <sip:invented@192.0.2.1;lr>"])
    alice.expect(407)
    bob.expect_nothing(1)


def test_a_disabled_user_is_refused_although_the_password_is_right(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    run(node.node.users.set_disabled("alice", True, node.seconds()))
    assert register_with(alice, "alice").status == 403


def test_who_guesses_too_often_is_banned_for_a_while_and_calls_to_him_go_on(farm: Farm) -> None:
    node = farm.add_node(limits={"failures_per_minute": 5, "ban_seconds": 30})
    alice = farm.add_party("alice")
    bob = farm.add_party("bob")
    alice.register()
    for _ in range(6):
        register_with(alice, "wrong")
    banned = register_with(alice, "alice")
    assert banned.status == 403
    assert node.value("sip_banned") == 1
    ours, theirs = set_up_call(bob, alice)
    exchange(theirs, ours, "BYE")
    farm.run(31)
    assert register_with(alice, "alice").status == 200
