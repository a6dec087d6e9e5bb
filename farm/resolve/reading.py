"""From the rows of a DNS message to one answer: aliases followed, records of the right kind picked, all bounded.

Pure: the resolver turns Twisted's records into rows first. A zone may say anything, so each step has a limit: aliases
(a chain may be a ring), records of one answer (of SRV records, those with the lowest priority are kept).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from farm.resolve.records import Answer, Naptr, Question, Srv

MAX_ALIASES: Final = 8
MAX_RECORDS: Final = 100
MAX_ADDRESSES: Final = 32


class Row(NamedTuple):
    """One resource record: owner name, kind, TTL in seconds and what it says."""

    name: str
    kind: str
    ttl: float
    value: Naptr | Srv | str


class Reading(NamedTuple):
    """What a message says about a question: an answer and its TTL, or the name under which to ask again."""

    answer: Answer
    ttl: float
    alias: str = ""


def read_answer(question: Question, rows: Iterable[Row]) -> Reading:
    """The answer that the rows hold; without records of its own, `alias` is the end of the chain that they show.

    The TTL is the smallest on the way, infinite when the rows say nothing at all.
    """
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row.name, []).append(row)
    ttl = float("inf")
    name = question.name
    for _ in range(MAX_ALIASES):
        here = by_name.get(name, ())
        found = [row for row in here if row.kind == question.kind]
        if found:
            return Reading(_make_answer(found), min(ttl, *(row.ttl for row in found)))
        alias = next((row for row in here if row.kind == "CNAME"), None)
        if alias is None or not isinstance(alias.value, str):
            break
        ttl = min(ttl, alias.ttl)
        name = alias.value
    else:
        return Reading(Answer(failure="broken"), ttl)
    return Reading(Answer(), ttl, name if name != question.name else "")


def read_additional(question: Question, answer: Answer, rows: Iterable[Row]) -> list[tuple[Question, Reading]]:
    """Address records that a server sent along with SRV records, as answers to the questions that come next.

    Only those of the SRV targets, and only of targets within the domain that was asked about: a zone must not say
    where somebody else's hosts are.
    """
    if question.kind != "SRV":
        return []
    domain = question.name
    while domain.startswith("_"):
        domain = domain.partition(".")[2]
    targets = {srv.target for srv in answer.srvs if srv.target == domain or srv.target.endswith(f".{domain}")}
    grouped: dict[Question, list[Row]] = {}
    for row in rows:
        if row.kind in ("A", "AAAA") and row.name in targets:
            grouped.setdefault(Question(row.kind, row.name), []).append(row)
    return [(asked, Reading(_make_answer(found), min(row.ttl for row in found))) for asked, found in grouped.items()]


def _make_answer(rows: Sequence[Row]) -> Answer:
    values = [row.value for row in rows]
    srvs = sorted((value for value in values if isinstance(value, Srv)), key=lambda srv: srv.priority)
    return Answer(
        naptrs=tuple(value for value in values if isinstance(value, Naptr))[:MAX_RECORDS],
        srvs=tuple(srvs[:MAX_RECORDS]),
        addresses=tuple(value for value in values if isinstance(value, str))[:MAX_ADDRESSES],
    )
