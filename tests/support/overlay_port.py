"""The overlay's port alone, in a process of its own: `python -m tests.support.overlay_port DIRECTORY HOST`.

Its identity is in the directory. It sends every frame back to where it came from, and prints a line for each refusal
("refused REASON"), for each link ("opened", "closed"), and "listening PORT" first. Standard input's end stops it.
"""

from __future__ import annotations

import sys
import time

from twisted.internet import reactor, stdio
from twisted.internet.protocol import Protocol

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.rpc import Rpc
from farm.overlay.wire import Codec, Contact, Hello
from farm.pump import Pump
from farm.security.identity import Identity


class Echo:
    """Who uses the links, and where refusals are told."""

    def __init__(self, directory: str, host: str) -> None:
        self.host = host
        self.identity = Identity(directory, time.time())
        metrics = Metrics()
        deadlines: Deadlines = Pump(reactor, time.monotonic, metrics).deadlines
        self.rpc = Rpc(
            reactor, self.identity, Codec(), deadlines, time.monotonic, time.time, metrics, self, user=self, source=host
        )

    def note(self, reason: str, now: float, *, source: str = "", detail: str = "") -> None:
        """A peer was turned away."""
        print("refused", reason, flush=True)

    def make_hello(self) -> Hello:
        """What this node says first."""
        contact = Contact(self.identity.node_id, self.host, 7400, zone=self.identity.zone, roles=self.identity.roles)
        return Hello(self.identity.overlay, contact, 1, 1, int(time.time() * 1000))

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        """Taken."""
        print("opened", flush=True)
        return ""

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        """Gone."""
        print("closed", flush=True)

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        """Nobody is dialled here."""

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        """Back to where it came from."""
        self.rpc.send(node, len(frame).to_bytes(4, "big") + frame)
        return ""


class Input(Protocol):
    """Standard input: its end stops all."""

    def connectionLost(self, reason: object = None) -> None:
        """Called by Twisted."""
        reactor.stop()


if __name__ == "__main__":
    echo = Echo(sys.argv[1], sys.argv[2])
    listening = echo.rpc.listen(sys.argv[2], 0)
    reactor.callWhenRunning(print, "listening", listening, flush=True)
    stdio.StandardIO(Input())
    reactor.run()
