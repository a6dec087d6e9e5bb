"""The page of metrics: up to date, and whole."""

from __future__ import annotations

import re
from pathlib import Path

from docs.metrics import make_page, read_rules
from farm.metrics import Metrics
from grafana.generate import names_of_rules

PAGE = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


def test_the_file_is_what_the_generator_makes() -> None:
    assert PAGE.read_text() == make_page(), "run: make docs"


def test_every_metric_and_every_recorded_figure_has_one_row() -> None:
    named = [
        name
        for row in re.findall(r"^\| (`sipfarm_.+?|`[a-z_]+:.+?) \|", make_page(), re.MULTILINE)
        for name in re.findall("`([^`]+)`", row)
    ]
    assert sorted(named) == sorted({family.name for family in Metrics().families} | names_of_rules())


def test_every_recorded_figure_is_explained() -> None:
    for meaning, names in read_rules():
        assert len(meaning) > 20, names


def test_a_label_s_words_are_spelt_out_unless_there_are_many() -> None:
    page = make_page()
    assert (
        "| `sipfarm_records` | `kind`: registration, credential, keys, config, other; `role`: owner, replica, guest |"
        in page
    )
    assert "| `sipfarm_gateway_up` | `target`: from the configuration |" in page
    assert re.search(r"`reason`: address-of-record-not-sip, .+ and \d+ more", page)
