"""Who watches the wire of a node: nobody, collectors, traces; and the key that collectors ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.admin.control import Control, OrderError
from farm.config import CaptureSettings, ConfigError
from tests.support.farms import Farm, FarmNode, run

HOMER = "udp:192.0.2.99:9060"  # TEST-NET-1, which nobody routes


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def reload(node: FarmNode, **capture: Any) -> list[str]:
    settings = msgspec.structs.replace(node.node.config.capture, **capture)
    merged = node.node.reload(msgspec.structs.replace(node.node.config, capture=settings))
    assert merged.waiting == []
    return merged.changed


def order(node: FarmNode, **fields: Any) -> dict[str, Any]:
    return run(Control(node.node.reports, node.node.reports).run("trace", fields))


def test_a_node_without_collectors_and_traces_is_not_watched(farm: Farm) -> None:
    node = farm.add_node()
    assert node.node.transport.traffic.watcher is None
    assert "capture" not in node.node.reports.status()
    assert node.node.reports.problems() == []


def test_a_reload_begins_and_ends_the_copies(farm: Farm) -> None:
    node = farm.add_node()
    assert reload(node, homer=(HOMER,)) == ["capture.homer"]
    assert node.node.transport.traffic.watcher is not None
    assert node.node.reports.status()["capture"] == {"collectors": [f"{HOMER} 0 sent, 0 failed"], "dropped": 0}
    reload(node, homer=())
    assert node.node.transport.traffic.watcher is None


def test_a_key_that_cannot_be_read_changes_nothing(farm: Farm) -> None:
    node = farm.add_node()
    with pytest.raises(ConfigError, match="No such file"):
        reload(node, homer=(HOMER,), auth_key_file="/nowhere")
    assert node.node.transport.traffic.watcher is None
    assert node.node.config.capture == CaptureSettings()


def test_a_trace_watches_while_it_runs_and_shows_digests_when_they_are_not_masked(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    name = order(node, aor="alice@example.com")["trace"]
    assert node.node.transport.traffic.watcher is not None
    credentials = 'Authorization: Digest response="0a1b"'
    after = 0
    for masks, shown in ((True, "xxxx"), (False, "0a1b")):
        reload(node, mask_credentials=masks)
        alice.request("OPTIONS", "sip:example.com", headers=[credentials])
        farm.run(1)
        order(node, trace=name, after=after)
        farm.run(1)
        messages = order(node, trace=name, after=after)["messages"]
        assert f'response="{shown}"' in messages[0]["raw"]
        after = messages[-1]["number"]
    order(node, trace=name, after=after, ends=True)
    assert node.node.transport.traffic.watcher is None


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "aor is missing or no text"),
        ({"aor": "no@no@no"}, "no@no@no is no address-of-record, as in sip:1000@example.com"),
        ({"trace": 5}, "trace is missing or no text"),
        ({"trace": "00"}, "that trace has ended"),
        ({"call_id": ["c"]}, "call_id is missing or no text"),
        ({"aor": "a@h", "after": "1"}, "after is no number, or ends neither true nor false"),
        ({"aor": "a@h", "ends": 1}, "after is no number, or ends neither true nor false"),
    ],
)
def test_a_mistaken_order_is_a_line(farm: Farm, fields: dict[str, Any], problem: str) -> None:
    node = farm.add_node()
    with pytest.raises(OrderError) as error:
        order(node, **fields)
    assert str(error.value) == problem


def test_a_fault_of_ours_is_counted_and_costs_no_message(farm: Farm) -> None:
    node = farm.add_node()
    alice = farm.add_party("alice")
    name = order(node, aor="alice@example.com")["trace"]
    node.node.watching._wiretap.viewers = [None]  # type: ignore[list-item]
    alice.request("OPTIONS", "sip:example.com")
    assert alice.expect(200)
    assert node.value("unexpected_errors", "transport") == 2
    order(node, trace=name, ends=True)
