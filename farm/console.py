"""The entry point of the `sipfarm` command: hands the commands of `admin/cli.py` what opens a store.

It stands beside `tap.py`, above the composition root, because orders about users also work while the node is down.
What opens the store (`offline.py`), and Twisted with it, is imported only then; so is what looks at a machine before a
start (`preflight.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from farm.admin.check_cli import Finding
from farm.admin.cli import OpenedStore, make_console
from farm.config import Config


def main() -> None:
    """Run the command of sys.argv; ends the process with its exit code."""
    sys.exit(make_console(open_offline, find_problems).run(sys.argv[1:]))


def open_offline(config: Config) -> OpenedStore:
    """The users of a node that is not running."""
    from farm.offline import OfflineUsers

    return OfflineUsers(config)


def find_problems(
    config: Config, wall: float, *, is_running: bool = False, ports: bool = True, network: bool = False
) -> Iterable[Finding]:
    """What a start of that node on this machine would meet."""
    from farm import preflight

    return preflight.find_problems(config, wall, is_running=is_running, ports=ports, network=network)


if __name__ == "__main__":
    main()
