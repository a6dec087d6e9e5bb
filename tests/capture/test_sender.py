"""Copies to collectors: when they leave, what becomes of too many, and a collector that is not there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

from farm.addresses import Listen
from farm.capture.seen import Seen
from farm.capture.sender import AT_ONCE, MOST_WAITING, Sender
from farm.config import CaptureSettings
from farm.metrics import Metrics
from tests.support.counts import read

HOMER = "udp:10.0.0.9:9060"
OTHER = "udp:10.0.0.8:9060"
SECOND = 1_000_000


def see(call_id: str = "c", at: int = SECOND, head: str = "OPTIONS sip:a SIP/2.0", body: str = "") -> Seen:
    data = f"{head}\r\nCall-ID: {call_id}\r\n\r\n{body}".encode()
    return Seen(at, "UDP", True, ("192.0.2.1", 5060), ("192.0.2.9", 5060), data)


class Wire:
    """A socket that keeps frames, or raises the errors that wait."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.errors: list[int] = []
        self.closed = False

    def send(self, data: bytes) -> int:
        if self.errors:
            raise OSError(code := self.errors.pop(0), os.strerror(code))
        self.frames.append(data)
        return len(data)

    def close(self) -> None:
        self.closed = True


class Setup:
    """A sender whose turns are run by hand."""

    def __init__(self, *homer: str, key: bytes = b"", **settings: Any) -> None:
        self.turns: list[Callable[[], object]] = []
        self.wires: dict[str, Wire] = {}
        self.opened = 0
        self.unreachable = False
        self.metrics = Metrics()
        self.sender = Sender(CaptureSettings(homer=homer, **settings), key, "n1", self, self.metrics, self._open)

    def callLater(self, delay: float, action: Callable[[], object]) -> None:
        assert delay == 0
        self.turns.append(action)

    def _open(self, place: Listen) -> Wire:
        self.opened += 1
        if self.unreachable:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return self.wires.setdefault(f"udp:{place.host}:{place.port}", Wire())

    def turn(self) -> None:
        """One turn of the reactor."""
        turns, self.turns = self.turns, []
        for action in turns:
            action()

    def counts(self) -> dict[str, float]:
        words = ("sent", "cut", "failed", "dropped")
        return {word: n for word in words if (n := read(self.metrics.capture_messages.child(word)))}


def test_a_copy_leaves_in_a_turn_of_its_own_to_every_collector() -> None:
    setup = Setup(HOMER, OTHER, key=b"k", agent_id=7)
    setup.sender.show(see())
    assert setup.wires == {}
    assert len(setup.turns) == 1
    setup.turn()
    (one,), (other,) = setup.wires[HOMER].frames, setup.wires[OTHER].frames
    assert one == other
    for part in (b"OPTIONS sip:a", (7).to_bytes(4, "big"), b"\x00\x0e\x00\x07k", b"\x00\x13\x00\x08n1"):
        assert part in one
    assert setup.counts() == {"sent": 2}
    assert setup.turns == []


def test_many_copies_leave_in_several_turns() -> None:
    setup = Setup(HOMER)
    for _ in range(AT_ONCE + 1):
        setup.sender.show(see())
    assert len(setup.turns) == 1
    setup.turn()
    assert len(setup.wires[HOMER].frames) == AT_ONCE
    setup.turn()
    assert len(setup.wires[HOMER].frames) == AT_ONCE + 1
    assert setup.turns == []


def test_nobody_is_copied_for_when_no_collector_is_named() -> None:
    assert not Setup().sender.active
    assert Setup(HOMER).sender.active
    assert Setup().sender.problems(0) == []


def test_a_flood_is_copied_up_to_its_rate_and_the_rest_counted() -> None:
    setup = Setup(HOMER, messages_per_second=3)
    for at in (SECOND, SECOND + 1, 2 * SECOND - 1, 2 * SECOND - 1, 2 * SECOND):
        setup.sender.show(see(at=at))
    setup.turn()
    assert len(setup.wires[HOMER].frames) == 4
    assert setup.counts() == {"sent": 4, "dropped": 1}
    assert setup.sender.status() == {"collectors": [f"{HOMER} 4 sent, 0 failed"], "dropped": 1}


def test_what_waits_is_limited() -> None:
    setup = Setup(HOMER, messages_per_second=100_000)
    for _ in range(MOST_WAITING + 2):
        setup.sender.show(see())
    assert setup.counts() == {"dropped": 2}


def test_a_sample_has_whole_calls() -> None:
    setup = Setup(HOMER, share=0.5)
    for number in range(50):
        for _ in range(2):
            setup.sender.show(see(f"call-{number}"))
    setup.turn()
    frames = setup.wires[HOMER].frames
    assert 20 < len(frames) < 80
    assert frames[::2] == frames[1::2]
    assert setup.counts() == {"sent": len(frames)}, "what is not asked for is not lost"


def test_credentials_are_masked_unless_somebody_wants_them() -> None:
    head = 'REGISTER sip:h SIP/2.0\r\nAuthorization: Digest response="0a1b"'
    for masks, expected in ((True, b'response="xxxx"'), (False, b'response="0a1b"')):
        setup = Setup(HOMER, mask_credentials=masks)
        setup.sender.show(see(head=head))
        setup.turn()
        assert expected in setup.wires[HOMER].frames[0]


def test_a_message_too_long_for_a_datagram_goes_cut_and_is_counted() -> None:
    setup = Setup(HOMER)
    setup.sender.show(see(body="x" * 65_535))
    setup.turn()
    assert setup.counts() == {"cut": 1}


def test_what_icmp_says_of_an_earlier_copy_does_not_cost_the_next() -> None:
    setup = Setup(HOMER)
    setup.sender.show(see())
    setup.turn()
    setup.wires[HOMER].errors = [errno.ECONNREFUSED]
    setup.sender.show(see(at=100 * SECOND))
    setup.turn()
    assert setup.counts() == {"sent": 2}
    problem = f"the collector {HOMER} does not take copies: Connection refused"
    assert setup.sender.problems(101) == [problem]
    assert setup.sender.problems(161) == [], "it is no news any more"


def test_a_collector_that_there_is_no_way_to_is_tried_once_a_second() -> None:
    setup = Setup(HOMER)
    setup.unreachable = True
    for at in (1, 1, 1, 2, 2):
        setup.sender.show(see(at=at * SECOND))
        setup.turn()
    assert setup.opened == 2
    assert setup.counts() == {"failed": 5}
    setup.unreachable = False
    setup.sender.show(see(at=3 * SECOND))
    setup.turn()
    assert setup.counts() == {"failed": 5, "sent": 1}


def test_what_the_network_refuses_is_lost_and_the_other_collector_gets_it() -> None:
    setup = Setup(HOMER, OTHER)
    setup.wires[HOMER] = Wire()
    setup.wires[HOMER].errors = [errno.EAGAIN] * 2
    setup.sender.show(see())
    setup.turn()
    assert setup.counts() == {"sent": 1, "failed": 1}
    assert setup.sender.status()["collectors"] == [f"{HOMER} 0 sent, 1 failed", f"{OTHER} 1 sent, 0 failed"]


def test_a_message_of_a_socket_that_is_gone_costs_itself_alone() -> None:
    setup = Setup(HOMER)
    setup.sender.show(see()._replace(local=("", 0)))
    setup.sender.show(see())
    setup.turn()
    assert setup.counts() == {"sent": 1, "failed": 1}


def test_other_settings_keep_the_sockets_that_are_still_meant() -> None:
    setup = Setup(HOMER, OTHER)
    setup.sender.show(see())
    setup.turn()
    setup.sender.change(CaptureSettings(homer=(OTHER,), agent_id=9), b"")
    assert (setup.wires[HOMER].closed, setup.wires[OTHER].closed) == (True, False)
    setup.sender.show(see())
    setup.turn()
    assert [len(wire.frames) for wire in setup.wires.values()] == [1, 2]
    assert (9).to_bytes(4, "big") in setup.wires[OTHER].frames[1]


def test_at_the_end_what_waits_leaves_and_the_sockets_close() -> None:
    setup = Setup(HOMER)
    for _ in range(AT_ONCE + 1):
        setup.sender.show(see())
    setup.sender.stop()
    assert (len(setup.wires[HOMER].frames), setup.wires[HOMER].closed) == (AT_ONCE + 1, True)
    setup.turn()
    assert setup.counts() == {"sent": AT_ONCE + 1}


def test_a_copy_that_comes_to_a_node_is_not_copied_again() -> None:
    """Who names a node's own SIP port as a collector, or two nodes that name each other's, would have no end of it."""
    setup = Setup(HOMER)
    setup.sender.show(see())
    setup.turn()
    (frame,) = setup.wires[HOMER].frames
    setup.sender.show(see()._replace(sent=False, data=frame))
    assert setup.turns == []


def test_a_message_whose_ends_no_frame_can_say_costs_a_copy_and_not_those_behind_it() -> None:
    setup = Setup(HOMER)
    for port in (-1, 70_000, 5060):
        setup.sender.show(see()._replace(remote=("192.0.2.9", port)))
    setup.turn()
    assert len(setup.wires[HOMER].frames) == 1
    assert read(setup.metrics.capture_messages.child("failed")) == 2


def test_a_socket_whose_address_the_machine_has_lost_is_opened_anew_in_the_next_second() -> None:
    setup = Setup(HOMER)
    setup.sender.show(see())
    setup.turn()
    lost = setup.wires.pop(HOMER)
    lost.errors = [errno.EINVAL] * 100
    setup.sender.show(see())
    setup.turn()
    assert lost.closed
    setup.sender.show(see(at=2 * SECOND))
    setup.turn()
    assert (setup.opened, len(setup.wires[HOMER].frames)) == (2, 1)


def test_a_socket_that_is_full_for_a_moment_is_kept() -> None:
    setup = Setup(HOMER)
    setup.sender.show(see())
    setup.turn()
    setup.wires[HOMER].errors = [errno.EAGAIN] * 2
    for _ in range(2):
        setup.sender.show(see())
    setup.turn()
    assert (setup.opened, len(setup.wires[HOMER].frames)) == (1, 2)
