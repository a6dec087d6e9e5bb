"""Which of the final responses goes up (RFC 3261 §16.7 steps 6 and 7).

Any 6xx wins; otherwise the lowest class present, and within it the response that tells the caller most. The rules do
not depend on the order of arrival. A 503 is not passed on, since it would turn the caller away from us and not from
the element that sent it: it becomes a 500. The challenges of all branches are gathered into a 401 or 407.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from farm.sip.message import Header, Response
from farm.sip.status import phrase_of

# Those that say how to ask again (§16.7 step 6), then what a person decided, then the rest; 487 and 408 tell the least:
# they are what a branch says that we cancelled ourselves, or that never spoke.
_TELLING: Final = {401: 0, 407: 0, 415: 1, 420: 1, 484: 1, 486: 2, 603: 2, 487: 8, 408: 9, 503: 9}
_ORDINARY: Final = 5
_CHALLENGES: Final = frozenset(("www-authenticate", "proxy-authenticate"))


def find_best(responses: Sequence[Response]) -> Response | None:
    """The best of the final responses, None of none. Equal ones are ordered by status, so that arrival is no matter."""
    if not responses:
        return None
    return min(responses, key=_rank)


def _rank(response: Response) -> tuple[int, int, int]:
    status = response.status
    kind = 0 if status >= 600 else status // 100
    return (kind, _TELLING.get(status, _ORDINARY), status)


def finish_best(best: Response, responses: Sequence[Response]) -> Response:
    """`best` as it goes up: a 503 turned into a 500, all challenges gathered into a 401 or 407."""
    if best.status == 503:
        best.status = 500
        best.phrase = phrase_of(500)
        best.headers = [header for header in best.headers if header[0] != "retry-after"]
    elif best.status in (401, 407):
        mine = {header[2] for header in best.headers}
        best.headers.extend(_challenges(responses, best, mine))
    return best


def _challenges(responses: Sequence[Response], best: Response, mine: set[str]) -> list[Header]:
    gathered: list[Header] = []
    for response in responses:
        if response is best or response.status not in (401, 407):
            continue
        for header in response.headers:
            if header[0] in _CHALLENGES and header[2] not in mine:
                mine.add(header[2])
                gathered.append(header)
    return gathered
