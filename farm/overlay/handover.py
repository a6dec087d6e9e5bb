"""Handover: what is held here and owned elsewhere, until those who own it have it.

That is what was stored for an owner that could not be reached, what was ours before another came that is nearer, and,
when this node leaves, everything. An owner counts when it was seen to have all of a partition as it is here, which the
digest names; a write in between begins that anew, unless this node leaves: then what was there when it began is handed
over, and what is written meanwhile is the business of those who write it, to all owners and not to us alone. Under a
steady load a leaving node would never end otherwise.

What all owners have is dropped a minute after its last change. It is no hurry, and somebody who leaves may just be
giving it to us because we are next.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence

from farm.overlay.store import Store

OwnersOf = Callable[[int], Sequence[bytes]]


class Handover:
    """What one node holds and does not own. `owned` are the partitions that it does, `owners` says who else."""

    __slots__ = ("_after", "_given", "_grace_seconds", "_holders", "_own", "_owned", "_owners", "_since", "_store")

    def __init__(self, own: bytes, store: Store, owned: Container[int], owners: OwnersOf, grace_seconds: float) -> None:
        self._own = own
        self._store = store
        self._owned = owned
        self._owners = owners
        self._grace_seconds = grace_seconds
        self._after: Sequence[Sequence[bytes]] | None = None
        self._given: dict[int, set[bytes]] = {}  # what there was when we began to leave, and who has it
        self._holders: dict[int, dict[bytes, bytes]] = {}  # by partition: who has all of which digest
        self._since: dict[int, tuple[bytes, float]] = {}  # by partition: its digest, and since when it has it

    @property
    def is_leaving(self) -> bool:
        """Whether this node hands everything over."""
        return self._after is not None

    def leave(self, after: Sequence[Sequence[bytes]]) -> None:
        """Everything that is held now is handed over, to these owners; to these others when it is said again."""
        if self._after is None:
            self._given = {partition: set() for partition in self._store.filled()}
        self._after = after

    def stay(self) -> None:
        """This node does not leave after all."""
        self._after = None
        self._given = {}

    def concerns(self, partition: int) -> bool:
        """Whether a partition is to be handed over."""
        return self._after is not None or partition not in self._owned  # when we leave, also what has come since

    def takers(self, partition: int) -> list[bytes]:
        """Those who have to have a partition before we let go of it."""
        owners = self._owners(partition) if self._after is None else self._after[partition]
        return [node for node in owners if node != self._own]

    def note(self, partition: int, node: bytes, digest: bytes) -> None:
        """A node has all that this digest stands for."""
        holders = self._holders.get(partition)
        if holders is not None:
            holders[node] = digest
        given = self._given.get(partition)
        if given is not None:
            given.add(node)

    def tracks(self, partitions: Iterable[int]) -> list[int]:
        """Of these partitions, those of which `note` wants to hear."""
        if not self._holders and not self._given:
            return []
        return [partition for partition in partitions if partition in self._holders or partition in self._given]

    def look(self, now: float) -> list[tuple[int, bytes]]:
        """Drop what can go, and answer what has to be compared with whom."""
        store = self._store
        concerned = [partition for partition in store.filled() if self.concerns(partition)]
        for gone in set(self._since).difference(concerned):
            del self._since[gone]
            del self._holders[gone]
        wanted: list[tuple[int, bytes]] = []
        for partition in concerned:
            digest = store.digest(partition)
            since = self._since.get(partition)
            if since is None or since[0] != digest:
                since = self._since[partition] = (digest, now)
            holders = self._holders.setdefault(partition, {})
            takers = self.takers(partition)
            given = self._given.get(partition, ())
            lacking = [node for node in takers if holders.get(node) != digest and node not in given]
            wanted += [(partition, node) for node in lacking]
            if takers and not lacking and self._after is None and now - since[1] >= self._grace_seconds:
                store.drop(partition, now)
        return wanted

    def progress(self) -> float:
        """While this node leaves: of the partitions held when it began, the share that all who are to have them have;
        1.0 otherwise."""
        filled = set(self._store.filled()).intersection(self._given)
        lacking = sum([not self._is_with_all(partition) for partition in filled])
        return 1.0 - lacking / len(self._given) if lacking else 1.0

    def is_done(self) -> bool:
        """Whether all that is held here is with all who are to have it; when this node leaves, all that was held when
        it began to."""
        due = [each for each in self._store.filled() if self.concerns(each)]
        return all(self._is_with_all(each) for each in due if self._after is None or each in self._given)

    def _is_with_all(self, partition: int) -> bool:
        digest = self._store.digest(partition)
        holders = self._holders.get(partition, {})
        given = self._given.get(partition, ())
        return all(holders.get(node) == digest or node in given for node in self.takers(partition))
