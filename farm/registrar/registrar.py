"""The registrar: RFC 3261 §10.3, its eight steps in their order.

A REGISTER for a domain of ours ends here. It is applied whole or not at all: all that it changes is one update of one
record, made after everything has been checked. What it asks for is read by `asked`, what the record makes of it is
`binding`'s, what the 200 says `answer`'s, who may is the Authenticator's. Path is stored and echoed (RFC 3327),
Service-Route sent (RFC 3608), and a contact with an instance and a reg-id is a flow of its own (RFC 5626 §6). Every
answer to a REGISTER leaves from here: a SipError of any step is turned into one in `_refuse`.

Decided: an equal CSeq of the same Call-ID is answered as if applied when it asks for what is so already. The RFC's
"not higher, so it fails" would refuse the retransmission of a request whose transaction is gone, or that another
node answered, and the phone would think itself unregistered.
Decided: where nobody proves who he is, a REGISTER is served as by a stateless UAS (§8.2.7), and a repeated one by the
rule above: in an open farm finished transactions would hold more memory than the bindings they made. An authenticated
one keeps its transaction, because the repeated nonce count of a retransmission would look like a replay.
Decided: a removed or lapsed binding refuses lower CSeqs of its Call-ID for 32 s (64*T1, after which no client
transaction sends any more), so that a late REGISTER does not undo a removal. Later, a lower CSeq is a phone that has
restarted with the Call-ID it always uses: what its old self said is forgotten, as for the RFC there is no binding.
Decided: the removal of a binding that is not known is written down like that of any other. The node that knows it may
be on the other side of a cut, or the REGISTER that makes it may come late.
Decided: every refresh is written to the owners, also of phones that refresh each minute to keep a NAT open. Writing
longer leases and keeping the fine lifetime at the node that took it would save most of that, and make what is alive a
matter of which node is: the shortest lifetime that is granted (`min_expires_seconds`) bounds the load as well.
Decided: too many contacts are a 403: the same request can succeed nowhere else, and 503 would send the phone round
all nodes. A store that takes no more is a 500, as §10.3 step 7 says of a commit that fails.
Decided: the end of a connection removes no binding, as RFC 5626 §7 wants bindings left out of target sets, not
unregistered. Its name is never given again, so whoever calls finds out and takes the next; a node that loses ten
thousand connections at once would write as many removals, while the phones are already writing their new flows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from email.utils import formatdate
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from farm.config import RegistrarSettings
from farm.metrics import Metrics
from farm.registrar.answer import claim_outbound, write_contacts
from farm.registrar.asked import Asked, AskedContact, find_received, read_contact, uses_outbound
from farm.registrar.binding import find_entry, find_register, is_alive, value_of
from farm.registrar.gruu import Gruus
from farm.registrar.location import Location, Refusal
from farm.registrar.record import NO_FLOOR, Contact, Entry, Record, Register
from farm.security.credentials import ELSEWHERE, Refused, Verdict
from farm.sip.address import parse_address
from farm.sip.gruu import gr_of
from farm.sip.headers import require
from farm.sip.message import Header, Request, Response, make_header, make_response
from farm.sip.status import SipError
from farm.sip.uri import Uri, parse_uri

SUPPORTED: Final = frozenset(("gruu", "outbound", "path"))
LATE_SECONDS: Final = 32.0
MOST_ENTRIES: Final = 64  # bindings of a record, removed ones included, to which removals of unknown ones are added
_HOUR: Final = 3600
_REASONS: Final = {"record": "store-full", "records": "store-full", "rate": "request-rate"}

T = TypeVar("T")


class Authenticator(Protocol):
    """Says who sent a request."""

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Awaitable[Verdict]:
        """The sender, or what to answer."""


class Domains(Protocol):
    """The names that are ours."""

    def domain_of(self, uri: Uri) -> str | None:
        """The domain of ours that a URI belongs to, None when it is a stranger's."""

    def aor_of_address(self, text: str) -> str | None:
        """The canonical address-of-record that To names, None for a stranger or no user."""


class Rejections(Protocol):
    """Where what is turned away is counted and logged."""

    def note(self, reason: str, now: float, *, source: str = "", method: str = "", detail: str = "") -> None:
        """One message was turned away."""


class Transaction(Protocol):
    """The server transaction of a REGISTER, as far as a registrar needs it."""

    @property
    def request(self) -> Request:
        """What it began with."""

    def send_response(self, response: Response, now: float) -> None:
        """Answer it."""

    def answer_once(self, response: Response, now: float) -> None:
        """Answer it and keep nothing: who asks has proved nothing."""


class Visit:
    """One REGISTER on its way through the steps."""

    __slots__ = ("aor", "asked", "begun_at", "delta", "keys", "known", "outbound", "request", "result", "transaction")

    asked: Asked
    delta: Record
    keys: list[str]  # of the bindings that its contacts name

    def __init__(self, transaction: Transaction, now: float) -> None:
        self.transaction = transaction
        self.request = transaction.request
        self.begun_at = now
        self.aor = ""
        self.known = False  # whether it proved who it is
        self.outbound = False  # whether it registered, or removed, a flow
        self.result = "fetched"


class Registrar:
    """Serves REGISTER. `authenticator` None is open mode: whoever asks is believed (§10.3 step 3 allows it)."""

    def __init__(
        self,
        settings: RegistrarSettings,
        domains: Domains,
        location: Location,
        authenticator: Authenticator | None,
        metrics: Metrics,
        rejections: Rejections,
        *,
        make_tag: Callable[[Request], str],
        clock: Callable[[], float],
        wall: Callable[[], float],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        report: Callable[[str], None],
        server_header: str = "",
        gruus: Gruus | None = None,
    ) -> None:
        """`make_tag` answers the To tag for a request, the same each time it comes. `clock` is monotonic and asked
        after something was waited for, and when a REGISTER is done; `spawn` starts what waits; `report` logs an
        exception that is being handled.
        Without `gruus` nobody is given one."""
        self._domains = domains
        self._location = location
        self._make_tag = make_tag
        self._clock = clock
        self._wall = wall
        self._spawn = spawn
        self._report = report
        self._counts = {
            result: metrics.registrations_total.child(result)
            for result in ("registered", "refreshed", "removed", "fetched", "challenged", "refused", "failed")
        }
        self._delays = metrics.sip_registration_delay.child()
        self._rejections = rejections
        self._gruus = gruus
        self._date_second = -1
        self._date: Header = make_header("date", "")
        self.change(settings, authenticator, server_header)

    def change(self, settings: RegistrarSettings, authenticator: Authenticator | None, server_header: str) -> None:
        """Serve by these from now on; bindings that are there keep their time."""
        self._authenticator = authenticator
        self._minimum = settings.min_expires_seconds
        self._maximum = settings.max_expires_seconds
        self._default = settings.default_expires_seconds
        self._max_bindings = settings.max_bindings
        self._contact_bytes = settings.contact_bytes
        self._server = (make_header("server", server_header),) if server_header else ()
        self._fixed: tuple[Header, ...] = self._server
        if settings.service_route:
            routes = [uri if uri.startswith("<") else f"<{uri}>" for uri in settings.service_route]
            self._fixed += (make_header("service-route", ", ".join(routes)),)
        timer = settings.flow_timer_seconds
        self._flow_timer = make_header("flow-timer", str(timer)) if timer else None

    def receive_register(self, transaction: Transaction, now: float) -> None:
        """Serve a REGISTER, now or later. Never raises."""
        visit = Visit(transaction, now)
        try:
            self._admit(visit, now)
        except SipError as error:
            self._refuse(visit, error, now)
        except Exception:
            self._report("a REGISTER failed")
            self._refuse(visit, SipError(500, reason="internal-error"), now)

    async def _go_later(self, visit: Visit, answer: Awaitable[T], step: Callable[[Visit, T, float], None]) -> None:
        try:
            came = await answer
            step(visit, came, self._clock())
        except SipError as error:
            self._refuse(visit, error, self._clock())
        except Exception:
            self._report("a REGISTER failed")
            self._refuse(visit, SipError(500, reason="internal-error"), self._clock())

    def _admit(self, visit: Visit, now: float) -> None:
        request = visit.request
        asked = visit.asked = Asked(request)
        if self._domains.domain_of(request.uri) is None:  # step 1; the proxy forwards those
            raise SipError(404, reason="foreign-domain")
        if asked.has_require:  # step 2, §8.2.2.3
            unknown = [tag for tag in require(request) if tag not in SUPPORTED]
            if unknown:
                raise SipError(420, reason="bad-extension", headers=(("unsupported", ", ".join(unknown)),))
        aor = self._domains.aor_of_address(asked.to)  # step 5
        if aor is None:
            if not parse_address(asked.to).uri.is_sip:  # §10.2: "MUST be a SIP URI or SIPS URI"
                raise SipError(400, reason="address-of-record-not-sip")
            raise SipError(404, reason="foreign-address-of-record")
        visit.aor = aor
        if self._authenticator is None:
            self._look(visit, now)
            return
        realm = aor.rpartition("@")[2]
        verdict = self._authenticator.check(request, realm, "authorization", now)  # step 3
        if isinstance(verdict, Awaitable):
            self._spawn(self._go_later(visit, verdict, self._authorise))
        else:
            self._authorise(visit, verdict, now)

    def _authorise(self, visit: Visit, verdict: Verdict, now: float) -> None:
        """Step 4: everybody for himself; third-party registration is off."""
        if isinstance(verdict, Refused):
            raise SipError(verdict.status, reason=verdict.reason, headers=verdict.headers)
        if verdict.user != visit.aor:
            raise SipError(403, reason="third-party")
        visit.known = True
        self._look(visit, now)

    def _look(self, visit: Visit, now: float) -> None:
        """What is added has its answer from those who took it; who asks, or removes, must see all there is."""
        adds = visit.asked.contacts and not visit.asked.may_remove
        record = self._location.peek(visit.aor, now) if adds else self._location.read(visit.aor, now)
        if isinstance(record, Record):
            self._change(visit, record, now)
        else:
            self._spawn(self._go_later(visit, record, self._change))

    def _change(self, visit: Visit, record: Record, now: float) -> None:
        """Steps 6 and 7: find out what changes, then change it."""
        request = visit.request
        asked = visit.asked
        if asked.path and "path" not in asked.supported:  # RFC 3327 §5.3, the recommended policy
            raise SipError(420, reason="path-not-supported", headers=(("unsupported", "path"),))
        if not asked.contacts:
            self._answer(visit, record, now)
            return
        if asked.is_star:
            delta = self._remove_all(request, asked, record, now)
            visit.result = "removed"
        else:
            delta = Record(self._bind(visit, asked, record, now))
            if not delta.entries:
                # All is so already here, which is not to say elsewhere.
                delta = Record([entry for entry in record.entries if entry.key in visit.keys])
                if not delta.entries:
                    self._answer(visit, record, now)
                    return
        visit.delta = delta
        try:
            merged = self._location.begin_update(visit.aor, delta, partial(self._commit_later, visit), now)
        except UnicodeEncodeError:
            raise SipError(400, "Bad Contact", reason="bad-utf-8") from None
        if merged is not None:
            self._commit(visit, merged, now)

    def _commit_later(self, visit: Visit, merged: bytes | Refusal, now: float) -> None:
        try:
            self._commit(visit, self._location.open_merged(merged), now)
        except SipError as error:
            self._refuse(visit, error, now)
        except Exception:
            self._report("a REGISTER failed")
            self._refuse(visit, SipError(500, reason="internal-error"), now)

    def _commit(self, visit: Visit, merged: Record | Refusal, now: float) -> None:
        if not isinstance(merged, Record):
            reason = _REASONS.get(merged.reason, "store-unavailable")
            status = 503 if merged.reason in ELSEWHERE else 500
            raise SipError(status, reason=reason, headers=(("retry-after", "2"),))
        for entry in visit.delta.entries:  # step 7 again, now that other nodes have said what they know
            kept = find_entry(merged, entry.key)
            prior = find_register(kept, visit.request.call_id) if kept is not None else None
            if prior is not None and prior.cseq > visit.request.cseq:
                raise _out_of_order()
        self._answer(visit, merged, now)

    def _remove_all(self, request: Request, asked: Asked, record: Record, now: float) -> Record:
        """Step 6: `Contact: *`."""
        if asked.expires != 0:
            raise SipError(400, "Invalid Request", reason="star-without-expires-0")
        for entry in record.entries:
            prior = find_register(entry, request.call_id)
            if prior is not None and request.cseq <= prior.cseq and is_alive(value_of(entry), now):
                raise _out_of_order()
        return self._location.make_star(record, request.call_id, request.cseq, now)

    def _bind(self, visit: Visit, asked: Asked, record: Record, now: float) -> list[Entry]:
        """Step 7: the entries that change, one a contact; empty when all is as asked already."""
        request = visit.request
        call_id = request.call_id
        cseq = request.cseq
        outbound = uses_outbound(asked)
        changed: list[Entry] = []
        seen = visit.keys = []
        stamp = 0
        growth = 0
        flows = 0
        added = 0
        for text in asked.contacts:
            if len(text) > self._contact_bytes:
                raise SipError(400, "Contact Too Long", reason="contact-too-long")
            contact = read_contact(text, record, outbound)
            key = contact.key
            if key in seen:
                raise SipError(400, "Repeated Contact", reason="repeated-contact")
            seen.append(key)
            granted = self._grant(asked, contact)
            visit.outbound = visit.outbound or contact.reg_id > 0
            if granted:
                self._check_target(visit.aor, contact)
                added += 1
                flows += contact.reg_id > 0
            entry = contact.entry
            alive = False
            floor = NO_FLOOR
            if entry is not None:
                alive = is_alive(value_of(entry), now)
                prior = find_register(entry, call_id)
                if prior is not None and cseq <= prior.cseq:
                    if cseq == prior.cseq and _is_as_asked(prior, granted, contact, now):
                        continue
                    if cseq == prior.cseq or not _has_restarted(entry, prior, now):
                        raise _out_of_order()
                    floor = (prior.stamp, prior.node)
            held: Contact | None = None
            if granted:
                visit.result = "refreshed" if alive and visit.result != "registered" else "registered"
                growth += not alive
                held = Contact(
                    "" if contact.uri == key else contact.uri,
                    contact.params,
                    contact.q,
                    contact.instance,
                    contact.reg_id,
                    asked.user_agent,
                    asked.path,
                    find_received(request, asked, contact),
                )
            elif alive:
                growth -= 1
                if visit.result == "fetched":
                    visit.result = "removed"
            elif entry is None and len(record.entries) >= MOST_ENTRIES:
                continue
            stamp = stamp or self._location.make_stamp()
            register = Register(call_id, cseq, stamp, self._location.node, int(now * 1000), granted, held)
            changed.append(Entry(key, [register], floor))
        if flows and added > 1:  # RFC 5626 §6
            raise SipError(400, "Several Flows", reason="several-flows")
        if growth > 0 and growth + _count_alive(record, now) > self._max_bindings:
            raise SipError(403, "Too Many Bindings", reason="too-many-bindings")
        if len(changed) > 1:
            changed.sort(key=_key)
        return changed

    def _check_target(self, aor: str, contact: AskedContact) -> None:
        """RFC 5627 §5.1: whoever is called at such a contact would be looked for here again."""
        uri_text = contact.uri
        if not contact.instance and ";gr" not in uri_text.lower():
            return
        uri = parse_uri(uri_text)
        if contact.instance and not uri.is_sip:
            raise SipError(403, reason="contact-not-sip")
        gr = gr_of(uri)
        if (gr is None and not contact.instance) or self._domains.domain_of(uri) is None:
            return
        if gr == "":
            target = None if self._gruus is None else self._gruus.open(uri.user or "")
            named = target.aor if target is not None else ""
        else:
            named = self._domains.aor_of_address(f"<{uri.with_params({}).without_headers()}>") or ""
        if named == aor:
            raise SipError(403, reason="contact-is-own-address")

    def _grant(self, asked: Asked, contact: AskedContact) -> int:
        """The lifetime a contact gets, 0 when it is to be removed."""
        seconds = contact.expires
        if seconds is None:
            seconds = asked.expires
            if seconds is None:
                return self._default
        if 0 < seconds < self._minimum and seconds < _HOUR:
            raise SipError(423, reason="interval-too-brief", headers=(("min-expires", str(self._minimum)),))
        return seconds if seconds < self._maximum else self._maximum

    def _answer(self, visit: Visit, record: Record, now: float) -> None:
        """Step 8: 200 with every current binding."""
        request = visit.request
        asked = visit.asked
        tags = asked.supported
        headers = write_contacts(record, visit.aor, self._gruus if "gruu" in tags else None, now)
        if visit.outbound and "outbound" in tags:
            headers += claim_outbound(request.source, asked.hops <= 1 and not asked.path, self._flow_timer)
        if asked.path:
            headers.append(make_header("path", ", ".join(asked.path)))
        headers.append(self._make_date())
        headers += self._fixed
        self._counts[visit.result].inc()
        self._delays.observe(self._clock() - visit.begun_at)
        self._send(visit, make_response(request, 200, to_tag=self._make_tag(request), headers=headers), now)

    def _make_date(self) -> Header:
        wall = self._wall()
        if int(wall) != self._date_second:
            self._date_second = int(wall)
            self._date = make_header("date", formatdate(wall, usegmt=True))
        return self._date

    def _refuse(self, visit: Visit, error: SipError, now: float) -> None:
        """The answer to what went wrong. §10.3: never a 6xx."""
        refused = "challenged" if error.status == 401 else "refused"
        self._counts["failed" if error.status >= 500 else refused].inc()
        self._rejections.note(error.reason, now, source=visit.request.source.host, method="REGISTER")
        headers = [make_header(name, value) for name, value in error.headers]
        headers += self._server
        tag = self._make_tag(visit.request)
        self._send(visit, make_response(visit.request, error.status, error.phrase, to_tag=tag, headers=headers), now)

    def _send(self, visit: Visit, response: Response, now: float) -> None:
        if visit.known:
            visit.transaction.send_response(response, now)
        else:
            visit.transaction.answer_once(response, now)


def _out_of_order() -> SipError:
    return SipError(500, "Out Of Order", reason="cseq-out-of-order")


def _is_as_asked(prior: Register, granted: int, contact: AskedContact, now: float) -> bool:
    """Whether a register says what is asked for again: a retransmission that came too late for its transaction."""
    if not granted:
        return not is_alive(prior, now)
    held = prior.contact
    return (
        held is not None
        and is_alive(prior, now)
        and prior.granted == granted
        and (held.uri or contact.key) == contact.uri
        and held.params == contact.params
        and held.q == contact.q
    )


def _has_restarted(entry: Entry, prior: Register, now: float) -> bool:
    """Whether a lower CSeq than `prior`'s may be a UA that began again, because the binding has been over for long."""
    value = value_of(entry)
    if value is prior and is_alive(value, now):
        return False
    over_at = prior.at + (prior.granted * 1000 if prior.contact is not None and value is prior else 0)
    return now * 1000.0 >= over_at + LATE_SECONDS * 1000.0


def _count_alive(record: Record, now: float) -> int:
    return sum(is_alive(value_of(entry), now) for entry in record.entries)


def _key(entry: Entry) -> str:
    return entry.key
