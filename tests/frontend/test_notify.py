"""Telling secondaries of a new version: again until they say so, and not for ever."""

from __future__ import annotations

import random
from itertools import pairwise

from dns import flags, message
from dns.message import Message
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from farm.deadlines import Deadlines
from farm.frontend.notify import Address, Notices
from farm.frontend.zone import Edge, Listener, Zone, ZoneSettings
from farm.metrics import Metrics

ONE: Address = ("198.51.100.1", 53)
TWO: Address = ("198.51.100.2", 5300)


class Teller:
    """Notices, and what they have sent: (time, message, address)."""

    def __init__(self, *secondaries: Address) -> None:
        self.deadlines = Deadlines()
        self.metrics = Metrics()
        self.sent: list[tuple[float, bytes, Address]] = []
        self.now = 0.0
        self.zone = Zone(ZoneSettings("sip.example.com", b"secret"))
        self.zone.update([Edge(b"", (Listener("UDP", "192.0.2.1", 5060),))], 0.0, 1_800_000_000.0)
        self.notices = Notices(secondaries, self._send, self.deadlines, random.Random(1), self.metrics)

    def _send(self, data: bytes, address: Address) -> None:
        self.sent.append((round(self.now, 1), data, address))

    def run(self, until: float) -> None:
        """Let time pass in tenths."""
        while self.now < until:
            self.now += 0.1
            self.deadlines.run_due(self.now)

    def reply(self, data: bytes, code: Rcode = Rcode.NOERROR) -> bytes:
        answer: Message = message.make_response(message.from_wire(data))
        answer.set_rcode(code)
        return answer.to_wire()

    def counted(self, result: str) -> float:
        return float(self.metrics.dns_notices.child(result)._value.get())


def test_each_secondary_is_told_the_serial() -> None:
    teller = Teller(ONE, TWO)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    assert {address for _, _, address in teller.sent} == {ONE, TWO}
    notice = message.from_wire(teller.sent[0][1])
    assert notice.opcode() == Opcode.NOTIFY
    assert notice.flags & flags.AA
    assert not notice.flags & (flags.RD | flags.QR)
    assert (str(notice.question[0].name), notice.question[0].rdtype) == ("sip.example.com.", RdataType.SOA)
    assert notice.answer[0][0].serial == 1_800_000_000


def test_who_says_nothing_is_told_five_times_ever_more_slowly() -> None:
    teller = Teller(ONE)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(200.0)
    times = [time for time, _, _ in teller.sent]
    assert [round(after - before) for before, after in pairwise(times)] == [2, 4, 8, 16]
    assert teller.counted("unanswered") == 1
    assert len(teller.deadlines) == 0


def test_an_answer_ends_it() -> None:
    teller = Teller(ONE)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    assert teller.notices.receive(teller.reply(teller.sent[0][1]), ONE)
    assert teller.counted("acknowledged") == 1
    teller.run(100.0)
    assert len(teller.sent) == 1
    assert not teller.notices.receive(teller.reply(teller.sent[0][1]), ONE)


def test_a_refusal_ends_it_too() -> None:
    teller = Teller(ONE)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    assert teller.notices.receive(teller.reply(teller.sent[0][1], Rcode.NOTAUTH), ONE)
    assert teller.counted("unanswered") == 1


def test_what_is_no_answer_to_it_changes_nothing() -> None:
    teller = Teller(ONE)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    good = teller.reply(teller.sent[0][1])
    assert not teller.notices.receive(good, TWO)
    assert not teller.notices.receive(bytes((good[0] ^ 1,)) + good[1:], ONE)
    assert not teller.notices.receive(good[:2] + b"\x80\x00" + good[4:], ONE)
    assert not teller.notices.receive(good[:2] + b"\xff" * 10, ONE)
    assert not teller.notices.receive(good[:2], ONE)
    teller.run(4.0)
    assert len(teller.sent) == 2


def test_a_newer_version_takes_the_place_of_the_older() -> None:
    teller = Teller(ONE)
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    first = teller.reply(teller.sent[0][1])
    teller.zone.update([Edge(b"", (Listener("UDP", "192.0.2.2", 5060),))], 1.0, 1_800_000_001.0)
    teller.notices.tell(teller.zone.soa, 1.0)
    teller.run(1.5)
    assert not teller.notices.receive(first, ONE)
    assert message.from_wire(teller.sent[-1][1]).answer[0][0].serial == 1_800_000_001
    assert len(teller.deadlines) == 1


def test_secondaries_can_be_changed_and_all_of_it_stopped() -> None:
    teller = Teller(ONE)
    teller.notices.change([TWO])
    teller.notices.tell(teller.zone.soa, 0.0)
    teller.run(1.0)
    assert [address for _, _, address in teller.sent] == [TWO]
    teller.notices.stop()
    assert len(teller.deadlines) == 0
