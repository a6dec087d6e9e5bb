"""The overlay: replicated, merged, expiring records. It knows nothing of SIP: keys and values are bytes.

A kind of record brings its name, its merge and its limits, and is registered by the composition root. Read in this
order:

- `clock.py`    the hybrid logical clock that orders updates of different nodes
- `cells.py`    what is held of each partition, as two nodes compare it
- `store.py`    the records that this node holds: merge, expiry, tombstones, what is not yet written down
- `local.py`    that store, as a lone node's registrar and users see it
- `journal.py`  the file they are started from
- `redis_journal.py` *  the same in Redis, for nodes without a disk
- `scribe.py`   when either is written and with what
- `seeds.py`    where to find other nodes: seeds, DNS, members last known
- `multicast.py` *  who else is on the local link
- `wire.py`     the messages between nodes and their frames
- `requests.py`  what may be asked, what answers it, what its bytes count as
- `rtt.py`      how long a node takes to answer, and how patient that makes us
- `calls.py`    who is asked what and waits for which answer; what travels in one frame
- `link.py` *   one connection to another node: TLS, HELLO, frames
- `admission.py`  who may begin one: so many a second
- `rpc.py` *    all of them, and which one serves a pair
- `ids.py`      identifiers, distance, and the partitions that keys fall into
- `owners.py`   which nodes own a partition
- `table.py`    the routing table: wide k-buckets
- `churn.py`    how often it is refreshed
- `lookup.py`   finding the nodes nearest to an ID by asking
- `routing.py`  table and lookups in use
- `membership.py`  who is in the farm and how they are: SWIM with Lifeguard's corrections; its parts:
- `gossip.py`   which of two sayings of a node counts, and the news to pass on
- `grapevine.py`  when news are passed on, and to whom
- `roster.py`   the members as they are held, counted by state
- `circle.py`   those of them that there are links to
- `probing.py`  asking after nodes: ping, indirect ping, Nack
- `awareness.py`  how far this node may trust its own verdicts
- `suspicion.py`  how long a suspect has to refute
- `breaks.py`   what a broken link and refused dials show
- `dials.py`    whom to dial and when: broken links, candidates, the graveyard
- `replication.py`  what has to be compared with whom as members come and go, and whose answers count meanwhile
- `errands.py`   what is to be compared with whom, and from when on
- `handover.py`  what is held here and owned elsewhere, until its owners have it
- `holdings.py`  how much of what is held here this node owns
- `antientropy.py`  comparing, the side that is asked: digests, key lists, records
- `comparison.py`  the side that asks: one partition made equal on two nodes
- `budget.py`   what that may move in a second
- `upkeep.py`   does all of it: rounds, repair, joining and leaving
- `ownership.py`  who owns what, as this node sees it
- `locating.py`  the same for what is far away in a farm too large to be known whole
- `quorum.py`   how many must answer, and what reading and writing have in common
- `reads.py`    reading a record from its owners
- `writes.py`   writing one to them
- `access.py`   both, once it is known whom to ask
- `serving.py`  the other side: what is asked of this node's records
- `scanning.py`  all records of a kind, for lists
- `settings.py`  what of the configuration a node needs
- `offset.py`   how far its clock is from the others'
- `reach.py`    how membership reaches others
- `relaying.py`  bytes for what runs above the overlay on another node
- `node.py`     the front door: all of these put together; told the time, so that a simulation runs the same
- `shared.py` *  the replicated store as registrar and users see it

A lone node needs the first seven of them, and `ids.py` for their keys.
"""
