"""Sockets that were bound before the node started: who takes which."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from farm.transport.handed import HandedOver, HandedSockets


class Bound:
    """Makes sockets that are closed at the end; nobody else is ever asked for their ports."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def __call__(self, kind: socket.SocketKind, host: str = "127.0.0.1", *, only: bool = True) -> socket.socket:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        made = self._stack.enter_context(socket.socket(family, kind))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.bind((host, 0))
        if kind == socket.SOCK_STREAM:
            made.listen(1)
        return made


@pytest.fixture
def bound() -> Iterator[Bound]:
    with ExitStack() as stack:
        yield Bound(stack)


def port_of(made: socket.socket) -> int:
    return int(made.getsockname()[1])


def test_a_listener_takes_the_socket_of_its_kind_address_and_port_once(bound: Bound) -> None:
    udp, tcp = bound(socket.SOCK_DGRAM), bound(socket.SOCK_STREAM)
    handed = HandedSockets([tcp, udp])
    assert handed.take(socket.SOCK_DGRAM, "127.0.0.2", port_of(udp)) is None
    assert handed.take(socket.SOCK_DGRAM, "127.0.0.1", port_of(udp) + 1) is None
    assert handed.take(socket.SOCK_DGRAM, "127.0.0.1", port_of(udp)) is udp
    assert handed.take(socket.SOCK_DGRAM, "127.0.0.1", port_of(udp)) is None
    assert handed.take(socket.SOCK_STREAM, "127.0.0.1", port_of(tcp)) is tcp
    handed.refuse_rest()


def test_a_socket_that_is_taken_waits_for_nobody_and_is_no_childs(bound: Bound) -> None:
    udp = bound(socket.SOCK_DGRAM)
    udp.setblocking(True)
    udp.set_inheritable(True)
    HandedSockets([udp]).take(socket.SOCK_DGRAM, "127.0.0.1", port_of(udp))
    assert (udp.getblocking(), udp.get_inheritable()) == (False, False)


def test_a_socket_of_ipv6_is_taken_when_it_serves_ipv6_alone(bound: Bound) -> None:
    alone, both = bound(socket.SOCK_DGRAM, "::"), bound(socket.SOCK_DGRAM, "::", only=False)
    handed = HandedSockets([alone, both])
    assert handed.take(socket.SOCK_DGRAM, "::", port_of(alone)) is alone
    with pytest.raises(HandedOver, match=rf"udp:\[::\]:{port_of(both)} .* BindIPv6Only=ipv6-only"):
        handed.take(socket.SOCK_DGRAM, "::", port_of(both))


def test_a_connection_is_no_listener(bound: Bound) -> None:
    """A socket unit with Accept=yes hands over each connection, which has the listener's address."""
    listener = bound(socket.SOCK_STREAM)
    refused = pytest.raises(HandedOver, match=r"^tcp:127\.0\.0\.1:\d+ is a connection, no listener: say Accept=no$")
    with socket.create_connection(("127.0.0.1", port_of(listener))), listener.accept()[0] as accepted, refused:
        HandedSockets([accepted]).take(socket.SOCK_STREAM, "127.0.0.1", port_of(listener))


def test_a_socket_that_nobody_wants_is_named(bound: Bound) -> None:
    tcp = bound(socket.SOCK_STREAM)
    with pytest.raises(HandedOver, match=rf"tcp:127\.0\.0\.1:{port_of(tcp)} was handed over, but"):
        HandedSockets([tcp]).refuse_rest()


def test_sockets_of_other_kinds_are_no_listeners_ones_and_are_named(bound: Bound) -> None:
    ours, _theirs = socket.socketpair()
    with ours, _theirs:
        handed = HandedSockets([ours])
        assert handed.take(socket.SOCK_STREAM, "0.0.0.0", 5060) is None
        with pytest.raises(HandedOver, match="was handed over"):
            handed.refuse_rest()


def test_without_sockets_there_is_nothing_to_take_and_nothing_left() -> None:
    assert HandedSockets().take(socket.SOCK_DGRAM, "0.0.0.0", 5060) is None
    HandedSockets().refuse_rest()
