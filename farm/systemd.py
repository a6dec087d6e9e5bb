"""Tells systemd how the node is: the datagrams of sd_notify(3), which Twisted lacks.

A service of Type=notify finds a UNIX socket in NOTIFY_SOCKET, and with WatchdogSec= the time within which it must be
heard of in WATCHDOG_USEC. Without them, outside systemd, nothing is sent. `tap.py` knows when to say what.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress


class Systemd:
    """The service manager that started us, as `environ` tells; `pid` is our own.

    `watchdog_seconds` is how often it wants to hear that we are alive, 0 when it does not care.
    """

    __slots__ = ("_address", "watchdog_seconds")

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environ.get("WATCHDOG_USEC", "")
        meant = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
        self.watchdog_seconds = int(microseconds) / 1e6 if address and meant and microseconds.isdecimal() else 0.0

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
