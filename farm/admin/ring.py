"""The members on the ring of identifiers, as SVG: where a node stands is its Node-ID, how it is its shape and colour.

A circle from 0 at the top, clockwise. A spoke inwards is a node's load, all the way to the middle circle at 100 %. Few
nodes have their names beside them. Of more, only those in trouble do; of more than two hundred, the ring is cut into
sectors, whose bars are as long as there are nodes in them, by state.

Decided: sectors instead of ever smaller dots: of a thousand dots on a ring two hundred pixels wide nobody sees the one
that is dead, and each costs a browser and us as much as a bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi, sin
from typing import Any, Final

from farm.admin.markup import STATES, clean, draw_icon, draw_marker, plural

Row = Mapping[str, Any]

NAMED: Final = 24
SINGLE: Final = 200
SECTORS: Final = 120
_NAMED_TROUBLES: Final = 12
_RADIUS: Final = 128.0
_INNER: Final = 74.0
_LINE: Final = 19.0  # between two names
_BAR: Final = 44.0
_HALF_WIDTH: Final = 270
_SHORT: Final = 10  # characters of a name
_CHARACTER: Final = 10.4  # the width of one, as a phone has it
_SMALL_CHARACTER: Final = 7.6
_ORDER: Final = ("alive", "draining", "joining", "left", "suspect", "dead")  # in a bar, from the ring outwards


def state_of(row: Row) -> str:
    """How a member is shown: its state, or that it is draining."""
    return "draining" if row["draining"] and row["state"] == "alive" else str(row["state"])


def is_troubled(row: Row) -> bool:
    """Whether it wants a look."""
    return row["state"] in ("suspect", "dead")


def angle_of(node_id: str) -> float:
    """Radians from the top, clockwise."""
    return int(node_id[:16] or "0", 16) / float(1 << 64) * 2 * pi


def draw_ring(members: Sequence[Row], counts: Mapping[str, int]) -> str:
    """The picture with its legend. `counts` are of all that are known, `members` may be fewer."""
    alive = counts.get("alive", 0)
    known = sum(counts.values()) - counts.get("left", 0)
    body = _draw_sectors(members) if len(members) > SINGLE else _draw_single(members)
    title = f"The ring of identifiers: {write_counts(counts)}."
    return (
        f'<svg class="ring" viewBox="{-_HALF_WIDTH} -178 {2 * _HALF_WIDTH} 356" role="img"'
        f' aria-label="{clean(title, 200)}">'
        f'<circle class="orbit" r="{_RADIUS:g}"/><circle class="inner" r="{_INNER:g}"/>{_draw_quarters()}{body}'
        f'<text class="big" y="8">{alive}</text><text class="small" y="30">of {known} alive</text></svg>'
        f'<ul class="legend">{_write_legend(members, counts)}</ul>'
    )


def write_counts(counts: Mapping[str, int]) -> str:
    """The states that there are, in words."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state)) or "nobody"


def _write_legend(members: Sequence[Row], counts: Mapping[str, int]) -> str:
    shown = [(state, counts.get(state, 0)) for state in STATES]
    shown.insert(1, ("draining", sum(state_of(row) == "draining" for row in members)))
    return "".join(
        f"<li>{draw_icon(state)} {count} {state}</li>" for state, count in shown if count or state == "alive"
    )


def _draw_quarters() -> str:
    """Where the first hexadecimal digit is 0, 4, 8 and c."""
    return "".join(
        f'<text class="tick" x="{sin(turn) * (_INNER - 12):.1f}" y="{4 - cos(turn) * (_INNER - 12):.1f}">{digit}</text>'
        for digit, turn in (("0", 0.0), ("4", pi / 2), ("8", pi), ("c", 3 * pi / 2))
    )


# Nodes one by one


def _draw_single(members: Sequence[Row]) -> str:
    size = 8.0 if len(members) <= NAMED else max(2.6, 8.0 - len(members) / 32)
    named = list(members) if len(members) <= NAMED else [row for row in members if is_troubled(row)][:_NAMED_TROUBLES]
    calm_first = sorted(members, key=is_troubled)  # what is drawn last lies on top
    return "".join(_draw_node(row, size) for row in calm_first) + _draw_names(named, size)


def _draw_node(row: Row, size: float) -> str:
    x, y = _point(row, _RADIUS)
    end_x, end_y = _point(row, _RADIUS - (_RADIUS - _INNER) * min(int(row["load"]), 100) / 100)
    spoke = f'<path class="load" d="M{x:.1f} {y:.1f}L{end_x:.1f} {end_y:.1f}"/>' if row["load"] else ""
    own = f'<circle class="own" cx="{x:.1f}" cy="{y:.1f}" r="{size + 4.5:.1f}"/>' if row["self"] else ""
    return f"<g><title>{_describe(row)}</title>{spoke}{own}{draw_marker(state_of(row), x, y, size)}</g>"


def _describe(row: Row) -> str:
    zone = f", zone {clean(row['zone'])}" if row["zone"] else ""
    return f"{name_of(row)}: {state_of(row)}{zone}, load {int(row['load'])} %"


def name_of(row: Row) -> str:
    """Its name, escaped; the beginning of its Node-ID while nobody has said it."""
    return clean(row["name"] or row["node_id"][:8])


def _draw_names(rows: Sequence[Row], size: float) -> str:
    """Names beside the ring, left and right, moved apart where they would lie on each other; smaller where they are
    long, and cut where even that is not enough."""
    longest = max((len(row["name"]) for row in rows), default=0)
    style, character = ("name", _CHARACTER) if longest <= _SHORT else ("name long", _SMALL_CHARACTER)
    drawn = []
    for side in (1, -1):
        there = sorted((_point(row, _RADIUS + 26)[1], index) for index, row in enumerate(rows) if _side(row) == side)
        lines = _spread([height for height, _ in there])
        for line, (_, index) in zip(lines, there, strict=True):
            x, y = _point(rows[index], _RADIUS + size + 3)
            edge = side * max(abs(_point(rows[index], _RADIUS + 22)[0]), 24.0)
            room = int((_HALF_WIDTH - abs(edge)) / character)
            drawn.append(
                f'<path class="leader" d="M{x:.1f} {y:.1f}L{edge - side * 2:.1f} {line:.1f}"/>'
                f'<text class="{style}" text-anchor="{"start" if side > 0 else "end"}"'
                f' x="{edge + side * 3:.1f}" y="{line + 5:.1f}">{_write_name(rows[index], room)}</text>'
            )
    return "".join(drawn)


def _write_name(row: Row, room: int) -> str:
    name, zone = str(row["name"] or row["node_id"][:8]), str(row["zone"])
    fits = zone and len(name) + len(zone) < room
    return clean(name, room) + (f' <tspan class="zone">{clean(zone)}</tspan>' if fits else "")


def _spread(heights: Sequence[float]) -> list[float]:
    """The same heights, in order, a line apart, within the picture as long as there is room."""
    lines: list[float] = []
    for height in heights:
        lines.append(max(height, lines[-1] + _LINE) if lines else height)
    over = lines[-1] - 166 if lines else 0.0
    if over > 0:
        limit = 166.0
        for index in range(len(lines) - 1, -1, -1):
            lines[index] = min(lines[index], limit)
            limit = lines[index] - _LINE
    return lines


def _side(row: Row) -> int:
    return 1 if angle_of(row["node_id"]) < pi else -1


def _point(row: Row, radius: float) -> tuple[float, float]:
    angle = angle_of(row["node_id"])
    return sin(angle) * radius, -cos(angle) * radius


# Nodes by the sector


def _draw_sectors(members: Sequence[Row]) -> str:
    sectors: list[dict[str, int]] = [{} for _ in range(SECTORS)]
    loads: list[list[int]] = [[] for _ in range(SECTORS)]
    for row in members:
        sector = int(angle_of(row["node_id"]) / (2 * pi) * SECTORS) % SECTORS
        state = state_of(row)
        sectors[sector][state] = sectors[sector].get(state, 0) + 1
        if state not in ("dead", "left"):
            loads[sector].append(int(row["load"]))
    most = max(sum(sector.values()) for sector in sectors) or 1
    return "".join(
        _draw_sector(index, sector, load, most)
        for index, (sector, load) in enumerate(zip(sectors, loads, strict=True))
        if sector
    )


def _draw_sector(index: int, sector: Mapping[str, int], loads: Sequence[int], most: int) -> str:
    middle = (index + 0.5) / SECTORS * 2 * pi
    x, y = sin(middle), -cos(middle)
    drawn = ""
    if loads:
        inner = _RADIUS - (_RADIUS - _INNER) * min(sum(loads) / len(loads), 100) / 100
        drawn += f'<path class="load" d="M{x * _RADIUS:.1f} {y * _RADIUS:.1f}L{x * inner:.1f} {y * inner:.1f}"/>'
    start = _RADIUS
    for state in _ORDER:
        if state in sector:
            end = start + _BAR * sector[state] / most * 0.8
            path = f"M{x * start:.1f} {y * start:.1f}L{x * end:.1f} {y * end:.1f}"
            drawn += f'<path class="bar {state}" d="{path}"/>'
            start = end
    for state in ("dead", "suspect"):
        if state in sector:
            drawn += draw_marker(state, x * (start + 8), y * (start + 8), 4)
            break
    words = ", ".join(f"{sector[state]} {state}" for state in _ORDER if state in sector)
    return f"<g><title>{plural(sum(sector.values()), 'node', 'nodes')}: {words}</title>{drawn}</g>"
