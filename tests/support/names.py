"""A name server of a zone file's text, as a child process: `twistd dns` with Twisted's own authority."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

from tests.support.nodes import installed
from tests.support.processes import Program, wait_until

_PORT: Final = 5353


class NameServer(Program):
    """It serves one zone from UDP and TCP port 5353 of `host` until it is stopped."""

    def __init__(self, host: str, zone: str, directory: Path) -> None:
        self.address = f"{host}:{_PORT}"
        file = directory / f"{host}.zone"
        file.write_text(zone)
        command = [installed("twistd"), "-n", "--pidfile=", "dns", "--bindzone", str(file)]
        command += ["--interface", host, "--port", str(_PORT)]
        super().__init__(command, directory / f"{host}-dns.log", directory=directory)
        try:
            wait_until(lambda: _accepts(host), 20, f"the name server is ready\n{self.tail()}")
        except BaseException:
            self.kill()
            raise


def _accepts(host: str) -> bool:
    try:
        with socket.create_connection((host, _PORT), timeout=1):
            return True
    except OSError:
        return False
