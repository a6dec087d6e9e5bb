"""The little that every picture and table of the status page is written with: escaped text, numbers, times, markers.

What members say of themselves is a stranger's word once a node's certificate has been stolen: everything goes through
`clean`, which escapes for text and quoted attributes alike, and shows no character that would turn a line around.
A state is a shape as well as a colour, so that it is read without colours too.
"""

from __future__ import annotations

from html import escape
from typing import Final

MOST_CHARACTERS: Final = 48
_APART: Final = "\u202f"  # between thousands: a narrow space at which no line breaks

STATES: Final = ("alive", "joining", "suspect", "dead", "left")  # as legends have them; who is draining is alive


def clean(text: object, most: int = MOST_CHARACTERS) -> str:
    """Text as HTML or SVG, in an element or between double quotes, at most so long."""
    plain = "".join([each if each.isprintable() or each == _APART else "\ufffd" for each in str(text)[: most + 1]])
    return escape(plain if len(plain) <= most else plain[: most - 1] + "…")


def write_seconds(seconds: float | None) -> str:
    """A short time, as it is measured."""
    if seconds is None:
        return "–"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"


def write_age(seconds: float) -> str:
    """A long time, in its two greatest units."""
    whole = max(0, int(seconds))
    for size, unit, small, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size} {unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{whole} s"


def write_count(number: float) -> str:
    """A whole number, its thousands apart."""
    return f"{round(number):,}".replace(",", _APART)


def write_rate(number: float) -> str:
    """A number that may be a fraction."""
    return f"{number:.2f}".rstrip("0").rstrip(".") if number < 10 else write_count(number)


def plural(count: int, one: str, several: str) -> str:
    """A count with its noun."""
    return f"{write_count(count)} {one if count == 1 else several}"


def draw_marker(state: str, x: float, y: float, size: float) -> str:
    """The shape of a state, around a point: `size` is half of its width."""
    at = f'class="mark {state}"'
    if state == "dead":
        a = size * 0.9
        return (
            f'<path {at} d="M{x - a:.1f} {y - a:.1f}l{2 * a:.1f} {2 * a:.1f}m0 {-2 * a:.1f}l{-2 * a:.1f} {2 * a:.1f}"/>'
        )
    if state == "suspect":
        a = size * 1.25
        return f'<path {at} d="M{x:.1f} {y - a:.1f}l{a:.1f} {1.8 * a:.1f}h{-2 * a:.1f}z"/>'
    if state == "draining":
        a = size * 1.3
        return f'<path {at} d="M{x:.1f} {y - a:.1f}l{a:.1f} {a:.1f}l{-a:.1f} {a:.1f}l{-a:.1f} {-a:.1f}z"/>'
    if state == "left":
        a = size * 0.8
        return f'<rect {at} x="{x - a:.1f}" y="{y - a:.1f}" width="{2 * a:.1f}" height="{2 * a:.1f}"/>'
    return f'<circle {at} cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'


def draw_icon(state: str) -> str:
    """The shape of a state within a line of text, which says the same in words."""
    return f'<svg class="icon" viewBox="-10 -10 20 20" aria-hidden="true">{draw_marker(state, 0, 0, 6)}</svg>'
