"""A node for the console to talk to: real users on a dict, everything else made up."""

from __future__ import annotations

from typing import NamedTuple

from farm.admin.control import Answer, OrderError
from farm.security.limits import Ban
from farm.security.record import Stamp
from farm.security.users import Users
from tests.support.overviews import make_overview

NOW = 1000.0
NODE_ID = "00" * 16 + "aa" * 16
OTHER_ID = "80" + "00" * 31


def make_member(
    name: str, node_id: str, address: str, *, since: float, rtt: float | None, zone: str = "", self: bool = False
) -> Answer:
    """A row of `sipfarm members`."""
    return {
        "name": name,
        "node_id": node_id,
        "address": address,
        "zone": zone,
        "roles": ["store", "edge"],
        "state": "alive",
        "since": since,
        "rtt": rtt,
        "self": self,
    }


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

    def collect(self, kind: str, now: float) -> list[tuple[str, bytes]]:
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
        self.overlay: Answer = {}
        self.known_members: list[Answer] = []
        self.owning: dict[str, list[Answer]] = {}
        self.traced: list[Answer] = []
        self.caught: list[Answer] = []  # what `sipfarm trace` gets, an answer a poll
        self.followed: list[tuple[str, str, str, int, bool]] = []
        self.draining = False
        self.configs: list[bytes] = []
        self.key_rows: list[Answer] = []
        self.full_of_keys = False
        self.records: list[Answer] = []
        self.answers = True
        self.seen: Answer = make_overview()
        self.overviews = 0  # how often it was asked for
        self.mistake = ""
        self.leaving: Answer = {
            "transactions": 0, "connections": 0, "closing": False, "handed_over": 1.0, "left": True,
        }  # fmt: skip
        self.changed: list[str] = []
        self.waiting: list[str] = []

    def join(self) -> None:
        """Be a node of a farm of two."""
        self.overlay = {
            "node_id": NODE_ID,
            "overlay": "farm.example.com",
            "state": "alive",
            "draining": False,
            "members": {"alive": 2, "suspect": 0, "dead": 1},
            "synchronised": True,
            "progress": 1.0,
            "replicas": {"wanted": 3, "possible": 3},
            "underreplicated": 0,
            "clock_offset": 0.0123,
            "certificate_expires_in": 200_000,
            "config_sequence": 3,
        }
        self.known_members = [
            make_member("n1", NODE_ID, "127.0.0.11:7400", since=90.0, rtt=None, self=True),
            make_member("n2", OTHER_ID, "127.0.0.12:7400", zone="b", since=4000.0, rtt=0.00042),
        ]

    def zone(self) -> Answer:
        return {"zone": "sip.example.com.", "serial": 7, "served": self.answers, "nodes": 1, "records": self.records}

    def follow_trace(self, aor: str, call_id: str, name: str, after: int, *, ends: bool) -> Answer:
        self.followed.append((aor, call_id, name, after, ends))
        if name and not self.caught:
            raise OrderError("that trace has ended")
        return {"trace": "t1", **(self.caught.pop(0) if name else {})}

    def keys(self) -> list[Answer]:
        return self.key_rows

    async def rotate_keys(self) -> int:
        if self.full_of_keys:
            raise OrderError("there are too many keys")
        return 7

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
        listeners = ["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]
        leaving = {"leaving": self.leaving} if self.draining else {}
        return {"name": "n1", "uptime_seconds": 5, "listeners": listeners, **leaving}

    def overview(self) -> Answer:
        self.overviews += 1
        return self.seen

    def overlay_status(self) -> Answer:
        return self.overlay

    def members(self) -> list[Answer]:
        return self.known_members

    def partition(self, key: str) -> int:
        return len(key)

    async def owners(self, key: str, now: float) -> list[Answer]:
        return self.owning.get(key, [])

    async def trace(self, key: str, now: float) -> list[Answer]:
        return [{**hop, "for": key} for hop in self.traced]

    def reload(self) -> Answer:
        if self.mistake:
            raise OrderError(self.mistake)
        return {"changed": list(self.changed), "waiting": list(self.waiting)}

    def drain(self) -> None:
        self.draining = True

    def undrain(self) -> None:
        self.draining = False

    def new_config(self, packed: bytes) -> Answer:
        if packed != b"signed":
            raise OrderError("that is not from our authority")
        self.configs.append(packed)
        return {"sequence": 4, "new": True}

    def find_bindings(self, aor: str, now: float) -> list[Answer] | None:
        return self.bindings.get(aor)

    def remove_bindings(self, aor: str, now: float) -> int:
        return len(self.bindings.pop(aor, []))

    def bans(self, now: float) -> list[Ban]:
        return self.banned

    def calls(self, limit: int) -> Answer:
        row = {
            "callid": "c1", "src_user": "alice", "src_domain": "example.com", "dst_ouser": "bob",
            "dst_domain": "example.com", "answered": 3725.5,
        }  # fmt: skip
        rows = [row, {**row, "callid": "c2", "dst_ouser": "+4930", "dst_domain": "", "answered": 5.0}]
        return {"ringing": 1, "answered": 2, "calls": rows[:limit]}

    def lift_ban(self, source: str) -> bool:
        kept = [ban for ban in self.banned if ban.source != source]
        lifted = len(kept) < len(self.banned)
        self.banned = kept
        return lifted

    def close(self) -> None:
        self.closed = True
