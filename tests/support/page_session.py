"""A page of the documentation followed to the letter: its files written, its commands run, on machines of its own.

A page says in a comment how it begins: `<!-- tried after: first-farm.md -->` follows that page before, as its reader
has, up to `<!-- others go on here -->`; `<!-- tried on: demo -->` is read at the machine `demo`, on which the demo farm
runs, and where two phones are registered, 1000 and 1001. Where a page's examples have a directory that differs each
time, `/tmp/sipfarm-…`, it is the demo's.

Every service of systemd there has a drop-in of ours that no page speaks of: what a farm waits for by design is seconds
instead of half a minute (`join_seconds`, `hold_down_seconds`, `compare_seconds`). What happens is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from farm.config import ConfigError, load
from tests.support.documents import Block, find_missing, read_blocks
from tests.support.private_hosts import PrivateHosts
from tests.support.processes import ProgramFailed

BLOCK_SECONDS: Final = 90.0
DEMO: Final = "demo"
DEMO_DIRECTORY: Final = "/tmp/sipfarm-demo"
_DROP_IN: Final = "/etc/systemd/system/sipfarm.service.d/pages.conf"
_QUICK: Final = "[Service]\n" + "".join(
    f"Environment=SIPFARM__OVERLAY__{key}_SECONDS={seconds}\n"
    for key, seconds in (("JOIN", 6), ("HOLD_DOWN", 5), ("COMPARE", 6))
)
_DIRECTION: Final = re.compile(r"<!-- tried (after|on): (\S+) -->")
_GO_ON: Final = "<!-- others go on here -->"
_START_DEMO: Final = f"""\
cd sipfarm
test -e .venv || ln -s /opt/sipfarm .venv
exec /opt/sipfarm/bin/sipfarm demo --dir {DEMO_DIRECTORY} >/run/demo.log 2>&1
"""
_START_PHONES: Final = f"""\
cd sipfarm
for second in $(seq 300); do test -e {DEMO_DIRECTORY}/farm.json && break; sleep 0.2; done
mkdir /run/phones
cd /run/phones
touch contacts
for user in 1000 1001; do
    echo "<sip:$user@example.com>;auth_pass=$user;outbound=sip:127.0.0.1${{user#100}};answermode=auto" >>accounts
done
sed -i s/127.0.0.10/127.0.0.12/ accounts
printf '%s\\n' 'module_path /usr/lib/baresip/modules' 'module g711.so' 'module aubridge.so' 'module_tmp account.so' \
    'module_app menu.so' 'sip_listen 127.0.0.1:5070' 'net_interface 127.0.0.1' >config
exec baresip -f . >/run/phones.log 2>&1
"""
_WAIT_FOR_DEMO: Final = f"""\
cd sipfarm
for user in 1000 1001; do
    for second in $(seq 150); do
        /opt/sipfarm/bin/sipfarm locate $user -c {DEMO_DIRECTORY}/n1/node.toml >/run/located 2>&1 && continue 2
        sleep 0.3
    done
    cat /run/demo.log /run/phones.log /run/located; exit 1
done
ln -s /opt/sipfarm/bin/sipfarm /usr/local/bin/sipfarm
mkdir -p /etc/sipfarm
ln -s {DEMO_DIRECTORY}/n1/node.toml /etc/sipfarm/node.toml
"""


class PageFailed(AssertionError):
    """A command of a page failed, or wrote something else than the page says."""


class PageSession:
    """The reader of one page after the other. `not_run` are blocks' texts, or lines of them, that are passed over, with
    the reasons."""

    def __init__(self, hosts: PrivateHosts, root: Path, not_run: Mapping[str, str]) -> None:
        self._hosts = hosts
        self._root = root
        self._not_run = not_run
        self._followed: set[Path] = set()
        self._demo_runs = False

    def follow(self, path: Path, reader: str = "") -> None:
        """Do all that a page says, after what it wants to be done before; `reader` is the machine of blocks that name
        none, where the page does not say it itself. Raises PageFailed."""
        text = path.read_text(encoding="utf-8")
        for direction, what in _DIRECTION.findall(text):
            if direction == "after":
                self._follow_before((path.parent / what).resolve())
            else:
                reader = what
        self._follow_blocks(path, text, reader)

    def _follow_before(self, path: Path) -> None:
        """Do what the reader of another page has done, once."""
        if path in self._followed:
            return
        self._followed.add(path)
        text = path.read_text(encoding="utf-8")
        for direction, what in _DIRECTION.findall(text):
            if direction == "after":
                self._follow_before((path.parent / what).resolve())
        self._follow_blocks(path, text.partition(_GO_ON)[0], "")

    def _follow_blocks(self, path: Path, text: str, reader: str) -> None:
        if reader == DEMO:
            self._start_demo()
        written = ""
        for block in read_blocks(text):
            where = f"{path.relative_to(self._root)}:{block.line}"
            if block.place is not None:
                self._write(block, where)
            elif block.is_output:
                line = find_missing(block.text, written)
                if line is not None:
                    raise PageFailed(f"{where}: nothing like {line!r} in\n{written}")
            elif block.is_run and not is_listed(block, self._not_run):
                written = "".join(self._run(block, machine, where) for machine in block.machines or (reader,))

    def _run(self, block: Block, machine: str, where: str) -> str:
        if not machine:
            raise PageFailed(f"{where}: the block does not say on which machine it is run")
        commands = block.text.replace("/tmp/sipfarm-…", DEMO_DIRECTORY)
        host = self._hosts[machine]
        if not host.path(_DROP_IN).exists():
            host.write(_DROP_IN, _QUICK)
        try:
            code, output = host.run(
                commands, timeout=BLOCK_SECONDS, online="online" in block.words, background="background" in block.words
            )
        except ProgramFailed as failure:
            raise PageFailed(f"{where} on {machine}: {failure}\n{self._logs()}") from None
        if bool(code) != ("fails" in block.words):
            raise PageFailed(f"{where} on {machine} ended with {code}\n{commands}---\n{output}\n{self._logs()}")
        return output

    def _write(self, block: Block, where: str) -> None:
        assert block.place is not None
        machines, path = block.place
        for machine in machines:
            host = self._hosts[machine]
            host.write(path, block.text)
            if path.endswith("/node.toml"):
                try:
                    load(str(host.path(path)), environ={})
                except ConfigError as problem:
                    raise PageFailed(f"{where}: {problem}") from None

    def _start_demo(self) -> None:
        if self._demo_runs:
            return
        self._demo_runs = True
        host = self._hosts[DEMO]
        host.run(_START_DEMO, timeout=BLOCK_SECONDS, background=True)
        host.run(_START_PHONES, timeout=BLOCK_SECONDS, background=True)
        code, output = host.run(_WAIT_FOR_DEMO, timeout=BLOCK_SECONDS)
        if code:
            raise PageFailed(f"the demo does not start\n{output}")

    def _logs(self) -> str:
        return "\n".join(host.logs() for host in self._hosts.made())


def is_listed(block: Block, not_run: Mapping[str, str]) -> bool:
    """Whether a block is among those that are not run: by one of its lines."""
    return any(line.split("#")[0].strip() in not_run for line in block.text.splitlines() if line.strip())
