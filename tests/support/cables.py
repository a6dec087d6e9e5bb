"""Hosts with network cards of their own, joined by cables that a test may pull: network namespaces, veth and bridges.

Each host has two cards: `front`, by which phones and tests reach it at all times, and `back`, by which the hosts reach
each other. The thread that makes a `Cables` is put into a namespace with both switches until the block ends, so that
what it opens and starts meanwhile is on the front network, and the machine's own network stays as it was.

Decided: the namespaces have no names. `ip netns add` leaves what must be cleared away, also after a test that was
killed; these live as long as the files that hold them and the processes in them.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from tests.support.tools import give_up, need

_CLONE_NEWNET: Final = 0x4000_0000
_FRONT: Final = "10.60.0"
_BACK: Final = "10.61.0"
_NOBODY: Final = "02:00:00:00:00:99"  # a hardware address that no card has
_PHONES: Final = range(100, 110)


class NoCables(Exception):
    """Why namespaces cannot be made here."""


class Cables:
    """So many hosts on two switches; use it in a `with` block. Raises NoCables."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.hosts = [f"{_FRONT}.{number + 1}" for number in range(count)]
        """Where phones reach the hosts."""
        self.back_hosts = [f"{_BACK}.{number + 1}" for number in range(count)]
        """Where the hosts reach each other."""
        self.phone_hosts = [f"{_FRONT}.{number}" for number in _PHONES]
        """Addresses of the test itself."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._files: list[int] = []
        self._home = -1

    def __enter__(self) -> Cables:
        self._home = _open_namespace()
        try:
            for _ in range(self.count):
                self._unshare()
                _run("ip", "link", "set", "lo", "up")
                self._files.append(_open_namespace())
            self._unshare()
            self._lay()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._libc.setns(self._home, _CLONE_NEWNET)
        for file in (*self._files, self._home):
            os.close(file)
        self._files.clear()

    def wrapper(self, index: int) -> list[str]:
        """What starts a command on a host."""
        return ["nsenter", f"--net={self._path(index)}"]

    def pull(self, index: int) -> None:
        """Pull a host's cable to the others: nothing passes, and nobody is told."""
        _run("ip", "link", "set", f"back{index}", "down")

    def plug(self, index: int) -> None:
        """Put it in again."""
        _run("ip", "link", "set", f"back{index}", "up")

    def mute(self, index: int, towards: int) -> None:
        """Let what one host sends to another vanish; the other direction works."""
        where = (self.back_hosts[towards], "lladdr", _NOBODY, "dev", "back")
        _run(*self.wrapper(index), "ip", "neigh", "replace", *where, "nud", "permanent")

    def unmute(self, index: int, towards: int) -> None:
        """Let it arrive again."""
        _run(*self.wrapper(index), "ip", "neigh", "del", self.back_hosts[towards], "dev", "back")

    def share(self, address: str) -> None:
        """Give all hosts one more address, at which none is reached yet: any may listen there and send from there."""
        quiet = ("arp_ignore", 1), ("arp_announce", 2)  # nobody is told of it but by who has it on a card
        orders = " && ".join(f"echo {value} >/proc/sys/net/ipv4/conf/all/{name}" for name, value in quiet)
        for index in range(self.count):
            _run(*self.wrapper(index), "ip", "address", "add", f"{address}/32", "dev", "lo")
            _run(*self.wrapper(index), "sh", "-c", orders)

    def move(self, address: str, index: int) -> None:
        """Who asks for that address reaches this host from now on, and no other: what VRRP does."""
        for host in range(self.count):
            if f" {address}/" in _run(*self.wrapper(host), "ip", "-oneline", "address", "show", "dev", "front"):
                _run(*self.wrapper(host), "ip", "address", "del", f"{address}/32", "dev", "front")
        _run(*self.wrapper(index), "ip", "address", "add", f"{address}/32", "dev", "front")
        _run("ip", "neigh", "flush", "to", address, "dev", "front")  # as a gratuitous ARP has it

    def _lay(self) -> None:
        """Switches, cables and addresses."""
        _run("ip", "link", "set", "lo", "up")
        for switch in ("front", "back"):
            _run("ip", "link", "add", switch, "type", "bridge")
            _run("ip", "link", "set", switch, "up")
        for address in self.phone_hosts:
            _run("ip", "address", "add", f"{address}/24", "dev", "front")
        for index in range(self.count):
            for switch, address in (("front", self.hosts[index]), ("back", self.back_hosts[index])):
                card = ("peer", "name", switch, "netns", self._path(index))
                _run("ip", "link", "add", f"{switch}{index}", "type", "veth", *card)
                _run("ip", "link", "set", f"{switch}{index}", "master", switch, "up")
                _run(*self.wrapper(index), "ip", "address", "add", f"{address}/24", "dev", switch)
                _run(*self.wrapper(index), "ip", "link", "set", switch, "up")

    def _path(self, index: int) -> str:
        return f"/proc/{os.getpid()}/fd/{self._files[index]}"

    def _unshare(self) -> None:
        if self._libc.unshare(_CLONE_NEWNET):
            raise NoCables(f"no network namespace: {os.strerror(ctypes.get_errno())}")


def _open_namespace() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    if done.returncode:
        raise NoCables(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


@contextmanager
def lay_cables(count: int) -> Iterator[Cables]:
    """So many hosts for a test; where none can be made, it is skipped, or fails under CI."""
    need("ip", "nsenter")
    try:
        with Cables(count) as laid:
            yield laid
    except NoCables as problem:
        give_up(str(problem))
