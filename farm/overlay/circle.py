"""The peers that this node has a link to, and who of them is drawn for a probe, for help, or for gossip.

A peer that has linked to us and was not dialled back yet is no member: it is spoken to when it asks, and never drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from farm.overlay.wire import Contact


class Circle:
    """Links by Node-ID. `members` is the roster's."""

    __slots__ = ("_links", "_members", "_pool", "_rng", "unverified")

    def __init__(self, members: Mapping[bytes, Contact], rng: random.Random) -> None:
        self._members = members
        self._rng = rng
        self._links: dict[bytes, None] = {}
        self._pool: list[bytes] | None = None
        self.unverified: dict[bytes, Contact] = {}  # linked, but not dialled back yet: their own word

    def __contains__(self, node: bytes) -> bool:
        return node in self._links

    def __iter__(self) -> Iterator[bytes]:
        return iter(list(self._links))

    def open(self, node: bytes) -> None:
        """There is a link to this one."""
        self._links[node] = None
        self._pool = None

    def close(self, node: bytes) -> None:
        """There is none any more."""
        self._links.pop(node, None)
        self.unverified.pop(node, None)
        self._pool = None

    def changed(self) -> None:
        """Members came or were forgotten."""
        self._pool = None

    def linked(self) -> list[bytes]:
        """The members among them."""
        if self._pool is None:
            self._pool = [node for node in self._links if node in self._members]
        return self._pool

    def draw(self, most: int, may: Callable[[Contact], bool]) -> list[bytes]:
        """Up to `most` of the members among them that `may` allows, at random. Of many, those found in a bounded number
        of tries."""
        pool = self.linked()
        if len(pool) <= 8 * most:
            fit = [node for node in pool if may(self._members[node])]
            return fit if len(fit) <= most else self._rng.sample(fit, most)
        found: dict[bytes, None] = {}
        for _try in range(8 * most):
            node = pool[self._rng.randrange(len(pool))]
            if may(self._members[node]):
                found[node] = None
                if len(found) == most:
                    break
        return list(found)
