"""The users of a node that is not running, for the console: its records, opened without the node.

Part of the composition root. The lock of the state directory is held meanwhile, so that the node cannot start on
records that are being changed, nor two commands change them at once.
"""

from __future__ import annotations

import time

from farm.config import Config, ConfigError
from farm.lock import StateLock
from farm.metrics import Metrics
from farm.overlay.journal import JournalError
from farm.records import Records
from farm.security.users import Users


class OfflineUsers:
    """The users of a node that is not running. Raises OSError or ConfigError when they cannot be had."""

    def __init__(self, config: Config) -> None:
        self._records = Records(config, None, time.monotonic, time.time, Metrics())
        self._lock = StateLock(config.node.state_dir)
        self._lock.take()
        try:
            self._records.open_now()
        except JournalError as error:
            self._lock.release()
            raise ConfigError(f"the journal cannot be opened: {error}", where=config.node.state_dir) from None
        stamps = self._records.stamps
        self.users = Users(self._records.local, lambda: (stamps.tick(time.time()), stamps.node), config.sip.domains)

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def close(self) -> None:
        """Write what changed. Raises OSError when that fails."""
        unwritten = self._records.close_now()
        self._lock.release()
        if unwritten:
            raise OSError(f"{unwritten} records could not be written to the journal")
