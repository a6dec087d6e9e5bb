"""One user, several phones: what the caller hears and what becomes of the phones that are not wanted."""

from __future__ import annotations

from tests.support.farms import Farm
from tests.support.parties import Dialog, Message, Party, exchange


def add_phones(farm: Farm, *qualities: str) -> list[Party]:
    """Phones of bob, registered with these q (or none)."""
    phones = []
    for number, q in enumerate(qualities):
        phone = farm.add_party("bob", account=number == 0)
        phone.password = "bob"
        phone.tag = f"bob-{number}"
        phone.register(contact=f"<{phone.contact}>" + (f";q={q}" if q else ""))
        phones.append(phone)
    return phones


def ring(phone: Party, within: float = 1.0) -> Message:
    """The INVITE, answered with 180."""
    invite = phone.expect("INVITE", within=within)
    phone.answer(invite, 180)
    return invite


def give_way(phone: Party, invite: Message, within: float = 1.0) -> None:
    """A ringing phone is cancelled, as it should be."""
    cancel = phone.expect("CANCEL", within=within)
    assert cancel.first("via") == invite.all("via")[0]
    assert len(cancel.all("via")) == 1
    phone.answer(cancel, 200)
    phone.answer(invite, 487)
    phone.expect("ACK")


def answer(phone: Party, invite: Message, caller: Party) -> tuple[Dialog, Dialog]:
    """A phone answers, the caller acknowledges."""
    answered = phone.answer(invite, 200)
    ours = Dialog.of_caller(caller, caller.expect(200))
    ours.acknowledge()
    phone.expect("ACK")
    return ours, Dialog.of_callee(phone, invite, answered)


def test_one_phone_is_busy_and_the_other_answers(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    alice.ask("INVITE", desk.aor)
    busy = desk.expect("INVITE")
    desk.answer(busy, 486)
    desk.expect("ACK")
    invite = ring(mobile)
    assert alice.expect(180).tag == "bob-1"
    ours, theirs = answer(mobile, invite, alice)
    exchange(theirs, ours, "BYE")
    assert alice.count(486) == 0
    desk.expect_nothing(1)


def test_both_phones_ring_one_answers_and_the_other_stops(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    alice.ask("INVITE", desk.aor)
    at_desk, at_mobile = ring(desk), ring(mobile)
    assert {alice.expect(180).tag, alice.expect(180).tag} == {"bob-0", "bob-1"}
    ours, theirs = answer(mobile, at_mobile, alice)
    give_way(desk, at_desk)
    exchange(ours, theirs, "BYE")
    alice.expect_nothing(1)


def test_a_phone_that_declines_for_good_stops_all_and_the_caller_hears_the_6xx(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    sent = alice.ask("INVITE", desk.aor)
    at_desk, at_mobile = ring(desk), ring(mobile)
    alice.expect(180)
    alice.expect(180)
    desk.answer(at_desk, 603)
    desk.expect("ACK")
    assert alice.count(603) == 0
    give_way(mobile, at_mobile)
    alice.acknowledge(sent, alice.expect(603))


def test_all_phones_are_busy_and_the_caller_hears_so_once(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    sent = alice.ask("INVITE", desk.aor)
    for phone in (desk, mobile):
        phone.answer(phone.expect("INVITE"), 486)
        phone.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))
    assert alice.count(486) == 1


def test_a_500_of_one_phone_hides_no_486_of_the_other(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    sent = alice.ask("INVITE", desk.aor)
    for phone, status in ((desk, 500), (mobile, 486)):
        phone.answer(phone.expect("INVITE"), status)
        phone.expect("ACK")
    alice.acknowledge(sent, alice.expect(486))


def test_the_best_phone_rings_first_and_the_next_when_it_is_busy(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    second, first = add_phones(farm, "0.4", "0.9")
    alice.ask("INVITE", first.aor)
    invite = ring(first)
    alice.expect(180)
    second.expect_nothing(1)
    first.answer(invite, 486)
    first.expect("ACK")
    assert alice.count(486) == 0
    at_second = ring(second)
    alice.expect(180)
    ours, theirs = answer(second, at_second, alice)
    exchange(ours, theirs, "BYE")


def test_the_best_phone_rings_in_vain_and_the_next_has_its_turn(farm: Farm) -> None:
    farm.add_node(proxy={"serial_seconds": 12})
    alice = farm.add_party("alice")
    first, second = add_phones(farm, "0.9", "0.4")
    alice.ask("INVITE", first.aor)
    invite = ring(first)
    alice.expect(180)
    second.expect_nothing(11)
    give_way(first, invite, within=2)
    at_second = ring(second)
    alice.expect(180)
    ours, theirs = answer(second, at_second, alice)
    exchange(theirs, ours, "BYE")


def test_two_phones_answer_at_once_and_the_caller_can_hang_up_one(farm: Farm) -> None:
    """The late 2xx of a second fork (RFC 6026 §8.2): both calls exist, only the caller can end one."""
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    alice.ask("INVITE", desk.aor)
    at_desk, at_mobile = ring(desk), ring(mobile)
    alice.expect(180)
    alice.expect(180)
    first = desk.answer(at_desk, 200)
    farm.run(0.0005)  # the CANCEL will cross this answer
    second = mobile.answer(at_mobile, 200)
    dialogs = {}
    for _ in range(2):
        answered = alice.expect(200)
        dialogs[answered.tag] = Dialog.of_caller(alice, answered)
        dialogs[answered.tag].acknowledge()
    desk.expect("ACK")
    news = [mobile.wait(1), mobile.wait(1)]
    assert {message.method for message in news if message} == {"CANCEL", "ACK"}
    mobile.answer(next(message for message in news if message and message.method == "CANCEL"), 200)
    exchange(dialogs["bob-1"], Dialog.of_callee(mobile, at_mobile, second), "BYE")
    exchange(Dialog.of_callee(desk, at_desk, first), dialogs["bob-0"], "BYE")


def test_a_second_phone_that_answers_after_it_was_cancelled_is_heard_of_too(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    alice.ask("INVITE", desk.aor)
    at_desk, at_mobile = ring(desk), ring(mobile)
    alice.expect(180)
    alice.expect(180)
    ours, theirs = answer(desk, at_desk, alice)
    cancel = mobile.expect("CANCEL")
    mobile.answer(cancel, 200)
    farm.run(5)
    second = mobile.answer(at_mobile, 200)
    late = Dialog.of_caller(alice, alice.expect(200))
    late.acknowledge()
    mobile.expect("ACK")
    exchange(late, Dialog.of_callee(mobile, at_mobile, second), "BYE")
    exchange(ours, theirs, "BYE")


def test_the_challenges_of_all_phones_reach_the_caller(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    sent = alice.ask("INVITE", desk.aor)
    for phone, realm in ((desk, "desk"), (mobile, "mobile")):
        line = f'Proxy-Authenticate: Digest realm="{realm}", nonce="n"'
        phone.answer(phone.expect("INVITE"), 407, headers=[line])
        phone.expect("ACK")
    challenge = alice.expect(407)
    alice.acknowledge(sent, challenge)
    assert sorted(value.split('"')[1] for value in challenge.all("proxy-authenticate")) == ["desk", "mobile"]


def test_a_message_to_two_phones_is_answered_once(farm: Farm) -> None:
    farm.add_node()
    alice = farm.add_party("alice")
    desk, mobile = add_phones(farm, "", "")
    alice.ask("MESSAGE", desk.aor, body="hello")
    for phone in (desk, mobile):
        message = phone.expect("MESSAGE")
        assert message.body == b"hello"
        phone.answer(message, 200)
    alice.expect(200)
    alice.expect_nothing(40)
