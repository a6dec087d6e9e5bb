"""What systemd hears of us, on a socket like its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.systemd import Systemd, read_first_environment


class Manager:
    """Listens as systemd does, by path or by abstract name."""

    def __init__(self, name: str) -> None:
        self.environ = {"NOTIFY_SOCKET": name}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(name.replace("@", "\0", 1))

    def heard(self) -> list[str]:
        """What came since the last call."""
        heard: list[str] = []
        while True:
            try:
                heard.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return heard


@pytest.fixture(params=["by path", "by abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    listening = Manager(str(tmp_path / "notify") if request.param == "by path" else f"@sipfarm-test-{os.getpid()}")
    yield listening
    listening.socket.close()


def test_it_hears_that_we_serve_live_and_end(manager: Manager) -> None:
    systemd = Systemd(manager.environ, 7)
    systemd.ready()
    systemd.alive()
    systemd.stopping()
    assert manager.heard() == ["READY=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    ("more", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "7"}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "8"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_fed_when_it_is_meant_for_us(more: dict[str, str], seconds: float) -> None:
    assert Systemd({"NOTIFY_SOCKET": "/nowhere", **more}, 7).watchdog_seconds == seconds


def test_outside_systemd_nothing_is_sent_or_wanted() -> None:
    systemd = Systemd({"WATCHDOG_USEC": "500000"}, 7)
    assert systemd.watchdog_seconds == 0.0
    systemd.ready()


def test_a_manager_that_is_gone_or_does_not_read_harms_nothing(manager: Manager) -> None:
    systemd = Systemd(manager.environ, 7)
    for _ in range(10_000):
        systemd.alive()
    manager.socket.close()
    systemd.alive()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2", "LISTEN_PID": "8"},
        {"LISTEN_FDS": "-2", "LISTEN_PID": "7"},
        {"LISTEN_FDS": "many", "LISTEN_PID": "7"},
        {"LISTEN_PID": "7"},
    ],
)
def test_sockets_that_are_not_meant_for_us_are_left_alone(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", lambda **_: pytest.fail("a file was opened as a socket"))
    assert Systemd(environ, 7).take_sockets() == []


def test_sockets_of_our_units_begin_at_file_3_and_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_file(*, fileno: int) -> str:
        opened.append(fileno)
        if fileno == 4:
            raise OSError("not a socket")
        return f"socket {fileno}"

    monkeypatch.setattr(socket, "socket", open_file)
    systemd = Systemd({"LISTEN_FDS": "3", "LISTEN_PID": "7"}, 7)
    assert [str(taken) for taken in systemd.take_sockets()] == ["socket 3", "socket 5"]
    assert opened == [3, 4, 5]
    assert systemd.take_sockets() == []


def test_the_environment_is_the_one_that_the_process_was_started_with(tmp_path: Path) -> None:
    kept = tmp_path / "environ"
    kept.write_bytes(b"LISTEN_FDS=2\0PATH=/a=b\0\0odd\0NAME=\xff\0")
    assert read_first_environment(str(kept)) == {"LISTEN_FDS": "2", "PATH": "/a=b", "NAME": "\udcff"}


def test_where_that_cannot_be_read_it_is_todays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIPFARM_TEST", "today")
    assert read_first_environment(str(tmp_path / "none"))["SIPFARM_TEST"] == "today"
