"""Majorities: any set of owners that answered a read has met any set that acknowledged a write."""

from __future__ import annotations

from itertools import combinations

import pytest

from farm.overlay.quorum import read_quorum, write_quorum


@pytest.mark.parametrize(("owners", "write", "read"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (4, 3, 2), (5, 3, 3)])
def test_the_figures_that_operators_reckon_with(owners: int, write: int, read: int) -> None:
    assert (write_quorum(owners), read_quorum(owners)) == (write, read)


@pytest.mark.parametrize("owners", range(1, 8))
def test_every_read_meets_every_write(owners: int) -> None:
    for written in combinations(range(owners), write_quorum(owners)):
        for asked in combinations(range(owners), read_quorum(owners)):
            assert set(written) & set(asked)
