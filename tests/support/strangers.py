"""Strangers at the port on which nodes talk to each other: with a right certificate, a wrong one, or none.

A stranger speaks TLS by Python's `ssl`, not by the farm's own links, and says whatever a test wants. TLS 1.3 lets a
client finish before the server has looked at its certificate, so that being refused shows as the end of what can be
read.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from farm.overlay.wire import OLDEST_VERSION, VERSION, Codec, Contact, Hello
from farm.security.certificate import (
    ROLES,
    Subject,
    make_key,
    make_node_certificate,
    pack_certificate,
    pack_key,
    unpack_certificates,
    unpack_key,
)

_ALPN: Final = "sipfarm/1"
_WAIT_SECONDS: Final = 12.0


class Stranger:
    """One connection to a node's port, over TLS unless `plain`. `identity` is a directory with key.pem and cert.pem."""

    def __init__(
        self, target: tuple[str, int], host: str, identity: Path | None = None, *, plain: bool = False
    ) -> None:
        raw = socket.create_connection(target, timeout=_WAIT_SECONDS, source_address=(host, 0))
        self.socket: socket.socket = raw
        if not plain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_alpn_protocols([_ALPN])
            if identity is not None:
                context.load_cert_chain(identity / "cert.pem", identity / "key.pem")
            self.socket = context.wrap_socket(raw, suppress_ragged_eofs=True)

    def send(self, data: bytes) -> None:
        """Send bytes as they are; that they do not arrive shows in `wait_closed`."""
        try:
            self.socket.sendall(data)
        except OSError:
            return

    def wait_closed(self, timeout: float = _WAIT_SECONDS) -> float:
        """Read until the node closes; answers the seconds. Fails when it does not."""
        began = time.monotonic()
        self.socket.settimeout(timeout)
        try:
            while self.socket.recv(65_536):
                assert time.monotonic() - began < timeout, "the node goes on talking"
        except TimeoutError:
            raise AssertionError(f"the node keeps the connection after {timeout:g} s") from None
        except OSError:  # an alert, or a reset
            pass
        self.close()
        return time.monotonic() - began

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def make_hello(overlay: str, node_id: bytes, host: str, *, ahead: float = 0.0) -> bytes:
    """The frame of a HELLO of that node at that host, whose clock is so many seconds ahead."""
    contact = Contact(node_id, host, 7400, 1, roles=sum(ROLES.values()), name="stranger")
    codec = Codec()
    hello = Hello(overlay, contact, OLDEST_VERSION, VERSION, int((time.time() + ahead) * 1000))
    return codec.frame(0, time.monotonic(), [codec.pack(hello)])


def forge_identity(
    directory: Path, authority: Path, overlay: str, node_id: bytes, *, days: Sequence[float] = (0.0, 1.0)
) -> Path:
    """An identity signed with an authority's own key, valid between two times in days from now."""
    key = unpack_key((authority / "ca-key.pem").read_bytes())
    certificate = unpack_certificates((authority / "ca.pem").read_bytes())[0]
    own = make_key()
    subject = Subject(overlay, node_id, "forged", "", sum(ROLES.values()))
    begin, end = days
    made = make_node_certificate(
        key,
        certificate,
        own.public_key(),
        subject,
        time.time() + begin * 86_400,
        end - begin,
    )
    directory.mkdir(parents=True)
    (directory / "cert.pem").write_bytes(pack_certificate(made))
    (directory / "key.pem").write_bytes(pack_key(own))
    return directory
