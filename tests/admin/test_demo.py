"""The demo's parts that need no process: what it writes, prints and refuses. The whole runs in tests/live."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from farm.admin.demo import DemoError, DemoNode, DemoSettings, _open_authority, _report_ends, make_table, run_demo
from farm.config import load
from farm.security.identity import Identity

SETTINGS = DemoSettings(nodes=1, directory=None, domain="example.com", users=100, open=False)


def test_node_i_is_host_10_plus_i_and_its_configuration_loads(tmp_path: Path) -> None:
    node = DemoNode(1, tmp_path, SETTINGS._replace(domain="sip.test", open=True))
    node.write_config()
    config = load(node.config)
    assert config.node.name == "n1"
    assert config.sip.domains == ("sip.test",)
    assert config.sip.listen == (
        "udp:127.0.0.11:5060",
        "tcp:127.0.0.11:5060",
        "tls:127.0.0.11:5061",
        "ws:127.0.0.11:8080",
    )
    assert config.tls.certificates == (str(tmp_path / "tls" / "sip.pem"),)
    assert config.auth.open
    assert config.admin.http == "127.0.0.11:9464"
    assert config.control_path == node.control
    assert DemoNode(3, tmp_path, SETTINGS).host == "127.0.0.13"


@pytest.mark.parametrize(("named", "name"), [(False, ""), (True, "sip.example.com")])
def test_messages_bear_the_farm_s_name_where_that_is_wanted(tmp_path: Path, named: bool, name: str) -> None:
    node = DemoNode(1, tmp_path, SETTINGS._replace(named=named))
    node.write_config()
    config = load(str(node.config), (), {})
    assert config.sip.farm_name == name
    assert config.dns.zone == "sip.example.com"


def test_a_single_node_has_no_overlay_and_several_find_each_other_by_the_first_two(tmp_path: Path) -> None:
    node = DemoNode(1, tmp_path, SETTINGS)
    node.write_config()
    assert load(node.config).overlay.listen == ""
    node = DemoNode(3, tmp_path, SETTINGS._replace(nodes=3))
    node.write_config()
    config = load(node.config)
    assert config.overlay.listen == "127.0.0.13:7400"
    assert config.overlay.seeds == ("127.0.0.11:7400", "127.0.0.12:7400")
    assert config.node.state_dir == str(node.directory), "where identity is, too"


def test_nodes_are_enrolled_and_keep_their_node_id_when_the_farm_is_run_again(tmp_path: Path) -> None:
    settings = SETTINGS._replace(nodes=2)
    found = []
    for _ in range(2):
        nodes = [DemoNode(number, tmp_path, settings) for number in (1, 2)]
        authority = _open_authority(tmp_path / "ca")
        for node in nodes:
            node.enroll(authority)
        found.append([node.node_id for node in nodes])
    assert found[0] == found[1]
    assert len(set(found[0])) == 2
    identity = Identity(str(nodes[1].directory / "identity"), time.time(), name="n2")
    assert identity.node_id.hex() == nodes[1].describe()["node_id"]
    assert identity.overlay == "demo", "a name without a dot, of which DNS is never asked"


def test_an_authority_that_is_broken_ends_the_demo_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.pem").write_text("garbage")
    with pytest.raises(DemoError):
        _open_authority(tmp_path / "ca")


def test_a_node_that_ends_is_reported_once_with_what_starts_it_again(tmp_path: Path) -> None:
    nodes = [DemoNode(number, tmp_path, SETTINGS._replace(nodes=2)) for number in (1, 2)]
    out = io.StringIO()
    ended = [sys.executable, "-c", "raise SystemExit(7)"]
    lasting = [sys.executable, "-c", "input()"]
    for node, command in zip(nodes, (ended, lasting), strict=True):
        node.directory.mkdir()
        node.log.write_text("the last words\n")
        node._process = subprocess.Popen(command, stdin=subprocess.PIPE)
    first, second = (node._process for node in nodes)
    assert first is not None
    assert second is not None
    first.wait()
    for _ in range(2):
        _report_ends(nodes, out)
    line, again, end = out.getvalue().split("\n")
    assert line == "node n1 ended with exit code 7; start it again with"
    assert again.strip().endswith(f"sipfarm -c {nodes[0].config} 2>>{nodes[0].log}")
    assert end == ""
    second.communicate(b"\n")
    with pytest.raises(DemoError, match="node n1 ended with exit code 7:\nthe last words"):
        _report_ends(nodes, out)


def test_the_entry_in_farm_json_has_every_key_it_will_ever_have(tmp_path: Path) -> None:
    node = DemoNode(1, tmp_path, SETTINGS)
    assert json.loads(json.dumps(node.describe())) == {
        "name": "n1",
        "host": "127.0.0.11",
        "sip_port": 5060,
        "tls_port": 5061,
        "tls_trust": str(tmp_path / "tls" / "ca.pem"),
        "websocket_port": 8080,
        "http_port": 9464,
        "dns_port": 5353,
        "node_id": None,
        "pid": 0,
        "config": str(tmp_path / "n1" / "node.toml"),
        "log": str(tmp_path / "n1" / "node.log"),
        "command": node.command,
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
        (SETTINGS._replace(nodes=0), "--nodes 0: 1 to 200"),
        (SETTINGS._replace(nodes=201), "--nodes 201: 1 to 200"),
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
