"""Whether the values of a configuration make sense together: what no single field's type can say.

`check` is asked once all sources are merged and converted (`config.py`); each function has one section, or what
several of them say of one thing. Nothing here reads a file, opens a socket or asks a name server: what only these can
tell, a start says.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from typing import Final

from farm.addresses import Listen, parse_host_port, parse_listen
from farm.farm_settings import KeysSettings, OverlaySettings, StoreSettings
from farm.settings import Config
from farm.sources import KeyPath, Sources
from farm.watch_settings import AccountingSettings, CaptureSettings

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_ORIGIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+|null")
_PIECE: Final = r"(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$]|%[0-9A-Fa-f]{2})+"
_SIP_URI: Final = re.compile(  # what `sip/uri.py` parses, or more; host and port are looked at by themselves
    r"[sS][iI][pP][sS]?:(?:(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/]|%[0-9A-Fa-f]{2})+"
    r"(?::(?:[A-Za-z0-9\-_.!~*'()&=+$,]|%[0-9A-Fa-f]{2})*)?@)?"
    rf"(\[[^\]]+\]|[^:;?@/\[\]]+)(?::([^:;?@]*))?((?:;{_PIECE}(?:={_PIECE})?)*)"
)
_MAILBOX: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,63}")
_LONGEST_MAIL: Final = 253  # with its "@": a name in DNS has 255 bytes, and each label one that counts
_PREFIX: Final = re.compile(r"\+?[0-9]*")
_LEVEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*:(?:debug|info|warn|error)")
_EXPIRES: Final = ("default_expires_seconds", "max_expires_seconds", "min_expires_seconds")
_LONGEST_SOCKET_PATH: Final = 107
_MOST_ROTATIONS: Final = 24  # in the life of a token: the record of the keys has room for 32


def check(tree: Sources, config: Config) -> Config:
    """`config` itself when its values make sense together; raises ConfigError otherwise."""
    _check_node_and_sip(tree, config)
    _check_registrar(tree, config)
    if not config.auth.algorithms and not config.auth.open:
        raise tree.error(("auth", "algorithms"), "is empty: nobody could log in; name one, or set auth.open = true")
    if len(set(config.auth.algorithms)) < len(config.auth.algorithms):
        raise tree.error(("auth", "algorithms"), "names one algorithm twice")
    for section, key, networks in (
        ("sip", "trusted_networks", config.sip.trusted_networks),
        ("sip", "proxy_networks", config.sip.proxy_networks),
        ("limits", "exempt_networks", config.limits.exempt_networks),
    ):
        for index, network in enumerate(networks):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise tree.error((section, key, index), f"{error}, as in 10.0.0.0/8") from None
    for index, server in enumerate(config.resolver.servers):
        try:
            host, _port = parse_host_port(server if server.count(":") < 2 or "[" in server else f"[{server}]")
            ipaddress.ip_address(host)
        except ValueError as error:
            raise tree.error(("resolver", "servers", index), str(error)) from None
    _check_tls(tree, config)
    _check_overlay(tree, config.overlay)
    _check_dns(tree, config)
    _check_store(tree, config.store)
    _check_accounting(tree, config.accounting)
    _check_keys(tree, config.keys)
    if config.admin.http:
        _check_host_port(tree, ("admin", "http"), config.admin.http, port_needed=True)
    if len(os.fsencode(config.control_path)) > _LONGEST_SOCKET_PATH:
        path = ("admin", "control") if config.admin.control else ("node", "state_dir")
        raise tree.error(path, f"{config.control_path} is longer than a socket's path may be ({_LONGEST_SOCKET_PATH})")
    _check_capture(tree, config.capture)
    for index, text in enumerate(config.log.levels):
        if not _LEVEL.fullmatch(text):
            raise tree.error(("log", "levels", index), f'"{text}" is not PLACE:LEVEL, as in "overlay:debug"')
    _check_routing(tree, config)
    return config


def _check_node_and_sip(tree: Sources, config: Config) -> None:
    node, sip = config.node, config.sip
    if not _NAME.fullmatch(node.name):
        raise tree.error(("node", "name"), f'"{node.name}" is not a name of letters, digits, ".", "_" and "-"')
    if not node.state_dir:
        raise tree.error(("node", "state_dir"), "is empty")
    if not sip.domains:
        raise tree.error(("sip", "domains"), "is empty: name the domain of your users")
    for index, domain in enumerate(sip.domains):
        _check_domain(tree, ("sip", "domains", index), domain)
    if sip.farm_name:
        _check_domain(tree, ("sip", "farm_name"), sip.farm_name)
    if sip.advertise:
        _check_host_port(tree, ("sip", "advertise"), sip.advertise, port_needed=False)
    listens = sip.listen or sip.proxy_listen
    if not listens and not config.overlay.listen:  # else its certificate may say that it is no edge (`roles`)
        raise tree.error(("sip", "listen"), "is empty: nothing could come in")
    seen: set[Listen] = set()
    for list_key in ("listen", "proxy_listen"):
        for index, text in enumerate(getattr(sip, list_key)):
            try:
                listen = parse_listen(text)
            except ValueError as error:
                raise tree.error(("sip", list_key, index), str(error)) from None
            if listen in seen:
                raise tree.error(("sip", list_key, index), f'"{text}" is listed twice')
            if list_key == "proxy_listen" and listen.transport == "UDP":
                raise tree.error(("sip", list_key, index), f'"{text}": the PROXY protocol is for streams, not for UDP')
            seen.add(listen)
    if sip.proxy_listen and not sip.proxy_networks:
        problem = "must name your balancers: their header decides who a client is, so nobody else may write it"
        raise tree.error(("sip", "proxy_networks"), problem)
    for index, origin in enumerate(sip.websocket_origins):
        if not _ORIGIN.fullmatch(origin):
            problem = f'"{origin}" is not an origin as browsers send it, as in "https://phone.example.com"'
            raise tree.error(("sip", "websocket_origins", index), problem)
    if sip.t1_seconds > sip.t2_seconds:
        raise tree.error(("sip", "t1_seconds"), f"must not exceed t2_seconds ({sip.t2_seconds:g})")
    if not sip.server_header.isprintable():
        raise tree.error(("sip", "server_header"), "holds a control character")


def _check_registrar(tree: Sources, config: Config) -> None:
    registrar = config.registrar
    if registrar.min_expires_seconds > registrar.max_expires_seconds:
        problem = f"must not exceed max_expires_seconds ({registrar.max_expires_seconds})"
        raise tree.error(("registrar", "min_expires_seconds"), problem)
    if not registrar.min_expires_seconds <= registrar.default_expires_seconds <= registrar.max_expires_seconds:
        given = next((key for key in _EXPIRES if ("registrar", key) in tree.origins), _EXPIRES[0])
        name = "" if given == _EXPIRES[0] else f"{_EXPIRES[0]} ({registrar.default_expires_seconds}) "
        bounds = f"{registrar.min_expires_seconds} to {registrar.max_expires_seconds}"
        raise tree.error(("registrar", given), f"{name}must lie from {bounds}, the other two limits")
    if registrar.flow_timer_seconds >= config.limits.idle_seconds:
        problem = f"must be less than limits.idle_seconds ({config.limits.idle_seconds:g}), or phones are cut off"
        raise tree.error(("registrar", "flow_timer_seconds"), problem)
    for index, uri in enumerate(registrar.service_route):
        _check_uri(tree, ("registrar", "service_route", index), uri)


def _check_tls(tree: Sources, config: Config) -> None:
    """What can be said without reading the files."""
    tls = config.tls
    if tls.keys and len(tls.keys) != len(tls.certificates):
        problem = f"names {len(tls.keys)} files for {len(tls.certificates)} certificates; one each, in the same order"
        raise tree.error(("tls", "keys"), problem)
    for key in ("certificates", "keys"):
        if "" in getattr(tls, key):
            raise tree.error(("tls", key, getattr(tls, key).index("")), "is empty")
    for list_key in ("listen", "proxy_listen"):
        for index, text in enumerate(getattr(config.sip, list_key)):
            if parse_listen(text).transport in ("TLS", "WSS") and not tls.certificates:
                how = 'name its file as certificates = ["…"] in [tls], its key as keys'
                problem = f'"{text}" wants a certificate: {how}'
                raise tree.error(("sip", list_key, index), problem)
    for index, domain in enumerate(tls.trusted_domains):
        _check_domain(tree, ("tls", "trusted_domains", index), domain)
    if tls.trusted_domains and tls.client_certificates == "off":
        problem = 'is of no use without client_certificates = "request" or "require"'
        raise tree.error(("tls", "trusted_domains"), problem)


def _check_overlay(tree: Sources, overlay: OverlaySettings) -> None:
    """What peers dial must be a numeric address, or those whose DNS fails could not dial it; seeds may be names."""
    if not overlay.listen:
        for key in ("seeds", "advertise", "dns", "multicast"):
            if getattr(overlay, key):
                raise tree.error(("overlay", key), 'is of no use without listen, as in listen = "10.0.0.1:7400"')
        return
    _check_host_port(tree, ("overlay", "listen"), overlay.listen, port_needed=True)
    if overlay.advertise:
        _check_host_port(tree, ("overlay", "advertise"), overlay.advertise, port_needed=True)
    key = "advertise" if overlay.advertise else "listen"
    host, port = parse_host_port(overlay.advertise or overlay.listen)
    if ipaddress.ip_address(host).is_unspecified:
        problem = f'"{host}" is no address that peers can dial: set advertise = "HOST:{port}"'
        raise tree.error(("overlay", key), problem)
    if overlay.advertise and not port:
        raise tree.error(("overlay", key), "port 0 cannot be dialled")
    for index, seed in enumerate(overlay.seeds):
        _check_server(tree, ("overlay", "seeds", index), seed, 7400)
    if overlay.dns:
        _check_domain(tree, ("overlay", "dns"), overlay.dns)
    if overlay.stand_in_seconds >= overlay.write_seconds:
        raise tree.error(
            ("overlay", "stand_in_seconds"), f"must be less than write_seconds ({overlay.write_seconds:g})"
        )


def _check_dns(tree: Sources, config: Config) -> None:
    """What a stranger is told must be an address that he can reach, and not a name that nobody has."""
    dns, sip = config.dns, config.sip
    for index, text in enumerate(dns.listen):
        path: KeyPath = ("dns", "listen", index)
        _check_host_port(tree, path, text, port_needed=True)
        if ipaddress.ip_address(parse_host_port(text)[0]).is_unspecified:
            raise tree.error(path, f'"{text}": name each address, since answers must come from the one that was asked')
    for index, text in enumerate(dns.addresses):
        try:
            found = ipaddress.ip_address(text)
        except ValueError as error:
            raise tree.error(("dns", "addresses", index), str(error)) from None
        if found.is_unspecified:
            raise tree.error(("dns", "addresses", index), f'"{text}" is no address that anybody reaches')
    for index, name in enumerate(dns.nameservers):
        _check_domain(tree, ("dns", "nameservers", index), name)
    for index, text in enumerate(dns.secondaries):
        _check_server(tree, ("dns", "secondaries", index), text if _has_port(text) else f"{text}:53", 53)
        try:
            ipaddress.ip_address(parse_host_port(text)[0])
        except ValueError:
            raise tree.error(("dns", "secondaries", index), f'"{text}" is not a numeric address') from None
    if dns.zone:
        _check_domain(tree, ("dns", "zone"), dns.zone)
    if dns.hostmaster and not _is_mail(dns.hostmaster):
        problem = f'"{dns.hostmaster}" is not a mail address, as in "noc@example.com"'
        raise tree.error(("dns", "hostmaster"), problem)
    zone = (dns.zone or sip.farm_name).lower().rstrip(".")
    if dns.listen and not zone:
        problem = "is empty, and so is sip.farm_name: name the zone that is delegated to the farm"
        raise tree.error(("dns", "zone"), problem)
    for index, name in enumerate(dns.nameservers):
        if f".{name.lower().rstrip('.')}".endswith(f".{zone}"):
            problem = f'"{name}" lies in the zone itself, where the farm makes the names; leave nameservers empty'
            raise tree.error(("dns", "nameservers", index), problem)
    if len(set(dns.prefer)) < len(dns.prefer):
        raise tree.error(("dns", "prefer"), "names one transport twice")


def _is_mail(text: str) -> bool:
    """A mail address, or one as SOA writes it: a name."""
    user, at, domain = text.rpartition("@")
    fits = len(text.rstrip(".")) <= _LONGEST_MAIL
    return fits and _DOMAIN.fullmatch(domain) is not None and (not at or _MAILBOX.fullmatch(user) is not None)


def _has_port(text: str) -> bool:
    return (text.startswith("[") and not text.endswith("]")) or text.count(":") == 1


def _check_keys(tree: Sources, keys: KeysSettings) -> None:
    most = _MOST_ROTATIONS * keys.rotation_seconds
    if keys.token_life_seconds > most:
        raise tree.error(("keys", "token_life_seconds"), f"is more than {_MOST_ROTATIONS} rotations ({most:g})")


def _check_accounting(tree: Sources, accounting: AccountingSettings) -> None:
    if accounting.redis:
        _check_server(tree, ("accounting", "redis"), accounting.redis, 6379)
    if not accounting.redis_key or not accounting.redis_key.isprintable():
        raise tree.error(("accounting", "redis_key"), "is empty or does not print")
    if accounting.redis_user and not accounting.redis_password_file:
        raise tree.error(("accounting", "redis_user"), "is of no use without redis_password_file")


def _check_store(tree: Sources, store: StoreSettings) -> None:
    """A setting of Redis that is checked even where it is not used is one mistake less on the day it is."""
    _check_server(tree, ("store", "redis"), store.redis, 6379)
    for index, sentinel in enumerate(store.redis_sentinels):
        _check_server(tree, ("store", "redis_sentinels", index), sentinel, 26379)
    if store.redis_sentinels and not store.redis_master:
        raise tree.error(("store", "redis_master"), "is empty: the Sentinels are asked by it")
    for key in ("redis_prefix", "redis_user", "redis_master"):
        if not getattr(store, key).isprintable():
            raise tree.error(("store", key), "holds a control character")
    if store.redis_user and not store.redis_password_file:
        raise tree.error(("store", "redis_user"), "is of no use without redis_password_file")


def _check_server(tree: Sources, path: KeyPath, text: str, usual: int) -> None:
    """An address or a name, with a port that can be dialled."""
    try:
        host, port = parse_host_port(text)
        if not port:
            raise ValueError(f'"{text}" lacks a port, as in "{text.removesuffix(":0")}:{usual}"')
        if ":" in host:
            ipaddress.IPv6Address(host)
        elif not _DOMAIN.fullmatch(host):
            raise ValueError(f'"{host}" is neither an address nor a name')
    except ValueError as error:
        raise tree.error(path, str(error)) from None


def _check_capture(tree: Sources, capture: CaptureSettings) -> None:
    for index, text in enumerate(capture.homer):
        path: KeyPath = ("capture", "homer", index)
        try:
            listen = parse_listen(text)
        except ValueError as error:
            raise tree.error(path, str(error)) from None
        if listen.transport != "UDP" or not listen.port or ipaddress.ip_address(listen.host).is_unspecified:
            raise tree.error(path, f'"{text}" is no collector, as in "udp:10.0.0.9:9060"')
        if capture.homer.index(text) < index:
            raise tree.error(path, f'"{text}" is listed twice')


def _check_routing(tree: Sources, config: Config) -> None:
    for index, route in enumerate(config.routes):
        _check_domain(tree, ("routes", index, "domain"), route.domain)
        if route.domain.lower() in (domain.lower() for domain in config.sip.domains):
            raise tree.error(("routes", index, "domain"), f'"{route.domain}" is one of sip.domains, its users are here')
        _check_targets(tree, ("routes", index, "to"), route.to)
    for index, gateway in enumerate(config.gateways):
        if not _PREFIX.fullmatch(gateway.prefix):
            raise tree.error(("gateways", index, "prefix"), f'"{gateway.prefix}" is not digits, as in "+49"')
        _check_targets(tree, ("gateways", index, "to"), gateway.to)


def _check_targets(tree: Sources, path: KeyPath, uris: Sequence[str]) -> None:
    if not uris:
        raise tree.error(path, "is empty: name at least one SIP URI")
    for index, uri in enumerate(uris):
        scheme, _, rest = uri.partition(":")
        _, at, server = rest.rpartition("@")
        host = re.split("[;?]", server)[0]
        if at and scheme.lower() in ("sip", "sips"):  # the status page, which asks for no password, would show it
            words = f'"{scheme}:…@{host}" names a user: a target is a server, as in "{scheme}:{host}"'
            raise tree.error((*path, index), words)
        _check_uri(tree, (*path, index), uri)


def _check_uri(tree: Sources, path: KeyPath, uri: str) -> None:
    """No headers, and nothing that `sip/uri.py` would not parse: a message to it would fail, long after the start."""
    match = _SIP_URI.fullmatch(uri)
    if match is None:
        example = '"sip:10.0.0.9:5060;transport=tcp" or "sip:[2001:db8::9]"'
        raise tree.error(path, f'"{uri}" is not a SIP URI, as in {example}')
    host, port, params = match.groups()
    if port is not None and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) < 65_536):
        raise tree.error(path, f'"{uri}": the port must be 1 to 65535')
    if not _is_host(host):
        raise tree.error(path, f'"{uri}": "{host}" is neither an address nor a name')
    names = [param.partition("=")[0].lower() for param in params.split(";")]
    if len(set(names)) < len(names):
        raise tree.error(path, f'"{uri}" names one parameter twice')


def _is_host(host: str) -> bool:
    """An address, IPv6 in brackets, or a name: what ends in a number is no name."""
    try:
        if host.startswith("["):
            return "%" not in host and bool(ipaddress.IPv6Address(host[1:-1]))
        if host.rstrip(".").rpartition(".")[2].isdigit():
            return bool(ipaddress.IPv4Address(host))
    except ValueError:
        return False
    return _DOMAIN.fullmatch(host) is not None


def _check_domain(tree: Sources, path: KeyPath, domain: str) -> None:
    if not _DOMAIN.fullmatch(domain):
        raise tree.error(path, f'"{domain}" is not a domain name')


def _check_host_port(tree: Sources, path: KeyPath, text: str, *, port_needed: bool) -> None:
    try:
        host, port = parse_host_port(text)
    except ValueError as error:
        raise tree.error(path, str(error)) from None
    if port_needed and port is None:
        raise tree.error(path, f'"{text}" lacks a port')
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if port_needed or not _DOMAIN.fullmatch(host):
            raise tree.error(path, f'"{host}" is not a numeric address') from None
