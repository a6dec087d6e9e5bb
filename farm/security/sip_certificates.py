"""The certificates that SIP over TLS shows and trusts: read from files, replaced as a whole (RFC 3261 §26.3, RFC 5922).

TLS 1.2 and up with forward secrecy. A client that names a host (SNI) is shown the certificate for it, any other the
first. What is read is one value that is swapped: connections made after a reload have the new certificates, those that
are open are left alone, and what cannot be used is refused before anything has changed.

Connections have memory for their transport (`SSL.Connection(context, None)`); their application data is taken, it
holds the slug of what failed in verification. OpenSSL checks chain and time; whose certificate it is, and for what, is
decided in `sip_identity.py`, therefore OpenSSL's own opinion of its purpose is passed over.

Decided: sessions are resumed by tickets only where clients show no certificate: a ticket would get around its check,
and a cache on our side would be memory that strangers fill.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from OpenSSL import SSL
from OpenSSL.crypto import X509

from farm.config import ConfigError, TlsSettings
from farm.security.certificate import lifetime_of, unpack_certificates
from farm.security.sip_identity import IdentityFault, check_domain, find_identities, find_server_names, normalise

Key: TypeAlias = "rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey"

_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"  # of TLS 1.2; the last is for phones of ten years ago
_FORBIDDEN_MODE: Final = 0o027  # no access for others; a group may read
_FILE_BYTES: Final = 1 << 22  # a system's authorities are some 200 KiB

# X509_V_ERR_…
_TIMES: Final = frozenset((9, 10, 13, 14))
_PURPOSE: Final = 26

# what OpenSSL says of bytes that are no TLS at all, and of versions and ciphers that we do not speak
_NO_TLS: Final = frozenset(
    ("wrong version number", "http request", "https proxy request", "packet length too long", "bad record type",
     "unexpected message", "unknown protocol", "bad packet length", "decode error", "length mismatch")
)  # fmt: skip
_VERSIONS: Final = frozenset(("unsupported protocol", "version too low", "no shared cipher", "no protocols available"))


class _Pair(NamedTuple):
    """A certificate with its chain, and its key."""

    chain: tuple[x509.Certificate, ...]
    key: Key


class State(NamedTuple):
    """What the files said when they were read last."""

    files: tuple[bytes, ...]
    not_after: float
    servers: tuple[SSL.Context, ...]
    by_name: dict[str, SSL.Context]
    client: SSL.Context | None


class Offer(NamedTuple):
    """What can be put in force."""

    settings: TlsSettings
    state: State


class SipCertificates:
    """The certificates of `[tls]`. `wall` is seconds since 1970. Raises ConfigError for what is missing, readable by
    others, or does not fit together; without certificates there is none to show and nobody is dialled."""

    def __init__(self, settings: TlsSettings, wall: float) -> None:
        self._settings = settings
        self._state = self._build(settings, _read_files(settings))

    @property
    def settings(self) -> TlsSettings:
        """Those in force."""
        return self._settings

    @property
    def not_after(self) -> float:
        """When the first of the certificates expires, seconds since 1970; 0 without any."""
        return self._state.not_after

    def prepare(self, settings: TlsSettings, wall: float) -> Offer | None:
        """What other settings, or renewed files, would put in force: for `take`; None when nothing has changed. Raises
        ConfigError for what cannot be used, a certificate that has expired too. To show none any more wants a restart,
        as the listeners do that show it."""
        if self._settings.certificates and not settings.certificates:
            return None
        files = _read_files(settings)
        if files == self._state.files and settings == self._settings:
            return None
        state = self._build(settings, files)
        if settings.certificates and wall > state.not_after:
            raise ConfigError("a certificate that is offered has expired", where="tls.certificates")
        return Offer(settings, state)

    def take(self, offer: Offer) -> None:
        """Put in force what was prepared: for connections that are made from now on."""
        self._settings, self._state = offer

    def reload(self, wall: float) -> bool:
        """Take files that were renewed; answers whether something changed. Raises ConfigError, and then the old are in
        force."""
        offer = self.prepare(self._settings, wall)
        if offer is not None:
            self.take(offer)
        return offer is not None

    # Connections

    def accept(self) -> SSL.Connection:
        """The end of whoever was connected to, to be fed by memory."""
        connection = SSL.Connection(self._state.servers[0], None)
        connection.set_accept_state()
        return connection

    def dial(self, domain: str) -> SSL.Connection:
        """The end of whoever connects to a domain or an address, to be fed by memory."""
        client = self._state.client
        assert client is not None
        connection = SSL.Connection(client, None)
        name = normalise(domain)
        if name and not name.replace(".", "").isdigit() and ":" not in name:
            connection.set_tlsext_host_name(name.encode("ascii"))
        connection.set_connect_state()
        return connection

    def check_client(self, connection: SSL.Connection) -> tuple[str, ...]:
        """The domains that whoever has connected proves; none where it need not. Raises IdentityFault."""
        if self._settings.client_certificates == "off":
            return ()
        failed = connection.get_app_data()
        try:
            if isinstance(failed, str):  # it passed, as one that is not there, when none was required yet
                raise IdentityFault(failed, "the certificate is not to be trusted")
            return find_identities(_certificate_of(connection), dialled=True)
        except IdentityFault:
            if self._settings.client_certificates == "require":
                raise
            return ()

    def check_server(self, connection: SSL.Connection, domain: str) -> tuple[str, ...]:
        """All that a server proves, when it proves to be that of the domain. Raises IdentityFault."""
        return check_domain(_certificate_of(connection), domain)

    def _select(self, connection: SSL.Connection) -> None:
        """The client has named a host, or none."""
        state = self._state
        name = (connection.get_servername() or b"").decode("latin-1").lower().rstrip(".")
        context = state.by_name.get(name) or state.by_name.get(f"*.{name.partition('.')[2]}")
        if context is not None and context is not connection.get_context():
            connection.set_context(context)

    # Reading

    def _build(self, settings: TlsSettings, files: tuple[bytes, ...]) -> State:
        if not settings.certificates:
            return State(files, 0.0, (), {}, None)
        trust = settings.trust
        authorities = _unpack("tls.trust", trust, files[0]) if trust else None
        servers: list[SSL.Context] = []
        by_name: dict[str, SSL.Context] = {}
        ends: list[float] = []
        for index, path in enumerate(settings.certificates):
            with _blame("tls.certificates", path):
                pair = _make_pair(path, files[1 + index], *_key_file(settings, index, files))
                context = _make_context(pair)
                for name in find_server_names(pair.chain[0]):
                    by_name.setdefault(name, context)
                ends.append(lifetime_of(pair.chain[0])[1])
            with _blame("tls.trust", trust):
                _trust(context, authorities)
            self._set_up_server(context, settings.client_certificates)
            servers.append(context)
        client = _make_context(_make_pair(settings.certificates[0], files[1], *_key_file(settings, 0, files)))
        _trust(client, authorities)
        client.set_verify(SSL.VERIFY_PEER, _note_verification)
        return State(files, min(ends), tuple(servers), by_name, client)

    def _set_up_server(self, context: SSL.Context, client_certificates: str) -> None:
        context.set_tlsext_servername_callback(self._select)
        if client_certificates == "request":
            context.set_verify(SSL.VERIFY_PEER, _note_and_pass)
        elif client_certificates == "require":
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _note_verification)
        else:
            return
        context.set_options(SSL.OP_NO_TICKET)


def reason_of_failure(connection: SSL.Connection, error: Exception) -> str:
    """The slug for a handshake that failed, by what our side found, or else by what OpenSSL says."""
    found = connection.get_app_data()
    if isinstance(found, str):
        return found
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    texts = [str(entry[-1]) for entry in entries]
    if "peer did not return a certificate" in texts:
        return "tls-no-certificate"
    if _VERSIONS.intersection(texts):
        return "tls-version"
    if any("alert" in text for text in texts):
        return "tls-alert"
    return "not-tls" if _NO_TLS.intersection(texts) else "tls-handshake"


def explain(error: Exception) -> str:
    """What OpenSSL says, without its file names."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(entry[-1]) for entry in entries)


def _certificate_of(connection: SSL.Connection) -> x509.Certificate:
    """What the other side has shown. Raises IdentityFault without any, and for what OpenSSL reads but nobody else."""
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except Exception as error:  # the library has a class for each fault
        raise IdentityFault("tls-wrong-domain", f"the certificate cannot be read: {error}") from None
    if certificate is None:
        raise IdentityFault("tls-no-certificate", "there is no certificate")
    return certificate


@contextmanager
def _blame(setting: str, path: str) -> Iterator[None]:
    """Whatever the libraries say against the content of a file, they have a class for each fault, is a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be used: {explain(error) or error}", where=setting) from None


def _make_context(pair: _Pair) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # tens of KiB less for a connection that is idle
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(pair.chain[0])
    for certificate in pair.chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(pair.key)
    return context


def _trust(context: SSL.Context, authorities: Sequence[x509.Certificate] | None) -> None:
    """Have these vouch for others, or whom the system trusts."""
    if authorities is None:
        context.set_default_verify_paths()
        return
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL has no certificate store")
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))


def _note_verification(connection: SSL.Connection, certificate: object, error: int, depth: int, passed: int) -> bool:
    """Leave the reason with the connection. OpenSSL's verdict stands, but for the purpose of the peer's certificate."""
    if passed or (error == _PURPOSE and depth == 0):
        return True
    connection.set_app_data("tls-expired" if error in _TIMES else "tls-wrong-ca")
    return False


def _note_and_pass(connection: SSL.Connection, certificate: object, error: int, depth: int, passed: int) -> bool:
    """The same where nobody is refused for it."""
    _note_verification(connection, certificate, error, depth, passed)
    return True


def _read_files(settings: TlsSettings) -> tuple[bytes, ...]:
    """The trust, then the certificates, then their keys where these have files of their own."""
    trust = _read_file("tls.trust", settings.trust) if settings.trust else b""
    certificates = [_read_file("tls.certificates", path, secret=not settings.keys) for path in settings.certificates]
    keys = [_read_file("tls.keys", path, secret=True) for path in settings.keys]
    return (trust, *certificates, *keys)


def _key_file(settings: TlsSettings, index: int, files: tuple[bytes, ...]) -> tuple[str, bytes]:
    """Path and content of the key of a certificate."""
    if not settings.keys:
        return settings.certificates[index], files[1 + index]
    return settings.keys[index], files[1 + len(settings.certificates) + index]


def _make_pair(path: str, content: bytes, key_path: str, key_content: bytes) -> _Pair:
    chain = tuple(_unpack("tls.certificates", path, content))
    key = _unpack_key(key_path, key_content)
    if chain[0].public_key() != key.public_key():
        raise ConfigError(f"{path} is not for the key in {key_path}", where="tls.certificates")
    return _Pair(chain, key)


def _read_file(setting: str, path: str, *, secret: bool = False) -> bytes:
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read(_FILE_BYTES)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}", where=setting) from None
    if secret and mode & _FORBIDDEN_MODE:
        raise ConfigError(f"{path} has a private key and is open to others (mode {mode:04o}): chmod 600 it",
                          where=setting)  # fmt: skip
    return content


def _unpack(setting: str, path: str, content: bytes) -> list[x509.Certificate]:
    try:
        return unpack_certificates(content)
    except ValueError as error:
        raise ConfigError(f"{path} {error}", where=setting) from None


def _unpack_key(path: str, content: bytes) -> Key:
    with suppress(TypeError, ValueError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(content, None)
        if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
            return key
    raise ConfigError(f"{path} has no private key without a passphrase in PEM", where="tls.keys")
