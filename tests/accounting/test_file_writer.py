"""The file: appended whole, rotated, opened anew, and never with half a line in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from farm.accounting.file_writer import FileWriter

ROOT = Path(__file__).parents[2]


def make(path: Path, rotate_bytes: int = 0, keep: int = 2) -> FileWriter:
    return FileWriter(str(path / "calls"), rotate_bytes=rotate_bytes, keep=keep)


def contents(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in sorted(path.iterdir())}


def test_lines_are_appended_to_what_is_there_and_others_may_not_read_them(tmp_path: Path) -> None:
    writer = make(tmp_path / "new" / "folder")
    writer.write([b"1\n", b"2\n"])
    writer.close()
    make(tmp_path / "new" / "folder").write([b"3\n"])
    assert contents(tmp_path / "new" / "folder") == {"calls": "1\n2\n3\n"}
    assert (tmp_path / "new" / "folder" / "calls").stat().st_mode & 0o007 == 0


def test_a_line_that_a_crash_has_torn_is_ended(tmp_path: Path) -> None:
    (tmp_path / "calls").write_bytes(b'1\n{"event":"en')
    make(tmp_path).write([b"2\n"])
    assert contents(tmp_path) == {"calls": '1\n{"event":"en\n2\n'}


def test_at_its_size_the_file_moves_on_and_the_oldest_goes(tmp_path: Path) -> None:
    writer = make(tmp_path, rotate_bytes=4, keep=2)
    for line in (b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"7\n"):
        writer.write([line])
    assert contents(tmp_path) == {"calls": "7\n", "calls.1": "5\n6\n", "calls.2": "3\n4\n"}


def test_a_batch_larger_than_the_file_may_be_is_not_cut(tmp_path: Path) -> None:
    writer = make(tmp_path, rotate_bytes=4, keep=1)
    writer.write([b"1111\n", b"2222\n"])
    writer.write([b"3\n"])
    assert contents(tmp_path) == {"calls": "3\n", "calls.1": "1111\n2222\n"}


def test_with_nothing_to_keep_a_full_file_goes(tmp_path: Path) -> None:
    writer = make(tmp_path, rotate_bytes=2, keep=0)
    writer.write([b"1\n"])
    writer.write([b"2\n"])
    assert contents(tmp_path) == {"calls": "2\n"}


def test_a_file_that_was_moved_is_written_until_somebody_says_so(tmp_path: Path) -> None:
    writer = make(tmp_path)
    writer.write([b"1\n"])
    (tmp_path / "calls").rename(tmp_path / "moved")
    writer.write([b"2\n"])
    writer.ask_reopen()
    writer.write([b"3\n"])
    assert contents(tmp_path) == {"calls": "3\n", "moved": "1\n2\n"}


@pytest.mark.parametrize("broken", ["write", "fsync"])
def test_what_a_full_disk_took_is_cut_off_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    writer = make(tmp_path)
    writer.write([b"1\n"])
    real = os.write

    def write_half(file: int, data: Any) -> int:
        if len(data) < 4:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) // 2])

    def fail(_file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, broken, write_half if broken == "write" else fail)
        with pytest.raises(OSError, match=r"No space|Input/output"):
            writer.write([b"22222\n", b"33333\n"])
    assert contents(tmp_path) == {"calls": "1\n"}
    writer.write([b"22222\n", b"33333\n"])
    assert contents(tmp_path) == {"calls": "1\n22222\n33333\n"}


def test_a_place_that_cannot_be_written_is_tried_again_by_the_next_batch(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("no folder")
    writer = make(tmp_path / "folder")
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        writer.write([b"1\n"])
    (tmp_path / "folder").unlink()
    writer.write([b"1\n"])
    assert contents(tmp_path / "folder") == {"calls": "1\n"}


@pytest.mark.parametrize("what", ["fifo", "device", "folder"])
def test_what_is_no_file_is_said_so_and_nothing_hangs(tmp_path: Path, what: str) -> None:
    path = tmp_path / "calls"
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"no regular file|Is a directory"):
        make(tmp_path).write([b"1\n"])


def test_two_nodes_with_one_file_do_not_write_into_each_other_s_lines(tmp_path: Path) -> None:
    program = (
        "import sys; from farm.accounting.file_writer import FileWriter; "
        "FileWriter(sys.argv[1], rotate_bytes=0, keep=0).write([b'1\\n']); print(flush=True); sys.stdin.read()"
    )
    writer = make(tmp_path)
    with Popen([sys.executable, "-c", program, writer.path], stdin=PIPE, stdout=PIPE, cwd=ROOT) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == b"\n"
        with pytest.raises(OSError, match="another process writes to it"):
            writer.write([b"2\n"])
        first.stdin.close()
    writer.write([b"2\n"])
    assert contents(tmp_path) == {"calls": "1\n2\n"}


def test_a_file_that_somebody_removed_is_made_anew(tmp_path: Path) -> None:
    writer = make(tmp_path)
    writer.write([b"1\n"])
    (tmp_path / "calls").unlink()
    writer.write([b"2\n"])
    assert contents(tmp_path) == {"calls": "2\n"}


def test_a_file_that_cannot_be_moved_costs_none_of_those_that_were_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been made append-only (`chattr +a`), say."""
    writer = make(tmp_path, rotate_bytes=2, keep=3)
    for line in (b"1\n", b"2\n", b"3\n"):
        writer.write([line])
    real = os.replace

    def refuse(source: str, target: str) -> None:
        if source.endswith("calls"):
            raise OSError(1, "Operation not permitted")
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        for _ in range(5):
            with pytest.raises(OSError, match="not permitted"):
                writer.write([b"4\n"])
    assert contents(tmp_path) == {"calls": "3\n", "calls.2": "2\n", "calls.3": "1\n"}
    writer.write([b"4\n"])
    assert contents(tmp_path) == {"calls": "4\n", "calls.1": "3\n", "calls.2": "2\n", "calls.3": "1\n"}
