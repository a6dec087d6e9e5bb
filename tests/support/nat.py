"""A network address translator for the in-memory network.

It behaves as most home routers: an inside endpoint keeps one public port whatever it talks to (endpoint-independent
mapping), and only endpoints that it has sent to may send back in (address- and port-dependent filtering, RFC 4787).
"""

from __future__ import annotations

Endpoint = tuple[str, int]


class Nat:
    """One public address in front of hosts with private ones."""

    def __init__(self, address: str, lifetime: float) -> None:
        self.address = address
        self.lifetime = lifetime
        self._next_port = 20000
        self._public: dict[Endpoint, int] = {}
        self._inside: dict[int, Endpoint] = {}
        self._opened: dict[tuple[int, Endpoint], float] = {}

    def send_out(self, source: Endpoint, target: Endpoint, now: float) -> Endpoint:
        """A packet leaves: the source that the world sees. Opens, or keeps open, the way back from the target."""
        port = self._public.get(source)
        if port is None:
            port = self._next_port
            self._next_port += 1
            self._public[source] = port
            self._inside[port] = source
        self._opened[(port, target)] = now
        return (self.address, port)

    def let_in(self, target: Endpoint, source: Endpoint, now: float) -> Endpoint | None:
        """A packet comes: the inside endpoint that gets it, None when the way is not open."""
        opened_at = self._opened.get((target[1], source))
        if opened_at is None or now - opened_at > self.lifetime:
            return None
        return self._inside.get(target[1])

    def forget(self) -> None:
        """The router restarts: every mapping is gone and the next ports are others."""
        self._public.clear()
        self._inside.clear()
        self._opened.clear()
