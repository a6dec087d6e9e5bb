"""Tokens that somebody altered, that another farm sealed, or whose key is gone: refused as fits what they stood for,
counted, and followed nowhere, whoever sends them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

import pytest

from farm.frontend.token import Tokens
from farm.sip.hop import FlowName, Hop, Leg
from tests.support.faces import FARM_NAME
from tests.support.farms import Farm, FarmNode
from tests.support.parties import Dialog, Message, Party, exchange, set_up_call

FIRST: Final = 4500.0  # seconds until the first key of its own seals, which replaces the farm's base key
LIFE: Final = 3600.0
KEYS: Final = {"rotation_seconds": LIFE, "token_life_seconds": LIFE}
HARMS: Final = ("altered", "elsewhere", "expired")
REASONS: Final = {"altered": "token-altered", "elsewhere": "token-altered", "expired": "token-expired-key"}
VICTIM: Final = "192.0.2.222"
INSTANCE: Final = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


class Scene:
    """A node whose keys rotate, bob behind it over TCP, alice, and who must never hear of any of it."""

    def __init__(self, farm: Farm) -> None:
        self.farm = farm
        self.node: FarmNode = farm.add_node(keys=KEYS, sip={"farm_name": FARM_NAME})
        farm.run(FIRST)
        self.bob, self.alice = farm.add_party("bob", transport="tcp"), farm.add_party("alice")
        self.victim = farm.add_party("victim", address=VICTIM, account=False)
        self.stranger = farm.add_party("mallory", domain="elsewhere.net", account=False)
        self.bob.register()

    def spoil(self, token: str, harm: str, elsewhere: Callable[[Tokens], str]) -> str:
        """What becomes of a token. The other farm's bears the number of a key that we have, too."""
        if harm == "expired":
            self.farm.run(3 * LIFE)
            self.bob.leave_connection()  # it was silent for too long
            self.bob.register()
            return token
        if harm == "elsewhere":
            others = Tokens(b"the keys of another farm", random.Random(1), node=self.node.node.core.tokens._node)
            return elsewhere(others)
        return token[:30] + ("A" if token[30] != "A" else "B") + token[31:]

    def counted(self, reason: str) -> float:
        """How often it was refused for that reason."""
        return self.node.value("sip_rejected", reason)

    def listen(self) -> None:
        """Whoever a token could lead to hears nothing."""
        for party in (self.victim, self.bob):
            party.expect_nothing(3)


def user_of(uri: str) -> str:
    """The user of a URI in a header."""
    return uri.partition("sip:")[2].partition("@")[0]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize(("who", "status"), [("stranger", 481), ("alice", 407)])
@pytest.mark.parametrize("target", ["contact", "elsewhere"])
def test_a_request_in_a_dialog_with_a_bad_route_is_told_that_there_is_no_such_dialog(
    farm: Farm, harm: str, who: str, status: int, target: str
) -> None:
    """But whoever says to be a user of ours has to prove that first."""
    scene = Scene(farm)
    caller: Party = getattr(scene, who)
    ours, theirs = set_up_call(caller, scene.bob)
    (route,) = ours.routes
    token, call_id = user_of(route), ours.call_id
    bad = scene.spoil(token, harm, lambda others: others.make_route(call_id, ("a", "b"), Leg(), Leg()))
    before = scene.counted(REASONS[harm])
    uri = ours.target if target == "contact" else f"sip:victim@{VICTIM}"
    forged = Dialog(caller, call_id, ours.local, ours.remote, uri, [route.replace(token, bad)], ours.cseq)
    for method in ("INFO", "BYE"):
        forged.send(method)
        caller.expect(status)
    forged.send("ACK")
    scene.listen()
    assert scene.counted(REASONS[harm]) >= before + 2
    if status == 481:
        assert scene.counted("token-refused") >= 2
    if harm != "expired":
        exchange(ours, theirs, "BYE")


@pytest.mark.parametrize("harm", HARMS)
def test_a_request_that_opens_a_dialog_over_a_bad_flow_is_refused(farm: Farm, harm: str) -> None:
    """The token of a Path, RFC 5626 §5.3; the whole one leads to the phone."""
    scene = Scene(farm)
    (connection,) = scene.node.node.transport._streams
    flow = FlowName(scene.node.node.core.tokens._node, connection.hop)
    token = scene.node.node.core.tokens.make_flow(flow)
    scene.stranger.request("MESSAGE", scene.bob.contact, headers=[f"Route: <sip:{token}@{FARM_NAME};lr>"])
    scene.bob.answer(scene.bob.expect("MESSAGE"), 200)
    scene.stranger.expect(200)
    to_victim = FlowName(flow.node, Hop("UDP", VICTIM, 5060, "udp:192.0.2.1:5060"))
    bad = scene.spoil(token, harm, lambda others: others.make_flow(to_victim))
    before = scene.counted(REASONS[harm])
    for party in (scene.stranger, scene.alice):
        party.request("MESSAGE", scene.bob.contact, headers=[f"Route: <sip:{bad}@{FARM_NAME};lr>"])
        party.expect(403)
    scene.listen()
    assert scene.counted(REASONS[harm]) >= before + 2
    assert scene.counted("token-refused") == 2


@pytest.mark.parametrize("harm", HARMS)
def test_a_bad_temporary_gruu_is_nobody_s(farm: Farm, harm: str) -> None:
    scene = Scene(farm)
    answer = scene.bob.register(contact=f"<{scene.bob.contact}>;{INSTANCE}", headers=["Supported: gruu"])
    match = re.search(r'temp-gruu="([^"]*)"', ", ".join(answer.all("contact")))
    assert match is not None
    token = user_of(match[1])
    scene.alice.ask("MESSAGE", match[1], to=f"<{match[1]}>")
    scene.bob.answer(scene.bob.expect("MESSAGE"), 200)
    scene.alice.expect(200)
    bad = scene.spoil(token, harm, lambda others: others.seal(b"gruu", b"x" * 24))
    uri = match[1].replace(token, bad)
    before = scene.counted(REASONS[harm])
    scene.alice.ask("MESSAGE", uri, to=f"<{uri}>")
    scene.alice.expect(404)
    scene.listen()
    assert scene.counted(REASONS[harm]) > before


@pytest.mark.parametrize("harm", HARMS)
def test_a_response_with_a_bad_branch_goes_nowhere(farm: Farm, harm: str) -> None:
    """It has no answer; the Via below ours would have it sent to the victim."""
    scene = Scene(farm)
    scene.alice.ask("INVITE", scene.bob.aor)
    invite = scene.bob.expect("INVITE")
    via = next(value for line in invite.all("via") for value in line.split(", "))
    branch = via.partition("branch=")[2].partition(";")[0]
    scene.bob.answer(invite, 486)
    scene.alice.expect(486)
    below = f"SIP/2.0/UDP {VICTIM}:5060;branch=z9hG4bKvictim"
    if harm == "altered":
        bad = branch[:-1] + ("A" if branch[-1] != "A" else "B")
    elif harm == "elsewhere":
        bad = Tokens(b"the keys of another farm", random.Random(1)).make_branch("a" * 12, below)
    else:
        bad = branch
        farm.run(3 * LIFE)
    before = scene.counted("stray-response")
    scene.stranger.send(
        f"SIP/2.0 200 OK\r\nVia: {via.replace(branch, bad)}\r\nVia: {below}\r\nFrom: <sip:a@example.com>;tag=1\r\n"
        f"To: <sip:b@example.com>;tag=2\r\nCall-ID: {invite.first('call-id')}\r\nCSeq: 1 INVITE\r\n"
        "Content-Length: 0\r\n\r\n"
    )
    scene.victim.expect_nothing(3)
    scene.alice.expect_nothing(3)
    assert scene.counted("stray-response") == before + 1


@pytest.mark.parametrize("harm", HARMS)
def test_a_bad_nonce_is_challenged_anew(farm: Farm, harm: str) -> None:
    scene = Scene(farm)
    parts = {"to": f"<{scene.alice.aor}>"}
    sent = scene.alice.request("REGISTER", "sip:example.com", **parts)
    challenge = scene.alice.expect(401)
    if harm == "expired":
        farm.run(3 * LIFE)
    else:
        nonce = challenge.first("www-authenticate").partition('nonce="')[2].partition('"')[0]
        bad = nonce[:10] + ("A" if nonce[10] != "A" else "B") + nonce[11:]
        if harm == "elsewhere":
            bad = "".join(random.Random(3).sample(nonce, len(nonce)))
        challenge = Message(challenge.data.replace(nonce.encode(), bad.encode()))
    scene.alice.ask_again(sent, challenge, **parts)
    again = scene.alice.expect(401)
    assert again.first("www-authenticate") != challenge.first("www-authenticate")
    assert "stale=true" in again.first("www-authenticate").lower()
