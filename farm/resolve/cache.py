"""Answers and how long they hold: TTLs clamped, negative answers (RFC 2308), stale ones for bad times (RFC 8767).

Pure and told the time. An answer is fresh until its TTL ends, then, if it held records, stale for a day: it is used
while nobody can be reached who knows better. A failure is kept for some seconds too (RFC 9520), so that a dead name
server costs one call its patience and not every call. Bounded; the entry that was written longest ago goes first.
"""

from __future__ import annotations

from typing import Final

from farm.resolve.records import Answer, Question

MIN_TTL_SECONDS: Final = 1.0  # a TTL of 0 would have every message of a busy trunk ask again
FAILURE_SECONDS: Final = 5.0  # RFC 9520 §3.2: at least 1 s, at most 5 min
STALE_SECONDS: Final = 86_400.0  # RFC 8767 §5: one to three days
RECHECK_SECONDS: Final = 30.0  # RFC 8767 §5: how long a stale answer is used before asking again


class _Entry:
    __slots__ = ("answer", "fresh_until", "stale_until")

    def __init__(self, answer: Answer, fresh_until: float, stale_until: float) -> None:
        self.answer = answer
        self.fresh_until = fresh_until
        self.stale_until = stale_until


class AnswerCache:
    """At most `limit` answers; TTLs over `max_ttl_seconds` and, without records, `negative_seconds` are cut."""

    __slots__ = ("_entries", "_limit", "_max_ttl_seconds", "_negative_seconds")

    def __init__(self, limit: int, max_ttl_seconds: float, negative_seconds: float) -> None:
        self._entries: dict[Question, _Entry] = {}
        self.change(limit, max_ttl_seconds, negative_seconds)

    def change(self, limit: int, max_ttl_seconds: float, negative_seconds: float) -> None:
        """Keep new answers so; those that are kept hold as long as they did."""
        self._limit = limit
        self._max_ttl_seconds = max_ttl_seconds
        self._negative_seconds = negative_seconds

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: Question, now: float) -> Answer | None:
        """A fresh answer, None when there is none."""
        entry = self._entries.get(question)
        if entry is None or entry.fresh_until <= now:
            return None
        return entry.answer

    def find_stale(self, question: Question, now: float) -> Answer | None:
        """An answer with records that ran out less than a day ago (or is fresh still), None when there is none."""
        entry = self._entries.get(question)
        if entry is None or entry.stale_until <= now:
            return None
        return entry.answer

    def keep(self, question: Question, answer: Answer, ttl: float, now: float) -> None:
        """Keep what the servers said; `ttl` is that of the records, or of the SOA when there are none."""
        longest = self._negative_seconds if answer.is_empty else self._max_ttl_seconds
        fresh_until = now + min(max(ttl, MIN_TTL_SECONDS), max(longest, MIN_TTL_SECONDS))
        stale_until = now if answer.is_empty else fresh_until + STALE_SECONDS
        self._put(question, _Entry(answer, fresh_until, stale_until))

    def keep_failure(self, question: Question, answer: Answer, now: float) -> Answer:
        """Keep a failure for a moment, or the stale answer that stands in for it; answers which."""
        entry = self._entries.get(question)
        if entry is not None and entry.stale_until > now:
            entry.fresh_until = max(entry.fresh_until, now + RECHECK_SECONDS)
            return entry.answer
        self._put(question, _Entry(answer, now + FAILURE_SECONDS, now))
        return answer

    def _put(self, question: Question, entry: _Entry) -> None:
        entries = self._entries
        entries.pop(question, None)
        if len(entries) >= self._limit:
            del entries[next(iter(entries))]
        entries[question] = entry
