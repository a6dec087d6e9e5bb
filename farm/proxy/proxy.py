"""The proxy's front door: RFC 3261 §16.2, the steps in their order.

A request comes from the transaction layer. REGISTER for a domain of ours goes to the registrar, OPTIONS for this
element is answered here; all else is checked (`request`), admitted (`admission`), given targets (`targets`) and a
response context (`context`). Redirect mode answers 302 with the targets instead (§8.3). Here, and nowhere above, a
`SipError` becomes an answer.

What has no transaction, the ACK of a 2xx and stray responses, goes through `stateless`.

Decided: when an answer to an INVITE cannot be sent, its branches are cancelled, although §16.9 would only tell whoever
sent the answer: a caller that vanished would leave phones ringing, and anybody could make them ring by closing the
connection after each INVITE.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from farm.proxy.admission import Admission, Caller
from farm.proxy.context import Means, ResponseContext
from farm.proxy.domains import Domains
from farm.proxy.forward import Passage
from farm.proxy.reach import TargetSet
from farm.proxy.request import RouteInformation, Tokens, check_loop, check_request, read_route
from farm.proxy.stateless import Stateless
from farm.proxy.targets import Targets
from farm.sip.headers import max_breadth, require
from farm.sip.message import Header, Request, Response, make_header, make_response
from farm.sip.status import SipError
from farm.transaction.transaction import Flow, ServerTransaction

T = TypeVar("T")

ALLOWED: Final = (
    "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, MESSAGE, INFO, PRACK, UPDATE, REFER, SUBSCRIBE, NOTIFY, PUBLISH"
)
_OPTIONS_HEADERS: Final = (
    make_header("allow", ALLOWED),
    make_header("accept", "*/*"),
    make_header("supported", "gruu, outbound, path"),
)
_CHALLENGES: Final = frozenset((401, 407))


class Registrar(Protocol):
    """Where a REGISTER for a domain of ours ends."""

    def receive_register(self, transaction: ServerTransaction, now: float) -> None:
        """Serve it, now or later, through the transaction."""


class Proxy:
    """The transaction user of a node (RFC 3261 §5)."""

    def __init__(
        self,
        means: Means,
        domains: Domains,
        tokens: Tokens,
        admission: Admission,
        targets: Targets,
        registrar: Registrar,
        stateless: Stateless,
        *,
        redirect: bool,
        max_breadth: int,
        server_header: str,
        report: Callable[[str], None],
        is_restoring: Callable[[], bool] = bool,
    ) -> None:
        """`is_restoring` says whether users and registrations are still being read from where they were kept."""
        self._means = means
        self._domains = domains
        self._tokens: Tokens = tokens
        self._admission = admission
        self._targets = targets
        self._registrar = registrar
        self._stateless = stateless
        self._report = report
        self._is_restoring = is_restoring
        self.change(redirect=redirect, max_breadth=max_breadth, server_header=server_header)
        self.draining = False  # refuse what is new; set when the node is about to stop
        self._rejections = means.rejections

    def change(self, *, redirect: bool, max_breadth: int, server_header: str) -> None:
        """Serve new requests so from now on."""
        self._redirect = redirect
        self._max_breadth = self._stateless.max_breadth = max_breadth
        self._server_headers = (make_header("server", server_header),) if server_header else ()

    # Requests

    def receive_request(self, transaction: ServerTransaction, now: float) -> None:
        """A new request, neither ACK nor CANCEL."""
        request = transaction.request
        try:
            if not request.to_tag:
                if self.draining:
                    raise SipError(503, reason="draining", headers=(("retry-after", "5"),))
                if self._is_restoring():  # a 404 or a 401 now would be believed
                    raise SipError(503, reason="restoring", headers=(("retry-after", "2"),))
            if request.method == "REGISTER" and self._is_for_registrar(request):
                self._registrar.receive_register(transaction, now)
            else:
                self._serve(transaction, request, now)
        except SipError as error:
            self.refuse(transaction, error, now)
        except Exception:
            self._break_off(transaction, now)

    def _is_for_registrar(self, request: Request) -> bool:
        """A REGISTER for a domain of ours that no foreign Route sends elsewhere."""
        if self._domains.domain_of(request.uri) is None:
            return False
        return not request.has("route") or not read_route(request, self._domains, self._tokens, self._means.node).routes

    def _serve(self, transaction: ServerTransaction, request: Request, now: float) -> None:
        route = read_route(request, self._domains, self._tokens, self._means.node)
        uri = route.uri
        if request.method == "OPTIONS" and not uri.user and not route.routes and self._domains.domain_of(uri):
            self._answer_options(transaction, now)
            return
        check_request(request)
        loop_part = check_loop(request, self._tokens)
        caller = self._admission.admit(request, route, now)
        if isinstance(caller, Caller):
            self._find_targets(transaction, route, loop_part, caller, now)
        else:
            step = partial(self._find_targets, transaction, route, loop_part)
            self._means.spawn(self._go_on_later(transaction, caller, step))

    async def _go_on_later(
        self, transaction: ServerTransaction, answer: Awaitable[T], step: Callable[[T, float], None]
    ) -> None:
        """Take the next step with what had to be waited for."""
        try:
            came = await answer
            step(came, self._means.clock())
        except SipError as error:
            self.refuse(transaction, error, self._means.clock())
        except Exception:
            self._break_off(transaction, self._means.clock())

    def _find_targets(
        self, transaction: ServerTransaction, route: RouteInformation, loop_part: str, caller: Caller, now: float
    ) -> None:
        request = transaction.request
        if not request.method:
            return  # cancelled, and answered, while its sender was looked up
        if caller is not Caller.STRANGER:
            transaction.context = caller
        realm = self._domains.domain_of_sender(request)
        passage = Passage(request, route, transaction.flow, loop_part, realm, caller)
        targets = self._targets.find(route, caller, now)
        if isinstance(targets, Awaitable):
            step = partial(self._forward, transaction, passage)
            self._means.spawn(self._go_on_later(transaction, targets, step))
        else:
            self._forward(transaction, passage, targets, now)

    def _forward(self, transaction: ServerTransaction, passage: Passage, targets: TargetSet, now: float) -> None:
        request = transaction.request
        if not request.method:
            return  # cancelled, and answered, while its targets were looked up
        if self._redirect:
            self._send_redirect(transaction, request, targets, now)
            return
        context = ResponseContext(self._means, transaction, passage, targets, self._breadth_of(request))
        transaction.context = context
        context.start(now)

    def _breadth_of(self, request: Request) -> int:
        """RFC 5393 §5.3: what the request brings, at most what we allow; 440 when nothing is left."""
        breadth = max_breadth(request)
        if breadth is None:
            return self._max_breadth
        if breadth == 0:
            raise SipError(440, reason="max-breadth")
        return min(breadth, self._max_breadth)

    def _answer_options(self, transaction: ServerTransaction, now: float) -> None:
        """OPTIONS for this element (§11.2), which understands no extension that could be required (§8.2.2.3)."""
        required = require(transaction.request)
        if required:
            raise SipError(420, reason="bad-extension", headers=(("unsupported", ", ".join(required)),))
        tag = self._means.transactions.derive_tag(transaction.request)
        headers = (*_OPTIONS_HEADERS, *self._server_headers)
        transaction.answer_once(make_response(transaction.request, 200, to_tag=tag, headers=headers), now)

    def _send_redirect(self, transaction: ServerTransaction, request: Request, targets: TargetSet, now: float) -> None:
        contacts = [make_header("contact", f"<{target.uri_text}>;q={max(target.q, 0) / 1000:g}") for target in targets]
        self._answer(transaction, request, 302, "", contacts, now)

    def refuse(self, transaction: ServerTransaction, error: SipError, now: float) -> None:
        """Answer with an error, and count why. Who has proved nothing is answered once, and nothing is kept."""
        request = transaction.request
        if not request.method:
            return  # answered, and the request let go, while this was found out
        self._rejections.note(error.reason, now, source=request.source.host, method=request.method)
        headers = [make_header(name, value) for name, value in error.headers]
        headers.extend(self._server_headers)
        if transaction.is_invite and not request.to_tag:
            self._account(transaction, request, error, now)
        elif request.method == "BYE" and isinstance(transaction.context, Caller):
            self._account_bye(transaction, request, error)
        self._answer(transaction, request, error.status, error.phrase, headers, now)

    def _account(self, transaction: ServerTransaction, request: Request, error: SipError, now: float) -> None:
        """A call comes to nothing here. A challenge is none: the call comes again with credentials."""
        context = transaction.context
        if isinstance(context, ResponseContext):
            context.fail_call(error.status, error.phrase, now)
        elif error.status not in _CHALLENGES and not self._redirect:
            known = isinstance(context, Caller)
            self._means.calls.refuse(request, error.status, error.phrase, known, transaction.received_at, now)

    def _account_bye(self, transaction: ServerTransaction, request: Request, error: SipError) -> None:
        """A member, or a party of the dialog, hung up, and there is nobody to be told."""
        dialogs = read_route(request, self._domains, self._tokens, self._means.node).dialogs
        self._means.calls.end(request, error.status, dialogs, transaction.received_at, hop=None, made=False)

    def _answer(
        self,
        transaction: ServerTransaction,
        request: Request,
        status: int,
        phrase: str,
        headers: Sequence[Header],
        now: float,
    ) -> None:
        known = transaction.context is not None
        transactions = self._means.transactions
        tag = transactions.make_tag() if known else transactions.derive_tag(request)
        response = make_response(request, status, phrase, to_tag=tag, headers=headers)
        if known:
            transaction.send_response(response, now)
        else:
            transaction.answer_once(response, now)

    def _break_off(self, transaction: ServerTransaction, now: float) -> None:
        """A fault of ours: the caller hears 500, and nobody rings on for it."""
        self._report("a request failed")
        context = transaction.context
        self.refuse(transaction, SipError(500, reason="internal-error"), now)
        if isinstance(context, ResponseContext) and transaction.is_invite:
            context.cancel(now)

    def end_calls(self, now: float) -> None:
        """The node stops: whoever still calls hears 503, to try another, and nobody rings on for it."""
        for invite in self._means.transactions.find_unanswered():
            context = invite.context
            self.refuse(invite, SipError(503, reason="draining"), now)
            if isinstance(context, ResponseContext):
                context.cancel(now)

    # CANCEL, failures

    def receive_cancel(self, invite: ServerTransaction, cancel: Request, now: float) -> None:
        """§16.10: cancel the pending branches; the INVITE's own final answer follows from theirs."""
        context = invite.context
        if isinstance(context, ResponseContext):
            context.cancel(now, ", ".join(cancel.all("reason")))
        elif invite.request.method:
            invite.context = context or self  # its answer is kept: the INVITE may be repeated
            self.refuse(invite, SipError(487, reason="cancelled"), now)  # still looking for its targets

    def receive_server_failure(self, transaction: ServerTransaction, now: float) -> None:
        """The caller cannot be reached: let nobody ring on for it."""
        self._rejections.note("caller-unreachable", now, source=transaction.flow.hop.host)
        context = transaction.context
        if isinstance(context, ResponseContext) and transaction.is_invite:
            context.cancel(now)

    # What has no transaction

    def receive_ack(self, request: Request, flow: Flow, now: float) -> None:
        """The ACK of a 2xx."""
        self._stateless.receive_ack(request, flow, now)

    def receive_stray_response(self, response: Response, flow: Flow, now: float) -> None:
        """A response of no transaction of ours."""
        self._stateless.receive_response(response, flow, now)
