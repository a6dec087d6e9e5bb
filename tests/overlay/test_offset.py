"""How far a node's clock is from the others', and when that is too far."""

from __future__ import annotations

from farm.overlay.offset import ClockOffset

A, B, C = b"a", b"b", b"c"


def test_one_node_with_a_wrong_clock_does_not_make_ours_wrong() -> None:
    offset = ClockOffset()
    for node, ahead in ((A, 0.01), (B, -0.02), (C, 3600.0)):
        offset.note(node, ahead)
    assert offset.seconds == -0.01
    assert offset.problem() == ""
    assert len(offset) == 3


def test_a_clock_a_second_off_is_worth_a_sentence_and_five_are_too_many() -> None:
    offset = ClockOffset()
    offset.note(A, -1.5)
    assert offset.problem() == "the clock is 1.5 s ahead of the other nodes'"
    assert not offset.is_too_large
    offset.note(A, 10.0)
    assert offset.is_too_large
    assert offset.problem() == (
        "the clock is 10.0 s behind the other nodes'; this node serves nothing until that is mended"
    )


def test_links_that_end_take_their_word_with_them_but_the_last() -> None:
    offset = ClockOffset()
    offset.note(A, 2.0)
    offset.note(B, 4.0)
    offset.note(C, 6.0)
    assert offset.seconds == -4.0
    offset.forget(C)
    assert offset.seconds == -2.0
    offset.forget(B)
    assert offset.seconds == -2.0
    offset.forget(A)
    offset.forget(A)
    assert offset.seconds == -2.0
    assert len(offset) == 0


def test_of_three_nodes_the_one_with_a_wrong_clock_knows_it_and_the_others_are_not_blamed() -> None:
    wrong, right = ClockOffset(), ClockOffset()
    wrong.note(A, 10.0)
    wrong.note(B, 10.1)
    assert wrong.is_too_large
    right.note(A, 0.1)
    right.note(C, -10.0)
    assert right.seconds == -0.1


def test_a_clock_that_was_set_while_a_link_is_open_is_noted_and_of_others_nothing_is() -> None:
    offset = ClockOffset()
    offset.note(A, 0.0)
    offset.renew(A, 10.0)
    offset.renew(B, 20.0)
    assert offset.seconds == -10.0
    assert len(offset) == 1
    offset.renew(A, 0.1)
    assert not offset.is_too_large


def test_a_clock_that_was_put_back_after_stamps_were_made_matters_as_soon_as_there_are_others() -> None:
    ahead = 3600.0
    offset = ClockOffset(lambda: ahead)
    assert not offset.is_too_large
    assert offset.problem() == ""
    offset.note(A, 0.0)
    assert offset.is_too_large
    assert offset.problem() == (
        "the clock was set back: stamps are 3600.0 s ahead of it, which others refuse; "
        "this node serves nothing until the clock is there"
    )
    ahead = 4.0
    assert not offset.is_too_large
    assert offset.problem() == ""
