"""What every scenario begins with, and what must hold when it has ended: nothing is left, nothing failed unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.farms import Farm


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes, one network with one clock."""
    made = Farm(tmp_path)
    yield made
    made.close()
    made.check_end()
