"""Which addresses a node could not have."""

from __future__ import annotations

import errno
import socket

import msgspec
import pytest

from farm.config import Config
from farm.ports import Wanted, find_clashes, find_refused, find_wanted, try_to_bind


def config_of(**sections: object) -> Config:
    tree = {"node": {"name": "n1", "state_dir": "/x"}, "sip": {"domains": ["example.com"]}, **sections}
    return msgspec.convert(tree, Config)


def test_all_addresses_are_tried_by_their_kind() -> None:
    config = config_of(
        sip={
            "domains": ["example.com"],
            "listen": ["udp:192.0.2.1:5060", "wss:[2001:db8::1]:443", "tcp:192.0.2.1:0"],
            "proxy_listen": ["tls:192.0.2.1:5062"],
        },
        overlay={"listen": "192.0.2.1:7400"},
        dns={"listen": ["192.0.2.1:53"], "zone": "sip.example.com"},
        admin={"http": ""},
    )
    tried: list[tuple[str, str, str]] = []

    def bind(wanted: Wanted) -> None:
        tried.append((wanted.key, wanted.name, wanted.kind.name))

    assert list(find_refused(find_wanted(config), bind)) == []
    assert tried == [
        ("sip.listen", "udp:192.0.2.1:5060", "SOCK_DGRAM"),
        ("sip.listen", "wss:[2001:db8::1]:443", "SOCK_STREAM"),
        ("sip.proxy_listen", "tls:192.0.2.1:5062", "SOCK_STREAM"),
        ("overlay.listen", "tcp:192.0.2.1:7400", "SOCK_STREAM"),
        ("dns.listen", "udp:192.0.2.1:53", "SOCK_DGRAM"),
        ("dns.listen", "tcp:192.0.2.1:53", "SOCK_STREAM"),
    ]


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EADDRINUSE, "the port is in use by another program"),
        (errno.EADDRNOTAVAIL, "this machine does not have that address"),
        (errno.EACCES, "not permitted: ports below 1024 want root or CAP_NET_BIND_SERVICE"),
        (errno.ENOBUFS, "no buffer space available"),
    ],
)
def test_why_an_address_cannot_be_had_is_a_line_with_its_setting(number: int, why: str) -> None:
    def refuse(wanted: Wanted) -> None:
        if wanted.key == "admin.http":
            raise OSError(number, "?")

    assert list(find_refused(find_wanted(config_of()), refuse)) == [("admin.http", f"tcp:127.0.0.1:9464: {why}")]


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_port_that_somebody_listens_on_cannot_be_had_until_it_is_let_go(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        wanted = Wanted("sip.listen", "x", kind, *other.getsockname())
        with pytest.raises(OSError, match="in use"):
            try_to_bind(wanted)
    try_to_bind(wanted)
    try_to_bind(wanted)


@pytest.mark.parametrize(
    ("sections", "lines"),
    [
        ({"sip": {"listen": ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060", "udp:[::]:5060"]}}, []),
        ({"sip": {"listen": ["udp:192.0.2.1:5060", "udp:192.0.2.2:5060", "tcp:192.0.2.1:0", "tls:192.0.2.1:0"]}}, []),
        (
            {"sip": {"listen": ["tcp:192.0.2.1:5060", "tls:192.0.2.1:5060"]}},
            [("sip.listen", "tls:192.0.2.1:5060: sip.listen has that port already, as tcp:192.0.2.1:5060")],
        ),
        (
            {"sip": {"listen": ["udp:[2001:db8::1]:53", "udp:[::]:53"]}},
            [("sip.listen", "udp:[::]:53: sip.listen has that port already, as udp:[2001:db8::1]:53")],
        ),
        (
            {"sip": {"listen": ["tcp:0.0.0.0:9464"]}, "admin": {"http": "192.0.2.1:9464"}},
            [("admin.http", "tcp:192.0.2.1:9464: sip.listen has that port already, as tcp:0.0.0.0:9464")],
        ),
    ],
)
def test_two_listeners_that_want_one_port_are_in_each_other_s_way(
    sections: dict[str, dict[str, object]], lines: list[tuple[str, str]]
) -> None:
    sip = {"domains": ["example.com"], **sections["sip"]}
    admin = sections.get("admin", {"http": ""})
    assert list(find_clashes(find_wanted(config_of(sip=sip, admin=admin)))) == lines
