"""An authority and certificates of every sort, made in this process; right ones and wrong ones.

EC keys take a fraction of a millisecond, and those here are made once a session. OpenSSL asks the real clock in a
handshake: what is valid is so from 2020 to 2119, what is expired or not valid yet lies outside of any year in which
this runs. `NOON` is a time inside of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from farm.security.certificate import (
    EDGE,
    STORE,
    Key,
    make_authority_certificate,
    make_key,
    make_uri,
    pack_certificate,
    pack_key,
)
from farm.security.config_record import OverlayConfig
from farm.security.identity import Identity
from farm.security.overlay_config import sign_config

OVERLAY: Final = "farm.example"
NOON: Final = 1_800_000_000.0  # 2027
FARM_KEY: Final = b"f" * 32
BOTH: Final = STORE | EDGE
SERVES_BOTH_ENDS: Final = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
VALID: Final = ("2020-01-01", "2119-01-01")
EXPIRED: Final = ("2020-01-01", "2021-01-01")
NOT_YET: Final = ("2118-01-01", "2119-01-01")


class Signer(NamedTuple):
    """An authority."""

    key: Key
    certificate: x509.Certificate


@cache
def make_signer(label: str = "ours", overlay: str = OVERLAY) -> Signer:
    """The authority of that label; the same one whenever it is asked for."""
    key = make_key()
    return Signer(key, make_authority_certificate(key, overlay, seconds_of("2020-01-02")))


@cache
def make_node_key(label: str) -> Key:
    """The key of a node; the same one whenever it is asked for."""
    return make_key()


def node_id(number: int) -> bytes:
    """A Node-ID that says which it is."""
    return bytes((number,)) * 32


def seconds_of(day: str) -> float:
    """A day as seconds since 1970."""
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def uri_of(number: int, overlay: str = OVERLAY) -> x509.UniformResourceIdentifier:
    """The name of a node in its certificate."""
    return x509.UniformResourceIdentifier(make_uri(overlay, node_id(number)))


def make_certificate(
    number: int = 1,
    *,
    signer: Signer | None = None,
    key: Key | None = None,
    names: Sequence[x509.GeneralName] | None = None,
    usage: Sequence[x509.ObjectIdentifier] | None = SERVES_BOTH_ENDS,
    roles: Sequence[str] = ("store", "edge"),
    zones: Sequence[str] = ("east",),
    common_names: Sequence[str] | None = None,
    validity: tuple[str, str] = VALID,
) -> x509.Certificate:
    """The certificate of node `number`, right unless something else is said."""
    signer = signer or make_signer()
    key = key or make_node_key(f"n{number}")
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names or (f"n{number}",)]
    attributes += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role) for role in roles]
    attributes += [x509.NameAttribute(NameOID.LOCALITY_NAME, zone) for zone in zones]
    builder = x509.CertificateBuilder(
        signer.certificate.subject,
        x509.Name(attributes),
        key.public_key(),
        number + 1,
        datetime.fromtimestamp(seconds_of(validity[0]), UTC),
        datetime.fromtimestamp(seconds_of(validity[1]), UTC),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    builder = builder.add_extension(issuer, critical=False)  # tells authorities of one name from each other
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names is None:
        names = (uri_of(number),)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def write_identity(
    directory: Path,
    number: int = 1,
    *,
    certificate: x509.Certificate | None = None,
    authorities: Sequence[Signer] = (),
    config: OverlayConfig | None = None,
) -> Path:
    """The files of node `number`, as `sipfarm ca issue` writes them."""
    directory.mkdir(exist_ok=True)
    certificate = certificate or make_certificate(number)
    signers = authorities or (make_signer(),)
    bundle = b"".join(pack_certificate(signer.certificate) for signer in signers)
    for name, content, mode in (
        ("key.pem", pack_key(make_node_key(f"n{number}")), 0o600),
        ("cert.pem", pack_certificate(certificate), 0o644),
        ("ca.pem", bundle, 0o644),
        ("farm.key", FARM_KEY, 0o600),
        ("overlay.config", sign_config(config, signers[0].key) if config else None, 0o644),
    ):
        if content is not None:
            (directory / name).write_bytes(content)
            (directory / name).chmod(mode)
    return directory


def make_sip_certificate(
    *names: str,
    common_name: str = "sip",
    signer: Signer | None = None,
    key: Key | None = None,
    usage: Sequence[x509.ObjectIdentifier] | None = (ExtendedKeyUsageOID.SERVER_AUTH,),
    validity: tuple[str, str] = VALID,
) -> x509.Certificate:
    """A certificate for SIP over TLS, of the authority "sip" unless something else is said. `names` are its
    subjectAltName, written as OpenSSL does: "URI:sip:example.com", "DNS:example.com", "IP:192.0.2.1"."""
    signer = signer or make_signer("sip", "sip")
    builder = x509.CertificateBuilder(
        signer.certificate.subject,
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []),
        (key or make_node_key("sip")).public_key(),
        zlib.crc32(repr((names, common_name, validity)).encode()) + 1,
        datetime.fromtimestamp(seconds_of(validity[0]), UTC),
        datetime.fromtimestamp(seconds_of(validity[1]), UTC),
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_read_name(name) for name in names]), False)
    return builder.sign(signer.key, hashes.SHA256())


def _read_name(text: str) -> x509.GeneralName:
    kind, _, value = text.partition(":")
    if kind == "IP":
        return x509.IPAddress(ip_address(value))
    return x509.DNSName(value) if kind == "DNS" else x509.UniformResourceIdentifier(value)


def write_sip_files(directory: Path, *names: str, label: str = "sip", **parts: Any) -> dict[str, Any]:
    """The files of a certificate as of `make_sip_certificate`, and the section `[tls]` that names them."""
    directory.mkdir(parents=True, exist_ok=True)
    key = parts.setdefault("key", make_node_key("sip"))
    names = names or ("URI:sip:example.com", "DNS:example.com", "DNS:sip.example.com")
    certificate, key_file, trust = (directory / f"{label}.{kind}" for kind in ("pem", "key", "trust"))
    certificate.write_bytes(pack_certificate(make_sip_certificate(*names, **parts)))
    key_file.write_bytes(pack_key(key))
    key_file.chmod(0o600)
    trust.write_bytes(pack_certificate(make_signer("sip", "sip").certificate))
    return {"certificates": [str(certificate)], "keys": [str(key_file)], "trust": str(trust)}


def make_identity(directory: Path, number: int = 1, wall: float = NOON) -> Identity:
    """Node `number` of our overlay, with its files in a directory of its own under `directory`."""
    return Identity(str(write_identity(directory / f"n{number}", number)), wall)


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> dict[str, Exception]:
    """Carry bytes between two connections until neither has more to say; answers which of them ("client", "server")
    failed, and how."""
    failed: dict[str, Exception] = {}
    ends = (("client", client), ("server", server))
    for _ in range(10):
        for name, end in ends:
            if name not in failed:
                try:
                    end.do_handshake()
                except SSL.WantReadError:
                    pass
                except SSL.Error as error:
                    failed[name] = error
        moved = _carry(client, server) + _carry(server, client)
        if not moved:
            break
    for name, end in ends:  # TLS 1.3: a client is done before it is refused, and learns of it by reading
        if name not in failed:
            try:
                end.recv(1)
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                failed[name] = error
    return failed


def _carry(source: SSL.Connection, target: SSL.Connection) -> int:
    try:
        content = source.bio_read(65_536)
    except SSL.WantReadError:
        return 0
    target.bio_write(content)
    return len(content)
