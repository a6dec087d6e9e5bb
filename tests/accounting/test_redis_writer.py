"""The list in Redis: what is asked of it, and what becomes of a batch that got no answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from farm.accounting.redis_writer import Place, RedisWriter

PLACE = Place(("192.0.2.7", 6379), "calls", 3)


class Redis:
    """A server with one list; `answers` off, it takes commands and says nothing."""

    def __init__(self) -> None:
        self.list: list[bytes] = []
        self.asked: list[tuple[bytes, ...]] = []
        self.answers = True
        self.up = True
        self.open = 0

    def dial(self, host: str, port: int) -> Deferred[Any]:
        assert (host, port) == PLACE.address
        if not self.up:
            return fail(ConnectionRefusedError("refused"))
        self.open += 1
        return succeed(self)

    def ask(self, words: Sequence[bytes]) -> Deferred[Any]:
        self.asked.append(tuple(words))
        if words[0] == b"RPUSH":
            self.list.extend(words[2:])
        elif words[0] == b"LTRIM":
            self.list = self.list[int(words[2]) :]
        return succeed(len(self.list)) if self.answers else Deferred()

    def close(self) -> None:
        self.open -= 1


@pytest.fixture
def redis() -> Redis:
    return Redis()


def make(redis: Redis, clock: Clock | None = None, place: Place = PLACE) -> RedisWriter:
    return RedisWriter(place, redis.dial, clock or Clock(), 2.0)


def test_a_batch_is_appended_without_line_breaks_and_the_list_stays_short(redis: Redis) -> None:
    writer = make(redis)
    done: list[None] = []
    writer.write([b"1\n", b"2\n"]).addCallback(done.append)
    assert (redis.list, done) == ([b"1", b"2"], [None])
    assert [words[0] for words in redis.asked] == [b"RPUSH"]
    writer.write([b"3\n", b"4\n"])
    assert redis.list == [b"2", b"3", b"4"]
    assert redis.open == 1


def test_who_we_are_is_said_first(redis: Redis) -> None:
    make(redis, place=PLACE._replace(user="us", password=b"x", database=4)).write([b"1\n"])
    assert redis.asked[:2] == [(b"AUTH", b"us", b"x"), (b"SELECT", b"4")]
    redis.asked.clear()
    make(redis, place=PLACE._replace(password=b"x")).write([b"1\n"])
    assert redis.asked[0] == (b"AUTH", b"x")


def test_without_an_answer_the_connection_is_given_up_and_the_next_batch_has_another(redis: Redis) -> None:
    clock = Clock()
    writer = make(redis, clock)
    redis.answers = False
    failures: list[Any] = []
    writer.write([b"1\n"]).addErrback(failures.append)
    clock.advance(1.9)
    assert failures == []
    clock.advance(0.2)
    assert failures[0].check(defer.TimeoutError)
    assert redis.open == 0
    redis.answers = True
    writer.write([b"1\n"])
    assert redis.open == 1
    assert redis.list == [b"1", b"1"]  # rather twice than never
    writer.close()
    writer.close()
    assert redis.open == 0


def test_a_redis_that_is_away_fails_the_batch(redis: Redis) -> None:
    redis.up = False
    failures: list[Any] = []
    make(redis).write([b"1\n"]).addErrback(failures.append)
    assert failures[0].check(ConnectionRefusedError)
