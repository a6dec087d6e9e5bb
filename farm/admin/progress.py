"""How far a long order is: a bar on a terminal (drawn by rich), elsewhere a plain line, or a JSON one, now and then.

What is shown goes to standard error, so that the answer on standard output stays clean for pipes and `--json`.
Steps are counted, as of an import, or are shares of a whole, as of a join; the words say which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TextIO

PLAIN_INTERVAL: Final = 10_000  # steps between two plain lines

Reach = Callable[[int, str], None]


@contextmanager
def show_progress(
    stream: TextIO, total: int | None, *, as_json: bool = False, interval: int | None = None
) -> Iterator[Reach]:
    """Within it, `reach(step, words)` says how far it is; `total` is the last step, None when nobody knows. Where there
    is no terminal, a line follows every `interval` steps: one for each change of the words when that is 0."""
    if as_json or not stream.isatty():
        yield PlainCount(stream, PLAIN_INTERVAL if interval is None else interval, total, as_json=as_json).reach
        return
    # rich takes a tenth of a second to import, which every other command would pay for
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda step, words: bar.update(task, completed=step, description=words)


class PlainCount:
    """Writes a line for every `interval` steps, or for each change of the words."""

    def __init__(
        self, stream: TextIO, interval: int = PLAIN_INTERVAL, total: int | None = None, *, as_json: bool = False
    ) -> None:
        self._stream = stream
        self._interval = interval
        self._total = total
        self._as_json = as_json
        self._next = interval
        self._words = ""

    def reach(self, step: int, words: str) -> None:
        """That far, in these words."""
        if self._interval:
            if step < self._next:
                return
            self._next = (step // self._interval + 1) * self._interval
        elif words == self._words:
            return
        self._words = words
        line = json.dumps({"step": step, "of": self._total, "words": words}) if self._as_json else words
        self._stream.write(line + "\n")
        self._stream.flush()
