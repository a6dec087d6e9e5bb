"""Which final answer the caller hears (RFC 3261 §16.7 steps 6 and 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.proxy.best import find_best, finish_best
from farm.sip.message import Response
from tests.support.messages import make_reply

FINALS = [300, 302, 400, 401, 403, 404, 407, 408, 415, 420, 480, 482, 484, 486, 487, 500, 503, 504, 600, 603, 604]


def best(*statuses: int) -> int:
    found = find_best([make_reply(status) for status in statuses])
    assert found is not None
    return found.status


def test_of_nothing_there_is_no_best() -> None:
    assert find_best([]) is None


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((486, 603), 603),  # any 6xx
        ((302, 600), 600),
        ((503, 404), 404),  # the lowest class
        ((404, 302), 302),
        ((500, 486, 300), 300),
        ((404, 401), 401),  # what says how to ask again
        ((486, 407), 407),
        ((404, 484), 484),
        ((404, 420), 420),
        ((480, 486), 486),  # a person's decision before a machine's
        ((408, 480), 480),  # silence tells the least
        ((487, 404), 404),  # as does what we cancelled ourselves
        ((408, 487), 487),
        ((503, 500), 500),
        ((503, 504), 504),
    ],
)
def test_the_answer_that_tells_the_caller_most_wins(statuses: tuple[int, ...], expected: int) -> None:
    assert best(*statuses) == best(*reversed(statuses)) == expected


@given(st.lists(st.sampled_from(FINALS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_best_does_not_depend_on_the_order_of_arrival(statuses: list[int], rng: object) -> None:
    shuffled = list(statuses)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert best(*statuses) == best(*shuffled)


@given(st.lists(st.sampled_from(FINALS), min_size=1, max_size=6))
def test_any_6xx_wins_and_otherwise_the_lowest_class(statuses: list[int]) -> None:
    found = best(*statuses)
    if any(status >= 600 for status in statuses):
        assert found >= 600
    else:
        assert found // 100 == min(status // 100 for status in statuses)


def challenge(status: int, name: str, realm: str) -> Response:
    return make_reply(status, headers=[f'{name}: Digest realm="{realm}"'])


def test_the_challenges_of_all_branches_are_gathered() -> None:
    """§16.7 step 7: without all of them the caller could answer one and fail at the next."""
    responses = [
        challenge(407, "Proxy-Authenticate", "one"),
        challenge(401, "WWW-Authenticate", "two"),
        challenge(407, "Proxy-Authenticate", "one"),
        challenge(401, "WWW-Authenticate", "three"),
        challenge(403, "WWW-Authenticate", "not a challenge"),
    ]
    found = find_best(responses)
    assert found is not None
    finished = finish_best(found, responses)
    assert finished.status == 401
    assert finished.all("www-authenticate") == ['Digest realm="two"', 'Digest realm="three"']
    assert finished.all("proxy-authenticate") == ['Digest realm="one"']


def test_challenges_are_gathered_only_into_a_challenge() -> None:
    responses = [make_reply(302), challenge(401, "WWW-Authenticate", "one")]
    assert finish_best(responses[0], responses).all("www-authenticate") == []


def test_a_503_turns_into_a_500_without_its_retry_after() -> None:
    """§16.7 step 6: it is that server's trouble, and would turn the caller away from us."""
    response = make_reply(503, "Service Unavailable", headers=["Retry-After: 300", "Warning: 399 a b"])
    finished = finish_best(response, [response])
    assert finished.first_line == "SIP/2.0 500 Server Internal Error"
    assert finished.find("retry-after") is None
    assert finished.find("warning") == "399 a b"


def test_any_other_answer_goes_up_as_it_came() -> None:
    response = make_reply(486, "Busy Here", headers=["Retry-After: 300"])
    before = response.write()
    assert finish_best(response, [response, make_reply(404)]).write() == before
