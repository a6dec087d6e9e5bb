"""The values we put into messages and must know again: our branches and the user of our Record-Route.

Each carries a MAC under the node's secret, in a farm the one that all nodes share, so that what comes back can be told
from what a stranger made up:

- a **branch** is `z9hG4bK`, an unguessable part, a loop part and the MAC of both. The loop part (RFC 5393 §4.2.1) is a
  keyed hash of all that decides where a request goes; a request that brings its own loop part back has looped. The
  MAC, which covers the Via below ours too, lets a response that no transaction matches be forwarded only to where its
  request really came from.
- a **route** is the user part of our Record-Route URI: sealed (AES-GCM, the Call-ID as associated data), it holds the
  flows of the caller and the callee where one of them can only be reached that way, and hashes of the facts by which
  a later request of the dialog is known (`proxy/dialog`).
- an **onward** is the user part of a Route from one node of the farm to another, which has the flow: sealed for the one
  Request-URI that it is about, so that it opens nothing else.

The secret outlives restarts, so dialogs do too. MACs are BLAKE2b keyed, cut to 72 bits: forging one takes 2^71
packets, and the message stays short.
"""

from __future__ import annotations

import os
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from farm.draws import Draws
from farm.sip.hop import Hop
from farm.sip.via import MAGIC

_MAC_BYTES: Final = 9  # 12 characters of base64, no padding
_LOOP_CHARS: Final = 12
_MAC_CHARS: Final = 12
_NONCE_BYTES: Final = 12
_MIN_ROUTE: Final = 38  # nonce and seal of nothing
_MAX_ROUTE: Final = 400
_BRANCH: Final = b"sipfarm-branch"
_ROUTE: Final = b"sipfarm-route"
_FACT: Final = b"sipfarm-fact"
_ONWARD: Final = b"sipfarm-onward "  # no Call-ID begins so and is followed by a URI: what one seals opens not the other
_FACT_BYTES: Final = 4  # keyed, so that a text of the same hash cannot be looked for, only guessed


class Tokens:
    """Makes and recognises them. `secret` is at least 16 bytes, the same on every start."""

    def __init__(self, secret: bytes, rng: random.Random) -> None:
        if len(secret) < 16:
            raise ValueError("the token secret is shorter than 16 bytes")
        key = blake2b(secret, digest_size=32, person=b"sipfarm-tokens").digest()
        # Copying a keyed state is half the price of keying one.
        self._branch_mac = blake2b(_BRANCH, digest_size=_MAC_BYTES, key=key)
        self._fact_mac = blake2b(_FACT, digest_size=_FACT_BYTES, key=key)
        self._seal = AESGCM(blake2b(_ROUTE, digest_size=32, key=key).digest())
        self._draws = Draws(rng)

    def loop_part(self, parts: Iterable[str]) -> str:
        """The second part of a branch (RFC 5393 §4.2.1) for what decides where the request goes."""
        mac = self._branch_mac.copy()
        for part in parts:
            mac.update(part.encode("utf-8", "surrogateescape"))
            mac.update(b"\0")
        return _text(mac.digest())

    def make_branch(self, loop_part: str, onward: str = "") -> str:
        """A branch that no other request has; `onward` is the Via that a response goes to next, "" if it ends here."""
        body = self._draws.make_text() + loop_part
        return f"{MAGIC}{body}{self._make_mac(body, onward)}"

    def is_branch(self, branch: str, onward: str) -> bool:
        """Whether we made that branch, for a request whose top Via was `onward`."""
        body = branch[len(MAGIC) : -_MAC_CHARS]
        if not branch.isascii() or not branch.startswith(MAGIC) or len(body) != 16 + _LOOP_CHARS:
            return False
        return compare_digest(self._make_mac(body, onward), branch[-_MAC_CHARS:])

    def _make_mac(self, body: str, onward: str) -> str:
        mac = self._branch_mac.copy()
        mac.update(body.encode("ascii"))
        mac.update(_foreign(onward))
        return _text(mac.digest())

    def make_route(self, call_id: str, facts: Sequence[str], caller: Hop | None, callee: Hop | None) -> str:
        """The user part of our Record-Route in the dialog that a request with that Call-ID opens."""
        hashes = b"".join([self._hash_fact(number, text) for number, text in enumerate(facts)])
        flows = f"{_write_hop(caller)}\n{_write_hop(callee)}" if caller or callee else ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, bytes((len(facts),)) + hashes + flows.encode("ascii"), _foreign(call_id))
        return _text(nonce + sealed).rstrip("=")

    def open_route(self, user: str, call_id: str) -> RouteToken | None:
        """What we put into a Record-Route of that dialog, None when `user` is not ours or another dialog's."""
        if not _MIN_ROUTE <= len(user) <= _MAX_ROUTE:
            return None
        try:
            packed = urlsafe_b64decode(user + "=" * (-len(user) % 4))
            opened = self._seal.decrypt(packed[:_NONCE_BYTES], packed[_NONCE_BYTES:], _foreign(call_id))
            end = 1 + opened[0] * _FACT_BYTES
            caller, _, callee = opened[end:].decode("ascii").partition("\n")
            return RouteToken(self, opened[1:end], _read_hop(caller), _read_hop(callee))
        except (InvalidTag, ValueError):  # a stranger's, or of a version that wrote it otherwise
            return None

    def make_onward(self, flow: Hop, uri_text: str) -> str:
        """The user part of a Route that has another node send a request for that URI over a flow of its own."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._seal.encrypt(nonce, _write_hop(flow).encode("ascii"), _ONWARD + _foreign(uri_text))
        return _text(nonce + sealed).rstrip("=")

    def open_onward(self, user: str, uri_text: str) -> Hop | None:
        """The flow that such a user part names, None when `user` is none or is for another URI."""
        if not _MIN_ROUTE <= len(user) <= _MAX_ROUTE:
            return None
        try:
            packed = urlsafe_b64decode(user + "=" * (-len(user) % 4))
            sealed = packed[_NONCE_BYTES:]
            return _read_hop(
                self._seal.decrypt(packed[:_NONCE_BYTES], sealed, _ONWARD + _foreign(uri_text)).decode("ascii")
            )
        except (InvalidTag, ValueError):
            return None

    def is_fact(self, hashes: bytes, number: int, text: str) -> bool:
        """Whether the fact of that number in an opened route is `text`; no fact is the empty text."""
        if not text or number < 0:
            return False
        at = number * _FACT_BYTES
        return compare_digest(hashes[at : at + _FACT_BYTES], self._hash_fact(number, text))

    def _hash_fact(self, number: int, text: str) -> bytes:
        if not text:
            return bytes(_FACT_BYTES)
        mac = self._fact_mac.copy()
        mac.update(b"%d " % number)
        mac.update(_foreign(text))
        return mac.digest()


class RouteToken:
    """An opened route: the hashes of its facts, and the flows of both sides, None where the contact serves."""

    __slots__ = ("_hashes", "_tokens", "callee", "caller")

    def __init__(self, tokens: Tokens, hashes: bytes, caller: Hop | None, callee: Hop | None) -> None:
        self.caller = caller
        self.callee = callee
        self._tokens = tokens
        self._hashes = hashes

    def holds(self, index: int, text: str) -> bool:
        """Whether the fact of that number is this text."""
        return self._tokens.is_fact(self._hashes, index, text)


def _write_hop(hop: Hop | None) -> str:
    return "" if hop is None else f"{hop.transport} {hop.host} {hop.port} {hop.local}"


def _read_hop(text: str) -> Hop | None:
    if not text:
        return None
    transport, host, port, local = text.split(" ")
    return Hop(transport, host, int(port), local)


def _foreign(text: str) -> bytes:
    """Text of a message as the bytes it came as."""
    return text.encode("utf-8", "surrogateescape")


def _text(mac: bytes) -> str:
    return urlsafe_b64encode(mac).decode("ascii")
