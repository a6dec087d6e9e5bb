"""Registrations at a whole farm: a SIPp at every node, with users of its own, and what that costs all nodes together.

A registration counts once, however many nodes hold it in the end; the processor time of all of them is divided by it.
Before the second reading every copy must have arrived, as the nodes themselves count their contacts: a farm that has
lost or not yet sent a part is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bench.farms import Farm, cpu_seconds
from bench.loads import Measured
from tests.support.processes import ProgramFailed, wait_until
from tests.support.sipp import Sipp, describe, write_users

WARM_SECONDS: Final = 5  # in which all users register
PAUSE_SECONDS: Final = 6  # of refresh.xml
_REFRESHES: Final = 2  # of refresh.xml
_SETTLE_SECONDS: Final = 1.0
_COPY_SECONDS: Final = 15.0


class Case(NamedTuple):
    """Registrations at so many nodes, so many a second in all. With `refresh` phones refresh with their own Call-ID,
    without each REGISTER has a new one, as after a restart of the phone."""

    name: str
    nodes: int
    rate: int
    refresh: bool = False

    @property
    def title(self) -> str:
        """For the table."""
        return f"{'refresh' if self.refresh else 'REGISTER'}, {self.nodes} nodes"


CASES: Final = (
    Case("3", 3, 800),
    Case("3-fast", 3, 2_000),
    Case("3-refresh", 3, 800, refresh=True),
    Case("5", 5, 800),
    Case("9", 9, 800),
)


class Phones:
    """The users of a farm: each registers through one node, from a host of `hosts` that belongs to it, and is called
    at `contact_host`."""

    def __init__(
        self, farm: Farm, hosts: Sequence[str], count: int, directory: Path, *, contact_host: str = ""
    ) -> None:
        self.count = count
        self._farm = farm
        self._hosts = hosts
        self._directory = directory
        nodes = len(farm.hosts)
        contact = f"sip:{{user}}@{contact_host or hosts[0]}:5060"
        lines = write_users(directory / "users.csv", count, contact).read_text().splitlines()
        self.files: list[Path] = []
        self._shares: list[int] = []
        for index in range(nodes):
            share = lines[1 + index :: nodes]
            self._shares.append(len(share))
            self.files.append(directory / f"users-{index}.csv")
            self.files[-1].write_text("\n".join([lines[0], *share]) + "\n")

    def register(self, rate: int, total: int) -> list[Sipp]:
        """So many registrations in all, the users in turn; waits for the end."""
        nodes = len(self._shares)
        return self.wait(self.begin("register.xml", [total // nodes + (i < total % nodes) for i in range(nodes)], rate))

    def live(self, rate: int) -> list[Sipp]:
        """Every user's phone once, with `refresh.xml`; does not wait."""
        return self.begin("refresh.xml", self._shares, rate)

    def begin(self, scenario: str, calls: Sequence[int], rate: int) -> list[Sipp]:
        """Start a SIPp at each node."""
        nodes = len(self._shares)
        started: list[Sipp] = []
        for index, host in enumerate(self._farm.hosts):
            started.append(
                Sipp(
                    scenario,
                    (host, 5060),
                    (self._hosts[index], 5060),
                    self._directory,
                    calls=calls[index],
                    rate=rate // nodes + (index < rate % nodes),
                    users=self.files[index],
                    options=["-l", str(max(calls))],
                )
            )
        return started

    def wait(self, sipps: list[Sipp], seconds: float = 120.0) -> list[Sipp]:
        """Until all have ended; what still runs then is killed."""
        try:
            for sipp in sipps:
                sipp.wait(seconds)
        finally:
            for sipp in sipps:
                sipp.kill()
        return sipps

    def wait_copied(self) -> None:
        """Until every copy is where it belongs. ProgramFailed when one is missing."""
        farm = self._farm
        try:
            wait_until(lambda: farm.has_all(self.count), _COPY_SECONDS, "all contacts are copied", every=0.3)
        except ProgramFailed:
            raise ProgramFailed(f"of {self.count} contacts copies are missing: {farm.copies()}") from None


def measure(case: Case, farm: Farm, hosts: Sequence[str], rate: int, seconds: float, directory: Path) -> Measured:
    """Register all users of the running farm, load it for that long at that rate, and read what it used."""
    phones = Phones(farm, hosts, rate * WARM_SECONDS, directory)
    if case.refresh:
        operations = phones.count * _REFRESHES
        sipps = phones.live(rate)
        time.sleep(WARM_SECONDS + (PAUSE_SECONDS - WARM_SECONDS) / 2)
        before = cpu_seconds(farm)
        phones.wait(sipps)
    else:
        operations = int(rate * seconds)
        phones.register(rate, phones.count)
        before = cpu_seconds(farm)
        sipps = phones.register(rate, operations)
    time.sleep(_SETTLE_SECONDS)
    used = cpu_seconds(farm) - before
    resident = max(program.rss_bytes() for program in farm.programs())
    statistics = [sipp.statistics() for sipp in sipps]
    wanted = phones.count if case.refresh else operations
    failed = sum(one.failed for one in statistics)
    failed += max(wanted - sum(one.successful for one in statistics) - failed, 0)
    complaint = describe(sipps) if failed else ""
    try:
        phones.wait_copied()
    except ProgramFailed as failure:
        failed, complaint = failed + 1, f"{complaint}\n{failure}"
    return Measured(
        operations,
        used / operations * 1e6,
        failed,
        sum(one.retransmissions for one in statistics),
        resident,
        complaint,
    )
