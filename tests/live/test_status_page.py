"""The status page of a real node in a real browser: it shows what becomes of the farm, without being loaded again.

What it looks like is kept as pictures, wide and as on a phone, light and dark: in the directory of the test, and where
the environment says SIPFARM_PICTURES=DIR in that one too.
"""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.agents import Agent
from tests.support.browsers import Chromium
from tests.support.live_farm import LiveFarm
from tests.support.processes import wait_until
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

WIDTHS: Final = (1280, 360)
SEEN: Final = "return document.getElementById(arguments[0]).innerText"
USERS: Final = 30
FOREIGN: Final = '<img src="http://127.0.0.1:1/x.png">'


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("chromium", "chromedriver")


def keep_pictures(page: Chromium, directory: Path, name: str) -> None:
    """As wide as each of the widths, and in both schemes of colour; nothing of it may lie outside."""
    kept = Path(os.environ.get("SIPFARM_PICTURES") or directory)
    kept.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            page.prefer(scheme)
            page.resize(width)
            assert page.run("return document.documentElement.scrollWidth") == width
            assert page.run("return innerWidth") == width
            for path in {directory / f"{name}-{width}-{scheme}.png", kept / f"{name}-{width}-{scheme}.png"}:
                page.keep_picture(path)
                assert path.read_bytes().startswith(b"\x89PNG")


def use(farm: LiveFarm, host: str) -> None:
    """Some life: users who register, and calls to nobody."""
    with Agent(farm[0].sip, host=host, user="alice") as phone:
        for number in range(USERS):
            phone.user = f"user{number}"
            assert phone.register().status == 200
        for _ in range(3):
            assert phone.request_with_digest("INVITE", "sip:nobody@example.com").status in (404, 480)


def test_the_page_shows_a_node_die_and_come_back_without_being_loaded_again(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    farm = make_farm(3)
    farm.start()
    use(farm, hosts(1)[0])
    with Chromium(tmp_path / "browser") as page:

        def says(part: str, text: str) -> Callable[[], bool]:
            return lambda: text in page.run(SEEN, part)

        page.open(f"http://{farm.hosts[0]}:9464/")
        page.run("window.first = true")
        assert "of 3 alive" in page.run("return document.querySelector('#ring svg').textContent")
        wait_until(says("figures", str(USERS)), 20, "the page shows the registrations")
        wait_until(says("problems", "Nothing is wrong."), 40, "all is complete")
        keep_pictures(page, tmp_path, "well")
        name = f"n{farm.hosts[2].rpartition('.')[2]}"
        farm.kill(2)
        wait_until(says("problems", f"{name} is dead."), 60, "the page shows it dead")
        assert "dead" in page.run(SEEN, "members")
        assert page.run("return document.querySelectorAll('#ring svg.ring .mark.dead').length") == 1
        keep_pictures(page, tmp_path, "dead")
        farm.start_again(2)
        wait_until(says("problems", "Nothing is wrong."), 60, "the page shows it alive again")
        assert page.run("return window.first") is True, "it was never loaded again"
        assert page.complaints() == []
        page.run("document.body.insertAdjacentHTML('beforeend', '<p onclick=\"1\">' + arguments[0])", FOREIGN)
        wait_until(lambda: "Content Security Policy" in str(page.complaints()), 10, "what is foreign is not loaded")


def test_a_page_whose_node_is_gone_says_so_and_that_it_is_back(make_farm: MakeFarm, tmp_path: Path) -> None:
    farm = make_farm(2)
    farm.start()
    with Chromium(tmp_path / "browser") as page:
        page.open(f"http://{farm.hosts[1]}:9464/")
        assert not page.run("return document.getElementById('lost').checkVisibility()")
        farm.kill(1)
        lost = "return document.getElementById('lost').checkVisibility()"
        wait_until(lambda: page.run(lost) is True, 20, "the page says that nobody answers")
        assert "does not answer" in page.run(SEEN, "lost")
        keep_pictures(page, tmp_path, "lost")
        farm.start_again(1)
        wait_until(lambda: page.run(lost) is False, 20, "the page is of now again")


def test_the_page_is_whole_without_a_script(make_farm: MakeFarm, tmp_path: Path) -> None:
    farm = make_farm(2)
    farm.start()
    with Chromium(tmp_path / "browser") as page:
        page.command("Emulation.setScriptExecutionDisabled", value=True)
        page.open(f"http://{farm.hosts[0]}:9464/")
        source = page.run("return document.body.innerText")
        assert "of 2 alive" in source
        assert "an hour ago" in source


def test_the_json_of_the_page_is_the_order_overview(make_farm: MakeFarm) -> None:
    farm = make_farm(2)
    farm.start()
    with urllib.request.urlopen(f"http://{farm.hosts[0]}:9464/status.json", timeout=5) as answer:
        told = json.load(answer)
    asked = farm.ask(0, "overview")
    assert told.keys() == asked.keys()
    assert [row["node_id"] for row in told["members"]] == [row["node_id"] for row in asked["members"]]
    assert {row["name"] for row in told["members"]} == {f"n{host.rpartition('.')[2]}" for host in farm.hosts}
