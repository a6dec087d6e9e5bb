"""A whole proxy core between recorders: everything of `farm.proxy` and `farm.transaction`, no transport, no DNS.

The element is 192.0.2.1 and serves example.com. Who has an account, who is registered where, which static routes there
are, what a name resolves to and what the digest check says are dicts. Flows are named after the host they lead to, as
HOSTS has it: "bob: INVITE sip:bob@192.0.2.201" is an INVITE that left for bob's phone.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from farm.frontend.flow_text import tag_of
from farm.frontend.token import Tokens
from farm.proxy.admission import Admission
from farm.proxy.context import Means
from farm.proxy.dialog import contact_host, make_facts
from farm.proxy.domains import Domains
from farm.proxy.forward import Forwarder
from farm.proxy.proxy import Proxy
from farm.proxy.reach import Contact
from farm.proxy.stateless import Stateless, Whose
from farm.proxy.targets import Gruu, Located, Targets
from farm.security.credentials import Authenticated, Refused, Verdict
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.message import Message, Request, Response, make_response
from farm.sip.status import SipError
from farm.sip.uri import Uri
from farm.sip.via import Via
from farm.transaction.transaction import Flow, ServerTransaction
from tests.support.accounts import RecordedCalls
from tests.support.messages import make_request
from tests.support.recorders import PORTS, Promise, RecordedFlow, RecordedRejections, Spawner
from tests.support.script import Script

OURS = "192.0.2.1"
NODE = 1 << 40 | 1  # its number in the names of flows
OTHER_NODE = 2 << 40 | 1
HOSTS = {
    "192.0.2.101": "alice",
    "192.0.2.201": "bob",
    "192.0.2.202": "desk",
    "192.0.2.203": "mobile",
    "198.51.100.1": "gw1",
    "198.51.100.2": "gw2",
    "203.0.113.7": "stranger",
    "10.0.0.9": "trunk",
}
SECRET = bytes(32)
CALL_ID = "3848276298220188511@192.0.2.101"  # of tests/support/messages, as is the tag
ALICE_TAG = "9fxced76sl"
CHALLENGE = Refused(407, (("proxy-authenticate", 'Digest realm="example.com", nonce="n"'),), "no-credentials")


@dataclass(frozen=True)
class Bound:
    """A binding as the location service gives it."""

    uri: str
    q: int = 1000
    path: tuple[str, ...] = ()
    received: Hop | None = None
    instance: str = ""
    reg_id: int = 0
    node: int = NODE
    call_id: str = "registered"
    stamp: int = 1


class Addresses:
    """The transport, as far as it knows its own names."""

    def is_local(self, host: str, port: int | None) -> bool:
        """Our address, at the SIP port."""
        return host == OURS and port in (None, 5060)

    def sent_by(self, flow: Flow) -> str:
        """By the listener's name."""
        return flow.local_name.partition(":")[2].removesuffix(":5060")


class Element:
    """The core and what surrounds it. Change the dicts, then `inject` what arrives."""

    def __init__(
        self,
        *,
        open_farm: bool = False,
        trusted: tuple[str, ...] = (),
        redirect: bool = False,
        record_route: bool = True,
        max_breadth: int = 60,
        server_header: str = "",
        max_transactions: int = 1000,
    ) -> None:
        self.script = Script(max_transactions=max_transactions)
        self.bindings: dict[str, Sequence[Contact] | Awaitable[Sequence[Contact]]] = {}
        self.accounts: set[str] = {"sip:alice@example.com", "sip:bob@example.com"}
        self.next_hops: dict[str, list[Hop] | Promise[list[Hop]] | SipError] = {}
        self.routes: dict[str, list[str]] = {}
        self.verdict: Verdict | Awaitable[Verdict] = CHALLENGE
        self.failed_hops: list[str] = []
        self.worked_hops: list[str] = []
        self.suspects: list[str] = []
        self.gone: list[FlowName] = []
        self.dead_nodes: set[int] = set()
        self.doubted: set[int] = set()
        self.gruus: dict[str, Gruu] = {}
        self.strays: dict[str, Whose] = {}
        self.reports: list[str] = []
        self.registered: list[ServerTransaction] = []
        self.flows: dict[Hop, RecordedFlow] = {}
        self.refusing: set[str] = set()
        self.spawner = Spawner()
        self.calls = RecordedCalls()
        self.rejections = RecordedRejections(self.script.record)
        self.tokens = make_tokens()
        addresses = Addresses()
        self.domains = Domains(["example.com", "Example.NET."], addresses)
        self.forwarder = Forwarder(self.tokens, addresses, NODE, record_route=record_route, max_forwards=70)
        self.means = Means(
            transactions=self.script.layer,
            forwarder=self.forwarder,
            next_hops=self,
            flows=self,
            node=NODE,
            metrics=self.script.metrics,
            rejections=self.rejections,
            suspect=lambda uri, now: self.suspects.append(uri),
            spawn=self.spawner,
            calls=self.calls,
            clock=lambda: self.script.now,
            timer_c_seconds=185.0,
            serial_seconds=20.0,
        )
        self.admission = Admission(self.domains, self, open_farm=open_farm, trusted=trusted)
        self.targets = Targets(
            self.domains, _Locator(self), self, _Gateways(self), self, _Gruus(self.gruus), max_targets=16
        )
        stateless = Stateless(
            self.means, self.domains, self.tokens, self.admission, self.targets, self, max_breadth=max_breadth
        )
        self.proxy = Proxy(
            self.means,
            self.domains,
            self.tokens,
            self.admission,
            self.targets,
            self,
            stateless,
            redirect=redirect,
            max_breadth=max_breadth,
            server_header=server_header,
            report=self.reports.append,
        )
        self.script.layer.user = self.proxy
        self.alice = self.flow_to(Hop("UDP", "192.0.2.101", 5060))

    # The neighbours

    def flow_to(self, hop: Hop) -> RecordedFlow:
        """The transport: one flow a hop, named after its host."""
        flow = self.flows.get(hop)
        if flow is None:
            name = HOSTS.get(hop.host, hop.host) + ("" if hop.transport == "UDP" else f" by {hop.transport}")
            local = f"{hop.transport.lower()}:{OURS}:{PORTS[hop.transport]}"
            flow = self.flows[hop] = RecordedFlow(self.script.record, name, hop, local_name=local)
        flow.refusing = flow.name in self.refusing
        return flow

    def find_flow(self, name: FlowName) -> RecordedFlow | None:
        """The flows of all nodes: as good as ours, but those that are `gone` and those of `dead_nodes`."""
        if name.node in self.dead_nodes or any(name.is_same(gone) for gone in self.gone):
            return None
        known = [flow for hop, flow in self.flows.items() if hop.local and hop.short == name.hop.short]
        return self.flow_to(known[0].hop if known else name.hop)

    def doubts(self, node: int) -> bool:
        """Whether a node may be dead."""
        return node in self.doubted

    def take_stray(self, response: Response, branch: str, flow: Flow) -> Whose:
        """Whose a response is that no transaction takes: what `strays` says of its branch."""
        return self.strays.get(branch, Whose.OURS)

    def locate(self, uri: Uri, now: float, size: int) -> list[Hop] | Awaitable[list[Hop]]:
        """RFC 3263: what `next_hops` says of the host, else the host itself."""
        found = self.next_hops.get(uri.host)
        if isinstance(found, SipError):
            raise found
        if found is not None:
            return found if isinstance(found, Promise) else list(found)
        if not uri.is_sip:
            raise SipError(416, reason="unlocatable-scheme")
        transport = uri.transport or "UDP"
        return [Hop(transport, uri.maddr or uri.host, uri.port or PORTS[transport])]

    def locate_response(self, via: Via, now: float) -> list[Hop] | Awaitable[list[Hop]]:
        """RFC 3263 §5."""
        found = self.next_hops.get(via.host)
        if isinstance(found, SipError):
            raise found
        return [Hop(via.transport, via.host, via.port or 5060)] if found is None else found

    def failed(self, hop: Hop, now: float) -> None:
        """A hop failed."""
        self.failed_hops.append(HOSTS.get(hop.host, hop.host))

    def worked(self, hop: Hop) -> None:
        """A hop answered."""
        self.worked_hops.append(HOSTS.get(hop.host, hop.host))

    def exists(self, aor: str) -> bool:
        """Whether there is such an account."""
        return aor in self.accounts

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Awaitable[Verdict]:
        """The digest check: what `verdict` says."""
        assert header_name == "proxy-authorization"
        return self.verdict

    def receive_register(self, transaction: ServerTransaction, now: float) -> None:
        """The registrar: notes who came."""
        self.registered.append(transaction)
        self.script.record.note("registrar", transaction.request.uri_text)

    # The test's side

    def bind(self, aor: str, *contacts: str | Bound) -> None:
        """Register contacts for a user."""
        found = [Bound(contact) if isinstance(contact, str) else contact for contact in contacts]
        self.bindings[aor] = sorted(found, key=lambda bound: -bound.q)

    def make_route(
        self,
        call_id: str = CALL_ID,
        *,
        caller: Hop | None = None,
        callee: Hop | None = None,
        member: bool = True,
        caller_phone: str = "",
        callee_phone: str = "",
        node: int = NODE,
    ) -> str:
        """The user of our Record-Route in a dialog that alice opened with bob's phone, as the test messages have it;
        flows are of the node of that number."""
        return self.tokens.make_route(
            call_id,
            make_dialog_facts(member=member),
            Leg(None if caller is None else FlowName(node, caller), caller_phone),
            Leg(None if callee is None else FlowName(node, callee), callee_phone),
        )

    def trust_alice(self) -> None:
        """Let the digest check find that alice is who she says."""
        self.verdict = Authenticated("sip:alice@example.com")

    def inject(self, message: Request | Response, flow: RecordedFlow | None = None) -> None:
        """A message arrives, from alice unless said otherwise; the transport's note of its source is made."""
        self.script.inject_wire(message, flow or self.alice)

    def reply(
        self,
        request: Request,
        status: int,
        phrase: str = "",
        *,
        tag: str = "there",
        headers: Sequence[tuple[str, str, str]] = (),
        edit: Callable[[Response], Any] | None = None,
    ) -> None:
        """Whoever got `request` (as it left) answers it over the flow it left by."""
        response = make_response(request, status, phrase, to_tag=tag if status > 100 else "", headers=headers)
        response.cseq_method = request.method
        if edit is not None:
            edit(response)
        flow = next(flow for flow in self.flows.values() if request.write() in flow.sent)
        self.script.inject_wire(response.write(), flow)

    def call_bob(self, **changes: Any) -> Request:
        """Alice calls bob, who is registered at one phone; the INVITE as it reached him."""
        self.trust_alice()
        self.bind("sip:bob@example.com", "sip:bob@192.0.2.201")
        self.inject(make_request(**changes))
        return self.script.expect_request("bob: INVITE sip:bob@192.0.2.201")

    def after(self, seconds: float) -> None:
        """Let time pass."""
        self.script.after(seconds)


class Found(NamedTuple):
    """What the location service has of an address-of-record."""

    bindings: Sequence[Contact]
    known: bool


class _Locator:
    """The location service over `bindings`."""

    def __init__(self, element: Element) -> None:
        self._element = element

    def find(self, aor: str, now: float) -> Located | Awaitable[Located]:
        bindings = self._element.bindings.get(aor)
        if isinstance(bindings, Awaitable):
            return self._find_later(bindings)
        return Found(bindings or (), bindings is not None)

    async def _find_later(self, finding: Awaitable[Sequence[Contact]]) -> Located:
        return Found(await finding, True)


class _Gruus:
    """Temporary GRUUs by their user part."""

    def __init__(self, gruus: dict[str, Gruu]) -> None:
        self._gruus = gruus

    def open(self, user: str) -> Gruu | None:
        return self._gruus.get(user)


class _Gateways:
    """Static routes by host, gateways by number, over `routes`."""

    def __init__(self, element: Element) -> None:
        self._element = element

    def find(self, uri: Uri) -> Sequence[str]:
        routes = self._element.routes
        return routes.get(uri.host, ()) if uri.host in routes else routes.get(uri.user or "", ())


def make_tokens(secret: bytes = SECRET, node: int = NODE) -> Tokens:
    """Tokens of a node that knows itself and OTHER_NODE."""
    nodes = {tag_of(NODE): NODE, tag_of(OTHER_NODE): OTHER_NODE}
    return Tokens(secret, random.Random(7), node=node, nodes=nodes.get)


def make_dialog_facts(*, member: bool = True) -> Sequence[str]:
    """What we remember of alice's INVITE to bob, as the test messages have it."""
    request = make_request()
    request.source = Hop("UDP", "192.0.2.101", 5060)
    return make_facts(request, contact_host(request), "192.0.2.201", "192.0.2.201", member)


def without_via(message: Message) -> list[str]:
    """The header lines of a message but for its Vias."""
    return [header[2] for header in message.headers if header[0] != "via"]
