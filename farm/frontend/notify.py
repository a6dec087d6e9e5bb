"""NOTIFY (RFC 1996): telling the secondaries that the zone has a new version, until they say that they have heard it.

Every node tells every secondary: which of them a secondary takes for its primaries is the operator's choice, and one
that tells and dies has told for nobody. A newer version takes the place of an older one. Pure: datagrams go out
through `send`, time comes from `Deadlines`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from dns import message, rrset
from dns.flags import AA, RD
from dns.message import QueryMessage
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdatatype import RdataType

from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics

FIRST_SECONDS: Final = 2.0  # until it is said again, then twice that
MOST_SENT: Final = 5  # RFC 1996 §3.6; a secondary that was away then looks by itself (the SOA's refresh)
SPREAD_SECONDS: Final = 0.2
Address = tuple[str, int]


class _Telling(NamedTuple):
    """One secondary being told: the message's number, the message, how often it was sent, what sends it again."""

    number: int
    data: bytes
    sent: int
    deadline: Deadline


class Notices:
    """The NOTIFYs of one node. `send(data, address)` sends a datagram and does not raise."""

    def __init__(
        self,
        secondaries: Sequence[Address],
        send: Callable[[bytes, Address], None],
        deadlines: Deadlines,
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self._secondaries = tuple(secondaries)
        self._send = send
        self._deadlines = deadlines
        self._rng = rng
        self._acknowledged = metrics.dns_notices.child("acknowledged")
        self._failed = metrics.dns_notices.child("unanswered")
        self._telling: dict[Address, _Telling] = {}

    def change(self, secondaries: Sequence[Address]) -> None:
        """Tell these from the next version on."""
        self._secondaries = tuple(secondaries)

    def tell(self, soa: rrset.RRset, now: float) -> None:
        """There is a new version. The nodes do not all speak in the same moment."""
        for address in self._secondaries:
            self._forget(address)
            notice = QueryMessage(id=self._rng.randrange(1 << 16))
            notice.flags = (notice.flags | AA) & ~RD
            notice.set_opcode(Opcode.NOTIFY)
            notice.question.append(rrset.RRset(soa.name, soa.rdclass, RdataType.SOA))
            notice.answer.append(soa)
            deadline = self._deadlines.add(now + self._rng.random() * SPREAD_SECONDS, self._say, address)
            self._telling[address] = _Telling(notice.id, notice.to_wire(), 0, deadline)

    def receive(self, data: bytes, address: Address) -> bool:
        """An answer to something; False when it is not to one of ours."""
        telling = self._telling.get(address)
        if telling is None or len(data) < 12 or int.from_bytes(data[:2], "big") != telling.number:
            return False
        try:
            answer = message.from_wire(data)
        except Exception:  # dnspython has a class for each thing that can be wrong
            return False
        if answer.opcode() != Opcode.NOTIFY:
            return False
        self._forget(address)
        (self._acknowledged if answer.rcode() == Rcode.NOERROR else self._failed).inc()
        return True

    def stop(self) -> None:
        """Tell nobody any more."""
        for address in list(self._telling):
            self._forget(address)

    def _say(self, address: Address, now: float) -> None:
        telling = self._telling[address]
        if telling.sent == MOST_SENT:
            del self._telling[address]
            self._failed.inc()
            return
        self._send(telling.data, address)
        again = self._deadlines.add(now + FIRST_SECONDS * 2**telling.sent, self._say, address)
        self._telling[address] = telling._replace(sent=telling.sent + 1, deadline=again)

    def _forget(self, address: Address) -> None:
        telling = self._telling.pop(address, None)
        if telling is not None:
            self._deadlines.cancel(telling.deadline)
