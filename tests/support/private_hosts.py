"""Machines for pages of the documentation: hosts with a network card, a root file system and processes of their own.

Each is a set of namespaces whose root is an overlay on this computer's: it has all that is installed here, and what is
written there is seen by nobody else and gone at the end. All are on one switch, know each other by name (`/etc/hosts`)
and nobody else (`no_names.py`), and take `ssh` and `scp` from each other, by a real sshd. `systemctl` and `journalctl`
are stand-ins (`service_shim.py`): there is no systemd in a namespace. The project's files are in `/root/sipfarm`, again
as a private overlay.

Decided: overlays and not containers, which would need an image of what is installed here already. Needs root, and a
kernel that lets it; nothing is left behind by a test that is killed, since all lives in the namespaces' processes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.processes import Program, ProgramFailed, wait_until

ROOT: Final = Path(__file__).resolve().parent.parent.parent
HOME: Final = "/root"
SOURCE: Final = "/root/sipfarm"
TREE: Final = "/opt/sipfarm"
_END_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")  # also when the test is killed
_ENVIRONMENT: Final = {
    "HOME": HOME,
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "TERM": "dumb",
    "USER": "root",
}
_SHIM: Final = Path(__file__).with_name("service_shim.py")
_NO_NAMES: Final = Path(__file__).with_name("no_names.py")
_NAMES: Final = "10.0.0.254"  # of the name server
_SETUP: Final = """\
set -eu
place=$1 name=$2 source=$3 tree=$4; shift 4
mount -t tmpfs tmpfs "$place"
lay() { mkdir -p "$place/$3/up" "$place/$3/work" "$2"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=$place/$3/up,workdir=$place/$3/work" "$2"; }
root=$place/root
lay / "$root" machine
for path in "$@"; do mkdir -p "$root$path"; mount --rbind "$path" "$root$path"; done
for path in dev sys; do mount --rbind "/$path" "$root/$path"; done
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/root"
rm -rf "$root/etc/sipfarm" "$root/var/lib/sipfarm" "$root/opt/sipfarm"
mkdir -p "$root/run/sshd" "$root/run/page" "$root/usr/local/bin"
lay "$source" "$root/root/sipfarm" source
if [ -n "$tree" ]; then lay "$tree" "$root/opt/sipfarm" tree; fi
hostname "$name"
ip link set lo up
exec chroot "$root" sh -c 'trap "" CHLD; exec sleep infinity'
"""
_BLOCK: Final = """\
set -euo pipefail
if [ -e /run/page/environment ]; then . /run/page/environment; fi
cd "$(cat /run/page/directory 2>/dev/null || echo /root)"
trap '{ export -p; declare -f; } >/run/page/environment; pwd >/run/page/directory' EXIT
"""


class NoHosts(Exception):
    """Why such machines cannot be made here."""


class PrivateHost:
    """One machine. Made by `PrivateHosts`."""

    def __init__(self, name: str, place: Path, tree: Path | None, bound: Sequence[str]) -> None:
        self.name = name
        place.mkdir()
        self._log = place.parent / f"{name}.log"
        namespaces = ("--net", "--mount", "--uts", "--pid", "--propagation", "private")
        command = [*_END_WITH_US, "unshare", *namespaces, "--fork", "--kill-child", "sh", "-c", _SETUP, "sh"]
        self._holder = Program([*command, str(place), name, str(ROOT), str(tree or ""), *bound], self._log)
        self._pid = 0
        self._blocks = 0
        self._background: list[subprocess.Popen[bytes]] = []

    def wait(self) -> None:
        """Until its processes can be started. Raises NoHosts."""
        try:
            wait_until(self._is_up, 10, f"{self.name} is up")
        except ProgramFailed:
            raise NoHosts(self._holder.tail()) from None

    def _is_up(self) -> bool:
        if not self._holder.running():
            raise NoHosts(self._holder.tail())
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self._pid = int(children[0]) if children else 0
        return bool(self._pid) and Path(f"/proc/{self._pid}/comm").read_text() == "sleep\n"

    @property
    def network(self) -> str:
        """Its network namespace."""
        return f"/proc/{self._pid}/ns/net"

    def path(self, inside: str) -> Path:
        """Where this computer finds a file of it."""
        return Path(f"/proc/{self._pid}/root{inside}")

    def write(self, inside: str, text: str, mode: int = 0o644) -> None:
        """Write a file there."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def wrapper(self, *, online: bool = False) -> list[str]:
        """What starts a command there; `online` in this computer's network."""
        enter = ["nsenter", f"--target={self._pid}", "--mount", "--uts", "--pid", "--root", "--wd"]
        environment = ["env", "-i", *(f"{name}={value}" for name, value in _ENVIRONMENT.items())]
        if online:
            kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))]
            names = 'mount --bind /run/resolv.conf /etc/resolv.conf && exec "$@"'
            return [*enter, *environment, *kept, "unshare", "--mount", "sh", "-c", names, "sh"]
        return [*enter, "--net", *environment]

    def run(self, commands: str, *, timeout: float, online: bool = False, background: bool = False) -> tuple[int, str]:
        """Run lines as they are typed at a shell there, which keeps directory, functions and exported variables until
        the next ones; answers exit code and all output. Raises ProgramFailed when it takes too long."""
        self._blocks += 1
        script = f"/run/page/{self._blocks}.sh"
        self.write(script, _BLOCK + commands)
        output = self._log.with_name(f"{self.name}-{self._blocks}.out")
        # a file and not a pipe: what the block leaves running would hold the pipe open
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*self.wrapper(online=online), "bash", script],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if background:
            self._background.append(process)
            return 0, ""
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise ProgramFailed(f"not within {timeout:g} s\n{output.read_text(errors='replace')}") from None
        return code, output.read_text(errors="replace")

    def logs(self) -> str:
        """The ends of its services' logs."""
        logs = sorted(self.path("/run/service-shim").glob("*/log")) if self._pid else []
        tails = [f"--- {self.name} {log.parent.name}\n" + "\n".join(_tail(log)) for log in logs]
        return "\n".join(tails)

    def stop(self) -> None:
        """End it and all that runs there."""
        self._holder.kill()
        for process in self._background:
            process.wait(10)


class PrivateHosts:
    """Machines by name, each with its addresses, on one switch; use it in a `with` block. `tree` is what all have in
    /opt/sipfarm. Raises NoHosts."""

    def __init__(self, addresses: Mapping[str, Sequence[str]], directory: Path, tree: Path | None = None) -> None:
        self._addresses = addresses
        self._directory = directory
        self._tree = tree
        self._made: dict[str, PrivateHost] = {}
        self._switch: Program | None = None

    def __enter__(self) -> PrivateHosts:
        if os.geteuid() != 0:
            raise NoHosts("namespaces are for root")
        self._directory.mkdir(parents=True, exist_ok=True)
        switch = [*_END_WITH_US, "unshare", "--net", "--fork", "--kill-child", "sh", "-c"]
        lay = (
            f"ip link add switch type bridge && ip address add {_NAMES}/24 dev switch && ip link set switch up && exec "
        )
        lay += f"{sys.executable} -S {_NO_NAMES} {_NAMES}"
        self._switch = Program([*switch, lay], self._directory / "switch.log")
        try:
            wait_until(lambda: " switch:" in self._on_switch("ip", "link"), 10, "the switch is there")
        except ProgramFailed as problem:
            self.__exit__()
            raise NoHosts(f"{problem}\n{self._switch.tail()}") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all machines; from another thread, too, in which case what runs there fails."""
        for host in list(self._made.values()):
            host.stop()
        if self._switch is not None:
            self._switch.kill()

    def __getitem__(self, name: str) -> PrivateHost:
        """The machine with that name, which is made when it is asked for first."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def made(self) -> list[PrivateHost]:
        """All machines that were made."""
        return list(self._made.values())

    def _make(self, name: str) -> PrivateHost:
        needed = [str(ROOT), sys.prefix, sys.base_prefix, str(self._directory)]
        device = os.stat("/").st_dev
        apart = [path for path in dict.fromkeys(needed) if os.stat(path).st_dev != device]
        host = PrivateHost(name, self._directory / name, self._tree, apart)
        self._made[name] = host
        host.wait()
        number = len(self._made)
        self._on_switch(
            "ip", "link", "add", f"to{number}", "type", "veth", "peer", "name", "eth0", "netns", host.network
        )
        self._on_switch("ip", "link", "set", f"to{number}", "master", "switch", "up")
        self._furnish(host)
        cards = [f"ip address add {address}/24 dev eth0" for address in self._addresses[name]]
        keys = "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
        start = ["ip link set eth0 up", *cards, "rm -f /etc/ssh/ssh_host_*", keys]
        if shutil.which("sshd", path="/usr/sbin:/sbin"):
            options = "-o UsePAM=no -o PermitRootLogin=yes -o StrictModes=no -o HostKey=/etc/ssh/ssh_host_ed25519_key"
            start.append(f"/usr/sbin/sshd {options} 2>/dev/null")
        code, output = host.run(" && ".join(start) + "\n", timeout=20)
        if code:
            raise NoHosts(output)
        return host

    def _furnish(self, host: PrivateHost) -> None:
        """Names, keys for ssh, and the stand-ins."""
        lines = ["127.0.0.1 localhost", *(f"{addresses[0]} {name}" for name, addresses in self._addresses.items())]
        host.write("/run/resolv.conf", Path("/etc/resolv.conf").read_text())
        resolv = host.path("/etc/resolv.conf")
        resolv.unlink(missing_ok=True)
        host.write("/etc/resolv.conf", f"nameserver {_NAMES}\noptions timeout:1 attempts:1\n")
        host.write("/etc/hosts", "\n".join(lines) + "\n")
        key = self._directory / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=20)
        host.write("/root/.ssh/id_ed25519", key.read_text(), 0o600)
        host.write("/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text(), 0o600)
        host.write(
            "/root/.ssh/config", "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n", 0o600
        )
        shadow = host.path("/etc/shadow")
        shadow.write_text(shadow.read_text().replace("root:!", "root:*", 1))
        for name in ("systemctl", "journalctl"):
            host.write(f"/usr/local/bin/{name}", f'#!/bin/sh\nexec {sys.executable} -S {_SHIM} {name} "$@"\n', 0o755)

    def _on_switch(self, *command: str) -> str:
        assert self._switch is not None
        children = Path(f"/proc/{self._switch.pid}/task/{self._switch.pid}/children").read_text().split()
        if not children:
            return ""
        enter = ["nsenter", f"--net=/proc/{children[0]}/ns/net", *command]
        done = subprocess.run(enter, capture_output=True, text=True, timeout=10, check=False)
        if done.returncode:
            raise NoHosts(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout


def _tail(log: Path) -> list[str]:
    return log.read_text(errors="replace").splitlines()[-15:]
