"""Branches: known again as ours, by their node, and by the way that a request has been."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.frontend.branch import BRANCH_CHARS, Branches
from farm.sip.grammar import is_token

SECRET, FIRST, SECOND = b"s" * 32, b"1" * 32, b"2" * 32
LOOP = "a" * 12
TAG = 0xC0FFEE07


def make_branches(*keys: bytes, seed: int = 1, tag: int = TAG, secret: bytes = SECRET) -> Branches:
    branches = Branches(secret, random.Random(seed), tag)
    branches.set_keys(keys or (FIRST,))
    return branches


def test_a_branch_is_a_token_of_53_characters_and_never_made_twice() -> None:
    branches = make_branches()
    made = {branches.make(LOOP, "") for _ in range(1000)}
    assert len(made) == 1000
    for branch in made:
        assert is_token(branch)
        assert branch.startswith("z9hG4bK")
        assert LOOP in branch, "by which the loop is found"
        assert len(branch) == BRANCH_CHARS == 53


@pytest.mark.parametrize("tag", [0, 1, TAG, 0xFFFFFFFF])
def test_every_node_reads_whose_transaction_it_is(tag: int) -> None:
    branches = make_branches(tag=tag)
    other = make_branches(SECOND, tag=5, seed=2)
    for _ in range(300):
        branch = branches.make(LOOP, "")
        assert branches.owner_of(branch) == tag
        assert other.owner_of(branch) == tag, "whichever key seals there"


def test_a_node_that_was_started_again_tells_its_former_branches_from_its_own() -> None:
    """But for one start in sixteen, and whichever keys seal."""
    boots = [make_branches(FIRST, seed=seed) for seed in (1, 3, 5, 6)]
    for at, boot in enumerate(boots):
        made = [boot.make(LOOP, "") for _ in range(300)]
        known = [[other.is_of_this_boot(branch) for branch in made] for other in boots]
        assert [all(each) for each in known] == [any(each) for each in known] == [at == number for number in range(4)]


def test_branches_of_one_node_cannot_be_told_from_another_s() -> None:
    """In what a stranger sees no character stays the same."""
    branches = make_branches()
    parts = [branches.make(LOOP, "")[23:29] for _ in range(256)]
    assert len(set(parts)) == 256
    assert all(len({part[index] for part in parts}) > 40 for index in range(5))
    assert make_branches(secret=b"t" * 32).owner_of(branches.make(LOOP, "")) != TAG


@pytest.mark.parametrize(
    "branch",
    [
        "", "z9hG4bK", "z9hG4bK776asdhds", "z9hG4bK" + "a" * 45, "z9hG4bK" + "a" * 47, "z9hG4bK" + "ä" * 46,
        "z9hG4bK" + "\udc80" * 46, "a" * 53, "z9hG4bK" + "a" * 16 + "!!!!!!" + "a" * 24,
    ],
)  # fmt: skip
def test_what_has_not_our_shape_has_no_owner(branch: str) -> None:
    branches = make_branches()
    assert branches.owner_of(branch) is None
    assert not branches.is_ours(branch, "")


@given(st.text(max_size=60))
def test_no_text_upsets_the_checks(text: str) -> None:
    branches = make_branches()
    assert not branches.is_ours(text, text)
    branches.owner_of(text)
    branches.owner_of("z9hG4bK" + text[:46].ljust(46, "x"))


@given(st.integers(0, 52), st.characters(codec="ascii", categories=["L", "N", "P", "S"]))
def test_a_branch_with_one_character_changed_is_not_ours(index: int, character: str) -> None:
    branches = make_branches()
    branch = branches.make(branches.loop_part(["sip:bob@example.com"]), "")
    changed = branch[:index] + character + branch[index + 1 :]
    assert branches.is_ours(changed, "") == (changed == branch)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_branch_is_ours_over_the_via_that_the_request_came_with_and_over_no_other(one: str, other: str) -> None:
    """Whoever once had a request from us must not have our answers sent elsewhere."""
    branches = make_branches()
    branch = branches.make(LOOP, one)
    assert branches.is_ours(branch, one)
    assert branches.is_ours(branch, other) == (one == other)


def test_a_rotation_ends_no_transaction() -> None:
    branch = make_branches(FIRST).make(LOOP, "via")
    assert make_branches(SECOND, FIRST).is_ours(branch, "via")
    assert not make_branches(SECOND).is_ours(branch, "via")
    newer = make_branches(SECOND, FIRST).make(LOOP, "via")
    assert make_branches(FIRST, SECOND).is_ours(newer, "via")
    assert not make_branches(FIRST).is_ours(newer, "via"), "the first seals"


def test_a_request_that_comes_round_after_a_rotation_has_still_looped() -> None:
    parts = ["sip:bob@example.com", "call-1", "tag-1", "1"]
    assert make_branches(FIRST).loop_part(parts) == make_branches(SECOND, FIRST, seed=9, tag=3).loop_part(parts)
    assert make_branches(secret=b"t" * 32).loop_part(parts) != make_branches().loop_part(parts)
