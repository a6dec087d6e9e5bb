"""Digest authentication as pure functions: credentials to values, hashes, challenges to text.

RFC 7616 and RFC 8760 (SHA-256, SHA-512-256), RFC 3261 §22, and the RFC 2617 and RFC 2069 forms that §22.4 keeps alive.
Nothing here knows users, nonces or time: who somebody is belongs to `security/credentials`, what a nonce is worth to
`security/nonces`, and the verdict to `security/authenticator`.

HA1 is the hash of user, realm and password, in hex; the digest is made from it, so the password itself is needed once.

Decided: the session variants (MD5-sess and so on), `userhash` and `username*` are not spoken. They are never offered,
and a client may only answer with what was offered.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from farm.sip.status import SipError

if TYPE_CHECKING:
    from farm.sip.message import Message

CREDENTIALS_CHARACTERS: Final = 4096
PARAMETERS: Final = 40

_SCHEME: Final = re.compile(r"digest(?:[ \t]+|\Z)", re.IGNORECASE)
# name = "quoted" or name = plain, then a comma or the end; anything else swallows the rest, so time stays linear
_PARAMETER: Final = re.compile(
    r"[ \t,]*+([A-Za-z0-9!%'*+._`~-]++)[ \t]*+=[ \t]*+"
    r'(?:"([^"\\]*+(?:\\.[^"\\]*+)*)"|([^\s",]++))[ \t]*+(?:,[ \t,]*+|\Z)'
    r"|(.+)",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_NONCE_COUNT: Final = re.compile(r"[0-9A-Fa-f]{1,8}")
_QUOTED: Final = re.compile(r'["\\]')


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _sha512_256(data: bytes) -> str:
    return hashlib.new("sha512_256", data).hexdigest()


_HASHES: Final[dict[str, Callable[[bytes], str]]] = {
    "SHA-256": _sha256,
    "SHA-512-256": _sha512_256,
    "MD5": _md5,
}
ALGORITHMS: Final = tuple(_HASHES)
_CANONICAL: Final = {name.lower(): name for name in _HASHES}


def is_available(algorithm: str) -> bool:
    """Whether this Python can compute the algorithm: some builds of OpenSSL lack SHA-512-256, FIPS ones lack MD5."""
    if algorithm not in _HASHES:
        return False
    try:
        _HASHES[algorithm](b"")
    except ValueError:
        return False
    return True


def available_algorithms() -> tuple[str, ...]:
    """The algorithms of this module that this Python can compute, strongest kind first."""
    return tuple(name for name in ALGORITHMS if is_available(name))


class Credentials:
    """What a client sent in Authorization or Proxy-Authorization.

    `username` and `realm` are unescaped, `algorithm` is spelled as registered when it is known ("MD5" when absent),
    `qop` is "" for a client of RFC 2069. `nonce`, `uri`, `cnonce`, `qop` and `nc_text` are as written, since the
    digest is over these characters; `nonce_count` is `nc_text` as a number, 0 without qop.
    """

    __slots__ = (
        "algorithm",
        "cnonce",
        "nc_text",
        "nonce",
        "nonce_count",
        "qop",
        "realm",
        "response",
        "uri",
        "username",
    )

    def __init__(
        self,
        username: str,
        realm: str,
        nonce: str,
        uri: str,
        response: str,
        *,
        algorithm: str = "MD5",
        cnonce: str = "",
        qop: str = "",
        nc_text: str = "",
    ) -> None:
        self.username = username
        self.realm = realm
        self.nonce = nonce
        self.uri = uri
        self.response = response
        self.algorithm = algorithm
        self.cnonce = cnonce
        self.qop = qop
        self.nc_text = nc_text
        self.nonce_count = int(nc_text, 16) if nc_text else 0


def parse_credentials(value: str) -> Credentials:
    """The value of an Authorization or Proxy-Authorization header of the Digest scheme.

    Quotes may be missing or superfluous, as phones differ; a parameter given twice, a missing one and junk are not
    forgiven. Raises SipError 400, reason "bad-credentials".
    """
    scheme = _SCHEME.match(value)
    if scheme is None or len(value) > CREDENTIALS_CHARACTERS:
        raise _bad_credentials()
    items = _PARAMETER.findall(value, scheme.end())
    if not items or items[-1][3] or len(items) > PARAMETERS:
        raise _bad_credentials()
    found = {name.lower(): quoted or plain for name, quoted, plain, _ in items}
    if len(found) != len(items):
        raise _bad_credentials()
    try:
        username = found["username"]
        realm = found["realm"]
        nonce = found["nonce"]
        uri = found["uri"]
        response = found["response"]
    except KeyError:
        raise _bad_credentials() from None
    if "\\" in username:
        username = _ESCAPE.sub(r"\1", username)
    if "\\" in realm:
        realm = _ESCAPE.sub(r"\1", realm)
    algorithm = found.get("algorithm", "MD5")
    qop = found.get("qop", "")
    cnonce = ""
    nc_text = ""
    if qop:
        # RFC 7616 §3.4: cnonce and nc MUST be there when qop is. A client without a nonce yet (RFC 8760 §2.7) has none
        cnonce = found.get("cnonce", "")
        nc_text = found.get("nc", "")
        if nonce and (not cnonce or _NONCE_COUNT.fullmatch(nc_text) is None):
            raise _bad_credentials()
        if not nonce:
            nc_text = ""
    return Credentials(
        username,
        realm,
        nonce,
        uri,
        response,
        algorithm=_CANONICAL.get(algorithm.lower(), algorithm),
        cnonce=cnonce,
        qop=qop,
        nc_text=nc_text,
    )


def find_credentials(message: Message, header_name: str, realm: str) -> Credentials | None:
    """The first Digest credentials for `realm` in the headers of that canonical name, None when there are none.

    Other schemes and realms are other people's business (RFC 3261 §22.3). Raises SipError 400 when nothing is for us
    but something that calls itself Digest cannot be read, for that may have been meant for us.
    """
    broken: SipError | None = None
    for header in message.headers:
        if header[0] == header_name and _SCHEME.match(header[1]) is not None:
            # Not split at commas: these headers are one value a line (§7.3.1)
            try:
                credentials = parse_credentials(header[1])
            except SipError as error:
                broken = error
                continue
            if credentials.realm == realm:
                return credentials
    if broken is not None:
        raise broken
    return None


def make_ha1(algorithm: str, username: str, realm: str, password: str) -> str:
    """H(username:realm:password) in hex (RFC 7616 §3.4.2); KeyError for an algorithm that is not of `ALGORITHMS`."""
    return _HASHES[algorithm](f"{username}:{realm}:{password}".encode("utf-8", "surrogateescape"))


def make_digest(credentials: Credentials, ha1: str, method: str, body: bytes = b"") -> str:
    """The `response` that a client who knows `ha1` sends with these credentials, in lower-case hex.

    The algorithm must be one of `ALGORITHMS`. `body` counts with qop=auth-int only (RFC 7616 §3.4.3).
    """
    hash_of = _HASHES[credentials.algorithm]
    qop = credentials.qop
    if qop == "auth-int":
        ha2 = hash_of(f"{method}:{credentials.uri}:{hash_of(body)}".encode("utf-8", "surrogateescape"))
    else:
        ha2 = hash_of(f"{method}:{credentials.uri}".encode("utf-8", "surrogateescape"))
    if qop:
        text = f"{ha1}:{credentials.nonce}:{credentials.nc_text}:{credentials.cnonce}:{qop}:{ha2}"
    else:
        text = f"{ha1}:{credentials.nonce}:{ha2}"  # RFC 2069
    return hash_of(text.encode("utf-8", "surrogateescape"))


def digests_equal(ours: str, theirs: str) -> bool:
    """Compare in a time that does not tell how far they agree; upper-case hex is forgiven."""
    return hmac.compare_digest(ours.encode(), theirs.lower().encode("utf-8", "surrogateescape"))


def make_challenge(
    realm: str, nonce: str, algorithm: str, *, qop: Sequence[str] = ("auth",), stale: bool = False
) -> str:
    """The value of one WWW-Authenticate or Proxy-Authenticate header; qop is always there (RFC 8760 §2.6)."""
    if '"' in realm or "\\" in realm:
        realm = _QUOTED.sub(r"\\\g<0>", realm)
    text = f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="{",".join(qop)}"'
    return f"{text}, stale=true" if stale else text


def _bad_credentials() -> SipError:
    return SipError(400, "Malformed Credentials", reason="bad-credentials")
