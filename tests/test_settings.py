"""The settings: each one explained, each default within its own limits, and the page of them up to date."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from docs.settings import make_page, read_texts
from farm.settings import SECTIONS, AuthSettings, Config, NodeSettings, SipSettings


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_has_a_sentence(section: str) -> None:
    texts = read_texts()
    fields = msgspec.structs.fields(SECTIONS[section])
    assert fields
    for field in fields:
        text = texts[SECTIONS[section].__name__, field.name]
        assert text.endswith((".", ")")), f"{section}.{field.name}: {text!r}"
        assert len(text) > 30, f"{section}.{field.name} is not explained"


@pytest.mark.parametrize("section", SECTIONS)
def test_units_are_in_the_names(section: str) -> None:
    for field in msgspec.structs.fields(SECTIONS[section]):
        if field.default in (msgspec.NODEFAULT, False, True) or not isinstance(field.default, float):
            continue
        assert field.name.endswith(("_seconds", "_per_second")), f"{section}.{field.name}"


def test_defaults_are_valid_values_themselves() -> None:
    config = Config(node=NodeSettings(name="n", state_dir="s"), sip=SipSettings(domains=("example.com",)))
    assert msgspec.convert(msgspec.to_builtins(config), Config) == config


def test_sections_are_those_of_the_configuration() -> None:
    assert list(SECTIONS) == [field.name for field in msgspec.structs.fields(Config)]


def test_settings_do_not_change_after_loading() -> None:
    with pytest.raises(AttributeError):
        AuthSettings().open = True  # type: ignore[misc]


def test_the_page_of_settings_is_up_to_date() -> None:
    page = Path(__file__).parent.parent / "docs" / "configuration.md"
    assert page.read_text() == make_page(), "run: make docs"


def test_every_setting_is_read_by_something() -> None:
    """A setting that nothing reads is a promise that nothing keeps."""
    root = Path(__file__).parent.parent / "farm"
    checking = ("settings.py", "farm_settings.py", "watch_settings.py", "config.py", "checks.py")
    code = "\n".join(path.read_text() for path in root.rglob("*.py") if path.name not in checking)
    unread = [
        f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in msgspec.structs.fields(kind)
        if not re.search(rf"\.{field.name}\b", code)
    ]
    assert not unread
