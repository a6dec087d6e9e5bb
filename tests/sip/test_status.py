"""Response codes and the one error of the language."""

from __future__ import annotations

import pytest

from farm.sip.status import PHRASES, SipError, phrase_of


def test_a_known_code_has_its_registered_phrase() -> None:
    assert phrase_of(404) == "Not Found"
    assert phrase_of(487) == "Request Terminated"


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(199, "Early Dialog Terminated"), (150, "Progress"), (299, "OK"), (399, "Redirected"), (499, "Request Failed")],
)
def test_an_unknown_code_has_the_phrase_of_its_class(status: int, phrase: str) -> None:
    assert phrase_of(status) == phrase


def test_every_listed_code_is_a_final_or_provisional_status() -> None:
    assert all(100 <= status <= 699 and phrase for status, phrase in PHRASES.items())


def test_an_error_carries_what_its_sender_hears_and_the_slug_it_is_counted_by() -> None:
    error = SipError(420, reason="unknown-extension", headers=(("unsupported", "foo"),))
    assert (error.status, error.phrase, error.reason) == (420, "Bad Extension", "unknown-extension")
    assert error.headers == (("unsupported", "foo"),)
    assert str(error) == "420 Bad Extension (unknown-extension)"


def test_an_error_without_a_slug_is_counted_by_its_phrase() -> None:
    assert SipError(404).reason == "not-found"
