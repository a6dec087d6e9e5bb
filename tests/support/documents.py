"""A page of the documentation as what it is made of: headings, links, and fenced blocks with what their fences say.

A fence says after its language what a test does with it:

- ```` ```sh n1 n2 ```` is run on these machines, one after the other; without a name on that of the page's reader.
  `background` lets it run until the page ends, `fails` expects an exit code other than 0, `online` gives it the
  network of the computer that runs the tests, for what must be fetched.
- ```` ```toml n1:/etc/sipfarm/node.toml ```` is written to that file there, which is what the text above it says to do.
- ```` ```text output ```` is what the block above it writes: line by line, in that order, `…` for anything.

All others are shown only. Plain text in, plain values out; nothing is read or run here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

FLAGS: Final = frozenset(("background", "fails", "online"))

_FENCE: Final = re.compile(r"^( *)(```+)(.*)$")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(.+)$")
_PLACE: Final = re.compile(r"^([a-z0-9,]+):(/\S+)$")


class Block(NamedTuple):
    """A fenced block: the line of its fence, its language, the words after that, and its text."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str

    @property
    def machines(self) -> tuple[str, ...]:
        """Where it is run or written; () for that of the reader."""
        place = self.place
        if place is not None:
            return place[0]
        return tuple(word for word in self.words if word not in FLAGS)

    @property
    def place(self) -> tuple[tuple[str, ...], str] | None:
        """The machines and the path of a file that it is; None when it is none."""
        for word in self.words:
            match = _PLACE.match(word)
            if match:
                return tuple(match[1].split(",")), match[2]
        return None

    @property
    def is_run(self) -> bool:
        """Whether it consists of commands."""
        return self.language == "sh"

    @property
    def is_output(self) -> bool:
        """Whether it is what the block above it writes."""
        return self.language == "text" and self.words == ("output",)


def read_blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page in their order. Raises ValueError for one that does not end."""
    begun: Block | None = None
    indent, fence = "", ""
    lines: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        match = _FENCE.match(line)
        if begun is None:
            if match:
                indent, fence = match[1], match[2]
                language, *words = match[3].split() or [""]
                begun = Block(number, language, tuple(words), "")
                lines = []
        elif match and match[2] == fence and not match[3].strip():
            yield begun._replace(text="".join(f"{text}\n" for text in lines))
            begun = None
        else:
            lines.append(line.removeprefix(indent))
    if begun is not None:
        raise ValueError(f"line {begun.line}: the block does not end")


def read_links(page: str) -> list[str]:
    """The targets of a page's links, those in blocks left out."""
    return [link for line in _prose(page) for link in _LINK.findall(line)]


def read_anchors(page: str) -> set[str]:
    """What links to a page may name after #, made of its headings as GitHub makes it."""
    found = set()
    for line in _prose(page):
        heading = _HEADING.match(line)
        if heading:
            plain = re.sub(r"[^\w\- ]", "", heading[1].lower())
            found.add(plain.strip().replace(" ", "-"))
    return found


def read_table(page: str, first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has that title, without backquotes. Raises ValueError without one."""
    rows: list[list[str]] = []
    wanted = False
    for line in _prose(page):
        if not line.startswith("|"):
            if wanted and rows:
                return rows
            wanted = False
            continue
        cells = [cell.strip().replace("`", "") for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
        if cells[0] == first_column:
            wanted = True
        elif wanted and not set(cells[0]) <= set("-: "):
            rows.append(cells)
    if wanted and rows:
        return rows
    raise ValueError(f"no table begins with a column {first_column!r}")


def find_missing(expected: str, written: str) -> str | None:
    """The first line of an example that what was written has not, in that order; None when all are there."""
    left = iter(written.splitlines())
    for line in expected.splitlines():
        wanted = line.strip()
        if not wanted or wanted == "…":
            continue
        pattern = ".*".join(re.escape(" ".join(part.split())) for part in wanted.split("…"))
        if not any(re.fullmatch(pattern, " ".join(text.split())) for text in left):
            return line
    return None


def _prose(page: str) -> Sequence[str]:
    """The lines of a page that stand in no block."""
    kept, fence = [], ""
    for line in page.splitlines():
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[2]
        elif match and match[2] == fence and not match[3].strip():
            fence = ""
        elif not fence:
            kept.append(line)
    return kept
