"""The entry point of the `sipfarm` command: hands the commands of `admin/cli.py` what opens a store.

It stands beside `tap.py`, above the composition root, because orders about users also work while the node is down.
What opens the store (`offline.py`), and Twisted with it, is imported only then.
"""

from __future__ import annotations

import sys

from farm.admin.cli import OpenedStore, make_console
from farm.config import Config


def main() -> None:
    """Run the command of sys.argv; ends the process with its exit code."""
    sys.exit(make_console(open_offline).run(sys.argv[1:]))


def open_offline(config: Config) -> OpenedStore:
    """The users of a node that is not running."""
    from farm.offline import OfflineUsers

    return OfflineUsers(config)


if __name__ == "__main__":
    main()
