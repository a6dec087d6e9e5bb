"""The side that is asked: digests of partitions and groups, key lists in pages, records in portions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from farm.metrics import Metrics
from farm.overlay.antientropy import Answers, Intake, Traffic, group_digest, make_round
from farm.overlay.budget import Budget
from farm.overlay.ids import PARTITIONS, key_hash, partition_of
from farm.overlay.store import Store
from farm.overlay.wire import Digest, Digested, Error, KeyList, Keys, Ping, Pull, Pulled, Push, Pushed, Row
from farm.security.credentials import KIND, CredentialKind, make_credential, pack_credential
from tests.support.counts import read

NODE = b"n" * 32
RECORD = pack_credential(make_credential("alice", "example.com", "secret", (7, 1)))


class View:
    """Shares the first three partitions of each group with everybody; has settled the even ones."""

    def __init__(self) -> None:
        self.equal: list[int] = []
        self.heard: list[bytes] = []

    def shared_group(self, node: bytes, group: int, now: float) -> list[int]:
        return [group * 64, group * 64 + 1, group * 64 + 2]

    def is_settled(self, partition: int) -> bool:
        return partition % 2 == 0

    def found_equal(self, partitions: Sequence[int], node: bytes, now: float) -> None:
        self.equal += partitions

    def heard_of(self, node: bytes, now: float) -> None:
        self.heard.append(node)


class Desk:
    def __init__(self, rate: float = 1e9) -> None:
        self.metrics = Metrics()
        self.store = Store([CredentialKind()])
        self.store.track()
        self.view = View()
        traffic = Traffic(Budget(rate), self.metrics)
        intake = Intake(self.store, traffic, lambda stamp: stamp < 1000)
        self.answers = Answers(self.store, intake, traffic, self.view)

    def ask(self, message: object) -> object:
        return self.answers.answer(NODE, message, 0.0, 0.0)

    def put(self, *keys: bytes) -> None:
        for key in keys:
            self.store.put(KIND, key, RECORD, 0.0)


def test_partitions_that_differ_are_named_with_their_count_and_equal_ones_are_noted() -> None:
    desk = Desk()
    desk.put(b"alice")
    partition = partition_of(b"alice")
    other = partition - 2
    answer = desk.ask(Digest(1, [(partition, bytes(16)), (other, bytes(16))]))
    assert answer == Digested(1, [(partition, 1)], [number for number in (partition, other) if number % 2 == 0])
    assert desk.view.equal == [other]
    assert desk.view.heard == [NODE]
    assert desk.ask(Digest(2, [(partition, desk.store.digest(partition))])) == Digested(
        2, [], [partition] if partition % 2 == 0 else []
    )
    assert desk.view.equal == [other, partition]


def test_a_group_is_equal_as_a_whole_or_not_at_all() -> None:
    desk = Desk()
    mine = group_digest(desk.store, [128, 129, 130])
    assert desk.ask(Digest(1, [(PARTITIONS + 2, mine)])) == Digested(1, [], [])
    assert desk.view.equal == [128, 129, 130]
    less = group_digest(desk.store, [128, 129])  # the other thinks that we share less
    assert desk.ask(Digest(2, [(PARTITIONS + 2, less)])) == Digested(2, [(PARTITIONS + 2, 0)], [])
    assert desk.view.equal == [128, 129, 130]


def test_a_round_asks_for_groups_where_much_is_shared_and_for_partitions_where_little_is() -> None:
    store = Desk().store
    ((digests, groups),) = make_round(store, [3, 5, 64, 65, 66, 67])
    assert digests == [
        (3, bytes(16)),
        (5, bytes(16)),
        (PARTITIONS + 1, group_digest(store, [64, 65, 66, 67])),
    ]
    assert groups == {PARTITIONS + 1: [64, 65, 66, 67]}
    whole = list(make_round(store, range(PARTITIONS)))
    assert [len(part) for part, _ in whole] == [16] * 4


def test_key_lists_come_in_order_and_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.overlay.antientropy._KEYS", 2)
    desk = Desk()
    partition = partition_of(b"0")
    keys = [key for number in range(40_000) if partition_of(key := b"%d" % number) == partition][:5]
    desk.put(*keys)
    hashes = sorted(key_hash(KIND, key) for key in keys)
    after = b""
    pages: list[list[bytes]] = []
    for more in (True, True, False):
        answer = desk.ask(Keys(1, partition, after))
        assert isinstance(answer, KeyList)
        assert answer.more is more
        pages.append([hashed for hashed, _ in answer.keys])
        after = pages[-1][-1]
    assert pages == [hashes[:2], hashes[2:4], hashes[4:]]


def test_records_are_given_by_name_or_all_and_what_is_gone_is_left_out() -> None:
    desk = Desk()
    desk.put(b"alice")
    partition = partition_of(b"alice")
    row = Row(KIND, b"alice", RECORD)
    hashed = key_hash(KIND, b"alice")
    assert desk.ask(Pull(1, partition, [b"gone", hashed])) == Pulled(1, [row], False, hashed)
    assert desk.ask(Pull(2, partition)) == Pulled(2, [row], False, hashed)
    assert desk.ask(Pull(3, partition, (), hashed)) == Pulled(3, [])
    assert read(desk.metrics.repair_records.child("out")) == 2
    assert read(desk.metrics.repair_bytes.child("out")) == 2 * (5 + len(RECORD))


def test_what_is_pushed_is_merged_and_what_is_broken_or_unbelievable_is_refused() -> None:
    desk = Desk()
    late = pack_credential(make_credential("alice", "example.com", "secret", (1000, 1)))
    rows = [Row(KIND, b"alice", RECORD), Row(KIND, b"bob", b"\xff"), Row(KIND, b"carol", late), Row("no", b"k", RECORD)]
    rows += [Row(KIND, b"", RECORD), Row(KIND, b"k" * 2049, RECORD)]
    assert desk.ask(Push(1, rows)) == Pushed(1, 5)
    assert desk.store.keys(KIND) == [b"alice"]
    assert read(desk.metrics.peer_rejections.child("bad-record")) == 1
    assert read(desk.metrics.peer_rejections.child("clock")) == 1
    assert read(desk.metrics.repair_records.child("in")) == 6


def test_who_pulls_too_much_is_put_off() -> None:
    desk = Desk(rate=100.0)
    desk.put(b"alice")
    assert isinstance(desk.ask(Pull(1, partition_of(b"alice"))), Pulled)
    assert desk.ask(Pull(2, partition_of(b"alice"))) == Error(2, "busy")


def test_another_question_is_none_of_ours() -> None:
    assert Desk().ask(Ping(3)) == Error(3, "unsupported")
    assert Desk().ask(Digest(3, [(0, b"")] * 5000)) == Error(3, "bad-request")
