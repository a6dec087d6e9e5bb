"""What strangers and other nodes may send beside SIP becomes a value or a refusal, nothing else: tokens, WebSocket, the
PROXY protocol, STUN, DNS in both directions, and the heads of relays.

SIPFARM_FUZZ_INPUTS (3,000 each) and SIPFARM_FUZZ_SEED (another each time, printed) say how much.
"""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Callable, Iterator

import pytest
from dns import message as dns_message
from twisted.names import dns

from farm.deadlines import Deadlines
from farm.frontend.flow_text import pack_flow
from farm.frontend.notify import Notices
from farm.frontend.token import RouteToken
from farm.overlay.wire import Relay
from farm.relays import FAILED, REQUEST, RESPONSE, SEND, RelayFlow, write_hop
from farm.resolve.reading import read_additional, read_answer
from farm.resolve.records import Question
from farm.resolve.resolver import read_rows
from farm.sip.hop import FlowName, Leg
from farm.transport.connection import Ending
from farm.transport.proxy_protocol import Own, Source, Unclear, parse_header
from farm.transport.stun import answer_stun
from farm.transport.websocket import WebSocketRules, WebSocketSession
from tests.frontend.test_answers import Server, make_query
from tests.frontend.test_token import CALL_ID, CALLEE, CALLER, FACTS, FAR, K1, K2, PARTS, PHONE, SECRET, make_tokens
from tests.support.messages import request_bytes, response_bytes
from tests.support.web_sockets import BINARY, CLOSE, CONTINUATION, PING, PONG, make_frame, make_upgrade
from tests.test_relays import NAT, OTHER_ID, SHORT, Farm
from tests.transport.test_proxy_protocol import LONGEST_LINE, V1, add_checksum, make_tlv, make_v2
from tests.transport.test_stun import make_request

LARGEST = 300
ANSWER = response_bytes(200)
Check = Callable[[bytes, random.Random], None]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The bytes with up to four things done to them."""
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.choice((1, 1, 2, 5, 20)))
        kind = rng.randrange(7)
        if kind == 0:
            data = data[:at] + data[to:]
        elif kind == 1:
            data = data[:at] + rng.randbytes(to - at) + data[to:]
        elif kind == 2:
            data = data[:at] + rng.choice((b"\x00", b"\xff\xff", b"\x80", b"\xc0\x0c", b" ", b"-1", b"~")) + data[to:]
        elif kind == 3:
            data = data[:to] + data[at:]
        elif kind == 4:
            data = data[:at] + rng.choice(others)[rng.randrange(20) :]
        elif kind == 5:
            data = data[:at]
        elif at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << rng.randrange(8),)) + data[at + 1 :]
    return data


def cut(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """The bytes in up to five pieces."""
    begin = 0
    for end in sorted([rng.randrange(len(data) + 1) for _ in range(rng.randrange(5))] + [len(data)]):
        yield data[begin:end]
        begin = end


def make_token_check() -> tuple[list[bytes], Check]:
    tokens = make_tokens(SECRET, 1, K1, K2)
    foreign = make_tokens(b"another" * 8, 2)
    made = [
        tokens.make_route(CALL_ID, FACTS, Leg(CALLER, PHONE), Leg(CALLEE)),
        tokens.make_route(CALL_ID, (), Leg(FAR), Leg()),
        tokens.make_flow(CALLEE),
        tokens.seal(b"gruu", b"\x00sip:bob@example.com"),
        tokens.make_branch(tokens.loop_part(PARTS), "SIP/2.0/UDP h"),
        foreign.make_flow(CALLER),
        "",
    ]

    def check(data: bytes, _rng: random.Random) -> None:
        text = data.decode("utf-8", "surrogateescape")
        opened = tokens.open_route(text, CALL_ID)
        # the last character has bits that say nothing
        assert opened is None or (isinstance(opened, RouteToken) and text[:-1] in [each[:-1] for each in made])
        flow = tokens.open_flow(text)
        assert flow is None or (isinstance(flow, FlowName) and pack_flow(flow))
        assert isinstance(tokens.open(b"gruu", text), bytes | None)
        assert isinstance(tokens.owner_of(text), int | None)
        assert not tokens.is_branch(text, "SIP/2.0/UDP h") or text == made[4]

    return [text.encode() for text in made], check


def make_websocket_check() -> tuple[list[bytes], Check]:
    rules = WebSocketRules(frozenset(), 30.0, lambda: LARGEST)
    frames = [
        make_frame("OPTIONS sip:a SIP/2.0\r\n\r\n"),
        make_frame(b"\xff\x00", BINARY),
        make_frame("one", final=False) + make_frame("two", CONTINUATION),
        make_frame("x", PING) + make_frame("", PONG),
        make_frame(b"\x03\xe8bye", CLOSE),
        make_frame(b"\x03", CLOSE),
        make_frame("x" * 200, final=False) + make_frame("x" * 200, CONTINUATION),
        make_frame("x", length=2**63),
        make_frame("x", mask=b""),
    ]
    seeds = [make_upgrade() + frame + frames[0] for frame in frames]
    seeds += [make_upgrade(sec_websocket_protocol=None), make_upgrade("POST /x HTTP/1.0", host=None)]

    def read(pieces: Iterator[bytes]) -> list[bytes | str]:
        session = WebSocketSession(rules)
        found: list[bytes | str] = []
        for piece in pieces:
            for frame in session.receive(piece):
                assert "end" not in found, "nothing comes after the end"
                if isinstance(frame, bytes):
                    assert len(frame) <= LARGEST
                    found.append(frame)
                elif isinstance(frame, Ending):
                    found.append("end")
                else:
                    assert frame is not None
        assert isinstance(session.partial, bool)
        assert isinstance(session.wrap(b"\xff") + session.ping() + session.farewell("idle"), bytes)
        return found

    def check(data: bytes, rng: random.Random) -> None:
        assert read(iter([data])) == read(cut(data, rng))

    return seeds, check


def make_proxy_check() -> tuple[list[bytes], Check]:
    seeds = [V1, LONGEST_LINE, make_v2(), make_v2(("2001:db8::7", 5)), make_v2(command=0x20)]
    seeds += [add_checksum(make_v2(tlvs=make_tlv(1, b"sip"))), make_v2(family=0x31), V1 + request_bytes()]

    def check(data: bytes, rng: random.Random) -> None:
        header = parse_header(data)
        if isinstance(header, Source):
            assert str(ipaddress.ip_address(header.host)) == header.host
            assert 0 <= header.port <= 65_535
        if isinstance(header, Source | Own):
            assert 0 < header.length <= len(data)
            assert parse_header(data[: header.length]) == header
            assert parse_header(data[: rng.randrange(header.length)]) is Unclear.MORE
        elif header is Unclear.MORE:
            assert parse_header(data[: rng.randrange(len(data) + 1)]) is Unclear.MORE

    return seeds, check


def make_stun_check() -> tuple[list[bytes], Check]:
    seeds = [make_request(), make_request(fingerprint=True), make_request((0x7777, b"abc"), (0x8022, b"coturn"))]
    seeds += [make_request((8, bytes(20)), (6, b"user")), make_request(*((kind, b"") for kind in range(256, 300)))]

    def check(data: bytes, _rng: random.Random) -> None:
        for host in ("192.0.2.1", "2001:db8::1"):
            answer = answer_stun(data, host, 65_535)
            if answer is not None:
                assert answer[8:20] == data[8:20]
                assert len(answer) <= len(data) + 40, "no mirror that makes more of it"

    return seeds, check


def make_name_server_check() -> tuple[list[bytes], Check]:
    server = Server(60)
    notices = Notices((), lambda _data, _address: None, Deadlines(), random.Random(1), server.metrics)
    seeds: list[bytes] = []
    for name, kind in (("", "NAPTR"), ("_sip._udp.", "SRV"), ("x.", "ANY")):
        seeds.append(make_query(f"{name}sip.example.com", kind).to_wire())
        seeds.append(make_query(f"{name}sip.example.com", kind, edns=0, payload=4096).to_wire())
    seeds.append(make_query("sip.example.com", "AXFR").to_wire())

    def check(data: bytes, _rng: random.Random) -> None:
        answer = server.answers.answer_datagram(data, "198.51.100.9", 0.0)
        if answer:
            assert answer[:2] == data[:2]
            assert len(answer) <= 4096
            dns_message.from_wire(answer, ignore_trailing=True)
        for part in server.answers.answer_stream(data, "198.51.100.53"):
            assert part[:2] == data[:2]
        assert isinstance(notices.receive(data, ("198.51.100.53", 53)), bool)

    return seeds, check


def make_answer_check() -> tuple[list[bytes], Check]:
    payloads = [
        dns.Record_A("192.0.2.1", 60),
        dns.Record_AAAA("2001:db8::1", 60),
        dns.Record_CNAME("b.example.com", 60),
        dns.Record_SRV(1, 2, 5060, "a.example.com", 60),
        dns.Record_NAPTR(1, 2, b"s", b"SIP+D2U", b"", "_sip._udp.example.com", 60),
        dns.Record_TXT(b"text"),
    ]
    seeds = []
    for payload in payloads:
        reply = dns.Message(7, answer=1)
        reply.addQuery("example.com", payload.TYPE)
        reply.answers = [dns.RRHeader("example.com", payload.TYPE, payload=payload, ttl=60)]
        reply.additional = [dns.RRHeader("a.example.com", dns.A, payload=payloads[0], ttl=60)]
        seeds.append(reply.toStr())

    def check(data: bytes, _rng: random.Random) -> None:
        reply = dns.Message()
        try:
            reply.fromStr(data)
        except Exception:  # Twisted's protocols catch what its own codec raises
            return
        for kind in ("A", "AAAA", "SRV", "NAPTR"):
            question = Question(kind, "example.com")
            answer = read_answer(question, read_rows(reply.answers)).answer
            for _question, _reading in read_additional(question, answer, read_rows(reply.additional)):
                pass
            for host in answer.addresses:
                assert socket.getaddrinfo(host, 1, flags=socket.AI_NUMERICHOST)

    return seeds, check


def make_relay_check() -> tuple[list[bytes], Check]:
    farm = Farm()
    seeds = [write_hop(NAT), write_hop(SHORT), write_hop(NAT) + b"\n" + write_hop(NAT), b"UDP :: 5060 ", b""]

    def check(data: bytes, rng: random.Random) -> None:
        farm.received.clear()
        farm.relayed.clear()
        purpose = rng.choice((SEND, FAILED, RESPONSE, REQUEST, 77, -1))
        farm.relays.receive_relay(OTHER_ID, Relay(purpose, data, ANSWER), 1.0)
        for _data, source, flow in farm.received:
            assert 0 <= source.port <= 65_535
            assert flow.hop.transport
            if isinstance(flow, RelayFlow):
                assert isinstance(flow.send(b"x"), bool)

    return seeds, check


@pytest.mark.parametrize(
    "make",
    [
        make_token_check,
        make_websocket_check,
        make_proxy_check,
        make_stun_check,
        make_name_server_check,
        make_answer_check,
        make_relay_check,
    ],
)
def test_any_bytes_become_a_value_or_a_refusal(make: Callable[[], tuple[list[bytes], Check]]) -> None:
    count = int(os.environ.get("SIPFARM_FUZZ_INPUTS", "3000"))
    seed = int(os.environ.get("SIPFARM_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"SIPFARM_FUZZ_SEED={seed}")
    rng = random.Random(seed)
    seeds, check = make()
    for done in range(count):
        data = mutate(rng.choice(seeds), seeds, rng)
        try:
            check(data, rng)
        except Exception as error:
            raise AssertionError(f"SIPFARM_FUZZ_SEED={seed}, input {done}: {error!r} from {data!r}") from error
