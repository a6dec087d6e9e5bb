"""The line of a call record: JSON whose fields are named as in Kamailio's acc tables, and what a bill wants besides.

`docs/call-records.md` describes every field. Texts of messages are strangers': `parties` makes them fit for a line.

Decided: times are read from the monotonic clock and turned into wall time when the line is made. A clock that is set
while a call goes on moves its beginning and its end, and not its length.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from farm.accounting.call import NEVER, Bye, Call, Key
from farm.accounting.parties import clean, split_uri, write_hop

ENDED: Final = "ended"
FAILED: Final = "failed"
ANSWERED: Final = "answered"
INTERRUPTED: Final = "interrupted"
_MOST_CODES: Final = 20
_MOST_SECONDS: Final = 4096


# In the order of a line; None is what is not known.
FIELDS: Final = (
    "event", "method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time", "src_user", "src_domain",
    "auth_user", "dst_user", "dst_domain", "dst_ouser", "src_ip", "setup_time", "ring_time", "answer_time",
    "end_time", "setup_duration", "duration", "result", "ended_by", "bye_code", "bye_address", "ingress_node",
    "ingress_transport", "egress_node", "egress_transport", "egress_target", "branches", "branch_codes", "fork",
    "again", "partial",
)  # fmt: skip


class Scribe:
    """Makes lines. `node` is this node's name; `name_of` answers the name of the node with a number in its stamps, ""
    for one that is not known."""

    def __init__(self, node: str, name_of: Callable[[int], str]) -> None:
        self._node = node
        self._name_of = name_of
        self._seconds: dict[int, str] = {}  # as text; calls of one node share them
        self._encode = msgspec.json.Encoder().encode

    def make_line(self, call: Call, event: str, now: float, wall: float) -> bytes:
        """The line of a call, with its line break. `now` and `wall` are the same moment."""
        invite = call.facts
        began = wall - now
        call_id, from_tag, to_tag = call.key
        src_user, src_domain = split_uri(invite.sender)
        way = call.way
        dst_user, dst_domain = split_uri(invite.uri_text if way is None else way.uri_text)
        at = call.answered_at if event == ANSWERED else call.ended_at
        first = call.answered_at if call.was_answered else call.ended_at
        fields = {
            "event": event,
            "method": "INVITE",
            "from_tag": clean(from_tag),
            "to_tag": clean(to_tag),
            "callid": clean(call_id),
            "sip_code": call.status,
            "sip_reason": clean(call.phrase),
            "time": self._stamp(began + at),
            "src_user": src_user,
            "src_domain": src_domain,
            "auth_user": clean(invite.user.partition(":")[2]) or None,
            "dst_user": dst_user,
            "dst_domain": dst_domain,
            "dst_ouser": split_uri(invite.uri_text)[0],
            "src_ip": invite.source.host,
            "setup_time": self._stamp(began + call.setup_at),
            "ring_time": self._stamp(began + call.ring_at) if call.ring_at != NEVER else None,
            "answer_time": self._stamp(began + call.answered_at) if call.was_answered else None,
            "end_time": self._stamp(began + call.ended_at) if event in (ENDED, FAILED) else None,
            "setup_duration": round(first - call.setup_at, 3),
            "duration": round(call.ended_at - call.answered_at, 3) if event in (ENDED, INTERRUPTED) else None,
            "result": call.result,
            "ended_by": call.by or None,
            "bye_code": call.bye_code or None,
            "bye_address": clean(call.bye_address) or None,
            "ingress_node": self._node,
            "ingress_transport": invite.source.transport.lower(),
            "egress_node": None if way is None else self._name_of(way.node) or None,
            "egress_transport": None if way is None else way.hop.transport.lower(),
            "egress_target": None if way is None else write_hop(way.hop) or None,
            "branches": len(call.codes),
            "branch_codes": [code for code in call.codes if code][:_MOST_CODES],
            "fork": call.is_fork,
            "again": call.is_again,
            "partial": False,
        }
        return self._encode(fields) + b"\n"

    def _stamp(self, wall: float) -> str:
        """RFC 3339, UTC, milliseconds."""
        milliseconds = max(round(wall * 1000), 0)
        second = milliseconds // 1000
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) >= _MOST_SECONDS:
                self._seconds.clear()
            text = self._seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{text}.{milliseconds % 1000:03}Z"

    def make_partial(self, key: Key, caller: str, callee: str, by: str, wall: float, bye: Bye) -> bytes:
        """The line of a call that ended at `wall` and whose beginning nobody knows any more: `key` and the URIs of both
        sides, as the BYE has them."""
        src_user, src_domain = split_uri(caller)
        dst_user, dst_domain = split_uri(callee)
        fields = dict.fromkeys(FIELDS) | {
            "event": ENDED,
            "method": "INVITE",
            "from_tag": clean(key[1]),
            "to_tag": clean(key[2]),
            "callid": clean(key[0]),
            "time": self._stamp(wall),
            "src_user": src_user,
            "src_domain": src_domain,
            "dst_user": dst_user,
            "dst_domain": dst_domain,
            "end_time": self._stamp(wall),
            "result": "answered",
            "ended_by": by,
            "bye_code": bye.code,
            "bye_address": clean(bye.came_from if by == "callee" else bye.sent_to) or None,
            "fork": False,
            "again": False,
            "partial": True,
        }
        return self._encode(fields) + b"\n"
