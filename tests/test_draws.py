"""Random texts: long enough, never twice, the same from the same seed."""

from __future__ import annotations

import random
import re

from farm.draws import Draws


def test_every_text_has_sixty_four_bits_and_none_comes_twice() -> None:
    draws = Draws(random.Random(1))
    texts = [draws.make_text() for _ in range(1000)]
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in texts)
    assert len(set(texts)) == 1000


def test_a_seed_gives_the_same_texts_again() -> None:
    first, second = Draws(random.Random(7)), Draws(random.Random(7))
    assert [first.make_text() for _ in range(300)] == [second.make_text() for _ in range(300)]


def test_small_draws_keep_their_zeros() -> None:
    class Zeros(random.Random):
        def getrandbits(self, k: int, /) -> int:
            return 1

    draws = Draws(Zeros())
    assert [draws.make_text() for _ in range(256)] == ["0" * 16] * 255 + ["0" * 15 + "1"]
