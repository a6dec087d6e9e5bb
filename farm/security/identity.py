"""Who this node is: its key, its certificate and whom it trusts, as files; and the TLS of its links.

The directory is what `sipfarm ca issue` writes: `key.pem`, `cert.pem`, `ca.pem` (several authorities while one takes
over from another), `farm.key` (the secret that all nodes share), and `overlay.config` (the newest signed configuration
of that time). The Node-ID is in the certificate and stays the same for ever.

TLS 1.3 only, both sides with certificates, our own authorities only, ALPN "sipfarm/1", no resumption, by which a peer
would get around the check of its certificate. What is read from the files is kept as one value that is replaced as a
whole: connections made after a reload have the new certificate, those that are open are left alone.

Connections have memory for their transport (`SSL.Connection(context, None)`); their application data is taken, it
holds the slug of what failed in verification.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from OpenSSL import SSL
from OpenSSL.crypto import X509

from farm.config import ConfigError
from farm.security.certificate import (
    Key,
    Subject,
    is_authority,
    is_pair,
    is_signed_by,
    lifetime_of,
    subject_of,
    unpack_certificates,
    unpack_key,
)
from farm.security.config_record import OverlayConfig
from farm.security.overlay_config import verify_config
from farm.security.peer import PROTOCOL, Peer, PeerRefused, check_certificate, reason_of_verification

KEY_NAME: Final = "key.pem"
CERTIFICATE_NAME: Final = "cert.pem"
AUTHORITY_NAME: Final = "ca.pem"
FARM_KEY_NAME: Final = "farm.key"
CONFIG_NAME: Final = "overlay.config"
FARM_KEY_BYTES: Final = 32

_FORBIDDEN_MODE: Final = 0o027  # no access for others; a group may read
_FILE_BYTES: Final = 1 << 20


class RestartNeeded(ConfigError):
    """The files are in order, and only a start can put them in force."""


class State(NamedTuple):
    """What the files said when they were read last."""

    files: tuple[bytes | None, ...]
    subject: Subject
    not_after: float
    key: Key
    certificate: x509.Certificate
    farm_key: bytes
    authorities: tuple[x509.Certificate, ...]
    config_record: bytes
    config: OverlayConfig | None
    server: SSL.Context
    client: SSL.Context


class Identity:
    """This node, as the files in `directory` have it. `name` is what it is called in its configuration: a certificate
    of another node is refused; "" takes any. `wall` is the time, seconds since 1970. `setting` is the one that named
    the directory. Raises ConfigError for whatever is missing, expired, readable by others, or does not fit."""

    def __init__(self, directory: str, wall: float, *, name: str = "", setting: str = "overlay.identity") -> None:
        self.directory = directory
        self.denied: frozenset[bytes] = frozenset()
        self._sequence = 0  # of the configuration that `denied` is from
        self._name = name
        self._setting = setting
        self._state = self._read(wall)
        if self._state.config is not None:
            self.apply(self._state.config)

    @property
    def node_id(self) -> bytes:
        """32 bytes, the same for ever."""
        return self._state.subject.node_id

    @property
    def overlay(self) -> str:
        """Name of the overlay."""
        return self._state.subject.overlay

    @property
    def name(self) -> str:
        """Name of the node."""
        return self._state.subject.name

    @property
    def zone(self) -> str:
        """Zone of the node; "" where there are none."""
        return self._state.subject.zone

    @property
    def roles(self) -> int:
        """Bits of STORE and EDGE."""
        return self._state.subject.roles

    @property
    def not_after(self) -> float:
        """When the certificate expires, seconds since 1970."""
        return self._state.not_after

    @property
    def farm_key(self) -> bytes:
        """The secret that all nodes share."""
        return self._state.farm_key

    @property
    def key(self) -> Key:
        """The private key."""
        return self._state.key

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate."""
        return self._state.certificate

    @property
    def authorities(self) -> Sequence[x509.Certificate]:
        """The authorities that this node trusts at present."""
        return self._state.authorities

    @property
    def trust(self) -> str:
        """Who signed for this node and whom it trusts, in 16 hex digits: `Authority.trust_digest` has the same."""
        signer = next(each for each in self.authorities if is_signed_by(self.certificate, [each]))
        return digest_trust(signer, self.authorities)

    @property
    def config(self) -> OverlayConfig | None:
        """The configuration that lay beside the certificate; the overlay may have a newer one."""
        return self._state.config

    @property
    def config_record(self) -> bytes:
        """The same as a record, b"" when there was none."""
        return self._state.config_record

    def prepare(self, wall: float) -> State | None:
        """What files that have changed would put in force: for `take`; None when none has. Raises ConfigError for what
        cannot be used, a certificate with another Node-ID too; RestartNeeded for one with another zone or roles."""
        state = self._read(wall)
        return None if state.files == self._state.files else state

    def take(self, state: State) -> None:
        """Put in force what was prepared: for links that are made from now on."""
        self._state = state
        if state.config is not None:
            self.apply(state.config)

    def reload(self, wall: float) -> bool:
        """Read the files again; answers whether something changed. Raises ConfigError, and then the old are in
        force."""
        state = self.prepare(wall)
        if state is not None:
            self.take(state)
        return state is not None

    def apply(self, config: OverlayConfig) -> bool:
        """Deny from now on whom a configuration denies, which must have been verified; answers whether it is newer
        than the one in force. Links that are open are for the caller to close."""
        if config.sequence <= self._sequence:
            return False
        self._sequence = config.sequence
        self.denied = frozenset(config.denied)
        return True

    def make_connection(self, server: bool) -> SSL.Connection:
        """One end of a link, to be fed by memory: that of the one who was dialled, or of the one who dials."""
        connection = SSL.Connection(self._state.server if server else self._state.client, None)
        if server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()
        return connection

    def check_peer(self, other: SSL.Connection | x509.Certificate | None, wall: float, expected: bytes = b"") -> Peer:
        """Who is at the other end of a connection, after its handshake, or whose certificate it is. `expected` is the
        Node-ID that was dialled. Raises PeerRefused."""
        if isinstance(other, SSL.Connection):
            certificate = other.get_peer_certificate(as_cryptography=True)
            if certificate is not None and other.get_alpn_proto_negotiated() != PROTOCOL:
                raise PeerRefused("version", f"the peer does not speak {PROTOCOL.decode()}")
            other = certificate
        return check_certificate(other, self.overlay, self.authorities, self.denied, wall, expected)

    # Reading

    def _error(self, name: str, problem: str) -> ConfigError:
        return ConfigError(f"{os.path.join(self.directory, name)}: {problem}", where=self._setting)

    def _file(self, name: str, *, secret: bool = False, optional: bool = False) -> bytes | None:
        path = os.path.join(self.directory, name)
        try:
            with open(path, "rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                content = file.read(_FILE_BYTES)
        except FileNotFoundError:
            if optional:
                return None
            raise self._error(name, "is missing; `sipfarm ca issue` makes a node's identity") from None
        except OSError as error:
            raise self._error(name, f"cannot be read: {error.strerror or error}") from None
        if secret and mode & _FORBIDDEN_MODE:
            raise self._error(name, f"is open to others (mode {mode:04o}): chmod 600 it")
        return content

    def _read(self, wall: float) -> State:
        key_pem = self._file(KEY_NAME, secret=True) or b""
        certificate_pem = self._file(CERTIFICATE_NAME) or b""
        authority_pem = self._file(AUTHORITY_NAME) or b""
        farm_key = self._file(FARM_KEY_NAME, secret=True) or b""
        record = self._file(CONFIG_NAME, optional=True)
        key = self._key(key_pem)
        authorities = self._authorities(authority_pem)
        certificate, subject = self._certificate(certificate_pem, key, authorities, wall)
        if len(farm_key) != FARM_KEY_BYTES:
            raise self._error(FARM_KEY_NAME, f"has {len(farm_key)} bytes, not {FARM_KEY_BYTES}")
        config = None
        if record:
            try:
                config = verify_config(record, authorities, subject.overlay)
            except ValueError as error:
                raise self._error(CONFIG_NAME, str(error)) from None
        return State(
            (key_pem, certificate_pem, authority_pem, farm_key, record),
            subject,
            lifetime_of(certificate)[1],
            key,
            certificate,
            farm_key,
            authorities,
            record or b"",
            config,
            _make_context(key, certificate, authorities),
            _make_context(key, certificate, authorities),
        )

    def _key(self, pem: bytes) -> Key:
        try:
            return unpack_key(pem)
        except ValueError as error:
            raise self._error(KEY_NAME, str(error)) from None

    def _authorities(self, pem: bytes) -> tuple[x509.Certificate, ...]:
        try:
            authorities = tuple(unpack_certificates(pem))
        except ValueError as error:
            raise self._error(AUTHORITY_NAME, str(error)) from None
        for number, authority in enumerate(authorities, 1):
            if not is_authority(authority):
                raise self._error(AUTHORITY_NAME, f"certificate {number} is no authority's")
        return authorities

    def _certificate(
        self, pem: bytes, key: Key, authorities: Sequence[x509.Certificate], wall: float
    ) -> tuple[x509.Certificate, Subject]:
        """The node's certificate and whom it is for, after all that can be wrong with it."""
        name = CERTIFICATE_NAME
        try:
            certificate = unpack_certificates(pem)[0]
            subject = subject_of(certificate)
        except ValueError as error:
            raise self._error(name, str(error)) from None
        if not is_pair(key, certificate):
            raise self._error(name, f"is not for the key in {KEY_NAME}")
        if not is_signed_by(certificate, authorities):
            raise self._error(name, f"is from none of the authorities in {AUTHORITY_NAME}")
        not_before, not_after = lifetime_of(certificate)
        if wall > not_after:
            raise self._error(name, f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}; `sipfarm ca renew` it")
        if wall < not_before:
            raise self._error(
                name, f"is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only; is the clock right?"
            )
        if self._name and subject.name != self._name:
            raise self._error(name, f"is that of {subject.name}, and this node is {self._name}")
        known = getattr(self, "_state", None)
        if known is not None and subject[:2] != known.subject[:2]:
            raise self._error(name, "has another Node-ID than the running node")
        if known is not None and (subject.zone, subject.roles) != (known.subject.zone, known.subject.roles):
            problem = "has another zone or other roles than the running node: restart it"
            raise RestartNeeded(f"{os.path.join(self.directory, name)}: {problem}", where=self._setting)
        return certificate, subject


def digest_trust(signer: x509.Certificate, authorities: Iterable[x509.Certificate]) -> str:
    """What a signer and those that are trusted, in any order, are told by; 16 hex digits."""
    prints = [certificate.fingerprint(SHA256()) for certificate in (signer, *authorities)]
    return sha256(prints[0] + b"".join(sorted(prints[1:]))).hexdigest()[:16]


def _make_context(key: Key, certificate: x509.Certificate, authorities: Sequence[x509.Certificate]) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(certificate)
    context.use_privatekey(key)
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL has no certificate store")
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _note_verification)
    context.set_verify_depth(1)
    context.set_alpn_protos([PROTOCOL])
    context.set_alpn_select_callback(_select_protocol)
    return context


def _note_verification(connection: SSL.Connection, certificate: object, error: int, depth: int, passed: int) -> bool:
    """Leave the reason with the connection. OpenSSL's verdict stands."""
    if not passed:
        connection.set_app_data(reason_of_verification(error))
    return bool(passed)


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Ours or none; `check_peer` refuses a connection without one, also that of a client which offered nothing."""
    return PROTOCOL if PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS
