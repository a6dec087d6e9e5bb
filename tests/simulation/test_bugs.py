"""What the simulator's seeds have found in the overlay, as scenes of their own; the table of all is in
docs/simulation.md. What they found in the registrar is in tests/registrar/test_registrar.py."""

from __future__ import annotations

import pytest

from tests.support.overlays import Overlay


@pytest.mark.parametrize("offset", [-10.0, 10.0])
def test_a_node_with_a_wrong_clock_does_not_keep_the_others_from_starting(offset: float) -> None:
    """Seed 13 of skew: it took the others for dead and told them so, again and again."""
    overlay = Overlay(nodes=4)
    overlay.stations[1].machine.wall_offset = offset
    for station in overlay.stations:
        station.boot()
    overlay.run(40.0)  # join_seconds, since one of the seeds does not answer
    assert overlay.is_synchronised()
    assert [station.index for station in overlay.sound()] == [0, 2, 3]
    overlay.run(60.0)
    wrong = overlay.stations[1]
    assert wrong.node.problems() != []
    assert wrong.links.open_nodes() == []
    assert wrong.metrics.unexpected_errors.child("overlay")._value.get() == 0


def test_a_clock_that_is_put_right_brings_its_node_back() -> None:
    overlay = Overlay(nodes=3)
    overlay.stations[2].machine.wall_offset = 10.0
    for station in overlay.stations:
        station.boot()
    overlay.run(60.0)
    assert len(overlay.sound()) == 2
    overlay.stations[2].machine.wall_offset = 0.1
    assert overlay.run_until(overlay.is_synchronised, 120.0), overlay.describe()
    assert len(overlay.sound()) == 3
    assert overlay.stations[2].node.problems() == []
