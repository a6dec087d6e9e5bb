"""Who owns a partition in a farm that is too large to be known whole: looked up, and remembered for a while.

A node knows all that is near to it (the table's siblings), so what it owns itself it knows. Of other partitions it asks
for the nearest nodes (`routing`), all of which answered it, so they are linked, and takes their own word for zone and
role. In a farm that the table knows whole nothing of this happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from farm.overlay.ids import partition_id
from farm.overlay.owners import Place, Placement
from farm.overlay.ownership import Ownership
from farm.overlay.routing import Result, Routing
from farm.overlay.wire import ALIVE, STORES, SUSPECT, Contact

BELIEVED_SECONDS: Final = 30.0
MORE_THAN_OWNERS: Final = 3  # that are looked for, because some may store nothing, or share a zone

Go = Callable[[float], None]


class Locating:
    """`find_member` answers what a node has said of itself."""

    def __init__(
        self,
        routing: Routing,
        ownership: Ownership,
        find_member: Callable[[bytes], Contact | None],
        clock: Callable[[], float],
    ) -> None:
        self._routing = routing
        self._ownership = ownership
        self._find_member = find_member
        self._clock = clock
        self._whole = True
        self._until: dict[int, float] = {}
        self._waiting: dict[int, list[Go]] = {}

    def refresh(self) -> None:
        """The members have changed."""
        self._whole = self._routing.table.is_whole
        if self._whole and self._until:
            self._until.clear()
            self._ownership.located.clear()

    def knows(self, partition: int) -> bool:
        """Whether the owners of a partition are known."""
        if self._whole:
            return True
        if self._ownership.own in self._ownership.current.owners(partition):
            self._forget(partition)
            return True
        if self._until.get(partition, 0.0) > self._clock():
            return True
        self._forget(partition)
        return False

    def find(self, partition: int, go: Go, now: float) -> None:
        """Find them; `go(now)` when that has ended, also if nobody was found."""
        waiting = self._waiting.get(partition)
        if waiting is not None:
            waiting.append(go)
            return
        self._waiting[partition] = [go]
        want = self._ownership.replicas + MORE_THAN_OWNERS
        self._routing.find(
            partition_id(partition), want, lambda result, now: self._found(partition, result, now), now, kind="owners"
        )

    def drop(self, node: bytes) -> None:
        """A node has died or left."""
        located = self._ownership.located
        for partition in [partition for partition, owners in located.items() if node in owners]:
            self._forget(partition)

    def _found(self, partition: int, result: Result, now: float) -> None:
        waiting = self._waiting.pop(partition, [])
        try:
            self._note(partition, result, now)
        finally:
            self._go_on(waiting, now)

    def _go_on(self, waiting: list[Go], now: float) -> None:
        """Let all go on that wait, also when one of them fails."""
        while waiting:
            try:
                waiting.pop(0)(now)
            except Exception:
                self._go_on(waiting, now)
                raise

    def _note(self, partition: int, result: Result, now: float) -> None:
        """Remember who was found."""
        placement = Placement(self._ownership.replicas)
        places = []
        for found in result.finished.contacts:
            contact = self._find_member(found.node)
            if contact is not None and contact.roles & STORES and contact.state in (ALIVE, SUSPECT):
                places.append(Place(contact.node, contact.zone))
        placement.set_nodes(places)
        if places and not self._whole:
            self._until[partition] = now + BELIEVED_SECONDS
            self._ownership.located[partition] = placement.find_owners(partition)

    def _forget(self, partition: int) -> None:
        if self._until.pop(partition, None) is not None:
            del self._ownership.located[partition]
