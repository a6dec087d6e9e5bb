"""Who watches the wire of a node, put together: copies for collectors, and traces.

Part of the composition root. The transport has a watcher only while there is a collector in `[capture]` or a trace runs
somewhere in the farm.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from farm.capture.key import read_key
from farm.capture.masking import mask_credentials
from farm.capture.reading import Sought, read_aor
from farm.capture.sender import Sender, find_source
from farm.capture.wiretap import Viewer, Wiretap
from farm.config import CaptureSettings, Config
from farm.deadlines import Deadlines
from farm.member import Member
from farm.metrics import Metrics
from farm.tracing import Tracing
from farm.transport.layer import TransportLayer

_log: Final = Logger(namespace="node")


class Watching:
    """What watches the wire of the node that `transport` is of. `wall` is seconds since 1970, `clock` monotonic.
    Raises ConfigError."""

    def __init__(
        self,
        config: Config,
        transport: TransportLayer,
        member: Member | None,
        reactor: Any,
        deadlines: Deadlines,
        clock: Callable[[], float],
        wall: Callable[[], float],
        rng: random.Random,
        metrics: Metrics,
    ) -> None:
        self._settings = config.capture
        self._traffic = transport.traffic
        self._wall = wall
        self._unexpected = metrics.unexpected_errors.child("transport")
        self._wiretap = Wiretap(wall, find_source, self._report)
        self.sender = Sender(config.capture, read_key(config.capture), config.node.name, reactor, metrics)
        edge = bool(config.sip.listen or config.sip.proxy_listen)
        self.tracing = Tracing(
            config.node.name, member, deadlines, clock, rng, metrics, self._mask, self._settle, edge=edge
        )
        self._settle()

    def prepare(self, settings: CaptureSettings) -> bytes:
        """What of other settings is in files: the key. Raises ConfigError."""
        return read_key(settings)

    def change(self, settings: CaptureSettings, key: bytes) -> None:
        """Take other settings, with the key that `prepare` has read."""
        self._settings = settings
        self.sender.change(settings, key)
        self._settle()

    def stop(self) -> None:
        """Watch no more."""
        self.tracing.stop()
        self.sender.stop()
        self._traffic.watcher = None

    def status(self) -> dict[str, object]:
        """How the copies go; {} when none are made."""
        return self.sender.status() if self.sender.active else {}

    def problems(self) -> list[str]:
        """What is wrong with the copies, a sentence each."""
        return self.sender.problems(self._wall())

    def follow(self, aor: str, call_id: str, name: str, after: int, *, ends: bool) -> dict[str, object]:
        """Begin a trace of an address-of-record or a call, or go on with one. Raises TraceError or ValueError."""
        sought: Sought | None = None
        if not name:
            canonical = "" if call_id else read_aor(aor)
            if not canonical and not call_id:
                raise ValueError(f"{aor} is no address-of-record, as in sip:1000@example.com")
            sought = Sought(canonical, call_id)
        return self.tracing.follow(sought, name, after, ends=ends)

    def _mask(self, data: bytes) -> bytes:
        return mask_credentials(data) if self._settings.mask_credentials else data

    def _settle(self) -> None:
        """Watch if anybody wants to see anything."""
        viewers: list[Viewer] = []
        if self.sender.active:
            viewers.append(self.sender)
        if self.tracing.active:
            viewers.append(self.tracing)
        self._wiretap.viewers = viewers
        self._traffic.watcher = self._wiretap if viewers else None

    def _report(self, what: str) -> None:
        """A fault of ours, which costs a copy."""
        self._unexpected.inc()
        _log.failure("{what}", what=what)
