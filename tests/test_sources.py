"""Settings from several sources, and the line that each came from."""

from __future__ import annotations

import pytest

from farm.sources import KeyPath, Source, Sources, dotted, find_line, parse_key_path

TEXT = """\
# a comment = 1
top = 0
[sip]
listen = [
  "udp:1",
]
"quoted" = 1
[ auth ]
open = true
[[routes]]
domain = "a"
[[routes]]
domain = "b"
to = ["x"]
[limits.deep]
x.y = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 2),
        (("sip",), 3),
        (("sip", "listen"), 4),
        (("sip", "listen", 0), 4),
        (("sip", "quoted"), 7),
        (("sip", "absent"), 3),
        (("auth", "open"), 9),
        (("routes", 0, "domain"), 11),
        (("routes", 1, "domain"), 13),
        (("routes", 1, "to", 0), 14),
        (("routes", 1, "absent"), 12),
        (("limits", "deep", "x", "y"), 16),
        (("nowhere",), 0),
    ],
)
def test_the_line_of_a_key_or_of_what_is_around_it(path: KeyPath, line: int) -> None:
    assert find_line(TEXT, path) == line


def test_paths_read_as_a_user_would_write_them() -> None:
    assert dotted(("routes", 1, "to", 0)) == "routes[1].to[0]"
    assert parse_key_path("routes[1].to[0]") == ("routes", 1, "to", 0)
    assert parse_key_path("limits[...]") == ("limits",)
    assert parse_key_path("") == ()


def test_the_last_source_of_a_key_is_the_one_to_blame() -> None:
    sources = Sources("main.toml")
    sources.add(Source("main.toml", "[auth]\nopen = 1\n"), "auth", "open", 1)
    assert str(sources.error(("auth", "open"), "is wrong")) == "main.toml:2: auth.open: is wrong"
    sources.add(Source("option auth.open=2"), "auth", "open", 2)
    assert sources.values == {"auth": {"open": 2}}
    assert str(sources.error(("auth", "open"), "is wrong")) == "option auth.open=2: auth.open: is wrong"


def test_repeated_tables_are_blamed_by_their_place_in_their_own_file() -> None:
    sources = Sources("main.toml")
    for name in ("a.toml", "b.toml"):
        sources.append(Source(name, "[[routes]]\ndomain = 1\n"), "routes", 0, {"domain": 1})
    assert str(sources.error(("routes", 1, "domain"), "is wrong")) == "b.toml:2: routes[1].domain: is wrong"


def test_what_nobody_gave_is_missing_from_the_main_file() -> None:
    assert str(Sources("main.toml").error(("node", "name"), "is missing")) == "main.toml: node.name: is missing"
