"""A message on the wire has two ends, and who sent it decides which is which."""

from __future__ import annotations

from farm.capture.seen import Seen


def test_what_we_sent_comes_from_our_end_and_what_we_received_goes_to_it() -> None:
    ours, theirs = ("192.0.2.1", 5060), ("198.51.100.7", 40_000)
    sent = Seen(1, "UDP", True, ours, theirs, b"")
    assert (sent.source, sent.destination) == (ours, theirs)
    received = Seen(1, "UDP", False, ours, theirs, b"")
    assert (received.source, received.destination) == (theirs, ours)
