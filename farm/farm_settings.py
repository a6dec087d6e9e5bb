"""The settings of what makes nodes a farm: the overlay, its zone, and where records are kept.

Written as `settings.py` says, which puts all sections together.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from farm.sections import Count, CountOrOff, Seconds, SecondsOrOff, Section


class KeysSettings(Section, frozen=True):
    """The keys that all nodes share and make anew: of what we write into messages to know it again, and of nonces."""

    rotation_seconds: Annotated[float, msgspec.Meta(ge=1800)] = 86_400.0
    """Age of the newest key at which the next is made; it is used ten minutes later, when every node has it. A day
    bounds what one key seals; shorter keeps more of them to be tried."""
    token_life_seconds: Seconds = 604_800.0
    """How long what a key sealed is known again after the next one took over: the longest call that can still be ended
    through any node. A week is beyond all calls; longer keeps more keys, of which 24 rotations are the most."""


class OverlaySettings(Section, frozen=True):
    """The farm's other nodes, and how they share the records. Zone, roles and Node-ID stand in the certificate."""

    listen: str = ""
    """Address as `HOST:PORT` where other nodes reach this one, `10.0.0.1:7400` say; empty: a lone node."""
    advertise: str = ""
    """Address as `HOST:PORT` that other nodes are told to dial, behind a 1:1 NAT or when `listen` is a wildcard; empty:
    `listen` itself."""
    identity: str = ""
    """Directory of the node's certificate and key, the authority that it trusts and what all nodes share, as
    `sipfarm ca issue` writes it; empty: `state_dir/identity`."""
    seeds: tuple[str, ...] = ()
    """Nodes to join by, as `HOST:PORT`, a name in place of HOST too. Two or three suffice, since each tells of all
    others; a node may list itself, so that one list serves the whole farm."""
    dns: str = ""
    """Domain whose SRV records at `_sipfarm._tcp` are seeds; empty: the overlay's own name when that is a domain."""
    multicast: bool = False
    """Ask for other nodes on the local link, and answer there (port 7400). Off by default: most clouds carry none."""
    join_seconds: SecondsOrOff = 30.0
    """How long a node that meets nobody who is in the farm, others that start with it left out, waits before it serves
    from its journal; it keeps trying. It does not wait when all its seeds, and the members last known, have answered.
    Shorter serves sooner when the power comes back and a machine does not, longer saves calls from a node that knows
    only a part."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=16)] = 3
    """Nodes that hold each record; the overlay's signed configuration wins. Three lose nothing while two crash at
    once; each one more costs memory and traffic everywhere."""
    writes: Literal["available", "strict"] = "available"
    """What a registration gets when fewer than a majority of its owners answer: `available` accepts it once one other
    node has it, `strict` refuses it with 500."""
    write_seconds: Seconds = 2.0
    """How long a write or a read may take; a phone repeats after 0.5 s and gives up after 32 s."""
    stand_in_seconds: Seconds = 0.3
    """A write not acknowledged by a majority within this is also given to the next-nearest nodes, which pass it on."""
    coalesce_seconds: SecondsOrOff = 0.02
    """Writes and acknowledgements wait for company until the wall clock next shows a multiple of this. It adds up to
    twice that to a registration, and saves most of the processor's work when many come; 0 sends at the end of each
    turn. The same on all nodes: they then send at the same moments."""
    probe_seconds: Seconds = 1.0
    """Interval of the failure detector (SWIM): shorter finds silent crashes sooner at the price of traffic. A link that
    breaks is noticed at once."""
    hold_down_seconds: SecondsOrOff = 30.0
    """How long a dead node's records wait for its return before they are copied anew; a single copy is copied at
    once. Longer than a restart takes, or each restart copies everything twice."""
    compare_seconds: Seconds = 60.0
    """Within this each two owners compare what they hold, which heals what was missed."""
    repair_bytes_per_second: Count = 5_000_000
    """Bytes that copying between nodes may take each second, so that calls keep the rest."""
    peer_requests_per_second: CountOrOff = 20_000
    """Requests of one other node that are answered each second; more are refused as "busy". Ten times what a farm under
    full load sends, so that only a node that has gone wild meets it; 0 sets no limit."""
    record_writes_per_second: CountOrOff = 20
    """Writes of one address-of-record that are taken each second, after a burst of five seconds' worth; more get 500
    with Retry-After. A phone writes when it registers, so it takes hundreds under one name; 0 sets no limit."""


class DnsSettings(Section, frozen=True):
    """The farm as the name server of its own zone (RFC 3263): who asks by name is sent to nodes that live."""

    listen: tuple[str, ...] = ()
    """Addresses as `HOST:PORT` where this node answers questions, by UDP and TCP, port 53 where a zone is delegated to
    it; empty: it answers none. Each has an address of its own, no wildcard."""
    zone: str = ""
    """Zone that is delegated to the farm; empty: `sip.farm_name`. Its own name has the addresses of the farm, and
    requests to it are for us as those to `sip.farm_name` are. Say it on nodes that answer no questions, too."""
    addresses: tuple[str, ...] = ()
    """Addresses, IPv4 and IPv6, under which strangers reach this node's listeners; empty: `sip.advertise`, else each
    listener's own. Needed for wildcard listeners: without it they are not shown. Say it on nodes that answer no
    questions, too."""
    ttl_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 10
    """How long answers may be kept: a dead node is still called for so long by whoever does not try the next one.
    Shorter costs questions."""
    prefer: tuple[Literal["tls", "tcp", "udp", "wss", "ws"], ...] = ("tls", "tcp", "udp", "wss", "ws")
    """Order of the transports in the NAPTR records; what is left out has none, and nobody is sent there but by its SRV
    records. As in RFC 3263's example: over TLS and TCP a dead node is noticed at once, over UDP after seconds."""
    nameservers: tuple[str, ...] = ()
    """Names of the zone's NS records, which lie outside of it: those of secondaries, say; empty: the farm's nodes that
    answer questions, under names made for them."""
    hostmaster: str = ""
    """Mail address in the SOA record; empty: `hostmaster@` the zone."""
    secondaries: tuple[str, ...] = ()
    """Name servers as `HOST` or `HOST:PORT` that may transfer the zone (AXFR, over TCP) and are told of each new
    version (NOTIFY). Nobody else may."""
    responses_per_second: SecondsOrOff = 100.0
    """Answers that one network (/24, /56) gets each second over UDP, where sources are forged; beyond, every second one
    says "ask over TCP" and the others are left out. Over TCP its questions wait. A busy resolver asks a few times in
    each `ttl_seconds`; 0 sets no limit."""
    connections: Count = 200
    """Open TCP connections, 20 of one address (of IPv6: /64); further ones are closed at once."""
    idle_seconds: Seconds = 10.0
    """A connection without a question is closed after this (RFC 7766 §6.2.3 wants a few seconds)."""


class StoreSettings(Section, frozen=True):
    """Where registrations and users are kept across restarts."""

    backend: Literal["sqlite", "redis", "memory"] = "sqlite"
    """`sqlite` is a write-ahead journal in `state_dir`; `redis` keeps the same in a Redis (4.0 or later), so that a
    container needs no disk; `memory` keeps nothing, for benchmarks and tests. Calls wait for neither."""
    flush_seconds: Seconds = 0.5
    """Changes are written in batches this often: what a power loss can cost. A crash of the process costs no more."""
    most_records: Count = 2_000_000
    """Registrations and users that this node holds, each about half a KiB of memory. At the limit new ones get 500, and
    what is there stays and is refreshed as before."""
    redis: str = "127.0.0.1:6379"
    """Redis as `HOST:PORT`. What goes there is as good as passwords and is not encrypted on the way: keep it inside, or
    behind a tunnel. What a crash of Redis itself costs is said by its `appendonly` and `appendfsync`, and its
    `maxmemory-policy` must be `noeviction`."""
    redis_sentinels: tuple[str, ...] = ()
    """Sentinels as `HOST:PORT`; when given, they are asked for the master in place of `redis`, without a password, and
    neither they nor the master they name are reached by TLS."""
    redis_master: str = "mymaster"
    """Name under which the Sentinels know the master."""
    redis_database: CountOrOff = 0
    """Number of the database in Redis."""
    redis_user: str = ""
    """User of Redis's access list; empty: the default user."""
    redis_password_file: str = ""
    """File of the password, which is its first line; empty: no password."""
    redis_prefix: str = ""
    """Begins the names of all keys, one node's own: a second process with the same is refused. Empty:
    `sipfarm:` and the node's name, so that nodes of several farms on one Redis want a prefix each."""
    redis_timeout_seconds: Seconds = 2.0
    """How long a command may take; then the connection is given up, the node goes on from memory and tries again."""
