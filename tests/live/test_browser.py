"""A phone in a real browser: SIP.js in Chromium, over secure WebSocket and with its own media, against real nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.agents import Agent
from tests.support.browsers import Browser, install_library
from tests.support.certificates import write_sip_files
from tests.support.live_farm import LiveFarm
from tests.support.tools import need

Hosts = Callable[[int], list[str]]
MakeFarm = Callable[..., LiveFarm]

PORT: Final = 5443

# What a WebRTC peer offers, as far as a browser looks at it before the first packet (RFC 8829).
OFFER: Final = "\r\n".join(
    [
        "v=0",
        "o=- 1 1 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "c=IN IP4 0.0.0.0",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        f"a=fingerprint:sha-256 {':'.join(['5A'] * 32)}",
        "a=setup:actpass",
        "a=rtpmap:111 opus/48000/2",
        "",
    ]
)


@pytest.fixture(autouse=True)
def _programs() -> None:
    need("chromium", "chromedriver")
    install_library()


def make_listeners(host: str) -> list[str]:
    return [f"udp:{host}:5060", f"tcp:{host}:5060", f"wss:{host}:{PORT}"]


def start_phone(browser: Browser, user: str, host: str) -> None:
    """A phone of the page, registered at a node with its password."""
    browser.phone("start", user, f"{user}-secret", "example.com", f"wss://{host}:{PORT}/")
    browser.expect(f"{user} registered")


def start_farm(make_farm: MakeFarm, directory: Path, size: int) -> tuple[LiveFarm, Path]:
    """A farm with passwords that speaks secure WebSocket, and its certificate."""
    tls = write_sip_files(directory / "tls")
    farm = make_farm(size, open_farm=False, make_listeners=make_listeners, tls=tls)
    farm.start()
    users = directory / "users.csv"
    users.write_text("".join(f"{user},{user}-secret\n" for user in ("alice", "bob", "carol")))
    farm.console(0, "user", "import", str(users))
    return farm, Path(tls["certificates"][0])


def test_a_page_at_one_node_is_called_by_a_phone_at_another_and_hangs_up(
    make_farm: MakeFarm, hosts: Hosts, tmp_path: Path
) -> None:
    farm, certificate = start_farm(make_farm, tmp_path, 2)
    with Browser(tmp_path / "browser", hosts(1)[0], certificate) as browser:
        start_phone(browser, "alice", farm.hosts[0])
        farm.wait_registrations(1, 10)
        with Agent((farm.hosts[1], 5060), host=hosts(1)[0], user="carol") as carol:
            assert carol.register(password="carol-secret").status == 200
            answered = carol.request_with_digest("INVITE", "sip:alice@example.com", password="carol-secret", body=OFFER)
            assert answered.status == 200, answered
            assert b"m=audio" in answered.body
            assert len(answered.all("record-route")) == 1
            carol.send_request(carol.make_in_dialog("ACK", answered, 2))
            browser.expect("alice called by carol")
            browser.expect("alice Established")
            browser.phone("hangUp", "alice")
            bye = carol.expect("BYE")
            assert len(bye.all("via")) == 2
            carol.answer(bye, 200)
            browser.expect("alice Terminated")


def test_pages_at_two_nodes_talk_to_each_other(make_farm: MakeFarm, hosts: Hosts, tmp_path: Path) -> None:
    farm, certificate = start_farm(make_farm, tmp_path, 2)
    with Browser(tmp_path / "browser", hosts(1)[0], certificate) as browser:
        start_phone(browser, "alice", farm.hosts[0])
        start_phone(browser, "bob", farm.hosts[1])
        farm.wait_registrations(2, 10)
        browser.phone("call", "alice", "sip:bob@example.com")
        browser.expect("bob called by alice")
        for user in ("alice", "bob"):
            browser.expect(f"{user} Established")
            browser.expect(f"{user} media connected")
        browser.phone("hangUp", "bob")
        browser.expect("alice Terminated")
        browser.phone("leave", "alice")
        farm.wait_registrations(1, 10)


def test_a_page_whose_password_is_wrong_is_refused(make_farm: MakeFarm, hosts: Hosts, tmp_path: Path) -> None:
    farm, certificate = start_farm(make_farm, tmp_path, 2)
    with (
        Browser(tmp_path / "browser", hosts(1)[0], certificate) as browser,
        pytest.raises(AssertionError, match="Unauthorized"),
    ):
        browser.phone("start", "alice", "wrong", "example.com", f"wss://{farm.hosts[0]}:{PORT}/")
