"""What the 200 to a REGISTER says: every current binding (RFC 3261 §10.3 step 8), and what its sender asked to know.

A contact is written as it was registered, with what is left of its lifetime; phones that understand GRUUs are told
theirs (RFC 5627 §5.2), and those of the user's other phones. Outbound is claimed, with the kinds of keep-alive and how
often we want them, from phones that registered a flow (RFC 5626 §6).

Decided: bindings whose node is down are listed like others. They are what was registered and has not lapsed; whether
their flow leads anywhere is found out by who calls (§7), each time anew, since a node that seems dead may be cut off.
Decided: no Flow-Timer over UDP. Without one a phone sends its STUN each 24 to 29 s (§4.4), as NATs want it; a time that
suits connections would let the hole close.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from farm.registrar.binding import Binding, bindings_of, remaining_seconds, value_of
from farm.registrar.gruu import Gruus
from farm.registrar.record import Record
from farm.sip.grammar import quote
from farm.sip.hop import Hop
from farm.sip.message import Header, make_header

_OUTBOUND: Final = (make_header("require", "outbound"), make_header("supported", "outbound, path"))


def write_contacts(record: Record, aor: str, gruus: Gruus | None, now: float) -> list[Header]:
    """A Contact for each live binding of an address-of-record; with its GRUUs unless `gruus` is None."""
    headers: list[Header] = []
    phones: dict[str, str] = {}
    bindings: Sequence[Binding] = () if gruus is None else bindings_of(record, now)
    for entry in record.entries:
        value = value_of(entry)
        contact = value.contact
        seconds = remaining_seconds(value, now)
        if contact is None or seconds <= 0:
            continue
        uri = contact.uri or entry.key
        params = contact.params
        if contact.instance:
            params += f";+sip.instance={quote(contact.instance)}"
            if contact.reg_id:
                params += f";reg-id={contact.reg_id}"
            if gruus is not None:
                known = phones.get(contact.instance)
                if known is None:
                    known = phones[contact.instance] = gruus.write_params(aor, contact.instance, bindings)
                params += known
        if contact.q >= 0:
            params += f";q={contact.q / 1000:g}"
        text = f"<{uri}>{params};expires={seconds}"
        headers.append(("contact", text, f"Contact: {text}"))
    return headers


def claim_outbound(source: Hop, direct: bool, flow_timer: Header | None) -> tuple[Header, ...]:
    """What says that a flow was registered, to a phone that knows outbound. `direct` says that it came to us without a
    proxy between, whose the flow would be and the Flow-Timer with it."""
    if flow_timer is None or not direct or source.transport == "UDP":
        return _OUTBOUND
    return (*_OUTBOUND, flow_timer)
