"""Programs of the system that live tests talk to: in CI a missing one fails the test, elsewhere it skips it."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(*programs: str) -> None:
    """Skip the test, or fail it when the environment says `CI=true`, unless all these programs are on the path."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return
    give_up(f"not installed: {', '.join(missing)} (tests/live/packages.txt names the Debian packages)")


def give_up(reason: str) -> NoReturn:
    """Skip the test, or fail it when the environment says `CI=true`."""
    if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
