"""What systemd hears of us, on a socket like its own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.systemd import Systemd


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
