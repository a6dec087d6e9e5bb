"""The limit of open files is raised as far as it goes, and what is lacking is said."""

from __future__ import annotations

import resource

import pytest

from farm.open_files import find_shortage, raise_limit


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits that were set; what holds before is 1024 of 4096."""
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changed.append(limits))
    return changed


def test_the_soft_limit_becomes_the_hard_one(limits: list[tuple[int, int]]) -> None:
    assert raise_limit() == 4096
    assert limits == [(4096, 4096)]


def test_a_system_that_refuses_leaves_it_as_it_is(
    limits: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == 1024


def test_too_few_files_for_the_connections_are_told_with_what_to_do() -> None:
    assert find_shortage(10_000, 65_536) == ""
    assert find_shortage(10_000, resource.RLIM_INFINITY) == ""
    assert find_shortage(10_000, 1024) == (
        "the process may open 1024 files, which is fewer than limits.connections = 10000 needs: "
        "raise it (LimitNOFILE=10064, ulimit -n 10064) or lower limits.connections"
    )
