"""The console's end of the control socket, over a socket pair."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.admin.client import NotRunning, SocketClient, connect_unix
from farm.admin.control import OrderError


class Pair:
    """A connected pair: `near` for the client, `far` holds what the node will have answered."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.far.settimeout(5)

    def client(self, reply: bytes) -> SocketClient:
        self.far.sendall(reply)
        self.far.shutdown(socket.SHUT_WR)
        return SocketClient("/run/control.sock", lambda path, seconds: self.near)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.near.close()
    made.far.close()


def reply(status: int, body: bytes) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_an_order_goes_out_as_a_post_and_the_answer_comes_back(pair: Pair) -> None:
    assert pair.client(reply(200, b'{"a": 1}')).run("add-user", {"name": "bob"}) == {"a": 1}
    head, _, body = pair.far.recv(65536).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /add-user HTTP/1.1\r\n")
    assert json.loads(body) == {"name": "bob"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply(400, b'{"error": "bob is no user"}'), "bob is no user"),
        (reply(500, b"{}"), "the node answered 500"),
        (reply(200, b"[]"), "the node answered 200"),
        (reply(200, b"<html>"), "the node did not answer: Expecting value: line 1 column 1 (char 0)"),
        (b"", "the node did not answer: Remote end closed connection without response"),
        (b"SIP/2.0 200 OK\r\n\r\n", "the node did not answer: SIP/2.0 200 OK\r\n"),
    ],
)
def test_what_is_no_answer_is_told_in_words(pair: Pair, answer: bytes, words: str) -> None:
    with pytest.raises(OrderError) as caught:
        pair.client(answer).run("status", {})
    assert str(caught.value) == words


def test_a_socket_that_is_not_there_or_refuses_means_no_node_runs() -> None:
    for error in (FileNotFoundError(), ConnectionRefusedError()):
        with pytest.raises(NotRunning, match="no node is running at /run/x"):
            SocketClient("/run/x", failing(error)).run("status", {})


def test_a_socket_that_is_not_ours_is_named() -> None:
    with pytest.raises(OrderError, match="/run/x: Permission denied"):
        SocketClient("/run/x", failing(PermissionError(13, "Permission denied"))).run("status", {})


def test_a_node_that_accepts_and_says_nothing_is_given_up_after_the_time_that_was_given(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(2)
        with connect_unix(path, 0.25) as connection:
            assert connection.gettimeout() == 0.25
        with pytest.raises(OrderError, match="the node did not answer: timed out"):
            SocketClient(path).run("status", {}, seconds=0.01)


def test_an_order_has_a_minute_and_the_connection_has_it_too() -> None:
    given: list[float] = []

    def connect(path: str, seconds: float) -> socket.socket:
        given.append(seconds)
        raise FileNotFoundError

    for seconds in ({}, {"seconds": 2.0}):
        with pytest.raises(NotRunning):
            SocketClient("/run/x", connect).run("status", {}, **seconds)
    assert given == [60.0, 2.0]


def failing(error: OSError):  # type: ignore[no-untyped-def]
    def connect(path: str, seconds: float) -> socket.socket:
        raise error

    return connect
