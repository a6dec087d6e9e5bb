"""A node for the console to talk to: real users on a dict, everything else made up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from farm.admin.control import Answer
from farm.security.limits import Ban
from farm.security.record import Stamp
from farm.security.users import Users

NOW = 1000.0


class Full(NamedTuple):
    """The store's refusal."""

    reason: str = "full"


class DictStore:
    """A user store without merge; `full` makes it refuse whatever is put."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], bytes] = {}
        self.full = False

    def get(self, kind: str, key: str, now: float) -> bytes | None:
        return self.records.get((kind, key))

    def put(self, kind: str, key: str, delta: bytes, now: float) -> bytes | Full:
        if self.full:
            return Full()
        self.records[kind, key] = delta
        return delta

    def items(self, kind: str, now: float) -> Iterable[tuple[str, bytes]]:
        return [(key, packed) for (held, key), packed in self.records.items() if held == kind]


class FakeNode:
    """Fills the port `Node`; the attributes say what it answers."""

    def __init__(self) -> None:
        self.store = DictStore()
        self.changes = 0
        self.users = Users(self.store, self._stamp, ("example.com",))
        self.is_ready = True
        self.wrong: list[str] = []
        self.bindings: dict[str, list[Answer]] = {}
        self.banned: list[Ban] = []
        self.closed = False

    def _stamp(self) -> Stamp:
        self.changes += 1
        return (self.changes, 1)

    def now(self) -> float:
        return NOW

    def ready(self) -> bool:
        return self.is_ready

    def problems(self) -> list[str]:
        return self.wrong

    def status(self) -> Answer:
        return {"name": "n1", "uptime_seconds": 5, "listeners": ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]}

    def find_bindings(self, aor: str, now: float) -> list[Answer] | None:
        return self.bindings.get(aor)

    def remove_bindings(self, aor: str, now: float) -> int:
        return len(self.bindings.pop(aor, []))

    def bans(self, now: float) -> list[Ban]:
        return self.banned

    def lift_ban(self, source: str) -> bool:
        kept = [ban for ban in self.banned if ban.source != source]
        lifted = len(kept) < len(self.banned)
        self.banned = kept
        return lifted

    def close(self) -> None:
        self.closed = True
