"""One process on one state directory, and nothing that a dead one leaves behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from farm.config import ConfigError
from farm.lock import StateLock


def test_a_second_process_is_refused_in_one_clear_line_until_the_first_has_ended(tmp_path: Path) -> None:
    first, second = StateLock(str(tmp_path)), StateLock(str(tmp_path))
    first.take()
    with pytest.raises(ConfigError) as caught:
        second.take()
    assert str(caught.value) == (
        f"node.state_dir: {tmp_path}: in use by another process: a node, or a command about its users"
    )
    first.release()
    second.take()
    second.release()
    second.release()


def test_the_lock_of_a_process_that_was_killed_is_gone_with_it(tmp_path: Path) -> None:
    script = f"import time; from farm.lock import StateLock; StateLock({str(tmp_path)!r}).take(); print(1, flush=True)"
    with subprocess.Popen([sys.executable, "-c", f"{script}; time.sleep(60)"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ConfigError):
            StateLock(str(tmp_path)).take()
        process.kill()
    lock = StateLock(str(tmp_path))
    lock.take()
    lock.release()


def test_the_directory_is_made_for_the_owner_alone(tmp_path: Path) -> None:
    lock = StateLock(str(tmp_path / "new" / "state"))
    before = os.umask(0)
    try:
        lock.take()
    finally:
        os.umask(before)
        lock.release()
    assert stat.S_IMODE((tmp_path / "new" / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "state" / "lock").stat().st_mode) == 0o600


def test_a_directory_that_is_a_file_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(OSError, match=r"state"):
        StateLock(str(tmp_path / "state")).take()
