"""Which of the addresses that a node is to listen on it could have: each is bound for a moment and let go again.

Two listeners of one configuration may want the same; that is found by looking at them, since each alone could have it.
Asked before a start, so that a program that sits on port 5060 is named by the listener that it is in the way of. What
this very node holds already, because it runs, is for the caller to leave out.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

from farm.addresses import parse_host_port, parse_listen, write_listen
from farm.config import Config

_DATAGRAM: Final = "UDP"


class Wanted(NamedTuple):
    """An address that is to be listened on: the setting that says so, how the socket is to be named in a line, and
    what it is."""

    key: str
    name: str
    kind: socket.SocketKind
    host: str
    port: int


Bind = Callable[[Wanted], None]


def find_wanted(config: Config) -> Iterator[Wanted]:
    """All addresses of a configuration that have a port; any free one is always there."""
    for key, listeners in (("sip.listen", config.sip.listen), ("sip.proxy_listen", config.sip.proxy_listen)):
        for text in listeners:
            listen = parse_listen(text)
            kind = socket.SOCK_DGRAM if listen.transport == _DATAGRAM else socket.SOCK_STREAM
            yield Wanted(key, write_listen(listen), kind, listen.host, listen.port)
    streams = [("overlay.listen", config.overlay.listen), ("admin.http", config.admin.http)]
    for key, text in streams:
        if text:
            yield _make(key, text, socket.SOCK_STREAM)
    for text in config.dns.listen:
        yield _make("dns.listen", text, socket.SOCK_DGRAM)
        yield _make("dns.listen", text, socket.SOCK_STREAM)


def find_refused(wanted: Iterator[Wanted], bind: Bind | None = None) -> Iterator[tuple[str, str]]:
    """Setting and reason, in a line, of each address that cannot be had."""
    for each in wanted:
        if not each.port:
            continue
        try:
            (bind or try_to_bind)(each)
        except OSError as error:
            yield each.key, f"{each.name}: {_explain(error)}"


def find_clashes(wanted: Iterator[Wanted]) -> Iterator[tuple[str, str]]:
    """Setting and reason, in a line, of each address that an earlier one of the same configuration has already: the
    same, or all of its family."""
    earlier: list[Wanted] = []
    for each in wanted:
        if not each.port:
            continue
        for other in earlier:
            if _clash(each, other):
                yield each.key, f"{each.name}: {other.key} has that port already, as {other.name}"
                break
        earlier.append(each)


def _clash(one: Wanted, other: Wanted) -> bool:
    if (one.kind, one.port, ":" in one.host) != (other.kind, other.port, ":" in other.host):
        return False
    hosts = ip_address(one.host), ip_address(other.host)
    return hosts[0] == hosts[1] or any(host.is_unspecified for host in hosts)


def try_to_bind(wanted: Wanted) -> None:
    """Bind an address as a node would, and let it go. Raises OSError."""
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    with socket.socket(family, wanted.kind) as trial:
        if family == socket.AF_INET6:
            trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if wanted.kind == socket.SOCK_STREAM:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((wanted.host, wanted.port))


def _make(key: str, text: str, kind: socket.SocketKind) -> Wanted:
    host, port = parse_host_port(text)
    word = "udp" if kind == socket.SOCK_DGRAM else "tcp"
    return Wanted(key, f"{word}:{text}", kind, host, port or 0)


def _explain(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is in use by another program"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "not permitted: ports below 1024 want root or CAP_NET_BIND_SERVICE"
    return os.strerror(error.errno).lower() if error.errno else str(error)
