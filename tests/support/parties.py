"""Scripted parties in made-up time: callers, callees and registering phones on hosts of the in-memory network.

A `Party` says exactly what a test wants and shows exactly what came. Waiting lets the network's time pass, so a
scenario reads from top to bottom as the conversation goes. `expect` is strict: the next message that is news must be
the wanted one; a 100 and exact repetitions are no news. A party retransmits nothing by itself (`robots.py` has those
that do) and shares no code with `farm/sip`, so that a mistake there cannot hide itself.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.protocol import DatagramProtocol

from tests.support.agents import Received
from tests.support.digest import answer_challenge
from tests.support.network import Host
from tests.support.party_streams import Accepting, Stream, dial

Endpoint = tuple[str, int]
Reply = Callable[[bytes], object]

_URI = re.compile(r"<([^>]*)>")


class Message(Received):
    """A message that came or went. `reply` sends bytes back on the way it came."""

    def __init__(self, data: bytes, source: Endpoint = ("", 0), reply: Reply | None = None, at: float = 0.0) -> None:
        super().__init__(data, source, None)
        self.data = data
        self.reply = reply
        self.at = at

    @property
    def tag(self) -> str:
        """The tag in To."""
        return tag_of(self.first("to"))

    @property
    def contact(self) -> str:
        """The URI of the first Contact."""
        return uri_of(self.first("contact"))

    @property
    def cseq(self) -> int:
        """The number in CSeq."""
        return int(self.first("cseq").split()[0])


class Party:
    """One user agent: `user` of `domain` on `host`, who sends to the element at `target`."""

    def __init__(
        self,
        host: Host,
        user: str,
        *,
        target: Endpoint = ("192.0.2.1", 5060),
        transport: str = "udp",
        port: int = 5060,
        domain: str = "example.com",
        password: str = "",
    ) -> None:
        self.host = host
        self.network = host.network
        self.user = user
        self.domain = domain
        self.password = password
        self.target = target
        self.transport = transport
        self.address = host.addresses[0]
        self.port = port
        self.received: list[Message] = []  # all that came
        self.tag = f"{user}-tag"
        self.algorithm = ""  # of the challenges, the first one unless named
        self._news: list[Message] = []
        self._seen: set[bytes] = set()
        self._rng = random.Random(f"{user} {self.address} {port}")
        self._stream: Stream | None = None
        self._datagrams: Any = None
        if transport == "udp":
            self._datagrams = host.listenUDP(port, _Datagrams(self), self.address, 65_535)
        elif transport == "tcp":
            host.listenTCP(port, Accepting(self), interface=self.address)

    def __repr__(self) -> str:
        return f"<{self.user} at {self.address}>"

    @property
    def aor(self) -> str:
        """The address-of-record."""
        return f"sip:{self.user}@{self.domain}"

    @property
    def sent_by(self) -> str:
        """Address and port as SIP writes them; a page in a browser knows neither (RFC 7118 §5)."""
        if self.transport in ("ws", "wss"):
            return f"{self.user}.invalid"
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def contact(self) -> str:
        """The URI of this very phone."""
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.user}@{self.sent_by}{suffix}"

    def make_token(self) -> str:
        """Text that occurs once."""
        return f"{self._rng.getrandbits(64):016x}"

    # Out

    def send(self, data: str | bytes) -> Message:
        """Send to the target; answers what was sent, to be read as what comes is."""
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        self.write(data)
        return Message(data, at=self.network.clock.seconds())

    def write(self, data: bytes) -> None:
        """Send bytes that need not be a message."""
        if self.transport == "udp":
            self._datagrams.write(data, self.target)
        else:
            self.connect().write(data)

    def connect(self) -> Stream:
        """The connection to the target, made when there is none."""
        if self._stream is None or self._stream.ended:
            self._stream = dial(self)
        return self._stream

    def leave_connection(self) -> None:
        """Open another connection for what is sent next; the old one stays, and what comes over it is taken."""
        self._stream = None

    def disconnect(self) -> None:
        """Close the connection to the target."""
        assert self._stream is not None
        self._stream.transport.loseConnection()
        self.network.run(0.1)

    def go_away(self) -> None:
        """Read and say nothing more, as a phone without power."""
        self.host.power_off()

    def make_via(self, branch: str = "") -> str:
        """A Via value with a new branch."""
        branch = branch or f"z9hG4bK{self.make_token()}"
        return f"SIP/2.0/{self.transport.upper()} {self.sent_by};branch={branch};rport"

    def make_request(
        self,
        method: str,
        uri: str,
        *,
        to: str = "",
        sender: str = "",
        call_id: str = "",
        cseq: int = 1,
        via: str = "",
        headers: Sequence[str] = (),
        body: str = "",
        max_forwards: int = 70,
    ) -> str:
        """The text of a request. `to` and `sender` are whole header values where they differ from uri and own AoR."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: {via or self.make_via()}",
            f"Max-Forwards: {max_forwards}",
            f"From: {sender or f'<{self.aor}>;tag={self.tag}'}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id or self.make_token()}",
            f"CSeq: {cseq} {method}",
        ]
        if method in ("INVITE", "SUBSCRIBE", "UPDATE", "REFER"):
            lines.append(f"Contact: <{self.contact}>")
        lines.extend(headers)
        lines.append(f"Content-Length: {len(body.encode())}")
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def request(self, method: str, uri: str, **parts: Any) -> Message:
        """Send a request, once; `parts` as of `make_request`."""
        return self.send(self.make_request(method, uri, **parts))

    def ask(self, method: str, uri: str, **parts: Any) -> Message:
        """Send a request, with credentials when this party has a password: the first one is challenged with 407."""
        sent = self.request(method, uri, **parts)
        if not self.password:
            return sent
        return self.ask_again(sent, self.expect(407), **parts)

    def ask_again(self, sent: Message, challenge: Message, **parts: Any) -> Message:
        """Send a challenged request again with credentials."""
        if sent.method == "INVITE":
            self.acknowledge(sent, challenge)
        headers = [*parts.pop("headers", ()), self.make_credentials(sent, challenge)]
        parts.update(call_id=sent.first("call-id"), cseq=sent.cseq + 1, headers=headers)
        return self.request(sent.method, sent.uri, **parts)

    def make_credentials(
        self, sent: Message, challenge: Message, *, username: str = "", password: str = "", count: int = 1
    ) -> str:
        """The header line that answers the challenge in a 401 or 407."""
        pair = ("www-authenticate", "Authorization")
        name, answer = pair if challenge.status == 401 else ("proxy-authenticate", "Proxy-Authorization")
        value = next(value for value in challenge.all(name) if self.algorithm in value)
        text = answer_challenge(
            value,
            username or self.user,
            password or self.password,
            method=sent.method,
            uri=sent.uri,
            count=count,
        )
        return f"{answer}: {text}"

    def register(self, *, contact: str | None = None, expires: int = 3600, **parts: Any) -> Message:
        """Register this phone (or the given Contact value), with credentials where there is a password; the 200."""
        headers = [f"Contact: {f'<{self.contact}>' if contact is None else contact}", f"Expires: {expires}"]
        headers += parts.pop("headers", ())
        parts = {"to": f"<{self.aor}>", "headers": headers, **parts}
        sent = self.request("REGISTER", f"sip:{self.domain}", **parts)
        if self.password:
            self.ask_again(sent, self.expect(401), **parts)
        return self.expect(200)

    def acknowledge(self, invite: Message, final: Message) -> None:
        """The ACK of a final response that is not 2xx: same branch, same Request-URI (§17.1.1.3)."""
        routes = [f"Route: {value}" for value in invite.all("route")]
        self.send(self._make_follower(invite, "ACK", final.first("to"), routes))

    def cancel(self, invite: Message) -> Message:
        """The CANCEL of an INVITE (§9.1)."""
        routes = [f"Route: {value}" for value in invite.all("route")]
        return self.send(self._make_follower(invite, "CANCEL", invite.first("to"), routes))

    def _make_follower(self, invite: Message, method: str, to: str, headers: Sequence[str]) -> str:
        return self.make_request(
            method,
            invite.uri,
            via=invite.first("via"),
            sender=invite.first("from"),
            to=to,
            call_id=invite.first("call-id"),
            cseq=invite.cseq,
            headers=headers,
        )

    def make_answer(
        self, request: Message, status: int, *, tag: str = "", headers: Sequence[str] = (), body: str = ""
    ) -> str:
        """The text of a response (§8.2.6.2) with this party's tag, and its Contact where a dialog begins."""
        lines = [f"SIP/2.0 {status} Scripted"]
        for name, value in request.headers:
            if name in ("via", "record-route", "from", "call-id", "cseq"):
                lines.append(f"{name}: {value}")
            elif name == "to":
                lines.append(f"to: {value}" + ("" if tag_of(value) or status == 100 else f";tag={tag or self.tag}"))
        if 100 < status < 300 and request.method in ("INVITE", "SUBSCRIBE", "UPDATE"):
            lines.append(f"Contact: <{self.contact}>")
        lines.extend(headers)
        lines.append(f"Content-Length: {len(body.encode())}")
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def answer(self, request: Message, status: int, **parts: Any) -> Message:
        """Answer a request on the way it came; answers what was sent."""
        data = self.make_answer(request, status, **parts).encode("utf-8", "surrogateescape")
        assert request.reply is not None
        request.reply(data)
        return Message(data)

    def repeat(self, request: Message, answer: Message) -> None:
        """Send an answer once more."""
        assert request.reply is not None
        request.reply(answer.data)

    # In

    def receive(self, data: bytes, source: Endpoint, reply: Reply) -> None:
        """A message has come."""
        message = Message(data, source, reply, self.network.clock.seconds())
        self.received.append(message)
        if data not in self._seen:
            self._seen.add(data)
            self._news.append(message)

    def wait(self, within: float = 10.0, *, trying: bool = False) -> Message | None:
        """The next news, None when there is none in time; a 100 is news when asked for."""
        if not trying:
            self._news = [message for message in self._news if message.status != 100]
        if not self.network.run_until(lambda: self._has_news(trying), within):
            return None
        while not trying and self._news[0].status == 100:
            del self._news[0]
        return self._news.pop(0)

    def _has_news(self, trying: bool) -> bool:
        return any(trying or message.status != 100 for message in self._news)

    def expect(self, what: int | str, *, within: float = 10.0, method: str = "") -> Message:
        """The next news, which must be that status or that method, and in answer to `method` when that is given."""
        message = self.wait(within, trying=what == 100)
        if message is None or not message.is_a(what) or (method and message.cseq_method != method):
            raise AssertionError(f"{self.user} waited for {what} {method}, got {message}; so far {self.received}")
        return message

    def expect_nothing(self, seconds: float) -> None:
        """Fails when there is news within that time."""
        message = self.wait(seconds)
        assert message is None, f"{self.user} expected nothing, got {message}"

    def count(self, what: int | str, *, method: str = "") -> int:
        """How many such messages came, repetitions included."""
        return sum(message.is_a(what) and (not method or message.cseq_method == method) for message in self.received)


class Dialog:
    """One side of a dialog (§12): what its next request is made of."""

    def __init__(
        self, party: Party, call_id: str, local: str, remote: str, target: str, routes: list[str], cseq: int
    ) -> None:
        self.party = party
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.target = target
        self.routes = routes
        self.cseq = cseq

    @classmethod
    def of_caller(cls, party: Party, answered: Message) -> Dialog:
        """From the 2xx (§12.1.2)."""
        routes = [value for line in reversed(answered.all("record-route")) for value in reversed(line.split(", "))]
        first, to, call_id = answered.first("from"), answered.first("to"), answered.first("call-id")
        return cls(party, call_id, first, to, answered.contact, routes, answered.cseq)

    @classmethod
    def of_callee(cls, party: Party, invite: Message, answered: Message) -> Dialog:
        """From the INVITE and our answer (§12.1.1)."""
        routes = [value for line in invite.all("record-route") for value in line.split(", ")]
        to, first, call_id = answered.first("to"), invite.first("from"), invite.first("call-id")
        return cls(party, call_id, to, first, invite.contact, routes, 100)

    def send(self, method: str, *, cseq: int = 0, headers: Sequence[str] = ()) -> Message:
        """Send a request in the dialog; an ACK keeps the CSeq that is given."""
        if not cseq:
            self.cseq += 1
        return self.party.request(
            method,
            self.target,
            sender=self.local,
            to=self.remote,
            call_id=self.call_id,
            cseq=cseq or self.cseq,
            headers=[*[f"Route: {value}" for value in self.routes], *headers],
        )

    def acknowledge(self) -> Message:
        """The ACK of the 2xx that made or changed the dialog (§13.2.2.4)."""
        return self.send("ACK", cseq=self.cseq)


def set_up_call(caller: Party, callee: Party, uri: str = "") -> tuple[Dialog, Dialog]:
    """INVITE, 180, 200, ACK: both sides of the dialog that there is now."""
    caller.ask("INVITE", uri or callee.aor)
    invite = callee.expect("INVITE")
    callee.answer(invite, 180)
    caller.expect(180)
    answered = callee.answer(invite, 200)
    ours = Dialog.of_caller(caller, caller.expect(200))
    ours.acknowledge()
    callee.expect("ACK")
    return ours, Dialog.of_callee(callee, invite, answered)


def exchange(one: Dialog, other: Dialog, method: str) -> Message:
    """A request in the dialog, answered 200; an INVITE is acknowledged. Answers the request as it arrived."""
    one.send(method)
    request = other.party.expect(method)
    other.party.answer(request, 200)
    one.party.expect(200, method=method)
    if method == "INVITE":
        one.acknowledge()
        other.party.expect("ACK")
    return request


def tag_of(value: str) -> str:
    """The tag in a From or To value."""
    found = re.search(r";tag=([^;>\s]+)", value)
    return found[1] if found else ""


def uri_of(value: str) -> str:
    """The URI in the angle brackets of a header value."""
    found = _URI.search(value)
    assert found is not None, f"no URI in {value!r}"
    return found[1]


class _Datagrams(DatagramProtocol):
    """A party's UDP socket."""

    def __init__(self, party: Party) -> None:
        self._party = party

    def datagramReceived(self, datagram: bytes, addr: Endpoint) -> None:
        write = self.transport.write  # type: ignore[union-attr]
        if datagram.strip():
            self._party.receive(datagram, addr, lambda data: write(data, addr))
