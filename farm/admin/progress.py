"""How far a long order is: a bar on a terminal (drawn by rich), elsewhere a plain line now and then.

What is shown goes to standard error, so that the answer on standard output stays clean for pipes and `--json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

PLAIN_INTERVAL: Final = 10_000  # steps between two plain lines

Reach = Callable[[int, str], None]


@contextmanager
def show_progress(stream: TextIO, total: int | None) -> Iterator[Reach]:
    """Within it, `reach(step, words)` says how far it is; `total` is the last step, None when nobody knows."""
    if not stream.isatty():
        yield PlainCount(stream).reach
        return
    # rich takes a tenth of a second to import, which every other command would pay for
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda step, words: bar.update(task, completed=step, description=words)


class PlainCount:
    """Writes a line for every `PLAIN_INTERVAL` steps."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._next = PLAIN_INTERVAL

    def reach(self, step: int, words: str) -> None:
        """That far, in these words."""
        if step >= self._next:
            self._next = (step // PLAIN_INTERVAL + 1) * PLAIN_INTERVAL
            self._stream.write(words + "\n")
            self._stream.flush()
