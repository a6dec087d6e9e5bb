"""Loading a configuration: what is read, what wins, and the one line for each mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm.addresses import Listen, parse_host_port, parse_listen
from farm.config import ConfigError, load
from farm.settings import REPEATED, SECTIONS

BASE = """\
[node]
name = "n1"
state_dir = "state"
[sip]
domains = ["example.com"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "node.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str, *options: str, environ: dict[str, str] | None = None) -> str:
    """The line a user reads, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text), options, environ)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(f"{folder}/", "")


def test_five_lines_are_a_configuration(tmp_path: Path) -> None:
    config = load(write(tmp_path, BASE))
    assert config.node.name == "n1"
    assert config.sip.domains == ("example.com",)
    assert config.sip.listen == ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")
    assert config.auth.algorithms == ("SHA-256", "MD5")
    assert not config.auth.open
    assert config.routes == ()


def test_paths_count_from_the_files_place(tmp_path: Path) -> None:
    config = load(write(tmp_path, BASE))
    assert config.node.state_dir == str(tmp_path / "state")
    assert config.control_path == str(tmp_path / "state" / "control.sock")
    assert load(write(tmp_path, BASE + '[admin]\ncontrol = "/run/x"\n')).control_path == "/run/x"


def test_paths_in_lists_count_from_the_files_place_too(tmp_path: Path) -> None:
    more = '[tls]\ncertificates = ["a.pem", "/b.pem"]\nkeys = ["a.key", "/b.key"]\ntrust = "ca.pem"\n'
    tls = load(write(tmp_path, BASE + more)).tls
    assert tls.certificates == (str(tmp_path / "a.pem"), "/b.pem")
    assert tls.keys == (str(tmp_path / "a.key"), "/b.key")
    assert tls.trust == str(tmp_path / "ca.pem")


def test_drop_ins_win_over_the_file_and_the_environment_over_them_and_options_over_all(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + "[registrar]\nmax_bindings = 1\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20.toml").write_text("[registrar]\nmax_bindings = 3\n")
    (tmp_path / "conf.d" / "10.toml").write_text("[registrar]\nmax_bindings = 2\ncontact_bytes = 99\n")
    (tmp_path / "conf.d" / "ignored.txt").write_text("not TOML")
    assert load(path).registrar.max_bindings == 3
    assert load(path).registrar.contact_bytes == 99
    environ = {"SIPFARM__REGISTRAR__MAX_BINDINGS": "4", "PATH": "/bin"}
    assert load(path, (), environ).registrar.max_bindings == 4
    assert load(path, ["registrar.max_bindings=5"], environ).registrar.max_bindings == 5


def test_routes_of_several_files_add_up(tmp_path: Path) -> None:
    path = write(tmp_path, BASE + '[[routes]]\ndomain = "a.test"\nto = ["sip:10.0.0.1"]\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.toml").write_text('[[routes]]\ndomain = "b.test"\nto = ["sip:10.0.0.2"]\n')
    assert [route.domain for route in load(path).routes] == ["a.test", "b.test"]
    (tmp_path / "conf.d" / "c.toml").write_text('\n[[routes]]\ndomain = "c.test"\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{tmp_path}/conf.d/c.toml:2: routes[2].to: is missing"


def test_text_from_environment_and_options_is_read_as_the_key_wants_it(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    options = [
        "auth.open=true",
        "node.name=7",
        "sip.listen=udp:127.0.0.1:1, tcp:127.0.0.1:1",
        'sip.domains=["a.test"]',
        "resolver.failed_seconds=2.5",
    ]
    config = load(path, options)
    assert config.auth.open is True
    assert config.node.name == "7"
    assert config.sip.listen == ("udp:127.0.0.1:1", "tcp:127.0.0.1:1")
    assert config.sip.domains == ("a.test",)
    assert config.resolver.failed_seconds == 2.5


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ("listn = []", 'node.toml:6: sip.listn: unknown key; did you mean "listen"?'),
        ("max_forks = 3", 'node.toml:6: sip.max_forks: unknown key; did you mean "max_forks" of section [proxy]?'),
        ('secret = "x"', "node.toml:6: sip.secret: unknown key (secrets are never settings: they are named by file)"),
        ("zzzzzz = 1", "node.toml:6: sip.zzzzzz: unknown key"),
        ("[auht]", 'node.toml:6: auht: unknown section; did you mean "auth"?'),
        ("[auth]\nopen = 1", "node.toml:7: auth.open: expected true or false, got whole number"),
        (
            '[auth]\nalgorithms = ["SHA-265"]',
            'node.toml:7: auth.algorithms[0]: "SHA-265" is none of SHA-256, SHA-512-256, MD5; did you mean "SHA-256"?',
        ),
        ("[proxy]\n\ntimer_c_seconds = 180", "node.toml:8: proxy.timer_c_seconds: expected number > 180.0"),
        ('[[routes]]\ndomain = "Example.com"\nto = ["sip:a"]', ('node.toml:7: routes[0].domain: "Example.com" is one '
         "of sip.domains, its users are here")),
        ("[routes]\ndomain = 1", "node.toml:6: routes: write [[routes]], it may be given several times"),
        ("listen = [", "node.toml:7: is not TOML: invalid value"),
        ("x = " + "[" * 5000, "node.toml: is not TOML: nested too deeply"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_file_line_and_key(tmp_path: Path, more: str, line: str) -> None:
    assert complaint(tmp_path, f"{BASE}{more}\n") == line


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path, "") == "node.toml: node.name: is missing"
    assert complaint(tmp_path, '[node]\nname = "n1"\n') == "node.toml:1: node.state_dir: is missing"
    assert complaint(tmp_path, '[node]\nname = "n1"\nstate_dir = "s"\n') == "node.toml: sip.domains: is missing"
    assert complaint(tmp_path, BASE.replace('"example.com"', "")) == (
        "node.toml:5: sip.domains: is empty: name the domain of your users"
    )


def test_a_mistake_outside_the_file_names_the_option_or_the_variable(tmp_path: Path) -> None:
    assert (
        complaint(tmp_path, BASE, "auth.opne=1") == 'option auth.opne=1: auth.opne: unknown key; did you mean "open"?'
    )
    assert complaint(tmp_path, BASE, "auth.open=ja") == (
        "option auth.open=ja: auth.open: expected true or false, got text"
    )
    assert complaint(tmp_path, BASE, "auth.open") == "option auth.open: write it as section.key=value"
    assert (
        complaint(tmp_path, BASE, "routes.domain=a") == "option routes.domain=a: [[routes]] can be given in files only"
    )
    line = complaint(tmp_path, BASE, environ={"SIPFARM__LIMITS__BURST": "0"})
    assert line == "environment variable SIPFARM__LIMITS__BURST: limits.burst: expected whole number >= 1"


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "absent.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(caught.value) == f"{path}: cannot be read: {problem}"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"[node]\nname = '\xff'\n")
    with pytest.raises(ConfigError) as caught:
        load(binary)
    assert str(caught.value) == f"{binary}:2: is not UTF-8 text"


def test_listeners_are_parsed() -> None:
    assert parse_listen("udp:127.0.0.1:5060") == Listen("UDP", "127.0.0.1", 5060)
    assert parse_listen("TCP:[::1]:0") == Listen("TCP", "::1", 0)


@pytest.mark.parametrize("text", ["", ":1", "[::1", "[::1]x", "::1:5060", "a:", "a:-1", "a:65536", "a:1_0", "a:٣"])
def test_hosts_and_ports_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) if text else "lacks a host"):
        parse_host_port(text)


def test_hosts_with_and_without_a_port() -> None:
    assert parse_host_port("sip.test") == ("sip.test", None)
    assert parse_host_port("[::1]") == ("::1", None)
    assert parse_host_port("[::1]:53") == ("::1", 53)


def test_the_documented_example_loads_and_mentions_every_section() -> None:
    example = Path(__file__).parent.parent / "deploy" / "node.toml"
    config = load(example)
    assert config.node.name
    text = example.read_text()
    for section in SECTIONS:
        assert (f"[[{section}]]" if section in REPEATED else f"[{section}]") in text


def test_a_credential_of_systemd_is_a_file_of_the_directory_that_it_gives_the_service(tmp_path: Path) -> None:
    tls = '[tls]\ncertificates = ["a.pem"]\nkeys = ["credential:tls-key"]\n'
    path = write(tmp_path, BASE + tls + '[store]\nredis_password_file = "credential:redis"\n')
    config = load(path, (), {"CREDENTIALS_DIRECTORY": "/run/credentials/sipfarm@n2.service"})
    assert config.tls.certificates == (str(tmp_path / "a.pem"),)
    assert config.tls.keys == ("/run/credentials/sipfarm@n2.service/tls-key",)
    assert config.store.redis_password_file == "/run/credentials/sipfarm@n2.service/redis"
    seen_by_root = load(path, (), {})
    assert seen_by_root.store.redis_password_file == "/run/credentials/sipfarm.service/redis"


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[store]\nredis_password_file = "credential:../shadow"\n', "names no credential"),
        ('[store]\nredis_password_file = "credential:"\n', "names no credential"),
        ('[tls]\ncertificates = ["a.pem", "credential:.."]\n', "names no credential"),
        ('[log]\nfile = "credential:log"\n', "is written to"),
        ('[overlay]\nidentity = "credential:identity"\n', "is written to"),
    ],
)
def test_what_is_no_credential_is_refused(tmp_path: Path, more: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(write(tmp_path, BASE + more), (), {"CREDENTIALS_DIRECTORY": "/run/credentials/x"})
