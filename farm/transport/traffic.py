"""What is counted at the edge: every message in and out, whatever becomes of it above.

Sent messages are bytes by then, so their method is read from the start line, or for a response from CSeq. The children
of all known methods are kept here; what a stranger invents counts as "other".

It is also where who watches the wire is found, by all who send and receive: nobody, mostly, which costs a look.
"""

from __future__ import annotations

from typing import Final, Protocol

from prometheus_client import Counter

from farm.labels import CLASSES, METHODS
from farm.metrics import Metrics
from farm.series import OTHER

_CSEQ: Final = b"\r\nCSeq: "

Address = tuple[str, int]


class Watcher(Protocol):
    """Who is shown every message as it was on the wire, of TLS and WebSocket what is inside. It does not raise."""

    def watch(self, data: bytes, transport: str, local: Address, remote: Address, *, sent: bool) -> None:
        """One message, or what came in place of one. `local` is our end, whose host is that of a listener bound to all
        addresses where the kernel chose the address."""


class Traffic:
    """The counters of messages, shared by all transports of a node."""

    __slots__ = ("_requests_in", "_requests_out", "_responses_in", "_responses_out", "watcher")

    def __init__(self, metrics: Metrics) -> None:
        self.watcher: Watcher | None = None
        requests, responses = metrics.sip_requests, metrics.sip_responses
        self._requests_in: dict[str, Counter] = {}
        self._requests_out: dict[bytes, Counter] = {}
        self._responses_in: dict[str, list[Counter]] = {}
        self._responses_out: dict[bytes, list[Counter]] = {}
        for method in METHODS:
            self._requests_in[method] = requests.child(method, "in")
            self._requests_out[method.encode()] = requests.child(method, "out")
            self._responses_in[method] = [responses.child(method, name, "in") for name in CLASSES]
            self._responses_out[method.encode()] = [responses.child(method, name, "out") for name in CLASSES]

    def count_request(self, method: str) -> None:
        """A request came in."""
        counter = self._requests_in.get(method)
        (self._requests_in[OTHER] if counter is None else counter).inc()

    def count_response(self, method: str, status: int) -> None:
        """A response came in."""
        counters = self._responses_in.get(method)
        (self._responses_in[OTHER] if counters is None else counters)[status // 100 - 1].inc()

    def count_sent(self, data: bytes) -> None:
        """A message went out."""
        if data[:4] != b"SIP/":
            counter = self._requests_out.get(data[: data.find(b" ", 0, 64)])
            (self._requests_out[b"other"] if counter is None else counter).inc()
            return
        at = data.find(_CSEQ)
        if at < 0:
            at = data.lower().find(b"\r\ncseq:")
        end = data.find(b"\r\n", at + 2)
        counters = self._responses_out.get(data[data.rfind(b" ", at, end) + 1 : end])
        (self._responses_out[b"other"] if counters is None else counters)[data[8] - 49].inc()
