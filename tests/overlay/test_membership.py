"""Membership: who counts, who is believed, who is told; and whole farms of it in made-up time.

The farms (`tests.support.swim`) run from a seed that is printed when one fails.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.gossip import MOST_HEARSAY, is_sound
from farm.overlay.membership import Membership, MembershipSettings
from farm.overlay.wire import (
    ALIVE,
    DEAD,
    JOINING,
    LEFT,
    STATE_NAMES,
    SUSPECT,
    Answer,
    Contact,
    Gossip,
    Leave,
    Nack,
    Notice,
    Ping,
    PingRequest,
    Pong,
    Request,
)
from tests.support.swim import Swim, id_of

OWN, BOB, CAROL, DAVE = (bytes([number]) * 32 for number in range(1, 5))


def contact(node: bytes, incarnation: int = 10, state: int = ALIVE, port: int = 7400) -> Contact:
    return Contact(node, f"10.0.0.{node[0]}", port, incarnation, state, zone="east", name=f"n{node[0]}")


def with_load(contact: Contact, load: int) -> Contact:
    """One that is being drained, and so busy."""
    return msgspec.structs.replace(contact, load=load, draining=True)


class Neighbours:
    """Peers and listener that write down what they are asked; a test answers the calls."""

    def __init__(self) -> None:
        self.told: list[tuple[bytes, Notice]] = []
        self.asked: list[tuple[bytes, Request, float]] = []
        self.done: list[Callable[[Answer | None, float], None]] = []
        self.answered: list[tuple[bytes, Answer]] = []
        self.dialled: list[bytes] = []
        self.changes: list[str] = []
        self.forgotten: list[bytes] = []
        self.wanted = True

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        self.asked.append((node, message, within))
        self.done.append(done)
        return len(self.done)

    def tell(self, node: bytes, message: Notice, now: float) -> None:
        self.told.append((node, message))

    def answer(self, node: bytes, message: Answer, now: float) -> None:
        self.answered.append((node, message))

    def connect(self, contact: Contact) -> None:
        self.dialled.append(contact.node)

    def wants(self, contact: Contact) -> bool:
        return self.wanted

    def member_changed(self, before: Contact | None, after: Contact, cause: str, now: float) -> None:
        came_from = "none" if before is None else STATE_NAMES[before.state]
        self.changes.append(f"{after.node[0]}: {came_from} {STATE_NAMES[after.state]} {after.incarnation} by {cause}")

    def member_forgotten(self, contact: Contact, now: float) -> None:
        self.forgotten.append(contact.node)

    def news_of(self, node: bytes) -> list[tuple[bytes, int, int]]:
        """To whom it was said that this node has which incarnation and state."""
        return [
            (to, update.incarnation, update.state)
            for to, message in self.told
            if isinstance(message, Gossip)
            for update in message.updates
            if update.node == node
        ]


class Desk:
    """One membership among recorders."""

    def __init__(self, settings: MembershipSettings | None = None, state: int = ALIVE) -> None:
        self.deadlines = Deadlines()
        self.around = Neighbours()
        self.metrics = Metrics()
        self.membership = Membership(
            contact(OWN, 100, state), self.around, self.around, self.deadlines, random.Random(5), self.metrics, settings
        )

    def link(self, *nodes: bytes, now: float = 0.0) -> None:
        for node in nodes:
            assert self.membership.link_opened(contact(node), now, True) == ""
        self.around.changes.clear()
        self.around.told.clear()

    def hear(self, *updates: Contact, source: bytes = BOB, now: float = 1.0) -> None:
        self.membership.receive_gossip(updates, source, now)

    def state_of(self, node: bytes) -> str:
        held = self.membership.get(node)
        return "none" if held is None else STATE_NAMES[held.state]

    def run(self, until: float) -> None:
        while (at := self.deadlines.next_at()) is not None and at <= until:
            self.deadlines.run_due(at)


# Who counts


def test_a_node_counts_after_its_own_handshake() -> None:
    desk = Desk()
    assert desk.membership.link_opened(contact(BOB), 0.0, True) == ""
    assert desk.around.changes == ["2: none alive 10 by link"]
    assert desk.membership.get(BOB) == contact(BOB)
    assert desk.membership.live() == [contact(BOB)]
    assert desk.membership.counts() == {"joining": 0, "alive": 2, "suspect": 0, "dead": 0, "left": 0}


def test_a_node_known_by_hearsay_is_dialled_and_does_not_count() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(CAROL))
    desk.run(1.0)
    assert desk.around.dialled == [CAROL]
    assert desk.around.changes == []
    assert CAROL not in desk.membership.members


def test_a_node_that_cannot_be_dialled_back_never_counts() -> None:
    """It sends but does not receive: whoever believed it would poison others."""
    desk = Desk()
    assert desk.membership.link_opened(contact(CAROL), 0.0, False) == ""
    desk.hear(contact(CAROL, state=ALIVE), source=CAROL)
    desk.hear(contact(CAROL, incarnation=11, state=ALIVE), source=BOB)
    for at in range(1, 400):
        desk.run(float(at))
        desk.membership.link_failed("10.0.0.3", 7400, "timeout", float(at))
    assert desk.around.changes == []
    assert 8 < len(desk.around.dialled) < 20
    assert desk.membership.link_opened(contact(CAROL), 400.0, True) == ""
    assert desk.state_of(CAROL) == "alive"


def test_a_member_that_dials_from_the_address_it_had_need_not_be_dialled_again() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.membership.link_opened(contact(BOB, 11), 1.0, False)
    assert desk.around.changes == ["2: alive alive 11 by link"]
    desk.membership.link_opened(contact(BOB, 12, port=7500), 2.0, False)
    assert desk.around.changes == ["2: alive alive 11 by link"]


def test_a_candidate_that_never_answers_is_dropped_after_eight_dials() -> None:
    """Ghosts that are re-added for ever (kamailio PR 1840)."""
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(CAROL))
    for at in range(1, 600):
        desk.run(float(at))
        desk.membership.link_failed("10.0.0.3", 7400, "refused", float(at))
    assert len(desk.around.dialled) == 8


def test_the_last_candidate_is_one_too_many() -> None:
    desk = Desk(MembershipSettings(most_candidates=2, most_members=2))
    desk.hear(*(contact(bytes([number]) * 32) for number in range(10, 20)))
    desk.run(5.0)
    assert len(desk.around.dialled) == 2
    assert desk.metrics.peer_rejections.child("queue-full")._value.get() == 8


def test_a_full_farm_takes_a_new_member_in_place_of_one_that_is_gone() -> None:
    desk = Desk(MembershipSettings(most_members=2))
    desk.link(BOB, CAROL)
    assert desk.membership.link_opened(contact(DAVE), 1.0, True) == "queue-full"
    desk.hear(contact(BOB, state=DEAD), source=CAROL)
    assert desk.membership.link_opened(contact(DAVE), 2.0, True) == ""
    assert set(desk.membership.members) == {CAROL, DAVE}
    assert desk.around.forgotten == [BOB]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (contact(OWN), "same-node-id"),
        (msgspec.structs.replace(contact(BOB), host=""), "bad-message"),
        (msgspec.structs.replace(contact(BOB), port=0), "bad-message"),
        (contact(BOB, incarnation=1 << 53), "bad-message"),
        (contact(BOB, state=5), "bad-message"),
        (contact(b"short"), "bad-message"),
    ],
)
def test_a_peer_that_cannot_be_right_is_refused(said: Contact, reason: str) -> None:
    desk = Desk()
    assert desk.membership.link_opened(said, 0.0, True) == reason
    desk.hear(said)
    assert desk.membership.members == {}


# Who is believed


def test_hearsay_changes_state_and_incarnation_only() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(Contact(CAROL, "10.9.9.9", 1, 11, ALIVE, zone="west", roles=0, name="liar"))
    assert desk.membership.get(CAROL) == contact(CAROL, 11)


def test_a_node_s_own_word_changes_its_address_and_zone() -> None:
    desk = Desk()
    desk.link(BOB)
    said = Contact(BOB, "10.9.9.9", 7401, 11, ALIVE, zone="west", roles=1, name="bob")
    desk.hear(said, source=BOB)
    assert desk.membership.get(BOB) == said


def test_nobody_says_of_itself_that_it_is_dead() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(BOB, 99, DEAD), source=BOB)
    assert desk.membership.get(BOB) == contact(BOB)
    desk.membership.link_opened(contact(CAROL, 10, SUSPECT), 1.0, True)
    assert desk.membership.get(CAROL) == contact(CAROL)


def test_a_joiner_becomes_alive_and_one_that_leaves_has_left() -> None:
    desk = Desk()
    desk.membership.link_opened(contact(BOB, state=JOINING), 0.0, True)
    assert desk.membership.live() == []
    desk.hear(contact(BOB, state=ALIVE))
    desk.hear(contact(BOB, state=LEFT))
    desk.hear(contact(BOB, state=ALIVE))
    assert desk.around.changes == [
        "2: none joining 10 by link",
        "2: joining alive 10 by gossip",
        "2: alive left 10 by gossip",
    ]


def test_one_that_left_and_comes_back_outranks_its_departure() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(BOB, state=LEFT))
    desk.membership.link_opened(contact(BOB, 11), 5.0, False)
    assert desk.state_of(BOB) == "alive"


def test_the_dead_are_dialled_when_they_are_said_to_be_back_and_count_after_that() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, state=DEAD))
    desk.membership.link_closed(CAROL, "reset", 1.0)
    desk.hear(contact(CAROL, 11), now=1.5)
    assert desk.state_of(CAROL) == "dead"
    desk.run(1.6)
    assert desk.around.dialled == [CAROL]
    desk.membership.link_opened(contact(CAROL, 11), 1.7, True)
    assert desk.state_of(CAROL) == "alive"


def test_where_no_link_is_wanted_hearsay_is_believed() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.around.wanted = False
    desk.membership.link_closed(CAROL, "pruned", 1.0)
    desk.hear(contact(CAROL, state=DEAD))
    desk.hear(contact(CAROL, 11))
    assert desk.state_of(CAROL) == "alive"
    assert BOB not in desk.around.dialled


# Who is told


def test_what_is_said_of_this_node_is_refuted_by_a_higher_incarnation() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(OWN, 100, SUSPECT))
    assert desk.around.changes == ["1: alive alive 101 by self"]
    assert desk.around.news_of(OWN) == [(BOB, 101, ALIVE)]
    desk.hear(contact(OWN, 100, DEAD), contact(OWN, 101, ALIVE))
    assert desk.membership.own.incarnation == 101
    desk.hear(contact(OWN, 500, LEFT))  # an earlier life, under a clock that was ahead
    assert desk.membership.own.incarnation == 501


def test_nothing_that_others_say_takes_the_room_for_refuting_it() -> None:
    """A single lie with the highest number would else bar a node for ever, through all restarts."""
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(contact(OWN, MOST_HEARSAY, DEAD), contact(CAROL, MOST_HEARSAY, DEAD))
    assert desk.membership.own.incarnation == 100
    assert desk.membership.members[CAROL].state == ALIVE
    desk.hear(contact(OWN, MOST_HEARSAY - 1, DEAD))
    assert desk.membership.own.incarnation == MOST_HEARSAY
    assert is_sound(desk.membership.own)
    desk.membership.receive_gossip([contact(BOB, MOST_HEARSAY, ALIVE)], BOB, 1.0)
    assert desk.membership.members[BOB].incarnation == MOST_HEARSAY


def test_one_that_leaves_tells_everybody_and_refutes_no_more() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.membership.set_state(LEFT, 1.0)
    assert desk.around.told == [(BOB, Leave(contact(OWN, 100, LEFT))), (CAROL, Leave(contact(OWN, 100, LEFT)))]
    desk.hear(contact(OWN, 100, DEAD), contact(OWN, 200, DEAD))
    assert desk.membership.own == contact(OWN, 100, LEFT)


def test_going_back_to_joining_takes_a_new_incarnation() -> None:
    desk = Desk(state=JOINING)
    desk.membership.set_state(ALIVE, 0.0)
    desk.membership.set_state(ALIVE, 0.0)
    desk.membership.set_state(JOINING, 1.0)
    assert desk.around.changes == ["1: joining alive 100 by self", "1: alive joining 101 by self"]


def test_a_new_address_of_this_node_is_told_to_its_peers() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.membership.set_own(msgspec.structs.replace(contact(OWN), port=7500), 1.0)
    assert desk.membership.own == contact(OWN, 101, port=7500)
    assert desk.around.told == [(BOB, Gossip([desk.membership.own]))]


def test_what_only_this_node_says_of_itself_is_told_without_a_new_incarnation() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.membership.set_own(with_load(contact(OWN), 40), 1.0, anew=False)
    assert desk.membership.own == with_load(contact(OWN, 100), 40)
    assert desk.around.told == [(BOB, Gossip([desk.membership.own]))]
    assert desk.membership.own not in desk.membership.receive_ping(BOB, Ping(7), 1.0).updates


def test_another_s_load_and_draining_are_believed_from_itself_alone() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(with_load(contact(BOB, 11), 70), source=CAROL)
    desk.hear(with_load(contact(CAROL), 30), source=CAROL)
    held = {node: desk.membership.get(node) for node in (BOB, CAROL)}
    assert [(each.load, each.draining) for each in held.values() if each] == [(0, False), (30, True)]


def test_one_that_is_held_dead_hears_it_when_its_link_opens_and_with_every_answer() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, state=DEAD))
    desk.membership.link_closed(CAROL, "reset", 2.0)
    desk.around.told.clear()
    assert desk.membership.link_opened(contact(CAROL), 10.0, True) == ""
    assert desk.around.news_of(CAROL) == [(CAROL, 10, DEAD)]
    pong = desk.membership.receive_ping(CAROL, Ping(7), 10.1)
    assert pong.call == 7
    assert (pong.updates[0].node, pong.updates[0].state) == (CAROL, DEAD)
    desk.hear(contact(CAROL, 11), source=CAROL, now=10.2)
    assert desk.state_of(CAROL) == "alive"


def test_one_that_is_held_dead_on_a_link_that_never_broke_hears_it_now_and_then() -> None:
    desk = Desk()
    desk.membership.start(0.0)
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, state=DEAD), now=0.5)
    desk.run(10.5)
    assert desk.around.news_of(CAROL).count((CAROL, 10, DEAD)) >= 2


def test_a_link_that_opens_brings_all_that_is_known_but_not_zone_and_name() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.membership.link_opened(contact(DAVE), 1.0, True)
    assert desk.around.told == [
        (DAVE, Gossip([Contact(BOB, "10.0.0.2", 7400, 10, ALIVE), Contact(CAROL, "10.0.0.3", 7400, 10, ALIVE)]))
    ]
    desk.membership.link_opened(contact(DAVE), 1.1, True)  # a second link of the pair
    assert len(desk.around.told) == 1


def test_a_candidate_whose_death_we_heard_of_is_told_so_when_it_comes() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.hear(contact(CAROL, 20))
    desk.membership.link_opened(contact(CAROL, 10), 2.0, True)
    assert desk.around.news_of(CAROL)[0] == (CAROL, 20, ALIVE)


# Who does not answer


def probe_silently(desk: Desk, helpers: Answer | None) -> None:
    """The next probe gets no answer, and the helpers say this."""
    desk.membership.start(0.0)
    desk.run(1.0)
    _node, message, within = desk.around.asked[0]
    assert isinstance(message, Ping)
    assert within == 0.5
    desk.around.done[0](None, 1.4)
    for done in desk.around.done[1:]:
        done(helpers, 1.5)


def test_a_silent_member_is_suspect_and_hears_it_first() -> None:
    desk = Desk()
    desk.link(BOB, CAROL, DAVE)
    probe_silently(desk, Nack(0))
    suspect = desk.around.asked[0][0]
    assert [type(message) for _, message, _ in desk.around.asked] == [Ping, PingRequest, PingRequest]
    assert desk.around.changes == [f"{suspect[0]}: alive suspect 10 by probe"]
    assert desk.around.news_of(suspect)[-1] == (suspect, 10, SUSPECT)
    assert len(desk.membership.live()) == 3
    assert desk.membership.health == 0


def test_two_who_confirm_have_it_dead_after_three_seconds() -> None:
    desk = Desk()
    desk.link(BOB, CAROL, DAVE)
    probe_silently(desk, Nack(0))
    suspect = desk.around.asked[0][0]
    desk.run(4.49)
    assert desk.state_of(suspect) == "suspect"
    desk.run(4.51)
    assert desk.state_of(suspect) == "dead"
    assert desk.around.changes[-1] == f"{suspect[0]}: suspect dead 10 by timeout"


def test_nobody_who_confirms_has_it_dead_after_eighteen_and_is_held_against_this_node() -> None:
    desk = Desk()
    desk.link(BOB, CAROL, DAVE)
    probe_silently(desk, None)
    suspect = desk.around.asked[0][0]
    assert desk.membership.health == 2
    for at in range(2, 20):
        desk.run(at - 0.51)
        assert desk.state_of(suspect) == "suspect"
    desk.run(19.51)
    assert desk.state_of(suspect) == "dead"


def test_one_who_reaches_it_ends_it() -> None:
    desk = Desk()
    desk.link(BOB, CAROL, DAVE)
    probe_silently(desk, Pong(0))
    assert desk.around.changes == []


def test_a_refutation_ends_suspicion() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, 10, SUSPECT))
    desk.hear(contact(CAROL, 11, ALIVE), now=2.0)
    desk.run(60.0)
    assert desk.around.changes == ["3: alive suspect 10 by gossip", "3: suspect alive 11 by gossip"]


def test_a_process_that_was_stopped_does_not_blame_the_others() -> None:
    desk = Desk()
    desk.link(BOB, CAROL, DAVE)
    desk.membership.start(0.0)
    desk.run(1.0)
    desk.hear(contact(DAVE, 10, SUSPECT), now=1.0)
    asked = len(desk.around.asked)
    desk.around.done[0](None, 31.0)  # its own timers first, all of them late
    desk.deadlines.run_due(31.0)
    assert desk.around.changes == ["4: alive suspect 10 by gossip"]
    assert [type(message) for _, message, _ in desk.around.asked[asked:]][:3] == [Ping, Ping, Ping]
    desk.run(47.0)
    assert desk.state_of(DAVE) == "suspect"


def test_a_broken_link_is_dialled_at_once_and_a_refusal_has_others_asked() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.membership.link_closed(CAROL, "reset", 5.0)
    desk.run(5.02)
    assert desk.around.dialled == [CAROL]
    assert desk.around.changes == []
    desk.membership.link_failed("10.0.0.3", 7400, "refused", 5.03)
    assert [(node, type(message)) for node, message, _ in desk.around.asked] == [(BOB, PingRequest)]
    desk.around.done[0](Nack(0), 5.04)
    assert desk.around.changes == ["3: alive suspect 10 by link"]


@pytest.mark.parametrize(
    ("reason", "helper", "state"),
    [("refused", Nack(0), "dead"), ("timeout", Nack(0), "suspect"), ("refused", None, "suspect")],
)
def test_an_address_that_refuses_for_a_second_is_dead_when_another_confirms(
    reason: str, helper: Answer | None, state: str
) -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.membership.link_closed(CAROL, "reset", 5.0)
    for at in (5.03, 5.29, 5.55, 6.06):
        desk.run(at - 0.001)
        desk.membership.link_failed("10.0.0.3", 7400, reason, at)
        for done in desk.around.done:
            done(helper, at)
        desk.around.done.clear()
        assert desk.state_of(CAROL) == ("suspect" if at < 6.0 else state)
    assert len(desk.around.dialled) == 4


def test_of_two_nodes_one_believes_the_other_s_host() -> None:
    desk = Desk()
    desk.link(BOB)
    desk.membership.link_closed(BOB, "reset", 5.0)
    for at in (5.03, 5.29, 5.55, 6.06):
        desk.run(at - 0.001)
        desk.membership.link_failed("10.0.0.2", 7400, "refused", at)
    assert desk.state_of(BOB) == "dead"


def test_the_dead_are_dialled_for_a_day_and_then_forgotten() -> None:
    desk = Desk(MembershipSettings(late_seconds=1e9))
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, state=DEAD), now=1.0)
    desk.membership.link_closed(CAROL, "reset", 1.0)
    desk.membership.start(1.0)
    desk.membership.link_closed(BOB, "reset", 1.0)
    desk.membership.link_opened(contact(BOB), 1.1, True)
    desk.around.dialled.clear()
    for at in range(2, 86_410, 2):
        desk.run(float(at))
        desk.membership.link_failed("10.0.0.3", 7400, "timeout", float(at))
    assert set(desk.around.dialled) == {CAROL}
    assert 86_400 / 62 < len(desk.around.dialled) < 86_400 / 30
    assert desk.around.forgotten == [CAROL]
    count = len(desk.around.dialled)
    desk.run(86_800.0)
    assert len(desk.around.dialled) == count


def test_a_stopped_membership_has_no_timers() -> None:
    desk = Desk()
    desk.membership.start(0.0)
    desk.link(BOB, CAROL)
    desk.hear(contact(BOB, state=SUSPECT), contact(DAVE))
    desk.membership.link_closed(CAROL, "reset", 1.0)
    desk.membership.stop()
    assert len(desk.deadlines) == 0


def test_changes_are_counted() -> None:
    desk = Desk()
    desk.link(BOB, CAROL)
    desk.hear(contact(CAROL, state=SUSPECT))
    rendered = desk.metrics.render().decode()
    assert 'membership_transitions_total{cause="gossip",from="alive",to="suspect"} 1.0' in rendered
    assert 'membership_transitions_total{cause="link",from="none",to="alive"} 2.0' in rendered
    assert 'members{state="alive"} 2.0' in rendered
    assert 'members{state="suspect"} 1.0' in rendered


# Farms


@pytest.fixture(params=[1, 2, 3])
def seed(request: pytest.FixtureRequest) -> int:
    value: int = request.param
    print(f"seed {value}")
    return value


def settle(swim: Swim, most: float) -> float:
    """How long until all that run hold each other alive."""
    began = swim.now
    swim.run(1.0)
    while not swim.is_whole():
        assert swim.now - began < most, f"seed {swim.seed}: not whole after {most} s"
        swim.run(0.5)
    return swim.now - began


def test_a_farm_is_whole_whatever_the_order_of_its_starts(seed: int) -> None:
    """Start order splits the bus (kamailio #1349)."""
    swim = Swim(seed, 30, start=False)
    order = list(range(30))
    swim.rng.shuffle(order)
    for place, index in enumerate(order):
        known = [order[place - 1]] if place else [order[-1]]  # the first one's seed is not there yet
        swim.boot(index, known)
        swim.run(swim.rng.random() * 3.0)
    settle(swim, 10.0)


def test_a_killed_process_is_dead_for_all_within_two_seconds(seed: int) -> None:
    swim = Swim(seed, 30)
    settle(swim, 10.0)
    killed = swim.now
    swim.kill(7)
    swim.run(2.0)
    times = swim.times_to("dead", 7, killed)
    assert len(times) == 29
    assert 1.0 <= times[0] <= times[-1] < 1.3
    assert {each.subject for each in swim.transitions if each.after in ("suspect", "dead")} == {7}


@pytest.mark.parametrize("nodes", [2, 3, 9])
def test_in_a_small_farm_too(nodes: int) -> None:
    swim = Swim(4, nodes)
    settle(swim, 10.0)
    swim.kill(1)
    swim.run(1.5)
    assert swim.states_of(1) == {"dead"}
    swim.boot(1)
    settle(swim, 10.0)
    swim.vanish(1)
    swim.run(15.0)
    assert swim.states_of(1) == {"dead"}


def test_a_process_that_is_back_within_a_second_was_never_dead(seed: int) -> None:
    swim = Swim(seed, 12)
    settle(swim, 10.0)
    swim.kill(5)
    swim.run(0.9)
    swim.boot(5)
    settle(swim, 5.0)
    assert [each for each in swim.transitions if each.after == "dead"] == []


def test_a_link_that_breaks_alone_changes_nothing(seed: int) -> None:
    swim = Swim(seed, 12)
    settle(swim, 10.0)
    swim.transitions.clear()
    for other in range(1, 12):
        swim.break_link(0, other)
    swim.run(10.0)
    assert swim.transitions == []
    assert len(swim.stations[0].links) == 11


def test_a_machine_that_vanishes_is_known_to_all_of_a_hundred_within_seconds(seed: int) -> None:
    swim = Swim(seed, 100, start=False)
    swim.link_all()
    swim.run(3.0)
    vanished = swim.now
    swim.vanish(42)
    swim.run(20.0)
    times = swim.times_to("dead", 42, vanished)
    print(f"seed {seed}: p50 {times[len(times) // 2]:.2f} s, p99 {times[int(len(times) * 0.99)]:.2f} s")
    assert len(times) == 99
    assert times[49] < 10.0
    assert times[-1] < 15.0
    assert {each.subject for each in swim.transitions if each.after in ("suspect", "dead")} == {42}


def test_a_hundred_processes_killed_at_once_and_started_again_find_each_other(seed: int) -> None:
    """Nodes stuck dead after a mass restart (memberlist PR 345)."""
    swim = Swim(seed, 40, start=False)
    swim.link_all()
    swim.run(3.0)
    for index in range(40):
        swim.kill(index)
    swim.run(30.0)
    for index in range(40):
        swim.at(swim.now + swim.rng.random() * 5.0, lambda index=index: swim.boot(index, range(40)))  # type: ignore[misc]
    swim.run(5.0)
    settle(swim, 30.0)


def test_a_farm_that_was_cut_in_two_is_whole_within_a_minute_after_it_heals(seed: int) -> None:
    """No rejoin after a healed partition (memberlist; weaviate PR 10698). Nobody restarts, no seed helps."""
    for links_break in (False, True):
        swim = Swim(seed, 20)
        settle(swim, 10.0)
        swim.cut(range(7), range(7, 20))
        if links_break:
            for one in range(7):
                for other in range(7, 20):
                    swim.break_link(one, other)
        swim.run(600.0)
        assert set(swim.view_of(0).values()) == {"alive", "dead"}
        assert swim.states_of(19) == {"alive", "dead"}
        swim.heal()
        settle(swim, 60.0)


def test_a_machine_that_is_heard_but_not_reached_by_half_the_farm_stays(seed: int) -> None:
    swim = Swim(seed, 12)
    settle(swim, 10.0)
    swim.transitions.clear()
    swim.cut([1, 2, 3], [0], one_way=True)
    swim.run(120.0)
    assert [each for each in swim.transitions if each.after == "dead"] == []


def test_a_process_stopped_for_half_a_minute_comes_back_and_blames_nobody(seed: int) -> None:
    swim = Swim(seed, 12)
    settle(swim, 10.0)
    swim.transitions.clear()
    swim.pause(3, 30.0)
    swim.run(29.0)
    assert swim.states_of(3) == {"dead"}
    swim.run(1.5)
    settle(swim, 2.0)
    assert {each.subject for each in swim.transitions} == {3}


def test_one_that_leaves_is_left_for_all_and_nobody_calls_it_dead(seed: int) -> None:
    swim = Swim(seed, 12)
    settle(swim, 10.0)
    swim.stations[4].membership.set_state(LEFT, swim.now)
    swim.run(1.0)
    swim.kill(4)
    swim.run(60.0)
    assert swim.states_of(4) == {"left"}
    swim.boot(4)
    settle(swim, 10.0)


def test_who_cannot_be_dialled_does_not_get_into_the_farm(seed: int) -> None:
    """A node that sends but does not receive (memberlist #45)."""
    swim = Swim(seed, 8, start=False)
    swim.stations[7].reachable = False
    for index in range(8):
        swim.boot(index)
    swim.run(120.0)
    assert swim.states_of(7) == {"none"}


def test_nobody_flaps_in_hours_of_five_percent_loss_and_two_second_pauses() -> None:
    """Nodes flap with 0.2 ms round trips (OpenSIPS #3542)."""
    swim = Swim(11, 5, loss=0.05)
    settle(swim, 20.0)
    swim.transitions.clear()
    print(f"seed {swim.seed}")
    for _ in range(2 * 60):  # a whole day of it takes a minute; seed 12 was run
        swim.pause(swim.rng.randrange(5), 2.0)
        swim.run(60.0)
    assert [each for each in swim.transitions if each.after == "dead"] == []
    assert swim.is_whole()


def test_a_large_farm_whose_tables_want_some_links_only_agrees_on_who_is_dead() -> None:
    swim = Swim(12, 60, start=False)
    for station in swim.stations:
        mine = station.index
        station.wanted = lambda contact, mine=mine: (
            (swim.by_node[contact.node].index - mine) % 60 in (1, 2, 3, 57, 58, 59)
        )  # type: ignore[misc]
        swim.boot(mine)
    swim.run(60.0)
    swim.kill(30)
    swim.run(30.0)
    assert "alive" not in swim.states_of(30)
    assert swim.view_of(31)[29] == "alive"
    assert id_of(30) in swim.stations[31].membership.members
