"""A fast sender of REGISTERs over UDP, for tests that want many bindings and do not measure SIPp.

A window of requests is kept in flight, so that no socket buffer overflows however slow the node or the machine is;
what stays unanswered is sent again, as RFC 3261 wants of a client.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterable
from typing import Final

from tests.support.agents import make_token

_CALL_ID: Final = re.compile(rb"\r\n(?:Call-ID|i):[ \t]*([^\r]+)", re.IGNORECASE)


def register_many(
    target: tuple[str, int],
    host: str,
    users: Iterable[str],
    *,
    contact: str = "sip:{user}@{host}:5060",
    per_second: int = 4_000,
    window: int = 64,
    timeout: float = 180.0,
) -> int:
    """Register one contact for each user from `host`, at most so many a second; the number answered 200.

    Any other final answer, or none within `timeout` seconds, is an AssertionError.
    """
    run = make_token()
    flying: dict[bytes, tuple[bytes, float]] = {}
    answered = 0
    started = time.monotonic()
    waiting = iter(users)
    exhausted = False
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sender.bind((host, 0))
        sender.setblocking(False)
        port = sender.getsockname()[1]
        while flying or not exhausted:
            now = time.monotonic()
            assert now - started < timeout, f"{answered} answered, {len(flying)} waiting after {timeout:g} s"
            while not exhausted and len(flying) < window and sent < (now - started) * per_second + 1:
                user = next(waiting, None)
                if user is None:
                    exhausted = True
                    break
                call_id = f"{run}-{sent}".encode()
                request = (
                    "REGISTER sip:example.com SIP/2.0\r\n"
                    f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{run}{sent};rport\r\n"
                    "Max-Forwards: 70\r\n"
                    f"From: <sip:{user}@example.com>;tag={sent}\r\n"
                    f"To: <sip:{user}@example.com>\r\n"
                    f"Call-ID: {run}-{sent}\r\n"
                    "CSeq: 1 REGISTER\r\n"
                    f"Contact: <{contact.format(user=user, host=host)}>\r\n"
                    "Expires: 3600\r\n"
                    "Content-Length: 0\r\n\r\n"
                ).encode()
                sender.sendto(request, target)
                flying[call_id] = (request, now)
                sent += 1
            if not select.select([sender], [], [], 0.002)[0]:
                for call_id, (request, since) in list(flying.items()):
                    if now - since > 2.0:
                        sender.sendto(request, target)
                        flying[call_id] = (request, now)
                continue
            while True:
                try:
                    data = sender.recv(65_535)
                except (BlockingIOError, ConnectionRefusedError):
                    break
                found = _CALL_ID.search(data)
                if found is None or data.startswith(b"SIP/2.0 1"):
                    continue
                assert data.startswith(b"SIP/2.0 200"), data.decode(errors="replace")
                if flying.pop(found.group(1).strip(), None) is not None:
                    answered += 1
    return answered
