"""What one trace has caught at one node, until it is taken: the messages of an address-of-record or of a call.

A message is caught when it is about who is sought (`reading`), and so is every later one with the same Call-ID: what
comes back, and what the farm sends on, whoever it names. What is kept is limited, in messages and in bytes, and what
was lost is said.
"""

from __future__ import annotations

from typing import Final

from farm.capture.reading import Sought, find_call_id
from farm.capture.seen import Seen

MOST_MESSAGES: Final = 1000
MOST_BYTES: Final = 1_048_576
MOST_CALLS: Final = 1000  # Call-IDs that are followed; beyond, the oldest is forgotten
MESSAGE_BYTES: Final = 32_768  # of one message; the rest is cut off


class Catch:
    """The messages of what is sought."""

    def __init__(self, sought: Sought) -> None:
        self.sought = sought
        self.lost = 0  # since they were taken last
        self._calls: dict[bytes, None] = {}
        self._held: list[Seen] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def look(self, seen: Seen) -> bool:
        """Catch a message if it is one of these; whether it was."""
        call_id = find_call_id(seen.data)
        if call_id not in self._calls:
            if not self.sought.is_in(seen.data):
                return False
            if call_id:
                if len(self._calls) >= MOST_CALLS:
                    del self._calls[next(iter(self._calls))]
                self._calls[call_id] = None
        size = min(len(seen.data), MESSAGE_BYTES)
        if len(self._held) >= MOST_MESSAGES or self._bytes + size > MOST_BYTES:
            self.lost += 1
            return True
        self._held.append(seen)
        self._bytes += size
        return True

    def take(self, most_bytes: int = MOST_BYTES) -> list[Seen]:
        """What was caught, the oldest first, up to so many bytes; it is no more here then."""
        size = count = 0
        for seen in self._held:
            size += min(len(seen.data), MESSAGE_BYTES)
            if size > most_bytes and count:
                break
            count += 1
        taken, self._held = self._held[:count], self._held[count:]
        self._bytes = sum(min(len(seen.data), MESSAGE_BYTES) for seen in self._held)
        return taken

    def take_lost(self) -> int:
        """How many were lost since this was asked last."""
        lost, self.lost = self.lost, 0
        return lost
