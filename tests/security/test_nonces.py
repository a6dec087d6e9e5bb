"""Nonces any node can check, and counts that work once."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.security.nonces import NonceCounts, Nonces, Origin, Use

NOON = 1_800_000_000.0
KEY = b"k" * 32


def make_nonces(*secrets: bytes, life_seconds: float = 300.0, seed: int = 1, node: int = 0) -> Nonces:
    return Nonces(secrets or (KEY,), life_seconds, random.Random(seed), node)


class TestANonce:
    def test_a_nonce_of_one_node_is_good_on_another(self) -> None:
        nonce = make_nonces(seed=1).make("example.com", NOON)
        other = make_nonces(seed=2)
        origin = other.find_origin(nonce, "example.com")
        assert origin is not None
        assert origin.made_at == int(NOON)
        assert other.is_fresh(origin, NOON + 1)

    def test_two_nonces_of_a_second_differ(self) -> None:
        nonces = make_nonces()
        made = {nonces.make("example.com", NOON) for _ in range(1000)}
        assert len(made) == 1000
        assert {len(nonce) for nonce in made} == {32}

    def test_a_nonce_of_another_key_realm_or_hand_is_nobodys(self) -> None:
        nonces = make_nonces()
        nonce = nonces.make("example.com", NOON)
        assert make_nonces(b"x" * 32).find_origin(nonce, "example.com") is None
        assert nonces.find_origin(nonce, "example.net") is None
        for wrong in ("", nonce[:-1], nonce + "A", nonce.lower(), " " + nonce[1:], "\u00e9" * 32, "=" * 32):
            assert nonces.find_origin(wrong, "example.com") is None, wrong

    @pytest.mark.parametrize("node", [0, 1, 0xC0FFEE07, 0xFFFFFFFF])
    def test_every_node_reads_who_made_it(self, node: int) -> None:
        maker, other = make_nonces(node=node), make_nonces(seed=2, node=5)
        for _ in range(100):
            origin = other.find_origin(maker.make("example.com", NOON), "example.com")
            assert origin is not None
            assert origin.node == node

    @pytest.mark.parametrize("began", [7, 0xFFFFFFFF])
    def test_a_node_knows_which_nonces_it_made_since_it_was_started(self, began: int) -> None:
        nonces, before = make_nonces(seed=1), make_nonces(seed=2)
        nonces._made = nonces._began = began
        assert not nonces.has_made(Origin(int(NOON), began))
        for _ in range(3):
            for maker in (nonces, before):
                origin = nonces.find_origin(maker.make("example.com", NOON), "example.com")
                assert origin is not None
                assert nonces.has_made(origin) == (maker is nonces)
        assert not nonces.has_made(Origin(int(NOON), (began + 4) & 0xFFFFFFFF)), "not yet"

    def test_nobody_else_can_tell_nonces_of_one_node_from_another_s(self) -> None:
        """Nothing but the second stays the same, nor counts up."""
        nonces = make_nonces(node=0xC0FFEE07)
        made = [base64.b64decode(nonces.make("example.com", NOON)) for _ in range(256)]
        assert len({octets[:4] for octets in made}) == 1
        assert all(len({octets[place] for octets in made}) > 100 for place in range(4, 24))

    def test_no_two_nonces_of_a_node_have_one_serial_even_where_numbers_begin_anew(self) -> None:
        nonces = make_nonces()
        nonces._made = 0xFFFFFFFE
        serials = []
        for _ in range(4):
            origin = nonces.find_origin(nonces.make("example.com", NOON), "example.com")
            assert origin is not None
            serials.append(origin.serial)
        assert serials == [0xFFFFFFFF, 0, 1, 2]

    @given(st.integers(0, 23), st.integers(1, 255))
    def test_no_octet_of_it_can_be_changed(self, place: int, flip: int) -> None:
        nonces = make_nonces()
        octets = bytearray(base64.b64decode(nonces.make("example.com", NOON)))
        octets[place] ^= flip
        assert nonces.find_origin(base64.b64encode(octets).decode(), "example.com") is None

    @given(st.text(min_size=32, max_size=32))
    def test_any_text_is_nobodys(self, text: str) -> None:
        assert make_nonces().find_origin(text, "example.com") is None

    def test_after_a_key_rotation_old_nonces_still_open(self) -> None:
        nonces = make_nonces(b"1" * 32)
        old = nonces.make("example.com", NOON)
        nonces.set_secrets((b"2" * 32, b"1" * 32))
        new = nonces.make("example.com", NOON)
        assert nonces.find_origin(old, "example.com") is not None
        nonces.set_secrets((b"2" * 32,))
        assert nonces.find_origin(old, "example.com") is None
        assert nonces.find_origin(new, "example.com") is not None

    @pytest.mark.parametrize("secrets", [(), (b"short",), (KEY, b"")])
    def test_a_short_key_is_refused(self, secrets: tuple[bytes, ...]) -> None:
        with pytest.raises(ValueError, match="16 bytes"):
            Nonces(secrets, 300.0, random.Random(1))

    def test_it_is_fresh_for_its_life_and_forgives_clocks_30_seconds_apart(self) -> None:
        nonces = make_nonces(life_seconds=300)
        origin = Origin(1000, 1)
        fresh = {wall: nonces.is_fresh(origin, wall) for wall in (969.0, 970.0, 1000.0, 1300.0, 1301.0)}
        assert fresh == {969.0: False, 970.0: True, 1000.0: True, 1300.0: True, 1301.0: False}


class TestCounts:
    def test_a_count_works_once(self) -> None:
        counts = NonceCounts(300.0, 100)
        origin = Origin(int(NOON), 7)
        assert [counts.use(origin, count, NOON) for count in (1, 1, 2, 2, 1)] == [
            Use.FIRST,
            Use.REPLAYED,
            Use.FIRST,
            Use.REPLAYED,
            Use.REPLAYED,
        ]
        assert counts.use(Origin(int(NOON), 8), 1, NOON) is Use.FIRST

    def test_requests_that_overtook_each_other_pass_once_each(self) -> None:
        counts = NonceCounts(300.0, 100)
        origin = Origin(int(NOON), 7)
        order = [3, 1, 2, 66, 4, 67, 2, 3, 65, 65]
        first = [count for count in order if counts.use(origin, count, NOON) is Use.FIRST]
        assert first == [3, 1, 2, 66, 4, 67, 65]

    def test_a_count_more_than_63_behind_is_refused(self) -> None:
        counts = NonceCounts(300.0, 100)
        origin = Origin(int(NOON), 7)
        assert counts.use(origin, 100, NOON) is Use.FIRST
        assert counts.use(origin, 36, NOON) is Use.REPLAYED
        assert counts.use(origin, 37, NOON) is Use.FIRST

    def test_the_greatest_count_there_is_overflows_nothing(self) -> None:
        counts = NonceCounts(300.0, 100)
        origin = Origin(int(NOON), 7)
        uses = [counts.use(origin, count, NOON) for count in (0, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 1)]
        assert uses == [Use.FIRST, Use.FIRST, Use.REPLAYED, Use.FIRST, Use.REPLAYED]

    @given(st.lists(st.integers(0, 200), max_size=300))
    def test_whatever_the_order_no_count_passes_twice(self, order: list[int]) -> None:
        counts = NonceCounts(300.0, 100)
        origin = Origin(int(NOON), 7)
        passed = [count for count in order if counts.use(origin, count, NOON) is Use.FIRST]
        assert len(passed) == len(set(passed))
        highest = -1
        for count in order:
            assert count <= highest or count in passed
            highest = max(highest, count)

    def test_when_full_the_oldest_are_forgotten_and_must_ask_anew(self) -> None:
        counts = NonceCounts(640.0, 10)
        old = [Origin(int(NOON), serial) for serial in range(10)]
        assert all(counts.use(origin, 1, NOON) is Use.FIRST for origin in old)
        young = Origin(int(NOON) + 100, 1)
        assert counts.use(young, 1, NOON + 100) is Use.FIRST
        assert len(counts) == 1
        assert counts.use(old[0], 1, NOON + 100) is Use.FORGOTTEN
        assert counts.use(old[0], 2, NOON + 100) is Use.FORGOTTEN
        assert counts.use(young, 1, NOON + 100) is Use.REPLAYED

    def test_no_replay_passes_however_full_it_gets(self) -> None:
        counts = NonceCounts(300.0, 50)
        rng = random.Random(5)
        passed: set[Origin] = set()
        for step in range(5000):
            wall = NOON + step / 10
            origin = Origin(int(wall) - rng.randrange(20), rng.randrange(200))
            if counts.use(origin, 1, wall) is Use.FIRST:
                assert origin not in passed
                passed.add(origin)
            assert len(counts) <= 50
        assert len(passed) > 500

    def test_what_is_too_old_anyway_takes_no_room(self) -> None:
        counts = NonceCounts(64.0, 1000)
        for step in range(2000):
            wall = NOON + step
            counts.use(Origin(int(wall), step), 1, wall)
        assert len(counts) <= 64 + 30 + 2

    def test_what_was_made_before_the_node_was_started_is_not_known(self) -> None:
        """It may have been used; nobody remembers."""
        counts = NonceCounts(300.0, 100, NOON + 0.7)
        assert counts.use(Origin(int(NOON) - 1, 1), 1, NOON + 2) is Use.FORGOTTEN
        assert counts.use(Origin(int(NOON), 2), 1, NOON + 2) is Use.FIRST
        assert counts.use(Origin(int(NOON), 2), 1, NOON + 2) is Use.REPLAYED

    def test_a_clock_that_was_ahead_when_the_node_was_started_locks_nobody_out(self) -> None:
        counts = NonceCounts(300.0, 100, NOON + 86_400)
        assert counts.use(Origin(int(NOON), 1), 1, NOON) is Use.FIRST
        assert counts.use(Origin(int(NOON), 1), 1, NOON) is Use.REPLAYED

    def test_a_clock_set_back_locks_nobody_out(self) -> None:
        counts = NonceCounts(300.0, 1)
        counts.use(Origin(int(NOON), 1), 1, NOON)
        counts.use(Origin(int(NOON) + 50, 2), 1, NOON + 50)
        before = NOON - 86_400
        assert counts.use(Origin(int(before), 3), 1, before) is Use.FIRST
        assert counts.use(Origin(int(before), 3), 1, before) is Use.REPLAYED
