"""What we put into messages and must know again: branches, and the users of our Record-Route with their flows."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.frontend.token import RouteToken, Tokens
from farm.sip.grammar import is_token
from farm.sip.hop import Hop
from farm.sip.uri import parse_uri

SECRET = bytes(range(32))
PARTS = ["sip:bob@example.com", "call-1", "tag-1", "1"]
CALL_ID = "call-1@192.0.2.101"
FACTS = ("tag", "", "192.0.2.101")
CALLER = Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060")
CALLEE = Hop("TLS", "2001:db8:85a3::8a2e:370:7334", 40000, "tls:[2001:db8::1]:5061")


def make_tokens(secret: bytes = SECRET, seed: int = 1) -> Tokens:
    return Tokens(secret, random.Random(seed))


def test_a_branch_is_magic_a_token_and_never_made_twice() -> None:
    tokens = make_tokens()
    loop_part = tokens.loop_part(PARTS)
    branches = {tokens.make_branch(loop_part) for _ in range(1000)}
    assert len(branches) == 1000
    for branch in branches:
        assert branch.startswith("z9hG4bK")
        assert is_token(branch)
        assert loop_part in branch, "by which the loop is found"
        assert len(branch) <= 60


def test_a_branch_is_known_again_after_a_restart() -> None:
    branch = make_tokens(seed=1).make_branch("a" * 12)
    assert make_tokens(seed=2).is_branch(branch, "")


@pytest.mark.parametrize(
    "branch",
    ["", "z9hG4bK", "z9hG4bK776asdhds", "z9hG4bK" + "a" * 40, "z9hG4bK" + "ä" * 40, "\udc80" * 47, "a" * 1000],
)
def test_a_stranger_s_branch_is_not_ours(branch: str) -> None:
    assert not make_tokens().is_branch(branch, "")


def test_another_farm_s_branch_is_not_ours() -> None:
    assert not make_tokens().is_branch(make_tokens(b"another secret!!").make_branch("a" * 12), "")


@given(st.integers(0, 46), st.characters(codec="ascii", categories=["L", "N", "P", "S"]))
def test_a_branch_with_one_character_changed_is_not_ours(index: int, character: str) -> None:
    tokens = make_tokens()
    branch = tokens.make_branch(tokens.loop_part(PARTS))
    changed = branch[:index] + character + branch[index + 1 :]
    assert tokens.is_branch(changed, "") == (changed == branch)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_branch_is_ours_over_the_via_that_the_request_came_with_and_over_no_other(one: str, other: str) -> None:
    """Whoever once had a request from us must not have our answers sent elsewhere."""
    tokens = make_tokens()
    branch = tokens.make_branch("a" * 12, one)
    assert tokens.is_branch(branch, one)
    assert tokens.is_branch(branch, other) == (one == other)


@given(st.text(max_size=60))
def test_no_text_upsets_the_check(text: str) -> None:
    tokens = make_tokens()
    assert not tokens.is_branch(text, text)
    assert tokens.open_route(text, "call-1") is None


def test_the_loop_part_is_the_same_for_the_same_way_and_another_for_any_other() -> None:
    tokens = make_tokens()
    assert tokens.loop_part(PARTS) == make_tokens(seed=9).loop_part(PARTS)
    others = [[*PARTS[:index], "other", *PARTS[index + 1 :]] for index in range(len(PARTS))]
    others += [PARTS[:-1], [*PARTS, ""], ["sip:bob@example.comcall-1", "tag-1", "1"], list(reversed(PARTS))]
    found = {tokens.loop_part(parts) for parts in others}
    assert len(found) == len(others)
    assert tokens.loop_part(PARTS) not in found


def test_a_loop_part_cannot_be_foreseen_without_the_secret() -> None:
    assert make_tokens().loop_part(PARTS) != make_tokens(b"another secret!!").loop_part(PARTS)


def test_bytes_that_are_no_utf8_can_be_hashed() -> None:
    tokens = make_tokens()
    assert tokens.loop_part(["sip:\udcff@example.com"]) != tokens.loop_part(["sip:\udcfe@example.com"])
    token = tokens.open_route(tokens.make_route("\udcff", ["\udcfe"], None, CALLEE), "\udcff")
    assert token is not None
    assert (token.holds(0, "\udcfe"), token.holds(0, "\udcff")) == (True, False)
    assert tokens.is_branch(tokens.make_branch("a" * 12, "\udcff"), "\udcff")


# Routes


def open_route(user: str, call_id: str = CALL_ID, *, tokens: Tokens | None = None) -> RouteToken | None:
    return (tokens or make_tokens()).open_route(user, call_id)


def test_a_route_proves_its_own_dialog_only() -> None:
    user = make_tokens().make_route(CALL_ID, FACTS, None, None)
    assert open_route(user) is not None
    assert open_route(user, tokens=make_tokens(seed=5)) is not None, "after a restart too"
    assert open_route(user, "call-2@192.0.2.101") is None
    assert open_route(user, tokens=make_tokens(b"another secret!!")) is None


@pytest.mark.parametrize(
    "user", ["", "bob", "A" * 38, "A" * 39, "A" * 400, "A" * 401, "A" * 100_000, "ä" * 50, "\udc80" * 50, "=" * 60]
)
def test_a_stranger_s_route_proves_nothing(user: str) -> None:
    assert open_route(user) is None


@given(st.integers(0, 50), st.sampled_from("AZaz09-_"))
def test_a_route_with_one_character_changed_proves_nothing(index: int, character: str) -> None:
    user = make_tokens().make_route(CALL_ID, FACTS, None, None)
    changed = user[:index] + character + user[index + 1 :]
    last = index == len(user) - 1  # whose lowest bits carry nothing
    assert changed == user or last or open_route(changed) is None
    assert open_route(user[:-1]) is None


@pytest.mark.parametrize("caller", [None, CALLER, CALLEE])
@pytest.mark.parametrize("callee", [None, CALLER, CALLEE])
def test_a_route_brings_back_the_flows_of_both_sides(caller: Hop | None, callee: Hop | None) -> None:
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, caller, callee))
    assert token is not None
    assert (token.caller, token.callee) == (caller, callee)


def test_a_route_knows_its_facts_again_each_in_its_place() -> None:
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, CALLER, CALLEE))
    assert token is not None
    held = {(index, text) for index in range(-1, 5) for text in [*FACTS, "another"] if token.holds(index, text)}
    assert held == {(0, "tag"), (2, "192.0.2.101")}


def test_a_fact_that_there_is_not_is_held_by_nothing() -> None:
    """Not even by the empty text: a dialog without a host must not lead to a URI without one."""
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, None, None))
    none = open_route(make_tokens().make_route(CALL_ID, (), None, None))
    assert token is not None
    assert none is not None
    for index in range(4):
        assert not token.holds(index, "")
        assert not none.holds(index, "")
        assert not none.holds(index, "tag")


def test_a_route_tells_its_bearer_nothing() -> None:
    """It goes to both sides and to every proxy between: no address of the one is for the other to see."""
    tokens = make_tokens()
    user = tokens.make_route(CALL_ID, FACTS, CALLER, CALLEE)
    assert user != tokens.make_route(CALL_ID, FACTS, CALLER, CALLEE)
    packed = urlsafe_b64decode(user + "=" * (-len(user) % 4))
    for word in (b"198.51.100.9", b"2001:db8", b"20000", b"udp"):
        assert word not in packed


@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_a_route_is_a_user_part_that_needs_no_escape(call_id: str, fact: str) -> None:
    for hop in (None, CALLEE):
        user = make_tokens().make_route(call_id, [fact] * 7, hop, hop)
        assert parse_uri(f"sip:{user}@192.0.2.1;lr").user == user
        assert len(user) <= 250
        assert open_route(user, call_id) is not None


def test_a_secret_too_short_to_be_one_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="shorter than 16 bytes"):
        make_tokens(b"secret")


# From node to node

PHONE = "sip:bob@10.0.0.7:5060;transport=tcp"


@pytest.mark.parametrize("flow", [CALLER, CALLEE])
def test_an_onward_names_its_flow_to_every_node_of_the_farm(flow: Hop) -> None:
    user = make_tokens(seed=1).make_onward(flow, PHONE)
    assert make_tokens(seed=2).open_onward(user, PHONE) == flow
    assert parse_uri(f"sip:{user}@192.0.2.2;lr").user == user
    assert len(user) <= 120


@pytest.mark.parametrize("other", ["", "sip:bob@10.0.0.7", PHONE + ";x", "sip:mallory@198.51.100.66"])
def test_an_onward_opens_for_its_own_request_uri_alone(other: str) -> None:
    tokens = make_tokens()
    assert tokens.open_onward(tokens.make_onward(CALLER, PHONE), other) is None


def test_nobody_without_the_farm_s_key_makes_an_onward() -> None:
    forged = make_tokens(b"another secret!!").make_onward(CALLER, PHONE)
    assert make_tokens().open_onward(forged, PHONE) is None


@pytest.mark.parametrize("user", ["", "bob", "A" * 38, "A" * 80, "ä" * 60, "\udc80" * 60, "A" * 401])
def test_what_is_no_onward_opens_nothing(user: str) -> None:
    assert make_tokens().open_onward(user, PHONE) is None


@given(st.integers(0, 60), st.characters(codec="ascii", categories=["L", "N"]))
def test_an_onward_with_one_character_changed_opens_nothing(index: int, character: str) -> None:
    tokens = make_tokens()
    user = tokens.make_onward(CALLER, PHONE)
    changed = user[:index] + character + user[index + 1 :]
    assert (tokens.open_onward(changed, PHONE) is None) == (changed != user)


@pytest.mark.parametrize("call_id", [CALL_ID, PHONE, f"sipfarm-onward {PHONE}"])
def test_a_record_route_is_no_onward_and_an_onward_no_record_route(call_id: str) -> None:
    """Whoever has seen the one cannot use it as the other, whatever he puts into Call-ID or Request-URI."""
    tokens = make_tokens()
    onward = tokens.make_onward(CALLER, PHONE)
    assert tokens.open_route(onward, PHONE) is None
    assert tokens.open_route(onward, CALL_ID) is None
    route = tokens.make_route(PHONE, FACTS, CALLER, CALLEE)
    assert tokens.open_onward(route, PHONE) is None
    assert tokens.open_onward(tokens.make_route(call_id, FACTS, CALLER, CALLEE), PHONE) is None
