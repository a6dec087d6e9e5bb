"""Rates and bans by source address: what one stranger may cost us.

Two limits, each off at 0: requests a second, and failed authentications a minute. Who exceeds the second is banned
for a while, which refuses its credentials right or wrong and leaves requests without any alone: in-dialog requests of
an office keep flowing while somebody behind the same NAT guesses passwords. Told the time (monotonic seconds);
the caller drops or answers.

A rate is one number a source (the generic cell rate algorithm, ITU-T I.371): the time at which its bucket would be
empty again. IPv6 sources count by /64, which is what one customer has. All tables are bounded: a flood from many
addresses forgets the least recently seen, and of bans the one that would end first.

Decided: a ban is a fact of its own beside the rate, so that operators can list and lift it, and so that a flood of new
addresses, which empties the tables of rates, lifts no ban before the ban table is full as well.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

_V6_BITS: Final = 64


class Allowed:
    """Go on."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Allowed()"


class Limited(NamedTuple):
    """Refuse: `reason` is "request-rate" or "banned", `until` the monotonic time at which it may work again."""

    reason: str
    until: float


class Ban(NamedTuple):
    """One banned source: an address, or for IPv6 a /64, and the monotonic time at which the ban ends."""

    source: str
    reason: str
    until: float


Limit = Allowed | Limited
ALLOWED: Final = Allowed()


class RateTable:
    """A token bucket for each of at most `entries` keys: `rate` a second, `burst` at once.

    A bucket is kept as the time when it would be full again; that time less `now` is what has been used.
    """

    __slots__ = ("_depth", "_entries", "_interval", "_used")

    def __init__(self, rate: float, burst: float, entries: int) -> None:
        self._interval = 1.0 / rate
        self._depth = (max(burst, 1.0) - 1.0) * self._interval
        self._entries = max(entries, 1)
        self._used: OrderedDict[str | bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def take(self, key: str | bytes, now: float) -> float:
        """Take one token; answers 0.0, or the time until which there is none (nothing is taken then)."""
        used = self._used
        full_at = used.get(key)
        if full_at is None:
            if len(used) >= self._entries:
                used.popitem(last=False)
            used[key] = now + self._interval
            return 0.0
        used.move_to_end(key)
        if full_at < now:
            full_at = now
        free_at = full_at - self._depth
        # a nanosecond of grace, so that whoever comes exactly at `until` is not turned away by rounding
        if free_at > now + 1e-9:
            return free_at
        used[key] = full_at + self._interval
        return 0.0

    def forget(self, key: str | bytes) -> None:
        """Fill the bucket of `key` again."""
        self._used.pop(key, None)


class SourceLimits:
    """The limits of all sources. `host` is a numeric address, as in `request.source.host`.

    `requests_per_second` and `burst`: requests of one source, 0 for no limit. `failures_per_minute`: failed
    authentications before a ban of `ban_seconds`, 0 for no bans. `exempt_networks`: sources that nothing here
    concerns. `table_entries` bounds each table. Raises ValueError for a network that is none.
    """

    __slots__ = ("_ban_seconds", "_bans", "_entries", "_exempt", "_failures", "_requests", "_sources")

    def __init__(
        self,
        *,
        requests_per_second: float = 0.0,
        burst: int = 100,
        failures_per_minute: int = 300,
        ban_seconds: float = 600.0,
        exempt_networks: Sequence[str] = (),
        table_entries: int = 100_000,
    ) -> None:
        self._bans: dict[str, float] = {}  # source -> until, in the order they were given
        self._sources: OrderedDict[str, str] = OrderedDict()  # host -> its source, "" when exempt
        self.change(
            requests_per_second=requests_per_second,
            burst=burst,
            failures_per_minute=failures_per_minute,
            ban_seconds=ban_seconds,
            exempt_networks=exempt_networks,
            table_entries=table_entries,
        )

    def change(
        self,
        *,
        requests_per_second: float,
        burst: int,
        failures_per_minute: int,
        ban_seconds: float,
        exempt_networks: Sequence[str],
        table_entries: int,
    ) -> None:
        """Other limits from now on. Bans last as long as they were given for; rates begin anew."""
        self._exempt = [ipaddress.ip_network(text, strict=False) for text in exempt_networks]
        self._sources.clear()
        self._entries = table_entries
        self._requests = RateTable(requests_per_second, burst, table_entries) if requests_per_second > 0 else None
        self._failures: RateTable | None = None
        if failures_per_minute > 0:
            self._failures = RateTable(failures_per_minute / 60.0, failures_per_minute, table_entries)
        self._ban_seconds = ban_seconds

    def admit_request(self, host: str, now: float) -> Limit:
        """Count a request against its source's rate."""
        if self._requests is None:
            return ALLOWED
        source = self._source_of(host)
        if not source:
            return ALLOWED
        until = self._requests.take(source, now)
        return Limited("request-rate", until) if until else ALLOWED

    def admit_credentials(self, host: str, now: float) -> Limit:
        """Whether credentials from there are looked at: not while it is banned."""
        if not self._bans:
            return ALLOWED
        until = self._bans.get(self._source_of(host))
        if until is None:
            return ALLOWED
        if until > now:
            return Limited("banned", until)
        self._end_bans(now)
        return ALLOWED

    def record_failure(self, host: str, now: float) -> Limit:
        """Count a failed authentication; answers Limited when it was one too many and the source is banned now."""
        if self._failures is None:
            return ALLOWED
        source = self._source_of(host)
        if not source or not self._failures.take(source, now):
            return ALLOWED
        self._end_bans(now)
        until = now + self._ban_seconds
        self._bans.pop(source, None)
        if len(self._bans) >= self._entries:
            del self._bans[next(iter(self._bans))]
        self._bans[source] = until
        return Limited("banned", until)

    def bans(self, now: float) -> list[Ban]:
        """The bans that hold, the one that ends first first."""
        self._end_bans(now)
        return [Ban(source, "auth-failures", until) for source, until in self._bans.items() if until > now]

    def clear(self, host: str) -> bool:
        """Lift the ban of that address (or of the /64 as `bans` lists it) and forget its failures; False: none held."""
        source = host if host in self._bans else self._source_of(host)
        if self._failures is not None:
            self._failures.forget(source)
        return self._bans.pop(source, None) is not None

    def _end_bans(self, now: float) -> None:
        ended = []
        for source, until in self._bans.items():
            if until > now:
                break  # those after it end later, unless bans have been made shorter meanwhile
            ended.append(source)
        for source in ended:
            del self._bans[source]

    def _source_of(self, host: str) -> str:
        # Parsing an address costs 2 us and more, hence the memory
        sources = self._sources
        source = sources.get(host)
        if source is None:
            source = self._find_source(host)
            if len(sources) >= self._entries:
                sources.popitem(last=False)
            sources[host] = source
        return source

    def _find_source(self, host: str) -> str:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return host  # not from a socket of ours; counted as it stands
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        for network in self._exempt:
            if network.version == address.version and address in network:
                return ""
        if isinstance(address, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((address, _V6_BITS), strict=False))
        return str(address)
