"""One call's life: an INVITE that would open a dialog, told what happens to it, and when.

It rings, then it is answered and ends, or it fails. What comes out of order, a second 2xx of the same phone say,
changes nothing. A 2xx of another phone of a fork (RFC 3261 §13.2.2.4) is a call of its own, with the same beginning;
the caller hangs up all but one. `Book` hears of each step; times are monotonic seconds.

The result is a word of RFC 6076's classes: SER counts "answered" of all but "redirected" (§4.6), SEER "busy",
"no-answer" and "refused" with them (480, 486, 600, 603: §4.7), and "failed" are the ineffective attempts (408, 500,
503, 504: §4.8).

Decided: the request is kept until the call is answered or has failed, and the five texts that its record wants after
that. A call that rings has its transaction, which keeps the request anyway; one that talks for an hour does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final, NamedTuple, Protocol

from farm.accounting.parties import MOST_TEXT, keep_uri, uri_of
from farm.sip.hop import Hop
from farm.sip.message import Request, Response

RINGING: Final = 0
ANSWERED: Final = 1
ENDED: Final = 2
NEVER: Final = -1.0

MOST_FORKS: Final = 10  # answers of one INVITE that make calls; whoever sends more makes them up

_RESULTS: Final = {
    480: "no-answer",
    486: "busy",
    600: "busy",
    487: "cancelled",
    603: "refused",
    404: "unreachable",
    410: "unreachable",
    484: "unreachable",
    604: "unreachable",
    408: "failed",
    500: "failed",
    503: "failed",
    504: "failed",
}

Key = tuple[str, str, str]  # Call-ID, the caller's tag, the callee's


def result_of(status: int) -> str:
    """The word for a final status."""
    if status < 300:
        return "answered"
    return "redirected" if status < 400 else _RESULTS.get(status, "other")


def make_key(call_id: str, caller_tag: str, callee_tag: str) -> Key:
    """What a dialog is known by. Of texts that are longer than anybody needs, a hash stands for the rest, so that what
    is kept of a stranger's call is bounded and two calls of his are two."""
    return (shorten(call_id), shorten(caller_tag), shorten(callee_tag))


def shorten(text: str) -> str:
    """A text of a stranger, or as much of it and a hash of all as tells it from others."""
    if len(text) <= MOST_TEXT:
        return text
    return text[:MOST_TEXT] + sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Way(Protocol):
    """Where an INVITE went."""

    @property
    def node(self) -> int:
        """Over whose flow: a node's number in stamps."""

    @property
    def hop(self) -> Hop:
        """To whom."""

    @property
    def uri_text(self) -> str:
        """Its Request-URI then."""


class Invite(NamedTuple):
    """What a record wants of the INVITE."""

    sender: str  # the URI of its From
    uri_text: str
    user: str  # whom it has proved to be from, "" for nobody
    source: Hop


class Bye(NamedTuple):
    """What ended a call: a BYE, or another request that was answered 481."""

    at: float  # when it came
    code: int  # its final answer, 408 for none
    sent_to: str = ""  # address and port that it went to, "" where it went nowhere
    came_from: str = ""  # address and port
    is_lost: bool = False  # it was no BYE


class Book(Protocol):
    """Who keeps the calls."""

    def note_answer(self, call: Call, now: float) -> None:
        """It was answered."""

    def note_failure(self, call: Call, now: float) -> None:
        """It was not, and will not be."""


class Call:
    """One call. `key` is complete when it is answered."""

    __slots__ = (
        "_book",
        "_request",
        "_tags",
        "answered_at",
        "by",
        "bye_address",
        "bye_code",
        "cancelled",
        "codes",
        "ended_at",
        "invite",
        "is_again",
        "is_fork",
        "key",
        "phrase",
        "ring_at",
        "setup_at",
        "state",
        "status",
        "twin",
        "user",
        "way",
    )

    def __init__(self, book: Book, request: Request, setup_at: float, user: str = "") -> None:
        self._book = book
        self.user = user
        self._request: Request | None = request
        self._tags: list[str] = []
        self.setup_at = setup_at
        self.ring_at = NEVER  # of the first 180 or 183
        self.answered_at = NEVER
        self.ended_at = NEVER
        self.state = RINGING
        self.cancelled = False
        self.is_fork = False  # another phone's answer to an INVITE that was answered before
        self.status = 0
        self.phrase = ""
        self.is_again = False  # one of the same dialog began before it
        self.twin: Call | None = None  # that one, or one that did after it
        self.by = ""  # who ended it: caller, callee, farm, lost
        self.bye_code = 0  # the final answer to the BYE
        self.bye_address = ""  # where the callee was then: what a caller's BYE was sent to, or a callee's came from
        self.key: Key = ("", "", "")
        self.invite: Invite | None = None
        self.way: Way | None = None
        self.codes: Sequence[int] = ()  # the final answers of its branches, as far as they were there

    def ring(self, now: float) -> None:
        """A 180 or 183 went to the caller."""
        if self.ring_at == NEVER:
            self.ring_at = now

    def cancel(self) -> None:
        """The caller wants it no more."""
        self.cancelled = True

    def answer(self, response: Response, way: Way | None, codes: Sequence[int], now: float) -> None:
        """A 2xx went to the caller."""
        if self.state == RINGING:
            self._answer(response, way, codes, now)
        elif response.to_tag not in self._tags and 0 < len(self._tags) < MOST_FORKS:
            self._tags.append(response.to_tag)
            fork = Call(self._book, Request("", "", []), self.setup_at, self.user)
            fork.is_fork = True
            fork.ring_at = self.ring_at
            fork.invite = self.invite
            fork.key = self.key
            fork._answer(response, way, codes, now)

    def _answer(self, response: Response, way: Way | None, codes: Sequence[int], now: float) -> None:
        self.state = ANSWERED
        self.answered_at = now
        self._tags.append(response.to_tag)
        self._settle(response.status, response.phrase, way, codes)
        self.key = (self.key[0], self.key[1], shorten(response.to_tag))  # what else the answer says is its own word
        self._book.note_answer(self, now)

    def fail(
        self, status: int, phrase: str, way: Way | None, codes: Sequence[int], *, by_callee: bool, now: float
    ) -> None:
        """Another final answer went to the caller; `by_callee` says that somebody out there gave it."""
        if self.state != RINGING:
            return
        self.state = ENDED
        self.ended_at = now
        self._settle(status, phrase, way, codes)
        self.by = "caller" if self.cancelled else "callee" if by_callee else "farm"
        self._book.note_failure(self, now)

    def end(self, by: str, now: float, bye: Bye | None = None) -> bool:
        """It was answered and has ended; False when it had not been, or has before."""
        if self.state != ANSWERED:
            return False
        self.state = ENDED
        self.by = by
        self.ended_at = max(now, self.answered_at)  # a BYE may overtake the answer
        if bye is not None:
            self.bye_code = bye.code
            self.bye_address = bye.came_from if by == "callee" else bye.sent_to
        return True

    @property
    def was_answered(self) -> bool:
        """Whether somebody answered it."""
        return self.answered_at != NEVER

    @property
    def seconds_to_ring(self) -> float:
        """How long the caller heard nothing: to the ringing, else to the first final answer."""
        first = self.ring_at if self.ring_at != NEVER else self.answered_at if self.was_answered else self.ended_at
        return first - self.setup_at

    @property
    def result(self) -> str:
        """What became of it, in a word; "" while it rings."""
        return result_of(self.status) if self.status else ""

    @property
    def facts(self) -> Invite:
        """What its record wants of the INVITE, whatever state it is in."""
        if self.invite is not None:
            return self.invite
        assert self._request is not None
        return read_invite(self._request, self.user)

    def _settle(self, status: int, phrase: str, way: Way | None, codes: Sequence[int]) -> None:
        self.status = status
        self.phrase = phrase[:MOST_TEXT]
        self.way = way
        self.codes = codes
        request, self._request = self._request, None
        if request is not None and self.invite is None:
            self.invite = read_invite(request, self.user)
            self.key = make_key(request.call_id, request.from_tag, "")


def read_invite(request: Request, user: str) -> Invite:
    """What a record wants of a request, and no more of it than is reasonable."""
    sender = uri_of(request.find("from") or "")
    return Invite(keep_uri(sender), keep_uri(request.uri_text), user, request.source)
