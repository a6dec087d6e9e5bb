"""The authority that admits nodes: a directory with its key, a register of the Node-IDs it gave out, and the overlay's
configuration as it was signed last.

    ca-key.pem       the private key (mode 0600); whoever has it can admit nodes
    ca.pem           its certificate, which every node trusts; two while one takes over from another (`rolling`)
    farm.key         the secret that all nodes share (0600)
    register.jsonl   one line a node: name, Node-ID, zone, roles, expiry of its last certificate, denied or not
    overlay.config   the signed configuration
    nodes/NAME/      what was issued, unless it was put somewhere else

Every change is made under a lock and appears whole. The register is written before the certificate is made: a Node-ID
may be lost in a crash, but is never given out twice.

Decided: lines of JSON, written anew for each change, instead of SQLite. Some ten thousand lines at most, changed by
hand, and a register that can be read and kept in a repository is worth more than a fast one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec
from cryptography import x509

from farm.security.certificate import (
    NODE_NAME,
    OVERLAY_NAME,
    ROLES,
    ZONE_NAME,
    Key,
    Subject,
    is_authority,
    is_pair,
    make_authority_certificate,
    make_key,
    make_node_certificate,
    overlay_of_authority,
    pack_certificate,
    pack_key,
    subject_of,
    unpack_certificates,
    unpack_key,
)
from farm.security.config_record import OverlayConfig
from farm.security.durable import PUBLIC_MODE, SECRET_MODE, locked, read_file, write_file
from farm.security.identity import (
    AUTHORITY_NAME,
    CERTIFICATE_NAME,
    CONFIG_NAME,
    FARM_KEY_BYTES,
    FARM_KEY_NAME,
    KEY_NAME,
    digest_trust,
)
from farm.security.overlay_config import sign_config, verify_config
from farm.security.register import EnrolledNode, Register, RegisterError

AUTHORITY_KEY_NAME: Final = "ca-key.pem"
REGISTER_NAME: Final = "register.jsonl"
NODES_NAME: Final = "nodes"

DEFAULT_DAYS: Final = 30.0
MOST_DAYS: Final = 3650.0
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_KEEP_DENIED_SECONDS: Final = 30 * 86_400  # after the last certificate has expired


class AuthorityError(Exception):
    """What cannot be done; `str()` of it is the line for whoever gave the order."""


class Issued(NamedTuple):
    """What a node got: its line in the register, and the directory with its files."""

    node: EnrolledNode
    directory: str


def make_authority(
    directory: str, overlay: str, wall: float, *, replicas: int = 3, domains: Iterable[str] = ()
) -> OverlayConfig:
    """Make an authority, and the first configuration of its overlay. Raises AuthorityError, and leaves what is there
    as it is, when the directory holds one."""
    if OVERLAY_NAME.fullmatch(overlay) is None:
        raise AuthorityError(f"{overlay!r} is no name of an overlay (a-z, 0-9, . and -; at most 63)")
    key = make_key()
    certificate = make_authority_certificate(key, overlay, wall)
    config = OverlayConfig(1, overlay, replicas, check_domains(domains), issued_at=int(wall))
    record = _sign(config, key)
    with _errors(directory):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        with locked(directory):
            for name in (AUTHORITY_KEY_NAME, AUTHORITY_NAME, FARM_KEY_NAME, REGISTER_NAME):
                if os.path.lexists(os.path.join(directory, name)):
                    raise AuthorityError(f"{os.path.join(directory, name)}: exists; an authority is never overwritten")
            write_file(os.path.join(directory, AUTHORITY_KEY_NAME), pack_key(key), SECRET_MODE)
            write_file(os.path.join(directory, FARM_KEY_NAME), os.urandom(FARM_KEY_BYTES), SECRET_MODE)
            write_file(os.path.join(directory, CONFIG_NAME), record, PUBLIC_MODE)
            write_file(os.path.join(directory, REGISTER_NAME), b"", SECRET_MODE)
            write_file(os.path.join(directory, AUTHORITY_NAME), pack_certificate(certificate), PUBLIC_MODE)
    return config


class Authority:
    """The authority in a directory. Its methods raise AuthorityError, and then nothing was issued. `wall` is the time,
    seconds since 1970."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        with _errors(directory):
            self._key, self.certificates = self._load()
        self.overlay = overlay_of_authority(self.signer)

    @property
    def signer(self) -> x509.Certificate:
        """The certificate that signs; others in `certificates` are trusted, too (`rolling`)."""
        return next(certificate for certificate in self.certificates if is_pair(self._key, certificate))

    def trust_digest(self) -> str:
        """Who signs and what nodes are given to trust, in 16 hex digits; `Identity.trust` is what a node has of it."""
        return digest_trust(self.signer, self.certificates)

    def nodes(self) -> list[EnrolledNode]:
        """All that were enrolled, in that order."""
        with _errors(self.directory):
            return list(self._register())

    def config(self) -> OverlayConfig:
        """The configuration that was signed last."""
        with _errors(self.directory):
            return verify_config(self.config_record(), self.certificates, self.overlay)

    def config_record(self) -> bytes:
        """The same as a record."""
        with _errors(self.directory):
            return self._read(CONFIG_NAME)

    def issue(
        self, name: str, zone: str, roles: int, wall: float, *, days: float = DEFAULT_DAYS, out: str = ""
    ) -> Issued:
        """Enroll a node: a Node-ID in the widest gap, a key and a certificate, written to `out` or nodes/NAME."""
        if NODE_NAME.fullmatch(name) is None:
            raise AuthorityError(f"{name!r} is no name of a node (letters, digits, ., _ and -; at most 63)")
        if ZONE_NAME.fullmatch(zone) is None:
            raise AuthorityError(f"{zone!r} is no name of a zone (letters, digits, ., _ and -; at most 63)")
        target = out or self.directory_of(name)
        with self.changing():
            register = self._register()
            known = register.named(name)
            if known is not None:
                raise AuthorityError(f"{name} is enrolled already, as {known.node_id[:16]}…: renew or deny it")
            for file in (KEY_NAME, CERTIFICATE_NAME):
                if os.path.lexists(os.path.join(target, file)):
                    raise AuthorityError(f"{os.path.join(target, file)}: exists; an identity is never overwritten")
            node_id = register.next_id(self.overlay, wall)
            subject = Subject(self.overlay, node_id, name, zone, roles)
            node = EnrolledNode(name, node_id.hex(), zone, names_of_roles(roles), int(wall), int(wall + days * 86_400),
                                trust=self.trust_digest())  # fmt: skip
            os.makedirs(target, mode=0o700, exist_ok=True)
            self._commit(register, node)
            self._write(target, subject, make_key(), wall, days)
        return Issued(node, target)

    def renew(
        self, what: str, wall: float, *, days: float = DEFAULT_DAYS, out: str = "", new_key: bool = False
    ) -> Issued:
        """A new certificate for a node that is enrolled, which `what` names: itself, the first digits of its Node-ID,
        or a directory with its present certificate. The key stays when it is in the directory."""
        with self.changing():
            register = self._register()
            if os.path.isfile(os.path.join(what, CERTIFICATE_NAME)):
                node = self._owner_of(what, register)
                target = out or what
            else:
                node = register.find(what)
                target = out or self.directory_of(node.name)
            if node.denied:
                raise AuthorityError(f"{node.name} ({node.node_id[:16]}…) is denied: issue a new identity")
            ends = int(wall + days * 86_400)
            node = msgspec.structs.replace(node, issued_at=int(wall), not_after=ends)
            pem = None if new_key else read_file(os.path.join(target, KEY_NAME))
            key = make_key() if pem is None else unpack_key(pem)
            roles = sum(ROLES[role] for role in node.roles)
            subject = Subject(self.overlay, bytes.fromhex(node.node_id), node.name, node.zone, roles)
            os.makedirs(target, mode=0o700, exist_ok=True)
            self._commit(register, node)
            self._write(target, subject, key, wall, days)
            given = msgspec.structs.replace(node, trust=self.trust_digest())
            if given != node:  # said when it is so: the next step of a roll goes by it
                self._commit(register, given)
        return Issued(given, target)

    def deny(self, what: str, wall: float) -> tuple[EnrolledNode, bytes]:
        """Deny a node that a name or the first digits of a Node-ID mean; answers it and the new configuration as a
        record, which the nodes have to be told."""
        with self.changing():
            register = self._register()
            node = msgspec.structs.replace(register.find(what), denied=True)
            self._commit(register, node)
            return node, self._sign_anew(register, self.config(), wall)

    def change_config(
        self, wall: float, *, replicas: int | None = None, domains: Iterable[str] | None = None
    ) -> tuple[OverlayConfig, bytes]:
        """Sign a configuration with the next sequence; what is None stays. Answers it and its record."""
        with self.changing():
            config = self.config()
            if replicas is not None:
                config = msgspec.structs.replace(config, replicas=replicas)
            if domains is not None:
                config = msgspec.structs.replace(config, domains=check_domains(domains))
            record = self._sign_anew(self._register(), config, wall)
            return self.config(), record

    def directory_of(self, name: str) -> str:
        """Where the identity of a node goes when nothing else is said."""
        return os.path.join(self.directory, NODES_NAME, name)

    # Files

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Be the only one who changes the directory, and know it as it is now, since another may have waited no less;
        what goes wrong with files is an AuthorityError."""
        with _errors(self.directory), locked(self.directory):
            self._key, self.certificates = self._load()
            yield

    def _read(self, name: str) -> bytes:
        path = os.path.join(self.directory, name)
        content = read_file(path)
        if content is None:
            raise AuthorityError(f"{path}: is missing; `sipfarm ca init` makes an authority")
        return content

    def _load(self) -> tuple[Key, list[x509.Certificate]]:
        certificates = unpack_certificates(self._read(AUTHORITY_NAME))
        key = unpack_key(self._read(AUTHORITY_KEY_NAME))
        if not all(map(is_authority, certificates)) or not any(is_pair(key, each) for each in certificates):
            raise AuthorityError(f"{self.directory}: {AUTHORITY_KEY_NAME} is not the key of {AUTHORITY_NAME}")
        return key, certificates

    def _register(self) -> Register:
        try:
            return Register.parse(self._read(REGISTER_NAME))
        except RegisterError as error:
            raise AuthorityError(f"{os.path.join(self.directory, REGISTER_NAME)}: {error}") from None

    def _commit(self, register: Register, node: EnrolledNode) -> None:
        register.put(node)
        write_file(os.path.join(self.directory, REGISTER_NAME), register.pack(), SECRET_MODE)

    def _sign_anew(self, register: Register, config: OverlayConfig, wall: float) -> bytes:
        denied = tuple(
            sorted(
                bytes.fromhex(node.node_id)
                for node in register
                if node.denied and node.not_after + _KEEP_DENIED_SECONDS >= wall
            )
        )
        config = msgspec.structs.replace(config, sequence=config.sequence + 1, denied=denied, issued_at=int(wall))
        record = _sign(config, self._key)
        write_file(os.path.join(self.directory, CONFIG_NAME), record, PUBLIC_MODE)
        return record

    def _write(self, target: str, subject: Subject, key: Key, wall: float, days: float) -> None:
        """A node's files; the certificate comes last, without which the others are nothing."""
        certificate = make_node_certificate(self._key, self.signer, key.public_key(), subject, wall, days)
        for name, content, mode in (
            (AUTHORITY_NAME, self._read(AUTHORITY_NAME), PUBLIC_MODE),
            (FARM_KEY_NAME, self._read(FARM_KEY_NAME), SECRET_MODE),
            (CONFIG_NAME, self.config_record(), PUBLIC_MODE),
            (KEY_NAME, pack_key(key), SECRET_MODE),
            (CERTIFICATE_NAME, pack_certificate(certificate), PUBLIC_MODE),
        ):
            path = os.path.join(target, name)
            if read_file(path) != content:
                write_file(path, content, mode)

    def _owner_of(self, directory: str, register: Register) -> EnrolledNode:
        """The node whose certificate is in a directory."""
        path = os.path.join(directory, CERTIFICATE_NAME)
        try:
            subject = subject_of(unpack_certificates(read_file(path) or b"")[0])
            if subject.overlay != self.overlay:
                raise ValueError(f"is for {subject.overlay}, and this is the authority of {self.overlay}")
            return register.find(subject.node_id.hex())
        except ValueError as error:
            raise AuthorityError(f"{path}: {error}") from None


def names_of_roles(roles: int) -> list[str]:
    """Roles as people write them."""
    return [role for role, bit in ROLES.items() if roles & bit]


def check_domains(domains: Iterable[str]) -> tuple[str, ...]:
    """Domains in lower case, each once. Raises AuthorityError for what is none."""
    lowered = tuple(dict.fromkeys(domain.lower().rstrip(".") for domain in domains))
    for domain in lowered:
        if _DOMAIN.fullmatch(domain) is None:
            raise AuthorityError(f"{domain!r} is no domain")
    return lowered


def _sign(config: OverlayConfig, key: Key) -> bytes:
    try:
        return sign_config(config, key)
    except ValueError as error:
        raise AuthorityError(str(error)) from None


@contextmanager
def _errors(directory: str) -> Iterator[None]:
    """What goes wrong with files, as an AuthorityError."""
    try:
        yield
    except OSError as error:
        raise AuthorityError(f"{error.filename or directory}: {error.strerror or error}") from None
    except ValueError as error:
        raise AuthorityError(f"{directory}: {error}") from None
