"""All links of this node: who may connect, whom we dial, and which link serves a pair.

Every pair of nodes has one link. Who dials while the other does makes a second: then the one that the smaller Node-ID
dialled stays, on both sides, and of two by the same node the one with the smaller proof. A link that is older than any
dial can take is another matter: whoever dials has none, so the new one takes its place. The one that goes is retired,
not cut (`link.py`), and the user hears nothing of it.

Strangers are turned away as early as possible, most of a flood before any cryptography (`admission.py`): each refusal
is counted by its reason and logged at most once a second for each. Accepted links are limited in number, those that
have not said who they are more so; of those the oldest makes room for the newest, since an honest one needs some
milliseconds. A dial is given up after five seconds; to dial again, and when, is the caller's business
(`membership.py`, `seeds.py`).

Decided: a link ends when its peer's certificate expires, the reason is "expired". A node that has renewed it dials
anew with the new one, and a node whose certificate was not renewed is out of the farm on that day, not at its next
restart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from OpenSSL import SSL
from twisted.internet import error
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ClientFactory, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from farm.deadlines import Deadline, Deadlines
from farm.metrics import Metrics
from farm.overlay.admission import Admission
from farm.overlay.link import OPEN, Link
from farm.overlay.wire import Codec, Contact, Hello
from farm.security.peer import Peer, PeerRefused

MOST_LINKS: Final = 2000  # that others dialled
MOST_STRANGERS: Final = 200  # of those, that have not said HELLO
BACKLOG: Final = 1024  # connections that may wait for a turn; Twisted's 50 are soon full, and then each costs a second
DIAL_SECONDS: Final = 5.0
SIMULTANEOUS_SECONDS: Final = 15.0  # a dial, a handshake and a HELLO take no longer
_WILDCARDS: Final = frozenset(("", "0.0.0.0", "::"))

_log: Final = Logger(namespace="overlay")


class LinkUser(Protocol):
    """Who uses the links: the node."""

    def make_hello(self) -> Hello:
        """What this node says first on a link."""

    def link_opened(self, hello: Hello, dialled: bool, now: float) -> str:
        """There is a link now, or a new one in place of one that was; "" or a slug why it must not be."""

    def link_closed(self, node: bytes, reason: str, now: float) -> None:
        """There is no link to that node any more."""

    def link_failed(self, host: str, port: int, reason: str, now: float) -> None:
        """A dial came to nothing: refused, timeout, unreachable, linked (there is a link already), or the slug of what
        was wrong with the peer."""

    def receive_frame(self, node: bytes, frame: bytes, now: float) -> str:
        """A frame without its length; "" or a slug why the link must be closed."""


class Identity(Protocol):
    """Who this node is: `security.identity`."""

    @property
    def node_id(self) -> bytes:
        """32 bytes."""

    def make_connection(self, server: bool) -> SSL.Connection:
        """One end of a link, fed by memory."""

    def check_peer(self, other: SSL.Connection, wall: float, expected: bytes = b"") -> Peer:
        """Who is at the other end; raises PeerRefused."""


class Rejections(Protocol):
    """Where refusals are counted and logged: `logs.Rejections` over `metrics.peer_rejections`."""

    def note(self, reason: str, now: float, *, source: str = "", detail: str = "") -> None:
        """A peer was turned away."""


class Rpc:
    """The links of one node, `calls.Links`. `user` must be set before `listen` or the first dial. `wall` answers
    seconds since 1970; `source` is the address to dial from, "" for any."""

    def __init__(
        self,
        reactor: Any,
        identity: Identity,
        codec: Codec,
        deadlines: Deadlines,
        clock: Callable[[], float],
        wall: Callable[[], float],
        metrics: Metrics,
        rejections: Rejections,
        *,
        user: LinkUser | None = None,
        source: str = "",
    ) -> None:
        self.user = user
        self.codec = codec
        self.clock = clock
        self.deadlines = deadlines
        self.unexpected = metrics.unexpected_errors.child("overlay")
        self._reactor = reactor
        self._identity = identity
        self._wall = wall
        self._rejections = rejections
        self._source = None if source in _WILDCARDS else (source, 0)
        self._links: dict[bytes, Link] = {}
        self._all: dict[Link, Deadline | None] = {}  # each with the deadline of its peer's certificate
        self._strangers: dict[Link, None] = {}  # accepted, not greeted; oldest first
        self._accepted = 0
        self._admission = Admission()
        self._dials: dict[Dial, None] = {}
        self._dials_by_link: dict[Link, Dial] = {}
        self._dialled_nodes: set[bytes] = set()
        self._dialled_addresses: set[tuple[str, int]] = set()
        self._port: Any = None
        self._stopped: Deferred[None] | None = None
        self._open_gauge = metrics.links.child()
        self._opened = {True: metrics.links_opened.child("out"), False: metrics.links_opened.child("in")}

    # Start and stop

    def listen(self, host: str, port: int) -> int:
        """Accept links; answers the port, which is chosen when it is 0. Raises CannotListenError."""
        self._port = self._reactor.listenTCP(port, _Door(self), BACKLOG, interface=host)
        return int(self._port.getHost().port)

    def stop(self) -> Deferred[None]:
        """Accept and dial no more and close all links after what was written; answered when all are gone."""
        now = self.clock()
        stopped: Deferred[None] = Deferred()
        self._stopped = stopped
        if self._port is not None:
            maybeDeferred(self._port.stopListening)
            self._port = None
        for dial in list(self._dials):
            dial.cancel()
        for link in list(self._all):
            link.close("stopped", now)
        self._finish_stop()
        return stopped

    def _finish_stop(self) -> None:
        if self._stopped is not None and not self._all and not self._stopped.called:
            self._stopped.callback(None)

    # calls.Links

    def send(self, node: bytes, frame: bytes) -> bool:
        """Write a frame, its length included. False when there is no link or it takes no more."""
        link = self._links.get(node)
        return link is not None and link.send(frame)

    def is_open(self, node: bytes) -> bool:
        """Whether there is a link to that node."""
        return node in self._links

    def connect(self, contact: Contact) -> None:
        """Dial a node, unless it is being dialled or there is a link that we dialled. One that the other side made says
        nothing of whether we can reach it."""
        link = self._links.get(contact.node)
        if (link is None or not link.dialled) and contact.node not in self._dialled_nodes:
            self._dial(contact.host, contact.port, contact.node)

    def connect_address(self, host: str, port: int) -> None:
        """Dial a seed, unless a dial or a link goes there already."""
        if (host, port) in self._dialled_addresses:
            return
        for link in self._links.values():
            if link.hello is not None and (link.hello.contact.host, link.hello.contact.port) == (host, port):
                return
        self._dial(host, port, b"")

    def close(self, node: bytes, reason: str) -> None:
        """Close the link to a node, if there is one."""
        link = self._links.get(node)
        if link is not None:
            link.close(reason, self.clock())

    def close_denied(self, nodes: Iterable[bytes]) -> None:
        """Close the links of nodes that the configuration denies from now on."""
        denied = frozenset(nodes)
        now = self.clock()
        for link in [link for link in self._all if link.node in denied]:
            link.refuse("denied", now)

    @property
    def nodes(self) -> list[bytes]:
        """The nodes to which there are links."""
        return list(self._links)

    # Dialling and accepting

    def _dial(self, host: str, port: int, node: bytes) -> None:
        if self._stopped is not None:
            return
        dial = Dial(self, host, port, node)
        self._dials[dial] = None
        if node:
            self._dialled_nodes.add(node)
        else:
            self._dialled_addresses.add((host, port))
        dial.start(self._reactor, self._source)

    def dial_done(self, dial: Dial, reason: str) -> None:
        """A dial has become a link that serves, or has failed for a reason."""
        if dial not in self._dials:
            return  # it was over before
        del self._dials[dial]
        self._dialled_nodes.discard(dial.node)
        if not dial.node:
            self._dialled_addresses.discard((dial.host, dial.port))
        if reason and self.user is not None and self._stopped is None:
            try:
                self.user.link_failed(dial.host, dial.port, reason, self.clock())
            except Exception:
                self._note_failure("what followed a failed dial failed")

    def make_link(self, host: str, port: int, dial: Dial | None) -> Link:
        """The protocol of a new connection."""
        tls = self._identity.make_connection(dial is None)
        link = Link(self, tls, host, port, dial is not None, b"" if dial is None else dial.node)
        self._all[link] = None
        if dial is None:
            self._accepted += 1
            self._strangers[link] = None
        else:
            dial.link = link
            self._dials_by_link[link] = dial
        return link

    def accept(self, host: str, port: int) -> Link | None:
        """Somebody has connected; None turns them away."""
        now = self.clock()
        if self._stopped is not None:
            return None
        if not self._admission.admit(host, now):
            self._rejections.note("rate", now, source=host)
            return None
        if self._accepted >= MOST_LINKS:
            self._rejections.note("too-many-links", now, source=host)
            return None
        if len(self._strangers) >= MOST_STRANGERS:
            next(iter(self._strangers)).refuse("too-many-links", now)
        return self.make_link(host, port, None)

    # link.Owner

    def check_peer(self, link: Link) -> Peer:
        """Who is at the other end; raises PeerRefused."""
        peer = self._identity.check_peer(link.tls, self._wall(), link.expected)
        if peer.node_id == self._identity.node_id:
            raise PeerRefused("same-node-id")
        if link.dialled and not link.expected and peer.node_id in self._links:
            raise PeerRefused("linked")
        return peer

    def make_hello(self) -> Hello:
        """What this node says first."""
        assert self.user is not None
        return self.user.make_hello()

    def link_greeted(self, link: Link, now: float) -> None:
        """A link might open: unless there is a better one, or the user does not want it."""
        assert self.user is not None
        assert link.hello is not None
        assert link.peer is not None
        self._strangers.pop(link, None)
        self._admission.note_node(link.host)
        node = link.node
        before = self._links.get(node)
        link.open(now)
        simultaneous = before is not None and now - before.opened_at < SIMULTANEOUS_SECONDS
        if before is not None and simultaneous and self._rank(before) < self._rank(link):
            self._dial_over(link, "")
            link.retire(now)
            if link.dialled:  # it has shown that we reach that node
                self._tell_opened(link, now)
            return
        self._links[node] = link
        if before is not None:
            before.retire(now)
        refused = self._tell_opened(link, now)
        if refused:
            if self._links.get(node) is link and before is None:
                del self._links[node]  # it never was one, as far as the user is concerned
            link.refuse(refused, now)
            return
        self._dial_over(link, "")
        self._opened[link.dialled].inc()
        self._open_gauge.set(len(self._links))
        left = max(0.0, link.peer.not_after - self._wall())
        if link.state == OPEN:
            self._all[link] = self.deadlines.add(now + left, self._expire, link)

    def _tell_opened(self, link: Link, now: float) -> str:
        assert self.user is not None
        assert link.hello is not None
        try:
            return self.user.link_opened(link.hello, link.dialled, now)
        except Exception:
            self._note_failure("what followed the opening of a link failed")
            return "other"

    def receive_frame(self, link: Link, frame: bytes, now: float) -> str:
        """A frame, also of a link that is retired."""
        assert self.user is not None
        try:
            return self.user.receive_frame(link.node, frame, now)
        except Exception:
            self._note_failure("a frame failed")
            return "other"

    def link_refused(self, link: Link, reason: str, detail: str, now: float) -> None:
        """Count it."""
        if reason != "linked":
            self._rejections.note(reason, now, source=f"{link.host}:{link.port}", detail=detail)

    def link_ended(self, link: Link, reason: str, now: float) -> None:
        """A link takes and gives no more frames."""
        self.deadlines.cancel(self._all[link])
        self._strangers.pop(link, None)
        self._dial_over(link, reason)
        if self._links.get(link.node) is link:
            del self._links[link.node]
            self._open_gauge.set(len(self._links))
            try:
                if self.user is not None:
                    self.user.link_closed(link.node, reason, now)
            except Exception:
                self._note_failure("what followed the end of a link failed")

    def link_gone(self, link: Link) -> None:
        """Its connection is closed."""
        del self._all[link]
        if not link.dialled:
            self._accepted -= 1
        self._finish_stop()

    def _rank(self, link: Link) -> tuple[bytes, bytes]:
        """Of two links of one pair the one with the smaller rank stays; both sides see the same."""
        return (self._identity.node_id if link.dialled else link.node, link.proof)

    def _dial_over(self, link: Link, reason: str) -> None:
        dial = self._dials_by_link.pop(link, None)
        if dial is not None:
            self.dial_done(dial, reason)

    def _expire(self, link: Link, now: float) -> None:
        link.refuse("expired", now, "the certificate of an open link")

    def _note_failure(self, text: str) -> None:
        self.unexpected.inc()
        _log.failure(text)


class _Door(ServerFactory):
    """The port on which others dial us."""

    noisy = False

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def buildProtocol(self, addr: Any) -> Link | None:
        """Called by Twisted for each connection; None closes it."""
        return self._rpc.accept(addr.host, addr.port)


class Dial(ClientFactory):
    """One dial, until its link serves or has failed. `node` is b"" when only the address is known."""

    noisy = False

    def __init__(self, rpc: Rpc, host: str, port: int, node: bytes) -> None:
        self.host = host
        self.port = port
        self.node = node
        self.link: Link | None = None
        self._rpc = rpc
        self._connector: Any = None

    def start(self, reactor: Any, source: tuple[str, int] | None) -> None:
        """Connect."""
        self._connector = reactor.connectTCP(self.host, self.port, self, timeout=DIAL_SECONDS, bindAddress=source)

    def cancel(self) -> None:
        """Give it up."""
        if self.link is None and self._connector is not None:
            self._connector.stopConnecting()

    def buildProtocol(self, addr: Any) -> Link:
        """Called by Twisted when the other side has accepted."""
        return self._rpc.make_link(self.host, self.port, self)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Called by Twisted when there is no connection."""
        slug = "unreachable"
        if reason.check(error.ConnectionRefusedError) is not None:
            slug = "refused"
        elif reason.check(error.TimeoutError) is not None:
            slug = "timeout"
        self._rpc.dial_done(self, slug)
