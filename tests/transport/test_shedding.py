"""The end of connections when a node is drained: spread at random, the busy ones last."""

from __future__ import annotations

import random
from itertools import pairwise

from farm.deadlines import Deadlines
from farm.sip.hop import Hop
from farm.transport.shedding import CLOSES_PER_SECOND, Shedding, make_plan
from tests.support.edge import Server, connect, make_edge
from tests.support.messages import request_bytes


class Held:
    """A connection."""

    def __init__(self, name: str, accepted: bool = True) -> None:
        self.hop = Hop("TCP", "192.0.2.101", 40000, name)
        self.accepted = accepted
        self.usable = True
        self.closed = ""

    def close(self, reason: str) -> None:
        """Once at most."""
        assert not self.closed, "twice"
        self.closed = reason
        self.usable = False


class Drain:
    """A node with connections, at 1000 s."""

    def __init__(self, *connections: Held) -> None:
        self.connections = connections
        self.deadlines = Deadlines()
        self.shedding = Shedding(connections, self.deadlines, random.Random(1))
        self.busy: set[str] = set()
        self.now = 1000.0

    def start(self, seconds: float) -> None:
        self.shedding.start(seconds, lambda: self.busy, self.now)

    def run_until(self, now: float) -> int:
        """How many are closed by then."""
        while (at := self.deadlines.next_at()) is not None and at <= now:
            self.deadlines.run_due(at)
        self.now = now
        return sum(connection.closed == "drained" for connection in self.connections)


def make_many(count: int) -> list[Held]:
    return [Held(f"tcp:x#{number}") for number in range(count)]


def test_a_thousand_phones_are_sent_away_evenly() -> None:
    drain = Drain(*make_many(1000))
    drain.start(10.0)
    closed = [drain.run_until(1000.0 + second) for second in range(11)]
    assert closed[-1] == 1000
    assert not drain.shedding.running
    each_second = [after - before for before, after in pairwise(closed)]
    assert all(60 <= count <= 140 for count in each_second), each_second


def test_a_few_are_sent_away_at_once() -> None:
    drain = Drain(*make_many(10))
    drain.start(10.0)
    assert drain.run_until(1000.0 + 10 / CLOSES_PER_SECOND) == 10


def test_no_time_means_all_now() -> None:
    drain = Drain(*make_many(1000))
    drain.start(0.0)
    assert drain.run_until(1000.0) == 1000


def test_the_order_is_nobody_s() -> None:
    names = [held.hop.local for _, held in make_plan(make_many(100), 10.0, random.Random(1), 5.0)]
    assert sorted(names) != names
    times = [at for at, _ in make_plan(make_many(100), 10.0, random.Random(1), 5.0)]
    assert times == sorted(times, reverse=True)
    assert all(5.0 <= at <= 7.0 for at in times)


def test_who_waits_for_an_answer_is_put_off_until_it_has_come() -> None:
    one, other = Held("tcp:x#1"), Held("tcp:x#2")
    drain = Drain(one, other)
    drain.busy = {"tcp:x#1"}
    drain.start(10.0)
    assert drain.run_until(1020.0) == 1
    assert (one.closed, other.closed, drain.shedding.running) == ("", "drained", True)
    drain.busy = set()
    assert drain.run_until(1020.3) == 2
    assert not drain.shedding.running


def test_who_is_put_off_holds_up_nobody_else() -> None:
    drain = Drain(*make_many(100))
    drain.busy = {"tcp:x#7", "tcp:x#8"}
    drain.start(10.0)
    planned = make_plan(make_many(100), 10.0, random.Random(1), 1000.0)
    for at, held in reversed(planned):
        drain.run_until(at)
        assert drain.connections[int(held.hop.local.partition("#")[2])].closed or held.hop.local in drain.busy
    assert drain.run_until(1003.0) == 98


def test_connections_that_we_made_stay() -> None:
    drain = Drain(Held("tcp:x#1", accepted=False), Held("tcp:x#2"))
    drain.start(10.0)
    assert drain.run_until(1030.0) == 1
    assert not drain.shedding.running


def test_a_phone_that_went_by_itself_is_passed_over() -> None:
    drain = Drain(*make_many(2))
    drain.connections[0].usable = False
    drain.start(10.0)
    assert drain.run_until(1030.0) == 1


def test_it_can_be_called_off_and_begun_anew() -> None:
    drain = Drain(*make_many(1000))
    drain.start(10.0)
    closed = drain.run_until(1003.0)
    drain.shedding.stop()
    assert not drain.shedding.running
    assert drain.run_until(1030.0) == closed
    drain.start(1.0)
    drain.shedding.stop()
    assert drain.deadlines.next_at() is None
    drain.start(1.0)
    drain.start(5.0)
    assert drain.run_until(1031.0) < 600
    assert drain.run_until(1035.0) == 1000
    drain.start(5.0)
    drain.start(5.0)
    drain.shedding.stop()
    assert drain.deadlines.next_at() is None


def test_a_layer_s_connections_are_closed_after_what_was_written_and_those_to_servers_are_not() -> None:
    network, edge, phone = make_edge()
    phones = [connect(phone) for _ in range(3)]
    server = Server(phone, 5062)
    edge.flow_to("TCP", "192.0.2.101", 5062)
    network.run(0.1)
    phones[0].transport.write(request_bytes("OPTIONS"))
    network.run(0.1)
    edge.flow.send(b"SIP/2.0 200 OK\r\n\r\n")
    edge.layer.shedding.start(10.0, set, edge.host.seconds())
    network.run(1.0)
    assert [peer.ended for peer in phones] == [True, True, True]
    assert phones[0].data == b"SIP/2.0 200 OK\r\n\r\n"
    assert not server.peers[0].ended
    assert edge.value("flows_closed", "tcp", "drained") == 3
    phones = [connect(phone) for _ in range(200)]
    edge.layer.shedding.start(10.0, set, edge.host.seconds())
    network.run(0.5)
    edge.layer.stop()
    assert not edge.layer.shedding.running
    network.run(1.0)
    assert all(peer.ended for peer in phones)
