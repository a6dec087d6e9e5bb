"""A machine in which a real systemd is process 1: this one's files, writable without a trace, in namespaces of its own.

Its root is an overlay on ours, so that every program is there and nothing that is written outlives it. Of this
machine's units none is left but the journal and the targets: the network and the kernel's settings are ours, and a
service that sets them up would change them. A node there is reached at its loopback address. Root and systemd are
needed, and a kernel that lets us mount.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.support.processes import Program, ProgramFailed, wait_until

_CGROUPS: Final = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
_BOOT: Final = """
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs {work}
mkdir {work}/upper {work}/inner {work}/root
mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/inner {work}/root
cd {work}/root
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
mkdir dev/pts dev/shm
mount -t tmpfs tmpfs dev/shm
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount -t cgroup2 cgroup2 sys/fs/cgroup
rm -rf etc/systemd/system etc/machine-id var/lib/systemd var/log/journal lib/systemd/system-generators \
    usr/local/lib/systemd
for kind in service mount automount timer path swap wants requires; do
    find lib/systemd/system -name "*.$kind" ! -name 'systemd-journald*' -prune -exec rm -rf {{}} +
done
mkdir -p etc/systemd/system
ln -s /dev/null etc/systemd/system/systemd-journald-audit.socket
cat > etc/systemd/system/test.target <<END
[Unit]
Wants=systemd-journald.service
END
mkdir -p mnt
pivot_root . mnt
cd /
umount --lazy /mnt
mount --make-rshared / # as systemd does where it is no container
exec /usr/bin/env -i container=plain PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=test.target --log-target=journal --log-level=info --show-status=no
"""


class SystemdMachine:
    """The machine, running until `stop`; its files while it is being made are below `directory`."""

    def __init__(self, directory: Path) -> None:
        work = directory / "machine"
        work.mkdir()
        self._cgroup = _make_cgroup()
        boot = directory / "boot"
        boot.write_text(_BOOT.format(work=work))
        namespaces = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child"]
        inside = f"echo $$ > {self._cgroup}/cgroup.procs && exec {' '.join(namespaces)} sh {boot}"
        self._program = Program(["sh", "-c", inside], directory / "boot.log")
        self._first = 0

    def wait_up(self) -> None:
        """Until its systemd takes orders."""

        def is_up() -> bool:
            if not self._program.running():
                raise ProgramFailed(f"it ended\n{self._program.tail()}")
            self._first = self._first or _child_of(self._program.pid)
            return bool(self._first) and self.run("systemctl", "is-system-running", check=False) in (
                "running",
                "degraded",
            )

        try:
            wait_until(is_up, 30, "systemd is up", every=0.1)
        except ProgramFailed as failure:
            raise ProgramFailed(f"{failure}\n{self._program.tail()}") from None

    def run(self, *command: str, check: bool = True, text: str = "") -> str:
        """What a command writes there, `text` being its input; it must succeed unless it is not checked."""
        enter = [
            "nsenter",
            "--target",
            str(self._first),
            "--pid",
            "--mount",
            "--uts",
            "--ipc",
            "--cgroup",
            "--root",
            "--wd",
        ]
        environment = [
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            "LC_ALL=C.UTF-8",
        ]
        done = subprocess.run(
            [*enter, *environment, *command], input=text, capture_output=True, text=True, timeout=120, check=False
        )
        if check and done.returncode:
            raise ProgramFailed(f"{' '.join(command)} answered {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Make a file there."""
        self.run("sh", "-c", f"mkdir -p {os.path.dirname(path)} && cat > {path}", text=text)

    def copy(self, source: Path, path: str) -> None:
        """Copy a file of ours, or a directory, to a place there, where it is root's."""
        root = f"/proc/{self._first}/root"
        subprocess.run(["cp", "-rT", str(source), f"{root}{path}"], check=True)

    def property(self, unit: str, name: str) -> str:
        """A property of a unit, as `systemctl show` answers it."""
        return self.run("systemctl", "show", "--property", name, "--value", unit)

    def log(self) -> str:
        """What its systemd has said, and the journal."""
        journal = self.run("journalctl", "--no-pager", "--lines=80", check=False) if self._first else ""
        return f"{self._program.tail()}\n{journal}"

    def stop(self) -> None:
        """End it and all that runs there."""
        self._program.signal(signal.SIGKILL)  # --kill-child takes process 1 along, and that one all others
        self._program.kill()
        deadline = time.monotonic() + 10
        while self._cgroup.exists() and time.monotonic() < deadline:
            for path, _, _ in os.walk(self._cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)
            time.sleep(0.05)


def _make_cgroup() -> Path:
    """A group of its own for systemd to divide, which would be ours otherwise."""
    for root in _CGROUPS:
        if (root / "cgroup.procs").exists() and (root / "cgroup.controllers").exists():
            group = root / f"sipfarm-test-{os.getpid()}-{time.monotonic_ns()}"
            group.mkdir()
            return group
    raise ProgramFailed("no unified control groups are mounted")


def _child_of(pid: int) -> int:
    """The only child of a process, 0 when it has none."""
    children: Sequence[str] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else 0
