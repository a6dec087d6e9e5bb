"""Node-IDs are given out once, evenly, and found by what people type."""

from __future__ import annotations

import pytest

from farm.security.register import EnrolledNode, Register, RegisterError
from farm.security.ring import first_id

NOON = 1_800_000_000
DAY = 86_400


def node(name: str, node_id: bytes | str, *, until: int = NOON + DAY, denied: bool = False) -> EnrolledNode:
    digits = node_id if isinstance(node_id, str) else node_id.hex()
    return EnrolledNode(name, digits.ljust(64, "0"), "", ["store"], NOON, until, denied)


def test_a_register_reads_as_it_was_written() -> None:
    register = Register([node("n1", "00"), node("n2", "80", denied=True)])
    assert list(Register.parse(register.pack())) == list(register)
    assert len(register) == 2
    assert register.pack().count(b"\n") == 2


@pytest.mark.parametrize("line", [b"", b"{}", b'{"name":1}', b"nonsense", b"\xff", b'{"name":"a","node_id":"00"}'])
def test_a_bad_line_is_named_by_its_number(line: bytes) -> None:
    with pytest.raises(RegisterError, match=r"^line 2: "):
        Register.parse(Register([node("n1", "00")]).pack() + line + b"\n")


@pytest.mark.parametrize("digits", ["00", "g" * 64, "A" * 64, "0" * 66])
def test_a_node_id_has_64_digits(digits: str) -> None:
    packed = Register([node("n1", "00")]).pack().replace(b"0" * 64, digits.encode())
    with pytest.raises(RegisterError, match=r"^line 1: "):
        Register.parse(packed)


def test_a_node_is_found_by_its_name_or_the_first_digits_of_its_node_id() -> None:
    register = Register([node("n1", "abcd1"), node("n2", "abcd2"), node("abcd", "9999")])
    assert register.find("n1").name == "n1"
    assert register.find("abcd1").name == "n1"
    assert register.find("ABCD2").name == "n2"
    assert register.find("abcd").name == "abcd", "a name goes before digits"


@pytest.mark.parametrize(
    ("text", "problem"), [("n3", "no node"), ("abc", "no node"), ("", "no node"), ("abcd", "2 nodes")]
)
def test_what_means_no_node_or_several_is_refused(text: str, problem: str) -> None:
    with pytest.raises(RegisterError, match=problem):
        Register([node("n1", "abcd1"), node("n2", "abcd2")]).find(text)


def test_a_name_that_was_denied_and_given_again_means_the_living_node() -> None:
    register = Register([node("n1", "1111", denied=True)])
    assert register.named("n1") is None
    assert register.find("n1").denied, "there is no other"
    register.put(node("n1", "2222"))
    assert register.find("n1").node_id.startswith("2222")
    assert register.find("1111").denied


def test_the_first_node_gets_the_overlay_s_first_place_and_the_next_the_one_opposite() -> None:
    register = Register()
    first = register.next_id("farm.example", NOON)
    assert first == first_id("farm.example")
    register.put(node("n1", first))
    second = register.next_id("farm.example", NOON)
    assert int.from_bytes(first, "big") ^ int.from_bytes(second, "big") == 1 << 255


def test_denied_and_expired_nodes_leave_their_place_but_never_their_node_id() -> None:
    kept = node("n1", "00")
    for gone in (node("n2", "80", denied=True), node("n2", "80", until=NOON - 1)):
        chosen = Register([kept, gone]).next_id("x", NOON).hex()
        assert chosen == "40".ljust(64, "0"), "the middle itself was given out before"
    assert Register([kept, node("n2", "c0", until=NOON - 1)]).next_id("x", NOON).hex() == "80".ljust(64, "0")
    assert Register([kept, node("n2", "c0", denied=True)]).next_id("x", NOON).hex() == "80".ljust(64, "0")
    assert Register([kept, node("n2", "c0")]).next_id("x", NOON).hex() == "60".ljust(64, "0")


def test_an_overlay_whose_nodes_have_all_gone_begins_anew_elsewhere() -> None:
    first = first_id("x")
    assert Register([node("n1", first, denied=True)]).next_id("x", NOON) not in (first, b"")
