"""A WebSocket client on a real socket, plain or enciphered: what a browser's page is to a listener, or a stranger."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.support.web_sockets import Frame, split_frames


class Page:
    """A connection. All reading ends with an error when nothing comes for long."""

    def __init__(self, held: socket.socket) -> None:
        self.held = held
        self.data = b""
        self.frames: list[Frame] = []

    def send(self, data: bytes) -> None:
        """Send; a node that has cut us off by then is no mistake."""
        with suppress(OSError):
            self.held.sendall(data)

    def read(self) -> bool:
        """Take what comes next; False when nothing comes any more."""
        try:
            data = self.held.recv(65_536)
        except TimeoutError:
            raise AssertionError("nothing came, and the connection is open") from None
        except OSError:
            data = b""
        self.data += data
        return bool(data)

    def read_head(self) -> str:
        """The answer to the upgrade."""
        while b"\r\n\r\n" not in self.data and self.read():
            pass
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return head.decode()

    def read_frame(self) -> Frame:
        """The next frame."""
        while not self.frames:
            self.frames, self.data = split_frames(self.data)
            assert self.frames or self.read(), "the connection has ended"
        return self.frames.pop(0)

    def wait_closed(self) -> float:
        """Read until the node closes; the seconds that it took."""
        begun = time.monotonic()
        while self.read():
            pass
        return time.monotonic() - begun


@contextmanager
def open_page(target: tuple[str, int], *, source: str = "", secure: bool = False) -> Iterator[Page]:
    """A connection, not yet upgraded, to an address and from one; whose certificate it is does not matter."""
    with socket.create_connection(target, 10, source_address=(source, 0) if source else None) as held:
        if secure:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with context.wrap_socket(held, server_hostname="sip.example.com") as wrapped:
                yield Page(wrapped)
        else:
            yield Page(held)
