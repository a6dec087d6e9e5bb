"""How many files, and so connections, the process may have open.

A shell's soft limit is 1024 and its hard limit some hundred times that: the soft one is there for programs that use
select(2), which we do not, so it is raised to the hard one.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

RESERVE: Final = 64  # listeners, journal, log, name server sockets, pages


def raise_limit() -> int:
    """Raise the soft limit to the hard one where that is allowed; answers how many files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return int(soft)


def find_shortage(connections: int, limit: int) -> str:
    """What to tell an operator whose `connections` do not fit into the limit; "" when they do."""
    needed = connections + RESERVE
    if limit < 0 or limit >= needed:  # -1 is no limit
        return ""
    return (
        f"the process may open {limit} files, which is fewer than limits.connections = {connections} needs: "
        f"raise it (LimitNOFILE={needed}, ulimit -n {needed}) or lower limits.connections"
    )
