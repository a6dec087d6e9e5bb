"""A name server that knows no name: `python no_names.py HOST`, on port 53 over UDP, says NXDOMAIN to everything.

What a network without any zone of ours has; without it every lookup would last until it is given up.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

_NXDOMAIN: Final = b"\x81\x83"  # an answer, recursion wanted and available
_COUNTS: Final = b"\x00\x01\x00\x00\x00\x00\x00\x00"


def make_answer(question: bytes) -> bytes:
    """The answer to a question of one name (RFC 1035 §4.1)."""
    end = question.index(b"\x00", 12) + 5
    return question[:2] + _NXDOMAIN + _COUNTS + question[12:end]


def serve(host: str) -> None:
    """For ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((host, 53))
        while True:
            question, source = listening.recvfrom(4096)
            if len(question) > 16 and b"\x00" in question[12:-4]:
                listening.sendto(make_answer(question), source)


if __name__ == "__main__":
    serve(sys.argv[1])
