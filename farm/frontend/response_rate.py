"""How many answers a network gets over UDP, where sources are easily forged: name servers are mirrors for floods.

Beyond the rate answers are left out, but for every second one, which is cut short (TC): it is no larger than the
question, and a true client that reads it asks again over TCP, which nobody forges. There it is read no faster than
it is answered at that rate, or whoever asks in thousands at once would have calls wait. Networks are counted, not
addresses: a flood at one victim may name its neighbours. Told the time in monotonic seconds.
"""

from __future__ import annotations

import ipaddress
from enum import Enum
from typing import Final

from farm.security.limits import RateTable

ENTRIES: Final = 20_000
_BURST_SECONDS: Final = 2.0
_PREFIXES: Final = {4: 24, 6: 56}
_SLIP: Final = 2
_PACED_BURST_SECONDS: Final = 0.2  # what comes at once is answered in one turn, while calls wait


class Verdict(Enum):
    """What becomes of an answer."""

    SEND = "send"
    SHORTEN = "shorten"
    DROP = "drop"


class ResponseRate:
    """The rates of all networks: `per_second` answers each, 0 for no limit."""

    __slots__ = ("_limited", "_networks", "_paced", "_table")

    def __init__(self, per_second: float) -> None:
        self._limited = 0
        self._networks: dict[str, str] = {}
        self._table: RateTable | None = None
        self._paced: RateTable | None = None
        self.change(per_second)

    def change(self, per_second: float) -> None:
        """Another rate from now on."""
        self._table = self._paced = None
        if per_second > 0:
            self._table = RateTable(per_second, per_second * _BURST_SECONDS, ENTRIES)
            self._paced = RateTable(per_second, per_second * _PACED_BURST_SECONDS, ENTRIES)

    def judge(self, host: str, now: float) -> Verdict:
        """Count an answer to that address."""
        if self._table is None or not self._table.take(self._network_of(host), now):
            return Verdict.SEND
        self._limited += 1
        return Verdict.SHORTEN if self._limited % _SLIP == 0 else Verdict.DROP

    def pace(self, host: str, now: float) -> float:
        """Count an answer over TCP to that address: 0.0, or when to ask again, since its network has had enough and no
        more of its questions are to be read until then. What is asked over UDP, in whoever's name, does not count."""
        return 0.0 if self._paced is None else self._paced.take(self._network_of(host), now)

    def _network_of(self, host: str) -> str:
        networks = self._networks
        network = networks.get(host)
        if network is None:
            if len(networks) >= ENTRIES:
                networks.clear()
            network = networks[host] = _find_network(host)
        return network


def _find_network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, _PREFIXES[address.version]), strict=False))
