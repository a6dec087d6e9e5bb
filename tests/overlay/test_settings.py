"""The settings of a node of the overlay."""

from __future__ import annotations

from farm.farm_settings import OverlaySettings
from farm.overlay.settings import NodeSettings


def test_a_node_that_is_told_nothing_has_the_defaults_of_the_configuration() -> None:
    """Simulations run what operators run."""
    configured = OverlaySettings()
    node = NodeSettings("farm.example")
    assert node.overlay == "farm.example"
    assert (node.replicas, node.strict, node.join) == (configured.replicas, False, configured.join_seconds)
    assert (node.write, node.stand_in) == (configured.write_seconds, configured.stand_in_seconds)
    assert (node.coalesce, node.probe) == (configured.coalesce_seconds, configured.probe_seconds)
    assert (node.hold_down, node.compare) == (configured.hold_down_seconds, configured.compare_seconds)
    assert node.repair_bytes == configured.repair_bytes_per_second
    assert node.peer_requests == configured.peer_requests_per_second
    assert node.record_writes == configured.record_writes_per_second
