"""What a question to the zone gets: one message as bytes in, the bytes of the answers out, by UDP or TCP.

RFC 1035 §4 and RFC 2308 (the SOA with what is not there), RFC 6891 (EDNS, version 0), RFC 7766 (TCP), RFC 8482 (ANY),
RFC 5936 (whole transfers, over TCP and to our secondaries only; RFC 1995 §2 lets them answer for increments). Out of
the zone, in another class, or to a stranger who wants a transfer: REFUSED. Names come back in the letters in which they
were asked (0x20). Sockets and their limits are `authority`'s business, the records `zone`'s.

Decided: at most 1232 bytes over UDP whatever the client takes, as all servers do since 2020: what is larger is cut into
fragments, which get lost and can be forged. Who takes less than that gets 512, so that there are two sizes to know.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import Final

from dns import message, rrset
from dns.exception import TooBig
from dns.flags import AA, DO, RD, TC
from dns.name import Name
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.HINFO import HINFO

from farm.frontend.known_answers import KnownAnswers, read_question
from farm.frontend.response_rate import ResponseRate, Verdict
from farm.frontend.zone import Records, Zone
from farm.metrics import Metrics
from farm.series import OTHER

LARGEST_QUERY: Final = 1232  # a question has some 60 bytes, and options
UDP_BYTES: Final = 1232
_LEAST_UDP_BYTES: Final = 512
_TCP_BYTES: Final = 65_535
_RECORDS_A_MESSAGE: Final = 200  # of a transfer
_HEADER: Final = struct.Struct(">HHHHHH")
_RESPONSE: Final = 0x8000
_COUNTED: Final = ("A", "AAAA", "ANY", "AXFR", "IXFR", "NAPTR", "NS", "SOA", "SRV")
_META: Final = range(128, 256)  # types that name no record (RFC 6895 §3.1)
_TRANSFERS: Final = (RdataType.AXFR, RdataType.IXFR)
_ADDRESSES: Final = (RdataType.A, RdataType.AAAA)
_ADDITIONAL: Final = (RdataType.NAPTR, RdataType.NS, RdataType.SRV)
_MOST_ADDITIONAL: Final = 32


def is_response(data: bytes) -> bool:
    """Whether a message answers something (a NOTIFY of ours) and asks nothing."""
    return len(data) > 2 and bool(data[2] & 0x80)


class Answers:
    """Answers for `zone`. `secondaries` are the addresses that may transfer it."""

    def __init__(
        self, zone: Zone, secondaries: Collection[str], rate: ResponseRate, rng: random.Random, metrics: Metrics
    ) -> None:
        self.secondaries = frozenset(secondaries)
        self.serves = True
        """False answers SERVFAIL: this node does not know how the farm is, others do."""
        self._zone = zone
        self._rate = rate
        self._known = KnownAnswers(rng)
        self._counts = metrics.dns_answers
        self._rejections = metrics.dns_rejections

    def answer_datagram(self, data: bytes, host: str, now: float) -> bytes:
        """The answer to a datagram from an address, b"" for none."""
        if is_response(data) or len(data) < _HEADER.size:
            self._rejections.child("not-a-question").inc()
            return b""
        verdict = self._rate.judge(host, now)
        if verdict is Verdict.DROP:
            self._rejections.child("rate").inc()
            return b""
        if verdict is Verdict.SHORTEN:
            self._rejections.child("rate-shortened").inc()
            return _shorten(data)
        (answer,) = self._recall(data, host, over_tcp=False)
        return answer

    def answer_stream(self, data: bytes, host: str) -> list[bytes]:
        """The answers to a message on a connection; more than one for a transfer, none for what asks nothing."""
        if is_response(data) or len(data) < _HEADER.size:
            self._rejections.child("not-a-question").inc()
            return []
        return self._recall(data, host, over_tcp=True)

    def _recall(self, data: bytes, host: str, *, over_tcp: bool) -> list[bytes]:
        """The answer as it was made before, or a new one."""
        asked = read_question(data, over_tcp, UDP_BYTES) if self.serves else None
        if asked is None:
            return self._answer(data, host, over_tcp=over_tcp)
        found = self._known.find(asked, data, self._zone.serial)
        if found is not None:
            return [found]
        answers = self._answer(data, host, over_tcp=over_tcp)
        if (
            asked.kind not in _META
            and answers[0][3] & 0xF == Rcode.NOERROR
            and (answers[0][6:8] != b"\0\0" or answers[0][2] & 2)
        ):
            count = self._counts.child(_name_of(asked.kind), "NOERROR")
            self._known.keep(asked, answers[0], count)
        return answers

    def _answer(self, data: bytes, host: str, *, over_tcp: bool) -> list[bytes]:
        _number, flags, *counts = _HEADER.unpack_from(data)
        if flags >> 11 & 0xF != Opcode.QUERY:
            return [self._fail(data, Rcode.NOTIMP)]
        # One question, the SOA of an IXFR, EDNS: hundreds of records, each name a pointer to a long one, take 40 ms.
        if counts[:2] != [1, 0] or counts[2] > 1 or counts[3] > 1:
            return [self._fail(data, Rcode.FORMERR)]
        try:
            query = message.from_wire(data)
            response = message.make_response(query, our_payload=UDP_BYTES)
        except Exception:  # dnspython has a class for each thing that can be wrong; all of them are the sender's fault
            return [self._fail(data, Rcode.FORMERR)]
        if not isinstance(query, message.QueryMessage) or len(query.question) != 1:
            return [self._fail(data, Rcode.FORMERR)]
        if query.edns >= 0:
            response.use_edns(0, query.ednsflags & DO, UDP_BYTES)  # RFC 3225 §3 wants the bit copied
        question = query.question[0]
        if query.edns > 0:
            response.set_rcode(Rcode.BADVERS)
        elif question.rdtype in _TRANSFERS and over_tcp:
            return self._transfer(response, question, host)
        else:
            response.set_rcode(self._find(response, question, host))
        self._count(question.rdtype, response.rcode())
        if over_tcp:
            return [_fit(response, _TCP_BYTES)]
        large = query.edns >= 0 and query.payload >= UDP_BYTES
        return [_fit(response, UDP_BYTES if large else _LEAST_UDP_BYTES)]

    def _find(self, response: message.Message, question: rrset.RRset, host: str) -> Rcode:
        """Put what there is into the response; answers its code."""
        zone, name, kind = self._zone, question.name, question.rdtype
        if question.rdclass != RdataClass.IN or not zone.covers(name):
            return Rcode.REFUSED
        if not zone.is_there or not self.serves:
            return Rcode.SERVFAIL
        if kind in _TRANSFERS and (kind == RdataType.AXFR or not self._may_transfer(host)):
            return Rcode.REFUSED
        if kind == RdataType.OPT:
            return Rcode.FORMERR
        if kind in _META and kind not in (RdataType.ANY, RdataType.IXFR):
            return Rcode.NOTIMP
        response.flags |= AA
        if kind == RdataType.IXFR:  # a single SOA: ask again over TCP (RFC 1995 §2)
            kind = RdataType.SOA
        records = zone.find(name)
        if records and kind == RdataType.ANY:
            response.answer.append(self._make_any(name))
        elif records and kind in records:
            response.answer.append(records[kind])  # dnspython writes them in any order
            response.additional.extend(self._add_to(records[kind]))
        else:
            response.authority.append(zone.soa)
        return Rcode.NXDOMAIN if records is None else Rcode.NOERROR

    def _make_any(self, name: Name) -> rrset.RRset:
        """What RFC 8482 §4.2 gives to who wants everything."""
        made = rrset.RRset(name, RdataClass.IN, RdataType.HINFO)
        made.add(HINFO(RdataClass.IN, RdataType.HINFO, b"RFC8482", b""), self._zone.soa.ttl)
        return made

    def _add_to(self, records: rrset.RRset) -> Iterator[rrset.RRset]:
        """What will be asked next: the SRV records that NAPTR names, the addresses of targets and name servers."""
        if records.rdtype not in _ADDITIONAL:
            return
        count = 0
        for record in records:
            name: Name = record.replacement if records.rdtype == RdataType.NAPTR else record.target
            held: Records = self._zone.find(name) or {}
            for kind in (RdataType.SRV,) if records.rdtype == RdataType.NAPTR else _ADDRESSES:
                if kind in held and count < _MOST_ADDITIONAL:
                    count += 1
                    yield held[kind]

    # Transfers

    def _may_transfer(self, host: str) -> bool:
        return host in self.secondaries

    def _transfer(self, response: message.Message, question: rrset.RRset, host: str) -> list[bytes]:
        """The whole zone in as many messages as it takes, the SOA first and last."""
        zone = self._zone
        code = Rcode.NOERROR
        if question.rdclass != RdataClass.IN or question.name != zone.name or not self._may_transfer(host):
            code = Rcode.REFUSED
        elif not zone.is_there or not self.serves:
            code = Rcode.SERVFAIL
        self._count(question.rdtype, code)
        response.set_rcode(code)
        if code != Rcode.NOERROR:
            return [_fit(response, _TCP_BYTES)]
        response.flags |= AA
        parts: list[bytes] = []
        count = 0
        for records in (*zone.all_records(), zone.soa):
            if count + len(records) > _RECORDS_A_MESSAGE and response.answer:
                parts.append(response.to_wire(max_size=_TCP_BYTES))
                response.answer = []
                count = 0
            # a set that is there already would be merged with the first: the last SOA is one of its own
            response.answer.append(records)
            count += len(records)
        parts.append(response.to_wire(max_size=_TCP_BYTES))
        return parts

    def _fail(self, data: bytes, code: Rcode) -> bytes:
        """A header and nothing else: there is no question that could be repeated."""
        self._count(None, code)
        number, flags, *_ = _HEADER.unpack_from(data)
        return _HEADER.pack(number, _RESPONSE | flags & (0x7800 | RD) | code, 0, 0, 0, 0)

    def _count(self, kind: RdataType | None, code: int) -> None:
        self._counts.child(OTHER if kind is None else _name_of(kind), Rcode.to_text(Rcode(code))).inc()


def _name_of(kind: int) -> str:
    """How a type is counted."""
    name = RdataType.to_text(RdataType.make(kind))
    return name if name in _COUNTED else OTHER


def _fit(response: message.Message, most: int) -> bytes:
    """As bytes; without what may be left out when it is too long, and then cut short."""
    for sections in ((), ("additional",), ("additional", "answer", "authority")):
        for section in sections:
            getattr(response, section).clear()
        if len(sections) == 3:
            response.flags |= TC
        try:
            return response.to_wire(max_size=most)
        except TooBig:
            continue
    return b""  # header and question alone have room in any limit


def _shorten(data: bytes) -> bytes:
    """The question itself as an answer that says: ask over TCP. Nothing of it is read."""
    number, flags, questions, *_ = _HEADER.unpack_from(data)
    header = _HEADER.pack(number, _RESPONSE | TC | flags & (0x7800 | RD), 0, 0, 0, 0)
    end = _find_question_end(data)
    if questions != 1 or not end:
        return header
    return _HEADER.pack(number, _RESPONSE | TC | flags & (0x7800 | RD), 1, 0, 0, 0) + data[_HEADER.size : end]


def _find_question_end(data: Sequence[int]) -> int:
    """Where the first question ends, 0 when it does not."""
    position = _HEADER.size
    while position < len(data) and 0 < data[position] < 64:
        position += data[position] + 1
    end = position + 5
    return end if end <= len(data) and data[position] == 0 else 0
