"""The words that labels take."""

from __future__ import annotations

import re

import pytest

from farm import labels

LISTS = sorted(name for name in vars(labels) if name.isupper() and isinstance(getattr(labels, name), tuple))


@pytest.mark.parametrize("name", LISTS)
def test_no_word_stands_in_a_list_twice(name: str) -> None:
    words = getattr(labels, name)
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", LISTS)
def test_words_need_no_quoting_in_a_query(name: str) -> None:
    for word in getattr(labels, name):
        for part in (word,) if isinstance(word, str) else word:
            assert re.fullmatch("[A-Za-z0-9-]+", part), part
