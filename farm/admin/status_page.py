"""The status page of a node, written from its overview (docs/status.md): problems first, then figures, ring, replicas,
the last hour, zones and members.

Plain HTML and SVG that is whole without a script. `status.js` takes the page anew every few seconds and puts in place
those parts, by their id, that read differently; without it the browser loads the page again.

Decided: the script takes the page, not `/status.json`, so that there is one thing that draws. Two would differ one day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from farm.admin.markup import clean, draw_icon, plural, write_age, write_count, write_rate, write_seconds
from farm.admin.plots import Line, draw_partitions, draw_plot, mean
from farm.admin.ring import draw_ring, is_troubled, name_of, state_of, write_counts

Overview = Mapping[str, Any]

MOST_ROWS: Final = 200
_NAMED: Final = 6
_SOUND: Final = ("All that this node owns is complete.", "None of those is missing.")
_REST: Final = ' class="rest"'
_LINKS: Final = (("/status.json", "this page as JSON"), ("/metrics", "metrics for Prometheus"), ("/healthz", "health"),
                 ("/readyz", "readiness"))  # fmt: skip


def write_page(overview: Overview) -> bytes:
    """The page in UTF-8."""
    name = clean(overview["name"])
    state, word = _find_standing(overview)
    parts = [
        _write_problems(overview),
        _write_figures(overview),
        _write_farm(overview) if overview["members"] else _write_alone(),
        _write_plots(overview),
    ]
    if overview["members"]:
        parts += [_write_zones(overview["members"]), _write_members(overview)]
    links = " · ".join(f'<a href="{path}">{word}</a>' for path, word in _LINKS)
    return (
        f'<!doctype html>\n<html lang="en" data-version="{clean(overview["version"])}"><head><meta charset="utf-8">'
        f"<title>{name} {word} – sipfarm</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="/status.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/status.css"><script src="/status.js" defer></script>'
        '<noscript><meta http-equiv="refresh" content="10"></noscript></head><body>'
        f'<header id="head"><img src="/status.svg" alt="" width="40" height="40">'
        f"<div><h1>{name}</h1><p>{_write_self(overview)}</p></div>"
        f'<p class="standing {state}">{draw_icon(state)} {word}</p></header>'
        f'<p id="lost" role="status" hidden>This node does not answer. What is shown is of <time></time>.</p>'
        f"<main>{''.join(parts)}</main>"
        f'<footer><p>{links}</p><p id="updated"></p></footer></body></html>\n'
    ).encode()


def _find_standing(overview: Overview) -> tuple[str, str]:
    """How this node is: the shape, and the word."""
    if overview["draining"]:
        return "draining", "is drained" if overview["state"] == "left" else "is being drained"
    if overview["ready"]:
        return "alive", "serves"
    return ("joining", "joins") if overview["state"] == "joining" else ("suspect", "does not serve")


def _write_self(overview: Overview) -> str:
    said = [f"node of <b>{clean(overview['overlay'])}</b>"] if overview["overlay"] else ["a node alone"]
    said += [f"sipfarm {clean(overview['version'])}", f"up {write_age(overview['uptime'])}"]
    return " · ".join(said)


# Problems


def _write_problems(overview: Overview) -> str:
    problems = list(_find_problems(overview))
    notice = "" if overview["synchronised"] else _write_joining(overview["progress"])
    if not problems:
        state, words = ("joining", notice) if notice else ("well", f"<p>{draw_icon('alive')} Nothing is wrong.</p>")
        return f'<section id="problems" class="{state}" aria-live="polite">{words}</section>'
    items = "".join(f"<li>{draw_icon(shape)} <span>{text}</span></li>" for shape, text in problems)
    heading = plural(len(problems), "problem", "problems")
    return (
        f'<section id="problems" class="wrong" aria-live="polite"><h2>{heading}</h2><ul>{items}</ul>{notice}</section>'
    )


def _find_problems(overview: Overview) -> Iterable[tuple[str, str]]:
    """Shape and escaped sentence of each: what the node says, and what is to be seen of the others."""
    for problem in overview["problems"]:
        yield "dead", clean(problem, 200)
    for state, verb in (("dead", "dead"), ("suspect", "suspected to be dead")):
        count = overview["member_counts"].get(state, 0)
        if count:
            names = [name_of(row) for row in overview["members"] if row["state"] == state][:_NAMED]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            yield state, f"{', '.join(names)}{more} {'is' if count == 1 else 'are'} {verb}."
    missing = overview["underreplicated"]
    if sum(missing.values()):
        yield "suspect", f"{_count_missing(missing)}; they are being copied."


def _write_joining(progress: float) -> str:
    """Copying is no illness."""
    return f"<p>{draw_icon('joining')} This node has compared {progress:.0%} of its partitions with the others.</p>"


def _count_missing(missing: Mapping[str, int]) -> str:
    words = (("1", "one copy"), ("2", "two copies"), ("more", "more copies"))
    found = [
        f"{plural(missing[key], 'partition lacks', 'partitions lack')} {word}" for key, word in words if missing[key]
    ]
    return ", ".join(found)


# Figures


def _write_figures(overview: Overview) -> str:
    rates = overview["rates"]
    tiles = (
        ("calls/s", write_rate(rates["calls_per_second"])),
        ("calls now", write_count(overview["calls"])),
        ("registrations/s", write_rate(rates["registrations_per_second"])),
        ("registrations here", write_count(overview["registrations"])),
        ("requests/s", write_rate(rates["requests_per_second"])),
        ("transactions", write_count(overview["transactions"])),
    )
    items = "".join(f"<div><dt>{word}</dt><dd>{value}</dd></div>" for word, value in tiles)
    return f'<section id="figures" aria-label="Figures of this node"><dl>{items}</dl></section>'


# The farm


def _write_alone() -> str:
    return (
        '<section id="farm" class="card"><h2>Alone</h2><p>Its configuration has no [overlay] with listen.</p></section>'
    )


def _write_farm(overview: Overview) -> str:
    ring = draw_ring(overview["members"], overview["member_counts"])
    return (
        '<div class="pair"><section id="ring" class="card"><h2>Members</h2>'
        f'<p class="note">By Node-ID on the ring of identifiers, as this node sees them; a spoke is the load.</p>{ring}'
        f"</section>{_write_replicas(overview)}</div>"
    )


def _write_replicas(overview: Overview) -> str:
    partitions, missing = overview["partitions"], overview["underreplicated"]
    lacking = sum(missing.values())
    complete = max(0, partitions["owned"] - lacking)
    short = overview["replicas"]["possible"] < overview["replicas"]["wanted"]
    rows = (
        ("complete", "have those" if short else "complete", complete),
        ("one", "one copy missing", missing["1"]),
        ("two", "two missing", missing["2"]),
        ("more", "more missing", missing["more"]),
        ("others", "owned by others alone", partitions["all"] - partitions["owned"]),
    )
    legend = "".join(
        f"<li>{_draw_cell(style)} {write_count(count)} {word}</li>"
        for style, word, count in rows
        if count or (style == "complete" and partitions["owned"])
    )
    state = f"{_write_copies(overview['replicas'])} "
    state += f"{_count_missing(missing)}." if lacking else _SOUND[short] if complete else ""
    return (
        '<section id="replicas" class="card"><h2>Replicas</h2>'
        f'<p class="note">{write_count(partitions["owned"])} of {write_count(partitions["all"])} partitions are owned'
        f" here. {state}</p>"
        f'{draw_partitions(partitions)}<ul class="legend">{legend}</ul>'
        f"{_write_progress('In step with the others', overview['progress'])}"
        f"{_write_progress('Records handed over', overview['handed_over']) if overview['draining'] else ''}</section>"
    )


def _write_copies(replicas: Mapping[str, int]) -> str:
    """How many copies of each there should be; what is not there for want of nodes is not missing at anybody."""
    wanted, possible = replicas["wanted"], replicas["possible"]
    if possible >= wanted:
        return f"{plural(wanted, 'copy', 'copies')} of each are wanted." if wanted > 1 else "One copy is wanted."
    nodes = f"only {plural(possible, 'node', 'nodes')}" if possible else "no node"
    verb = "is" if possible < 2 else "are"
    return f"<strong>{possible} of {wanted} copies: there {verb} {nodes} to keep them.</strong>"


def _draw_cell(style: str) -> str:
    height = {"complete": 16, "one": 12, "two": 8, "more": 4, "others": 16}[style]
    return (
        '<svg class="icon" viewBox="-10 -10 20 20" aria-hidden="true">'
        f'<path class="cell {style}" d="M-8 {8 - height}h16v{height}h-16z"/></svg>'
    )


def _write_progress(word: str, share: float) -> str:
    percent = f"{share:.0%}" if share == 1.0 or share < 0.99 else f"{min(share, 0.9999):.2%}"
    bar = f'<progress max="1" value="{share:.4f}">{percent}</progress>'
    return f'<label class="progress">{word} <b>{percent}</b>{bar}</label>'


# The last hour


def _write_plots(overview: Overview) -> str:
    history = overview["history"]
    each = history["seconds_each"]
    plots = [
        draw_plot("Calls", [Line("a second", "first", history["calls"], mean)], write_rate, seconds_each=each),
        draw_plot(
            "Registrations", [Line("a second", "first", history["registrations"], mean)], write_rate, seconds_each=each
        ),
    ]
    if overview["members"]:
        churn = Line("came or went", "third", history["churn"], sum)
        plots += [
            draw_plot("Churn", [churn], write_count, seconds_each=each, bars=True),
            _draw_times("Lookups", history, "lookup"),
            _draw_times("Reads", history, "read"),
        ]
    return f'<section id="plots" class="card"><h2>The last hour</h2><div class="plots">{"".join(plots)}</div></section>'


def _draw_times(title: str, history: Mapping[str, Any], name: str) -> str:
    lines = [
        Line("p99", "second", history[f"{name}_p99"], max),
        Line("p50", "first", history[f"{name}_p50"], mean),
    ]
    return draw_plot(title, lines, write_seconds, seconds_each=history["seconds_each"])


# Zones and members

_ZONE_COLUMNS: Final = ("Zone", "Nodes", "Mean load", "Highest")
_MEMBER_COLUMNS: Final = ("Node", "State", "Zone", "Load", "Round trip", "Roles", "Node-ID")
_NARROW_COLUMNS: Final = 4  # for the others there is no room on a phone


def _write_table(name: str, columns: Sequence[str], rows: str) -> str:
    head = "".join(
        f'<th scope="col"{"" if index < _NARROW_COLUMNS else _REST}>{column}' for index, column in enumerate(columns)
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</thead><tbody>{rows}</tbody></table></div>"
    )


def _write_zones(members: Sequence[Mapping[str, Any]]) -> str:
    """How the nodes are spread, where there are zones."""
    zones: dict[str, list[Mapping[str, Any]]] = {}
    for row in members:
        if row["state"] != "left":
            zones.setdefault(row["zone"], []).append(row)
    if len(zones) < 2:
        return '<section id="zones" hidden></section>'
    rows = "".join(_write_zone(zone, zones[zone]) for zone in sorted(zones)[:MOST_ROWS])
    return f'<section id="zones" class="card"><h2>Zones</h2>{_write_table("Zones", _ZONE_COLUMNS, rows)}</section>'


def _write_zone(zone: str, rows: Sequence[Mapping[str, Any]]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    loads = [int(row["load"]) for row in rows if row["state"] not in ("dead", "left")]
    means = (_draw_load(round(sum(loads) / len(loads))), _draw_load(max(loads))) if loads else ("–", "–")
    shape = "dead" if counts.get("dead") else "suspect" if counts.get("suspect") else "alive"
    return (
        f'<tr><th scope="row"><bdi>{clean(zone) or "none"}</bdi><td>{draw_icon(shape)} {write_counts(counts)}'
        f"<td>{means[0]}<td>{means[1]}"
    )


def _write_members(overview: Overview) -> str:
    members = overview["members"]
    rows = "".join(_write_member(row) for row in members[:MOST_ROWS])
    known = sum(overview["member_counts"].values())
    more = (
        f"<p>{known - MOST_ROWS} more are not listed; <code>sipfarm members</code> has all.</p>"
        if known > MOST_ROWS
        else ""
    )
    return (
        f'<section id="members" class="card"><h2>{plural(known, "node", "nodes")}</h2>'
        f"{_write_table('Nodes', _MEMBER_COLUMNS, rows)}{more}</section>"
    )


def _write_member(row: Mapping[str, Any]) -> str:
    state = state_of(row)
    own = ' <span class="note">this node</span>' if row["self"] else ""
    gone = row["state"] in ("dead", "left")
    trip = write_seconds(row["rtt"]) if not row["self"] and not gone else "–"
    roles = ", ".join(clean(role) for role in row["roles"])
    return (
        f'<tr class="{"trouble" if is_troubled(row) else ""}"><th scope="row"><bdi>{name_of(row)}</bdi>{own}'
        f'<td class="state">{draw_icon(state)} {state} <span class="note">{write_age(row["since"])}</span>'
        f"<td><bdi>{clean(row['zone']) or '–'}</bdi><td>{'–' if gone else _draw_load(int(row['load']))}"
        f'<td class="rest">{trip}<td class="rest">{roles}'
        f'<td class="rest"><code title="{clean(row["node_id"], 64)}">{clean(row["node_id"][:12])}</code>'
    )


def _draw_load(percent: int) -> str:
    width = min(max(percent, 0), 100) * 0.6
    return (
        '<svg class="meter" viewBox="0 0 60 8" aria-hidden="true"><rect class="track" width="60" height="8" rx="2"/>'
        f'<rect class="{"hot" if percent >= 80 else "warm"}" width="{width:.0f}" height="8" rx="2"/></svg> {percent} %'
    )
