"""Small plots of the last hour and the strip of partitions, as SVG.

The newest value is at the right edge, whatever the history is long: an hour is always as wide. 360 samples are drawn as
120, of which a plot says whether it wants their sum, mean or most. Where nothing was measured there is a gap, and a
value without neighbours is a dot. Each plot says in words what it shows, for those who hear the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from farm.admin.markup import clean, write_count

Values = Sequence[float | None]

WIDTH: Final = 360
HEIGHT: Final = 104
_POINTS: Final = 120
_HOUR_SECONDS: Final = 3600.0
_TOP: Final = 16
_BOTTOM: Final = 86
_COLUMNS: Final = 32
_CELL: Final = 10
_NOTHING: Final = f'<text class="nothing" x="{WIDTH // 2}" y="{(_TOP + _BOTTOM) // 2 - 6}">nothing measured yet</text>'


class Line(NamedTuple):
    """What one line of a plot shows: how it is called, the class that colours it, its values, and what becomes of
    several values in one point."""

    name: str
    style: str
    values: Values
    merge: Callable[[list[float]], float]


def mean(values: list[float]) -> float:
    """Of rates."""
    return sum(values) / len(values)


def draw_plot(
    title: str, lines: Sequence[Line], write: Callable[[float], str], *, seconds_each: float, bars: bool = False
) -> str:
    """A plot with its title, the newest values and the highest. `write` writes a value with its unit."""
    merged = [(line, _merge(line, seconds_each)) for line in lines]
    seen = [value for _, points in merged for value in points if value is not None]
    highest = max(seen, default=0.0)
    top = _round_up(highest) or 1.0
    draw = _draw_bars if bars else _draw_line
    body = "".join(draw(points, top, line.style) for line, points in merged)
    newest = "".join(
        f'<span class="{line.style}">{clean(line.name)} <b>{_write_newest(line.values, write)}</b></span>'
        for line in lines
    )
    said = ", ".join(f"{line.name} {_write_newest(line.values, write)}" for line in lines)
    most = f"now {said}; the highest was {write(highest)}" if seen else "nothing measured yet"
    label = f"{title} in the last hour: {most}."
    middle = (_TOP + _BOTTOM) / 2
    return (
        f'<figure class="plot"><figcaption><h3>{clean(title)}</h3>{newest}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{clean(label, 300)}">'
        f'<path class="grid" d="M0 {_TOP}H{WIDTH}M0 {middle:g}H{WIDTH}"/>'
        f'<path class="axis" d="M0 {_BOTTOM}H{WIDTH}"/>{body}'
        f"{_write_scale(top, write) if seen else _NOTHING}"
        f'<text x="0" y="{HEIGHT - 4}">an hour ago</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end">now</text>'
        "</svg></figure>"
    )


def _write_scale(top: float, write: Callable[[float], str]) -> str:
    return f'<text x="0" y="{_TOP - 4}">{clean(write(top))}</text>'


def _write_newest(values: Values, write: Callable[[float], str]) -> str:
    """Of the last minute: a phone does not register every ten seconds."""
    newest = next((value for value in reversed(values[-6:]) if value is not None), None)
    return "–" if newest is None else write(newest)


def _merge(line: Line, seconds_each: float) -> list[float | None]:
    """The points of an hour, the newest last."""
    samples = max(1, round(_HOUR_SECONDS / seconds_each))
    each = max(1, samples // _POINTS)
    values = ([None] * samples + list(line.values))[-samples:]
    points: list[float | None] = []
    for start in range(0, samples, each):
        there = [value for value in values[start : start + each] if value is not None]
        points.append(line.merge(there) if there else None)
    return points


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, …"""
    if value <= 0:
        return 0.0
    step = 1.0
    while step > value:
        step /= 10
    while step * 10 < value:
        step *= 10
    return next(step * times for times in (1, 2, 5, 10) if step * times >= value)


def _place(index: int, count: int, value: float, top: float) -> tuple[float, float]:
    return (index + 0.5) / count * WIDTH, _BOTTOM - (_BOTTOM - _TOP) * value / top


def _draw_line(points: Sequence[float | None], top: float, style: str) -> str:
    steps: list[str] = []
    drawing = False
    for index, value in enumerate(points):
        if value is None:
            drawing = False
            continue
        x, y = _place(index, len(points), value, top)
        steps.append(f"L{x:.1f} {y:.1f}" if drawing else f"M{x:.1f} {y:.1f}h0")  # a round end makes h0 a dot
        drawing = True
    return f'<path class="line {style}" d="{"".join(steps)}"/>' if steps else ""


def _draw_bars(points: Sequence[float | None], top: float, style: str) -> str:
    steps = ""
    for index, value in enumerate(points):
        if value:
            x, y = _place(index, len(points), value, top)
            steps += f"M{x:.1f} {_BOTTOM}V{y:.1f}"
    return f'<path class="bars {style}" d="{steps}"/>' if steps else ""


def draw_partitions(partitions: Any) -> str:
    """The partitions from 0 on, line by line. A cell of which copies are missing is lower, and of another colour."""
    cells = str(partitions["cells"])
    rows = -(-len(cells) // _COLUMNS)
    each = partitions["all"] // max(1, len(cells))
    body = "".join(_draw_cells(cells[row * _COLUMNS : (row + 1) * _COLUMNS], row) for row in range(rows))
    label = f"{write_count(partitions['all'])} partitions, {each} in a cell: " + _describe_cells(cells)
    return (
        f'<svg class="strip" viewBox="0 0 {_COLUMNS * _CELL} {rows * _CELL}" role="img"'
        f' aria-label="{clean(label, 300)}">{body}</svg>'
    )


_CELL_WORDS: Final = {
    "0": "complete",
    "1": "lacking a copy",
    "2": "lacking two",
    "3": "lacking more",
    "-": "not here",
}
_CELL_HEIGHTS: Final = {"0": 8, "1": 6, "2": 4, "3": 2, "-": 8}
_CELL_STYLES: Final = {"0": "complete", "1": "one", "2": "two", "3": "more", "-": "others"}


def _describe_cells(cells: str) -> str:
    return ", ".join(f"{cells.count(cell)} {word}" for cell, word in _CELL_WORDS.items() if cell in cells) + "."


def _draw_cells(line: str, row: int) -> str:
    """A line of cells, a path for each kind."""
    drawn = ""
    for cell, style in _CELL_STYLES.items():
        height = _CELL_HEIGHTS[cell]
        y = row * _CELL + _CELL - 1 - height
        path = "".join(f"M{x * _CELL + 1} {y}h8v{height}h-8z" for x, each in enumerate(line) if each == cell)
        if path:
            drawn += f'<path class="cell {style}" d="{path}"/>'
    return drawn
