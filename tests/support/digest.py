"""The client's side of digest: an Authorization value that answers a challenge, right or wrong in the ways tests want.

It is written from RFC 7616 §3.4 with hashlib alone, so that it cannot share a mistake with `farm/sip/digest.py`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

HASHES: Final = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}

_PARAMETER: Final = re.compile(r'([a-z]+)=(?:"([^"]*)"|([^", ]+))')


def parse_challenge(value: str) -> dict[str, str]:
    """The parameters of one WWW-Authenticate or Proxy-Authenticate value."""
    return {name: quoted or plain for name, quoted, plain in _PARAMETER.findall(value.removeprefix("Digest "))}


def answer_challenge(
    value: str,
    username: str,
    password: str,
    *,
    method: str = "REGISTER",
    uri: str = "sip:example.com",
    count: int = 1,
    qop: str = "auth",
    body: bytes = b"",
    realm: str = "",
) -> str:
    """The value of the header that answers a challenge; `qop` "" answers as RFC 2069."""
    challenge = parse_challenge(value)
    algorithm = challenge.get("algorithm", "MD5")
    nonce = challenge["nonce"]
    realm = realm or challenge["realm"]

    def hexed(data: bytes) -> str:
        return hashlib.new(HASHES[algorithm], data).hexdigest()

    secret = hexed(f"{username}:{realm}:{password}".encode())
    integrity = f":{hexed(body)}" if qop == "auth-int" else ""
    what = hexed(f"{method}:{uri}{integrity}".encode())
    head = f'Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm={algorithm}'
    if not qop:
        return f'{head}, response="{hexed(f"{secret}:{nonce}:{what}".encode())}"'
    response = hexed(f"{secret}:{nonce}:{count:08x}:0a4f113b:{qop}:{what}".encode())
    return f'{head}, qop={qop}, nc={count:08x}, cnonce="0a4f113b", response="{response}"'
