"""The journal file: what is written is there after a restart, a power loss, a full disk, a corrupt file."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from farm.overlay.journal import Batch, Journal, JournalError, Opened
from farm.overlay.store import Row


def rows(*names: str, value: bytes = b"1") -> list[Row]:
    return [Row("toy", name.encode(), value) for name in names]


def contents(path: Path) -> dict[bytes, bytes]:
    journal = Journal(str(path))
    journal.open()
    found = {kept.row.key: kept.row.record for kept in journal.replay()}
    journal.close()
    return found


def test_what_was_written_is_read_back_with_its_times(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    assert journal.open() == Opened()
    assert journal.write(Batch(rows("a", "b"), 5.0, 1000.0))
    journal.close()
    again = Journal(str(path))
    again.open()
    assert [(kept.row.key, kept.mono, kept.wall) for kept in again.replay()] == [
        (b"b", 5.0, 1000.0),
        (b"a", 5.0, 1000.0),
    ]
    again.close()


def test_only_the_latest_record_of_a_key_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(rows("a", "b", value=b"1"), 1.0, 1.0))
    journal.write(Batch(rows("a", value=b"2"), 2.0, 2.0))
    journal.close()
    assert contents(path) == {b"a": b"2", b"b": b"1"}


def test_a_large_batch_is_cut_into_chunks_in_one_commit(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    assert journal.count() == 0
    journal.write(Batch(rows(*[str(number) for number in range(600)]), 1.0, 1.0))
    assert journal.count() == 3 * 256
    journal.close()
    assert len(contents(path)) == 600


def test_a_power_loss_keeps_every_finished_batch(tmp_path: Path) -> None:
    """The files are copied while the journal is open, as a disk looks when the power fails."""
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    for number in range(50):
        journal.write(Batch(rows(str(number)), 1.0, 1.0))
        lost = tmp_path / f"copy-{number}"
        lost.mkdir()
        for name in os.listdir(tmp_path):
            if name.startswith("journal.db"):
                shutil.copy(tmp_path / name, lost / name)
        assert len(contents(lost / "journal.db")) == number + 1
    journal.close()


def test_a_power_loss_within_a_commit_keeps_the_batches_before_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(rows("a"), 1.0, 1.0))
    first = os.path.getsize(f"{path}-wal")
    journal.write(Batch(rows("b", "c"), 1.0, 1.0))
    whole = os.path.getsize(f"{path}-wal")
    for number, cut in enumerate(range(first, whole, 501)):
        lost = tmp_path / f"copy-{number}"
        lost.mkdir()
        shutil.copy(path, lost / "journal.db")
        with open(f"{path}-wal", "rb") as source, open(lost / "journal.db-wal", "wb") as target:
            target.write(source.read(cut))
        assert contents(lost / "journal.db") == {b"a": b"1"}
    journal.close()


def test_a_full_disk_is_an_error_with_a_reason_and_writing_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path), most_pages=6)
    journal.open()
    journal.write(Batch(rows("a"), 1.0, 1.0))
    with pytest.raises(JournalError) as caught:
        journal.write(Batch(rows("b", value=b"x" * 40_000), 1.0, 1.0))
    assert caught.value.reason == "full"
    assert str(path) in str(caught.value)
    journal.most_pages = 0
    assert journal.write(Batch(rows("b", value=b"x" * 40_000), 1.0, 1.0))
    journal.close()
    assert set(contents(path)) == {b"a", b"b"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalError) as caught:
        Journal(str(tmp_path / "missing" / "journal.db")).open()
    assert caught.value.reason == "unreachable"


def test_a_second_node_on_the_same_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(rows("a"), 1.0, 1.0))
    with pytest.raises(JournalError) as caught:
        Journal(str(path)).open()
    assert caught.value.reason == "locked"
    journal.close()
    assert contents(path) == {b"a": b"1"}


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(JournalError) as caught:
        Journal(str(path)).open()
    assert caught.value.reason == "newer"
    assert "later version" in str(caught.value)


def test_garbage_instead_of_a_journal_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"this is not a database" * 500)
    journal = Journal(str(path))
    opened = journal.open()
    assert opened == Opened(f"{path}.corrupt-1", 0)
    assert (tmp_path / "journal.db.corrupt-1").read_bytes().startswith(b"this is not")
    journal.write(Batch(rows("a"), 1.0, 1.0))
    journal.close()
    assert contents(path) == {b"a": b"1"}


def test_of_a_damaged_journal_the_sound_chunks_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    for number in range(20):
        journal.write(Batch(rows(str(number), value=bytes([number]) * 9000), 1.0, 1.0))
    journal.close()
    data = bytearray(path.read_bytes())
    start = data.index(b"\x07" * 4000)
    page = start // 4096
    data[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
    path.write_bytes(data)
    again = Journal(str(path))
    opened = again.open()
    found = {kept.row.key for kept in again.replay()}
    again.close()
    if opened.moved_aside:
        assert opened.salvaged == len(found)
    assert 15 <= len(found) <= 19
    assert b"7" not in found


def test_a_chunk_that_does_not_match_its_checksum_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(rows("a"), 1.0, 1.0))
    journal.write(Batch(rows("b"), 1.0, 1.0))
    journal.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE log SET crc = crc + 1 WHERE seq = 2")
    database.close()
    assert contents(path) == {b"a": b"1"}


def test_a_journal_that_is_deleted_under_us_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    journal.write(Batch(rows("a"), 1.0, 1.0))
    path.unlink()
    assert not journal.write(Batch(rows("b"), 1.0, 1.0))
    journal.close()
    assert contents(path) == {b"b": b"1"}


def test_a_complete_round_lets_the_rounds_before_it_go(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.open()
    for _ in range(5):
        journal.write(Batch(rows("a", "b"), 1.0, 1.0))
    journal.write(Batch(rows("a"), 1.0, 1.0, begins_round=True))
    journal.close()
    journal.open()
    assert journal.count() == 6 * 256
    journal.write(Batch(rows("b"), 1.0, 1.0, ends_round=True))
    assert journal.count() == 2 * 256
    journal.close()
    assert set(contents(path)) == {b"a", b"b"}
