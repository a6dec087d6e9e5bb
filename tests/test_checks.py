"""Values that make no sense together are refused in one line, and those that do are let through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from farm.config import ConfigError, load
from farm.frontend.zone import make_mailbox
from farm.sip.uri import parse_uri
from tests.test_config import BASE, complaint, write


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            '[auth]\nalgorithms = ["MD5", "MD5"]',
            "node.toml:7: auth.algorithms: names one algorithm twice",
        ),
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
        ('[[gateways]]\nprefix = "+49x"\nto = ["sip:a"]', ('node.toml:7: gateways[0].prefix: "+49x" is not digits, as '
         'in "+49"')),
        ('[[gateways]]\nprefix = ""\nto = [\n"10.0.0.9"\n]', ('node.toml:8: gateways[0].to[0]: "10.0.0.9" is not a SIP '
         'URI, as in "sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"')),
        ('[[gateways]]\nprefix = ""\nto = ["sip:me:secret@10.0.0.9:5070;transport=tcp"]', ('node.toml:8: '
         'gateways[0].to[0]: "sip:…@10.0.0.9:5070" names a user: a target is a server, as in "sip:10.0.0.9:5070"')),
        ('[[gateways]]\nprefix = ""\nto = ["sip:me:p@ss word@h:0;lr"]', ('node.toml:8: gateways[0].to[0]: '
         '"sip:…@h:0" names a user: a target is a server, as in "sip:h:0"')),
        ('[[gateways]]\nprefix = ""\nto = ["sip:me;secret@10.0.0.9"]', ('node.toml:8: gateways[0].to[0]: '
         '"sip:…@10.0.0.9" names a user: a target is a server, as in "sip:10.0.0.9"')),
    ],
)  # fmt: skip
def test_a_value_that_makes_no_sense_is_one_line_with_file_line_and_key(tmp_path: Path, more: str, line: str) -> None:
    assert complaint(tmp_path, f"{BASE}{more}\n") == line


NO_SERVERS = {
    "sip:[::1": 'is not a SIP URI, as in "sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"',
    "sip:2001:db8::9": 'is not a SIP URI, as in "sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"',
    "sip:h;transport": "",
    "sip:h;;lr": 'is not a SIP URI, as in "sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"',
    "sip:h;transport=tcp;Transport=udp": "names one parameter twice",
    "sip:h:99999": "the port must be 1 to 65535",
    "sip:h:abc": "the port must be 1 to 65535",
    "sip:h:0": "the port must be 1 to 65535",
    "sip:h:": "the port must be 1 to 65535",
    "sip:h:5060": "",
    "SIPS:h:05060": "",
    "sip:[::g]": '"[::g]" is neither an address nor a name',
    "sip:[fe80::1%25eth0]": '"[fe80::1%25eth0]" is neither an address nor a name',
    "sip:[2001:db8::9]:5060;transport=tcp;lr": "",
    "sip:10.0.0.999": '"10.0.0.999" is neither an address nor a name',
    "sip:a_b": '"a_b" is neither an address nor a name',
    "sip:gw.example.com.": "",
    "sip:h;x=%4g": 'is not a SIP URI, as in "sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"',
}


@pytest.mark.parametrize(("uri", "problem"), NO_SERVERS.items())
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ('[[routes]]\ndomain = "partner.example"\nto', "routes[0].to[0]"),
        ('[[gateways]]\nprefix = ""\nto', "gateways[0].to[0]"),
        ("[registrar]\nservice_route", "registrar.service_route[0]"),
    ],
)
def test_a_uri_that_could_never_be_sent_to_is_refused_at_once(
    tmp_path: Path, section: str, key: str, uri: str, problem: str
) -> None:
    text = f'{BASE}{section} = ["{uri}"]\n'
    if problem:
        line = complaint(tmp_path, text)
        assert line.endswith(f': {key}: "{uri}"{" " if problem.startswith(("is", "names")) else ": "}{problem}')
    else:
        load(write(tmp_path, text))


@pytest.mark.parametrize(
    "uri",
    [*NO_SERVERS, "sip:a@b@h", "sip:@h", "sip:a b@h", "sip:edge:pw@h;lr", "sip:a%4g@h", "sip:a%41@h", "sip:h?a=b",
     "sip:h?a", "sip:h.1", "sip:1", "sip:-h", "sip:", "tel:1", "sip:h/x", "sip:[::1]x", "sip:[:::1]", "sip:10.0.0.09",
     f"sip:{'a' * 64}.b", "sip:h;x=", "sip:h;=x", "sip:a-b--c.d"],
)  # fmt: skip
def test_no_uri_comes_through_that_messages_could_not_be_sent_by(tmp_path: Path, uri: str) -> None:
    try:
        load(write(tmp_path, f'{BASE}[registrar]\nservice_route = ["{uri}"]\n'))
    except ConfigError:
        return
    assert parse_uri(uri).is_sip


def test_a_state_directory_too_deep_for_a_socket_is_refused_at_once(tmp_path: Path) -> None:
    line = complaint(tmp_path, BASE.replace('"state"', f'"{"d" * 120}"'))
    assert line.startswith("node.toml:3: node.state_dir: ")
    assert line.endswith("is longer than a socket's path may be (107)")


# Overlay

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
    more = 'listen = ["192.0.2.1:53", "[2001:db8::1]:53"]\nsecondaries = ["192.0.2.53"]\n'
    config = load(write(tmp_path, DNS + more))
    assert config.dns.listen == ("192.0.2.1:53", "[2001:db8::1]:53")
    assert load(write(tmp_path, BASE)).dns.listen == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            DNS + 'listen = ["0.0.0.0:53"]\n',
            (
                'node.toml:8: dns.listen[0]: "0.0.0.0:53": name each address, since answers must come from the one '
                "that was asked"
            ),
        ),
        (DNS + 'listen = ["192.0.2.1"]\n', 'node.toml:8: dns.listen[0]: "192.0.2.1" lacks a port'),
        (DNS + 'listen = ["ns:53"]\n', 'node.toml:8: dns.listen[0]: "ns" is not a numeric address'),
        (
            BASE + '[dns]\nlisten = ["192.0.2.1:53"]\n',
            "node.toml:6: dns.zone: is empty, and so is sip.farm_name: name the zone that is delegated to the farm",
        ),
        (
            DNS + 'addresses = ["n1"]\n',
            "node.toml:8: dns.addresses[0]: 'n1' does not appear to be an IPv4 or IPv6 address",
        ),
        (DNS + 'addresses = ["::"]\n', 'node.toml:8: dns.addresses[0]: "::" is no address that anybody reaches'),
        (DNS + 'nameservers = ["a b"]\n', 'node.toml:8: dns.nameservers[0]: "a b" is not a domain name'),
        (
            DNS + 'nameservers = ["ns.example.com", "NS.sip.example.com."]\n',
            (
                'node.toml:8: dns.nameservers[1]: "NS.sip.example.com." lies in the zone itself, where the farm makes '
                "the names; leave nameservers empty"
            ),
        ),
        (DNS + 'secondaries = ["ns:53"]\n', 'node.toml:8: dns.secondaries[0]: "ns:53" is not a numeric address'),
        (
            DNS + 'secondaries = ["192.0.2.1:0"]\n',
            'node.toml:8: dns.secondaries[0]: "192.0.2.1:0" lacks a port, as in "192.0.2.1:53"',
        ),
        (DNS + 'prefer = ["udp", "udp"]\n', "node.toml:8: dns.prefer: names one transport twice"),
        (
            DNS + 'prefer = ["sctp"]\n',
            'node.toml:8: dns.prefer[0]: "sctp" is none of tls, tcp, udp, wss, ws; did you mean "tcp"?',
        ),
        (
            DNS + 'hostmaster = "a b@@"\n',
            'node.toml:8: dns.hostmaster: "a b@@" is not a mail address, as in "noc@example.com"',
        ),
        (
            DNS + 'hostmaster = "noc@a..b"\n',
            'node.toml:8: dns.hostmaster: "noc@a..b" is not a mail address, as in "noc@example.com"',
        ),
        (
            DNS + f'hostmaster = "{"n" * 64}@example.com"\n',
            f'node.toml:8: dns.hostmaster: "{"n" * 64}@example.com" is not a mail address, as in "noc@example.com"',
        ),
        (
            DNS + f'hostmaster = "{"n" * 63}@{"d." * 94}de"\n',
            f'node.toml:8: dns.hostmaster: "{"n" * 63}@{"d." * 94}de" is not a mail address, as in "noc@example.com"',
        ),
        (BASE + '[dns]\nzone = "a..b"\n', 'node.toml:7: dns.zone: "a..b" is not a domain name'),
    ],
)
def test_a_mistake_in_the_dns_section_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert complaint(tmp_path, text) == line


@pytest.mark.parametrize(
    "address", ["noc@example.com", "noc.team+sip@example.com.", "hostmaster.example.com", f"{'n' * 63}@{'d.' * 94}e"]
)
def test_the_zone_s_hostmaster_is_an_address_that_fits_into_its_record(tmp_path: Path, address: str) -> None:
    config = load(write(tmp_path, f'{DNS}hostmaster = "{address}"\n'))
    assert make_mailbox(config.dns.hostmaster).is_absolute()


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


# Call records


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('redis = "redis"', 'accounting.redis: "redis" lacks a port, as in "redis:6379"'),
        ('redis_key = ""', "accounting.redis_key: is empty or does not print"),
        ('redis_key = "a\\nb"', "accounting.redis_key: is empty or does not print"),
        ('redis_user = "farm"', "accounting.redis_user: is of no use without redis_password_file"),
    ],
)
def test_a_mistake_about_call_records_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    assert re.sub(r"^node\.toml:\d+: ", "", complaint(tmp_path, BASE + "[accounting]\n" + text + "\n")) == line


def test_the_files_of_call_records_are_beside_the_configuration(tmp_path: Path) -> None:
    text = '[accounting]\nfile = "calls"\nredis = "r:6379"\nredis_password_file = "secret"\n'
    accounting = load(write(tmp_path, BASE + text)).accounting
    assert accounting.file == str(tmp_path / "calls")
    assert accounting.redis_password_file == str(tmp_path / "secret")


# Copies


def test_collectors_are_named_by_address_and_the_key_by_file(tmp_path: Path) -> None:
    text = '[capture]\nhomer = ["udp:192.0.2.9:9060", "udp:[2001:db8::9]:9060"]\nauth_key_file = "key"\n'
    capture = load(write(tmp_path, BASE + text)).capture
    assert capture.homer == ("udp:192.0.2.9:9060", "udp:[2001:db8::9]:9060")
    assert capture.auth_key_file == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("homer", "line"),
    [
        ('["tcp:192.0.2.9:9060"]', '[0]: "tcp:192.0.2.9:9060" is no collector, as in "udp:10.0.0.9:9060"'),
        ('["udp:0.0.0.0:9060"]', '[0]: "udp:0.0.0.0:9060" is no collector, as in "udp:10.0.0.9:9060"'),
        ('["udp:192.0.2.9:0"]', '[0]: "udp:192.0.2.9:0" is no collector, as in "udp:10.0.0.9:9060"'),
        ('["udp:homer:9060"]', '[0]: "homer" in "udp:homer:9060" is not a numeric address'),
        ('["udp:192.0.2.9:1", "udp:192.0.2.9:1"]', '[1]: "udp:192.0.2.9:1" is listed twice'),
    ],
)
def test_what_is_no_collector_is_one_line(tmp_path: Path, homer: str, line: str) -> None:
    assert complaint(tmp_path, f"{BASE}[capture]\nhomer = {homer}\n") == f"node.toml:7: capture.homer{line}"
