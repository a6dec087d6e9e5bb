"""How many owners must answer, and what reading and writing have in common.

With r owners, a write is acknowledged by W = r // 2 + 1 of them and a read wants R = r + 1 - W: any R owners have met
any W (Gifford 1979). `Means` is what an operation works with; the operations are `reads` and `writes`.

An owner that has not compared a partition with its other owners since one was added (`View.is_settled`) may lack what
was acknowledged before it came. Its answers are merged, but they do not count.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from farm.deadlines import Deadlines
from farm.metrics import Metrics
from farm.overlay.store import Full, Store
from farm.overlay.wire import Answer, Contact, Request


def write_quorum(owners: int) -> int:
    """W: how many of so many owners must have a write before it is acknowledged."""
    return owners // 2 + 1


def read_quorum(owners: int) -> int:
    """R: how many of so many owners must answer a read."""
    return owners + 1 - write_quorum(owners)


class Found(NamedTuple):
    """What a read or a write came to: the merged record, None when there is none."""

    record: bytes | None


class Failed(NamedTuple):
    """Nobody can say, for now: a slug. Too few owners answered ("too-few-owners"), none could be asked ("no-owners",
    "clock"), the record is written too often ("rate"), this node has not the role to write ("not-an-edge"),
    or it has a bug ("internal")."""

    reason: str


Outcome = Found | Full | Failed
Done = Callable[[Outcome, float], None]


class Calls(Protocol):
    """The calls to other nodes, as far as operations need them."""

    @property
    def shift(self) -> float:
        """While an answer is handed up: what to add to the times in its records."""

    def ask(
        self,
        node: bytes,
        message: Request,
        within: float,
        done: Callable[[Answer | None, float], None],
        now: float,
        *,
        patient: bool = False,
        size_class: str = "upkeep",
    ) -> int:
        """Call another node: `done(None, now)` when no answer came `within` so many seconds; never from inside."""

    def patience(self, node: bytes) -> float:
        """Seconds after which its answer is late."""

    def hedge_after(self, node: bytes) -> float:
        """Seconds after which another call is worth making: its answer is slower than nineteen of twenty."""


class View(Protocol):
    """Who owns what, as this node sees it."""

    @property
    def own(self) -> bytes:
        """This node."""

    def owners(self, partition: int) -> Sequence[bytes]:
        """The owners that are alive or suspected, nearest first."""

    def joining(self, partition: int) -> Sequence[bytes]:
        """Those who will be owners when they have joined: they get writes and do not count."""

    def stand_ins(self, partition: int, count: int) -> Sequence[bytes]:
        """The nearest live nodes that are no owners."""

    def is_suspect(self, node: bytes) -> bool:
        """Whether it has not answered lately."""

    def is_settled(self, partition: int) -> bool:
        """Whether this node's own answers count."""

    def receive_nearer(self, contacts: Sequence[Contact], now: float) -> None:
        """A node that is no owner names nearer ones."""


class Means:
    """What every operation of a node works with. `write_seconds` and `fetch_seconds` bound an operation; after
    `all_seconds` a write does not wait for more than its quorum, after `stand_in_seconds` others stand in."""

    __slots__ = (
        "all_seconds",
        "calls",
        "deadlines",
        "fetch_seconds",
        "metrics",
        "rng",
        "stand_in_seconds",
        "store",
        "strict",
        "view",
        "write_seconds",
    )

    def __init__(
        self,
        store: Store,
        calls: Calls,
        view: View,
        deadlines: Deadlines,
        metrics: Metrics,
        rng: random.Random,
        *,
        strict: bool = False,
        write_seconds: float = 2.0,
        fetch_seconds: float = 2.0,
        stand_in_seconds: float = 0.3,
        all_seconds: float = 0.1,
    ) -> None:
        self.store = store
        self.calls = calls
        self.view = view
        self.deadlines = deadlines
        self.metrics = metrics
        self.rng = rng
        self.strict = strict
        self.write_seconds = write_seconds
        self.fetch_seconds = fetch_seconds
        self.stand_in_seconds = stand_in_seconds
        self.all_seconds = all_seconds
