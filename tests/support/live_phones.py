"""Scripted phones on real sockets, however they are connected, that speak to a farm of several nodes as one element.

A `LivePhone` is an `Agent` over UDP, UDP from behind a NAT (it names an address that nobody reaches), TCP, TLS,
WebSocket or secure WebSocket. It may turn to another node at any time: over UDP its next datagram goes there, otherwise
it opens another connection and keeps or closes the old one. `LiveDialog` is one side of a call that is up.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Sequence
from typing import Final

from tests.support.agents import Agent, Received, make_token, split_stream
from tests.support.faces import FARM_NAME, check_request, check_response
from tests.support.web_sockets import BINARY, CLOSE, PING, PONG, TEXT, make_frame, make_upgrade, split_frames

PRIVATE: Final = "10.77.1.2:5062"  # what a phone behind a NAT believes that it is
PORTS: Final = {"udp": 5060, "nat": 5060, "tcp": 5060, "tls": 5061, "ws": 8080, "wss": 8443}
REFUSED: Final = (404, 480)


def make_listeners(host: str) -> list[str]:
    """What a node listens to, for every sort of phone."""
    return [f"{how}:{host}:{port}" for how, port in PORTS.items() if how != "nat"]


class WebSocket:
    """A connection to a WebSocket listener, which is read and written as if it were a stream of SIP."""

    def __init__(self, held: socket.socket) -> None:
        self._held = held
        held.sendall(make_upgrade())
        data = b""
        while b"\r\n\r\n" not in data:
            more = held.recv(4096)
            assert more, data
            data += more
        head, _, self._data = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    def fileno(self) -> int:
        """For `select`."""
        return self._held.fileno()

    def getpeername(self) -> tuple[str, int]:
        """The other end."""
        host, port = self._held.getpeername()[:2]
        return host, port

    def setblocking(self, blocking: bool) -> None:
        """As a socket's."""
        self._held.setblocking(blocking)

    def sendall(self, data: bytes) -> None:
        """One frame with that text."""
        self._held.sendall(make_frame(data))

    def recv(self, size: int) -> bytes:
        """What the next frames hold; empty at the end. Raises BlockingIOError, or its like, when there is none yet."""
        data = self._held.recv(size)
        if not data:
            return b""
        frames, self._data = split_frames(self._data + data)
        texts = [content for kind, content in frames if kind in (TEXT, BINARY)]
        for kind, content in frames:
            if kind == PING:
                self._held.sendall(make_frame(content, PONG))
            elif kind == CLOSE:
                return b""
        if not texts:
            raise BlockingIOError
        return b"".join(texts)

    def close(self) -> None:
        """Without a word."""
        self._held.close()


class LivePhone(Agent):
    """A phone at `host` that speaks to the node at `node`; `how` is a transport, or "nat"."""

    def __init__(self, node: str, host: str, user: str, how: str) -> None:
        super().__init__((node, PORTS[how]), host=host, user=user, transport="udp" if how == "nat" else how)
        self.how = how
        self.instance = ""  # of which its Contact tells, without <>
        self.lost = 0  # connections to a node that have ended
        if self._listener is not None:  # it is reached over what it has opened, or not at all
            self._listener.close()
            self._listener = None

    def __enter__(self) -> LivePhone:
        return self

    @property
    def sent_by(self) -> str:
        """Its address as it believes to be; a page in a browser knows none."""
        if self.transport in ("ws", "wss"):
            return f"{self.user}.invalid"
        return PRIVATE if self.how == "nat" else f"{self.host}:{self.port}"

    @property
    def contact(self) -> str:
        """The URI of this very phone."""
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.user}@{self.sent_by}{suffix}"

    def make_via(self, branch: str = "") -> str:
        """With the address that it believes to have."""
        branch = branch or f"z9hG4bK{make_token()}"
        return f"SIP/2.0/{self.transport.upper()} {self.sent_by};branch={branch};rport"

    def turn_to(self, node: str, *, keep: bool = True) -> None:
        """Speak to another node from now on; whether to keep the connection to the last one open."""
        self.target = (node, PORTS[self.how])
        if not keep:
            self.hang_up()
        elif self.transport != "udp":
            self._socket = None  # it stays among those that are read

    def connect(self) -> socket.socket:
        """The connection to the target, opened when there is none."""
        if self._socket is None:
            held = socket.create_connection(self.target, timeout=10, source_address=(self.host, 0))
            held.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.transport in ("tls", "wss"):
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                held = context.wrap_socket(held, server_hostname=FARM_NAME)
            stream: object = WebSocket(held) if self.transport in ("ws", "wss") else held
            assert isinstance(stream, socket.socket | WebSocket)
            self._socket = stream  # type: ignore[assignment]
            self._buffers[self._socket] = b""  # type: ignore[index]
        return self._socket  # type: ignore[return-value]

    def _read(self, held: socket.socket) -> None:
        """All that is there, since what is deciphered already is not seen by `select`."""
        if self.transport in ("udp", "tcp"):
            connected = self.connected
            super()._read(held)
            self.lost += connected and not self.connected
            return
        source, data, ended = ("", 0), b"", False
        held.setblocking(False)
        try:
            source = held.getpeername()[:2]
            while more := held.recv(65_536):
                data += more
            ended = True
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError:
            ended = True
        messages, left = split_stream(self._buffers.pop(held) + data)
        self._waiting.extend(Received(message, source, held) for message in messages)
        if not ended:
            held.setblocking(True)
            self._buffers[held] = left
            return
        held.close()
        if held is self._socket:
            self._socket = None
            self.lost += 1

    # What phones do

    def enter(self, *, cseq: int = 1, password: str = "") -> Received:
        """Register, once with each node that it turns to; the 200."""
        value = f"<{self.contact}>" + (f';+sip.instance="<{self.instance}>"' if self.instance else "")
        answer = self.register(contact=value, call_id=f"registration-of-{self.user}", cseq=cseq, password=password)
        assert answer.status == 200, answer.text
        return answer

    def refuse(self, caller: Agent, status: int) -> None:
        """Be called, and refuse."""
        sent = caller.make_request("INVITE", self.aor)
        caller.send_request(sent)
        self.answer(self.expect("INVITE"), status)
        caller.acknowledge(sent, caller.expect(status))
        self.expect("ACK")


class LiveDialog:
    """One side of a dialog: what it says, and where that goes."""

    def __init__(
        self, phone: Agent, call_id: str, local: str, remote: str, target: str, routes: Sequence[str], cseq: int
    ) -> None:
        self.phone = phone
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.target = target
        self.routes = list(routes)
        self.cseq = cseq

    @classmethod
    def of_caller(cls, phone: Agent, answered: Received) -> LiveDialog:
        """From the 2xx (RFC 3261 §12.1.2)."""
        first, to = answered.first("from"), answered.first("to")
        routes = [value for line in reversed(answered.all("record-route")) for value in reversed(line.split(", "))]
        cseq = int(answered.first("cseq").split()[0])
        return cls(phone, answered.first("call-id"), first, to, _uri_of(answered.first("contact")), routes, cseq)

    @classmethod
    def of_callee(cls, phone: Agent, invite: Received) -> LiveDialog:
        """From the INVITE that the phone has answered with its tag (§12.1.1)."""
        routes = [value for line in invite.all("record-route") for value in line.split(", ")]
        local = f"{invite.first('to')};tag={phone.tag}"
        target = _uri_of(invite.first("contact"))
        return cls(phone, invite.first("call-id"), local, invite.first("from"), target, routes, 100)

    def make(self, method: str, *, cseq: int = 0) -> str:
        """The text of the next request in the dialog; an ACK keeps the CSeq that is given."""
        if not cseq:
            self.cseq += 1
        return self.phone.make_request(
            method,
            self.target,
            sender=self.local,
            to=self.remote,
            call_id=self.call_id,
            cseq=cseq or self.cseq,
            headers=[f"Route: {value}" for value in self.routes],
        )

    def send(self, method: str) -> None:
        """Send the next request in the dialog."""
        self.phone.send_request(self.make(method))

    def acknowledge(self) -> None:
        """The ACK of the 2xx that made or changed the dialog (§13.2.2.4)."""
        self.phone.send_request(self.make("ACK", cseq=self.cseq))


def set_up(caller: Agent, callee: Agent) -> tuple[LiveDialog, LiveDialog]:
    """A call that is up, each message of which shows one element."""
    caller.send_request(caller.make_request("INVITE", callee.aor))
    invite = callee.expect("INVITE")
    check_request(invite)
    callee.answer(invite, 180)
    check_response(caller.expect(180, final=True))
    callee.answer(invite, 200)
    answered = caller.expect(200, method="INVITE", final=True)
    check_response(answered)
    ours = LiveDialog.of_caller(caller, answered)
    ours.acknowledge()
    check_request(callee.expect("ACK"), recorded=False)
    return ours, LiveDialog.of_callee(callee, invite)


def exchange(one: LiveDialog, other: LiveDialog, method: str) -> Received:
    """A request in the dialog, answered 200, each message of which shows one element; an INVITE is acknowledged."""
    one.send(method)
    request = other.phone.expect(method)
    check_request(request, recorded=False)
    other.phone.answer(request, 200)
    check_response(one.phone.expect(200, method=method, final=True), recorded=False)
    if method == "INVITE":
        one.acknowledge()
        check_request(other.phone.expect("ACK"), recorded=False)
    return request


def _uri_of(value: str) -> str:
    found = re.search(r"<([^>]*)>", value)
    assert found is not None, f"no URI in {value!r}"
    return found[1]
