"""How long answers hold, and what stands in when nobody can be asked."""

from __future__ import annotations

from farm.resolve.cache import FAILURE_SECONDS, RECHECK_SECONDS, STALE_SECONDS, AnswerCache
from farm.resolve.records import Answer, Question

ASKED = Question("A", "proxy.example.com")
FOUND = Answer(addresses=("192.0.2.1",))
TIMEOUT = Answer(failure="timeout")


def make_cache(limit: int = 100) -> AnswerCache:
    return AnswerCache(limit, max_ttl_seconds=3600.0, negative_seconds=30.0)


def test_an_answer_holds_as_long_as_its_ttl_says() -> None:
    cache = make_cache()
    cache.keep(ASKED, FOUND, 300.0, 1000.0)
    assert cache.find(ASKED, 1299.9) == FOUND
    assert cache.find(ASKED, 1300.0) is None


def test_a_ttl_of_years_is_cut_and_a_ttl_of_zero_holds_a_second() -> None:
    cache = make_cache()
    cache.keep(ASKED, FOUND, 1e9, 1000.0)
    assert cache.find(ASKED, 4599.0) == FOUND
    assert cache.find(ASKED, 4600.0) is None
    cache.keep(ASKED, FOUND, 0.0, 5000.0)
    assert cache.find(ASKED, 5000.5) == FOUND
    assert cache.find(ASKED, 5001.0) is None


def test_no_such_record_is_believed_for_a_shorter_time_and_never_when_stale() -> None:
    cache = make_cache()
    cache.keep(ASKED, Answer(), 86400.0, 1000.0)
    assert cache.find(ASKED, 1029.0) == Answer()
    assert cache.find(ASKED, 1030.0) is None
    assert cache.find_stale(ASKED, 1030.0) is None


def test_an_answer_that_ran_out_stands_in_for_a_day() -> None:
    cache = make_cache()
    cache.keep(ASKED, FOUND, 300.0, 1000.0)
    assert cache.find_stale(ASKED, 1300.0 + STALE_SECONDS - 1) == FOUND
    assert cache.find_stale(ASKED, 1300.0 + STALE_SECONDS) is None


def test_when_asking_fails_the_stale_answer_is_used_and_asked_for_again_later() -> None:
    cache = make_cache()
    cache.keep(ASKED, FOUND, 300.0, 1000.0)
    assert cache.keep_failure(ASKED, TIMEOUT, 2000.0) == FOUND
    assert cache.find(ASKED, 2000.0 + RECHECK_SECONDS - 1) == FOUND
    assert cache.find(ASKED, 2000.0 + RECHECK_SECONDS) is None


def test_a_failure_without_a_stale_answer_is_believed_for_a_moment() -> None:
    cache = make_cache()
    assert cache.keep_failure(ASKED, TIMEOUT, 1000.0) == TIMEOUT
    assert cache.find(ASKED, 1000.0 + FAILURE_SECONDS - 0.1) == TIMEOUT
    assert cache.find(ASKED, 1000.0 + FAILURE_SECONDS) is None
    assert cache.find_stale(ASKED, 1000.1) is None


def test_the_cache_is_bounded_and_the_oldest_goes() -> None:
    cache = make_cache(limit=10)
    for index in range(1000):
        cache.keep(Question("A", f"h{index}.example"), FOUND, 300.0, 1000.0 + index)
    assert len(cache) == 10
    assert cache.find(Question("A", "h999.example"), 1999.0) == FOUND
    assert cache.find(Question("A", "h989.example"), 1999.0) is None


def test_an_answer_written_again_is_young_again() -> None:
    cache = make_cache(limit=2)
    other, third = Question("A", "b.example"), Question("A", "c.example")
    cache.keep(ASKED, FOUND, 300.0, 1000.0)
    cache.keep(other, FOUND, 300.0, 1000.0)
    cache.keep(ASKED, FOUND, 300.0, 1001.0)
    cache.keep(third, FOUND, 300.0, 1002.0)
    assert cache.find(ASKED, 1003.0) == FOUND
    assert cache.find(other, 1003.0) is None
