"""The SIP core put together: faults in it are caught, counted and answered, and who has an account is asked late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farms import Farm


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def test_work_in_the_background_that_fails_is_counted_and_logged_with_its_trace(farm: Farm) -> None:
    node = farm.add_node()

    async def fail() -> None:
        raise RuntimeError("on purpose")

    node.node.core.spawn(fail())
    assert node.value("unexpected_errors", "core") == 1
    assert "on purpose" in farm.faults.texts[0]


def test_a_request_that_meets_a_fault_of_ours_is_answered_500_and_the_next_one_is_served(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = farm.add_node(auth={"open": True})
    alice = farm.add_party("alice")
    alice.register()

    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("farm.overlay.local.LocalStore.get", fail)
    monkeypatch.setattr("farm.overlay.local.LocalStore.peek", fail)
    sent = alice.request("INVITE", alice.aor)
    alice.acknowledge(sent, alice.expect(500))
    headers = [f"Contact: <{alice.contact}>"]
    alice.request("REGISTER", "sip:example.com", to=f"<{alice.aor}>", headers=headers)
    alice.expect(500)
    monkeypatch.undo()
    alice.register()
    assert node.value("unexpected_errors", "core") == 2
    assert len(farm.faults.texts) == 2
