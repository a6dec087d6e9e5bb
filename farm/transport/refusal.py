"""The stateless answer to what cannot be taken (RFC 3261 §8.2.7, §16.3): a 400, or what the error says.

It is made only from a request whose Via and CSeq could be read, never for an ACK or a response, and it is no larger
than the request but for what the rules add. The source of a datagram may be forged, so answers over UDP are few: a
bucket for the whole node bounds what anybody can have us send to a third party.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from farm.sip.message import Request, make_header, make_response
from farm.sip.status import SipError

ANSWERS_PER_SECOND: Final = 100.0
MARGIN_BYTES: Final = 200  # received and rport, the To tag, the phrase, Content-Length


class AnswerBudget:
    """A token bucket for answers to sources that have proved nothing: so many a second, and as many at once."""

    __slots__ = ("_at", "_left", "_most")

    def __init__(self, most: float = ANSWERS_PER_SECOND) -> None:
        self._most = self._left = most
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether one more answer may go out."""
        self._left = min(self._most, self._left + (now - self._at) * self._most)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def make_refusal(error: SipError, request: Request, largest: int) -> bytes | None:
    """The answer to `request` as bytes, None when it would be longer than `largest`.

    The To tag is made from the request, so that a retransmission gets the same answer (§8.2.7).
    """
    seed = f"{request.find('via')}\n{request.find('from')}\n{request.find('call-id')}\n{request.find('cseq')}"
    tag = blake2b(seed.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    headers = tuple(make_header(name.lower(), value) for name, value in error.headers)
    answer = make_response(request, error.status, error.phrase, to_tag=tag, headers=headers).write()
    return answer if len(answer) <= largest else None
