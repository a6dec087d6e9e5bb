"""What systemd wants to hear of a node, and what it hands over: sd_notify(3) and sd_listen_fds(3).

A service of Type=notify finds a UNIX socket in NOTIFY_SOCKET, and with WatchdogSec= the time within which it must be
heard of in WATCHDOG_USEC. Without them, outside systemd, nothing is sent. `tap.py` knows when to say what. With a
socket unit, LISTEN_FDS open sockets begin at file 3; Twisted's endpoint for them takes streams alone.

Decided: what systemd said is read from `/proc/self/environ`, as it was when the process began: Twisted's endpoints take
LISTEN_FDS and LISTEN_PID out of `os.environ` as soon as anybody imports them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_FIRST_FILE: Final = 3  # SD_LISTEN_FDS_START
_MOST_FILES: Final = 1024


class Systemd:
    """The service manager that started us, as `environ` tells; `pid` is our own.

    `watchdog_seconds` is how often it wants to hear that we are alive, 0 when it does not care.
    """

    __slots__ = ("_address", "_files", "watchdog_seconds")

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog_seconds = int(microseconds) / 1e6 if address and meant and microseconds.isdecimal() else 0.0
        count = environ.get("LISTEN_FDS", "")
        ours = environ.get("LISTEN_PID", "") == str(pid) and count.isdecimal()
        self._files = range(_FIRST_FILE, _FIRST_FILE + min(int(count), _MOST_FILES)) if ours else range(0)

    def take_sockets(self) -> list[socket.socket]:
        """The sockets of our socket units, each once; files that are none are left alone."""
        files, self._files = self._files, range(0)
        sockets: list[socket.socket] = []
        for number in files:
            with suppress(OSError):
                sockets.append(socket.socket(fileno=number))
        return sockets

    def ready(self) -> None:
        """We serve."""
        self._notify(b"READY=1")

    def alive(self) -> None:
        """The event loop turns."""
        self._notify(b"WATCHDOG=1")

    def stopping(self) -> None:
        """We end, which may take a while."""
        self._notify(b"STOPPING=1")

    def _notify(self, state: bytes) -> None:
        if not self._address:
            return
        # never waited for: a manager that does not read must not keep calls waiting
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto(state, self._address)


def read_first_environment(path: str = "/proc/self/environ") -> dict[str, str]:
    """The environment that the process was started with, or what is left of it where that cannot be read."""
    try:
        with open(path, "rb") as file:
            text = os.fsdecode(file.read())
    except OSError:
        return dict(os.environ)
    return {name: value for name, equals, value in (entry.partition("=") for entry in text.split("\0")) if equals}
