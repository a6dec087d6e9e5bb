"""What the error messages of a configuration suggest."""

from __future__ import annotations

import pytest

from farm.near_misses import choices_of, explain_unknown_key, explain_unknown_section, fields_of, suggest


def test_a_near_word_is_suggested_and_a_far_one_is_not() -> None:
    assert suggest("Listn", ["listen", "role"]) == '; did you mean "listen"?'
    assert suggest("xyzzy", ["listen", "role"]) == ""


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("sip", "listn", 'unknown key; did you mean "listen"?'),
        ("sip", "domain", 'unknown key; did you mean "domains"?'),  # although [[routes]] have that
        ("sip", "idle_seconds", 'unknown key; did you mean "idle_seconds" of section [limits]?'),
        ("store", "secret", "unknown key (secrets are never settings: they are named by file)"),
    ],
)
def test_an_unknown_key_is_looked_for_here_then_in_other_sections(section: str, key: str, meant: str) -> None:
    assert explain_unknown_key(section, key) == meant


def test_an_unknown_section_is_answered_with_the_nearest_or_with_all() -> None:
    assert explain_unknown_section("registar") == 'unknown section; did you mean "registrar"?'
    assert "the sections are node, sip, tls" in explain_unknown_section("qq")


def test_fields_and_choices_are_those_of_the_settings() -> None:
    assert choices_of("tls", "client_certificates") == ["off", "request", "require"]
    assert fields_of("node")["name"] is str
