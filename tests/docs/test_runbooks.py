"""The runbooks: a page for each alert, and nothing in them that there is not."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from farm.admin.cli import make_parser
from farm.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "runbooks"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
HEADINGS = [
    "What it means",
    "What users notice",
    "How to look",
    "What to do",
    "When it is no problem",
    "How it clears",
]
SEVERITIES = {"critical": "Critical: somebody is woken.", "warning": "Warning: it can wait until morning."}
# Of prometheus_client's collector, by every node.
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}

each_page = pytest.mark.parametrize("page", [*PAGES, FOLDER / "README.md"], ids=lambda path: path.stem)


@cache
def rules() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    content = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())
    return {rule["alert"]: rule for group in content["groups"] for rule in group["rules"]}


@cache
def recorded() -> set[str]:
    """What recording rules make."""
    content = yaml.safe_load((ROOT / "deploy" / "recording.yml").read_text())
    return {rule["record"] for group in content["groups"] for rule in group["rules"]}


@cache
def texts_of_the_code() -> frozenset[str]:
    """All texts that stand in the source."""
    return frozenset(
        node.value
        for path in (ROOT / "farm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert [page.stem for page in PAGES] == sorted(rules())
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"


def test_the_index_has_every_alert_with_its_severity() -> None:
    found = dict(re.findall(r"^\| \[(\w+)\]\(\1\.md\) \| (\w+) \|", (FOLDER / "README.md").read_text(), re.MULTILINE))
    assert found == {name: rule["labels"]["severity"] for name, rule in rules().items()}


def test_every_alert_says_whether_it_wakes_somebody_and_what_is_wrong_with_what() -> None:
    for name, rule in rules().items():
        assert name.startswith("Sipfarm")
        assert set(rule["labels"]) == {"severity"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert not rule["annotations"]["summary"].endswith("."), name
        assert rule["annotations"]["description"].endswith("."), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_has_the_query_its_time_and_all_headings(page: Path) -> None:
    text = page.read_text()
    rule = rules()[page.stem]
    assert text.startswith(f"# {page.stem}\n\n{SEVERITIES[rule['labels']['severity']]}")
    assert (f"It fires when this has held for {rule['for']}." if "for" in rule else "It fires at once.") in text
    (query,) = re.findall(r"```promql\n(.*?)\n```", text, re.DOTALL)
    assert query == rule["expr"].strip()
    parts = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    assert parts[1::2] == HEADINGS
    assert all(part.strip() for part in parts[2::2])


@each_page
def test_every_metric_that_it_names_is_in_the_catalogue(page: Path) -> None:
    known = {family.name for family in Metrics().families} | PROCESS
    text = page.read_text()
    for name in re.findall(r"\b(?:sipfarm|process)_[a-z_]+", re.sub(r"job:\w+:\w+", "", text)):
        assert name in known or re.sub(r"_(bucket|count|sum)$", "", name) in known, name
    for name in re.findall(r"\bjob:\w+:\w+", text):
        assert name in recorded(), name


@each_page
def test_every_command_of_ours_that_it_shows_can_be_given(page: Path) -> None:
    blocks = re.findall(r"^ *```(?:sh|text)\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`(sipfarm [^`]+)`", page.read_text())
    for line in [*(line.strip() for block in blocks for line in block.splitlines()), *inline]:
        if line.startswith("sipfarm "):
            check_command(line)


def check_command(line: str) -> None:
    """Have the console read it; one that is named without its arguments counts as well."""
    complaint = io.StringIO()
    with contextlib.redirect_stderr(complaint), contextlib.suppress(SystemExit):
        make_parser().parse_args(shlex.split(line)[1:])
    assert not complaint.getvalue() or "the following arguments are required" in complaint.getvalue(), (
        f"{line}: {complaint.getvalue()}"
    )


@each_page
def test_every_line_of_the_log_that_it_quotes_stands_in_the_code(page: Path) -> None:
    for part in re.findall(r"In the log[^:]*: (`[^.]*)", page.read_text()):
        for quoted in re.findall(r"`([^`]*[ ][^`]*)`", part):
            quoted = " ".join(quoted.split())
            assert any(quoted in text for text in texts_of_the_code()), quoted


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@each_page
def test_every_setting_that_it_names_with_its_section_exists(page: Path) -> None:
    reference = (ROOT / "docs" / "configuration.md").read_text()
    for section, key in re.findall(r"`\[(\w+)\] (\w+)", page.read_text()):
        body = reference.partition(f"\n## [{section}]\n")[2].partition("\n## ")[0]
        assert f"| `{key}` |" in body, f"[{section}] {key}"


def test_alerts_that_any_page_names_exist() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(r"\bSipfarm[A-Z]\w+", path.read_text()):
            assert name in rules(), f"{path.relative_to(ROOT)}: {name}"
