"""Loading a configuration: what is read, what wins, and the one line for each mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm.config import ConfigError, Listen, load, parse_host_port, parse_listen
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
        (
            '[auth]\nalgorithms = ["MD5", "MD5"]',
            "node.toml:7: auth.algorithms: names one algorithm twice",
        ),
        ("[proxy]\n\ntimer_c_seconds = 180", "node.toml:8: proxy.timer_c_seconds: expected number > 180.0"),
        ('listen = ["udp:127.0.0.1"]', ('node.toml:6: sip.listen[0]: "udp:127.0.0.1" lacks a port, as in '
         '"udp:127.0.0.1:5060"')),
        ('listen = ["sctp:127.0.0.1:5060"]', ('node.toml:6: sip.listen[0]: "sctp:127.0.0.1:5060" must start with udp, '
         'tcp, tls, ws or wss, as in "udp:0.0.0.0:5060"')),
        ('listen = ["udp:sip.test:5060"]', ('node.toml:6: sip.listen[0]: "sip.test" in "udp:sip.test:5060" is not a '
         "numeric address")),
        ('listen = ["udp:[::]:5060", "udp:[::]:5060"]', 'node.toml:6: sip.listen[1]: "udp:[::]:5060" is listed twice'),
        ('proxy_listen = ["tcp:10.0.0.1:5070"]', ("node.toml:4: sip.proxy_networks: must name your balancers: their "
         "header decides who a client is, so nobody else may write it")),
        ('proxy_networks = ["10.0.0.0/8"]\nproxy_listen = ["udp:10.0.0.1:5070"]', ("node.toml:7: sip.proxy_listen[0]: "
         '"udp:10.0.0.1:5070": the PROXY protocol is for streams, not for UDP')),
        ('proxy_networks = ["10.0.0.0/8"]\nproxy_listen = ["tcp:0.0.0.0:5060"]\nlisten = ["tcp:0.0.0.0:5060"]',
         'node.toml:7: sip.proxy_listen[0]: "tcp:0.0.0.0:5060" is listed twice'),
        ('proxy_networks = ["balancer"]', ("node.toml:6: sip.proxy_networks[0]: 'balancer' does not appear to be an "
         "IPv4 or IPv6 network, as in 10.0.0.0/8")),
        ('proxy_networks = ["10.0.0.0/8"]\nproxy_listen = ["wss:10.0.0.1:443"]', ("node.toml:7: sip.proxy_listen[0]: "
         '"wss:10.0.0.1:443" wants a certificate: name its file as certificates = ["…"] in [tls], its key as keys')),
        ('websocket_origins = ["https://phone.example.com", "phone.example.com"]', ("node.toml:6: "
         'sip.websocket_origins[1]: "phone.example.com" is not an origin as browsers send it, as in '
         '"https://phone.example.com"')),
        ('websocket_origins = ["https://phone.example.com/"]', ('node.toml:6: sip.websocket_origins[0]: '
         '"https://phone.example.com/" is not an origin as browsers send it, as in "https://phone.example.com"')),
        ("listen = []", "node.toml:6: sip.listen: is empty: nothing could come in"),
        ('farm_name = "a b"', 'node.toml:6: sip.farm_name: "a b" is not a domain name'),
        ('trusted_networks = ["10.0.0.1/8"]', ("node.toml:6: sip.trusted_networks[0]: 10.0.0.1/8 has host bits set, "
         "as in 10.0.0.0/8")),
        ('[tls]\ncertificates = ["a", "b"]\nkeys = ["c"]', ("node.toml:8: tls.keys: names 1 files for 2 certificates; "
         "one each, in the same order")),
        ('[tls]\ncertificates = [""]', "node.toml:7: tls.certificates[0]: is empty"),
        ('[tls]\nclient_certificates = "request"\ntrusted_domains = ["x y"]', ("node.toml:8: tls.trusted_domains[0]: "
         '"x y" is not a domain name')),
        ('[tls]\ntrusted_domains = ["a.example"]', ("node.toml:7: tls.trusted_domains: is of no use without "
         'client_certificates = "request" or "require"')),
        ('listen = ["tls:0.0.0.0:5061"]', ('node.toml:6: sip.listen[0]: "tls:0.0.0.0:5061" wants a certificate: name '
         'its file as certificates = ["…"] in [tls], its key as keys')),
        ("t1_seconds = 9.0", "node.toml:6: sip.t1_seconds: must not exceed t2_seconds (4)"),
        ("[registrar]\nmin_expires_seconds = 9999", ("node.toml:7: registrar.min_expires_seconds: must not exceed "
         "max_expires_seconds (7200)")),
        ("[registrar]\nmax_expires_seconds = 600", ("node.toml:7: registrar.max_expires_seconds: "
         "default_expires_seconds (3600) must lie from 60 to 600, the other two limits")),
        ("[registrar]\nflow_timer_seconds = 900", ("node.toml:7: registrar.flow_timer_seconds: must be less than "
         "limits.idle_seconds (900), or phones are cut off")),
        ('[resolver]\nservers = ["ns.test"]', ("node.toml:7: resolver.servers[0]: 'ns.test' does not appear to be an "
         "IPv4 or IPv6 address")),
        ('[admin]\nhttp = "127.0.0.1"', 'node.toml:7: admin.http: "127.0.0.1" lacks a port'),
        ('[[routes]]\ndomain = "Example.com"\nto = ["sip:a"]', ('node.toml:7: routes[0].domain: "Example.com" is one '
         "of sip.domains, its users are here")),
        ('[[gateways]]\nprefix = "+49x"\nto = ["sip:a"]', ('node.toml:7: gateways[0].prefix: "+49x" is not digits, as '
         'in "+49"')),
        ('[[gateways]]\nprefix = ""\nto = [\n"10.0.0.9"\n]', ('node.toml:8: gateways[0].to[0]: "10.0.0.9" is not a SIP '
         'URI, as in "sip:10.0.0.9:5060;transport=tcp"')),
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


def test_a_state_directory_too_deep_for_a_socket_is_refused_at_once(tmp_path: Path) -> None:
    line = complaint(tmp_path, BASE.replace('"state"', f'"{"d" * 120}"'))
    assert line.startswith("node.toml:3: node.state_dir: ")
    assert line.endswith("is longer than a socket's path may be (107)")


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


OVERLAY = BASE + '[overlay]\nlisten = "10.0.0.1:7400"\n'


def test_a_node_is_alone_unless_it_is_told_where_others_reach_it(tmp_path: Path) -> None:
    config = load(write(tmp_path, BASE))
    assert config.overlay.listen == ""


def test_three_lines_make_it_a_node_of_a_farm(tmp_path: Path) -> None:
    text = OVERLAY + 'seeds = ["10.0.0.2:7400", "[2001:db8::3]:7400", "n4.example.com:7400"]\nidentity = "who"\n'
    config = load(write(tmp_path, text))
    assert config.overlay.seeds == ("10.0.0.2:7400", "[2001:db8::3]:7400", "n4.example.com:7400")
    assert config.overlay.identity == str(tmp_path / "who")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            BASE + '[overlay]\nseeds = ["10.0.0.2:7400"]\n',
            'node.toml:7: overlay.seeds: is of no use without listen, as in listen = "10.0.0.1:7400"',
        ),
        (
            BASE + "[overlay]\nmulticast = true\n",
            'node.toml:7: overlay.multicast: is of no use without listen, as in listen = "10.0.0.1:7400"',
        ),
        (
            BASE + '[overlay]\nlisten = "n1.example.com:7400"\n',
            'node.toml:7: overlay.listen: "n1.example.com" is not a numeric address',
        ),
        (BASE + '[overlay]\nlisten = "10.0.0.1"\n', 'node.toml:7: overlay.listen: "10.0.0.1" lacks a port'),
        (
            BASE + '[overlay]\nlisten = "0.0.0.0:7400"\n',
            'node.toml:7: overlay.listen: "0.0.0.0" is no address that peers can dial: set advertise = "HOST:7400"',
        ),
        (
            OVERLAY + 'advertise = "[::]:7400"\n',
            'node.toml:8: overlay.advertise: "::" is no address that peers can dial: set advertise = "HOST:7400"',
        ),
        (OVERLAY + 'advertise = "192.0.2.1:0"\n', "node.toml:8: overlay.advertise: port 0 cannot be dialled"),
        (
            OVERLAY + 'seeds = ["n2"]\n',
            'node.toml:8: overlay.seeds[0]: "n2" lacks a port, as in "n2:7400"',
        ),
        (
            OVERLAY + 'seeds = ["n2:7400", "n3:0"]\n',
            'node.toml:8: overlay.seeds[1]: "n3:0" lacks a port, as in "n3:7400"',
        ),
        (
            OVERLAY + 'seeds = ["n_2!:7400"]\n',
            'node.toml:8: overlay.seeds[0]: "n_2!" is neither an address nor a name',
        ),
        (OVERLAY + 'dns = "a b"\n', 'node.toml:8: overlay.dns: "a b" is not a domain name'),
        (
            OVERLAY + 'writes = "strong"\n',
            'node.toml:8: overlay.writes: "strong" is none of available, strict; did you mean "strict"?',
        ),
        (
            OVERLAY + "stand_in_seconds = 2.0\n",
            "node.toml:8: overlay.stand_in_seconds: must be less than write_seconds (2)",
        ),
    ],
)
def test_a_mistake_in_the_overlay_section_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert complaint(tmp_path, text) == line


def test_keys_of_a_token_s_whole_life_must_fit_into_their_record(tmp_path: Path) -> None:
    text = BASE + "[keys]\nrotation_seconds = 3600\ntoken_life_seconds = 86401\n"
    assert complaint(tmp_path, text) == "node.toml:8: keys.token_life_seconds: is more than 24 rotations (86400)"
    assert load(write(tmp_path, text.replace("86401", "86400"))).keys.rotation_seconds == 3600.0
    text = BASE + "[keys]\nrotation_seconds = 60\n"
    assert "keys.rotation_seconds" in complaint(tmp_path, text)


def test_a_wildcard_listener_is_right_when_peers_are_told_another_address(tmp_path: Path) -> None:
    text = BASE + '[overlay]\nlisten = "0.0.0.0:7400"\nadvertise = "192.0.2.1:7400"\n'
    assert load(write(tmp_path, text)).overlay.advertise == "192.0.2.1:7400"


# The farm's own zone

DNS = BASE + '[dns]\nzone = "sip.example.com"\n'


def test_a_node_answers_for_the_farm_s_name_unless_the_zone_has_another(tmp_path: Path) -> None:
    config = load(write(tmp_path, DNS + 'listen = ["192.0.2.1:53", "[2001:db8::1]:53"]\nsecondaries = ["192.0.2.53"]\n'))
    assert config.dns.listen == ("192.0.2.1:53", "[2001:db8::1]:53")
    assert load(write(tmp_path, BASE)).dns.listen == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            DNS + 'listen = ["0.0.0.0:53"]\n',
            'node.toml:8: dns.listen[0]: "0.0.0.0:53": name each address, since answers must come from the one that was'
            " asked",
        ),
        (DNS + 'listen = ["192.0.2.1"]\n', 'node.toml:8: dns.listen[0]: "192.0.2.1" lacks a port'),
        (DNS + 'listen = ["ns:53"]\n', 'node.toml:8: dns.listen[0]: "ns" is not a numeric address'),
        (
            BASE + '[dns]\nlisten = ["192.0.2.1:53"]\n',
            "node.toml:6: dns.zone: is empty, and so is sip.farm_name: name the zone that is delegated to the farm",
        ),
        (DNS + 'addresses = ["n1"]\n', "node.toml:8: dns.addresses[0]: 'n1' does not appear to be an IPv4 or IPv6 address"),
        (DNS + 'addresses = ["::"]\n', 'node.toml:8: dns.addresses[0]: "::" is no address that anybody reaches'),
        (DNS + 'nameservers = ["a b"]\n', 'node.toml:8: dns.nameservers[0]: "a b" is not a domain name'),
        (
            DNS + 'nameservers = ["ns.example.com", "NS.sip.example.com."]\n',
            'node.toml:8: dns.nameservers[1]: "NS.sip.example.com." lies in the zone itself, where the farm makes the'
            " names; leave nameservers empty",
        ),
        (DNS + 'secondaries = ["ns:53"]\n', 'node.toml:8: dns.secondaries[0]: "ns:53" is not a numeric address'),
        (DNS + 'secondaries = ["192.0.2.1:0"]\n', 'node.toml:8: dns.secondaries[0]: "192.0.2.1:0" lacks a port, as in "192.0.2.1:53"'),
        (DNS + 'prefer = ["udp", "udp"]\n', "node.toml:8: dns.prefer: names one transport twice"),
        (
            DNS + 'prefer = ["sctp"]\n',
            'node.toml:8: dns.prefer[0]: "sctp" is none of tls, tcp, udp, wss, ws; did you mean "tcp"?',
        ),
        (BASE + '[dns]\nzone = "a..b"\n', 'node.toml:7: dns.zone: "a..b" is not a domain name'),
    ],
)
def test_a_mistake_in_the_dns_section_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert complaint(tmp_path, text) == line


# Redis


def test_redis_is_one_server_or_sentinels(tmp_path: Path) -> None:
    store = load(write(tmp_path, BASE + '[store]\nbackend = "redis"\nredis_password_file = "secret"\n')).store
    assert store.redis == "127.0.0.1:6379"
    assert store.redis_password_file == str(tmp_path / "secret")
    text = '[store]\nredis_sentinels = ["s1:26379", "[2001:db8::3]:26379"]\nredis_master = "farm"\n'
    assert load(write(tmp_path, BASE + text)).store.redis_sentinels == ("s1:26379", "[2001:db8::3]:26379")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('redis = "redis"', 'store.redis: "redis" lacks a port, as in "redis:6379"'),
        ('redis = "red is:6379"', 'store.redis: "red is" is neither an address nor a name'),
        ('redis_sentinels = ["s1:0"]', 'store.redis_sentinels[0]: "s1:0" lacks a port, as in "s1:26379"'),
        (
            'redis_sentinels = ["s1:26379"]\nredis_master = ""',
            "store.redis_master: is empty: the Sentinels are asked by it",
        ),
        ('redis_prefix = "a\\nb"', "store.redis_prefix: holds a control character"),
        ('redis_user = "farm"', "store.redis_user: is of no use without redis_password_file"),
        ("redis_database = -1", "store.redis_database: expected whole number >= 0"),
        ("redis_timeout_seconds = 0", "store.redis_timeout_seconds: expected number > 0.0"),
        (
            'redis_password = "x"',
            'store.redis_password: unknown key; did you mean "redis_password_file"?',
        ),
        ('backend = "rediss"', 'store.backend: "rediss" is none of sqlite, redis, memory; did you mean "redis"?'),
    ],
)
def test_a_mistake_about_redis_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert re.sub(r"^node\.toml:\d+: ", "", complaint(tmp_path, BASE + "[store]\n" + text + "\n")) == line
