"""Files that appear whole or not at all, whenever the machine stops, and the lock under which they are changed.

A new content is written beside the old one, brought to the disk, and takes its place by rename(2). What root writes
belongs to the owner of the directory that it is written to, so that a node which runs as somebody else can read it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

LOCK_NAME: Final = "lock"
SECRET_MODE: Final = 0o600
PUBLIC_MODE: Final = 0o644


def write_file(path: str, content: bytes, mode: int) -> None:
    """Put a file in the place of what is there, with exactly that mode. Raises OSError, and then nothing changed."""
    directory = os.path.dirname(path) or "."
    draft = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(draft)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if os.geteuid() == 0:
                owner = os.stat(directory)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(draft, path)
    except OSError:
        with suppress(OSError):
            os.unlink(draft)
        raise
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_file(path: str) -> bytes | None:
    """What is in a file, None when there is none. Raises OSError."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@contextmanager
def locked(directory: str) -> Iterator[None]:
    """Be the only one who changes what is in a directory, which must exist; waits for another to be done. It is the
    kernel's lock and ends with the process. Raises OSError."""
    descriptor = os.open(os.path.join(directory, LOCK_NAME), os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
