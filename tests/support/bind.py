"""BIND 9 as a process of the test: name server of the domain around the farm's zone, resolver of its world, secondary.

Each runs on port 53 of an address of its own, since resolvers know no other port; so the test must be root. What runs
under `lookups_by` finds names through such a server alone: it has an /etc/resolv.conf of its own, in a mount namespace
that ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.processes import Program, ProgramFailed, wait_until
from tests.support.tools import give_up, need

_START_SECONDS: Final = 20.0
_OPTIONS: Final = """\
options {{
    directory "{directory}";
    pid-file none;
    session-keyfile none;
    listen-on port 53 {{ {host}; }};
    listen-on-v6 {{ none; }};
    query-source address {host};
    transfer-source {host};
    notify-source {host};
    notify no;
    recursion yes;
    allow-recursion {{ any; }};
    dnssec-validation no;
    empty-zones-enable no;
    prefetch 0;
    {options}
}};
controls {{ }};
"""


def need_bind() -> None:
    """Skip the test where BIND cannot be run as it needs to be."""
    need("named", "dig", "ip", "unshare")
    if os.geteuid() != 0:
        give_up("port 53 and a mount namespace are for root")


class NameServer:
    """One BIND. `zones` is text of its configuration; files that it names are written to `directory` before."""

    def __init__(self, directory: Path, host: str, zones: str, options: str = "") -> None:
        self.host = host
        self.directory = directory
        directory.mkdir(exist_ok=True)
        config = directory / "named.conf"
        config.write_text(_OPTIONS.format(directory=directory, host=host, options=options) + zones)
        self._address("add")
        # its own user could not write to a test's directory
        self.program = Program([_find("named"), "-g", "-c", str(config), "-n", "1"], directory / "named.log")

    def wait_ready(self) -> None:
        """Until it answers anything."""
        try:
            wait_until(lambda: "status:" in dig(self.host, "version.bind", "TXT", "CH"), _START_SECONDS, "BIND answers")
        except ProgramFailed as failure:
            raise ProgramFailed(f"{failure}\n{self.program.tail()}") from None

    def stop(self) -> None:
        """End it."""
        self.program.stop(5)
        self._address("del")

    def _address(self, what: str) -> None:
        """BIND listens on addresses that a card has, and of 127.0.0.0/8 that is one; one left over harms nobody."""
        command = ["ip", "address", what, f"{self.host}/32", "dev", "lo"]
        subprocess.run(command, capture_output=True, timeout=10, check=False)


def make_parent(
    directory: Path, host: str, domain: str, zone: str, servers: Sequence[str], more: str = ""
) -> NameServer:
    """The server of `domain`, which has delegated `zone` to the name servers at these addresses."""
    directory.mkdir(exist_ok=True)
    lines = ["$TTL 60", f"$ORIGIN {domain}.", "@ IN SOA dns root 1 3600 600 86400 5", "@ IN NS dns", f"dns IN A {host}"]
    for number, server in enumerate(servers, 1):
        lines += [f"{zone}. IN NS farm{number}", f"farm{number} IN A {server}"]
    (directory / "parent.zone").write_text("\n".join([*lines, more]) + "\n")
    return NameServer(directory, host, f'zone "{domain}" {{ type primary; file "parent.zone"; }};\n')


def make_secondary(directory: Path, host: str, zone: str, primaries: Sequence[str]) -> NameServer:
    """A server that has the zone from these."""
    directory.mkdir(exist_ok=True)
    listed = " ".join(f"{primary};" for primary in primaries)
    return NameServer(
        directory,
        host,
        f'zone "{zone}" {{ type secondary; primaries {{ {listed} }}; file "copy.zone"; masterfile-format text; }};\n',
    )


def dig(server: str, *arguments: str, port: int = 53) -> str:
    """What dig writes of the answer."""
    command = ["dig", f"@{server}", "-p", str(port), "+tries=1", "+time=3", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def lookups_by(server: NameServer) -> list[str]:
    """What starts a command whose names are looked up there."""
    file = server.directory / "resolv.conf"
    file.write_text(f"nameserver {server.host}\noptions timeout:1 attempts:2\n")
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(file)]


def _find(program: str) -> str:
    found = shutil.which(program)
    assert found is not None
    return found
