"""How a command of the console is declared: its name, what it does, and an example of it.

Every command takes `-c` and `--json` (they are in `shared`), and its `--help` ends with an example that can be typed
as it stands: a test parses each. What the commands do is in the modules with `_cli` in their names.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any


def add_command(
    commands: Any,
    name: str,
    shared: Sequence[argparse.ArgumentParser],
    meaning: str,
    example: str,
    more: str = "",
) -> argparse.ArgumentParser:
    """A command among `commands`. `meaning` is a line without a full stop, `more` what `--help` adds to it; `example`
    is a command line, or several."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=list(shared),
        help=meaning,
        description=f"{meaning[:1].upper()}{meaning[1:]}.{' ' + more if more else ''}",
        epilog="\n".join(["example:", *(f"  {line}" for line in example.splitlines())]),
        formatter_class=_Help,
    )
    return parser


class _Help(argparse.HelpFormatter):
    """Folds descriptions, and leaves the lines of examples alone."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example:"):
            return text
        return super()._fill_text(text, width, indent)
