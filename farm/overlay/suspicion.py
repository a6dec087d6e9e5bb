"""How long a suspect has to refute before it is declared dead: SWIM's suspicion with Lifeguard's dynamic timeout.

The time grows with log10 of the number of nodes, since a refutation needs that long to get round, and lies between a
shortest and a longest value: the longest for one accuser alone, shrinking with each independent confirmation
(Dadgar, Phillips, Currey 2018, section IV.B), by the logarithm, so that the first ones weigh most.

Decided: a confirmation is the Nack of a node that was asked to ping the suspect, not another node's rumour. A rumour
does not say who saw it, and three who pass on one accusation are not three who saw; those who only heard of a
suspicion wait the longest time. An accuser that is cut off or slow itself gets no Nack either, and so waits long too.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, log10
from typing import Final

from farm.deadlines import Deadline, Deadlines

MOST_CONFIRMATIONS: Final = 3
SHORTEST_PERIODS: Final = 1.5  # times log10 of the nodes, which counts as 2 under a hundred: 3 s survives a 2 s pause
LONGEST_FACTOR: Final = 6.0


def shortest_seconds(nodes: int, period: float) -> float:
    """The time of a suspect that enough others confirm."""
    return SHORTEST_PERIODS * max(2.0, log10(max(1, nodes))) * period


def suspicion_seconds(confirmations: int, needed: int, shortest: float) -> float:
    """The time of a suspect that `confirmations` others confirm, of the `needed` ones that make it the shortest."""
    longest = LONGEST_FACTOR * shortest
    if needed <= 0 or confirmations >= needed:
        return shortest
    return longest - (longest - shortest) * log(confirmations + 1) / log(needed + 1)


class Suspicion:
    """One suspect: since when, and who confirms it."""

    __slots__ = ("confirmers", "deadline", "needed", "shortest", "started_at")

    def __init__(self, started_at: float, nodes: int, period: float) -> None:
        self.started_at = started_at
        self.needed = min(MOST_CONFIRMATIONS, max(0, nodes - 2))  # everybody but the suspect and this node
        self.shortest = shortest_seconds(nodes, period)
        self.confirmers: set[bytes] = set()
        self.deadline: Deadline | None = None

    @property
    def ends_at(self) -> float:
        """When to declare it dead, as things stand."""
        return self.started_at + suspicion_seconds(len(self.confirmers), self.needed, self.shortest)

    def confirm(self, by: set[bytes]) -> bool:
        """Whether these are news; no more are kept than are needed."""
        before = len(self.confirmers)
        for node in sorted(by):
            if len(self.confirmers) >= self.needed:
                break
            self.confirmers.add(node)
        return len(self.confirmers) > before


class Suspects:
    """All suspects, each with its deadline. `expire(node, now)` hears of one whose time is over."""

    __slots__ = ("_check_time", "_deadlines", "_expire", "_period", "_suspicions")

    def __init__(
        self,
        deadlines: Deadlines,
        period: float,
        check_time: Callable[[float], None],
        expire: Callable[[bytes, float], None],
    ) -> None:
        self._deadlines = deadlines
        self._period = period
        self._check_time = check_time
        self._expire = expire
        self._suspicions: dict[bytes, Suspicion] = {}

    def __contains__(self, node: bytes) -> bool:
        return node in self._suspicions

    def ends_at(self, node: bytes) -> float | None:
        """When this suspect is declared dead, None for one that is not suspect."""
        suspicion = self._suspicions.get(node)
        return None if suspicion is None else suspicion.ends_at

    def begin(self, node: bytes, nodes: int, now: float) -> None:
        """It is suspect from now on, in a farm of so many nodes; what was before counts no longer."""
        self.end(node)
        suspicion = self._suspicions[node] = Suspicion(now, nodes, self._period)
        self._arm(node, suspicion)

    def confirm(self, node: bytes, by: set[bytes]) -> None:
        """These did not reach it either."""
        suspicion = self._suspicions.get(node)
        if suspicion is not None and suspicion.confirm(by):
            self._arm(node, suspicion)

    def end(self, node: bytes) -> None:
        """It is suspect no more."""
        suspicion = self._suspicions.pop(node, None)
        if suspicion is not None:
            self._deadlines.cancel(suspicion.deadline)

    def delay(self, seconds: float) -> None:
        """Time in which this node could not have heard a refutation does not count."""
        for node, suspicion in self._suspicions.items():
            suspicion.started_at += seconds
            self._arm(node, suspicion)

    def stop(self) -> None:
        """Let all go."""
        for suspicion in self._suspicions.values():
            self._deadlines.cancel(suspicion.deadline)
        self._suspicions.clear()

    def _arm(self, node: bytes, suspicion: Suspicion) -> None:
        self._deadlines.cancel(suspicion.deadline)
        suspicion.deadline = self._deadlines.add(suspicion.ends_at, self._run_out, node)

    def _run_out(self, node: bytes, now: float) -> None:
        self._check_time(now)  # may delay
        suspicion = self._suspicions.get(node)
        if suspicion is None:
            return
        if suspicion.ends_at > now:
            self._arm(node, suspicion)
        else:
            self._expire(node, now)
