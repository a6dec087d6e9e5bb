"""The rules of the layout, checked by reading the source: who may import whom, who may know Twisted, what has a test.

Read this first: MAY_IMPORT is the map of the packages. Arrows point down only, and siblings meet in the composition
root alone (`service`, with `records`, which puts the local store together). Imports for type checkers count as well.
"""

from __future__ import annotations

import ast
import importlib
import re
import re._constants as constants  # type: ignore[import-not-found]
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FARM = ROOT / "farm"
MODULES = sorted(path for path in FARM.rglob("*.py") if path.name != "__init__.py")
PACKAGES = sorted(path for path in FARM.rglob("__init__.py"))

LEAVES = {
    "addresses", "deadlines", "draws", "metrics", "labels", "series", "config", "settings", "sections", "farm_settings",
    "watch_settings", "sources", "logs",
}  # fmt: skip
MIDDLE = {"transaction", "security", "sip"}
SIBLINGS = {"accounting", "admin", "capture", "frontend", "overlay", "proxy", "registrar", "resolve", "transport"}

MAY_IMPORT: dict[str, set[str]] = {
    # leaves: nothing, or a leaf that they are made of
    "deadlines": set(),
    "draws": set(),
    "series": set(),
    "labels": {"series"},
    "metrics": {"labels", "series"},
    "logs": {"series"},
    "sections": set(),
    "farm_settings": {"sections"},
    "watch_settings": {"sections"},
    "settings": {"farm_settings", "sections", "watch_settings"},
    "sources": set(),
    "near_misses": {"settings"},
    "addresses": set(),
    "checks": {"addresses", "farm_settings", "settings", "sources", "watch_settings"},
    "config": {"checks", "farm_settings", "near_misses", "settings", "sources", "watch_settings"},
    "systemd": set(),
    "lock": {"config"},
    "changes": {"config", "settings"},
    "open_files": set(),
    "ports": {"addresses", "config"},
    "preflight": LEAVES | {"capture", "lock", "open_files", "overlay", "ports", "records", "security"},
    # the language, and what stands on it
    "sip": set(),
    "transaction": LEAVES | {"sip"},
    "security": LEAVES | {"sip"},
    # siblings: never each other
    "accounting": LEAVES | MIDDLE,
    "admin": LEAVES | MIDDLE | {"public"},
    "capture": LEAVES | {"sip"},
    "frontend": LEAVES | MIDDLE,
    "overlay": LEAVES | {"security"},  # knows nothing of SIP
    "proxy": LEAVES | MIDDLE,
    "registrar": LEAVES | MIDDLE,
    "resolve": LEAVES | MIDDLE,
    "transport": LEAVES | MIDDLE,
    # the composition root and the two ways in
    "pump": {"deadlines", "metrics"},
    "records": LEAVES | {"overlay", "registrar", "security"},
    "offline": LEAVES | {"lock", "overlay", "records", "security"},
    "names": {"overlay", "resolve"},
    "keyring": LEAVES | {"security"},
    "member": LEAVES | {"overlay", "public", "records", "security"},
    "public": {"addresses", "config"},
    "load": set(),
    "edges": LEAVES | {"frontend", "load", "member", "overlay", "public"},
    "rendezvous": set(),
    "relays": LEAVES | {"frontend", "member", "overlay", "proxy", "rendezvous", "sip", "transaction", "transport"},
    "ended_calls": LEAVES | {"accounting", "member", "overlay", "proxy", "relays", "sip"},
    "call_records": LEAVES | {"accounting", "ended_calls", "overlay", "proxy", "records", "sip"},
    "spending": {"member", "overlay", "security"},
    "tracing": LEAVES | {"capture", "overlay"},
    "watching": LEAVES | {"capture", "member", "tracing", "transport"},
    "standing": LEAVES,
    "overview": LEAVES | {"admin", "farm", "member", "overlay", "pump", "records"},
    "reports": LEAVES
    | SIBLINGS
    | {
        "call_records",
        "changes",
        "edges",
        "farm",
        "keyring",
        "member",
        "overview",
        "records",
        "security",
        "sip",
        "tracing",
        "watching",
    },
    "core": LEAVES
    | MIDDLE
    | SIBLINGS
    | {"call_records", "ended_calls", "keyring", "member", "records", "relays", "spending"},
    "service": LEAVES
    | MIDDLE
    | SIBLINGS
    | {
        "call_records",
        "changes",
        "core",
        "edges",
        "farm",
        "lock",
        "member",
        "names",
        "pump",
        "records",
        "reports",
        "standing",
        "watching",
    },
    "tap": LEAVES | {"changes", "open_files", "service", "systemd", "transport", "farm"},
    "console": LEAVES | {"admin", "offline", "preflight", "farm"},
}

# All others are plain Python that is told the time. Starred in the design, or a thin shell around a socket or a timer.
MAY_IMPORT_TWISTED = {
    "accounting/redis_writer",
    "admin/http",
    "admin/visits",
    "frontend/authority",
    "overlay/link",
    "overlay/multicast",
    "overlay/redis_journal",
    "overlay/rpc",
    "overlay/shared",
    "call_records",  # writes in a thread
    "core",
    "pump",  # the one timer of the process
    "member",
    "records",  # runs the journal's writer in a thread
    "reports",
    "resolve/resolver",
    "service",
    "spending",
    "tap",
    "watching",
    "transport/datagrams",
    "transport/layer",
    "transport/proxied",
    "transport/stream",
    "transport/tls",
    "transport/udp",
    "transport/websocket",
}

MAY_READ_CLOCKS = MAY_IMPORT_TWISTED | {
    "console",
    "logs",
    "offline",
    "admin/cli",
    "admin/check_cli",
    "admin/client",
    "admin/control",
    "admin/demo",
}

BANNED_WORDS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "processor", "engine"}
MOST_LINES = 500


def name_of(path: Path) -> str:
    """A module as it is named here: "sip/uri", "deadlines"."""
    return str(path.relative_to(FARM).with_suffix(""))


def part_of(path: Path) -> str:
    """The package of a module, or the module itself at the top."""
    return name_of(path).split("/")[0]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, wherever it does so."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            yield node.lineno, node.module
            if node.module == "farm":
                for alias in node.names:
                    if (FARM / alias.name).is_dir() or (FARM / f"{alias.name}.py").exists():
                        yield node.lineno, f"farm.{alias.name}"


each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


@each_module
def test_imports_point_down_only(path: Path) -> None:
    own = part_of(path)
    assert own in MAY_IMPORT, f"say in MAY_IMPORT where farm/{own} stands"
    for line, module in imports_of(path):
        head, _, rest = module.partition(".")
        if head != "farm":
            continue
        other = rest.split(".")[0] or "farm"
        assert other == own or other in MAY_IMPORT[own], f"{path}:{line}: {own} may not import {module}"


@each_module
def test_only_the_starred_modules_know_twisted(path: Path) -> None:
    for line, module in imports_of(path):
        if module.split(".")[0] in ("twisted", "zope"):
            assert name_of(path) in MAY_IMPORT_TWISTED, f"{path}:{line}: {module}"
            assert module != "twisted.internet.reactor", f"{path}:{line}: the reactor is passed in"


@each_module
def test_time_and_chance_are_arguments(path: Path) -> None:
    """Twisted-free code that asks a clock or the global random could not be replayed."""
    if name_of(path) in MAY_READ_CLOCKS:
        return
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            called = f"{node.value.id}.{node.attr}"
            assert node.value.id != "time", f"{path}:{node.lineno}: {called}"
            assert node.value.id != "random" or node.attr == "Random", f"{path}:{node.lineno}: {called}"
            assert called not in ("datetime.now", "datetime.utcnow"), f"{path}:{node.lineno}: {called}"


@each_module
def test_every_module_has_a_test_twin(path: Path) -> None:
    relative = path.relative_to(FARM)
    twin = ROOT / "tests" / relative.parent / f"test_{relative.name}"
    assert twin.exists(), f"{path.relative_to(ROOT)} has no {twin.relative_to(ROOT)}"


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_package_s_init_is_its_docstring(path: Path) -> None:
    """farm/__init__.py, the map, has the version too."""
    tree = parse(path)
    assert ast.get_docstring(tree)
    rest = [node for node in tree.body[1:] if not (isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    if path.parent == FARM:
        (version,) = rest
        assert isinstance(version, ast.Assign)
        assert ast.unparse(version.targets[0]) == "__version__"
    else:
        assert rest == []


@pytest.mark.parametrize("path", PACKAGES[1:], ids=lambda path: str(path.parent.relative_to(ROOT)))
def test_a_package_s_docstring_names_its_files(path: Path) -> None:
    """It is the reading order: a file that it does not name is a file that nobody finds."""
    named = set(re.findall(r"`([a-z_]+)(?:\.py)?`", ast.get_docstring(parse(path)) or ""))
    found = {module.stem for module in path.parent.glob("*.py")} - {"__init__"}
    assert found - named == set()


@each_module
def test_a_module_says_what_it_is_for_and_is_short_enough_to_be_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path}: no docstring"
    assert "\nfrom __future__ import annotations\n" in text
    assert len(text.splitlines()) <= MOST_LINES, f"{path}: split it by noun"


@each_module
def test_names_say_what_a_thing_is(path: Path) -> None:
    """No drawers."""
    words = set(path.stem.split("_"))
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.ClassDef):
            words |= {word.lower() for word in _split_words(node.name)}
    assert not words & BANNED_WORDS


def _split_words(name: str) -> list[str]:
    """The words of a class name."""
    spaced = "".join(f" {character}" if character.isupper() else character for character in name)
    return spaced.replace("_", " ").split()


@each_module
def test_nothing_changes_at_the_level_of_a_module(path: Path) -> None:
    """What a module assigns are constants and types: no registry, no settings, no cache that all nodes would share."""
    for node in parse(path).body:
        if isinstance(node, ast.AnnAssign):
            names: list[ast.expr] = [node.target]
        elif isinstance(node, ast.Assign):
            names = node.targets
        else:
            continue
        for name in names:
            text = ast.unparse(name)
            if text.startswith("__") or text == "_log" or isinstance(node.value, ast.Attribute):
                continue  # the last is a function under a shorter name
            plain = text.lstrip("_")
            assert plain[:1].isupper(), f"{path}:{node.lineno}: {text}"
            if isinstance(node.value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)):
                assert isinstance(node, ast.AnnAssign), f"{path}:{node.lineno}: {text} wants Final"
                assert "Final" in ast.unparse(node.annotation), f"{path}:{node.lineno}: {text} wants Final"


@each_module
def test_what_others_use_is_documented(path: Path) -> None:
    """Public classes, functions and methods; what a Protocol or a base class has said need not be said again."""
    for node in parse(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name}"


@each_module
def test_no_pattern_has_a_possessive_group(path: Path) -> None:
    """Before 3.11.5 Python matches them wrongly (gh-106052): Debian 12's 3.11.2 took no `sip:example.com`."""
    module = importlib.import_module(f"farm.{name_of(path).replace('/', '.')}")
    for name, value in vars(module).items():
        if isinstance(value, re.Pattern):
            assert not list(find_possessive_groups(value.pattern)), f"{path}: {name}: {value.pattern}"


@pytest.mark.parametrize("pattern", ["(?:a|bc)?+", "(a+)*+", "(?:ab)++", "x(?:(?>ab)|(?:a{2}){1,2}+)", "(?=(?:ab)++)"])
def test_a_possessive_group_is_found_wherever_it_is(pattern: str) -> None:
    assert list(find_possessive_groups(pattern))
    assert not list(find_possessive_groups(r"(?:[ab]++|%[0-9]{2})+(?:;.*+)?\.?+"))


def find_possessive_groups(pattern: str | bytes) -> Iterator[object]:
    """What is possessive or atomic in a pattern and is more than one character."""
    yield from _walk(parser.parse(pattern))


def _walk(part: Iterable[Any]) -> Iterator[object]:
    for operation, argument in part:
        if operation is constants.ATOMIC_GROUP:
            yield argument
        elif operation is constants.POSSESSIVE_REPEAT:
            _least, _most, repeated = argument
            if [kind for kind, _ in repeated] not in ([kind] for kind in _CHARACTERS):
                yield repeated
        yield from _walk_inside(argument)


def _walk_inside(argument: object) -> Iterator[object]:
    """The patterns in the argument of an operation, however it nests them."""
    if isinstance(argument, parser.SubPattern):
        yield from _walk(argument)
    elif isinstance(argument, tuple | list):
        for inner in argument:
            yield from _walk_inside(inner)


_CHARACTERS = (constants.LITERAL, constants.NOT_LITERAL, constants.IN, constants.ANY)


def test_the_map_names_every_part() -> None:
    found = {part_of(path) for path in MODULES}
    assert found <= set(MAY_IMPORT)
    assert {name for name in MAY_IMPORT if name not in found} == set(), "MAY_IMPORT names what is not there"


def test_the_plugin_directory_is_no_package() -> None:
    """With an __init__.py there, it would hide Twisted's own plugins."""
    assert not (ROOT / "twisted" / "__init__.py").exists()
    assert not (ROOT / "twisted" / "plugins" / "__init__.py").exists()
    assert (ROOT / "twisted" / "plugins" / "farm_plugin.py").exists()
