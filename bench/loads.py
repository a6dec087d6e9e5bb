"""The loads of the benchmark: what SIPp asks of a server, how often, and what one operation is.

A load first warms the server up with the same traffic, so that every user is registered and every cache is filled,
then makes the measured traffic. What is counted: operations, the server's processor seconds between the two readings,
and SIPp's own failures and retransmissions on both sides of the call.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from tests.support.processes import Program
from tests.support.sipp import Sipp, write_users

USERS = 10_000
_CALLEES = 1_000
# The server's last batches (journal, timers) belong to the operations that caused them.
_SETTLE_SECONDS = 1.0


class Load(NamedTuple):
    """One kind of traffic. `rate` is operations a second at which neither server loses anything on two cores."""

    name: str
    title: str
    digest: bool
    call: bool
    rate: int


LOADS = (
    Load("register", "REGISTER, open", digest=False, call=False, rate=5_000),
    Load("digest", "REGISTER, digest (401 + 200)", digest=True, call=False, rate=2_000),
    Load("call", "call through a registered callee", digest=False, call=True, rate=800),
)


class Hosts(NamedTuple):
    """Loopback addresses of the three parties; all use port 5060."""

    server: str
    caller: str
    callee: str


class Measured(NamedTuple):
    """One measured run of one load on one server."""

    operations: int
    microseconds: float
    failed: int
    retransmissions: int
    resident_bytes: int
    complaint: str

    @property
    def counts(self) -> bool:
        """Whether the figure may be used: nothing failed, and at most one operation in two hundred was sent twice."""
        return not self.failed and self.retransmissions * 200 <= self.operations


def measure(load: Load, server: Program, hosts: Hosts, rate: int, seconds: float, directory: Path) -> Measured:
    """Warm the running `server` up, load it for that long at that rate, and read what it used from /proc."""
    target = (hosts.server, 5060)
    users = write_users(directory / "users.csv", USERS, f"sip:{{user}}@{hosts.callee}:5060")
    scenario = "caller.xml" if load.call else "register_digest.xml" if load.digest else "register.xml"
    operations = int(rate * seconds)

    def generate(scenario: str, calls: int, rate: int) -> Sipp:
        # The URI in the digest must be the request's; by itself SIPp writes the server's address.
        options = ["-auth_uri", "example.com"] if load.digest else []
        local = (hosts.caller, 5060)
        sipp = Sipp(scenario, target, local, directory, calls=calls, rate=rate, users=users, options=options)
        try:
            sipp.wait(60 + 3 * calls / rate)
        finally:
            sipp.kill()
        return sipp

    callee: Sipp | None = None
    try:
        if load.call:
            users = write_users(directory / "callees.csv", _CALLEES, f"sip:{{user}}@{hosts.callee}:5060")
            generate("register.xml", _CALLEES, min(rate, 1_000))
            callee = Sipp("callee.xml", target, (hosts.callee, 5060), directory)
            generate(scenario, _CALLEES, rate)
        else:
            generate(scenario, USERS, rate)
        before = server.cpu_seconds()
        caller = generate(scenario, operations, rate)
        time.sleep(_SETTLE_SECONDS)
        assert server.running(), f"the server ended under load\n{server.tail()}"
        used = server.cpu_seconds() - before
        resident = server.rss_bytes()
        if callee is not None:
            callee.finish()
    finally:
        if callee is not None:
            callee.kill()
    sides = [side.statistics() for side in (caller, callee) if side is not None]
    failed = sum(side.failed for side in sides) + max(operations - sides[0].successful - sides[0].failed, 0)
    return Measured(
        operations,
        used / operations * 1e6,
        failed,
        sum(side.retransmissions for side in sides),
        resident,
        caller.errors(6) if failed else "",
    )
