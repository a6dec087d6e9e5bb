"""The key that collectors ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from farm.capture.key import MOST_KEY_BYTES, read_key
from farm.config import CaptureSettings, ConfigError


def test_a_key_is_one_line_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_key(CaptureSettings()) == b""
    path.write_text(" myHep \n")
    assert read_key(CaptureSettings(auth_key_file=str(path))) == b"myHep"
    for bad in ("", "\n", "a\nb", "x" * (MOST_KEY_BYTES + 1)):
        path.write_text(bad)
        with pytest.raises(ConfigError, match="a key is one line of 1 to 255 bytes"):
            read_key(CaptureSettings(auth_key_file=str(path)))


def test_a_key_that_cannot_be_read_is_said_with_its_setting() -> None:
    with pytest.raises(ConfigError) as error:
        read_key(CaptureSettings(auth_key_file="/no/where"))
    assert str(error.value) == "capture.auth_key_file: /no/where: No such file or directory"
