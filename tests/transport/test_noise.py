"""Datagrams that are no messages; on a real port in test_layer."""

from __future__ import annotations

from farm.metrics import Metrics
from farm.transport.noise import STUN_PER_SECOND, Noise
from tests.support.counts import read

STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"x" * 12
PHONE = ("192.0.2.101", 40000)


class Desk:
    """The edge of a node as noise sees it."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.reasons: list[str] = []
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.noise = Noise(self.metrics, self)

    def note(self, reason: str, now: float, *, source: str = "") -> None:
        assert source == "192.0.2.101"
        self.reasons.append(reason)

    def send_keepalive(self, data: bytes, address: tuple[str, int]) -> None:
        self.sent.append((data, address))

    @property
    def keepalives(self) -> float:
        return read(self.metrics.keepalives.child("udp"))


def test_line_ends_are_counted_stun_is_answered_and_the_rest_is_refused() -> None:
    desk = Desk()
    desk.noise.receive("keepalive", b"\r\n\r\n", PHONE, desk, 1.0)
    assert (desk.keepalives, desk.sent, desk.reasons) == (1, [], [])
    desk.noise.receive("stun", STUN, PHONE, desk, 1.0)
    assert desk.keepalives == 2
    assert [(data[:2], address) for data, address in desk.sent] == [(b"\x01\x01", PHONE)]
    desk.noise.receive("empty", b"", PHONE, desk, 1.0)
    desk.noise.receive("stun", STUN[:-1], PHONE, desk, 1.0)
    assert (desk.keepalives, len(desk.sent), desk.reasons) == (2, 1, ["empty", "stun"])


def test_a_flood_of_stun_gets_so_many_answers_a_second() -> None:
    desk = Desk()
    most = int(STUN_PER_SECOND)
    for _ in range(most + 5):
        desk.noise.receive("stun", STUN, PHONE, desk, 5.0)
    assert (len(desk.sent), desk.reasons) == (most, ["stun-rate"] * 5)
    desk.noise.receive("stun", STUN, PHONE, desk, 5.01)
    assert len(desk.sent) == most + 1


def test_the_scope_of_a_link_local_address_is_none_of_the_answer() -> None:
    desk = Desk()
    Noise(desk.metrics, Desk()).receive("stun", STUN, ("fe80::1%eth0", 5060), desk, 1.0)
    assert desk.sent[0][0][24:26] == b"\x00\x02"
