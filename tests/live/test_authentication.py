"""Who may do what: digest on REGISTER and INVITE, replay, relaying between strangers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.agents import Agent, make_token
from tests.support.nodes import Nodes

Hosts = Callable[[int], list[str]]
USERS = {"alice": "wonderland", "bob": "builder"}


@pytest.mark.parametrize("algorithm", ["SHA-256", "SHA-512-256", "MD5"])
def test_the_right_password_registers_with_every_algorithm(nodes: Nodes, hosts: Hosts, algorithm: str) -> None:
    node = nodes.start(users=USERS, auth={"algorithms": ["SHA-256", "SHA-512-256", "MD5"]})
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        assert alice.register(password="wonderland", algorithm=algorithm).status == 200
        assert node.metric("registrations") == 1


def test_a_wrong_password_never_registers_and_looks_like_an_unknown_user(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    (host,) = hosts(1)
    with (
        Agent(node.sip, host=host, user="alice") as alice,
        Agent(node.sip, host=host, user="nobody") as nobody,
    ):
        shapes = []
        for agent in (alice, nobody):
            for _ in range(3):
                answer = agent.register(password="looking-glass")
                assert answer.status == 401
            shapes.append((answer.first_line, [name for name, _ in answer.headers], answer.body))
        assert shapes[0] == shapes[1], "the answer tells which users exist"
        # Nor does another user's password, nor another user's name in a good digest.
        assert alice.register(password="builder").status == 401
        assert node.metric("registrations") == 0
        assert node.metric("sip_rejected_total", reason="wrong-password") >= 4


def test_a_user_registers_nobody_else(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    with Agent(node.sip, host=hosts(1)[0], user="alice") as alice:
        lines = [f"Contact: <{alice.contact}>"]
        bob = "<sip:bob@example.com>"
        alice.send_request(alice.make_request("REGISTER", "sip:example.com", to=bob, headers=lines))
        challenge = alice.expect(401)
        proof = alice.make_credentials(challenge, "REGISTER", "sip:example.com", "wonderland")
        alice.send_request(alice.make_request("REGISTER", "sip:example.com", to=bob, headers=[*lines, proof]))
        assert alice.expect_final().status == 403
        assert node.metric("registrations") == 0


def test_credentials_that_were_used_are_not_good_again(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    alice_host, thief_host = hosts(2)
    with (
        Agent(node.sip, host=alice_host, user="alice") as alice,
        Agent(node.sip, host=thief_host, user="alice") as thief,
    ):
        alice.send_request(alice.make_request("REGISTER", "sip:example.com", to=f"<{alice.aor}>"))
        challenge = alice.expect(401)
        proof = alice.make_credentials(challenge, "REGISTER", "sip:example.com", "wonderland")
        mine = [f"Contact: <{alice.contact}>", proof]
        alice.send_request(alice.make_request("REGISTER", "sip:example.com", to=f"<{alice.aor}>", headers=mine))
        assert alice.expect_final().status == 200
        stolen = [f"Contact: <{thief.contact}>", proof]
        thief.send_request(thief.make_request("REGISTER", "sip:example.com", to=f"<{alice.aor}>", headers=stolen))
        assert thief.expect_final().status == 401
        assert node.metric("registrations") == 1
        assert node.metric("sip_rejected_total", reason="replayed-nonce") == 1
        # The owner goes on with the same nonce and the next count.
        proof = alice.make_credentials(challenge, "REGISTER", "sip:example.com", "wonderland", count=2)
        mine = [f"Contact: <{alice.contact}>", proof]
        alice.send_request(alice.make_request("REGISTER", "sip:example.com", to=f"<{alice.aor}>", headers=mine))
        assert alice.expect_final().status == 200


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "SUBSCRIBE", "OPTIONS"])
def test_a_request_from_our_own_user_is_challenged_with_407(nodes: Nodes, hosts: Hosts, method: str) -> None:
    node = nodes.start(users=USERS)
    alice_host, bob_host = hosts(2)
    with Agent(node.sip, host=alice_host, user="alice") as alice, Agent(node.sip, host=bob_host, user="bob") as bob:
        assert bob.register(password="builder").status == 200
        refused = alice.request_with_digest(method, bob.aor)
        assert refused.status == 407
        assert refused.all("proxy-authenticate")
        refused = alice.request_with_digest(method, bob.aor, password="looking-glass")
        assert refused.status == 407
        bob.expect_nothing(method, 0.2)
        # With the right one it goes through, and the credentials for us go no further.
        call_id = make_token()
        text = alice.make_request(method, bob.aor, call_id=call_id)
        alice.send_request(text)
        challenge = alice.expect(407)
        if method == "INVITE":
            alice.acknowledge(text, challenge)
        proof = alice.make_credentials(challenge, method, bob.aor, "wonderland")
        alice.send_request(alice.make_request(method, bob.aor, call_id=call_id, cseq=2, headers=[proof]))
        arrived = bob.expect(method)
        assert "wonderland" not in arrived.text
        bob.answer(arrived, 200, "OK")
        alice.expect(200, method=method)


def test_a_stranger_reaches_our_user_without_a_challenge(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    stranger_host, bob_host = hosts(2)
    with (
        Agent(node.sip, host=stranger_host, user="carol", domain="example.org") as carol,
        Agent(node.sip, host=bob_host, user="bob") as bob,
    ):
        assert bob.register(password="builder").status == 200
        carol.send_request(carol.make_request("INVITE", bob.aor))
        bob.answer(bob.expect("INVITE"), 486, "Busy Here")
        carol.expect(486, final=True)


def test_nobody_relays_between_foreign_domains(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    stranger_host, other_host = hosts(2)
    with (
        Agent(node.sip, host=stranger_host, user="carol", domain="example.org") as carol,
        Agent(node.sip, host=other_host, port=5060, user="dave", domain=other_host) as dave,
    ):
        for method in ("INVITE", "MESSAGE", "OPTIONS"):
            answer = carol.request_with_digest(method, f"sip:dave@{other_host}")
            assert answer.status == 403, answer
        # Nor by a Route that leads elsewhere, nor by a Route that pretends to be ours.
        for route in (f"<sip:{other_host};lr>", f"<sip:{node.sip[0]};lr>, <sip:{other_host};lr>"):
            text = carol.make_request("MESSAGE", "sip:dave@example.net", headers=[f"Route: {route}"])
            carol.send_request(text)
            assert carol.expect_final().status == 403
        dave.expect_nothing("INVITE", 0.2)
        assert not dave.seen


def test_a_registration_for_a_foreign_domain_is_refused(nodes: Nodes, hosts: Hosts) -> None:
    node = nodes.start(users=USERS)
    with Agent(node.sip, host=hosts(1)[0], user="alice", domain="example.org") as alice:
        assert alice.register(password="wonderland").status in (403, 404)
        assert node.metric("registrations") == 0
