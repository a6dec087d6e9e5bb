"""A call of one's own is no pass: what a stranger who called, or was called, tries with our Record-Route."""

from __future__ import annotations

import pytest

from tests.support.farms import NODE, Farm, FarmNode
from tests.support.parties import Dialog, Party, exchange, set_up_call

GATEWAY, VICTIM, ALLY = "192.0.2.201", "192.0.2.222", "192.0.2.223"


class Scene:
    """A node with a gateway; bob of ours, and zoe, who is not ours and has called him."""

    def __init__(self, farm: Farm, *, contact: str = "") -> None:
        self.farm = farm
        self.node: FarmNode = farm.add_node(gateways=[{"prefix": "+", "to": [f"sip:{GATEWAY}"], "probe_seconds": 0}])
        self.alice, self.bob = farm.add_party("alice"), farm.add_party("bob")
        self.zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
        self.gateway = farm.add_party("gateway", address=GATEWAY, account=False)
        self.victim = farm.add_party("victim", domain="elsewhere.org", address=VICTIM, account=False)
        self.alice.register()
        self.bob.register()
        if contact:
            whole = self.zoe.make_request("INVITE", self.bob.aor).replace(self.zoe.contact, contact)
            below = "Via: SIP/2.0/UDP pc.elsewhere.net;branch=z9hG4bKbelow"  # as if she were only his proxy
            self.zoe.send(whole.replace("Max-Forwards", f"{below}\r\nMax-Forwards"))
            invite = self.bob.expect("INVITE")
            answered = self.bob.answer(invite, 200)
            self.ours = Dialog.of_caller(self.zoe, self.zoe.expect(200))
            self.theirs = Dialog.of_callee(self.bob, invite, answered)
        else:
            self.ours, self.theirs = set_up_call(self.zoe, self.bob)

    def attack(self, method: str, target: str, *, sender: str = "", to: str = "", further: str = "") -> int:
        """What zoe hears when she sends this with the Call-ID and the Route of her call."""
        routes = [f"Route: {route}{further}" for route in self.ours.routes]
        sent = self.zoe.request(
            method,
            target,
            sender=sender or self.ours.local,
            to=to or self.ours.remote,
            call_id=self.ours.call_id,
            cseq=50,
            headers=routes,
        )
        final = self.zoe.wait()
        assert final is not None
        assert final.status is not None
        if method == "INVITE":
            self.zoe.acknowledge(sent, final)
        return final.status

    def expect_untouched(self) -> None:
        """Nobody but the two of the call has heard anything."""
        for party in (self.alice, self.gateway, self.victim):
            party.expect_nothing(1)


@pytest.fixture
def scene(farm: Farm) -> Scene:
    return Scene(farm)


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "BYE", "INFO"])
@pytest.mark.parametrize("target", [f"sip:victim@{VICTIM}:5060", f"sip:bob@192.0.2.102;maddr={VICTIM}"])
def test_a_caller_s_own_call_does_not_carry_him_to_another_domain(scene: Scene, method: str, target: str) -> None:
    assert scene.attack(method, target) == 403
    scene.expect_untouched()


@pytest.mark.parametrize("target", [f"sip:+4930123@{GATEWAY}", "sip:+4930123@example.com", "tel:+4930123"])
def test_a_caller_s_own_call_does_not_open_the_gateway(scene: Scene, target: str) -> None:
    assert scene.attack("INVITE", target) in (403, 480)
    scene.expect_untouched()


@pytest.mark.parametrize("hop", [f"sip:{VICTIM};lr", f"sip:{GATEWAY};lr", f"sip:192.0.2.102;maddr={VICTIM};lr"])
def test_a_caller_s_own_call_does_not_carry_him_along_a_route_of_his(scene: Scene, hop: str) -> None:
    assert scene.attack("MESSAGE", scene.bob.contact, further=f", <{hop}>") == 403
    assert scene.attack("MESSAGE", f"sip:victim@{VICTIM}", further=f", <{hop}>") == 403
    scene.expect_untouched()


@pytest.mark.parametrize("name", ["ceo", "alice", "bob"])
def test_a_caller_s_own_call_does_not_make_him_one_of_ours(scene: Scene, name: str) -> None:
    for tag in (scene.zoe.tag, "another"):
        sender = f"<sip:{name}@example.com>;tag={tag}"
        for target in (scene.alice.contact, scene.alice.aor, scene.bob.contact):
            for to in (f"<{scene.alice.aor}>;tag=1", scene.ours.remote):
                assert scene.attack("MESSAGE", target, sender=sender, to=to) == 407
    scene.expect_untouched()
    scene.bob.expect_nothing(1)


@pytest.mark.parametrize("contact", [f"sip:+4930123@{GATEWAY}", f"sip:x@{VICTIM}", f"sip:x@a.example;maddr={VICTIM}"])
def test_a_caller_who_names_another_s_host_as_his_own_does_not_reach_it_as_the_callee(farm: Farm, contact: str) -> None:
    """He knows all that his callee knows; only the phone that was called may go to where he says that he is."""
    scene = Scene(farm, contact=contact)
    for method in ("INVITE", "MESSAGE"):
        assert scene.attack(method, contact, sender=scene.ours.remote, to=scene.ours.local) == 407
    scene.expect_untouched()


def test_a_stranger_who_was_called_does_not_pass_for_his_caller(scene: Scene) -> None:
    ally = scene.farm.add_party("ally", domain="elsewhere.org", address=ALLY, account=False)
    scene.alice.ask("INVITE", f"sip:ally@{ALLY}")
    invite = ally.expect("INVITE")
    answered = ally.answer(invite, 200)
    ours = Dialog.of_caller(scene.alice, scene.alice.expect(200))
    ours.acknowledge()
    ally.expect("ACK")
    for target in (f"sip:+4930123@{GATEWAY}", f"sip:victim@{VICTIM}", scene.bob.aor):
        forged = Dialog(ally, ours.call_id, ours.local, ours.remote, target, ours.routes, 70)
        forged.send("MESSAGE")
        ally.expect(407)
    theirs = Dialog.of_callee(ally, invite, answered)
    theirs.target = f"sip:victim@{VICTIM}"
    theirs.send("MESSAGE")
    ally.expect(403)
    scene.expect_untouched()
    theirs.target = scene.alice.contact
    exchange(theirs, ours, "BYE")


def end_from(hanging_up: str, ours: Dialog, theirs: Dialog) -> None:
    exchange(*((ours, theirs) if hanging_up == "caller" else (theirs, ours)), "BYE")


@pytest.mark.parametrize("hanging_up", ["caller", "callee"])
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_call_of_a_stranger_goes_on_all_the_same(farm: Farm, transport: str, hanging_up: str) -> None:
    """Without one challenge to either side."""
    farm.add_node()
    bob = farm.add_party("bob", transport=transport)
    bob.register()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False, transport=transport)
    ours, theirs = set_up_call(zoe, bob)
    exchange(ours, theirs, "INVITE")
    exchange(theirs, ours, "INVITE")
    exchange(ours, theirs, "INFO")
    end_from(hanging_up, ours, theirs)
    assert farm.node.value("sip_rejected", "no-credentials") == 1, "of the REGISTER"


@pytest.mark.parametrize("hanging_up", ["caller", "callee"])
def test_a_call_to_a_stranger_whose_contact_is_elsewhere_goes_on(farm: Farm, hanging_up: str) -> None:
    """His server answers with a Contact that we never sent anything to, and hangs up from there."""
    farm.add_node()
    alice = farm.add_party("alice")
    server = farm.add_party("server", domain="elsewhere.org", address=VICTIM, account=False)
    media = farm.add_party("server", domain="elsewhere.org", address=ALLY, account=False)
    alice.ask("INVITE", f"sip:x@{VICTIM}")
    invite = server.expect("INVITE")
    answer = server.make_answer(invite, 200).replace(server.contact, media.contact)
    assert invite.reply is not None
    invite.reply(answer.encode())
    answered = alice.expect(200)
    ours, theirs = Dialog.of_caller(alice, answered), Dialog.of_callee(media, invite, answered)
    ours.acknowledge()
    media.expect("ACK")
    end_from(hanging_up, ours, theirs)


def test_a_callee_who_moved_is_asked_who_he_is_and_then_hangs_up(farm: Farm) -> None:
    farm.add_node()
    bob = farm.add_party("bob")
    bob.register()
    zoe = farm.add_party("zoe", domain="elsewhere.net", account=False)
    ours, theirs = set_up_call(zoe, bob)
    moved = Party(farm.network.add_host("192.0.2.240"), "bob", password="bob", target=(NODE, 5060))
    theirs.party = moved
    sent = theirs.send("BYE")
    line = moved.make_credentials(sent, moved.expect(407))
    theirs.send("BYE", headers=[line])
    zoe.answer(zoe.expect("BYE"), 200)
    moved.expect(200)
    assert ours.party is zoe
