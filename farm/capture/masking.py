"""What nobody is to see in a copy: what proves a password (RFC 7616 §3.4, §3.5).

Who has a digest's response can try passwords on it as fast as a machine can count, so `response` and `rspauth` become
x's, and so does all that follows the name of another scheme, Basic's password say. Everything else stays, and the
length: user, realm, nonce and count are what an operator looks for. Lines are looked for everywhere, in bodies too: a
request may be within another (message/sip, message/sipfrag).

Decided: no reading of quoted strings. What is refused is copied, too, and how its writer meant the quotes nobody knows,
so each `response=` counts wherever it stands; a user who is named so has a few letters hidden.
"""

from __future__ import annotations

import re
from typing import Final

_LINES: Final = re.compile(
    rb"((?:\A|[\r\n])(?:(?:proxy-)?authorization|(?:proxy-)?authentication-info)(?:\s*):)"
    rb"((?:[^\r\n]|\r?\n[ \t]|\r(?!\n))*)",
    re.IGNORECASE,
)
_DIGEST: Final = re.compile(rb"\s*digest\s", re.IGNORECASE)
_NAME: Final = re.compile(rb"(?:response|rspauth)\s*=\s*|,\s*(?:basic|bearer|negotiate|ntlm)\s+", re.IGNORECASE)
_VALUE: Final = re.compile(rb"\"(?:[^\"\\]|\\.?)*\"?|[^\s,]*", re.DOTALL)
_SCHEME: Final = re.compile(rb"(\s*[^\s]*)(.*)", re.DOTALL)
_SEEN: Final = re.compile(rb"[^\s\"]")


def mask_credentials(data: bytes) -> bytes:
    """The message with x's in place of what proves a password; itself when there is nothing of the kind."""
    masked, changes = _LINES.subn(_mask_line, data)
    return masked if changes else data


def _mask_line(match: re.Match[bytes]) -> bytes:
    name, value = match[1], match[2]
    if b"nfo" in name.lower() or _DIGEST.match(value):
        return name + _mask_proofs(value)
    scheme = _SCHEME.match(value)
    assert scheme is not None
    return name + scheme[1] + _SEEN.sub(b"x", scheme[2])


def _mask_proofs(value: bytes) -> bytes:
    masked = bytearray(value)
    ends = [0, 0]  # of the last value without and with a quote: what begins within one of its kind is hidden already
    for name in _NAME.finditer(value):
        start = name.end()
        quoted = value.startswith(b'"', start)
        if start < ends[quoted] - quoted:
            continue
        proof = _VALUE.match(value, start)
        assert proof is not None
        ends[quoted] = proof.end()
        masked[start : proof.end()] = _SEEN.sub(b"x", proof[0])
    return bytes(masked)
