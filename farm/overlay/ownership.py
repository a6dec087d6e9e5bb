"""Who owns which partition as this node sees it: two placements kept up to date with the members.

`current` places over the storing nodes that are alive or suspected: a suspect still owns, since most are well. `coming`
has those that are joining as well; who is in it only gets writes and counts for nothing. When nobody is alive, after
the power was out everywhere, the joining ones are the owners and compare among themselves.

In a farm that is too large to be known whole the owners of a partition that is far from this node are looked up, and
what was found is noted here (`locating`).

What all live nodes speak (`lowest_version`) says which features may be used: a message that came with version 2 is sent
when that is 2 or more. Where a single node is asked, its answer "unsupported" does as well.

Dead nodes are no owners from the moment that they are declared dead, and those who leave from the moment they have
handed over what they held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from farm.overlay.ids import partition_id, sort_nearest
from farm.overlay.owners import Place, Placement
from farm.overlay.wire import ALIVE, JOINING, STORES, SUSPECT, VERSION, Contact


class Ownership:
    """The placements of a node whose own Node-ID is `own`."""

    __slots__ = ("_contacts", "_suspects", "coming", "current", "learn", "located", "lowest_version", "own", "settled")

    def __init__(
        self,
        own: bytes,
        replicas: int,
        settled: Callable[[int], bool],
        learn: Callable[[Sequence[Contact], float], None],
    ) -> None:
        """`settled` says whether this node has compared a partition with its other owners; `learn` takes contacts that
        others have named."""
        self.own = own
        self.settled = settled
        self.learn = learn
        self.current = Placement(replicas)
        self.coming = Placement(replicas)
        self._contacts: dict[bytes, Contact] = {}
        self._suspects: frozenset[bytes] = frozenset()
        self.lowest_version = VERSION
        self.located: dict[int, Sequence[bytes]] = {}  # by partition: its owners, as found by asking

    def update(self, contacts: Iterable[Contact]) -> bool:
        """These are all members, this node included; answers whether an owner may have changed."""
        self._contacts = {contact.node: contact for contact in contacts}
        versions = [
            contact.version for contact in self._contacts.values() if contact.state in (JOINING, ALIVE, SUSPECT)
        ]
        self.lowest_version = min(versions, default=VERSION)
        storing = [contact for contact in self._contacts.values() if contact.roles & STORES]
        self._suspects = frozenset(contact.node for contact in storing if contact.state == SUSPECT)
        live = [Place(contact.node, contact.zone) for contact in storing if contact.state in (ALIVE, SUSPECT)]
        joining = [Place(contact.node, contact.zone) for contact in storing if contact.state == JOINING]
        changed = self.current.set_nodes(live or joining)
        return self.coming.set_nodes(live + joining, self.current) or changed

    def change_replicas(self, replicas: int) -> bool:
        """Place with another number of replicas; answers whether that is a change."""
        changed = self.current.change_replicas(replicas)
        return self.coming.change_replicas(replicas) or changed

    @property
    def replicas(self) -> int:
        """How many owners a partition has when there are so many nodes."""
        return self.current.replicas

    def version_of(self, node: bytes) -> int:
        """Which version a member speaks; ours when it is none that is known."""
        contact = self._contacts.get(node)
        return VERSION if contact is None else contact.version

    def problem(self) -> str:
        """What is wrong when there is nobody to keep a record; "" when all is well."""
        return "" if len(self.current) else "no node is known that has the role store: nothing can be read or written"

    def owners(self, partition: int) -> Sequence[bytes]:
        """The owners, nearest first."""
        if self.located and partition in self.located:
            return self.located[partition]
        return self.current.owners(partition)

    def joining(self, partition: int) -> Sequence[bytes]:
        """Those who will own it when they have joined, and do not yet."""
        if self.coming.version == 0 or len(self.coming) == len(self.current):
            return ()
        owners = self.current.owners(partition)
        return [node for node in self.coming.owners(partition) if node not in owners]

    def stand_ins(self, partition: int, count: int) -> Sequence[bytes]:
        """The nearest live nodes that are no owners, as many as `count`."""
        owners = len(self.current.owners(partition))
        return self.current.ranked(partition, owners + count)[owners:]

    def is_suspect(self, node: bytes) -> bool:
        """Whether it has not answered lately."""
        return node in self._suspects

    def is_settled(self, partition: int) -> bool:
        """Whether this node's answers about a partition count."""
        return self.settled(partition)

    def receive_nearer(self, contacts: Sequence[Contact], now: float) -> None:
        """Somebody who was asked as an owner knows nearer nodes."""
        self.learn(contacts, now)

    def nearest(self, partition: int, count: int) -> Sequence[Contact]:
        """The storing nodes known nearest to a partition."""
        ranked = self.current.ranked(partition, count)
        return sort_nearest([self._contacts[node] for node in ranked], partition_id(partition), _node_of)


def _node_of(contact: Contact) -> bytes:
    return contact.node
