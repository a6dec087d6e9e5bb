"""The list of compiled modules in setup.py, checked without compiling: tests/live/test_compiled.py does that."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.test_architecture import FARM, MAY_IMPORT_TWISTED, MODULES, ROOT, name_of, parse


def find_compiled() -> list[Path]:
    for node in parse(ROOT / "setup.py").body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMPILED":
            return [ROOT / path for path in ast.literal_eval(node.value)]
    raise AssertionError("setup.py has no COMPILED")


COMPILED = find_compiled()


def classes_of(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef))


def test_the_list_is_in_order_and_names_modules_that_there_are() -> None:
    assert sorted(set(COMPILED)) == COMPILED
    assert set(COMPILED) <= set(MODULES)


def test_no_compiled_module_knows_twisted() -> None:
    assert {name_of(path) for path in COMPILED} & MAY_IMPORT_TWISTED == set()


def test_nobody_outside_inherits_from_a_class_inside() -> None:
    """Compiled code raises TypeError for an object of a subclass that it was not compiled with."""
    inside = {node.name for path in COMPILED for node in classes_of(path)}
    protocols = {
        node.name for path in COMPILED for node in classes_of(path) if "Protocol" in map(ast.unparse, node.bases)
    }
    for path in set(MODULES) - set(COMPILED):
        for node in classes_of(path):
            bases = {ast.unparse(base).split(".")[-1] for base in node.bases}
            assert not bases & (inside - protocols), f"{path.relative_to(FARM)}: {node.name}"
