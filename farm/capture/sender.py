"""Sends copies of messages to Homer and other collectors, over UDP.

A copy is never waited for: it is made in a turn of its own, after the answers to what came in have left; what the
network takes not at once is lost and counted, and a collector that is not there costs a failed system call each. How
many a second are copied is limited, and how many may wait.

Decided: UDP alone. A collector over TCP that reads slowly would have us keep messages for it, and a lost copy is a
line that is missing in a picture.
"""

from __future__ import annotations

import socket
from binascii import crc32
from collections.abc import Callable
from errno import EAGAIN, ENOBUFS
from typing import Any, Final, Protocol

from farm.addresses import Listen, parse_listen
from farm.capture.hep import MAGIC, Agent, make_frame
from farm.capture.masking import mask_credentials
from farm.capture.reading import find_call_id
from farm.capture.seen import Seen
from farm.config import CaptureSettings
from farm.metrics import Metrics

MOST_WAITING: Final = 2000  # messages that wait for their turn
AT_ONCE: Final = 100  # copied in one turn, so that calls go on in between
TROUBLE_SECONDS: Final = 60  # an error is news for so long
SEND_BUFFER_BYTES: Final = 1_048_576


class Wire(Protocol):
    """A socket that is connected to a collector."""

    def send(self, data: bytes) -> int:
        """Send a datagram. Raises OSError."""

    def close(self) -> None:
        """Close it."""


class Reactor(Protocol):
    """What gives a turn."""

    def callLater(self, delay: float, action: Callable[[], object]) -> Any:
        """Call it then, from a turn of its own."""


class Collector:
    """One collector, and how it goes. `opening` makes its socket; raises OSError."""

    def __init__(self, place: str, opening: Callable[[Listen], Wire]) -> None:
        self.place = place
        self.sent = 0
        self.failed = 0
        self.problem = ""
        self.failed_at = 0  # seconds since 1970
        self._opening = opening
        self._wire: Wire | None = None

    def send(self, data: bytes, second: int) -> bool:
        """Send a frame; False when it is lost. What an earlier one met (ICMP) is told to the next, which goes then. A
        socket that cannot be opened is tried again in the next second."""
        full = False
        for _ in range(2):
            if self._wire is None and self.failed_at == second:
                break
            try:
                if self._wire is None:
                    self._wire = self._opening(parse_listen(self.place))
                self._wire.send(data)
            except OSError as error:
                full = error.errno in (EAGAIN, ENOBUFS)
                self.problem = error.strerror or str(error)
                self.failed_at = second
            else:
                self.sent += 1
                return True
        self.failed += 1
        if not full:  # of an address that this machine has lost, say
            self.close()
        return False

    def close(self) -> None:
        """Close its socket; another is opened when there is something to send."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


class Sender:
    """Copies what it is shown to all collectors of the settings. `name` is the node's, `key` what collectors ask for;
    `opening` opens a socket to one."""

    def __init__(
        self,
        settings: CaptureSettings,
        key: bytes,
        name: str,
        reactor: Reactor,
        metrics: Metrics,
        opening: Callable[[Listen], Wire] | None = None,
    ) -> None:
        self.collectors: list[Collector] = []
        self.dropped = 0
        self._name = name.encode()
        self._reactor = reactor
        self._opening = opening or open_socket
        self._waiting: list[Seen] = []
        self._armed = False
        self._second = 0
        self._copied = 0  # in that second
        child = metrics.capture_messages.child
        self._sent, self._cut = child("sent"), child("cut")
        self._dropped, self._failed = child("dropped"), child("failed")
        self.change(settings, key)

    def change(self, settings: CaptureSettings, key: bytes) -> None:
        """Take other settings."""
        self._settings = settings
        self._agent = Agent(settings.agent_id, self._name, key)
        self._most_hash = int(settings.share * 0xFFFFFFFF)
        kept = {collector.place: collector for collector in self.collectors}
        self.collectors = [
            kept.pop(place) if place in kept else Collector(place, self._opening) for place in settings.homer
        ]
        for collector in kept.values():
            collector.close()

    @property
    def active(self) -> bool:
        """Whether there is anybody to copy for."""
        return bool(self.collectors)

    def show(self, seen: Seen) -> None:
        """One message, if it is none of these copies: a collector may be a node, by mistake."""
        if seen.data.startswith(MAGIC):
            return
        second = seen.time // 1_000_000
        if second != self._second:
            self._second, self._copied = second, 0
        if self._copied >= self._settings.messages_per_second or len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
            self._dropped.inc()
            return
        if self._settings.share < 1.0 and crc32(find_call_id(seen.data)) > self._most_hash:
            return
        self._copied += 1
        self._waiting.append(seen)
        if not self._armed:
            self._armed = True
            self._reactor.callLater(0, self._send_waiting)

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        self._armed = bool(self._waiting)
        if self._armed:
            self._reactor.callLater(0, self._send_waiting)
        for seen in waiting:
            payload = mask_credentials(seen.data) if self._settings.mask_credentials else seen.data
            try:
                frame = make_frame(seen, self._agent, payload)
            except (OSError, ValueError):  # an address that is none: of a socket that is gone
                self._failed.inc()
                continue
            for collector in self.collectors:
                if not collector.send(frame.data, self._second):
                    self._failed.inc()
                elif frame.cut:
                    self._cut.inc()
                else:
                    self._sent.inc()

    def stop(self) -> None:
        """Send what waits and close."""
        while self._waiting:
            self._send_waiting()
        for collector in self.collectors:
            collector.close()
        self.collectors = []

    def status(self) -> dict[str, object]:
        """How it goes, for the console: `collectors`, each in words, and how many messages were `dropped`."""
        return {
            "collectors": [
                f"{collector.place} {collector.sent} sent, {collector.failed} failed" for collector in self.collectors
            ],
            "dropped": self.dropped,
        }

    def problems(self, wall: float) -> list[str]:
        """Collectors that did not take a copy lately, a sentence each."""
        return [
            f"the collector {collector.place} does not take copies: {collector.problem}"
            for collector in self.collectors
            if collector.problem and wall - collector.failed_at < TROUBLE_SECONDS
        ]


def open_socket(place: Listen) -> socket.socket:
    """A socket for datagrams to a collector, which never blocks. Raises OSError."""
    opened = socket.socket(socket.AF_INET6 if ":" in place.host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        opened.connect((place.host, place.port))
    except OSError:
        opened.close()
        raise
    return opened


def find_source(remote: tuple[str, int]) -> str:
    """The address of this machine that a datagram to there leaves from; that of no machine when there is no way."""
    host, port = remote
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect((host, port or 5060))
        except OSError:
            return "::" if ":" in host else "0.0.0.0"
        return str(asked.getsockname()[0])
