"""The signed configuration of the overlay: made by the authority, checked by every node, held as a record.

It is the record of kind "config" under the overlay's name. The greatest sequence whose signature is right wins a
merge, of two with one sequence the greater bytes, so that the order of arrival never matters; what is not signed by an
authority that the node trusts is refused as bytes that are no record. So whoever holds no authority's key can bring
nothing but what the authority has once said, and of that nothing older than what is there.

Decided: the bytes that were signed are kept and passed on as they came, and a node that knows fewer fields than the
authority reads what it knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from farm.security.certificate import OVERLAY_NAME, Key
from farm.security.config_record import OverlayConfig, SignedConfig
from farm.security.lasting import NEVER, Kept, LastingKind

KIND: Final = "config"
CONFIG_BYTES: Final = 65_536
MOST_REPLICAS: Final = 16
PARTITIONS: Final = 4096

_PREFIX: Final = b"sipfarm overlay configuration\0"  # nothing else that the key signs begins like this


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(OverlayConfig).decode
_unpack_signed = msgspec.msgpack.Decoder(SignedConfig).decode


def check_config(config: OverlayConfig) -> None:
    """Raises ValueError for a configuration that no overlay can have."""
    if config.sequence < 1:
        raise ValueError("the sequence is less than 1")
    if OVERLAY_NAME.fullmatch(config.overlay) is None:
        raise ValueError(f"{config.overlay!r} is no name of an overlay")
    if not 1 <= config.replicas <= MOST_REPLICAS:
        raise ValueError(f"there are 1 to {MOST_REPLICAS} replicas")
    if config.partitions != PARTITIONS:
        raise ValueError(f"there are {PARTITIONS} partitions")
    if any(len(node) != 32 for node in config.denied):
        raise ValueError("a Node-ID has 32 bytes")


def sign_config(config: OverlayConfig, key: Key) -> bytes:
    """The configuration as a record. Raises ValueError for one that no overlay can have, or that is too large."""
    check_config(config)
    packed = _pack(config)
    signed = _pack(SignedConfig(packed, key.sign(_PREFIX + packed, ec.ECDSA(hashes.SHA256()))))
    if len(signed) > CONFIG_BYTES:
        raise ValueError(f"the configuration is larger than {CONFIG_BYTES} bytes: too many domains or denied nodes")
    return signed


def read_config(record: bytes) -> OverlayConfig:
    """What a record says, whoever signed it. Raises ValueError for bytes that are no record."""
    return _open(record)[1]


def verify_config(record: bytes, authorities: Sequence[x509.Certificate], overlay: str) -> OverlayConfig:
    """What a record says that one of these authorities signed for that overlay. Raises ValueError otherwise."""
    signed, config = _open(record)
    if config.overlay != overlay:
        raise ValueError(f"a configuration of {config.overlay}, not of {overlay}")
    for authority in authorities:
        key = authority.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            continue
        try:
            key.verify(signed.signature, _PREFIX + signed.config, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return config
    raise ValueError("the configuration is not signed by our authority")


def _open(record: bytes) -> tuple[SignedConfig, OverlayConfig]:
    if len(record) > CONFIG_BYTES:
        raise ValueError("too large for a configuration")
    try:
        signed = _unpack_signed(record)
        config = _unpack(signed.config)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a configuration: {error}") from None
    if _pack(signed) != record:  # else anybody could make ever greater bytes of what was signed once
        raise ValueError("not a configuration as it is packed")
    check_config(config)
    return signed, config


class ConfigKind(LastingKind):
    """The kind "config" as the store wants it. `authorities` answers those that the node trusts at present; `changed`,
    when set, is told of every newer configuration that came."""

    __slots__ = ("_authorities", "_overlay", "changed")

    def __init__(self, overlay: str, authorities: Callable[[], Sequence[x509.Certificate]]) -> None:
        super().__init__(KIND, CONFIG_BYTES, read_config, since=1, everywhere=True)
        self.changed: Callable[[OverlayConfig], None] | None = None
        self._overlay = overlay
        self._authorities = authorities

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Kept:
        """Join an update with what is held. Raises ValueError for what our authority has not signed."""
        if held == delta:
            return Kept(held, NEVER, 0)
        new = verify_config(delta, self._authorities(), self._overlay)
        if held is not None and (new.sequence, delta) < (read_config(held).sequence, held) and self._is_trusted(held):
            return Kept(held, NEVER, 0, 0, True)
        if self.changed is not None:
            self.changed(new)
        return Kept(delta, NEVER, int(held is None))

    def _is_trusted(self, held: bytes) -> bool:
        """Whether what is held is still signed by one of ours: an authority may have been replaced."""
        try:
            verify_config(held, self._authorities(), self._overlay)
        except ValueError:
            return False
        return True
