"""Fixtures of the live tests: loopback hosts of their own, and nodes that end with the test, their logs shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_farm import LiveFarm
from tests.support.loopback import reserve_addresses
from tests.support.nodes import Nodes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test below this directory is a live one: `-m "not live"` leaves them out."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture
def hosts() -> Iterator[Callable[[int], list[str]]]:
    """Reserve that many loopback addresses until the test ends; each is a host with all ports free."""
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(reserve_addresses(count))


@pytest.fixture
def nodes(tmp_path: Path, hosts: Callable[[int], list[str]]) -> Iterator[Nodes]:
    """Start nodes by `nodes.start(...)`; at the end all are stopped, and none may have logged an exception."""
    started = Nodes(tmp_path, lambda: hosts(1)[0])
    try:
        yield started
    finally:
        complaints = started.stop()
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def make_farm(nodes: Nodes, hosts: Callable[[int], list[str]], tmp_path: Path) -> Iterator[Callable[..., LiveFarm]]:
    """Make a farm of three nodes, or of that many; at the end none that runs may have met an unexpected error."""
    made: list[LiveFarm] = []

    def make(size: int = 3, **options: Any) -> LiveFarm:
        made.append(LiveFarm(nodes, hosts(size), tmp_path, **options))
        return made[-1]

    try:
        yield make
        for farm in made:
            farm.check()
    finally:
        for farm in made:
            farm.stop_all()
