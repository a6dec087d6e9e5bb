"""What pages say of ports, settings and commands is so."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, get_type_hints

import pytest

from farm.admin.cli import make_parser
from farm.config import load
from farm.settings import SECTIONS, Config
from tests.support.documents import read_table

ROOT: Final = Path(__file__).parent.parent.parent
ROWS: Final = read_table((ROOT / "docs" / "handbook" / "ports.md").read_text(), "port")
PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
FILES: Final = ("sipfarm.socket", "kubernetes/daemonset.yaml", "kubernetes/service.yaml")


def ports(row: list[str]) -> set[int]:
    """The numbers of a row's first column."""
    return {int(number) for number in re.findall(r"\d+", row[0])}


def row_of(setting: str) -> list[str]:
    """The row of a setting."""
    (row,) = [row for row in ROWS if setting in row[4]]
    return row


@pytest.fixture
def defaults(tmp_path: Path) -> Config:
    file = tmp_path / "node.toml"
    file.write_text('[node]\nname = "n1"\nstate_dir = "/tmp"\n[sip]\ndomains = ["example.com"]\n')
    return load(str(file), environ={})


def test_every_setting_that_the_table_of_ports_names_is_one() -> None:
    names = [found for row in ROWS for found in re.findall(r"\[(\w+)\](?: (\w+))?", row[4])]
    assert names
    for section, key in names:
        assert section in SECTIONS, section
        assert not key or key in SECTIONS[section].__struct_fields__, key


def test_what_a_node_listens_on_by_default_is_in_the_table_of_ports(defaults: Config) -> None:
    sip = [row for row in ROWS if "[sip] listen" in row[4]]
    for listener in defaults.sip.listen:
        transport, port = listener.split(":", 1)[0], listener.rpartition(":")[2]
        assert any(int(port) in ports(row) and transport.upper() in row[0] for row in sip), listener
    assert ports(row_of("[admin] http")) == {int(defaults.admin.http.rpartition(":")[2])}
    assert ports(row_of("[store] redis")) == {int(defaults.store.redis.rpartition(":")[2])}


@pytest.mark.parametrize("name", FILES)
def test_ports_of_files_in_deploy_are_in_the_table_of_ports(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    kinds = {"Datagram": "UDP", "Stream": "TCP"}
    opened = {(kinds[kind], number) for kind, number in re.findall(r"Listen(\w+)=\S+:(\d+)", text)}
    opened |= {(kind, number) for number, kind in re.findall(r"containerPort: (\d+), protocol: (\w+)", text)}
    opened |= {("TCP", number) for number in re.findall(r"(?m)^ +port: (\d+)", text)}
    assert opened
    for kind, number in opened:
        assert any(kind in row[0] and int(number) in ports(row) for row in ROWS), (kind, number)


def test_the_example_for_nftables_opens_what_strangers_and_phones_may_reach() -> None:
    page = (ROOT / "docs" / "handbook" / "ports.md").read_text()
    opened = {
        int(number)
        for inside in re.findall(r"^ +(?:udp|tcp) dport \{ ([\d, ]+) \} accept$", page, re.MULTILINE)
        for number in inside.split(",")
    }
    assert opened == {22, 53, 443, 5060, 5061}
    inner = dict(re.findall(r"saddr (\S+) tcp dport (\d+) accept", page))
    assert set(inner.values()) == {"7400", "9464"}


def code_of(page: Path) -> set[str]:
    """What stands between backquotes in a page's text."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", prose))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_is_one(page: Path) -> None:
    for code in code_of(page):
        named = re.fullmatch(r"\[\[?(\w+)\]\]?(?: (\w+)(?: = .*)?)?", code)
        if named and named[1] != "Service":
            section = SECTIONS.get(named[1]) or get_type_hints(Config)[named[1]].__args__[0]
            assert not named[2] or named[2] in section.__struct_fields__, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_names_is_one(page: Path) -> None:
    """Those in blocks are run; this is for what stands in a sentence."""
    actions = {" ".join(words) for words in find_commands(make_parser())}
    for code in code_of(page):
        words = code.split()
        if words[0] == "sipfarm" and len(words) > 1:
            known = [action for action in actions if f"{' '.join(words[1:])} ".startswith(f"{action} ")]
            assert known, code


def find_commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    """The words of all commands of a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield (name,)
                yield from ((name, *words) for words in find_commands(below))
