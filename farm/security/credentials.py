"""Users' credentials: the record that holds them, the kind "credential", and the verdict on a request that shows some.

RFC 3261 §22, RFC 7616 and RFC 8760, the server's side. The record of an address-of-record holds, for each digest
algorithm, HA1 (RFC 7616 §3.4.2) for both names that phones are set up with, "user" and "user@domain"; never the
password. A removed user stays as a tombstone. The greatest stamp wins a merge, which is associative, commutative and
idempotent because a change of a user is one whole record and stamps are totally ordered.

`Authenticator` finds the credentials for our realm, checks that they are for this request, looks the user up, computes
the digest, and last asks whether the nonce is young enough and its count new. ACK and CANCEL cannot be challenged
(§22.1): the caller lets them pass and never asks. Whether the user may do what the request wants (register for that
address, call abroad) is the caller's question too.

Who guesses learns nothing: an unknown user, a removed one and a wrong password get the same bytes after the same work,
the digest being computed against a record that nobody's password fits. A right digest with a nonce that is too old,
used before, made under another key, or by a node that cannot be asked any more gets `stale=true` (RFC 7616 §3.3): the
phone goes on without asking its human, and a replayed request still gets nowhere.

Decided: `stale=true` for a replayed count as well. RFC 3263 fail-over repeats a request with the same count on another
transport, and a phone takes a plain second challenge for "wrong password" and gives up.
Decided: a client without qop (RFC 2069) gets one request out of a nonce, so that it is as safe from replay as others.
Decided: one that another node made is asked of that node, in one round trip, only when the digest is right: strangers
cannot have nodes ask each other.
Decided: nonces are not bound to the source address; mobile phones and large NATs change it between two requests.
Decided: HA1 is as good as the password for its realm (RFC 7616 §5.7), but digest cannot do with less. It is kept from
logs, lists and the console.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from farm.security.lasting import NEVER, Kept
from farm.security.limits import Allowed, SourceLimits
from farm.security.nonces import NonceCounts, Nonces, Origin, Use
from farm.security.record import Credential, Stamp
from farm.sip.digest import (
    Credentials,
    available_algorithms,
    digests_equal,
    find_credentials,
    is_available,
    make_challenge,
    make_digest,
    make_ha1,
)
from farm.sip.message import Request
from farm.sip.status import SipError
from farm.sip.uri import aor_of, parse_uri, uris_equal

KIND: Final = "credential"
CREDENTIAL_BYTES: Final = 1024

# Why a record cannot be had here although another node may have it: the client goes there on 503 (RFC 3263 §4.3).
ELSEWHERE: Final = frozenset(("no-owners", "clock"))

_STAMPS: Final = 1 << 64  # above all stamps and node numbers

_PLAIN_USER: Final = re.compile(r"[A-Za-z0-9_.!~*'()&=+$,;?/-]+")
_ESCAPED: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9_.!~*'()&=+$,;?/%-]")
_USERNAME_CHARACTERS: Final = 256
_CHALLENGE: Final = {"authorization": (401, "www-authenticate"), "proxy-authorization": (407, "proxy-authenticate")}
_STALE_REASON: Final = {Use.REPLAYED: "replayed-nonce", Use.FORGOTTEN: "forgotten-nonce"}


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Credential).decode


def pack_credential(credential: Credential) -> bytes:
    """The record as the store keeps it."""
    return _pack(credential)


def unpack_credential(packed: bytes) -> Credential:
    """The record out of the store; raises ValueError for bytes that are none."""
    try:
        return _unpack(packed)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a credential: {error}") from None


def merge_credentials(one: bytes, other: bytes) -> bytes:
    """The merge of two records of one user: the greatest stamp wins; of equal stamps, which no two changes have, the
    greater bytes, so that the order of arrival never matters. Raises ValueError for bytes that are no record."""
    if one == other:
        return one
    return max(one, other, key=lambda packed: (unpack_credential(packed).stamp, packed))


class CredentialKind:
    """The kind "credential" as the store wants it. Users have no lifetime, so nothing of it lapses; tombstones stay as
    well, some 50 bytes each, for a node that was away for a month must not bring a removed user back."""

    __slots__ = ("everywhere", "name", "record_bytes", "since")

    def __init__(self) -> None:
        self.name = KIND
        self.record_bytes = CREDENTIAL_BYTES
        self.everywhere = False
        self.since = 1

    def merge(self, held: bytes | None, delta: bytes, now: float) -> Kept:
        """Join an update with what is held. Raises ValueError for bytes that are no record."""
        new = unpack_credential(delta)
        if held is None:
            return Kept(delta, NEVER, int(not new.deleted), int(new.deleted))
        merged = merge_credentials(held, delta)
        if merged == held:
            return Kept(held, NEVER, 0, 0, delta != held)
        change = int(unpack_credential(held).deleted) - int(new.deleted)
        return Kept(merged, NEVER, change, -change)

    def sweep(self, held: bytes, now: float) -> Kept:
        """Nothing lapses."""
        return Kept(held, NEVER, 0)

    def shift(self, record: bytes, seconds: float, now: float = NEVER) -> bytes:
        """The record, which holds no times of a process. Raises ValueError for one that no node of ours made."""
        credential = unpack_credential(record)
        stamp, node = credential.stamp
        if len(record) > CREDENTIAL_BYTES or not (0 <= stamp < _STAMPS and 0 <= node < _STAMPS):
            raise ValueError("a credential that no node makes")
        return record

    def version(self, record: bytes) -> bytes:
        """16 bytes that are the same for the same record."""
        return hashlib.blake2b(record, digest_size=16).digest()

    def trace(self, record: bytes, at: float = -NEVER) -> bytes:
        """What replicas compare, which is all of it."""
        return self.version(record)

    def newest(self, record: bytes) -> int:
        """The stamp of a record."""
        return unpack_credential(record).stamp[0]


def make_aor(user: str, domain: str) -> str:
    """The address-of-record of a plain user name (escaped where a SIP URI wants it) in a domain.

    It is what `aor_of` says of any URI of that user. Raises SipError 400 for what no URI can hold.
    """
    if _PLAIN_USER.fullmatch(user) is None:
        if not user:
            raise SipError(400, reason="bad-user")
        user = _ESCAPED.sub(_escape, user)
        return aor_of(parse_uri(f"sip:{user}@{domain}"))
    return f"sip:{user}@{domain.lower()}"


def make_credential(user: str, domain: str, password: str, stamp: Stamp, *, disabled: bool = False) -> Credential:
    """The record of a user whose realm is the domain, with every algorithm that this Python can compute."""
    return Credential(
        stamp,
        domain,
        {
            algorithm: (
                bytes.fromhex(make_ha1(algorithm, user, domain, password)),
                bytes.fromhex(make_ha1(algorithm, f"{user}@{domain}", domain, password)),
            )
            for algorithm in available_algorithms()
        },
        disabled,
    )


def take_credential(domain: str, hashes: Sequence[tuple[str, str, str]], stamp: Stamp) -> Credential:
    """The record of a user of whom another registrar has told the hashes, not the password: algorithm, HA1 in hex for
    the name "user", and that for "user@domain". Where the last is not known, the first stands in its place: it fits
    nobody who does not know it, which an empty one would."""
    return Credential(
        stamp,
        domain,
        {algorithm: (bytes.fromhex(plain), bytes.fromhex(full or plain)) for algorithm, plain, full in hashes},
    )


class Unavailable(Protocol):
    """Why a record cannot be had."""

    @property
    def reason(self) -> str:
        """A slug."""


Fetched = bytes | Unavailable | None


class CredentialStore(Protocol):
    """The records of all kinds, to read. What is at hand is answered at once, the rest by an awaitable."""

    def get(self, kind: str, key: str, now: float) -> Fetched | Awaitable[Fetched]:
        """The merged record, None when there never was one; `now` is monotonic."""


class Keepers(Protocol):
    """The other nodes, each of which remembers the counts of the nonces that it made."""

    def use(self, origin: Origin, count: int, now: float) -> Awaitable[Use]:
        """Mark a count of another node's nonce as used there. FORGOTTEN when that node cannot say."""


class Authenticated(NamedTuple):
    """The request is from `user`, a canonical address-of-record."""

    user: str


class Refused(NamedTuple):
    """What to answer: a status, the headers that go with it as (lower-case name, value), and the slug to count and log.

    Reasons: "no-credentials" (the ordinary first request), "algorithm-not-offered", "qop-not-offered",
    "wrong-password", "unknown-user", "stale-nonce", "foreign-nonce", "replayed-nonce" and "forgotten-nonce" come with a
    challenge (401 or 407); "bad-credentials" and "uri-mismatch" with 400; "user-disabled" and "banned" with 403;
    "store-unavailable" with 500, or 503 where another node may do better.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    reason: str


Verdict = Authenticated | Refused


class Authenticator:
    """Digest authentication of requests against the users in `store`.

    `secrets` are the nonce keys that all nodes share, the current one first. `wall` answers seconds since 1970: nonces
    travel between nodes and outlive processes, which monotonic time does not. `algorithms` are offered in that order
    (RFC 8760 §2.3); `qop` may hold "auth" and "auth-int". `node` is this node's tag in nonces, and `keepers` remember
    the counts of the others' nonces, which are stale without. Strangers see the numbers of `rng` in nonces, so nothing
    else may use the same one. Raises ValueError for an algorithm that this Python lacks and for a short key.
    """

    __slots__ = (
        "_algorithms",
        "_allow_without_qop",
        "_began_at",
        "_counts",
        "_keepers",
        "_limits",
        "_no_hashes",
        "_nobody",
        "_qop",
        "_store",
        "_wall",
        "nonces",
    )

    def __init__(
        self,
        store: CredentialStore,
        secrets: Sequence[bytes],
        *,
        limits: SourceLimits,
        wall: Callable[[], float],
        rng: random.Random,
        algorithms: Sequence[str] = ("SHA-256", "MD5"),
        qop: Sequence[str] = ("auth",),
        nonce_life_seconds: float = 300.0,
        nonce_entries: int = 200_000,
        allow_without_qop: bool = True,
        node: int = 0,
        keepers: Keepers | None = None,
    ) -> None:
        self._keepers = keepers
        self.offer(algorithms, allow_without_qop=allow_without_qop)
        self._store = store
        self._limits = limits
        self._wall = wall
        self._qop = tuple(qop)
        self.nonces = Nonces(secrets, nonce_life_seconds, rng, node)
        self._began_at = int(wall())
        self._counts = NonceCounts(nonce_life_seconds, nonce_entries, wall())
        nobody = make_credential("", "", hashlib.sha256(b"nobody" + secrets[0]).hexdigest(), (0, 0))
        self._nobody = pack_credential(nobody)
        self._no_hashes = nobody.ha1

    def offer(self, algorithms: Sequence[str], *, allow_without_qop: bool) -> None:
        """Offer these algorithms from now on. Raises ValueError, and changes nothing, for one that is lacking."""
        for algorithm in algorithms:
            if not is_available(algorithm):
                raise ValueError(f"this build of OpenSSL cannot compute {algorithm}: take it out of auth.algorithms")
        self._algorithms = tuple(algorithms)
        self._allow_without_qop = allow_without_qop

    def remember(self, nonce_entries: int) -> None:
        """Keep the counts of so many nonces from now on."""
        self._counts.entries = max(nonce_entries, 1)

    def check(self, request: Request, realm: str, header_name: str, now: float) -> Verdict | Awaitable[Verdict]:
        """Who sent `request`, which must be as it came (§16.4 may rewrite its URI later).

        `realm` is the domain of ours whose users are asked for; `header_name` is "authorization" where we are the
        server that answers (401) and "proxy-authorization" where we forward (407); `now` is monotonic. Answers at once
        when the store does. Never raises.
        """
        try:
            credentials = find_credentials(request, header_name, realm)
            if credentials is None or not credentials.nonce:
                return self.challenge(realm, header_name, "no-credentials")
            if not isinstance(self._limits.admit_credentials(request.source.host, now), Allowed):
                return Refused(403, (), "banned")
            if credentials.algorithm not in self._algorithms:
                return self.challenge(realm, header_name, "algorithm-not-offered")
            if credentials.qop not in self._qop and (credentials.qop or not self._allow_without_qop):
                return self.challenge(realm, header_name, "qop-not-offered")
            if credentials.uri != request.uri_text and not _same_resource(credentials.uri, request, realm):
                return Refused(400, (), "uri-mismatch")
            aor = _aor_of_username(credentials.username, realm)
        except SipError as error:
            return Refused(error.status, (), error.reason)
        found = self._store.get(KIND, aor, now)
        if isinstance(found, Awaitable):
            return self._judge_later(request, credentials, realm, header_name, aor, found, now)
        return self._judge(request, credentials, realm, header_name, aor, found, now)

    def challenge(self, realm: str, header_name: str, reason: str, *, stale: bool = False) -> Refused:
        """The refusal that asks for credentials: one header an algorithm, most wanted first, all with one new nonce."""
        status, name = _CHALLENGE[header_name]
        nonce = self.nonces.make(realm, self._wall())
        headers = [
            (name, make_challenge(realm, nonce, algorithm, qop=self._qop, stale=stale))
            for algorithm in self._algorithms
        ]
        return Refused(status, tuple(headers), reason)

    def use_nonce(self, origin: Origin, count: int) -> Use:
        """Mark a count of a nonce of ours as used: another node was shown it, by somebody who knows the password."""
        wall = self._wall()
        if origin.node != self.nonces.node or not self.nonces.is_fresh(origin, wall):
            return Use.FORGOTTEN
        return self._use_own(origin, count, wall)

    def _use_own(self, origin: Origin, count: int, wall: float) -> Use:
        if origin.made_at == self._began_at and not self.nonces.has_made(origin):
            return Use.FORGOTTEN  # of the second in which this process began, and not its own
        return self._counts.use(origin, count, wall)

    async def _judge_later(
        self,
        request: Request,
        credentials: Credentials,
        realm: str,
        header_name: str,
        aor: str,
        finding: Awaitable[Fetched],
        now: float,
    ) -> Verdict:
        verdict = self._judge(request, credentials, realm, header_name, aor, await finding, now)
        return await verdict if isinstance(verdict, Awaitable) else verdict

    def _judge(
        self,
        request: Request,
        credentials: Credentials,
        realm: str,
        header_name: str,
        aor: str,
        packed: Fetched,
        now: float,
    ) -> Verdict | Awaitable[Verdict]:
        if packed is not None and not isinstance(packed, bytes):
            return Refused(503 if packed.reason in ELSEWHERE else 500, (("retry-after", "2"),), "store-unavailable")
        # Known or not, everybody takes the same way down to the comparison
        try:
            user = unpack_credential(packed or self._nobody)
        except ValueError:
            user = unpack_credential(self._nobody)
        hashes = user.ha1.get(credentials.algorithm) or self._no_hashes[credentials.algorithm]
        digest = make_digest(credentials, hashes["@" in credentials.username].hex(), request.method, request.body)
        wall = self._wall()
        origin = self.nonces.find_origin(credentials.nonce, realm)
        if not digests_equal(digest, credentials.response):
            self._limits.record_failure(request.source.host, now)
            known = user.realm and not user.deleted
            return self.challenge(realm, header_name, "wrong-password" if known else "unknown-user")
        if user.disabled:
            return Refused(403, (), "user-disabled")
        if origin is None:
            return self.challenge(realm, header_name, "foreign-nonce", stale=True)
        if not self.nonces.is_fresh(origin, wall):
            return self.challenge(realm, header_name, "stale-nonce", stale=True)
        if origin.node == self.nonces.node:
            return self._judge_use(self._use_own(origin, credentials.nonce_count, wall), realm, header_name, aor)
        if self._keepers is None:
            return self._judge_use(Use.FORGOTTEN, realm, header_name, aor)
        return self._judge_use_later(self._keepers.use(origin, credentials.nonce_count, now), realm, header_name, aor)

    def _judge_use(self, use: Use, realm: str, header_name: str, aor: str) -> Verdict:
        if use is not Use.FIRST:
            return self.challenge(realm, header_name, _STALE_REASON[use], stale=True)
        return Authenticated(aor)

    async def _judge_use_later(self, using: Awaitable[Use], realm: str, header_name: str, aor: str) -> Verdict:
        return self._judge_use(await using, realm, header_name, aor)


def _aor_of_username(username: str, realm: str) -> str:
    """The address-of-record that a username means: "user", or "user@" and our domain; "" for what can be none."""
    user, at, domain = username.rpartition("@")
    if not at:
        user = domain
    elif domain.lower() != realm.lower():
        return ""
    if not user or len(username) > _USERNAME_CHARACTERS:
        return ""
    try:
        return make_aor(user, realm)
    except SipError:
        return ""


def _same_resource(uri_text: str, request: Request, realm: str) -> bool:
    """Whether credentials made for one URI may serve a request for another.

    §22.4 item 6 and RFC 8760 §2.6: a proxy on the way may have changed it. The user must be the same, or one captured
    request would pay for calls to anybody; port and parameters may differ, and the host if the client's was our realm.
    """
    try:
        theirs = parse_uri(uri_text)
    except SipError:
        return False
    ours = request.uri
    if uris_equal(theirs, ours):
        return True
    their_aor = aor_of(theirs)
    our_aor = aor_of(ours)
    if their_aor == our_aor:
        return True
    if not (theirs.is_sip and ours.is_sip) or theirs.host != realm.lower():
        return False
    return their_aor.rpartition("@")[0] == our_aor.rpartition("@")[0]


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{octet:02X}" for octet in match[0].encode("utf-8", "surrogateescape"))
