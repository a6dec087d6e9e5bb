"""Steady traffic over UDP from clients that go to another server when one fails them, as RFC 3263 §4.3 wants it.

Phones register at a steady rate, and users that are registered are called at another, each time through the next of
the farm's nodes. A request is sent again as RFC 3261 wants; a server that answers 503, or nothing for two seconds, is
left for the next one; any other refusal is final. What is counted as failed is what such a client could not bring to
its end: a registration without a 200, a user not found although registered, a call not set up, a BYE not answered. One
thread, one socket for the phones and one for the callers.
"""

from __future__ import annotations

import heapq
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from tests.support.agents import Received, make_token

RESEND_SECONDS: Final = (0.5, 1.0, 2.0, 4.0)
SILENT_SECONDS: Final = 2.0
RINGING_SECONDS: Final = 8.0
LONGEST_SECONDS: Final = 32.0
_TALK_SECONDS: Final = 0.2


class _Try:
    """One registration or call: where it is now, and what it last sent."""

    def __init__(self, kind: str, user: str, server: int, now: float) -> None:
        self.kind = kind
        self.user = user
        self.server = server
        self.call_id = make_token()
        self.cseq = 0
        self.began = now
        self.asked = 0.0
        self.sent = 0
        self.progress = False
        self.request = b""
        self.target: tuple[str, int] = ("", 0)


class Traffic:
    """Registrations and calls through `servers` until `stop`; the phones are at `phone_host`, port 5060."""

    def __init__(
        self,
        servers: Sequence[tuple[str, int]],
        phone_host: str,
        caller_host: str,
        *,
        registers_per_second: float,
        calls_per_second: float,
    ) -> None:
        self.registered: list[str] = []
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self._servers = list(servers)
        self._phone_host = phone_host
        self._caller_host = caller_host
        self._rates = {"register": registers_per_second, "call": calls_per_second}
        self._tries: dict[str, _Try] = {}
        self._answers: dict[str, Received] = {}  # the 200s of calls that are being talked on
        self._due: list[tuple[float, int, str, int]] = []
        self._serial = 0
        self._stopping = threading.Event()
        self._phone = _bind(phone_host, 5060)
        self._caller = _bind(caller_host, 5060)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Begin nothing new, bring to an end what has begun, and close."""
        self._stopping.set()
        self._thread.join(LONGEST_SECONDS + 10)
        self._phone.close()
        self._caller.close()
        assert not self._thread.is_alive()

    def __repr__(self) -> str:
        return f"<{dict(self.counts)}, slowest {self.slowest:.2f} s, {len(self.failures)} failed: {self.failures[:5]}>"

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self.failures.append(f"the generator failed: {error!r}")
            raise

    def _loop(self) -> None:
        begun = time.monotonic()
        made = dict.fromkeys(self._rates, 0)
        while not self._stopping.is_set() or self._tries:
            for ready in select.select([self._phone, self._caller], [], [], 0.005)[0]:
                self._read(ready)
            now = time.monotonic()
            for kind, rate in self._rates.items():
                if not self._stopping.is_set() and made[kind] < (now - begun) * rate:
                    made[kind] += 1
                    self._begin(kind, made[kind], now)
            while self._due and self._due[0][0] <= now:
                _, _, call_id, cseq = heapq.heappop(self._due)
                work = self._tries.get(call_id)
                if work is not None and work.cseq == cseq:
                    self._wake(work, now)

    def _begin(self, kind: str, number: int, now: float) -> None:
        if kind == "call" and not self.registered:
            return
        user = f"t{number}" if kind == "register" else self.registered[number * 7919 % len(self.registered)]
        work = _Try(kind, user, number % len(self._servers), now)
        self._tries[work.call_id] = work
        self._ask(work, "REGISTER" if kind == "register" else "INVITE", now)

    # Out

    def _ask(self, work: _Try, method: str, now: float, answered: Received | None = None) -> None:
        """A new request of a try, to its present server or along the recorded route."""
        work.cseq += 1
        host = self._phone_host if method == "REGISTER" else self._caller_host
        uri = "sip:example.com" if method == "REGISTER" else f"sip:{work.user}@example.com"
        work.target = self._servers[work.server]
        lines = [f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{make_token()};rport", "Max-Forwards: 70"]
        if answered is None:
            sender = work.user if method == "REGISTER" else "caller"
            lines.append(f"From: <sip:{sender}@example.com>;tag={work.call_id}")
            lines.append(f"To: <sip:{work.user}@example.com>")
        else:
            found = re.search(r"<([^>]*)>", answered.first("contact"))
            assert found is not None
            uri = found.group(1)
            lines += [f"Route: {value}" for value in reversed(answered.all("record-route"))]
            lines += [f"From: {answered.first('from')}", f"To: {answered.first('to')}"]
        cseq = 1 if method == "ACK" else work.cseq
        lines += [f"Call-ID: {work.call_id}", f"CSeq: {cseq} {method}"]
        if method in ("REGISTER", "INVITE"):
            lines.append(f"Contact: <sip:{work.user if method == 'REGISTER' else 'caller'}@{host}:5060>")
        if method == "REGISTER":
            lines.append("Expires: 3600")
        text = "\r\n".join([f"{method} {uri} SIP/2.0", *lines, "Content-Length: 0"]) + "\r\n\r\n"
        if method == "ACK":
            work.cseq -= 1
            self._caller.sendto(text.encode(), work.target)
            return
        work.request = text.encode()
        work.asked, work.sent, work.progress = now, 0, False
        self._send(work, now)

    def _send(self, work: _Try, now: float) -> None:
        wire = self._phone if work.kind == "register" else self._caller
        try:
            wire.sendto(work.request, work.target)
        except OSError:  # the refusal of an earlier packet
            self.counts["refused"] += 1
        wait = RESEND_SECONDS[min(work.sent, len(RESEND_SECONDS) - 1)]
        work.sent += 1
        self._wake_at(work, now + wait)

    def _wake_at(self, work: _Try, when: float) -> None:
        self._serial += 1
        heapq.heappush(self._due, (when, self._serial, work.call_id, work.cseq))

    def _wake(self, work: _Try, now: float) -> None:
        """Time has passed without an answer."""
        if not work.request:  # the talk is over
            self._ask(work, "BYE", now, self._answers.pop(work.call_id))
        elif now - work.began > LONGEST_SECONDS:
            self._fail(work, "no answer", now)
        elif work.request.startswith(b"BYE"):  # the recorded route names one node
            self._send(work, now)
        elif now - work.asked > (RINGING_SECONDS if work.progress else SILENT_SECONDS):
            self._go_on(work, "silent", now)
        else:
            self._send(work, now)

    def _go_on(self, work: _Try, why: str, now: float) -> None:
        """The next server."""
        self.counts[f"{work.kind}s sent elsewhere: {why}"] += 1
        work.server = (work.server + 1) % len(self._servers)
        if work.kind == "call":  # a call of its own: the first may still ring
            del self._tries[work.call_id]
            work.call_id = make_token()
            self._tries[work.call_id] = work
        self._ask(work, "REGISTER" if work.kind == "register" else "INVITE", now)

    # In

    def _read(self, wire: socket.socket) -> None:
        while True:
            try:
                data, source = wire.recvfrom(65_535)
            except ConnectionError:  # a refusal of something sent before
                continue
            except BlockingIOError:
                return
            message = Received(data, source[:2], None)
            if message.status:
                self._receive_answer(message, time.monotonic())
            elif message.method in ("INVITE", "BYE"):
                wire.sendto(_answer(message, self._phone_host), source)

    def _receive_answer(self, answer: Received, now: float) -> None:
        work = self._tries.get(answer.first("call-id"))
        number, _, method = answer.first("cseq").partition(" ")
        if work is None or method == "CANCEL" or int(number) != work.cseq:
            return
        if answer.status < 200:
            work.progress = True
        elif answer.status == 503 and method != "BYE":
            self._go_on(work, str(answer.status), now)
        elif answer.status >= 300:
            self._fail(work, f"{method} answered {answer.first_line}", now)
        elif method == "INVITE":
            self._ask(work, "ACK", now, answer)
            if work.request:
                work.request = b""
                self._answers[work.call_id] = answer
                self._wake_at(work, now + _TALK_SECONDS)
        else:
            self._finish(work, now)

    def _finish(self, work: _Try, now: float) -> None:
        self.slowest = max(self.slowest, now - work.began - (_TALK_SECONDS if work.kind == "call" else 0))
        self.counts[f"{work.kind}s"] += 1
        if work.kind == "register":
            self.registered.append(work.user)
        del self._tries[work.call_id]

    def _fail(self, work: _Try, why: str, now: float) -> None:
        self.failures.append(f"{work.kind} of {work.user} through {work.target[0]}, {now - work.began:.1f} s: {why}")
        self._tries.pop(work.call_id)


def _bind(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    made.bind((host, port))
    made.setblocking(False)
    return made


def _answer(request: Received, host: str) -> bytes:
    """200 for whatever a phone is asked."""
    lines = ["SIP/2.0 200 OK"]
    for name, value in request.headers:
        if name in ("via", "record-route", "from", "call-id", "cseq"):
            lines.append(f"{name.title()}: {value}")
        elif name == "to":
            lines.append(f"To: {value}" if ";tag=" in value else f"To: {value};tag=phone")
    lines += [f"Contact: <sip:phone@{host}:5060>", "Content-Length: 0"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
