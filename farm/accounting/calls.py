"""All calls of a node that run, by their dialogs; it counts them, and hands each that has ended to whoever writes.

Who ended a call is told by the BYE: its From and To tags are the call's, one way round or the other. A call that nobody
ends is ended by the farm after `longest_seconds`, and the oldest is when there are more than `most_calls`; what comes
after that finds nothing. A call that has just ended is remembered for a while, so that the other BYE of two that
crossed, and one that is repeated, belong to something.

Who sends a BYE has hung up (RFC 3261 §15.1.1), so a call has ended when its BYE came, if it is answered 2xx; if there
is nobody at the other end, or nobody who knows of the call (404, 408, 410, 480, 481, 604: RFC 5057 §5.1); and if it
could not be delivered. Other answers end nothing: a BYE that the other side refuses, with a CSeq of yesterday say,
would end the bill and not the talk. A 481 to another request inside the dialog ends the call as well, by "lost".

A BYE for an INVITE that still rings ends nothing either: the INVITE's own answer does.

Two calls may have the same dialog: one that was diverted to another user of ours comes by twice. A caller and a callee
who are in league can do it on purpose, for one to hide the other. So each has its record, and a BYE ends both.

What it cannot see: with `[sip] record_route = false` no BYE comes by, and every call ends by "farm".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from farm.accounting.call import MOST_FORKS, Bye, Call, Key, Way, make_key, result_of, shorten
from farm.accounting.parties import write_hop
from farm.metrics import Metrics
from farm.sip.hop import Hop
from farm.sip.message import Request, Response

REMEMBERED_SECONDS: Final = 64.0  # longer than any BYE is repeated
MOST_REMEMBERED: Final = 100_000
_CANCELLED: Final = 487
_ENDING: Final = frozenset((404, 408, 410, 480, 481, 604))
_NO_FAILURES: Final = frozenset(
    (401, 402, 407)
)  # RFC 6076 section 4.3.2: who is challenged goes on; so does who gets 3xx


class Writer(Protocol):
    """Who writes records."""

    def write_answer(self, call: Call, now: float) -> None:
        """It was answered just now."""

    def write_end(self, call: Call, now: float) -> None:
        """It has ended, or failed."""

    def write_interruption(self, call: Call, now: float) -> None:
        """It goes on, and this node will not hear of its end."""


class Calls:
    """The calls of one node."""

    def __init__(self, metrics: Metrics, writer: Writer, *, most_calls: int, longest_seconds: float) -> None:
        self.most_calls = most_calls
        self.longest_seconds = longest_seconds
        self.ringing = 0
        self._writer = writer
        self._ringing: dict[str, int] = {}  # how many, by Call-ID
        self._running: dict[Key, Call] = {}  # the answered, the oldest first; of twins the last
        self._lately: dict[Key, float] = {}  # those that ended, the first first
        self._results = {labels[0]: child for labels, child in metrics.calls_total}
        self._ends = {labels[0]: child for labels, child in metrics.calls_ended}
        self._seconds = metrics.call_seconds.child()
        self._delay_answered = metrics.sip_session_request_delay.child("answered")
        self._delay_failed = metrics.sip_session_request_delay.child("failed")
        metrics.calls.child("ringing").set_function(lambda: float(self.ringing))
        metrics.calls.child("answered").set_function(lambda: float(len(self._running)))

    def __len__(self) -> int:
        """Calls that were answered and run."""
        return len(self._running)

    def __iter__(self) -> Iterator[Call]:
        """Those, the oldest first."""
        return iter(self._running.values())

    def begin(self, request: Request, setup_at: float, user: str = "") -> Call:
        """An INVITE that would open a dialog, which came at `setup_at`, goes on to somebody; `user` is who has proved
        to have sent it, "" for nobody."""
        self.ringing += 1
        call_id = shorten(request.call_id)
        self._ringing[call_id] = self._ringing.get(call_id, 0) + 1
        return Call(self, request, setup_at, user)

    def adopt(self, request: Request, response: Response, way: Way | None, user: str, at: float, now: float) -> None:
        """An INVITE that says it is in a dialog, for which no token vouches, was answered 2xx: a call, if it is not one
        that we know. Else a tag in its To would be enough to call for nothing."""
        key = make_key(request.call_id, request.from_tag, request.to_tag)
        other = (key[0], key[2], key[1])
        if not any(known in calls for calls in (self._running, self._lately) for known in (key, other)):
            call = self.begin(request, at, user)
            call.answer(response, way, [response.status], now)

    def refuse(self, request: Request, status: int, phrase: str, known: bool, setup_at: float, now: float) -> None:
        """An INVITE was answered here, before it went to anybody. Of a sender who is not `known` no record is written:
        whoever tries numbers by the thousand would fill the disk."""
        if known:
            call = self.begin(request, setup_at)
            if status == _CANCELLED:
                call.cancel()
            call.fail(status, phrase, None, (), by_callee=False, now=now)
        else:
            self._results[result_of(status)].inc()
            if status not in _NO_FAILURES and status >= 400:
                self._delay_failed.observe(now - setup_at)

    def end(self, request: Request, status: int, at: float, *, hop: Hop | None = None, made: bool = False) -> bool:
        """A request inside a dialog, which came at `at` and was sent to `hop`, had that final answer (408: none);
        `made` says that nobody out there gave it. False for one that ended a call which is not known here."""
        if not ends(request, status, made=made):
            return True
        sent_to = "" if hop is None else write_hop(hop)
        bye = Bye(at, status, sent_to, write_hop(request.source), request.method != "BYE")
        return self.end_dialog(request.call_id, request.from_tag, request.to_tag, bye)

    def end_dialog(self, call_id: str, sender_tag: str, receiver_tag: str, bye: Bye) -> bool:
        """The side with the first tag ended a call; whether it is known, or was."""
        key = make_key(call_id, sender_tag, receiver_tag)
        other = (key[0], key[2], key[1])
        by = "caller"
        call = self._running.get(key)
        if call is None:
            by = "callee"
            call = self._running.get(other)
            if call is None:
                return key in self._lately or other in self._lately or key[0] in self._ringing
            key = other
        self._end(key, call, "lost" if bye.is_lost else by, bye.at, bye)
        return True

    def remember(self, key: Key, now: float) -> bool:
        """A call that was not known has ended; False when that was heard before, or too many are remembered."""
        if key in self._lately or len(self._lately) >= MOST_REMEMBERED:
            return False
        self._lately[key] = now
        return True

    def note_answer(self, call: Call, now: float) -> None:
        """See `call.Book`."""
        self._count_first(call)
        twin = self._running.get(call.key)
        if twin is not None and len(_twins(twin)) >= MOST_FORKS:
            self._end(call.key, twin, "farm", now)
            twin = None
        if twin is not None:
            call.twin = twin
            later = call if call.setup_at >= twin.setup_at else twin
            later.is_again = True
        elif len(self._running) >= self.most_calls:
            self._end_oldest(now)
        self._running[call.key] = call
        self._writer.write_answer(call, now)

    def _count_first(self, call: Call) -> None:
        if call.is_fork:
            return
        self._stop_ringing(call.key[0])
        self._results["answered"].inc()
        self._delay_answered.observe(call.seconds_to_ring)

    def _stop_ringing(self, call_id: str) -> None:
        self.ringing -= 1
        left = self._ringing.pop(call_id, 1) - 1
        if left > 0:
            self._ringing[call_id] = left

    def note_failure(self, call: Call, now: float) -> None:
        """See `call.Book`."""
        self._stop_ringing(call.key[0])
        self._results[call.result].inc()
        if call.status not in _NO_FAILURES and call.status >= 400:
            self._delay_failed.observe(call.seconds_to_ring)
        self._writer.write_end(call, now)

    def sweep(self, now: float) -> None:
        """End what has run for too long, and forget what ended long ago."""
        started = now - self.longest_seconds
        while self._running:
            call = next(iter(self._running.values()))
            if call.answered_at > started:
                break
            self._end_oldest(now)
        while self._lately:
            key, ended_at = next(iter(self._lately.items()))
            if ended_at > now - REMEMBERED_SECONDS and len(self._lately) <= MOST_REMEMBERED:
                break
            del self._lately[key]

    def interrupt(self, now: float) -> None:
        """The node stops: what it knows of the calls that go on is written."""
        for last in self._running.values():
            for call in _twins(last):
                if call.end("lost", now):
                    self._ends["lost"].inc()
                    self._writer.write_interruption(call, now)
        self._running.clear()

    def _end_oldest(self, now: float) -> None:
        key, call = next(iter(self._running.items()))
        self._end(key, call, "farm", now)

    def _end(self, key: Key, last: Call, by: str, now: float, bye: Bye | None = None) -> None:
        del self._running[key]
        if len(self._lately) < MOST_REMEMBERED:
            self._lately[key] = now
        for call in _twins(last):
            if call.end(by, now, bye):
                self._ends[by].inc()
                self._seconds.observe(call.ended_at - call.answered_at)
                self._writer.write_end(call, now)


def ends(request: Request, status: int, *, made: bool) -> bool:
    """Whether a request inside a dialog that had that final answer has ended its call."""
    if request.method == "BYE":
        return status < 300 or made or status in _ENDING
    return status == 481


def _twins(last: Call) -> list[Call]:
    """A call and those of the same dialog, in the order of their answers."""
    found = [last]
    while (before := found[-1].twin) is not None:
        found.append(before)
    found.reverse()
    return found
