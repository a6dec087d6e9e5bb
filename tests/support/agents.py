"""A scripted SIP user agent on real sockets: it says exactly what a test wants and shows exactly what came back.

It shares no code with `farm/sip`, so that a parser's mistake cannot hide itself. Blocking, one thread, every wait with
a deadline. `Agent` speaks UDP from one port, or TCP over one connection to the node plus those the node opens to it.
It retransmits nothing by itself: over loopback nothing is lost unless the test says so.
"""

from __future__ import annotations

import hashlib
import os
import re
import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final

HASHES: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
_PARAM: Final = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


def make_token() -> str:
    """Text that occurs once: for branches, tags and Call-IDs."""
    return os.urandom(8).hex()


class Received:
    """One message as it came: first line, headers by lower-case long name in order, body; `size` as received."""

    def __init__(self, data: bytes, source: tuple[str, int], connection: socket.socket | None) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        self.text = data.decode("utf-8", "surrogateescape")
        self.source = source
        self.connection = connection
        self.size = len(data)
        lines = re.sub(r"\r\n[ \t]+", " ", head.decode("utf-8", "surrogateescape")).split("\r\n")
        self.first_line = lines[0]
        self.headers: list[tuple[str, str]] = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name = name.strip().lower()
            self.headers.append((_LONG.get(name, name), value.strip()))
        words = self.first_line.split(" ", 2)
        self.status = int(words[1]) if words[0] == "SIP/2.0" and words[1].isdigit() else 0
        self.method = "" if self.status else words[0]
        self.uri = "" if self.status else words[1]

    def all(self, name: str) -> list[str]:
        """The values of every header line of that lower-case long name."""
        return [value for held, value in self.headers if held == name]

    def first(self, name: str) -> str:
        """The value of the first header line of that name, empty when there is none."""
        values = self.all(name)
        return values[0] if values else ""

    @property
    def cseq_method(self) -> str:
        """The method in CSeq."""
        return self.first("cseq").rpartition(" ")[2]

    def is_a(self, what: int | str) -> bool:
        """Whether it is a response of that status or a request of that method."""
        return self.status == what if isinstance(what, int) else self.method == what

    def __repr__(self) -> str:
        return f"<{self.first_line} | {self.first('cseq')} | from {self.source[0]}:{self.source[1]}>"


_LONG: Final = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
    "k": "supported",
}


class Agent:
    """One scripted user agent at `host:port` (any free ones unless given), which talks to the element at `target`."""

    def __init__(
        self,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        transport: str = "udp",
        user: str = "agent",
        domain: str = "example.com",
    ) -> None:
        self.target = target
        self.transport = transport
        self.user = user
        self.domain = domain
        self.tag = make_token()
        self.seen: list[Received] = []
        self._waiting: list[Received] = []
        self._buffers: dict[socket.socket, bytes] = {}
        self._listener: socket.socket | None = None
        self._socket: socket.socket | None = None
        if transport == "udp":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            self._socket.bind((host, port))
            self.host, self.port = self._socket.getsockname()[:2]
        else:
            self._listener = socket.create_server((host, port))
            self.host, self.port = self._listener.getsockname()[:2]

    def __enter__(self) -> Agent:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all sockets."""
        for held in (self._socket, self._listener, *self._buffers):
            if held is not None:
                held.close()
        self._buffers.clear()
        self._socket = self._listener = None

    # What goes out.

    @property
    def aor(self) -> str:
        """The address-of-record this agent speaks for."""
        return f"sip:{self.user}@{self.domain}"

    @property
    def contact(self) -> str:
        """The URI under which this agent is reached."""
        suffix = "" if self.transport == "udp" else f";transport={self.transport}"
        return f"sip:{self.user}@{self.host}:{self.port}{suffix}"

    def connect(self) -> socket.socket:
        """The TCP connection to the target, opened when there is none."""
        if self._socket is None:
            self._socket = socket.create_connection(self.target, timeout=10, source_address=(self.host, 0))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._buffers[self._socket] = b""
        return self._socket

    def hang_up(self) -> None:
        """Close the TCP connection to the target; the next request opens another."""
        if self.transport != "udp" and self._socket is not None:
            self._buffers.pop(self._socket)
            self._socket.close()
            self._socket = None

    def send_bytes(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        """Send bytes as they are: one datagram, or a piece of the stream."""
        if self.transport == "udp":
            assert self._socket is not None
            self._socket.sendto(data, to or self.target)
        else:
            self.connect().sendall(data)

    def send_request(self, text: str) -> None:
        """Send the text of a request, as `make_request` writes it or as a test edited it."""
        self.send_bytes(text.encode("utf-8", "surrogateescape"))

    def make_via(self, branch: str = "") -> str:
        """A Via value of this agent with a new branch."""
        branch = branch or f"z9hG4bK{make_token()}"
        return f"SIP/2.0/{self.transport.upper()} {self.host}:{self.port};branch={branch};rport"

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
        contact: bool = True,
    ) -> str:
        """The text of a request. `to` and `sender` are whole header values where they differ from uri and own AoR."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: {via or self.make_via()}",
            "Max-Forwards: 70",
            f"From: {sender or f'<{self.aor}>;tag={self.tag}'}",
            f"To: {to or f'<{uri}>'}",
            f"Call-ID: {call_id or make_token()}",
            f"CSeq: {cseq} {method}",
        ]
        if contact and method in ("INVITE", "SUBSCRIBE", "UPDATE"):
            lines.append(f"Contact: <{self.contact}>")
        lines.extend(headers)
        if body:
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body.encode())}")
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def make_answer(
        self, request: Received, status: int, phrase: str = "", *, headers: Sequence[str] = (), tag: str = ""
    ) -> str:
        """The text of a response to a received request (RFC 3261 §8.2.6.2), with this agent's tag and Contact."""
        lines = [f"SIP/2.0 {status} {phrase or 'Scripted'}"]
        for name, value in request.headers:
            if name in ("via", "record-route", "from", "call-id", "cseq"):
                lines.append(f"{name.title()}: {value}")
            elif name == "to":
                tagged = value if ";tag=" in value or status == 100 else f"{value};tag={tag or self.tag}"
                lines.append(f"To: {tagged}")
        if 200 <= status < 300 and request.method == "INVITE":
            lines.append(f"Contact: <{self.contact}>")
        lines.extend(headers)
        lines.append("Content-Length: 0")
        return "\r\n".join(lines) + "\r\n\r\n"

    def answer(
        self, request: Received, status: int, phrase: str = "", *, headers: Sequence[str] = (), tag: str = ""
    ) -> None:
        """Answer a received request on the way it came."""
        data = self.make_answer(request, status, phrase, headers=headers, tag=tag).encode("utf-8", "surrogateescape")
        if request.connection is not None:
            request.connection.sendall(data)
        else:
            self.send_bytes(data, request.source)

    def acknowledge(self, invite: str, final: Received) -> None:
        """Send the ACK of a final response that is not 2xx: same branch, same Request-URI (§17.1.1.3)."""
        uri = invite.split(" ", 2)[1]
        via = _line_of(invite, "Via")
        self.send_request(
            self.make_request(
                "ACK",
                uri,
                to=final.first("to"),
                sender=final.first("from"),
                call_id=final.first("call-id"),
                cseq=int(final.first("cseq").split()[0]),
                via=via,
            )
        )

    def make_in_dialog(self, method: str, answered: Received, cseq: int) -> str:
        """A request in the dialog that the 2xx `answered` set up with this agent as the caller (§12.2.1.1)."""
        contact = re.search(r"<([^>]*)>", answered.first("contact"))
        assert contact is not None, f"no Contact in {answered.text}"
        routes = [f"Route: {value}" for value in reversed(answered.all("record-route"))]
        return self.make_request(
            method,
            contact.group(1),
            to=answered.first("to"),
            sender=answered.first("from"),
            call_id=answered.first("call-id"),
            cseq=cseq,
            headers=routes,
        )

    def make_cancel(self, invite: str) -> str:
        """The CANCEL of an INVITE that this agent sent (§9.1)."""
        return self.make_request(
            "CANCEL",
            invite.split(" ", 2)[1],
            to=_line_of(invite, "To"),
            sender=_line_of(invite, "From"),
            call_id=_line_of(invite, "Call-ID"),
            cseq=int(_line_of(invite, "CSeq").split()[0]),
            via=_line_of(invite, "Via"),
        )

    # What comes in.

    def receive(self, timeout: float = 5.0) -> Received | None:
        """The next message, None when none came in time."""
        deadline = time.monotonic() + timeout
        while not self._waiting:
            left = deadline - time.monotonic()
            if not self.poll(max(left, 0)) and left <= 0:
                return None
        message = self._waiting.pop(0)
        self.seen.append(message)
        return message

    def poll(self, timeout: float = 0.0) -> bool:
        """Read what has come, to be received later: a reset connection loses what was not read."""
        sockets = [held for held in (self._socket, self._listener) if held is not None]
        sockets += [held for held in self._buffers if held is not self._socket]
        ready = select.select(sockets, [], [], timeout)[0]
        for held in ready:
            self._read(held)
        return bool(ready)

    def _read(self, held: socket.socket) -> None:
        if self.transport == "udp":
            try:
                data, source = held.recvfrom(65_535)
            except ConnectionError:  # an ICMP refusal of something sent earlier
                return
            if data.strip():
                self._waiting.append(Received(data, source[:2], None))
            return
        if held is self._listener:
            connection, _ = held.accept()
            self._buffers[connection] = b""
            return
        try:
            data = held.recv(65_536)
            source = held.getpeername()[:2]
        except OSError:
            data, source = b"", ("", 0)
        if not data:
            self._buffers.pop(held)
            held.close()
            if held is self._socket:
                self._socket = None
            return
        messages, self._buffers[held] = split_stream(self._buffers[held] + data)
        self._waiting.extend(Received(message, source, held) for message in messages)

    @property
    def connected(self) -> bool:
        """Whether the TCP connection to the target is open, as far as has been read."""
        return self._socket is not None

    def expect(self, what: int | str, timeout: float = 10.0, *, method: str = "", final: bool = False) -> Received:
        """The next message that is that status or that method; what comes before it is passed over.

        With `method`, a response must also be to that method. With `final`, any final response that is not the wanted
        one fails at once. Fails with all that came instead.
        """
        deadline = time.monotonic() + timeout
        came: list[Received] = []
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is None:
                break
            if message.is_a(what) and (not method or message.cseq_method == method):
                return message
            came.append(message)
            if final and message.status >= 200:
                break
        raise AssertionError(f"{self.user} waited for {what}, got {came or 'nothing'}")

    def expect_final(self, timeout: float = 10.0, *, method: str = "") -> Received:
        """The next final response, of that method when one is given."""
        deadline = time.monotonic() + timeout
        came: list[Received] = []
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            if message is None:
                break
            if message.status >= 200 and (not method or message.cseq_method == method):
                return message
            came.append(message)
        raise AssertionError(f"{self.user} waited for a final response, got {came or 'nothing'}")

    def expect_nothing(self, what: int | str, seconds: float) -> None:
        """Fails when such a message comes within that time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            message = self.receive(left)
            assert message is None or not message.is_a(what), f"{self.user} got {message}"

    # What user agents do again and again.

    def register(
        self,
        *,
        contact: str | None = None,
        expires: int = 3600,
        password: str = "",
        algorithm: str = "",
        call_id: str = "",
        cseq: int = 1,
        headers: Sequence[str] = (),
    ) -> Received:
        """Register this agent's contact (or the given header value; empty: fetch), with a digest when challenged and a
        password is given; answers the final response."""
        lines = list(headers)
        value = f"<{self.contact}>" if contact is None else contact
        if value:
            lines += [f"Contact: {value}", f"Expires: {expires}"]
        call_id = call_id or make_token()
        return self.request_with_digest(
            "REGISTER",
            f"sip:{self.domain}",
            to=f"<{self.aor}>",
            password=password,
            algorithm=algorithm,
            call_id=call_id,
            cseq=cseq,
            headers=lines,
        )

    def request_with_digest(
        self,
        method: str,
        uri: str,
        *,
        to: str = "",
        password: str = "",
        algorithm: str = "",
        call_id: str = "",
        cseq: int = 1,
        headers: Sequence[str] = (),
        body: str = "",
    ) -> Received:
        """Send a request and, when it is challenged with 401 or 407 and a password is given, send it again with the
        digest; answers the final response."""
        call_id = call_id or make_token()
        text = self.make_request(method, uri, to=to, call_id=call_id, cseq=cseq, headers=headers, body=body)
        self.send_request(text)
        final = self.expect_final(method=method)
        if final.status not in (401, 407) or not password:
            return final
        if method == "INVITE":
            self.acknowledge(text, final)
        line = self.make_credentials(final, method, uri, password, algorithm=algorithm)
        text = self.make_request(
            method, uri, to=to, call_id=call_id, cseq=cseq + 1, headers=[*headers, line], body=body
        )
        self.send_request(text)
        return self.expect_final(method=method)

    def make_credentials(
        self,
        challenge: Received,
        method: str,
        uri: str,
        password: str,
        *,
        algorithm: str = "",
        user: str = "",
        count: int = 1,
    ) -> str:
        """The Authorization or Proxy-Authorization line that answers a 401 or 407 (RFC 7616 §3.4)."""
        asked, answer = (
            ("www-authenticate", "Authorization")
            if challenge.status == 401
            else ("proxy-authenticate", "Proxy-Authorization")
        )
        for value in challenge.all(asked):
            params = {name.lower(): quoted or bare for name, quoted, bare in _PARAM.findall(value)}
            offered = params.get("algorithm", "MD5")
            if offered in HASHES and algorithm in ("", offered):
                break
        else:
            raise AssertionError(f"no challenge for {algorithm or 'a known algorithm'} in {challenge.text}")

        def digest(text: str) -> str:
            return hashlib.new(HASHES[offered], text.encode()).hexdigest()

        user = user or self.user
        cnonce = make_token()
        secret = digest(f"{user}:{params['realm']}:{password}")
        request = digest(f"{method}:{uri}")
        response = digest(f"{secret}:{params['nonce']}:{count:08x}:{cnonce}:auth:{request}")
        opaque = f', opaque="{params["opaque"]}"' if "opaque" in params else ""
        return (
            f'{answer}: Digest username="{user}", realm="{params["realm"]}", nonce="{params["nonce"]}", uri="{uri}", '
            f'response="{response}", algorithm={offered}, cnonce="{cnonce}", qop=auth, nc={count:08x}{opaque}'
        )


def make_call(caller: Agent, callee: Agent) -> None:
    """One whole call between two agents through the node: INVITE 180 200 ACK, BYE 200."""
    caller.send_request(caller.make_request("INVITE", callee.aor))
    invite = callee.expect("INVITE")
    callee.answer(invite, 180, "Ringing")
    caller.expect(180)
    callee.answer(invite, 200, "OK")
    answered = caller.expect(200, method="INVITE")
    caller.send_request(caller.make_in_dialog("ACK", answered, 1))
    callee.expect("ACK")
    caller.send_request(caller.make_in_dialog("BYE", answered, 2))
    callee.answer(callee.expect("BYE"), 200, "OK")
    caller.expect(200, method="BYE")


def _line_of(text: str, name: str) -> str:
    found = re.search(rf"^{name}: (.*?)\r$", text, re.MULTILINE)
    assert found is not None, f"no {name} in {text}"
    return found.group(1)


def split_stream(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages at the start of a stream, framed by Content-Length (RFC 3261 §18.3), and what is left."""
    messages: list[bytes] = []
    while True:
        data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return messages, data
        length = re.search(rb"\r\n(?:content-length|l)[ \t]*:[ \t]*(\d+)", data[:end], re.IGNORECASE)
        size = end + 4 + (int(length.group(1)) if length else 0)
        if len(data) < size:
            return messages, data
        messages.append(data[:size])
        data = data[size:]
