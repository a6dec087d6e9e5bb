"""What operators see of a node that nobody has configured."""

from __future__ import annotations

import msgspec
import pytest

from farm.watch_settings import AdminSettings, LogSettings


def test_the_pages_are_for_this_machine_alone_until_somebody_opens_them() -> None:
    assert AdminSettings().http.startswith("127.0.0.1:")


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"level": "loud"}, LogSettings)
