"""Ends of calls between nodes: the node that took a call hears of a BYE that another one forwarded.

Part of the composition root. Any node takes any request of a dialog, but the account of a call is where its INVITE came
in (`accounting/calls`), and the token in our Record-Route says where that was (`proxy/dialog`). So a BYE that ended a
call which is not known here is told to that node alone, in a relay of its own purpose; on the ordinary path, where the
BYE comes to the same node, nobody is told anything. A node of a version that has no accounts counts it as a bad relay.

When that node is gone, or was started again and knows the call no more, a record of what the BYE tells is written:
`"partial":true`, by whichever of the two found it out. With the line that the first node wrote at the answer it is a
whole call.

Decided: only a BYE with a 2xx and a token whose From, To and tag are the dialog's make a partial record: both sides
agree that there was a call. Nobody is asked about a BYE without such a token, so that strangers cannot have the farm
talk to itself.
"""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from farm.accounting.call import Bye, Key
from farm.accounting.parties import uri_of, write_hop
from farm.member import stamp_node_of
from farm.metrics import Metrics
from farm.overlay.relaying import Relaying
from farm.overlay.wire import Contact, Relay
from farm.proxy.dialog import RouteToken, Side, find_side, is_home
from farm.relays import Relays
from farm.sip.hop import Hop
from farm.sip.message import Request

ENDED: Final = 7  # `Relay.purpose`, after those of `relays` and `tracing`
_LAST_WALL: Final = 4_102_444_800.0  # the year 2100
_MOST_SECONDS: Final = 300.0  # no transaction is so old


class Members(Protocol):
    """The nodes of the farm."""

    @property
    def relaying(self) -> Relaying:
        """The relays of the overlay."""

    def find_by_stamp(self, stamp_node: int) -> Contact | None:
        """The node whose stamps carry this number."""

    def others(self) -> list[Contact]:
        """All others that are remembered."""


class Accounts(Protocol):
    """The calls of this node."""

    def end_dialog(self, call_id: str, sender_tag: str, receiver_tag: str, bye: Bye) -> bool:
        """The side with the first tag ended a call; whether it is known, or was."""

    def write_partial(self, key: Key, caller: str, callee: str, by: str, wall: float, bye: Bye) -> None:
        """Write what is known of a call whose beginning is not."""


class Ended(msgspec.Struct, array_like=True):
    """What is told of a call that ended. Texts are bytes as they came; later versions may add fields."""

    call_id: bytes
    caller_tag: bytes
    callee_tag: bytes
    caller: bytes
    callee: bytes
    by_caller: bool
    wall: float  # when it came
    code: int
    sent_to: str
    came_from: str
    seconds_ago: float
    is_bye: bool


class EndedCalls:
    """Tells and hears of ends. `own` is the number of this node, `members` None where it is alone."""

    def __init__(self, own: int, relays: Relays, members: Members | None, accounts: Accounts, metrics: Metrics) -> None:
        self._own = own
        self._relays = relays
        self._members = members
        self._accounts = accounts
        self._delivered = metrics.relayed_messages.child("delivered")
        self._bad = metrics.relayed_messages.child("bad")
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Ended).decode
        if members is not None:
            members.relaying.users[ENDED] = self

    def tell(
        self,
        request: Request,
        status: int,
        dialog: RouteToken,
        hop: Hop | None,
        ago: float,
        wall: float,
        *,
        known: bool = False,
    ) -> None:
        """A request that came so many seconds `ago`, and went to `hop`, had that final answer and ended a call that is
        not known here, or not this part of it."""
        by_caller = find_side(dialog, request) is Side.CALLER
        tags = (request.from_tag, request.to_tag)
        uris = (uri_of(request.find("from") or ""), uri_of(request.find("to") or ""))
        (caller_tag, callee_tag), (caller, callee) = (tags, uris) if by_caller else (tags[::-1], uris[::-1])
        ended = Ended(
            _pack(request.call_id),
            _pack(caller_tag),
            _pack(callee_tag),
            _pack(caller),
            _pack(callee),
            by_caller,
            wall - ago,
            status,
            "" if hop is None else write_hop(hop),
            write_hop(request.source),
            ago,
            request.method == "BYE",
        )
        home = self._find_home(dialog)
        if (home is None or not self._relays.send(home, ENDED, b"", self._encode(ended))) and not known:
            self._write(ended)

    def _find_home(self, dialog: RouteToken) -> bytes | None:
        """The node that took the call; None when it is this one, or is not known."""
        if self._members is None or is_home(dialog, self._own):
            return None
        if dialog.caller is not None:
            contact = self._members.find_by_stamp(dialog.caller.node)
            return None if contact is None else contact.node
        others = self._members.others()
        return next((contact.node for contact in others if is_home(dialog, stamp_node_of(contact.node))), None)

    # overlay.relaying.RelayUser

    def receive_relay(self, node: bytes, relay: Relay, now: float) -> None:
        """Another node has seen the end of a call that it says is ours."""
        ended = self._read(relay.data)
        if ended is None:
            self._bad.inc()
            return
        self._delivered.inc()
        caller_tag, callee_tag = _unpack(ended.caller_tag), _unpack(ended.callee_tag)
        tags = (caller_tag, callee_tag) if ended.by_caller else (callee_tag, caller_tag)
        if not self._accounts.end_dialog(_unpack(ended.call_id), *tags, _bye_of(ended, now)):
            self._write(ended)

    def _read(self, data: bytes) -> Ended | None:
        """None for what no node of sound mind would say: no bill has a call of another century."""
        try:
            ended = self._decode(data)
        except msgspec.MsgspecError:
            return None
        sane = 0 <= ended.wall < _LAST_WALL and 0 <= ended.seconds_ago < _MOST_SECONDS and 200 <= ended.code < 700
        return ended if sane else None

    def receive_relay_failure(self, node: bytes, relay: Relay, now: float) -> None:
        """What was for another node did not leave."""
        ended = self._read(relay.data)
        if ended is not None:
            self._write(ended)

    def receive_link_end(self, node: bytes, now: float) -> None:
        """Nothing waits on a link."""

    def _write(self, ended: Ended) -> None:
        if not ended.is_bye or ended.code >= 300:
            return
        key = (_unpack(ended.call_id), _unpack(ended.caller_tag), _unpack(ended.callee_tag))
        by = "caller" if ended.by_caller else "callee"
        bye = _bye_of(ended, 0.0)
        self._accounts.write_partial(key, _unpack(ended.caller), _unpack(ended.callee), by, ended.wall, bye)


def _bye_of(ended: Ended, now: float) -> Bye:
    return Bye(now - ended.seconds_ago, ended.code, ended.sent_to, ended.came_from, not ended.is_bye)


def _pack(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _unpack(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
