"""The orders of the console, carried out on a node: names and simple values in, simple values out.

`Control` is the same for the running node, whose control socket (`http.py`) takes orders as JSON, and for a node that
is not running, whose store the console opens by itself to change users. `Node` is the port that either fills.

What is wrong with an order is an `OrderError`, whose text is the line for whoever gave it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from farm.security.farm_keys import MARGIN_SECONDS
from farm.security.limits import Ban
from farm.security.users import BadRow, Change, Imported, UserError, UserRow, Users

T = TypeVar("T")
Answer = dict[str, object]
Fields = Mapping[str, object]

ROWS_AT_ONCE: Final = 500
_NODE_ID: Final = re.compile("[0-9a-fA-F]{64}")
_FAILURES: Final = {Change.EXISTS: "exists already", Change.UNKNOWN: "is no user"}


class OrderError(Exception):
    """An order that cannot be carried out; `str()` of it says why."""


class Offline(Protocol):
    """What orders about users need of a node, running or not."""

    users: Users

    def now(self) -> float:
        """Monotonic seconds, as the node's parts are told them."""


class Node(Offline, Protocol):
    """A running node, as the console sees it. Values are simple: text, numbers, booleans, lists and dicts of them."""

    def ready(self) -> bool:
        """Whether traffic may be sent here: it listens, has read its journal, is in step with the other nodes, and is
        not being drained."""

    def problems(self) -> list[str]:
        """What is wrong at present, a sentence each: a journal that cannot be written, a gateway that is down."""

    def status(self) -> Answer:
        """What `sipfarm status` shows, in order: name, version, uptime, listeners, registrations, transactions, …"""

    def overview(self) -> Answer:
        """What the status page and `sipfarm top` show: the farm as this node sees it, and its last hour. Its keys are
        in docs/status.md; nothing in it is a user's or a phone's."""

    def find_bindings(self, aor: str, now: float) -> list[Answer] | Awaitable[list[Answer] | None] | None:
        """The live bindings of a canonical address-of-record, best q first: `contact`, `q`, `expires_in` (seconds),
        `call_id`, `path`, `received`, `node` (that took it), `instance`, `user_agent` where there is one. None: no such
        record."""

    def remove_bindings(self, aor: str, now: float) -> int | Awaitable[int]:
        """Remove all bindings of it, as `Contact: *` would; answers how many there were."""

    def overlay_status(self) -> Answer:
        """The node among others; {} when it has no overlay. In order: `node_id` (hex), `overlay` (its name), `state`,
        `draining`, `members` (count by state), `synchronised`, `progress` (0 to 1), `replicas` (`wanted`, and
        `possible` with the nodes there are), `underreplicated` (partitions of those), `clock_offset` (seconds),
        `certificate_expires_in` (seconds), `config_sequence`."""

    def members(self) -> list[Answer]:
        """All nodes that it knows, itself first: `name`, `node_id`, `address` (`HOST:PORT`), `zone`, `roles` (list),
        `state`, `since` (seconds in that state), `rtt` (seconds, None when not known), `load` (percent), `draining`,
        `self`."""

    def owners(self, key: str, now: float) -> list[Answer] | Awaitable[list[Answer]]:
        """Who has the record of a canonical address-of-record: for each owner `name`, `node_id`, `standing` (`owner`,
        `unsettled`, `stranger`, or `silent` when it did not answer), `version` (hex, "" for no record), `size`."""

    def partition(self, key: str) -> int:
        """The partition of that key."""

    def trace(self, key: str, now: float) -> Awaitable[list[Answer]]:
        """Look the nodes nearest to a key up, past all that is known already: for each call in the order made `hop`
        (1 for those known at first), `name`, `node_id`, `address`, `seconds`, `answer` (`nodes`, or why there is
        none), `nodes` (how many it told of), `nearest` (hex digits, of the nearest one that it told of). A key of 64
        hex digits is a Node-ID."""

    def reload(self) -> Answer:
        """Read the configuration again, and files that were renewed: `changed`, what was taken (`section.key`), and
        `waiting`, what wants a restart. Raises OrderError for a mistake, and has changed nothing then."""

    def drain(self) -> None:
        """Serve to the end what runs, take nothing new, and hand over all records. Stays so until `undrain`."""

    def undrain(self) -> None:
        """Serve again."""

    def new_config(self, packed: bytes) -> Answer:
        """Take a signed configuration of the overlay and tell the others; answers its `sequence`, and whether it is
        `new` here. Raises OrderError for one that is not from our authority."""

    def zone(self) -> Answer:
        """The farm's zone: `zone` (its name), `serial`, `served` (whether a node answers questions), `nodes` (how many
        it shows), and `records`, each with `name`, `ttl`, `class`, `type` and `data`, the SOA first; none when no node
        can be shown."""

    def keys(self) -> list[Answer]:
        """The keys of tokens and nonces, never themselves, the one that seals first: `number`, `age`, `seals_in`
        (negative: since then) and `ends_in` (seconds), `seals`. The farm's own, number 0, is not among them."""

    async def rotate_keys(self) -> int:
        """Make a key although none is due; answers its number. Raises OrderError."""

    def follow_trace(self, aor: str, call_id: str, name: str, after: int, *, ends: bool) -> Answer:
        """Begin a trace of a user's or a call's messages at all nodes, or go on with the one of that `name`: those
        after that number. In order: `trace` (its name), `messages` (each with `number`, `time`, `node`, `direction`,
        `transport`, `source`, `destination`, `size`, `raw`), `more` (ask again at once), `lost`, `nodes` (each `name`
        and `state`). Raises OrderError."""

    def bans(self, now: float) -> Sequence[Ban]:
        """The addresses that are banned."""

    def calls(self, limit: int) -> Answer:
        """The calls that this node took: how many are `ringing` and `answered`, and in `calls` so many of the answered,
        the oldest first: `callid`, `src_user`, `src_domain`, `dst_ouser`, `dst_domain`, `answered` (seconds ago)."""

    def lift_ban(self, source: str) -> bool:
        """Lift the ban of an address, as `bans` lists it; False when there is none."""


class Control:
    """Carries out orders. `node` runs; `offline` need not, and then only the orders about users work."""

    def __init__(self, offline: Offline, node: Node | None) -> None:
        self._users = offline.users
        self._now = offline.now
        self._node = node

    async def run(self, order: str, fields: Fields) -> Answer:
        """The answer to an order. Raises OrderError for an unknown one, wrong fields, or what the node refuses."""
        method = _ORDERS.get(order)
        if method is None:
            raise OrderError(f"{order!r} is no order")
        try:
            return await method(self, fields)
        except UserError as error:
            raise OrderError(str(error)) from None

    async def add_user(self, fields: Fields) -> Answer:
        """`name`, `password`: a new user."""
        return _changed(fields, await self._users.add(_text(fields, "name"), _text(fields, "password"), self._now()))

    async def set_password(self, fields: Fields) -> Answer:
        """`name`, `password`: a new password for a user."""
        change = await self._users.set_password(_text(fields, "name"), _text(fields, "password"), self._now())
        return _changed(fields, change)

    async def remove_user(self, fields: Fields) -> Answer:
        """`name`: remove a user."""
        return _changed(fields, await self._users.remove(_text(fields, "name"), self._now()))

    async def disable_user(self, fields: Fields) -> Answer:
        """`name`: refuse a user although the password is right."""
        return _changed(fields, await self._users.set_disabled(_text(fields, "name"), True, self._now()))

    async def enable_user(self, fields: Fields) -> Answer:
        """`name`: serve a disabled user again."""
        return _changed(fields, await self._users.set_disabled(_text(fields, "name"), False, self._now()))

    async def list_users(self, fields: Fields) -> Answer:
        """All users."""
        users = await self._users.entries(self._now())
        return {"users": [{"aor": user.aor, "disabled": user.disabled} for user in users]}

    async def import_users(self, fields: Fields) -> Answer:
        """`rows` of [line, user, domain, password], at most 500: add or change users; answers counts and bad rows.
        A row without a password may have hashes for its fifth: [[algorithm, HA1, HA1 of user@domain], …], in hex."""
        rows = fields.get("rows")
        if not isinstance(rows, list) or len(rows) > ROWS_AT_ONCE:
            raise OrderError(f"rows must be a list of at most {ROWS_AT_ONCE}")
        counts = {Change.ADDED: 0, Change.CHANGED: 0}
        bad: list[Answer] = []
        async for done in self._users.import_rows([_row(row) for row in rows], self._now):
            if isinstance(done, Imported):
                counts[done.change] += 1
            else:
                bad.append({"line": done.line, "problem": done.problem})
        return {"added": counts[Change.ADDED], "changed": counts[Change.CHANGED], "bad": bad}

    async def show_status(self, fields: Fields) -> Answer:
        """How the node is."""
        node = self._running()
        overlay = node.overlay_status()
        among = {"overlay": overlay} if overlay else {}
        return {**node.status(), **among, "ready": node.ready(), "problems": node.problems()}

    async def show_overview(self, fields: Fields) -> Answer:
        """The farm as this node sees it, and its last hour."""
        return self._running().overview()

    async def list_members(self, fields: Fields) -> Answer:
        """The nodes of the farm as this one sees them."""
        return {"members": self._in_farm().members()}

    async def look_up(self, fields: Fields) -> Answer:
        """`key`, an address-of-record or a Node-ID: who owns it; with `trace`, every call on the way there."""
        node = self._in_farm()
        key = _text(fields, "key")
        is_node = _NODE_ID.fullmatch(key) is not None
        key = key.lower() if is_node else self._users.check(key)[2]
        answer: Answer = {"key": key}
        if not is_node:
            answer["partition"] = node.partition(key)
            answer["owners"] = await _settled(node.owners(key, self._now()))
        if is_node or fields.get("trace"):
            answer["hops"] = await node.trace(key, self._now())
        return answer

    async def reload(self, fields: Fields) -> Answer:
        """Take the configuration as it is in its files now."""
        return self._running().reload()

    async def drain(self, fields: Fields) -> Answer:
        """Take nothing new and hand over what is here."""
        node = self._running()
        node.drain()
        return {"draining": True}

    async def undrain(self, fields: Fields) -> Answer:
        """Serve again."""
        node = self._running()
        node.undrain()
        return {"draining": False}

    async def take_config(self, fields: Fields) -> Answer:
        """`record`, in base64: a configuration of the overlay that the authority has signed."""
        node = self._in_farm()
        try:
            packed = base64.b64decode(_text(fields, "record"), validate=True)
        except ValueError:
            raise OrderError("record is no base64") from None
        return node.new_config(packed)

    async def show_bindings(self, fields: Fields) -> Answer:
        """`aor`: all that is known of its bindings."""
        aor = self._aor(fields)
        bindings = await _settled(self._running().find_bindings(aor, self._now()))
        return {"aor": aor, "bindings": bindings or []}

    async def remove_bindings(self, fields: Fields) -> Answer:
        """`aor`: remove its bindings."""
        aor = self._aor(fields)
        return {"aor": aor, "removed": await _settled(self._running().remove_bindings(aor, self._now()))}

    async def locate(self, fields: Fields) -> Answer:
        """`aor`: whether there is such a user, where a call to it would go, and which nodes know that."""
        aor = self._aor(fields)
        found = await _settled(self._running().find_bindings(aor, self._now()))
        user = await _settled(self._users.find(aor, self._now()))
        keys = ("contact", "q", "received", "node", "path")
        contacts = [{key: binding[key] for key in keys if binding.get(key)} for binding in found or []]
        answer: Answer = {"aor": aor, "known": user is not None or found is not None, "contacts": contacts}
        node = self._running()
        if node.overlay_status():
            answer["partition"] = node.partition(aor)
            answer["owners"] = await _settled(node.owners(aor, self._now()))
        return answer

    async def show_zone(self, fields: Fields) -> Answer:
        """The records that lead strangers to the farm."""
        return self._running().zone()

    async def show_keys(self, fields: Fields) -> Answer:
        """The keys of tokens and nonces: numbers and ages."""
        return {"keys": self._running().keys()}

    async def rotate_keys(self, fields: Fields) -> Answer:
        """Make a new one now."""
        return {"number": await self._running().rotate_keys(), "seals_in": MARGIN_SECONDS}

    async def trace(self, fields: Fields) -> Answer:
        """`aor` or `call_id`: begin a trace; `trace`, its name, and `after`: its messages after that number; `ends`:
        the last of them."""
        node = self._running()
        after, ends = fields.get("after", 0), fields.get("ends", False)
        if not isinstance(after, int) or not isinstance(ends, bool):
            raise OrderError("after is no number, or ends neither true nor false")
        if "trace" in fields:
            return node.follow_trace("", "", _text(fields, "trace"), after, ends=ends)
        if "call_id" in fields:
            return node.follow_trace("", _text(fields, "call_id"), "", after, ends=ends)
        aor = _text(fields, "aor")
        return node.follow_trace(aor if "@" in aor else self._aor(fields), "", "", after, ends=ends)

    async def list_calls(self, fields: Fields) -> Answer:
        """`limit`, 0 unless told: the numbers of calls, and so many of them."""
        limit = fields.get("limit", 0)
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            raise OrderError("limit must be a whole number")
        return self._running().calls(limit)

    async def list_bans(self, fields: Fields) -> Answer:
        """The banned addresses."""
        now = self._now()
        bans = self._running().bans(now)
        return {
            "bans": [{"source": ban.source, "reason": ban.reason, "ends_in": round(ban.until - now)} for ban in bans]
        }

    async def lift_ban(self, fields: Fields) -> Answer:
        """`source`: lift its ban."""
        source = _text(fields, "source")
        if not self._running().lift_ban(source):
            raise OrderError(f"{source} is not banned")
        return {"source": source, "lifted": True}

    def _running(self) -> Node:
        if self._node is None:
            raise OrderError("the node is not running")
        return self._node

    def _in_farm(self) -> Node:
        node = self._running()
        if not node.overlay_status():
            raise OrderError("this node is alone: its configuration has no [overlay] with listen")
        return node

    def _aor(self, fields: Fields) -> str:
        return self._users.check(_text(fields, "aor"))[2]


_ORDERS: Final = {
    "add-user": Control.add_user,
    "set-password": Control.set_password,
    "remove-user": Control.remove_user,
    "disable-user": Control.disable_user,
    "enable-user": Control.enable_user,
    "list-users": Control.list_users,
    "import-users": Control.import_users,
    "status": Control.show_status,
    "overview": Control.show_overview,
    "show-bindings": Control.show_bindings,
    "remove-bindings": Control.remove_bindings,
    "locate": Control.locate,
    "members": Control.list_members,
    "lookup": Control.look_up,
    "reload": Control.reload,
    "drain": Control.drain,
    "undrain": Control.undrain,
    "new-config": Control.take_config,
    "zone": Control.show_zone,
    "show-keys": Control.show_keys,
    "rotate-keys": Control.rotate_keys,
    "trace": Control.trace,
    "calls": Control.list_calls,
    "list-bans": Control.list_bans,
    "lift-ban": Control.lift_ban,
}


def _changed(fields: Fields, change: Change) -> Answer:
    name = _text(fields, "name")
    if change in _FAILURES:
        raise OrderError(f"{name} {_FAILURES[change]}")
    return {"name": name, "change": change.value}


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise OrderError(f"{name} is missing or no text")
    return value


def _row(row: object) -> UserRow | BadRow:
    if isinstance(row, list) and len(row) in (4, 5) and isinstance(row[0], int):
        line, user, domain, password = row[:4]
        hashes = row[4] if len(row) == 5 else []
        if all(isinstance(text, str) for text in (user, domain, password)) and _are_hashes(hashes):
            triples = tuple((algorithm, plain, full) for algorithm, plain, full in hashes)
            return UserRow(line, user, domain, password, triples)
    raise OrderError("a row is [line, user, domain, password], and may have hashes")


def _are_hashes(hashes: object) -> bool:
    """Whether these are triples of texts."""
    if not isinstance(hashes, list | tuple):
        return False
    triples = [row for row in hashes if isinstance(row, list | tuple) and len(row) == 3]
    return len(triples) == len(hashes) and all(isinstance(text, str) for row in triples for text in row)


async def _settled(answer: T | Awaitable[T]) -> T:
    if isinstance(answer, Awaitable):
        return await answer
    return answer
