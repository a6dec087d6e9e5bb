"""What of the configuration a node of the overlay needs, so that the overlay is built without a whole one."""

from __future__ import annotations


class NodeSettings:
    """Times in seconds; what each means stands in section [overlay] of the configuration."""

    __slots__ = (
        "bucket",
        "coalesce",
        "compare",
        "hold_down",
        "join",
        "overlay",
        "peer_requests",
        "probe",
        "record_writes",
        "repair_bytes",
        "replicas",
        "stand_in",
        "strict",
        "write",
    )

    def __init__(
        self,
        overlay: str,
        *,
        replicas: int = 3,
        strict: bool = False,
        join: float = 30.0,
        write: float = 2.0,
        stand_in: float = 0.3,
        coalesce: float = 0.02,
        probe: float = 1.0,
        hold_down: float = 30.0,
        compare: float = 60.0,
        repair_bytes: float = 5_000_000.0,
        peer_requests: int = 20_000,
        record_writes: int = 20,
        bucket: int = 128,
    ) -> None:
        """`bucket` is k, the contacts of one distance that a node keeps; simulations make it smaller."""
        self.bucket = bucket
        self.overlay = overlay
        self.replicas = replicas
        self.strict = strict
        self.join = join
        self.write = write
        self.stand_in = stand_in
        self.coalesce = coalesce
        self.probe = probe
        self.hold_down = hold_down
        self.compare = compare
        self.repair_bytes = repair_bytes
        self.peer_requests = peer_requests
        self.record_writes = record_writes
