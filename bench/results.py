"""One figure that is no comparison: what was measured, and what is asked of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Result(NamedTuple):
    """A measured value; `at_least` turns the target round. No value: it could not be measured, and `note` says why."""

    key: str
    title: str
    value: float | None
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached, None where there is none."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value >= self.target if self.at_least else self.value <= self.target


def print_results(results: Sequence[Result]) -> None:
    """As Markdown, ready for the README."""
    print("\n| figure | measured | target | |\n|---|---|---|---|")
    for result in results:
        value = (
            "–" if result.value is None else f"{result.value:,.3g}" if result.value < 100 else f"{result.value:,.0f}"
        )
        target = "" if result.target is None else f"{'≥' if result.at_least else '≤'} {result.target:,g} {result.unit}"
        mark = "missed" if result.met is False else ""
        notes = ", ".join(text for text in (mark, result.note) if text)
        print(f"| {result.title} | {value} {result.unit} | {target} | {notes} |")
