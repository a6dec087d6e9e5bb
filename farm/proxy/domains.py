"""Which names are ours: the domains we are responsible for, and the addresses of this element.

A URI whose host is one of the served domains, or an address we listen on, names a user of ours; the address stands for
the first domain, so that a phone or a test tool that knows nothing but the proxy's address reaches the same users
(Kamailio's `alias` and `myself` do the same).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from farm.sip.address import parse_address
from farm.sip.message import Request
from farm.sip.uri import Uri, aor_of

# The ordinary <sip:user@domain> in an address, which is its own canonical form.
_ORDINARY: Final = re.compile(r'[^<"]*+<(sip:[^@%:<>"]++@([a-z0-9.\-]++))>')


class Addresses(Protocol):
    """The transport, which knows where this element listens."""

    def is_local(self, host: str, port: int | None) -> bool:
        """Whether that host and port (None: the default one) is a listener or an advertised name of ours."""


class Domains:
    """The served domains and this element's own addresses."""

    def __init__(self, domains: Iterable[str], addresses: Addresses) -> None:
        self._addresses = addresses
        self.change(domains)

    def change(self, domains: Iterable[str]) -> None:
        """Serve these from now on."""
        self._names = tuple(name.lower().rstrip(".") for name in domains)
        self._served = frozenset(self._names)

    @property
    def first(self) -> str:
        """The domain that our addresses stand for."""
        return self._names[0]

    def domain_of(self, uri: Uri) -> str | None:
        """The served domain that `uri` belongs to; None when it is a stranger's, or not a SIP URI."""
        scheme = uri.scheme
        if scheme != "sip" and scheme != "sips":
            return None
        host = uri.host
        if host in self._served:
            return host
        host = host.rstrip(".")
        if host in self._served:
            return host
        if self._addresses.is_local(host, uri.port):
            return self._names[0]
        return None

    def serves(self, host: str, port: int | None) -> bool:
        """Whether that host is a served domain or an address of this element."""
        return host.lower().rstrip(".") in self._served or self._addresses.is_local(host, port)

    def aor_of(self, uri: Uri) -> str | None:
        """The canonical address-of-record of a user of ours; None for a stranger or a URI without a user."""
        domain = self.domain_of(uri)
        if domain is None or not uri.user:
            return None
        if domain == uri.host:
            return aor_of(uri)
        return f"{aor_of(uri).rpartition('@')[0]}@{domain}"

    def aor_of_address(self, text: str) -> str | None:
        """The same of the URI in a From or To, which the parser has checked."""
        match = _ORDINARY.match(text)
        if match is not None and match[2] in self._served:
            return match[1]
        return self.aor_of(parse_address(text).uri)

    def domain_of_sender(self, request: Request) -> str:
        """The served domain that From names, "" when the sender is a stranger."""
        return self.domain_of_address(request.find("from") or "") or ""

    def domain_of_address(self, text: str) -> str | None:
        """The served domain of the URI in a From or To, which the parser has checked; None when it is a stranger's."""
        match = _ORDINARY.match(text)
        if match is not None and match[2] in self._served:
            return match[2]
        return self.domain_of(parse_address(text).uri)

    def is_element(self, uri: Uri) -> bool:
        """Whether `uri` names this element itself, as our Record-Route and Path do, by address."""
        return uri.is_sip and self._addresses.is_local(uri.host, uri.port)

    def is_route_to_us(self, uri: Uri) -> bool:
        """Whether a Route value leads here: an address of ours, or a served domain without a port of its own."""
        if not uri.is_sip:
            return False
        return self.is_element(uri) or (uri.host.rstrip(".") in self._served and uri.port in (None, 5060))
