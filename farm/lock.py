"""The lock on a state directory: one process at a time, be it a node or a command about users.

It is the kernel's lock on the file `lock` (flock(2)) and ends with the process, however that ends: a crash, a power
loss or a container whose processes always have the same numbers leave nothing behind that keeps a node from starting.
It proves that whatever else a process finds in the directory, the control socket above all, is from one that is gone.

Decided: no process number in a file or a link, as `listenUNIX(wantPID=True)` has it: after a restart of the machine any
other process may have that number.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final

from farm.config import ConfigError

LOCK_NAME: Final = "lock"


class StateLock:
    """The lock of one directory, held from `take` to `release`."""

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._descriptor = -1

    def take(self) -> None:
        """Make the directory where it is missing, and lock it. Raises ConfigError when another process has it, and
        OSError when it cannot be made or is no directory."""
        os.makedirs(self._state_dir, mode=0o700, exist_ok=True)
        descriptor = os.open(os.path.join(self._state_dir, LOCK_NAME), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                problem = f"{self._state_dir}: in use by another process: a node, or a command about its users"
                raise ConfigError(problem, where="node.state_dir") from None
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have it. Does nothing when it is not held."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
