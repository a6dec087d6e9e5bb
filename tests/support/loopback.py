"""Loopback addresses for tests that run real processes: one address a host, so that all can use the same ports.

127.0.0.0/8 is all ours on Linux. An address is reserved by a bound socket that lives as long as the reservation, so
two test runs on one machine never share one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

# No program of ours uses this port; it only says "taken".
_RESERVATION_PORT: Final = 61_000
_NETWORK: Final = "127.0.1"


@contextmanager
def reserve_addresses(count: int) -> Iterator[list[str]]:
    """Reserve that many addresses of 127.0.1.0/24 until the block ends; LookupError when too few are free."""
    held: list[socket.socket] = []
    addresses: list[str] = []
    try:
        for last in range(2, 255):
            if len(addresses) == count:
                break
            address = f"{_NETWORK}.{last}"
            reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                reservation.bind((address, _RESERVATION_PORT))
            except OSError:
                reservation.close()
                continue
            held.append(reservation)
            addresses.append(address)
        if len(addresses) < count:
            raise LookupError(f"only {len(addresses)} of {count} addresses of {_NETWORK}.0/24 are free")
        yield addresses
    finally:
        for reservation in held:
            reservation.close()
