"""Log lines: one line whatever a stranger wrote, no credentials, and no flood."""

from __future__ import annotations

import json

import pytest

from farm.logs import LONGEST_TEXT, Fields, Rejections, clean, escape, make_json_line, make_text_line
from farm.metrics import Metrics
from tests.support.counts import read


def test_a_json_line_is_one_object_with_time_level_node_and_place() -> None:
    line = make_json_line(0.25, "info", "n1", "farm.x", "hello", {"reason": "bad-via", "count": 3, "ok": True})
    assert line.endswith("}\n")
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "info",
        "node": "n1",
        "place": "farm.x",
        "message": "hello",
        "reason": "bad-via",
        "count": 3,
        "ok": True,
    }


def test_control_characters_and_foreign_bytes_stay_inside_the_line() -> None:
    nasty = "a\r\nb\x1b[31m\x00\u2028\udcff\x85"
    line = make_json_line(0, "info", "n1", "x", nasty, {"detail": nasty})
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line)["message"] == nasty
    text = make_text_line(0, "info", "x", nasty, {"detail": nasty})
    assert text == (
        "1970-01-01T00:00:00.000Z info     x: a\\r\\nb\\x1b[31m\\x00\\u2028\\udcff\\x85 "
        "detail=a\\r\\nb\\x1b[31m\\x00\\u2028\\udcff\\x85\n"
    )


def test_a_trace_stands_indented_below_a_text_line() -> None:
    assert make_text_line(0, "critical", "x", "oops", {"trace": "one\ntwo\x1b\n"}).splitlines()[1:] == [
        "    one",
        "    two\\x1b",
    ]


def test_fields_do_not_replace_what_every_line_has() -> None:
    assert json.loads(make_json_line(0, "info", "n1", "x", "m", {"node": "forged"}))["node"] == "n1"


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('Authorization: Digest username="a", response="00ff"', "Authorization: [hidden]"),
        ("x\nProxy-Authorization:Digest abc\ny", "x\nProxy-Authorization:[hidden]\ny"),
        ('bad value response="0123", uri="sip:a"', 'bad value response=[hidden], uri="sip:a"'),
        ("password=hunter2 next", "password=[hidden] next"),
        ('cnonce="unterminated', "cnonce=[hidden]"),
        ("Call-ID: abc", "Call-ID: abc"),
    ],
)
def test_credentials_are_struck_out(text: str, hidden: str) -> None:
    assert clean(text) == hidden


def test_overlong_text_is_cut() -> None:
    cut = clean("x" * 100_000)
    assert len(cut) < LONGEST_TEXT + 40
    assert cut.endswith("… (100000 characters)")


def test_plain_text_is_left_alone() -> None:
    assert escape("Grüße, ♥ 漢字") == "Grüße, ♥ 漢字"


class Lines:
    """Records what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, level: str, message: str, fields: Fields) -> None:
        self.written.append((level, message, dict(fields)))


def test_a_rejection_is_counted_and_names_its_reason() -> None:
    metrics, lines = Metrics(), Lines()
    rejections = Rejections(metrics.sip_rejected, lines, 1)
    rejections.note("bad-via", 10.0, source="192.0.2.1", method="INVITE")
    assert read(metrics.sip_rejected.child("bad-via")) == 1
    assert lines.written == [
        ("info", "message rejected", {"reason": "bad-via", "source": "192.0.2.1", "method": "INVITE"}),
    ]


def test_the_first_challenge_of_every_phone_is_counted_but_is_no_news() -> None:
    metrics, lines = Metrics(), Lines()
    rejections = Rejections(metrics.sip_rejected, lines, 1)
    rejections.note("no-credentials", 10.0)
    rejections.note("no-credentials", 10.0)
    rejections.note("wrong-password", 10.0)
    rejections.flush()
    assert read(metrics.sip_rejected.child("no-credentials")) == 2
    assert [(level, fields["reason"]) for level, _, fields in lines.written] == [
        ("debug", "no-credentials"),
        ("info", "wrong-password"),
        ("debug", "no-credentials"),
    ]


def test_a_flood_writes_one_line_a_second_and_reason_and_says_how_many_it_left_out() -> None:
    metrics, lines = Metrics(), Lines()
    rejections = Rejections(metrics.sip_rejected, lines, 1)
    for number in range(1000):
        rejections.note("bad-via", 10.0 + number / 1000)
    rejections.note("bad-cseq", 10.5)
    rejections.note("bad-via", 11.0)
    assert [fields for _, _, fields in lines.written] == [
        {"reason": "bad-via"},
        {"reason": "bad-cseq"},
        {"reason": "bad-via", "left_out": 999},
    ]
    assert read(metrics.sip_rejected.child("bad-via")) == 1001


def test_what_was_left_out_at_the_end_is_said_when_flushed() -> None:
    lines = Lines()
    rejections = Rejections(Metrics().sip_rejected, lines, 2)
    for _ in range(5):
        rejections.note("bad-via", 10.0)
    rejections.flush()
    rejections.flush()
    assert lines.written[2:] == [("info", "messages rejected", {"reason": "bad-via", "left_out": 3})]
