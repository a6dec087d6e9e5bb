"""What an operator gets wrong is told in one line, with exit code 1 or 2 and no traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.nodes import NodeProgram, Nodes, installed, write_config
from tests.support.processes import Program

Hosts = Callable[[int], list[str]]


def refused(program: Program, *words: str) -> str:
    """The one line with which a program refused to go on, which must hold these words."""
    try:
        code = program.wait(30)
    finally:
        program.kill()
    output = program.output()
    assert code in (1, 2), f"exit {code}\n{output}"
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if line.strip()]
    assert len(lines) == 1, output
    for word in words:
        assert word in lines[0], f"{word!r} is missing in: {lines[0]}"
    return lines[0]


def start(config: Path) -> NodeProgram:
    """A node that is expected to refuse."""
    return NodeProgram(config, config.parent / "refused.log", sip=("", 0), http=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[sip]\ndomain = ["example.com"]\n', ("node.toml", "5", "domain", "domains")),
        ('[sip]\ndomains = "example.com"\n', ("node.toml", "5", "domains")),
        ('[sip]\ndomains = ["example.com"]\nlisten = ["upd:127.0.0.1:5060"]\n', ("node.toml", "6", "listen", "upd")),
        ('[spi]\ndomains = ["example.com"]\n', ("node.toml", "4", "spi", "sip")),
        ('[sip]\ndomains = ["example.com"\n[auth]\n', ("node.toml",)),
        ('[sip]\ndomains = ["example.com"]\n[registrar]\nmax_bindings = 0\n', ("node.toml", "7", "max_bindings")),
        ("", ("node.toml", "sip")),
    ],
    ids=["unknown key", "wrong type", "wrong transport", "unknown section", "not TOML", "out of range", "missing"],
)
def test_a_mistake_in_the_configuration_names_file_line_and_key(
    tmp_path: Path, text: str, words: tuple[str, ...]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nname = "n1"\nstate_dir = "{tmp_path}/state"\n{text}')
    refused(start(config), *words)
    refused(Program([installed("sipfarm"), "check", str(config)], tmp_path / "check.log"), *words)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    refused(start(tmp_path / "absent.toml"), "absent.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    # A directory in its place, since root may read every file.
    (tmp_path / "node.toml").mkdir()
    refused(start(tmp_path / "node.toml"), "node.toml")


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_bytes(b"\x7fELF\xff\xfe\x00\x01")
    refused(start(tmp_path / "node.toml"), "node.toml")


@pytest.mark.parametrize("kind", ["udp", "tcp", "http"])
def test_a_port_in_use_is_named(tmp_path: Path, hosts: Hosts, kind: str) -> None:
    (host,) = hosts(1)
    config = write_config(
        tmp_path / "node.toml",
        {
            "node": {"name": "n1", "state_dir": str(tmp_path / "state")},
            "sip": {"domains": ["example.com"], "listen": [f"udp:{host}:5060", f"tcp:{host}:5060"]},
            "admin": {"http": f"{host}:9464"},
        },
    )
    family = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    port = 9464 if kind == "http" else 5060
    with socket.socket(socket.AF_INET, family) as occupant:
        if kind != "udp":  # connections of a node before that the system still remembers do not count
            occupant.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        occupant.bind((host, port))
        if kind != "udp":
            occupant.listen()
        refused(start(config), host, str(port), "in use")


def test_an_address_that_is_not_ours_is_named(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "node.toml",
        {
            "node": {"name": "n1", "state_dir": str(tmp_path / "state")},
            "sip": {"domains": ["example.com"], "listen": ["udp:192.0.2.1:5060"]},
            "admin": {"http": ""},
        },
    )
    refused(start(config), "192.0.2.1", "5060")


def test_a_state_directory_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    config = write_config(
        tmp_path / "node.toml",
        {
            "node": {"name": "n1", "state_dir": str(tmp_path / "state")},
            "sip": {"domains": ["example.com"], "listen": ["udp:127.0.0.1:0"]},
            "admin": {"http": ""},
        },
    )
    refused(start(config), str(tmp_path / "state"))


def test_a_user_of_a_domain_that_is_not_served_is_refused(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "node.toml",
        {
            "node": {"name": "n1", "state_dir": str(tmp_path / "state")},
            "sip": {"domains": ["example.com"]},
        },
    )
    (tmp_path / "users.csv").write_text("alice,wonderland,example.org\n")
    command = [installed("sipfarm"), "user", "import", str(tmp_path / "users.csv"), "-c", str(config)]
    refused(Program(command, tmp_path / "user.log"), "example.org")


def test_two_nodes_with_one_state_directory_are_kept_apart(nodes: Nodes, tmp_path: Path) -> None:
    node = nodes.start()
    state = node.config.parent / "state"
    config = write_config(
        tmp_path / "node.toml",
        {
            "node": {"name": "n2", "state_dir": str(state)},
            "sip": {"domains": ["example.com"], "listen": [f"udp:{node.sip[0]}:5062"]},
            "admin": {"http": ""},
        },
    )
    refused(start(config), str(state))
