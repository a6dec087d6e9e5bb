"""OPTIONS to configured gateways and routes, to know which of them answer (`gateways.py` keeps what is learned).

Each probe is an ordinary client transaction to the first hop of the target's URI; any final response but 408 and 503
proves it alive. A `Probe` asks one target once and reports the outcome.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from farm.proxy.context import Means
from farm.proxy.forward import Listeners, Tokens
from farm.proxy.gateways import is_alive
from farm.sip.hop import Hop
from farm.sip.message import Request, Response, make_header
from farm.sip.status import SipError
from farm.sip.uri import parse_uri
from farm.transaction.transaction import ClientTransaction

_PROBE_BYTES: Final = 500  # about what an OPTIONS of ours has; far from the size rule of §18.1.1


class Probe:
    """One OPTIONS to `uri`; `report(uri, alive)` is called once, when its outcome is known."""

    __slots__ = ("_listeners", "_means", "_report", "_tokens", "_uri")

    def __init__(
        self, means: Means, tokens: Tokens, listeners: Listeners, uri: str, report: Callable[[str, bool], None]
    ) -> None:
        self._means = means
        self._tokens = tokens
        self._listeners = listeners
        self._uri = uri
        self._report = report

    def start(self, now: float) -> None:
        """Look for the target's address and ask."""
        try:
            found = self._means.next_hops.locate(parse_uri(self._uri), now, _PROBE_BYTES)
        except SipError:
            self._report(self._uri, False)
            return
        if isinstance(found, list):
            self._send(found[0], now)
        else:
            self._means.spawn(self._send_later(found))

    async def _send_later(self, found: Awaitable[list[Hop]]) -> None:
        try:
            hops = await found
        except SipError:
            self._report(self._uri, False)
            return
        self._send(hops[0], self._means.clock())

    def _send(self, hop: Hop, now: float) -> None:
        transactions = self._means.transactions
        flow = self._means.flows.flow_to(hop)
        sent_by = self._listeners.sent_by(flow)
        branch = self._tokens.make_branch(self._tokens.loop_part([self._uri]))
        headers = [
            make_header("via", f"SIP/2.0/{flow.transport} {sent_by};branch={branch};rport"),
            make_header("max-forwards", "70"),
            make_header("from", f"<sip:{sent_by}>;tag={transactions.make_tag()}"),
            make_header("to", f"<{self._uri}>"),
            make_header("call-id", transactions.make_tag()),
            make_header("cseq", "1 OPTIONS"),
            make_header("content-length", "0"),
        ]
        transactions.send_request(Request("OPTIONS", self._uri, headers), branch, flow, self, now)

    def receive_response(self, transaction: ClientTransaction, response: Response, now: float) -> None:
        """A final response decides."""
        if response.status >= 200:
            self._report(self._uri, is_alive(response.status))

    def receive_timeout(self, transaction: ClientTransaction, now: float) -> None:
        """Nothing answered."""
        self._report(self._uri, False)

    def receive_transport_error(self, transaction: ClientTransaction, now: float) -> None:
        """It could not be sent."""
        self._report(self._uri, False)
