"""Every command answers JSON, and its help has examples that can be typed."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator

import pytest

from farm.admin.cli import make_parser
from farm.admin.grammar import add_command


def find_commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command below a parser, by the words that are typed for it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield path
    for group in groups:
        for name, inner in group.choices.items():
            yield from find_commands(inner, (*path, name))


def find_parser(path: tuple[str, ...]) -> argparse.ArgumentParser:
    """The parser of a command."""
    parser = make_parser()
    for name in path:
        (group,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        parser = group.choices[name]
    return parser


COMMANDS = sorted(find_commands(make_parser()))
each_command = pytest.mark.parametrize("path", COMMANDS, ids=" ".join)


@each_command
def test_every_command_answers_json_and_says_which_node_is_meant(path: tuple[str, ...]) -> None:
    options = {name for action in find_parser(path)._actions for name in action.option_strings}
    assert {"--json", "--config", "--help"} <= options


@each_command
def test_every_help_says_what_the_command_does_with_examples_that_can_be_typed(path: tuple[str, ...]) -> None:
    parser = find_parser(path)
    assert parser.description
    assert parser.description.endswith(".")
    head, *examples = (parser.epilog or "").splitlines()
    assert head == "example:"
    assert examples
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "sipfarm"
        assert tuple(words[: len(path)]) == path
        make_parser().parse_args(words)  # ends the program where it is wrong
        assert f"{example}\n" in parser.format_help(), "as it stands, not folded"


@each_command
def test_every_option_and_argument_says_what_it_is(path: tuple[str, ...]) -> None:
    for action in find_parser(path)._actions:
        assert action.help, (path, action.dest)


def test_the_commands_that_were_promised_are_there() -> None:
    found = {" ".join(path) for path in COMMANDS}
    assert found >= {
        "ca init", "ca issue", "ca renew", "ca deny", "ca roll", "check", "user add", "user passwd", "user remove",
        "user list", "user import", "status", "members", "locate", "bindings show", "bindings remove", "lookup",
        "drain", "undrain", "zone", "trace", "bans", "top", "demo", "reload", "wait", "calls",
        "keys show", "keys rotate",
    }  # fmt: skip


def test_what_the_help_adds_follows_the_meaning() -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    parser = add_command(commands, "dig", [], "make a hole", "sipfarm dig\nsipfarm dig --deep", "It is deep.")
    assert parser.description == "Make a hole. It is deep."
    assert parser.format_help().endswith("example:\n  sipfarm dig\n  sipfarm dig --deep\n")
