"""The routing table: k-buckets (Kademlia §2.2, §2.4) of 128 contacts, so that a farm of up to about 250 is known whole.

Bucket i holds the nodes whose IDs have exactly the first i bits in common with ours: bucket 0 is the other half of the
farm, bucket 1 the other half of our half. What is near to us is therefore known completely, and of what is far 128 in
each direction, which makes a lookup among 10,000 nodes two or three steps.

Who gets into the table is said by the caller: a contact whose own handshake succeeded, never hearsay. The longer a node
has been up the longer it is likely to stay (Kademlia §2.1), so a full bucket keeps whom it has: `add` answers
Full(oldest), the caller pings the oldest, and `touch`es or `remove`s it. Those turned away wait in a small cache and
move up when somebody goes. The siblings, the 2r nearest of all, are never turned away: they share our partitions.

Decided: buckets are filed by common prefix and never split. A bucket is wide enough that splitting those far from us
(Kademlia's b > 1) would save a step only beyond 10,000 nodes.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from farm.overlay.ids import ID_BITS, ID_BYTES
from farm.overlay.wire import Contact

BUCKET_CONTACTS: Final = 128
CACHE_CONTACTS: Final = 32  # turned away and remembered, a bucket


class Added(NamedTuple):
    """The contact is in the table now."""

    contact: Contact


class Known(NamedTuple):
    """It was there already; what is said of it has been renewed."""

    contact: Contact


class Full(NamedTuple):
    """Its bucket is full; ping `oldest`, the one not heard of for longest, and touch or remove it by the outcome."""

    oldest: Contact


class _Entry:
    __slots__ = ("contact", "number", "since")

    def __init__(self, contact: Contact, number: int, since: float) -> None:
        self.contact = contact
        self.number = number
        self.since = since


class _Bucket:
    __slots__ = ("cache", "entries", "overflowed")

    def __init__(self) -> None:
        self.entries: dict[bytes, _Entry] = {}  # in the order in which they were last heard of
        self.cache: dict[bytes, Contact] = {}  # turned away, the latest last
        self.overflowed = False  # somebody was turned away whom we may not know any more


class Table:
    """The contacts of the node with ID `own`."""

    def __init__(
        self,
        own: bytes,
        replicas: int = 3,
        *,
        bucket_contacts: int = BUCKET_CONTACTS,
        cache_contacts: int = CACHE_CONTACTS,
    ) -> None:
        if len(own) != ID_BYTES:
            raise ValueError(f"a Node-ID has {ID_BYTES} bytes, not {len(own)}")
        self.own = own
        self.sibling_count = 2 * replicas
        self._number = int.from_bytes(own, "big")
        self._bucket_contacts = bucket_contacts
        self._cache_contacts = cache_contacts
        self._buckets: list[_Bucket | None] = [None] * ID_BITS
        self._depth = 0  # buckets from here on are empty
        self._size = 0
        self._refreshed = -1

    def __len__(self) -> int:
        return self._size

    def __contains__(self, node: bytes) -> bool:
        return self.get(node) is not None

    def __iter__(self) -> Iterator[Contact]:
        """All contacts, the far ones first."""
        for bucket in self._used():
            for entry in bucket.entries.values():
                yield entry.contact

    def get(self, node: bytes) -> Contact | None:
        """A contact by its Node-ID, None when it is not in the table."""
        bucket = self._find_bucket(node)
        entry = None if bucket is None else bucket.entries.get(node)
        return None if entry is None else entry.contact

    def wants(self, node: bytes) -> bool:
        """Whether `add` would take a node that is not in the table: who asks need not dial it otherwise."""
        if len(node) != ID_BYTES or node == self.own:
            return False
        bucket = self._find_bucket(node)
        if bucket is None:
            return True
        if node in bucket.entries:
            return False
        return len(bucket.entries) < self._bucket_contacts or self._is_sibling(int.from_bytes(node, "big"))

    def add(self, contact: Contact, now: float) -> Added | Known | Full:
        """Enter a contact that has just proved itself by a handshake. Raises ValueError for our own ID and for what
        is none: neither comes out of a handshake."""
        node = contact.node
        number = int.from_bytes(node, "big")
        if len(node) != ID_BYTES or node == self.own:
            raise ValueError("not another node's ID")
        index = self._index(number)
        bucket = self._buckets[index]
        if bucket is None:
            bucket = self._buckets[index] = _Bucket()
        entry = bucket.entries.pop(node, None)
        if entry is not None:
            entry.contact = contact
            bucket.entries[node] = entry
            return Known(contact)
        if len(bucket.entries) >= self._bucket_contacts:
            evicted = self._newest_stranger(bucket) if self._is_sibling(number) else None
            if evicted is None:
                self._turn_away(bucket, contact)
                return Full(next(iter(bucket.entries.values())).contact)
            del bucket.entries[evicted.contact.node]
            self._size -= 1
            self._turn_away(bucket, evicted.contact)
        bucket.cache.pop(node, None)
        bucket.entries[node] = _Entry(contact, number, now)
        self._size += 1
        self._depth = max(self._depth, index + 1)
        return Added(contact)

    def touch(self, node: bytes) -> None:
        """A contact was heard of: it is not its bucket's oldest any more."""
        bucket = self._find_bucket(node)
        if bucket is not None:
            entry = bucket.entries.pop(node, None)
            if entry is not None:
                bucket.entries[node] = entry

    def remove(self, node: bytes, now: float) -> Contact | None:
        """Drop a contact, whether in the table or waiting. Answers who has moved up in its place: it was reachable
        when it was turned away, which may be long ago."""
        bucket = self._find_bucket(node)
        if bucket is None:
            return None
        bucket.cache.pop(node, None)
        if bucket.entries.pop(node, None) is None:
            return None
        self._size -= 1
        promoted: Contact | None = None
        if bucket.cache:
            _, promoted = bucket.cache.popitem()
            bucket.entries[promoted.node] = _Entry(promoted, int.from_bytes(promoted.node, "big"), now)
            self._size += 1
        while self._depth and not self._is_used(self._depth - 1):
            self._depth -= 1
        return promoted

    def nearest(self, target: bytes, count: int, exclude: Collection[bytes] = ()) -> list[Contact]:
        """The contacts nearest to `target`, nearest first."""
        to = int.from_bytes(target, "big")
        index = self._index(to)
        found: list[Contact] = []
        # First the bucket around the target, then, all of them as far from it, those around us, then outwards.
        self._gather(index, index + 1, to, count, exclude, found)
        self._gather(index + 1, self._depth, to, count, exclude, found)
        for outer in range(min(index, self._depth) - 1, -1, -1):
            if len(found) >= count:
                break
            self._gather(outer, outer + 1, to, count, exclude, found)
        return found

    @property
    def siblings(self) -> list[Contact]:
        """The 2r contacts nearest to us, nearest first."""
        return self.nearest(self.own, self.sibling_count)

    @property
    def is_whole(self) -> bool:
        """Whether nobody has been turned away: then everybody that was ever added and not removed is known."""
        return not any(bucket.overflowed for bucket in self._used())

    def size_estimate(self) -> int:
        """How many nodes the farm has, ourselves included. Exact while the table is whole; otherwise those in the
        largest part of ID space around us of which nobody was turned away, times how often that part fits."""
        first = 0
        inside = 0
        for index in range(self._depth - 1, -1, -1):
            bucket = self._buckets[index]
            if bucket is not None:
                if bucket.overflowed:
                    first = index + 1
                    break
                inside += len(bucket.entries)
        return 1 + (inside << first)

    def uptimes(self, wall: float) -> list[float]:
        """For how many seconds each contact has been up, least first: an incarnation begins as the time of booting.
        `wall` is our wall clock; those who differ from it by seconds do not matter here."""
        return sorted(
            max(0.0, wall - entry.contact.incarnation / 1000.0)
            for bucket in self._used()
            for entry in bucket.entries.values()
        )

    def next_refresh(self, rng: random.Random) -> bytes:
        """The ID to look up next so that the table stays filled: our own and one in each bucket, in turns."""
        self._refreshed += 1
        if self._refreshed >= self._depth:
            self._refreshed = -1
            return self.own
        index = self._refreshed
        bucket = self._buckets[index]
        if bucket is not None and len(bucket.entries) < self._bucket_contacts and not bucket.cache:
            bucket.overflowed = False  # this lookup and its like find those whom we have forgotten
        bits = ID_BITS - 1 - index
        return ((((self._number >> bits) ^ 1) << bits) | rng.getrandbits(bits)).to_bytes(ID_BYTES, "big")

    def _gather(
        self, first: int, end: int, to: int, count: int, exclude: Collection[bytes], found: list[Contact]
    ) -> None:
        missing = count - len(found)
        if missing <= 0:
            return
        near = [
            (entry.number ^ to, entry.contact)
            for bucket in self._buckets[first:end]
            if bucket is not None
            for entry in bucket.entries.values()
            if entry.contact.node not in exclude
        ]
        near.sort(key=_distance_of)
        found.extend([contact for _, contact in near[:missing]])

    def _turn_away(self, bucket: _Bucket, contact: Contact) -> None:
        bucket.overflowed = True
        bucket.cache.pop(contact.node, None)
        bucket.cache[contact.node] = contact
        if len(bucket.cache) > self._cache_contacts:
            del bucket.cache[next(iter(bucket.cache))]

    def _is_sibling(self, number: int) -> bool:
        siblings = self.siblings
        if len(siblings) < self.sibling_count:
            return True
        furthest = int.from_bytes(siblings[-1].node, "big")
        return number ^ self._number < furthest ^ self._number

    def _newest_stranger(self, bucket: _Bucket) -> _Entry | None:
        """The one in a bucket that came last and is no sibling."""
        siblings = {contact.node for contact in self.siblings}
        strangers = [entry for node, entry in bucket.entries.items() if node not in siblings]
        return max(strangers, key=lambda entry: entry.since) if strangers else None

    def _index(self, number: int) -> int:
        """The bucket of an ID; for our own, the last."""
        return min(ID_BITS - (number ^ self._number).bit_length(), ID_BITS - 1)

    def _find_bucket(self, node: bytes) -> _Bucket | None:
        return self._buckets[self._index(int.from_bytes(node, "big"))] if len(node) == ID_BYTES else None

    def _is_used(self, index: int) -> bool:
        bucket = self._buckets[index]
        return bucket is not None and bool(bucket.entries)

    def _used(self) -> list[_Bucket]:
        return [bucket for bucket in self._buckets[: self._depth] if bucket is not None]


def _distance_of(near: tuple[int, Contact]) -> int:
    return near[0]
