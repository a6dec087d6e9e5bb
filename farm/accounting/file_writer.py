"""The file of call records: batches appended whole, rotated by size.

A batch is on the disk (fsync) when `write` returns, and whatever raised is not in the file: what a full disk took of it
is cut off again, so that no line is ever torn or written twice. A last line that a crash has torn gets its line break
when the file is opened. At `rotate_bytes` the file becomes FILE.1, FILE.1 becomes FILE.2, and what is older than `keep`
goes. A file that somebody removed is made anew. Blocking: one thread at a time may call it.

Decided: one writer a file, by a lock (fcntl). Two nodes that were given one file would cut off each other's
lines on a full disk, and rotate each other's file away; the second one has a problem and its lines wait. A file system
that knows no locks is trusted.
Decided: a regular file and nothing else. Of a pipe or a device nobody can say that a line is on the disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, lockf
from typing import Final

_MODE: Final = 0o640  # who called whom is for the operator's group alone


class FileWriter:
    """One file. `rotate_bytes` of 0 leaves rotation to others, who say `ask_reopen`."""

    def __init__(self, path: str, *, rotate_bytes: int, keep: int) -> None:
        self.path = path
        self.rotate_bytes = rotate_bytes
        self.keep = keep
        self._file = -1
        self._reopen = False

    def ask_reopen(self) -> None:
        """Open the file anew before the next batch: it may have been moved. From any thread."""
        self._reopen = True

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines. Raises OSError, and then none of them is there."""
        if self._reopen:
            self._reopen = False
            self.close()
        if self._file < 0:
            self._open()
        data = b"".join(lines)
        state = os.fstat(self._file)
        if not state.st_nlink:
            self.close()
            self._open()
            state = os.fstat(self._file)
        size = state.st_size
        if self.rotate_bytes and size and size + len(data) > self.rotate_bytes:
            self._rotate()
            size = 0
        try:
            self._write_all(data)
            os.fsync(self._file)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, size)
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)

    def _open(self) -> None:
        folder = os.path.dirname(self.path)
        if folder:
            os.makedirs(folder, mode=0o750, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, _MODE)
        try:
            self._take()
        except OSError:
            self.close()
            raise

    def _take(self) -> None:
        state = os.fstat(self._file)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        try:
            lockf(self._file, LOCK_EX | LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise OSError(errno.EBUSY, "another process writes to it") from None
        except OSError:
            pass  # a file system without locks
        size = state.st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._write_all(b"\n")

    def _write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def _rotate(self) -> None:
        """Files move up to the first gap and no further: where the file itself cannot be moved, trying again makes
        none of them fall off the end."""
        self.close()
        path = self.path
        names = [path, *[f"{path}.{number}" for number in range(1, self.keep + 1)]]
        last = next((number for number in range(1, len(names)) if not os.path.lexists(names[number])), self.keep)
        for number in range(last, 0, -1):
            with suppress(FileNotFoundError):
                os.replace(names[number - 1], names[number])
        if not self.keep:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._open()
