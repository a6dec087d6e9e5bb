"""What questions to the zone get, byte for byte where it matters: as a client that is right, or wrong, or hostile."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from dns import flags, message, rrset
from dns.edns import GenericOption
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from farm.frontend.answers import UDP_BYTES, Answers, is_response
from farm.frontend.response_rate import ResponseRate
from farm.frontend.zone import Edge, Listener, Zone, ZoneSettings
from farm.metrics import Metrics

SECONDARY = "198.51.100.53"
STRANGER = "203.0.113.9"
WALL = 1_800_000_000.0


def make_edge(number: int) -> Edge:
    host = f"192.0.{number >> 8}.{number & 255}"
    listeners = tuple(Listener(transport, host, 5060) for transport in ("UDP", "TCP"))
    return Edge(b"node %d" % number, listeners, (host,) if number < 4 else ())


class Server:
    """A zone of so many nodes, and what it answers."""

    def __init__(self, nodes: int = 3, rate: float = 0.0) -> None:
        self.metrics = Metrics()
        self.zone = Zone(ZoneSettings("sip.example.com", b"secret"))
        if nodes:
            self.zone.update([make_edge(number + 1) for number in range(nodes)], 0.0, WALL)
        self.answers = Answers(self.zone, [SECONDARY], ResponseRate(rate), random.Random(1), self.metrics)

    def ask(self, name: str, kind: str = "A", source: str = STRANGER, **query: Any) -> message.Message:
        """The answer to a question over UDP."""
        return message.from_wire(self.answers.answer_datagram(make_query(name, kind, **query).to_wire(), source, 0.0))

    def ask_stream(self, name: str, kind: str = "A", source: str = STRANGER, **query: Any) -> list[message.Message]:
        """The answers to one over TCP."""
        wires = self.answers.answer_stream(make_query(name, kind, **query).to_wire(), source)
        return [message.from_wire(wire, one_rr_per_rrset=True) for wire in wires]

    def send(self, data: bytes, source: str = STRANGER, now: float = 0.0) -> bytes:
        """The answer to a datagram."""
        return self.answers.answer_datagram(data, source, now)

    def counted(self, kind: str, code: str) -> float:
        return float(self.metrics.dns_answers.child(kind, code)._value.get())

    def rejected(self, reason: str) -> float:
        return float(self.metrics.dns_rejections.child(reason)._value.get())


def make_query(name: str, kind: str, *, rdclass: str = "IN", edns: int = -1, payload: int = 0, **more: Any) -> Any:
    query = message.make_query(name, kind, rdclass, **more)
    if edns >= 0:
        query.use_edns(edns, query.ednsflags, payload=payload or 1232)
    return query


def texts(records: list[rrset.RRset]) -> list[str]:
    """Type and owner of each set."""
    return [f"{held.name} {held.rdtype.name}" for held in records]


def test_an_address_is_answered_with_authority_and_without_recursion() -> None:
    server = Server()
    answer = server.ask("sip.example.com")
    assert answer.rcode() == Rcode.NOERROR
    assert answer.flags & (flags.QR | flags.AA | flags.RD) == flags.QR | flags.AA | flags.RD
    assert not answer.flags & (flags.RA | flags.TC)
    assert sorted(record.to_text() for record in answer.answer[0]) == ["192.0.0.1", "192.0.0.2", "192.0.0.3"]
    assert answer.edns == -1
    assert server.counted("A", "NOERROR") == 1


def test_addresses_come_in_any_order() -> None:
    server = Server()
    assert len({server.ask("sip.example.com").answer[0][0].to_text() for _ in range(200)}) == 3


def test_naptr_brings_the_service_records_and_these_the_addresses() -> None:
    server = Server()
    answer = server.ask("sip.example.com", "NAPTR", edns=0)
    assert texts(answer.additional) == ["_sip._tcp.sip.example.com. SRV", "_sip._udp.sip.example.com. SRV"]
    answer = server.ask("_sip._udp.sip.example.com", "SRV", edns=0)
    targets = sorted(str(record.target) for record in answer.answer[0])
    assert sorted(texts(answer.additional)) == [f"{target} A" for target in targets]
    answer = server.ask("sip.example.com", "NS")
    assert len(answer.additional) == len(answer.answer[0]) == 3


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("nobody.sip.example.com", "A", Rcode.NXDOMAIN),
        ("_sip._sctp.sip.example.com", "SRV", Rcode.NXDOMAIN),
        ("sip.example.com", "MX", Rcode.NOERROR),
        ("sip.example.com", "AAAA", Rcode.NOERROR),
        ("_udp.sip.example.com", "SRV", Rcode.NOERROR),
        ("nobody.sip.example.com", "ANY", Rcode.NXDOMAIN),
    ],
)
def test_what_is_not_there_is_denied_with_the_soa(name: str, kind: str, code: Rcode) -> None:
    """RFC 2308 §2: without it nobody could keep the answer."""
    answer = Server().ask(name, kind)
    assert answer.rcode() == code
    assert answer.flags & flags.AA
    assert answer.answer == []
    assert texts(answer.authority) == ["sip.example.com. SOA"]
    assert answer.authority[0].ttl == 10


@pytest.mark.parametrize("name", ["example.com", "sip.example.org", ".", "xsip.example.com"])
def test_other_zones_are_refused_without_a_word(name: str) -> None:
    answer = Server().ask(name)
    assert answer.rcode() == Rcode.REFUSED
    assert not answer.flags & flags.AA
    assert answer.answer == answer.authority == answer.additional == []


@pytest.mark.parametrize("rdclass", ["CH", "HS", "ANY"])
def test_other_classes_are_refused(rdclass: str) -> None:
    assert Server().ask("sip.example.com", "TXT", rdclass=rdclass).rcode() == Rcode.REFUSED
    assert Server().ask("version.bind", "TXT", rdclass="CH").rcode() == Rcode.REFUSED


def test_who_asks_for_everything_gets_something_small() -> None:
    """RFC 8482 §4.2."""
    answer = Server().ask("sip.example.com", "ANY")
    assert [record.to_text() for record in answer.answer[0]] == ['"RFC8482" ""']


def test_names_come_back_in_the_letters_in_which_they_were_asked() -> None:
    """Resolvers mix them to find forged answers (0x20)."""
    wire = Server().send(make_query("sIp.eXaMpLe.CoM", "A").to_wire())
    assert b"\x03sIp\x07eXaMpLe\x03CoM\x00" in wire
    assert str(message.from_wire(wire).answer[0].name) == "sIp.eXaMpLe.CoM."


def test_edns_is_answered_with_our_size_and_the_client_s_wish_for_signatures() -> None:
    answer = Server().ask("sip.example.com", edns=0, want_dnssec=True)
    assert (answer.edns, answer.payload) == (0, UDP_BYTES)
    assert answer.ednsflags & flags.DO
    query = make_query("sip.example.com", "A", edns=0)
    query.use_edns(0, payload=1232, options=[GenericOption("COOKIE", b"01234567")])
    assert message.from_wire(Server().send(query.to_wire())).options == ()


def test_a_later_version_of_edns_is_told_ours() -> None:
    server = Server()
    answer = server.ask("sip.example.com", edns=1)
    assert answer.rcode() == Rcode.BADVERS
    assert (answer.edns, answer.answer) == (0, [])
    assert server.counted("A", "BADVERS") == 1


@pytest.mark.parametrize(("payload", "most"), [(-1, 512), (100, 512), (900, 512), (4096, UDP_BYTES)])
def test_what_does_not_fit_is_cut_and_asked_for_again_over_tcp(payload: int, most: int) -> None:
    server = Server(nodes=60)
    query = make_query("_sip._udp.sip.example.com", "SRV", edns=0 if payload > 0 else -1, payload=payload)
    wire = server.send(query.to_wire())
    answer = message.from_wire(wire)
    assert len(wire) <= most
    assert answer.flags & flags.TC
    assert answer.answer == []
    (whole,) = server.ask_stream("_sip._udp.sip.example.com", "SRV")
    assert not whole.flags & flags.TC
    assert len(whole.answer) == 60


def test_additional_records_are_left_out_before_anything_is_cut() -> None:
    answer = Server(nodes=6).ask("_sip._udp.sip.example.com", "SRV")
    assert not answer.flags & flags.TC
    assert len(answer.answer[0]) == 6
    assert answer.additional == []


@pytest.mark.parametrize("opcode", [Opcode.NOTIFY, Opcode.UPDATE, Opcode.STATUS, Opcode.IQUERY, 15])
def test_other_operations_are_not_implemented(opcode: int) -> None:
    wire = Server().send(
        struct.pack(">HHHHHH", 7, opcode << 11 | flags.RD, 1, 0, 0, 0) + b"\x03sip\x00\x00\x06\x00\x01"
    )
    number, answered, *counts = struct.unpack(">HHHHHH", wire)
    assert number == 7
    assert answered == flags.QR | flags.RD | opcode << 11 | Rcode.NOTIMP
    assert counts == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">HHHHHH", 7, 0, 0, 0, 0, 0),
        struct.pack(">HHHHHH", 7, 0, 2, 0, 0, 0) + b"\x00\x00\x01\x00\x01" * 2,
        struct.pack(">HHHHHH", 7, 0, 1, 0, 0, 0) + b"\x03sip",
        struct.pack(">HHHHHH", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\x00\x01\x00\x01",
        struct.pack(">HHHHHH", 7, 0, 1, 0, 0, 9) + b"\x00\x00\x01\x00\x01",
        make_query("sip.example.com", "A", edns=0, id=7).to_wire() + b"trailing",
    ],
)
def test_what_cannot_be_read_is_a_format_error_with_its_number(data: bytes) -> None:
    answer = Server().send(data)
    assert answer[:2] == data[:2]
    assert answer[3] & 15 == Rcode.FORMERR
    assert len(answer) == 12


@pytest.mark.parametrize("counts", [(239, 0, 0), (0, 239, 0), (0, 0, 239), (1, 0, 0), (0, 2, 0), (0, 0, 2)])
def test_a_question_with_records_that_no_question_has_is_not_read_at_all(
    counts: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each a pointer to a name of 120 labels: reading them all would hold up calls for 30 ms."""
    monkeypatch.setattr(message, "from_wire", lambda *_: pytest.fail("it was read"))
    name = b"\x01a" * 120 + b"\x00"
    records = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04abcd" * sum(counts)
    data = struct.pack(">HHHHHH", 7, 0, 1, *counts) + name + b"\x00\x01\x00\x01" + records
    for answer in (Server().send(data), *Server().answers.answer_stream(data, STRANGER)):
        assert answer == struct.pack(">HHHHHH", 7, flags.QR | Rcode.FORMERR, 0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["OPT", "TSIG", "MAILB", "MAILA"])
def test_types_that_are_no_records_are_turned_down(kind: str) -> None:
    data = make_query("sip.example.com", "A").to_wire()
    data = data[:-4] + struct.pack(">HH", RdataType.from_text(kind), 1)
    assert Server().send(data)[3] & 15 in (Rcode.FORMERR, Rcode.NOTIMP)


@pytest.mark.parametrize("data", [b"", b"\x00" * 11, struct.pack(">HHHHHH", 7, flags.QR, 1, 0, 0, 0)])
def test_what_asks_nothing_gets_nothing(data: bytes) -> None:
    """Two servers must not answer each other's answers for ever."""
    server = Server()
    assert server.send(data) == b""
    assert server.answers.answer_stream(data, STRANGER) == []
    assert server.rejected("not-a-question") == 2


def test_a_million_bytes_of_noise_break_nothing() -> None:
    server, rng = Server(), random.Random(5)
    good = make_query("_sip._udp.sip.example.com", "SRV", edns=0).to_wire()
    for _ in range(3000):
        noise = bytearray(good)
        for _ in range(rng.randrange(1, 6)):
            noise[rng.randrange(len(noise))] = rng.randrange(256)
        data = bytes(noise[: rng.randrange(len(noise) + 1)])
        answer = server.send(data)
        assert len(answer) <= UDP_BYTES
        server.answers.answer_stream(data, SECONDARY)


def test_a_node_that_does_not_know_the_farm_says_so() -> None:
    """Resolvers go on to the next server then."""
    assert Server(nodes=0).ask("sip.example.com").rcode() == Rcode.SERVFAIL
    server = Server()
    server.answers.serves = False
    assert server.ask("sip.example.com").rcode() == Rcode.SERVFAIL
    assert server.ask_stream("sip.example.com", "AXFR", SECONDARY)[0].rcode() == Rcode.SERVFAIL
    assert server.ask("example.com").rcode() == Rcode.REFUSED


# Transfers


def test_a_secondary_gets_the_whole_zone_between_two_soas() -> None:
    server = Server()
    (answer,) = server.ask_stream("sip.example.com", "AXFR", SECONDARY)
    held = answer.answer
    assert texts([held[0], held[-1]]) == ["sip.example.com. SOA"] * 2
    whole = {(str(item.name), item[0].to_text()) for item in held}
    assert whole == {
        (str(records.name), record.to_text()) for records in server.zone.all_records() for record in records
    }
    assert len(held) == len(whole) + 1
    assert answer.flags & flags.AA
    assert server.counted("AXFR", "NOERROR") == 1


def test_a_large_zone_comes_in_several_messages() -> None:
    server = Server(nodes=150)
    answers = server.ask_stream("sip.example.com", "AXFR", SECONDARY)
    assert len(answers) > 3
    held = [item for answer in answers for item in answer.answer]
    assert texts([held[0], held[-1]]) == ["sip.example.com. SOA"] * 2
    assert sum(item.rdtype == RdataType.SOA for item in held) == 2
    assert len(held) == sum(len(records) for records in server.zone.all_records()) + 1


def test_an_increment_is_the_whole_zone_and_over_udp_the_soa() -> None:
    server = Server()
    (answer,) = server.ask_stream("sip.example.com", "IXFR", SECONDARY)
    assert len(answer.answer) > 10
    query = make_query("sip.example.com", "IXFR", edns=0)
    query.authority.append(server.zone.soa)  # as RFC 1995 §3 has it
    (wire,) = server.answers.answer_stream(query.to_wire(), SECONDARY)
    assert len(message.from_wire(wire, one_rr_per_rrset=True).answer) == len(answer.answer)
    assert texts(server.ask("sip.example.com", "IXFR", SECONDARY).answer) == ["sip.example.com. SOA"]
    assert server.ask("sip.example.com", "IXFR").rcode() == Rcode.REFUSED


def test_strangers_and_other_names_are_refused_a_transfer() -> None:
    server = Server()
    for name, source in (("sip.example.com", STRANGER), ("_udp.sip.example.com", SECONDARY), ("org", SECONDARY)):
        (answer,) = server.ask_stream(name, "AXFR", source)
        assert (answer.rcode(), answer.answer) == (Rcode.REFUSED, [])
    assert server.ask("sip.example.com", "AXFR", SECONDARY).rcode() == Rcode.REFUSED
    assert server.counted("AXFR", "REFUSED") == 4


# Floods


@pytest.mark.parametrize(
    ("name", "kind"), [("sip.example.com", "SOA"), ("_sip._udp.sip.example.com", "SRV"), ("sip.example.com", "A")]
)
@pytest.mark.parametrize("edns", [-1, 0])
def test_an_answer_that_is_known_is_the_same_but_for_number_letters_and_recursion(
    name: str, kind: str, edns: int
) -> None:
    server = Server()
    first = {
        message.from_wire(server.send(make_query(name, kind, edns=edns).to_wire())).to_wire()[12:] for _ in range(40)
    }
    query = make_query(name.upper(), kind, edns=edns, flags=0)
    query.id = 4711
    again = server.send(query.to_wire())
    answer = message.from_wire(again)
    assert (answer.id, answer.flags & flags.RD) == (4711, 0)
    assert str(answer.question[0].name) == str(answer.answer[0].name) == f"{name.upper()}."
    if kind == "A":
        assert len(first) > 1
    assert len(again) == len(next(iter(first))) + 12
    assert server.counted(kind, "NOERROR") == 41


def test_what_is_known_ends_with_the_version_of_the_zone() -> None:
    server = Server()
    for _ in range(20):
        server.ask("sip.example.com")
    server.zone.update([make_edge(9)], 10.0, WALL + 10)
    assert [record.to_text() for record in server.ask("sip.example.com").answer[0]] == ["192.0.0.9"]
    for _ in range(2):
        assert server.ask("sip.example.com", "SOA").rcode() == Rcode.NOERROR
    server.answers.serves = False
    assert server.ask("sip.example.com", "SOA").rcode() == Rcode.SERVFAIL


def test_sizes_transports_and_signatures_are_told_apart() -> None:
    server = Server(nodes=30)
    name = "_sip._udp.sip.example.com"
    for _ in range(2):
        assert server.ask(name, "SRV").flags & flags.TC
        assert server.ask(name, "SRV", edns=0).edns == 0
        assert server.ask(name, "SRV").edns == -1
        assert len(server.ask_stream(name, "SRV")[0].answer) == 30
        assert not server.ask("sip.example.com", "SOA", edns=0).ednsflags & flags.DO
        assert server.ask("sip.example.com", "SOA", edns=0, want_dnssec=True).ednsflags & flags.DO


def test_beyond_the_rate_an_answer_is_the_question_and_asks_for_tcp() -> None:
    server = Server(rate=1.0)
    data = make_query("sip.example.com", "A", edns=0).to_wire()
    sent = [server.send(data) for _ in range(6)]
    assert [len(answer) for answer in sent[2:]] == [0, 33, 0, 33]
    short = message.from_wire(sent[3])
    assert short.flags & flags.TC
    assert short.question[0].name.to_text() == "sip.example.com."
    assert len(sent[3]) < len(data)
    assert (server.rejected("rate"), server.rejected("rate-shortened")) == (2, 2)
    assert server.send(data, "198.51.100.1")
    assert server.answers.answer_stream(data, STRANGER)[0]


@pytest.mark.parametrize("data", [b"\x00\x07" + b"\x00" * 10, b"\x00\x07\x00\x00\x00\x01" + b"\x00" * 6 + b"\x3fabc"])
def test_a_short_answer_to_what_cannot_be_read_is_a_header(data: bytes) -> None:
    server = Server(rate=0.5)
    assert [len(server.send(data)) for _ in range(3)] == [12, 0, 12]


def test_answers_are_told_from_questions() -> None:
    assert is_response(b"\x00\x00\x80")
    assert not is_response(b"\x00\x00\x00")
    assert not is_response(b"\x00")
