"""A registrar at its desk for tests: the real location service over a local store, made-up time, recorded answers."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from farm.config import RegistrarSettings
from farm.logs import Fields, Rejections
from farm.metrics import Metrics
from farm.overlay.clock import HybridClock
from farm.overlay.local import LocalStore
from farm.overlay.store import Store
from farm.registrar.binding import Binding, RegistrationKind
from farm.registrar.gruu import Gruus
from farm.registrar.location import Located, Location, ReplicatedStore
from farm.registrar.registrar import Authenticator, Registrar
from farm.sip.address import parse_address
from farm.sip.hop import Hop
from farm.sip.message import Request, Response
from farm.sip.uri import Uri, aor_of
from tests.support.counts import read
from tests.support.messages import make_request

AOR = "sip:alice@example.com"
SOURCE = Hop("UDP", "192.0.2.101", 5060, "udp:0.0.0.0:5060")
WALL = 1_700_000_000.0


class OurDomains:
    """example.com and, standing for it, 198.51.100.1; example.org as well."""

    def domain_of(self, uri: Uri) -> str | None:
        if uri.host in ("example.com", "198.51.100.1"):
            return "example.com"
        return "example.org" if uri.host == "example.org" else None

    def aor_of_address(self, text: str) -> str | None:
        uri = parse_address(text).uri
        domain = self.domain_of(uri)
        if domain is None or not uri.user:
            return None
        return f"{aor_of(uri).rpartition('@')[0]}@{domain}"


class PlainSealer:
    """Seals with a number, so that no two texts are equal, and nothing to keep secrets in."""

    def __init__(self) -> None:
        self.number = 0

    def seal(self, purpose: bytes, data: bytes) -> str:
        self.number += 1
        return urlsafe_b64encode(b"%s %d " % (purpose, self.number) + data).decode().rstrip("=")

    def open(self, purpose: bytes, text: str) -> bytes | None:
        try:
            found, _, data = urlsafe_b64decode(text + "=" * (-len(text) % 4)).split(b" ", 2)
        except ValueError:
            return None
        return data if found == purpose else None


class RecordedTransaction:
    """Keeps the answers."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answers: list[Response] = []
        self.forgotten = False  # whether it was answered once and nothing kept

    def send_response(self, response: Response, now: float) -> None:
        self.answers.append(response)

    def answer_once(self, response: Response, now: float) -> None:
        self.answers.append(response)
        self.forgotten = True


class Desk:
    """`register` sends a REGISTER and answers the response; `uris` is what a caller would find."""

    def __init__(
        self,
        settings: RegistrarSettings | None = None,
        *,
        authenticator: Authenticator | None = None,
        replicated: ReplicatedStore | None = None,
        server_header: str = "",
        kind: RegistrationKind | None = None,
    ) -> None:
        self.kind = kind or RegistrationKind()
        self.store = Store([self.kind])
        self.clock = HybridClock(1)
        self.now = 1000.0
        self.location = Location(replicated or LocalStore(self.store), self.kind, self.clock, self.wall)
        self.metrics = Metrics()
        self.waiting: list[Coroutine[Any, Any, None]] = []
        self.pending: list[tuple[Coroutine[Any, Any, Any], Callable[[Any, float], None]]]
        self.pending = getattr(replicated, "pending", [])  # updates under way, of a slow store
        self.reports: list[str] = []
        self.gruus = Gruus(PlainSealer())
        self.logged: list[tuple[str, dict[str, object]]] = []
        self.registrar = Registrar(
            settings or RegistrarSettings(),
            OurDomains(),
            self.location,
            authenticator,
            self.metrics,
            Rejections(self.metrics.sip_rejected, self._log, 100),
            make_tag=lambda _: "tag1",
            clock=lambda: self.now,
            wall=self.wall,
            spawn=self.waiting.append,
            report=self.reports.append,
            server_header=server_header,
            gruus=self.gruus,
        )

    def _log(self, level: str, message: str, fields: Fields) -> None:
        self.logged.append((level, dict(fields)))

    def wall(self) -> float:
        return WALL + self.now

    def _run_pending(self) -> None:
        while self.pending:
            answer, done = self.pending.pop(0)
            done(asyncio.run(answer), self.now)

    def run_waiting(self) -> None:
        self._run_pending()
        while self.waiting:
            asyncio.run(self.waiting.pop(0))
            self._run_pending()

    def receive(self, request: Request, source: Hop = SOURCE) -> RecordedTransaction:
        request.source = source
        transaction = RecordedTransaction(request)
        self.registrar.receive_register(transaction, self.now)
        return transaction

    def register(
        self,
        contact: str | None = "<sip:alice@192.0.2.101:5060>",
        cseq: int = 1,
        *headers: str,
        call_id: str = "reg-1",
        uri: str = "sip:example.com",
        to: str = "<sip:alice@example.com>",
        via: str | Sequence[str] = "SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bK1",
        source: Hop = SOURCE,
    ) -> Response:
        request = make_request(
            "REGISTER",
            uri,
            via=via,
            from_="<sip:alice@example.com>;tag=f",
            to=to,
            call_id=call_id,
            cseq=cseq,
            contact=contact,
            headers=headers,
        )
        transaction = self.receive(request, source)
        self.run_waiting()
        (answer,) = transaction.answers
        return answer

    def uris(self, aor: str = AOR) -> list[str]:
        return [binding.uri for binding in self.find(aor)]

    def find(self, aor: str = AOR) -> list[Binding]:
        return self._locate(aor).bindings

    def knows(self, aor: str = AOR) -> bool:
        return self._locate(aor).known

    def _locate(self, aor: str) -> Located:
        found = self.location.find(aor, self.now)
        assert isinstance(found, Located)
        return found

    def counted(self, result: str) -> float:
        return read(self.metrics.registrations_total.child(result))
