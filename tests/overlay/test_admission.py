"""Who may begin a handshake with this node."""

from __future__ import annotations

from farm.overlay.admission import (
    SOURCE_BURST,
    SOURCE_PER_SECOND,
    STRANGERS_BURST,
    STRANGERS_PER_SECOND,
    Admission,
)


def count(admission: Admission, hosts: list[str], now: float) -> int:
    return sum(admission.admit(host, now) for host in hosts)


def test_one_address_gets_so_many_at_once_and_then_so_many_a_second() -> None:
    admission = Admission()
    assert count(admission, ["192.0.2.1"] * 5000, 100.0) == SOURCE_BURST
    assert count(admission, ["192.0.2.1"] * 5000, 110.0) == 10 * SOURCE_PER_SECOND
    assert admission.admit("192.0.2.2", 110.0)


def test_all_strangers_together_get_so_many_however_many_they_are() -> None:
    admission = Admission()
    assert (
        count(admission, [f"10.0.{number // 256}.{number % 256}" for number in range(9000)], 100.0) == STRANGERS_BURST
    )
    assert count(admission, [f"10.1.0.{number % 256}" for number in range(9000)], 105.0) == 5 * STRANGERS_PER_SECOND


def test_a_node_that_was_here_before_comes_back_through_a_flood() -> None:
    admission = Admission()
    admission.note_node("192.0.2.1")
    count(admission, [f"10.0.{number // 256}.{number % 256}" for number in range(9000)], 100.0)
    assert not admission.admit("192.0.2.2", 100.0)
    assert admission.admit("192.0.2.1", 100.0)
    assert count(admission, ["192.0.2.1"] * 5000, 100.0) == SOURCE_BURST - 1


def test_five_hundred_nodes_that_start_at_once_are_let_in_twice_each_from_one_machine_once() -> None:
    hosts = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(500)]
    assert count(Admission(), hosts * 2, 100.0) == 1000
    assert count(Admission(), ["192.0.2.1"] * 500, 100.0) == 500


def test_the_nodes_that_are_remembered_are_bounded() -> None:
    admission = Admission()
    for number in range(6000):
        admission.note_node(f"10.0.{number // 256}.{number % 256}")
    assert len(admission._known) == 4096
    assert "10.0.0.0" not in admission._known
