"""The demo's parts that need no process: what it writes, prints and refuses. The whole runs in tests/live."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from farm.admin.demo import DemoError, DemoNode, DemoSettings, make_table, run_demo
from farm.config import load

SETTINGS = DemoSettings(nodes=1, directory=None, domain="example.com", users=100, open=False)


def test_node_i_is_host_10_plus_i_and_its_configuration_loads(tmp_path: Path) -> None:
    node = DemoNode(1, tmp_path, SETTINGS._replace(domain="sip.test", open=True))
    node.write_config()
    config = load(node.config)
    assert config.node.name == "n1"
    assert config.sip.domains == ("sip.test",)
    assert config.sip.listen == ("udp:127.0.0.11:5060", "tcp:127.0.0.11:5060")
    assert config.auth.open
    assert config.admin.http == "127.0.0.11:9464"
    assert config.control_path == node.control
    assert DemoNode(3, tmp_path, SETTINGS).host == "127.0.0.13"


def test_the_entry_in_farm_json_has_every_key_it_will_ever_have(tmp_path: Path) -> None:
    assert json.loads(json.dumps(DemoNode(1, tmp_path, SETTINGS).describe())) == {
        "name": "n1",
        "host": "127.0.0.11",
        "sip_port": 5060,
        "http_port": 9464,
        "dns_port": None,
        "node_id": None,
        "pid": 0,
    }


def test_the_table_says_what_to_point_a_phone_at(tmp_path: Path) -> None:
    nodes = [DemoNode(1, tmp_path, SETTINGS)]
    table = make_table(nodes, SETTINGS).splitlines()
    assert table[0].split("  ")[0] == "node"
    assert "127.0.0.11:5060" in table[1]
    assert table[3] == (
        "Point a phone at domain example.com, outbound proxy 127.0.0.11:5060, "
        "user 1000 to 1099, password the same as the user name."
    )
    assert "any user name, no password" in make_table(nodes, SETTINGS._replace(open=True))
    assert "no users yet" in make_table(nodes, SETTINGS._replace(users=0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SETTINGS._replace(nodes=3), "--nodes 3: nodes cannot find each other in this version"),
        (SETTINGS._replace(nodes=0), "--nodes 0"),
        (SETTINGS._replace(users=-1), "--users must not be negative"),
        (SETTINGS._replace(directory="/dev/null/x"), "/dev/null/x: Not a directory"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(settings: DemoSettings, words: str) -> None:
    with pytest.raises(DemoError) as caught:
        run_demo(settings, io.StringIO())
    assert str(caught.value).startswith(words)


def test_a_directory_too_deep_for_a_socket_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="use a shorter --dir"):
        DemoNode(1, tmp_path / ("d" * 100), SETTINGS)
