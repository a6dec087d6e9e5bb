"""What RFC 3263 asks DNS, what comes back, and in which order records are tried.

Questions and answers are plain values, so that `locate` can be tested with a dict and `cache` need not know what it
keeps. Sorting obeys RFC 3403 §4.1 for NAPTR and RFC 2782 for SRV. Names are lower case without the final dot.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final, NamedTuple

_LABEL: Final = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}")
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4: Final = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}")
_LONGEST_NAME: Final = 253


class Question(NamedTuple):
    """One DNS question: `kind` is "NAPTR", "SRV", "A" or "AAAA"."""

    kind: str
    name: str


class Naptr(NamedTuple):
    """A NAPTR record (RFC 3403 §4.1); `flags` and `service` as they were written."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


class Srv(NamedTuple):
    """An SRV record (RFC 2782); the target "" is the root, which says that there is no such service."""

    priority: int
    weight: int
    port: int
    target: str


class Answer(NamedTuple):
    """What came of a question: records of its kind, or none, or a failure.

    `failure` is "" when somebody who knows has answered, if only that there is no such record; "timeout" when nobody
    did in time; "broken" when the servers answered with an error; "busy" when too many questions were under way.
    """

    naptrs: tuple[Naptr, ...] = ()
    srvs: tuple[Srv, ...] = ()
    addresses: tuple[str, ...] = ()
    failure: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is no record, for whichever reason."""
        return not (self.naptrs or self.srvs or self.addresses)


def is_host_name(name: str) -> bool:
    """Whether a name may be asked for: labels of 63 octets at most, 253 in all, the last one not a number.

    A longer label must never reach a DNS encoder: its length octet would be read as a compression pointer.
    """
    if len(name) > _LONGEST_NAME or not _NAME.fullmatch(name):
        return False
    return not name.rpartition(".")[2].isdigit()  # RFC 3261 §25.1: toplabel starts with a letter


def numeric_address(host: str) -> str:
    """The canonical text of a numeric IPv4 or IPv6 address, brackets taken off; "" for anything else."""
    if _IPV4.fullmatch(host):
        return host
    if ":" not in host:
        return ""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def order_naptrs(records: Iterable[Naptr]) -> list[Naptr]:
    """NAPTR records by order, then preference."""
    return sorted(records, key=lambda record: (record.order, record.preference))


def order_srvs(records: Iterable[Srv], rng: random.Random, limit: int) -> list[Srv]:
    """At most `limit` SRV records in the order in which RFC 2782 wants them tried.

    Lowest priority first; among equals one is drawn at a time, each with a chance in proportion to its weight.
    Weight 0 comes first in the line, so that it has a small chance beside others and an equal one among its like.
    """
    by_priority: dict[int, list[Srv]] = {}
    for record in records:
        by_priority.setdefault(record.priority, []).append(record)
    ordered: list[Srv] = []
    for priority in sorted(by_priority):
        line = by_priority[priority]
        rng.shuffle(line)  # "in any order" (RFC 2782), so that equals with weight 0 share the load
        line.sort(key=lambda record: record.weight > 0)
        total = sum(record.weight for record in line)
        while line and len(ordered) < limit:
            drawn = rng.randint(0, total)
            running = index = 0
            while (running := running + line[index].weight) < drawn:
                index += 1
            chosen = line.pop(index)
            ordered.append(chosen)
            total -= chosen.weight
    return ordered
