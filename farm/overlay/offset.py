"""How far this node's wall clock is from the others': the median over its links of what they said in their HELLO, or
since, when one of us refused what the other said for its clock: clocks are set while links are open, too.

Wall clocks decide nothing about lifetimes, but stamps come from them: a node that is ahead would win against all
others' updates, one that is behind would lose. More than 1 s off its peers' median is worth a warning, more than 2.5 s
and the node coordinates nothing; two that are more than 5 s apart have no link.

Decided: it stops at half of what others refuse. All adopt the furthest stamp that they see: a node 4.8 s ahead would
put everybody's so far ahead that one whose own clock is half a second slow would refuse them all.

Decided: of an even number the one of the middle two that is nearer to our clock: of three nodes one that is wrong would
otherwise make the other two half as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

WARNS_SECONDS: Final = 1.0
STOPS_SECONDS: Final = 2.5
REFUSES_SECONDS: Final = 5.0  # `clock.AHEAD_SECONDS`: beyond, one of two nodes would refuse all that the other says


class ClockOffset:
    """`seconds` is how far this node's clock is ahead of the others' median, 0 without others. `stamps_ahead` answers
    how far its stamps are ahead of its own clock: they stay where they are when a clock that was ahead is put right."""

    __slots__ = ("_ahead", "_stamps_ahead", "seconds")

    def __init__(self, stamps_ahead: Callable[[], float] = float) -> None:
        self.seconds = 0.0
        self._stamps_ahead = stamps_ahead
        self._ahead: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._ahead)

    def note(self, node: bytes, ahead: float) -> None:
        """A linked node's clock shows so many seconds more than ours."""
        self._ahead[node] = ahead
        self.seconds = -_find_middle(self._ahead.values())

    def renew(self, node: bytes, ahead: float) -> None:
        """The same of one whose link is open; of others it is not kept."""
        if node in self._ahead:
            self.note(node, ahead)

    def forget(self, node: bytes) -> None:
        """A link is gone. What the last one told stands until there are others."""
        if self._ahead.pop(node, None) is not None and self._ahead:
            self.seconds = -_find_middle(self._ahead.values())

    @property
    def is_too_large(self) -> bool:
        """Whether this node should coordinate nothing."""
        return abs(self.seconds) > STOPS_SECONDS or (bool(self._ahead) and self._stamps_ahead() > REFUSES_SECONDS)

    def problem(self) -> str:
        """A sentence when it is worth one, "" otherwise."""
        if abs(self.seconds) <= WARNS_SECONDS:
            if not self.is_too_large:
                return ""
            ahead = f"the clock was set back: stamps are {self._stamps_ahead():.1f} s ahead of it, which others refuse"
            return f"{ahead}; this node serves nothing until the clock is there"
        where = "ahead of" if self.seconds > 0 else "behind"
        consequence = "; this node serves nothing until that is mended" if self.is_too_large else ""
        return f"the clock is {abs(self.seconds):.1f} s {where} the other nodes'{consequence}"


def _find_middle(values: Iterable[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else min(ordered[half - 1], ordered[half], key=abs)
