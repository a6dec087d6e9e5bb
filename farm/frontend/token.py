"""The values that we put into messages and must know again, on whichever node they come back.

A token is text for the user part of a URI, sealed (AES-GCM): a byte with the number of the farm's key, a nonce, and the
sealed bytes, in URL-safe base64. The keys rotate (`security/farm_keys`); the first seals, all open. There are

- **routes**, the user of our Record-Route: for one Call-ID, the flows of both sides (`flow_text`), hashes of the facts
  by which a later request of the dialog is known (`proxy/dialog`), and of the instances of both phones;
- **flows**, the user of our Path, and of the route by which a registrar reaches a phone of ours (RFC 5626 §5);
- whatever else is to be known by us alone (`seal`), each for its own purpose;
- and the **branches** of our Via, which are no secrets and have MACs instead (`branch`).

What was sealed for one purpose or dialog opens for no other. What cannot be opened is counted by why, if it looks like
a token: "token-altered", or "token-expired-key" for a key that is not known any more, or not yet.

A route with two flows on connections or IPv4, seven facts and two phones has 120 characters; each flow on IPv6 adds 16.

Decided: hashes of facts and phones are keyed by the farm's own key and have no more than 4 and 3 bytes, so that the
token stays short: whom to let through is guessed at 1 in 4 billion, a phone among the few of one user.
"""

from __future__ import annotations

import os
import random
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from farm.frontend.branch import Branches
from farm.frontend.flow_text import Nodes, pack_flow, tag_of, unpack_flow
from farm.security.farm_keys import BASE, FarmKey
from farm.sip.hop import FlowName, Leg

ALTERED: Final = "token-altered"
EXPIRED: Final = "token-expired-key"

_NONCE_BYTES: Final = 12
_NONCES: Final = 128
_LEAST: Final = 39  # characters of key, nonce and seal of nothing
_MOST: Final = 400
_FACT_BYTES: Final = 4
_PHONE_BYTES: Final = 3
_MOST_FACTS: Final = 15
_CALLER: Final = 0x10  # bits beside the number of facts
_CALLEE: Final = 0x20
_CALLER_PHONE: Final = 0x40
_CALLEE_PHONE: Final = 0x80
_ROUTE: Final = b"route\0"
_FLOW: Final = b"flow\0"
_OTHER: Final = b"other\0"


class Tokens:
    """Makes and recognises them. `secret` is the farm's own key, the same on every start, of 16 bytes or more; `node`
    is this node's number in stamps, and `nodes` answers that of the node with a tag, of all that are known."""

    def __init__(
        self,
        secret: bytes,
        rng: random.Random,
        *,
        node: int = 0,
        nodes: Nodes | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        if len(secret) < 16:
            raise ValueError("the token secret is shorter than 16 bytes")
        key = blake2b(secret, digest_size=32, person=b"sipfarm-tokens").digest()
        self._base = FarmKey(BASE, secret)
        self._node = node
        self._nodes: Nodes = nodes or self._find_own
        self._note = note
        # Copying a keyed state is half the price of keying one.
        self._fact_mac = blake2b(b"sipfarm-fact", digest_size=_FACT_BYTES, key=key)
        self._phone_mac = blake2b(b"sipfarm-phone", digest_size=_PHONE_BYTES, key=key)
        self._branches = Branches(key, rng, tag_of(node))
        self._number = b""
        self._sealing = AESGCM(key)
        self._opening: dict[int, list[AESGCM]] = {}
        self._nonces = b""
        self._nonces_at = 0
        self.set_keys(())

    def set_keys(self, keys: Sequence[FarmKey]) -> None:
        """Seal with the first of these from now on and open with all; the farm's own key opens, and seals if it is the
        only one, whether or not it is named."""
        keys = [*keys, *([] if self._base in keys else [self._base])]
        self._opening = {}
        for key in keys:
            secret = blake2b(key.secret, digest_size=32, person=b"sipfarm-seal").digest()
            self._opening.setdefault(key.number, []).append(AESGCM(secret))
        self._number = bytes((keys[0].number,))
        self._sealing = self._opening[keys[0].number][0]
        self._branches.set_keys([key.secret for key in keys])

    # Branches

    def loop_part(self, parts: Iterable[str]) -> str:
        """The loop part of a branch (RFC 5393 §4.2.1) for what decides where the request goes."""
        return self._branches.loop_part(parts)

    def make_branch(self, loop_part: str, onward: str = "") -> str:
        """A branch that no other request has; `onward` is the Via that a response goes to next, "" if it ends here."""
        return self._branches.make(loop_part, onward)

    def is_branch(self, branch: str, onward: str) -> bool:
        """Whether one of us made that branch, for a request whose top Via was `onward`."""
        return self._branches.is_ours(branch, onward)

    def owner_of(self, branch: str) -> int | None:
        """The tag (`flow_text.tag_of`) of the node that a branch of our shape names, whoever made it."""
        return self._branches.owner_of(branch)

    def is_of_this_boot(self, branch: str) -> bool:
        """Whether a branch that `owner_of` says is this node's was made since the node was started."""
        return self._branches.is_of_this_boot(branch)

    # Routes

    def make_route(self, call_id: str, facts: Sequence[str], caller: Leg, callee: Leg) -> str:
        """The user part of our Record-Route in the dialog that a request with that Call-ID opens."""
        if len(facts) > _MOST_FACTS:
            raise ValueError(f"a route has no room for more than {_MOST_FACTS} facts")
        head = len(facts)
        rest = b"".join([self._hash_fact(number, text) for number, text in enumerate(facts)])
        if caller.flow is not None:
            head |= _CALLER
            rest += pack_flow(caller.flow)
        if callee.flow is not None:
            head |= _CALLEE
            rest += pack_flow(callee.flow)
        if caller.phone:
            head |= _CALLER_PHONE
            rest += self._hash_phone(caller.phone)
        if callee.phone:
            head |= _CALLEE_PHONE
            rest += self._hash_phone(callee.phone)
        return self._close(bytes((head,)) + rest, _ROUTE + _foreign(call_id))

    def open_route(self, user: str, call_id: str) -> RouteToken | None:
        """What one of us put into a Record-Route of that dialog, None when `user` is not ours or another dialog's."""
        opened = self._open(user, _ROUTE, call_id)
        if not opened:
            return None
        try:
            return self._read_route(opened)
        except ValueError:  # of a version that wrote it otherwise
            self._count(ALTERED)
            return None

    def _read_route(self, opened: bytes) -> RouteToken:
        head = opened[0]
        at = 1 + (head & _MOST_FACTS) * _FACT_BYTES
        hashes = opened[1:at]
        caller: FlowName | None = None
        callee: FlowName | None = None
        if head & _CALLER:
            caller, at = unpack_flow(opened, at, self._nodes)
        if head & _CALLEE:
            callee, at = unpack_flow(opened, at, self._nodes)
        phones: list[bytes] = []
        for bit in (_CALLER_PHONE, _CALLEE_PHONE):
            size = _PHONE_BYTES if head & bit else 0
            phones.append(opened[at : at + size])
            at += size
        if at != len(opened):
            raise ValueError("another length than its head says")
        return RouteToken(self, hashes, caller, callee, phones[0], phones[1])

    def is_fact(self, hashes: bytes, number: int, text: str) -> bool:
        """Whether the fact of that number in an opened route is `text`; no fact is the empty text."""
        if not text or number < 0:
            return False
        at = number * _FACT_BYTES
        return compare_digest(hashes[at : at + _FACT_BYTES], self._hash_fact(number, text))

    def is_phone(self, hashed: bytes, text: str) -> bool:
        """Whether a phone's hash in an opened route is that of this instance."""
        return bool(text) and compare_digest(hashed, self._hash_phone(text))

    def _hash_fact(self, number: int, text: str) -> bytes:
        if not text:
            return bytes(_FACT_BYTES)
        mac = self._fact_mac.copy()
        mac.update(b"%d " % number)
        mac.update(_foreign(text))
        return mac.digest()

    def _hash_phone(self, text: str) -> bytes:
        mac = self._phone_mac.copy()
        mac.update(_foreign(text))
        return mac.digest()

    # Flows, and what others want sealed

    def make_flow(self, flow: FlowName) -> str:
        """The user part of a URI that leads over that flow."""
        return self._close(pack_flow(flow), _FLOW)

    def open_flow(self, user: str) -> FlowName | None:
        """The flow that such a user part names, None when `user` is none."""
        opened = self._open(user, _FLOW, "")
        if not opened:
            return None
        try:
            flow, end = unpack_flow(opened, 0, self._nodes)
        except ValueError:
            end = -1
        if end != len(opened):
            self._count(ALTERED)
            return None
        return flow

    def seal(self, purpose: bytes, data: bytes) -> str:
        """Text that tells nobody but us what `data` is, and that nobody else can make."""
        return self._close(data, _OTHER + purpose)

    def open(self, purpose: bytes, text: str) -> bytes | None:
        """What was sealed for that purpose, None when `text` is not ours."""
        return self._open(text, _OTHER + purpose, "")

    # The seal

    def _close(self, plain: bytes, associated: bytes) -> str:
        at = self._nonces_at
        if at == len(self._nonces):
            self._nonces = os.urandom(_NONCES * _NONCE_BYTES)  # asking for each would cost as much as sealing it
            at = 0
        self._nonces_at = at + _NONCE_BYTES
        nonce = self._nonces[at : at + _NONCE_BYTES]
        sealed = self._number + nonce + self._sealing.encrypt(nonce, plain, self._number + associated)
        return urlsafe_b64encode(sealed).decode("ascii").rstrip("=")

    def _open(self, text: str, purpose: bytes, call_id: str) -> bytes | None:
        """The plain bytes, None for text that no token is, and for a token that cannot be opened, which is counted."""
        length = len(text)
        if not _LEAST <= length <= _MOST:
            return None
        try:
            packed = urlsafe_b64decode(text + "=" * (-length % 4))
        except ValueError:
            return None
        if len(packed) != length * 3 // 4:  # characters that are none of base64 were passed over
            return None
        found = self._opening.get(packed[0])
        if found is None:
            self._count(EXPIRED)
            return None
        nonce = packed[1 : 1 + _NONCE_BYTES]
        associated = packed[:1] + purpose + _foreign(call_id)
        for key in found:
            try:
                return key.decrypt(nonce, packed[1 + _NONCE_BYTES :], associated)
            except InvalidTag:
                continue
        self._count(ALTERED)
        return None

    def _count(self, reason: str) -> None:
        if self._note is not None:
            self._note(reason)

    def _find_own(self, tag: int) -> int | None:
        return self._node if tag == tag_of(self._node) else None


class RouteToken:
    """An opened route: the hashes of its facts and phones, and the flows of both sides, None where the contact
    serves. A flow of a node that is not known any more has a number that no node has."""

    __slots__ = ("_callee_phone", "_caller_phone", "_hashes", "_tokens", "callee", "caller")

    def __init__(
        self,
        tokens: Tokens,
        hashes: bytes,
        caller: FlowName | None,
        callee: FlowName | None,
        caller_phone: bytes = b"",
        callee_phone: bytes = b"",
    ) -> None:
        self.caller = caller
        self.callee = callee
        self._tokens = tokens
        self._hashes = hashes
        self._caller_phone = caller_phone
        self._callee_phone = callee_phone

    def holds(self, index: int, text: str) -> bool:
        """Whether the fact of that number is this text."""
        return self._tokens.is_fact(self._hashes, index, text)

    def knows_phone(self, side_is_caller: bool) -> bool:
        """Whether the instance of that side's phone is known."""
        return bool(self._caller_phone if side_is_caller else self._callee_phone)

    def is_phone(self, side_is_caller: bool, text: str) -> bool:
        """Whether the phone of that side is the one with this instance; no phone is the empty text."""
        return self._tokens.is_phone(self._caller_phone if side_is_caller else self._callee_phone, text)


def _foreign(text: str) -> bytes:
    """Text of a message as the bytes it came as."""
    return text.encode("utf-8", "surrogateescape")
