"""The Via header: where a request came through, and so where its response goes (RFC 3261 §18.2, §20.42; RFC 3581).

Reading is strict, with the white space that the grammar allows around every slash, colon and semicolon; an IPv6 address
in `received` is taken with and without brackets (RFC 5118 §4.5). Who sends where is the transport's to decide.
"""

from __future__ import annotations

import re
from typing import Final

from farm.sip.grammar import HOST, ORDINARY_HOST, TOKEN, is_token, parse_number, parse_params, write_params
from farm.sip.status import SipError
from farm.sip.uri import parse_host

MAGIC: Final = "z9hG4bK"

# What nearly every top Via looks like, matched in one step.
_ORDINARY: Final = re.compile(
    rf"SIP/2\.0/([A-Z]++) ({ORDINARY_HOST})(?::([1-9][0-9]{{0,3}}))?(;rport)?;branch=({TOKEN})(;rport)?"
)
_ADDRESS: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]++\]")
_VIA: Final = re.compile(
    rf"[sS][iI][pP][ \t]*+/[ \t]*+([0-9]++\.[0-9]++)[ \t]*+/[ \t]*+({TOKEN})[ \t]++({HOST})"
    r"(?:[ \t]*+:[ \t]*+([0-9]{1,10}))?[ \t]*+"
)


class Via:
    """One Via element. `host` is as written without brackets, `port` None when not written, `params` lower-case names.

    `received` and `maddr` are addresses without brackets; `rport` is None when absent, 0 when present without value.
    """

    __slots__ = ("branch", "host", "maddr", "params", "port", "received", "rport", "text", "transport", "ttl")

    def __init__(
        self, transport: str, host: str, port: int | None, params: dict[str, str | None], text: str, branch: str
    ) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.params = params
        self.text = text
        self.branch = branch
        self.received: str | None = None
        self.rport: int | None = None
        self.maddr: str | None = None
        self.ttl: int | None = None

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Via {self.text}>"

    @property
    def sent_by(self) -> str:
        """The sent-by as it is compared: "host:port" in lower case, the port only when written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host.lower() if self.port is None else f"{host.lower()}:{self.port}"

    @property
    def is_magic(self) -> bool:
        """Whether the branch names a transaction by RFC 3261 §8.1.1.7: the cookie and something after it."""
        branch = self.branch
        return len(branch) > 7 and (branch[:7] == MAGIC or branch[:7].lower() == "z9hg4bk")

    def with_source(self, host: str, port: int) -> str:
        """The Via as a server stores it (§18.2.1, RFC 3581 §4): `received` when the packet's source is not what the
        sent-by says or `rport` was asked for, `rport` filled when it is there. `host` is numeric, without brackets.
        """
        params = self.params
        same = self.host == host or (":" in host and ":" in self.host and parse_host(f"[{self.host}]") == host)
        if "rport" not in params:
            if same and "received" not in params:
                return self.text
            params = dict(params)
        else:
            same = False
            params = dict(params)
            params["rport"] = str(port)
        params.pop("received", None)
        if not same:
            params["received"] = host
        return self.text.partition(";")[0].rstrip(" \t") + write_params(params)


def parse_via(text: str) -> Via:
    """The one Via element that is all of `text`; raises SipError 400."""
    match = _ORDINARY.fullmatch(text)
    if match is not None:
        transport, host, port, rport_first, branch, rport_last = match.groups()
        params: dict[str, str | None] = {"branch": branch}
        if rport_first is not None:
            params = {"rport": None, "branch": branch}
        elif rport_last is not None:
            params["rport"] = None
        via = Via(transport, host, None if port is None else int(port), params, text, branch)
        if len(params) > 1:
            via.rport = 0
        if rport_first is None or rport_last is None:
            return via
    return _parse_general(text)


def _parse_general(text: str) -> Via:
    match = _VIA.match(text)
    if match is None or match[1] != "2.0":
        raise SipError(400, "Bad Via", reason="bad-via")
    host = match[3]
    parse_host(host)
    port = None if match[4] is None else _port(match[4])
    end = match.end()
    params = parse_params(text[end:]) if end < len(text) else {}
    via = Via(match[2].upper(), host.strip("[]"), port, params, text, params.get("branch") or "")
    for name, value in params.items():
        if name == "rport":
            via.rport = 0 if value is None else _port(value)
        elif name == "branch":
            if value is None or not is_token(value):
                raise SipError(400, "Bad Via", reason="bad-branch")
        elif name == "received":
            via.received = _address(value or "")
        elif name == "maddr":
            if value is None or value[0] == '"':
                raise SipError(400, "Bad Via", reason="bad-via")
            via.maddr = value.strip("[]").lower()
        elif name == "ttl":
            via.ttl = parse_number(value or "", 255)
    return via


def _port(text: str) -> int:
    port = parse_number(text, 65535)
    if not port:
        raise SipError(400, "Bad Via", reason="bad-via")
    return port


def _address(text: str) -> str:
    """An IPv4 or IPv6 address, with or without brackets, canonical."""
    if ":" in text and text[0] != "[":
        text = f"[{text}]"
    if _ADDRESS.fullmatch(text) is None:
        raise SipError(400, "Bad Via", reason="bad-received")
    return parse_host(text)
