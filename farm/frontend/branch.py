"""Our branches: which requests are ours, whose their transactions are, and where a request has been before.

A branch (RFC 3261 §8.1.1.7, §16.6 step 8) is `z9hG4bK` and, in 46 characters of a token,

- 16 that nobody can guess, never the same twice;
- 6 that tell the node whose transaction it is (32 bits) and which of its boots (4 bits, at random), masked by a block
  cipher's output for those 16: who has not the key can tell neither the node nor whether two branches are of one node;
- 12 of the loop part (RFC 5393 §4.2.1), a keyed hash of all that decides where a request goes: a request that brings
  its own loop part back has looped;
- 12 of a MAC over all this and the Via below ours, so that a response which no transaction matches is forwarded only
  to where its request really came from.

The MAC is under the key that seals at the time, and is known again under any that still opens. Mask and loop part are
under the farm's own key, which does not change: the one must be read at the price of one block, the other must be the
same when a request comes round after a rotation. MACs are BLAKE2b, cut to 72 bits: forging one takes 2^71 packets.

Decided: the node is not covered by anything when it is read. A response with a branch made up goes to a node that knows
no such transaction and checks the MAC before it forwards anything.
Decided: four bits for the boot, for which there was room. A node that was killed and started again within seconds is
never seen dead, and what its former life sent must be answered for; one such answer in sixteen is taken for a late one.
"""

from __future__ import annotations

import random
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from farm.sip.via import MAGIC

MAC_CHARS: Final = 12
LOOP_CHARS: Final = 12
RANDOM_CHARS: Final = 16  # one block of AES
NODE_CHARS: Final = 6
BRANCH_CHARS: Final = len(MAGIC) + RANDOM_CHARS + NODE_CHARS + LOOP_CHARS + MAC_CHARS

_MAC_BYTES: Final = 9  # 12 characters of base64, no padding
_NODE_BYTES: Final = 4
_MAGIC_CHARS: Final = len(MAGIC)
_NODE_AT: Final = _MAGIC_CHARS + RANDOM_CHARS
_LOOP_AT: Final = _NODE_AT + NODE_CHARS
_DRAWN: Final = 256
_MASKS: Final = struct.Struct(">" + "IB11x" * _DRAWN)  # of each block of 16 bytes the first five
_NODES: Final = struct.Struct(">" + "IBx" * _DRAWN)  # as many bytes as make 8 characters, of which 6 hold 36 bits
_BOOT_SHIFT: Final = 4
_PERSON: Final = b"sipfarm-branch"
_LOOP: Final = b"sipfarm-loop"
_NODE: Final = b"sipfarm-node"


class Branches:
    """Makes and recognises them. `secret` is the farm's own key, `tag` this node's 32 bits; strangers see the numbers
    of `rng`, so it must not be guessed from them. `set_keys` must be called before the first branch is made."""

    def __init__(self, secret: bytes, rng: random.Random, tag: int) -> None:
        # Copying a keyed state is half the price of keying one.
        self._loop_mac = blake2b(key=_derive(secret, _LOOP), digest_size=_MAC_BYTES, person=_LOOP)
        self._macs: list[blake2b] = []
        # One block at a time on one text of 16 characters: nothing that a mode of operation would add.
        self._mask = Cipher(AES(_derive(secret, _NODE)[:16]), ECB()).encryptor()
        self._tag = tag
        self._boot = rng.getrandbits(4)
        self._rng = rng
        self._heads: list[str] = []

    def set_keys(self, secrets: Sequence[bytes]) -> None:
        """Make with the first of these from now on, recognise with all."""
        self._macs = [
            blake2b(key=_derive(secret, _PERSON), digest_size=_MAC_BYTES, person=_PERSON) for secret in secrets
        ]

    def loop_part(self, parts: Iterable[str]) -> str:
        """The loop part of a branch for what decides where the request goes."""
        mac = self._loop_mac.copy()
        for part in parts:
            mac.update(part.encode("utf-8", "surrogateescape"))
            mac.update(b"\0")
        return urlsafe_b64encode(mac.digest()).decode("ascii")

    def make(self, loop_part: str, onward: str) -> str:
        """A branch that no other request has; `onward` is the Via that a response goes to next, "" if it ends here."""
        if not self._heads:
            self._draw()
        body = self._heads.pop() + loop_part
        return body + _make_mac(self._macs[0], body, onward)

    def is_ours(self, branch: str, onward: str) -> bool:
        """Whether we made that branch, for a request whose top Via was `onward`."""
        if len(branch) != BRANCH_CHARS or not branch.startswith(MAGIC) or not branch.isascii():
            return False
        body, found = branch[:-MAC_CHARS], branch[-MAC_CHARS:]
        if compare_digest(_make_mac(self._macs[0], body, onward), found):
            return True
        return any(compare_digest(_make_mac(keyed, body, onward), found) for keyed in self._macs[1:])

    def owner_of(self, branch: str) -> int | None:
        """The node that a branch of our shape names; nothing says yet that one of us made it."""
        if len(branch) != BRANCH_CHARS or not branch.startswith(MAGIC) or not branch.isascii():
            return None
        try:
            masked = urlsafe_b64decode(branch[_NODE_AT:_LOOP_AT] + "==")
        except ValueError:
            return None
        if len(masked) != _NODE_BYTES:  # it has characters that are none of base64
            return None
        mask = self._mask.update(branch[_MAGIC_CHARS:_NODE_AT].encode("ascii"))
        return int.from_bytes(masked, "big") ^ int.from_bytes(mask[:_NODE_BYTES], "big")

    def is_of_this_boot(self, branch: str) -> bool:
        """Whether a branch of our shape that names this node was made since it was started, as far as 4 bits tell."""
        named = urlsafe_b64decode(branch[_NODE_AT:_LOOP_AT] + "AA")
        mask = self._mask.update(branch[_MAGIC_CHARS:_NODE_AT].encode("ascii"))
        return len(named) > _NODE_BYTES and (named[_NODE_BYTES] ^ mask[_NODE_BYTES]) >> _BOOT_SHIFT == self._boot

    def _draw(self) -> None:
        """The first parts of the next branches: one call each to the kernel and to the cipher for all of them."""
        drawn = f"{self._rng.getrandbits(_DRAWN * RANDOM_CHARS * 4):0{_DRAWN * RANDOM_CHARS}x}"
        masks = _MASKS.unpack(self._mask.update(drawn.encode("ascii")))
        own = (self._tag, self._boot << _BOOT_SHIFT)
        nodes = urlsafe_b64encode(_NODES.pack(*[mask ^ own[at & 1] for at, mask in enumerate(masks)])).decode("ascii")
        self._heads = [
            f"{MAGIC}{drawn[at * RANDOM_CHARS : (at + 1) * RANDOM_CHARS]}{nodes[at * 8 : at * 8 + NODE_CHARS]}"
            for at in range(_DRAWN)
        ]


def _make_mac(keyed: blake2b, body: str, onward: str) -> str:
    mac = keyed.copy()
    mac.update(body.encode("ascii"))
    mac.update(onward.encode("utf-8", "surrogateescape"))
    return urlsafe_b64encode(mac.digest()).decode("ascii")


def _derive(secret: bytes, purpose: bytes) -> bytes:
    return blake2b(secret, digest_size=32, person=purpose).digest()
