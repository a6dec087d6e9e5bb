"""What is due is taken in order, a limited number of partitions at a time."""

from __future__ import annotations

from farm.overlay.errands import COPY, SYNC, URGENT, Errand, Errands

A, B = b"a" * 32, b"b" * 32


def make(*added: Errand) -> Errands:
    errands = Errands()
    for errand in added:
        errands.add(errand)
    return errands


def test_nothing_is_due_before_its_time() -> None:
    errands = make(Errand(10.0, COPY, [1], A))
    assert errands.next_at == 10.0
    assert list(errands.take(9.9, 100)) == []
    assert list(errands.take(10.0, 100)) == [Errand(10.0, COPY, [1], A)]
    assert errands.next_at == float("inf")
    assert list(errands.take(99.0, 100)) == []


def test_the_first_due_come_first_and_those_of_one_time_in_the_order_they_were_added() -> None:
    late = Errand(3.0, URGENT, [1], A)
    one, two = Errand(2.0, SYNC, [2], B), Errand(2.0, SYNC, [2], A)
    assert list(make(late, one, two).take(5.0, 100)) == [one, two, late]


def test_a_large_one_is_taken_in_parts_and_nothing_of_it_twice() -> None:
    errands = make(Errand(1.0, COPY, range(10), A), Errand(1.0, COPY, [70, 71], B))
    assert list(errands.take(1.0, 4)) == [Errand(1.0, COPY, range(4), A)]
    assert errands.next_at == 1.0
    assert list(errands.take(1.0, 7)) == [Errand(1.0, COPY, range(4, 10), A), Errand(1.0, COPY, [70], B)]
    assert list(errands.take(1.0, 7)) == [Errand(1.0, COPY, [71], B)]
    assert list(errands.take(1.0, 7)) == []
