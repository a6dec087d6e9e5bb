"""The flows of all nodes as one: what is for another node's flow or transaction goes there over the overlay's links.

Part of the composition root. It fills the proxy's port to flows, and stands between overlay, transport and transactions
for four things that nodes say to each other:

- **send**: put these bytes on that flow of yours. A `RelayFlow` says it, which the proxy uses as any other flow.
- **failed**: that flow of mine is gone, or has ended since you sent over it; your transactions on it need not wait.
- **response**: these bytes came here, for a transaction of yours (RFC 3261 §16.7, §18.1.2). It goes unopened: the
  branch of its topmost Via names the node. A dead node's is forwarded by `proxy/stateless`.
- **request**: it came here by the address that we share, and is yours by its key (`[sip] shared_address`).

A node that is dead takes its flows with it at that moment. One that has left is a way as long as its link is open: it
still has the connections of those who call.

Decided: what came unopened is not counted or checked here, but where it is opened, by the limits of that node; how many
may come from one source has been checked before.
Decided: a response is looked at before it is parsed. That costs every response 2 µs, and spares the relayed ones
the 9 µs of parsing and writing.
Decided: flows are equal by name instead of being kept: whoever waits on one is found by an equal one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final, Protocol

from farm.frontend.flow_text import tag_of
from farm.member import stamp_node_of
from farm.metrics import Metrics
from farm.overlay.relaying import FIRST_VERSION, Relaying
from farm.overlay.wire import ALIVE, EDGE, JOINING, LEFT, SUSPECT, Contact, Relay
from farm.proxy.stateless import Whose
from farm.rendezvous import Rendezvous
from farm.sip.hop import FlowName, Hop, short_local
from farm.sip.message import Request, Response
from farm.transaction.layer import TransactionLayer
from farm.transaction.transaction import Flow
from farm.transport.flows import DeadFlow
from farm.transport.layer import TransportLayer

# `Relay.purpose`
SEND: Final = 1
FAILED: Final = 2
RESPONSE: Final = 3
REQUEST: Final = 4

MOST_SENDERS: Final = 64  # nodes that hear of one connection's end
MOST_GONE: Final = 10_000  # connections of others that are remembered to have ended
MOST_RINGING: Final = 1_000  # INVITEs of others on one connection that keep it open while this node is drained
# That an incarnation grows by at least: a start takes the milliseconds since 1970, a refutation one more.
_RESTARTED: Final = 500
_THERE: Final = frozenset((JOINING, ALIVE, SUSPECT))
_SURE: Final = frozenset((JOINING, ALIVE))
_TRANSPORTS: Final = frozenset(("UDP", "TCP", "TLS", "WS", "WSS"))
_BRANCH: Final = re.compile(rb";branch=(z9hG4bK[^;,\s]+)")
_HEAD_BYTES: Final = 2048  # of a response: our Via is the first of its headers, or nearly


class Members(Protocol):
    """The nodes of the farm: `member.Member`."""

    @property
    def relaying(self) -> Relaying:
        """The relays of the overlay."""

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        """The node whose stamps carry this number."""

    def others(self) -> list[Contact]:
        """All others that are remembered."""

    @property
    def own(self) -> bytes:
        """This node's Node-ID."""


class RelayFlow:
    """A flow of another node, as good as one of ours but for the way there."""

    __slots__ = ("_hash", "_relays", "_to", "head", "hop", "local_name", "name")

    breaks: Final = True

    def __init__(self, relays: Relays, to: bytes, name: FlowName, local_name: str) -> None:
        short = name.hop.short
        self.name = FlowName(name.node, short)
        self.hop = name.hop
        self.local_name = local_name
        self.head = write_hop(short)
        self._relays = relays
        self._to = to
        self._hash = hash(self.name)

    def __repr__(self) -> str:
        return f"<RelayFlow {self.hop} of {self.name.node:x}>"

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RelayFlow) and self.name == other.name

    @property
    def reliable(self) -> bool:
        """As the transport of the flow itself."""
        return self.hop.transport != "UDP"

    @property
    def transport(self) -> str:
        """That of the flow itself."""
        return self.hop.transport

    def send(self, data: bytes) -> bool:
        """Have its node send a message; when there is no way to that one, it goes from the address that we share."""
        relays = self._relays
        if relays.send(self._to, SEND, self.head, data):
            return True
        heir = relays.find_heir(self.hop)
        return heir is not None and heir.send(data)


class BackFlow:
    """The way back of a request that came to another node by the address that we share: through that node, or, when it
    is gone, from our own socket at that address."""

    __slots__ = ("_relays", "_to", "hop", "local_name")

    reliable: Final = False
    breaks: Final = False
    transport: Final = "UDP"

    def __init__(self, relays: Relays, to: bytes, hop: Hop, local_name: str) -> None:
        self.hop = hop
        self.local_name = local_name
        self._relays = relays
        self._to = to

    def __repr__(self) -> str:
        return f"<BackFlow {self.hop}>"

    def send(self, data: bytes) -> bool:
        """Send an answer."""
        relays = self._relays
        return relays.send(self._to, SEND, write_hop(self.hop), data) or relays.flow_to(self.hop).send(data)


class Relays:
    """The flows and transactions of the other nodes, for one node with the number `own`. Without `members` there are
    none. `secret` is the farm's, for a shared address. `clock` is monotonic."""

    def __init__(
        self,
        own: int,
        transport: TransportLayer,
        transactions: TransactionLayer,
        members: Members | None,
        metrics: Metrics,
        clock: Callable[[], float],
        secret: bytes = b"",
    ) -> None:
        self.shares_address = False  # with the other nodes: `[sip] shared_address`
        self.owner_of: Callable[[str], int | None] = _find_nobody  # the tag in a branch: `frontend.token.Tokens`
        self.is_of_this_boot: Callable[[str], bool] = _is_always  # whether this process made one with our own tag
        self._own = own
        self._own_tag = tag_of(own)
        self._transport = transport
        self._transactions = transactions
        self._members = members
        self._clock = clock
        self._rendezvous = Rendezvous(secret)
        self._by_tag: dict[int, Contact] = {}
        self._changed = True  # the members have, since what follows from them was last found out
        self._incarnations: dict[bytes, int] = {}  # the latest of each node
        self._names: dict[str, str] = {}  # of listeners, by transport
        self._senders: dict[str, dict[bytes, None]] = {}  # who sent over a connection, by its short name
        self._ringing: dict[str, dict[bytes, bytes]] = {}  # others' unanswered INVITEs: branch and node, by connection
        self._gone: dict[FlowName, None] = {}  # connections of others that have ended, the latest; none comes again
        child = metrics.relayed_messages.child
        self._sent, self._delivered = child("sent"), child("delivered")
        self._no_link, self._no_flow, self._bad = child("no-link"), child("no-flow"), child("bad")
        if members is not None:
            members.relaying.user = self

    # Ways (proxy.context.Flows)

    def flow_to(self, hop: Hop) -> Flow:
        """The flow to an address from this node, opened where there is none."""
        return self._transport.flow_to(hop)

    def find_flow(self, name: FlowName) -> Flow | None:
        """That very flow, wherever it is; None when it is gone, or its node is."""
        if name.node == self._own:
            flow = self._transport.flow_to(name.hop)
            return None if isinstance(flow, DeadFlow) else flow
        contact = self._find_member(name.node)
        if contact is None:
            return self.find_heir(name.hop)
        relay_flow = RelayFlow(self, contact.node, name, self._name_listener(name.hop.transport))
        return None if relay_flow.name in self._gone else relay_flow

    def find_heir(self, hop: Hop) -> Flow | None:
        """The flow of ours that takes the place of one of a node that is gone: over UDP, from the address that both
        have. What a NAT lets in from there, it lets in from us."""
        if not self.shares_address or hop.transport != "UDP":
            return None
        flow = self._transport.flow_to(hop)
        return flow if short_local(flow.local_name) == short_local(hop.local) else None

    def doubts(self, node: int) -> bool:
        """Whether a node may be dead, or has no link just now."""
        if node == self._own:
            return False
        contact = self._find_member(node)
        if contact is None or contact.state not in _SURE:
            return True
        assert self._members is not None
        return not self._members.relaying.has_link(contact.node)

    def find_node(self, tag: int) -> int | None:
        """The number of the node with that tag, of all that are known."""
        if tag == self._own_tag:
            return self._own
        contact = self._find_tagged(tag)
        return None if contact is None else stamp_node_of(contact.node)

    def _find_member(self, node: int) -> Contact | None:
        if self._members is None:
            return None
        contact = self._members.find_by_stamp(node)
        return contact if contact is not None and self._is_there(contact) else None

    def _is_there(self, contact: Contact) -> bool:
        if contact.version < FIRST_VERSION:
            return False
        if contact.state in _THERE:
            return True
        assert self._members is not None
        return contact.state == LEFT and self._members.relaying.has_link(contact.node)

    def _name_listener(self, transport: str) -> str:
        name = self._names.get(transport)
        if name is None:
            name = self._names[transport] = self._transport.find_listener(transport)
        return name

    # To others

    def send(self, node: bytes, purpose: int, head: bytes, data: bytes) -> bool:
        """Say something to another node; False when it cannot be."""
        assert self._members is not None
        if not self._members.relaying.send(node, Relay(purpose, head, data), self._clock()):
            self._no_link.inc()
            return False
        if purpose != FAILED:
            self._sent.inc()
        return True

    def take_response(self, data: bytes, source: Hop, now: float) -> bool:
        """Whether a response, not yet read, is for another node's transaction; it has gone there then.

        The first branch in it is looked at, which is our Via's as we write it; who writes it otherwise has it read here
        (`take_stray`), and who puts another's there has it read, and dropped, by that node.
        """
        if not data.startswith(b"SIP/2.0 "):
            return False
        match = _BRANCH.search(data, 0, _HEAD_BYTES)
        if match is None:
            return False
        ringing = self._ringing.get(source.local) if self._ringing else None
        if ringing is not None and data[8:9] >= b"2":
            ringing.pop(match[1], None)
        return self._pass_on(match[1].decode("latin-1"), source, data)

    def take_stray(self, response: Response, branch: str, flow: Flow) -> Whose:
        """Whose a response is that no transaction here takes; another node's has gone there. What came by a relay
        stays: two nodes that are not of one mind must not pass it to each other. What this node sent before it was
        started again is nobody's."""
        tag = self.owner_of(branch)
        if tag is None:
            return Whose.OURS
        if tag == self._own_tag:
            return Whose.OURS if self.is_of_this_boot(branch) else Whose.NOBODYS
        if not isinstance(flow, RelayFlow) and self._pass_on(branch, response.source, response.write()):
            return Whose.ANOTHERS
        return Whose.NOBODYS

    def _pass_on(self, branch: str, source: Hop, data: bytes) -> bool:
        tag = self.owner_of(branch)
        if tag is None or tag == self._own_tag:
            return False
        contact = self._find_tagged(tag)
        if contact is None or not self._is_there(contact):
            return False
        return self.send(contact.node, RESPONSE, write_hop(source), data)

    def knows_branch(self, branch: str) -> bool:
        """Whether it is of the farm's making, by its looks."""
        return self.owner_of(branch) is not None

    def _find_tagged(self, tag: int) -> Contact | None:
        if self._changed:
            self._look_again()
        return self._by_tag.get(tag)

    # Of one address (transaction.layer.Elsewhere)

    def take(self, request: Request, key: str, flow: Flow, now: float) -> bool:
        """Whether a request over UDP that no transaction here takes is another node's, to which it has gone then.

        Not of REGISTER: the node that a phone registers by has its flow, and a request that comes twice is recognised
        by its Call-ID and CSeq.
        """
        if flow.transport != "UDP" or request.method == "REGISTER" or isinstance(flow, BackFlow):
            return False
        if self._changed:
            self._look_again()
        node = self._rendezvous.choose(key)
        members = self._members
        if not node or members is None or not members.relaying.has_link(node):  # ours, or nobody's
            return False
        return self.send(node, REQUEST, write_hop(request.source) + b"\n" + write_hop(flow.hop), request.write())

    # Of others (overlay.relaying.RelayUser)

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        """Another node says this."""
        try:
            first, _, second = relay.head.partition(b"\n")
            hop = read_hop(first)
            back = read_hop(second) if relay.purpose == REQUEST else hop
        except ValueError:
            self._bad.inc()
            return
        if relay.purpose == SEND:
            self._send_here(node, hop, relay, now)
        elif relay.purpose == FAILED:
            flow = self._flow_of(node, hop)
            self._note_gone(flow.name)
            self._transactions.receive_flow_failure(flow, now)
        elif relay.purpose == RESPONSE:
            self._delivered.inc()
            self._transport.receive_relayed(relay.data, hop, self._flow_of(node, hop), now)
        elif relay.purpose == REQUEST and back.transport == "UDP":
            self._delivered.inc()
            way = BackFlow(self, node, back, self._name_listener("UDP"))
            self._transport.receive_relayed(relay.data, hop, way, now)
        else:
            self._bad.inc()

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        """This was for another node, and did not leave: who waits for an answer hears so, and a response goes on from
        here."""
        self._no_link.inc()
        hop = read_hop(relay.head.partition(b"\n")[0])
        if relay.purpose == SEND:
            self._transactions.receive_flow_failure(self._flow_of(node, hop), now)
        elif relay.purpose == RESPONSE:
            self._transport.receive_relayed(relay.data, hop, self._flow_of(node, hop), now)

    def receive_link_end(self, node: bytes, now: float) -> None:
        """There is no link to that node any more. What was on its way is lost: over UDP it is sent again, and over
        streams it is as if they had broken."""
        number = stamp_node_of(node)
        if self._find_member(number) is None:  # the last way to one that has left
            self._fail_flows(number, now)
            return
        for flow in self._find_waited_on(number):
            if flow.reliable:
                self._transactions.receive_flow_failure(flow, now)

    def _note_gone(self, name: FlowName) -> None:
        """A connection of another node has ended. What nobody would hear of, an ACK say, must not go there again."""
        if name.hop.local.startswith("#"):
            if len(self._gone) >= MOST_GONE:
                del self._gone[next(iter(self._gone))]
            self._gone[name] = None

    def _flow_of(self, node: bytes, hop: Hop) -> RelayFlow:
        name = FlowName(stamp_node_of(node), hop)
        return RelayFlow(self, node, name, self._name_listener(hop.transport))

    def _send_here(self, node: bytes, hop: Hop, relay: Relay, now: float) -> None:
        """Put a message on a flow of ours. Only on one that is there: nobody has us connect to anywhere."""
        named = short_local(hop.local)
        if hop.transport == "UDP" or named.startswith("#"):
            flow = self._transport.flow_to(hop)
            if flow.send(relay.data):
                self._delivered.inc()
                if flow.breaks:
                    self._note_sender(named, node)
                    if relay.data.startswith(b"INVITE "):
                        self._note_ringing(flow.hop.local, relay.data, node)
                return
        self._no_flow.inc()
        self.send(node, FAILED, relay.head, b"")

    def _note_ringing(self, connection: str, invite: bytes, node: bytes) -> None:
        match = _BRANCH.search(invite, 0, _HEAD_BYTES)
        ringing = self._ringing.setdefault(connection, {})
        if match is not None and len(ringing) < MOST_RINGING:
            ringing[match[1]] = node

    def busy_connections(self) -> set[str]:
        """The names of our connections on which another node, that lives, waits for the answer to an INVITE."""
        return {
            connection
            for connection, ringing in self._ringing.items()
            if any(self._find_member(stamp_node_of(node)) is not None for node in ringing.values())
        }

    def _note_sender(self, connection: str, node: bytes) -> None:
        senders = self._senders.setdefault(connection, {})
        if node not in senders:
            if len(senders) >= MOST_SENDERS:
                del senders[next(iter(senders))]
            senders[node] = None

    # What ends

    def receive_connection_end(self, hop: Hop, now: float) -> None:
        """A connection of ours is gone: the nodes that sent over it hear so."""
        if not self._senders:
            return
        short = hop.short
        self._ringing.pop(hop.local, None)
        for node in self._senders.pop(short.local, ()):
            self.send(node, FAILED, write_hop(short), b"")

    def member_changed(self, contact: Contact, now: float) -> None:
        """Another node's state, address or roles. One that was started again before anybody took it for dead has lost
        its connections all the same."""
        self._changed = True
        known = self._incarnations.get(contact.node, contact.incarnation)
        self._incarnations[contact.node] = contact.incarnation
        if not self._is_there(contact):
            self._fail_flows(stamp_node_of(contact.node), now)
        elif contact.incarnation - known >= _RESTARTED:
            self._fail_flows(stamp_node_of(contact.node), now, connections=True)

    def _fail_flows(self, node: int, now: float, *, connections: bool = False) -> None:
        """All flows of a node have ended, or its `connections` alone: a NAT knows nothing of a restart."""
        for flow in self._find_waited_on(node):
            if flow.reliable if connections else self.find_heir(flow.hop) is None:
                self._transactions.receive_flow_failure(flow, now, for_good=True)

    def _find_waited_on(self, node: int) -> list[RelayFlow]:
        waited_on = self._transactions.waited_on()
        return [flow for flow in waited_on if isinstance(flow, RelayFlow) and flow.name.node == node]

    def _look_again(self) -> None:
        """Find out what follows from who is there."""
        self._changed = False
        if self._members is None:
            return
        others = sorted(self._members.others(), key=self._is_there)  # of two with one tag the one that is there
        self._by_tag = {tag_of(stamp_node_of(contact.node)): contact for contact in others}
        meeting = [
            contact.node
            for contact in others
            if contact.roles & EDGE and contact.state in (ALIVE, SUSPECT) and contact.version >= FIRST_VERSION
        ]
        self._rendezvous.set_nodes([self._members.own, *meeting])


def write_hop(hop: Hop) -> bytes:
    """A hop as the head of a relay."""
    return f"{hop.transport} {hop.host} {hop.port} {hop.local}".encode()


def read_hop(head: bytes) -> Hop:
    """The hop in the head of a relay. Raises ValueError."""
    transport, host, port_text, local = head.decode().split(" ", 3)
    port = int(port_text)
    if transport not in _TRANSPORTS or not 0 <= port <= 65_535:
        raise ValueError("no hop")
    if host:  # a name would be looked up by whoever sends there, and all others would wait for that
        try:
            inet_pton(AF_INET6 if ":" in host else AF_INET, host.partition("%")[0])
        except OSError:
            raise ValueError("no address") from None
    return Hop(transport, host, port, local)


def _find_nobody(_branch: str) -> int | None:
    return None


def _is_always(_branch: str) -> bool:
    return True
