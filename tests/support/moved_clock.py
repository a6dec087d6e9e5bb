"""A Python program whose wall clock a test moves while it runs: `python moved_clock.py FILE PROGRAM ARGUMENT…`.

`FILE` holds by how many seconds `time.time` is ahead; it is looked at each time that somebody asks. The monotonic
clock, and Twisted's timers, which go by the wall clock that they find first, stay as they are, so that what takes
minutes by the calendar can be seen in a second.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from twisted.internet import reactor


def make_wrapper(file: Path) -> list[str]:
    """What to put before the command of a node so that its clock follows the file."""
    move(file, 0)
    return [sys.executable, __file__, str(file)]


def move(file: Path, seconds: float) -> None:
    """Let the clocks that follow the file be ahead by so much from now on."""
    fresh = file.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.replace(file)


def run(file: Path, command: Sequence[str]) -> None:
    """Run a program by that clock."""
    real = time.time
    time.time = lambda: real() + float(file.read_text())
    sys.argv[:] = command
    runpy.run_path(command[0], run_name="__main__")


if __name__ == "__main__":
    assert reactor is not None, "its clock is the real one"
    sys.path.pop(0)  # modules beside this one have names of others
    run(Path(sys.argv[1]), sys.argv[2:])
