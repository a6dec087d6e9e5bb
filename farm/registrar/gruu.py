"""The GRUUs that the registrar gives out (RFC 5627 §5), and what a temporary one that comes back means (§6.1).

Nothing is kept of them. A public GRUU says itself who is meant. The user part of a temporary one is sealed under the
farm's key: the address-of-record, the phone's instance-id, and a hash of the Call-ID that each of the phone's bindings
had when it was made. So every node can open it, and no store grows with every refresh of every phone.

It is valid while some binding of the instance is alive, and no binding that it names has been registered anew with
another Call-ID (§5.1, §5.3): a phone that was booted anew uses another, and what was given out for the old one ends.

Decided: the seal's text is padded to a few lengths, because two of one length say nothing of whether they are one
phone's (§5.1), and two of different lengths would.
Decided: a temporary GRUU that would be longer than 250 characters is not given: phones have buffers, and the
address-of-record is a hundred characters long then. The public one serves.
Decided: a flow that was not registered when a GRUU was made and is registered anew later does not end it. The RFC
would have it end; it ends with the flows that it does name, a moment later, when all of a phone's flows begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, Protocol, TypeAlias

import msgspec

from farm.sip.gruu import instance_of, make_public_gruu, make_temporary_gruu

LONGEST: Final = 250  # characters of a temporary GRUU
MOST_FLOWS: Final = 4  # bindings of a phone that a temporary GRUU names, the latest
_PURPOSE: Final = b"gruu"
_HASH_BYTES: Final = 6
_SIZES: Final = 32  # the sealed text is a multiple of this
_UUID: Final = "urn:uuid:"

_Packed: TypeAlias = tuple[str, bytes, str, list[tuple[int, bytes]]]  # AoR, UUID or else instance, flows


class Sealer(Protocol):
    """Who seals under the farm's key."""

    def seal(self, purpose: bytes, data: bytes) -> str:
        """Text that every node opens and nobody else reads; fit for the user part of a URI."""

    def open(self, purpose: bytes, text: str) -> bytes | None:
        """What was sealed for that purpose, None for what was not."""


class Registered(Protocol):
    """A live binding of the address-of-record."""

    @property
    def instance(self) -> str:
        """The instance-id, as the phone wrote it; "" for none."""

    @property
    def reg_id(self) -> int:
        """Which of the phone's flows it is, 0 without outbound."""

    @property
    def call_id(self) -> str:
        """The Call-ID that registered it last."""

    @property
    def stamp(self) -> int:
        """When that was, compared with others."""


class GruuTarget:
    """An opened temporary GRUU: whose (`aor`, canonical), which phone's (`instance`, as `sip.gruu.instance_of` writes
    it), and what it is valid for: reg-id and hash of the Call-ID."""

    __slots__ = ("aor", "flows", "instance")

    def __init__(self, aor: str, instance: str, flows: Sequence[tuple[int, bytes]]) -> None:
        self.aor = aor
        self.instance = instance
        self.flows = flows

    def is_valid(self, bindings: Iterable[Registered]) -> bool:
        """Whether it still means a phone, of all bindings of `aor` that are alive."""
        latest = _find_latest(bindings, self.instance)
        if not latest:
            return False
        for reg_id, call_id_hash in self.flows:
            found = latest.get(reg_id)
            if found is not None and _hash_call_id(found.call_id) != call_id_hash:
                return False
        return True


class Gruus:
    """Makes GRUUs, and opens the temporary ones."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def open(self, user: str) -> GruuTarget | None:
        """What the user part of a temporary GRUU means; None for what we did not make. It may be valid no more."""
        packed = self._sealer.open(_PURPOSE, user)
        if packed is None:
            return None
        end = 2 + int.from_bytes(packed[:2], "big")
        try:
            aor, uuid, instance, flows = msgspec.msgpack.decode(packed[2:end], type=_Packed)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None  # of a version that wrote it otherwise
        return GruuTarget(aor, _write_uuid(uuid) if uuid else instance, flows)

    def write_params(self, aor: str, instance: str, bindings: Iterable[Registered]) -> str:
        """The Contact parameters `pub-gruu` and `temp-gruu` (§5.2) of a phone with these live bindings, each with its
        leading semicolon."""
        text = f';pub-gruu="{make_public_gruu(aor, instance)}"'
        temporary = self.make_temporary(aor, instance_of(instance), bindings)
        return f'{text};temp-gruu="{temporary}"' if temporary else text

    def make_temporary(self, aor: str, instance: str, bindings: Iterable[Registered]) -> str:
        """A temporary GRUU that no other one equals, "" when it would be too long."""
        latest = sorted(_find_latest(bindings, instance).values(), key=_stamp_of, reverse=True)[:MOST_FLOWS]
        flows = [(each.reg_id, _hash_call_id(each.call_id)) for each in latest]
        uuid = _read_uuid(instance)
        packed = msgspec.msgpack.encode((aor, uuid, "" if uuid else instance, flows))
        packed = len(packed).to_bytes(2, "big") + packed
        if len(packed) > LONGEST:
            return ""
        packed += bytes(-len(packed) % _SIZES)
        text = make_temporary_gruu(aor, self._sealer.seal(_PURPOSE, packed))
        return text if len(text) <= LONGEST else ""


def _find_latest(bindings: Iterable[Registered], instance: str) -> dict[int, Registered]:
    """The binding of each flow of a phone that was registered last; those without outbound are one flow."""
    latest: dict[int, Registered] = {}
    for binding in bindings:
        if instance_of(binding.instance) != instance:
            continue
        known = latest.get(binding.reg_id)
        if known is None or known.stamp < binding.stamp:
            latest[binding.reg_id] = binding
    return latest


def _stamp_of(binding: Registered) -> int:
    return binding.stamp


def _hash_call_id(call_id: str) -> bytes:
    return blake2b(call_id.encode("utf-8", "surrogateescape"), digest_size=_HASH_BYTES).digest()


def _read_uuid(instance: str) -> bytes:
    """The 16 bytes of a UUID's URN, b"" for any other instance."""
    try:
        octets = bytes.fromhex(instance.removeprefix(_UUID).replace("-", ""))
    except ValueError:
        return b""
    return octets if len(octets) == 16 and _write_uuid(octets) == instance else b""


def _write_uuid(octets: bytes) -> str:
    text = octets.hex()
    return f"{_UUID}{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
