"""Where to find other nodes: seeds by address or name, DNS, the members last known, whoever answers on the link.

A node that has reached nobody dials all that it knows of, seeds before the members it remembers, each again after 1 s,
2 s and so on up to 30 s, and never gives up. One that is among others still tries the seeds that did not answer, and
every minute one at random whom it may long know: that is how the halves of a divided overlay find each other when all
their links are gone (the dead are dialled again by `membership` for a day, seeds for ever). It never dials itself.

Pure: whoever owns it (`node`) dials what `next_addresses` says and tells how that went; names are asked through the
port `Names`. Who answers proves by certificate that it belongs here, so an address from anywhere may be tried.

Decided: no seed is better than another, and none is needed once nodes remember each other: a seed is an address to try,
not a role. A node without any is the first of its overlay.
"""

from __future__ import annotations

import ipaddress
import os
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import IntEnum
from functools import partial
from typing import Final, NamedTuple, Protocol

from farm.addresses import parse_host_port
from farm.overlay.wire import Contact

FIRST_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 30.0
RANDOM_SEED_SECONDS: Final = 60.0
NAMES_SECONDS: Final = 300.0  # how long what DNS said is held once others are reached
DIAL_SECONDS: Final = 30.0  # a dial of which nothing was heard has failed
REMEMBER_SECONDS: Final = 5.0
MOST_AT_ONCE: Final = 16
MOST_HEARD: Final = 32
MOST_OF_NAME: Final = 64
MOST_OF_ORIGIN: Final = 512
FILE_BYTES: Final = 65_536
_SERVICE: Final = "_sipfarm._tcp."
_NAMED_IN_PROBLEM: Final = 5
_FAILURES_OF_HEARSAY: Final = 5
_FAILURES_WORTH_SAYING: Final = 3

Address = tuple[str, int]


class Service(NamedTuple):
    """One SRV record (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


class Names(Protocol):
    """DNS. `done` is called once, at once or later; with nothing when there is no such record or no answer."""

    def find_addresses(self, name: str, done: Callable[[Sequence[str]], None]) -> None:
        """The numeric addresses of a host."""

    def find_services(self, name: str, done: Callable[[Sequence[Service]], None]) -> None:
        """The SRV records of a name."""


class Origin(IntEnum):
    """Who told of an address, in the order in which they are tried."""

    CONFIGURED = 0
    DNS = 1
    LINK = 2
    REMEMBERED = 3


class Seeds:
    """The addresses to try. `own` are those of this node; `service` is the domain of the SRV records, "" for none;
    `path` is the file of the members last known, "" for none; `ask_link` asks for others on the local link."""

    def __init__(
        self,
        seeds: Iterable[str],
        own: Iterable[Address],
        names: Names | None,
        rng: random.Random,
        *,
        path: str = "",
        service: str = "",
        ask_link: Callable[[], None] | None = None,
    ) -> None:
        self.reached_any = False
        self._own = {(_canonical(host) or host, port) for host, port in own}
        self._names = names
        self._rng = rng
        self._path = path
        self._ask_link = ask_link
        self._link_trial = _Trial(Origin.LINK)
        self._random_at = float("-inf")
        self._trials: dict[Address, _Trial] = {}
        self._numeric: dict[Origin, list[Address]] = {origin: [] for origin in Origin}
        self._named: dict[Origin, dict[Address, _Name]] = {origin: {} for origin in Origin}
        self._service = _Name(_SERVICE + service.rstrip(".")) if service and names is not None else None
        self._unsaved: list[Address] | None = None
        self._saved: list[Address] = []
        self._save_at = float("-inf")
        self._file_problem = ""
        self.change(seeds)
        if path:
            self._saved = self._numeric[Origin.REMEMBERED] = _read(path)
            self._replace(Origin.REMEMBERED)

    @property
    def has_any(self) -> bool:
        """Whether there is anybody to look for; without, this is the first node of its overlay."""
        return bool(self._trials) or self._ask_link is not None or any(True for _ in self._all_names())

    @property
    def all_reached(self) -> bool:
        """Whether there is nobody left to look for: every address answered, and every name."""
        if any(not name.answered for name in self._all_names()):
            return False
        return all(trial.was_reached for trial in self._trials.values() if trial.origin is not Origin.LINK)

    # What the node tells

    def change(self, seeds: Iterable[str]) -> None:
        """Take another list of configured seeds, `HOST:PORT` each."""
        parsed: list[Address] = []
        for seed in seeds:
            host, port = parse_host_port(seed)
            parsed.append((host, port or 0))
        self._take(parsed, Origin.CONFIGURED)

    def reached(self, host: str, port: int, now: float) -> None:
        """An admitted node answers at the address that was dialled, or has dialled us from it."""
        if not self.reached_any:
            self.reached_any = True
            self._random_at = now + self._jitter(RANDOM_SEED_SECONDS)
        trial = self._trials.get((_canonical(host) or host, port))
        if trial is not None:
            trial.succeed()

    def failed(self, host: str, port: int, reason: str, now: float) -> None:
        """A dial came to nothing; `reason` is a slug. "same-node-id" says that this is our own address too, "linked"
        that a node answered to which there is a link already."""
        address = (_canonical(host) or host, port)
        trial = self._trials.get(address)
        if reason == "same-node-id":
            self._own.add(address)
            self._trials.pop(address, None)
        elif trial is not None and reason == "linked":
            trial.succeed()
        elif trial is not None:
            trial.fail(reason, now, self._rng)
            if trial.origin is Origin.LINK and trial.failures >= _FAILURES_OF_HEARSAY:
                del self._trials[address]

    def lost(self, now: float) -> None:
        """No link is left: look for others as at the start."""
        self.reached_any = False
        self._replace(Origin.REMEMBERED)
        self._link_trial.start_anew(now)
        for trial in self._trials.values():
            trial.start_anew(now)
        for name in self._all_names():
            name.due_at = now

    def heard(self, host: str, port: int, now: float) -> None:
        """Somebody on the local link says that a node is there."""
        address = (_canonical(host), port)
        if not address[0] or address in self._trials:
            return
        heard = [held for held, trial in self._trials.items() if trial.origin is Origin.LINK]
        if len(heard) >= MOST_HEARD:
            met = [held for held in heard if self._trials[held].was_reached]
            if not met:
                return
            del self._trials[met[0]]
        self._add(address, Origin.LINK)

    def remember(self, contacts: Iterable[Contact], now: float) -> None:
        """These are the members at present; they are written to the file, the first ones if there are too many."""
        addresses = dict.fromkeys((_canonical(contact.host), contact.port) for contact in contacts if contact.port)
        known = [address for address in addresses if address[0] and address not in self._own][:MOST_OF_ORIGIN]
        if not known:
            return  # one that is alone still knows whom to look for
        self._numeric[Origin.REMEMBERED] = known
        if self._path:
            self._unsaved = None if known == self._saved else known
            self._save(now)

    # What the node asks

    def next_addresses(self, now: float) -> list[Address]:
        """Whom to dial now. Each stays out of the answers until the node says how it went, or 30 s have passed."""
        self._save(now)
        self._ask_names(now)
        for trial in self._trials.values():
            if trial.dialled_at is not None and now >= trial.dialled_at + DIAL_SECONDS:
                trial.fail("timeout", now, self._rng)
        in_order = sorted(self._trials.items(), key=lambda entry: entry[1].origin)
        due = [
            address
            for address, trial in in_order
            if trial.dialled_at is None and now >= trial.due_at and self._is_tried(trial)
        ][: self._room()]
        if self.reached_any:
            if now >= self._random_at:
                self._random_at = now + self._jitter(RANDOM_SEED_SECONDS)
                due += self._draw(due)
        elif self._ask_link is not None and now >= self._link_trial.due_at:
            self._link_trial.fail("", now, self._rng)
            self._ask_link()
        for address in due:
            self._trials[address].dialled_at = now
        return due

    def next_at(self, now: float) -> float | None:
        """When `next_addresses` has something to do; None when nothing is planned."""
        room = self._room()
        times = [
            trial.due_at if trial.dialled_at is None else trial.dialled_at + DIAL_SECONDS
            for trial in self._trials.values()
            if trial.dialled_at is not None or (room and self._is_tried(trial))
        ]
        times += [name.due_at for name in self._all_names() if not name.pending]
        if self.reached_any and self._trials:
            times.append(self._random_at)
        if not self.reached_any and self._ask_link is not None:
            times.append(self._link_trial.due_at)
        if self._unsaved is not None:
            times.append(self._save_at)
        return max(min(times), now) if times else None

    def problem(self) -> str:
        """Which seeds cannot be reached, or that nobody can; "" when nothing is wrong with that."""
        silent = [
            f"{_write(address)} ({trial.reason})"
            for address, trial in self._trials.items()
            if trial.failures >= (_FAILURES_WORTH_SAYING if self.reached_any else 1)
            and (trial.origin is Origin.CONFIGURED or not self.reached_any)
        ]
        unknown = [name for name in self._named[Origin.CONFIGURED].values() if name.answered and not name.addresses]
        if self._service is not None and self._service.answered and not self._trials:
            unknown.append(self._service)
        silent += [f"{name.name} (no such name)" for name in unknown]
        found = []
        if silent:
            named = ", ".join(silent[:_NAMED_IN_PROBLEM])
            more = f" and {len(silent) - _NAMED_IN_PROBLEM} more" if len(silent) > _NAMED_IN_PROBLEM else ""
            found.append(f"{'seeds do not answer' if self.reached_any else 'no other node answers'}: {named}{more}")
        if self._file_problem:
            found.append(self._file_problem)
        return "; ".join(found)

    # Addresses

    def _is_tried(self, trial: _Trial) -> bool:
        """Whether it is among those that are dialled at present: all when alone, silent seeds when among others."""
        if not self.reached_any:
            return True
        return not trial.was_reached and trial.origin is not Origin.REMEMBERED

    def _room(self) -> int:
        """How many more may be dialled at present."""
        return max(0, MOST_AT_ONCE - sum(trial.dialled_at is not None for trial in self._trials.values()))

    def _draw(self, due: Sequence[Address]) -> list[Address]:
        """A seed at random, of the best origin that there is."""
        for origins in ((Origin.CONFIGURED, Origin.DNS), (Origin.REMEMBERED, Origin.LINK)):
            held = [address for address, trial in self._trials.items() if trial.origin in origins]
            if held:
                idle = [address for address in held if self._trials[address].dialled_at is None and address not in due]
                return [self._rng.choice(idle)] if idle else []
        return []

    def _take(self, places: Iterable[Address], origin: Origin) -> None:
        """From now on these hosts and ports, numeric or by name, are what that origin says."""
        self._numeric[origin] = []
        before, named = self._named[origin], dict[Address, _Name]()
        for host, port in places:
            numeric = _canonical(host)
            if not 0 < port < 65_536:
                continue
            if numeric:
                self._numeric[origin].append((numeric, port))
            elif self._names is not None:
                named[host, port] = before.get((host, port)) or _Name(host)
        self._named[origin] = named
        self._replace(origin)

    def _replace(self, origin: Origin) -> None:
        """Try the addresses of that origin as they are known now, and no others of it."""
        known = list(self._numeric[origin])
        for (_host, port), name in self._named[origin].items():
            known += [(address, port) for address in name.addresses]
        kept = dict.fromkeys(known[:MOST_OF_ORIGIN])
        for address in [held for held, trial in self._trials.items() if trial.origin is origin and held not in kept]:
            del self._trials[address]
        shuffled = list(kept)
        self._rng.shuffle(shuffled)  # a farm that starts at once must not fall upon one seed
        for address in shuffled:
            self._add(address, origin)

    def _add(self, address: Address, origin: Origin) -> None:
        if address in self._own:
            return
        trial = self._trials.setdefault(address, _Trial(origin))
        trial.origin = min(trial.origin, origin)

    def _jitter(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.75, 1.25)

    # Names

    def _all_names(self) -> list[_Name]:
        named = [name for table in self._named.values() for name in table.values()]
        return named if self._service is None else [*named, self._service]

    def _ask_names(self, now: float) -> None:
        if self._names is None:
            return
        if self._service is not None and self._service.begin(now, self.reached_any, self._rng):
            self._names.find_services(self._service.name, self._receive_services)
        for origin, table in self._named.items():
            for name in list(table.values()):  # an answer that comes at once changes the table of targets
                if name.begin(now, self.reached_any, self._rng):
                    self._names.find_addresses(name.name, partial(self._receive_addresses, name, origin))

    def _receive_addresses(self, name: _Name, origin: Origin, addresses: Sequence[str]) -> None:
        name.end()
        numeric = [known for known in map(_canonical, addresses[:MOST_OF_NAME]) if known]
        if numeric:  # otherwise what was known before is still worth trying
            name.addresses = numeric
            self._replace(origin)

    def _receive_services(self, services: Sequence[Service]) -> None:
        if self._service is not None:
            self._service.end()
        usable = sorted(service for service in services if service.target.rstrip("."))[:MOST_OF_NAME]
        if usable:
            self._take([(service.target.rstrip(".").lower(), service.port) for service in usable], Origin.DNS)

    # The file

    def _save(self, now: float) -> None:
        """Write what is to be remembered, at most once in some seconds, whole or not at all."""
        if self._unsaved is None or now < self._save_at:
            return
        addresses, self._unsaved = self._unsaved, None
        self._save_at = now + REMEMBER_SECONDS
        partial = f"{self._path}.partial"
        try:
            with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
                file.writelines(f"{_write(address)}\n" for address in addresses)
            os.replace(partial, self._path)
        except OSError as error:
            self._file_problem = f"the members cannot be remembered: {error.strerror or error}"
            with suppress(OSError):
                os.unlink(partial)
            return
        self._saved = addresses
        self._file_problem = ""


class _Trial:
    """How it went with one address."""

    __slots__ = ("dialled_at", "due_at", "failures", "origin", "reason", "was_reached")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.due_at = float("-inf")
        self.dialled_at: float | None = None
        self.failures = 0
        self.reason = ""
        self.was_reached = False

    def succeed(self) -> None:
        self.dialled_at = None
        self.failures = 0
        self.reason = ""
        self.was_reached = True

    def fail(self, reason: str, now: float, rng: random.Random) -> None:
        self.dialled_at = None
        self.was_reached = False
        self.due_at = now + _backoff(self.failures, rng)
        self.failures += 1
        self.reason = reason

    def start_anew(self, now: float) -> None:
        self.was_reached = False
        self.failures = 0
        self.reason = ""
        self.due_at = now


class _Name:
    """A name that is asked of DNS again and again."""

    __slots__ = ("addresses", "answered", "asked", "due_at", "name", "pending")

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: list[str] = []
        self.pending = False
        self.answered = False
        self.asked = 0
        self.due_at = float("-inf")

    def begin(self, now: float, reached_any: bool, rng: random.Random) -> bool:
        """Whether to ask now; the next time is set then."""
        if self.pending or now < self.due_at:
            return False
        self.pending = True
        self.due_at = now + (NAMES_SECONDS * rng.uniform(0.75, 1.25) if reached_any else _backoff(self.asked, rng))
        self.asked += 1
        return True

    def end(self) -> None:
        """The answer is here."""
        self.pending = False
        self.answered = True


def _backoff(failures: int, rng: random.Random) -> float:
    """1 s, 2 s, 4 s … 30 s, a quarter more or less: nodes that start together must not knock together."""
    return min(FIRST_SECONDS * 2.0 ** min(failures, 16), LONGEST_SECONDS) * rng.uniform(0.75, 1.25)


def _canonical(host: str) -> str:
    """A numeric address as it is always written; "" for a name."""
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return ""


def _write(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(path: str) -> list[Address]:
    """The addresses in a file, a line each; lines that are none are passed over."""
    try:
        with open(path, "rb") as file:
            text = file.read(FILE_BYTES).decode("ascii", "replace")
    except OSError:
        return []
    found: dict[Address, None] = {}
    for line in text.splitlines():
        with suppress(ValueError):
            host, port = parse_host_port(line.strip())
            if _canonical(host) and port:
                found[_canonical(host), port] = None
    return list(found)[:MOST_OF_ORIGIN]
