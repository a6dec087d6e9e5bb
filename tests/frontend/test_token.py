"""What we put into messages and must know again: branches, and the users of our Record-Route with their flows."""

from __future__ import annotations

import random
from base64 import urlsafe_b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.frontend.flow_text import tag_of
from farm.frontend.token import RouteToken, Tokens
from farm.security.farm_keys import FarmKey
from farm.sip.grammar import is_token
from farm.sip.hop import FlowName, Hop, Leg
from farm.sip.uri import parse_uri

SECRET = bytes(range(32))
PARTS = ["sip:bob@example.com", "call-1", "tag-1", "1"]
CALL_ID = "call-1@192.0.2.101"
FACTS = ("tag", "", "192.0.2.101")
NODE, OTHER = 0x1234_5678_9ABC_DEF0 >> 1, 0x7654_3210_9ABC_DEF0 >> 1
PHONE, DESK = "urn:uuid:00000000-0000-1000-8000-000A95A0E128", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
NONE = Leg()
CALLER = FlowName(NODE, Hop("UDP", "198.51.100.9", 20000, "udp:192.0.2.1:5060"))
CALLEE = FlowName(OTHER, Hop("TLS", "203.0.113.200", 40000, "tls:[2001:db8::1]:5061#ffffffffffff0123"))
FAR = FlowName(OTHER, Hop("UDP", "2001:db8:85a3::8a2e:370:7334", 40000, "udp:[2001:db8::1]:5060"))
K1, K2, K9 = FarmKey(1, b"1" * 32), FarmKey(2, b"2" * 32), FarmKey(9, b"9" * 32)


def know(tag: int) -> int | None:
    """The nodes of the farm, by tag."""
    return {tag_of(NODE): NODE, tag_of(OTHER): OTHER}.get(tag)


def make_tokens(secret: bytes = SECRET, seed: int = 1, *keys: FarmKey, noted: list[str] | None = None) -> Tokens:
    tokens = Tokens(secret, random.Random(seed), node=NODE, nodes=know, note=None if noted is None else noted.append)
    if keys:
        tokens.set_keys(keys)
    return tokens


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
        assert tokens.owner_of(branch) == tag_of(NODE)


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


@given(st.integers(0, 52), st.characters(codec="ascii", categories=["L", "N", "P", "S"]))
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
    token = tokens.open_route(tokens.make_route("\udcff", ["\udcfe"], NONE, Leg(CALLEE)), "\udcff")
    assert token is not None
    assert (token.holds(0, "\udcfe"), token.holds(0, "\udcff")) == (True, False)
    assert tokens.is_branch(tokens.make_branch("a" * 12, "\udcff"), "\udcff")


# Routes


def open_route(user: str, call_id: str = CALL_ID, *, tokens: Tokens | None = None) -> RouteToken | None:
    return (tokens or make_tokens()).open_route(user, call_id)


def test_a_route_proves_its_own_dialog_only() -> None:
    user = make_tokens().make_route(CALL_ID, FACTS, NONE, NONE)
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
    user = make_tokens().make_route(CALL_ID, FACTS, NONE, NONE)
    changed = user[:index] + character + user[index + 1 :]
    last = index == len(user) - 1  # whose lowest bits carry nothing
    assert changed == user or last or open_route(changed) is None
    assert open_route(user[:-1]) is None


@pytest.mark.parametrize("phone", ["", PHONE])
@pytest.mark.parametrize("caller", [None, CALLER, CALLEE, FAR])
@pytest.mark.parametrize("callee", [None, CALLER, CALLEE, FAR])
def test_a_route_brings_back_the_flows_of_both_sides(
    caller: FlowName | None, callee: FlowName | None, phone: str
) -> None:
    """In the short form of their names, which their owners know, and are the same on every node."""
    user = make_tokens().make_route(CALL_ID, FACTS, Leg(caller, phone), Leg(callee, DESK))
    token = open_route(user)
    assert token is not None
    for found, flow in ((token.caller, caller), (token.callee, callee)):
        assert (found is None) == (flow is None)
        assert found is None or (found.is_same(flow) and found.hop == found.hop.short)
    assert [token.is_phone(True, text) for text in (PHONE, DESK, "")] == [bool(phone), False, False]
    assert [token.is_phone(False, text) for text in (PHONE, DESK, "")] == [False, True, False]


def test_a_flow_of_a_node_that_is_not_known_leads_nowhere_and_still_says_that_there_was_one() -> None:
    gone = FlowName(0x0F0F_0F0F << 31 | 77, CALLER.hop)
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, Leg(gone), NONE))
    assert token is not None
    assert token.caller is not None
    assert token.caller.node not in (gone.node, NODE, OTHER)


def test_a_lone_node_knows_its_own_flows_and_no_others() -> None:
    lone = Tokens(SECRET, random.Random(1))
    assert lone.open_flow(lone.make_flow(FlowName(0, CALLER.hop))) == FlowName(0, CALLER.hop.short)
    found = lone.open_flow(make_tokens().make_flow(CALLER))
    assert found is not None
    assert found.node not in (0, NODE)


WORST = (
    (CALLEE, CALLEE, 120),
    (CALLER, FlowName(OTHER, Hop("UDP", "203.0.113.255", 65535, "udp:203.0.113.254:65535")), 120),
    (CALLER, FAR, 136),
    (FAR, FAR, 152),
    (None, None, 86),
)


@pytest.mark.parametrize(("caller", "callee", "length"), WORST)
def test_a_record_route_with_all_that_it_may_hold_has_120_characters(
    caller: FlowName | None, callee: FlowName | None, length: int
) -> None:
    """16 more for each flow on IPv6: old phones have fixed room for a Route."""
    facts = ["a fact of any length " * 5] * 7
    for keys in ((), (FarmKey(255, b"k" * 32),)):
        user = make_tokens(SECRET, 1, *keys).make_route(CALL_ID * 3, facts, Leg(caller, PHONE), Leg(callee, DESK))
        assert len(user) == length


def test_a_route_knows_its_facts_again_each_in_its_place() -> None:
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, Leg(CALLER), Leg(CALLEE)))
    assert token is not None
    held = {(index, text) for index in range(-1, 5) for text in [*FACTS, "another"] if token.holds(index, text)}
    assert held == {(0, "tag"), (2, "192.0.2.101")}


def test_a_fact_that_there_is_not_is_held_by_nothing() -> None:
    """Not even by the empty text: a dialog without a host must not lead to a URI without one."""
    token = open_route(make_tokens().make_route(CALL_ID, FACTS, NONE, NONE))
    none = open_route(make_tokens().make_route(CALL_ID, (), NONE, NONE))
    assert token is not None
    assert none is not None
    for index in range(4):
        assert not token.holds(index, "")
        assert not none.holds(index, "")
        assert not none.holds(index, "tag")


def test_a_route_tells_its_bearer_nothing() -> None:
    """It goes to both sides and to every proxy between: no address of the one is for the other to see."""
    tokens = make_tokens()
    user = tokens.make_route(CALL_ID, FACTS, Leg(CALLER), Leg(CALLEE))
    assert user != tokens.make_route(CALL_ID, FACTS, Leg(CALLER), Leg(CALLEE))
    packed = urlsafe_b64decode(user + "=" * (-len(user) % 4))
    for word in (b"198.51.100.9", b"2001:db8", b"20000", b"udp"):
        assert word not in packed


@given(st.text(min_size=1, max_size=40), st.text(max_size=40))
def test_a_route_is_a_user_part_that_needs_no_escape(call_id: str, fact: str) -> None:
    for leg in (NONE, Leg(CALLEE, fact), Leg(FAR, "phone")):
        user = make_tokens().make_route(call_id, [fact] * 7, leg, leg)
        assert parse_uri(f"sip:{user}@192.0.2.1;lr").user == user
        assert open_route(user, call_id) is not None


def test_more_facts_than_a_route_has_room_for_are_a_mistake_of_ours() -> None:
    assert make_tokens().make_route(CALL_ID, ["fact"] * 15, NONE, NONE)
    with pytest.raises(ValueError, match="15 facts"):
        make_tokens().make_route(CALL_ID, ["fact"] * 16, NONE, NONE)


def test_a_secret_too_short_to_be_one_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="shorter than 16 bytes"):
        make_tokens(b"secret")


# Flows, and what others want sealed


@pytest.mark.parametrize("flow", [CALLER, CALLEE, FAR])
def test_a_flow_token_names_its_flow_to_every_node_of_the_farm(flow: FlowName) -> None:
    user = make_tokens(seed=1).make_flow(flow)
    found = make_tokens(seed=2).open_flow(user)
    assert found is not None
    assert found.is_same(flow)
    assert found.node == flow.node
    assert parse_uri(f"sip:{user}@192.0.2.2;lr").user == user
    assert len(user) <= 72


def test_what_was_sealed_for_one_purpose_opens_for_no_other() -> None:
    tokens = make_tokens()
    route, flow = tokens.make_route("", (), NONE, NONE), tokens.make_flow(CALLER)
    one, other = tokens.seal(b"gruu", b"bob"), tokens.seal(b"flow\0", b"bob")
    assert tokens.open(b"gruu", one) == b"bob"
    for text in (route, flow, other):
        assert tokens.open(b"gruu", text) is None
    for text in (route, one, other):
        assert tokens.open_flow(text) is None
    for text in (flow, one, other):
        assert tokens.open_route(text, "") is None
    assert tokens.open(b"", flow) is None


@given(st.binary(max_size=100))
def test_what_is_sealed_comes_back_and_looks_different_each_time(data: bytes) -> None:
    tokens = make_tokens()
    text = tokens.seal(b"gruu", data)
    assert tokens.open(b"gruu", text) == data
    assert tokens.seal(b"gruu", data) != text
    assert parse_uri(f"sip:{text}@example.com").user == text


# Keys


def test_a_rotation_breaks_no_dialog() -> None:
    """The first key seals; all open, the farm's own among them."""
    old, new = make_tokens(SECRET, 1, K1), make_tokens(SECRET, 2, K2, K1)
    before = make_tokens().make_route(CALL_ID, FACTS, Leg(CALLER), NONE)
    during = old.make_route(CALL_ID, FACTS, Leg(CALLER), NONE)
    after = new.make_route(CALL_ID, FACTS, Leg(CALLER), NONE)
    for tokens, opens in ((new, (True, True, True)), (old, (True, True, False)), (make_tokens(), (True, False, False))):
        assert tuple(tokens.open_route(user, CALL_ID) is not None for user in (before, during, after)) == opens
    found = new.open_route(during, CALL_ID)
    assert found is not None
    assert found.holds(0, "tag"), "a fact is known by the farm's own key"
    branch = old.make_branch("a" * 12, "via")
    assert new.is_branch(branch, "via")
    assert not make_tokens().is_branch(branch, "via")


def test_two_keys_of_one_number_both_open() -> None:
    """Two halves of a farm may make one each."""
    one, other = FarmKey(1, b"a" * 32), FarmKey(1, b"b" * 32)
    both = make_tokens(SECRET, 3, one, other)
    for key in (one, other):
        assert both.open_flow(make_tokens(SECRET, 1, key).make_flow(CALLER)) is not None


def test_the_farm_s_own_key_seals_when_it_is_named_first() -> None:
    tokens = make_tokens(SECRET, 1, FarmKey(0, SECRET), K1)
    assert make_tokens().open_flow(tokens.make_flow(CALLER)) is not None
    assert tokens.open_flow(make_tokens(SECRET, 2, K1).make_flow(CALLER)) is not None


def test_what_looks_like_a_token_and_cannot_be_opened_is_counted_by_why() -> None:
    noted: list[str] = []
    tokens = make_tokens(SECRET, 1, K1, noted=noted)
    flow = tokens.make_flow(CALLER)
    assert tokens.open_flow(flow) is not None
    assert noted == []
    assert tokens.open_flow(make_tokens(SECRET, 1, K9).make_flow(CALLER)) is None
    assert noted == ["token-expired-key"]
    assert tokens.open_flow(make_tokens(b"another secret!!").make_flow(CALLER)) is None
    assert tokens.open_route(flow, CALL_ID) is None
    assert tokens.open(b"gruu", flow[:-4] + "AAAA") is None
    assert noted == ["token-expired-key"] + ["token-altered"] * 3


@pytest.mark.parametrize("text", ["", "bob", "a" * 38, "a" * 401, "a.b" * 20, "+49 30 1234" * 5, "ä" * 60, "a" * 41])
def test_a_user_that_no_token_could_be_is_not_counted(text: str) -> None:
    noted: list[str] = []
    tokens = make_tokens(noted=noted)
    assert tokens.open_flow(text) is None
    assert tokens.open_route(text, CALL_ID) is None
    assert tokens.open(b"gruu", text) is None
    assert noted == []


def test_a_token_that_another_version_made_is_refused_whole() -> None:
    noted: list[str] = []
    tokens = make_tokens(noted=noted)
    for plain in (b"", b"\x10", b"\x01abc", b"\x00more", b"\x10\x07" + bytes(12)):
        assert tokens.open_route(tokens._close(plain, b"route\0call-1"), "call-1") is None
        assert tokens.open_flow(tokens._close(plain, b"flow\0")) is None
    assert set(noted) == {"token-altered"}
