"""Files appear whole, with the mode that was asked for, and changes wait for each other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from farm.security.durable import locked, read_file, write_file
from tests.support.tools import give_up


@pytest.mark.parametrize(("mode", "umask"), [(0o600, 0o000), (0o644, 0o077), (0o600, 0o777)])
def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_file(str(tmp_path / "a"), b"content", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == mode
    assert (tmp_path / "a").read_bytes() == b"content"


def test_a_file_takes_the_place_of_the_old_one_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o666)
    with path.open("rb") as reader:
        write_file(str(path), b"new", 0o600)
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_an_interrupted_write_left_is_in_nobody_s_way(tmp_path: Path) -> None:
    (tmp_path / "a.new").write_bytes(b"half")
    write_file(str(tmp_path / "a"), b"whole", 0o600)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"whole"}


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(str(tmp_path / "a"), b"new", 0o600)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_the_content_is_on_the_disk_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(descriptor: int) -> None:
        done.append("fsync")
        fsync(descriptor)

    def note_rename(source: str, target: str) -> None:
        done.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    write_file(str(tmp_path / "a"), b"new", 0o600)
    assert done == ["fsync", "rename", "fsync"]


def test_what_root_writes_is_its_directory_s_owner_s(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        give_up("only root may give files away")
    os.chown(tmp_path, 1234, 4321)
    write_file(str(tmp_path / "a"), b"", 0o600)
    status = (tmp_path / "a").stat()
    assert (status.st_uid, status.st_gid) == (1234, 4321)


def test_a_missing_file_is_none(tmp_path: Path) -> None:
    assert read_file(str(tmp_path / "a")) is None


def test_two_changes_do_not_overlap(tmp_path: Path) -> None:
    order: list[str] = []

    def change() -> None:
        with locked(str(tmp_path)):
            order.append("second")

    with locked(str(tmp_path)):
        other = threading.Thread(target=change)
        other.start()
        other.join(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_the_lock_is_free_after_a_change_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), locked(str(tmp_path)):
        raise ValueError("x")
    with locked(str(tmp_path)):
        pass
