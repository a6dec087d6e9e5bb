"""The line: its fields, and what strangers' bytes become."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from farm.accounting.call import Bye, Call
from farm.accounting.record import ANSWERED, ENDED, FAILED, INTERRUPTED, Scribe
from farm.sip.hop import Hop
from tests.accounting.books import PHONE, Desk, Way, make_answer, make_bye, make_invite

WALL = 1_700_000_000.0  # 2023-11-14T22:13:20Z
FIELDS = [
    "event", "method", "from_tag", "to_tag", "callid", "sip_code", "sip_reason", "time", "src_user", "src_domain",
    "auth_user", "dst_user", "dst_domain", "dst_ouser", "src_ip", "setup_time", "ring_time", "answer_time", "end_time",
    "setup_duration", "duration", "result", "ended_by", "bye_code", "bye_address", "ingress_node",
    "ingress_transport", "egress_node", "egress_transport", "egress_target", "branches", "branch_codes",
    "fork", "again", "partial",
]  # fmt: skip


BYE = Bye(0.0, 200, "", "192.0.2.102:5060")


def write(call: Call, event: str, now: float, wall: float = 0.0) -> dict[str, Any]:
    """The line of a call; `now` 0 was at WALL."""
    line = Scribe("n1", lambda node: {7: "n2"}.get(node, "")).make_line(call, event, now, wall or WALL + now)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_line_of_a_call_that_ended() -> None:
    desk = Desk()
    call = desk.answer()
    call.ring_at = 9.0
    desk.calls.end(make_bye(), 200, 70.1234, hop=PHONE)
    line = write(call, ENDED, 70.2)
    assert list(line) == FIELDS
    assert line == {
        "event": "ended", "method": "INVITE", "from_tag": "a", "to_tag": "b", "callid": "c1", "sip_code": 200,
        "sip_reason": "OK", "time": "2023-11-14T22:14:30.123Z", "src_user": "alice", "src_domain": "example.com",
        "auth_user": "alice@example.com",
        "dst_user": "bob", "dst_domain": "192.0.2.102", "dst_ouser": "bob", "src_ip": "192.0.2.101",
        "setup_time": "2023-11-14T22:13:28.000Z", "ring_time": "2023-11-14T22:13:29.000Z",
        "answer_time": "2023-11-14T22:13:30.000Z", "end_time": "2023-11-14T22:14:30.123Z", "setup_duration": 2.0,
        "duration": 60.123, "result": "answered", "ended_by": "caller", "bye_code": 200,
        "bye_address": "192.0.2.102:5070", "ingress_node": "n1",
        "ingress_transport": "udp", "egress_node": "n2", "egress_transport": "tcp",
        "egress_target": "192.0.2.102:5070", "branches": 1, "branch_codes": [200], "fork": False,
        "again": False, "partial": False,
    }  # fmt: skip


def test_the_lines_of_an_answer_and_of_a_stop_have_no_end() -> None:
    desk = Desk()
    call = desk.answer()
    begun = write(call, ANSWERED, 10.0)
    assert (begun["time"], begun["end_time"], begun["duration"], begun["ended_by"]) == (
        "2023-11-14T22:13:30.000Z", None, None, None,
    )  # fmt: skip
    desk.calls.interrupt(30.0)
    cut = write(call, INTERRUPTED, 30.0)
    assert (cut["time"], cut["end_time"], cut["duration"], cut["ended_by"]) == (
        "2023-11-14T22:13:50.000Z", None, 20.0, "lost",
    )  # fmt: skip


def test_the_line_of_an_attempt_has_no_answer() -> None:
    desk = Desk()
    call = desk.calls.begin(make_invite(), 1.0)
    call.fail(486, "Busy Here", Way(99), [486, 0, 480], by_callee=True, now=3.5)
    line = write(call, FAILED, 3.5)
    assert (line["answer_time"], line["duration"], line["ring_time"]) == (None, None, None)
    assert (line["setup_duration"], line["end_time"], line["result"]) == (2.5, line["time"], "busy")
    assert (line["branches"], line["branch_codes"], line["egress_node"]) == (3, [486, 480], None)
    call = desk.calls.begin(make_invite(), 1.0)
    call.fail(404, "Not Found", None, [], by_callee=False, now=1.0)
    line = write(call, FAILED, 1.0)
    assert (line["dst_user"], line["egress_target"], line["branches"]) == ("bob", None, 0)


def test_a_clock_that_is_set_during_a_call_moves_it_and_leaves_its_length() -> None:
    desk = Desk()
    call = desk.answer()
    desk.calls.end(make_bye(), 200, 70.0)
    line = write(call, ENDED, 70.0, WALL + 70 + 3600)
    assert (line["answer_time"], line["end_time"], line["duration"]) == (
        "2023-11-14T23:13:30.000Z", "2023-11-14T23:14:30.000Z", 60.0,
    )  # fmt: skip


def test_what_is_known_of_a_call_without_its_beginning() -> None:
    scribe = Scribe("n1", lambda _: "")
    line = json.loads(
        scribe.make_partial(("c1", "a", "b"), "sip:alice@example.com", "sip:bob@example.com", "callee", WALL, BYE)
    )
    assert list(line) == FIELDS
    assert (line["event"], line["partial"], line["ended_by"], line["result"]) == ("ended", True, "callee", "answered")
    assert (line["callid"], line["from_tag"], line["to_tag"], line["src_user"], line["dst_user"]) == (
        "c1", "a", "b", "alice", "bob",
    )  # fmt: skip
    assert line["end_time"] == line["time"] == "2023-11-14T22:13:20.000Z"
    assert line["duration"] is line["answer_time"] is line["sip_code"] is None


GUIDE = (Path(__file__).parents[2] / "docs" / "call-records.md").read_text()


def test_the_table_of_fields_in_the_docs_is_what_is_written() -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", GUIDE.partition("| field |")[2].partition("## The events")[0], re.MULTILINE)
    described = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
    assert sorted(described) == sorted(FIELDS)
    assert list(json.loads(make_example())) == FIELDS


def make_example() -> str:
    """The line that the docs show."""
    return GUIDE.partition("```json\n")[2].partition("```")[0].replace("\n ", "")


def test_the_line_in_the_docs_is_what_is_written_of_such_a_call() -> None:
    example = json.loads(make_example())
    seconds = {name: datetime.fromisoformat(example[name]).timestamp() for name in example if name.endswith("_time")}
    now = seconds["setup_time"]
    desk = Desk()
    request = make_invite(example["callid"])
    request.from_tag = example["from_tag"]
    request.source = Hop(example["ingress_transport"].upper(), example["src_ip"], 5061)
    call = desk.calls.begin(request, 0.0, f"sip:{example['auth_user']}")
    call.ring(seconds["ring_time"] - now)
    hop = Hop("UDP", "192.0.2.102", 5060)
    way = Way(7, hop, "sip:bob@192.0.2.102")
    call.answer(make_answer(request, example["to_tag"]), way, [200, 486], seconds["answer_time"] - now)
    bye = make_bye(example["callid"])
    bye.from_tag, bye.to_tag, bye.source = example["to_tag"], example["from_tag"], hop
    assert desk.calls.end(bye, 200, seconds["end_time"] - now)
    assert write(call, ENDED, 100.0, now + 100.0) == example
    assert make_example() == json.dumps(example, separators=(",", ":")) + "\n"


TEXT = st.text(max_size=400) | st.binary(max_size=400).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_whatever_strangers_write_a_line_is_one_line_of_json_that_prints(
    sender: str, uri: str, call_id: str, tag: str, phrase: str, user: str
) -> None:
    desk = Desk()
    request = make_invite()
    request.headers = [("from", sender, ""), ("to", sender, "")]
    request.uri_text, request.call_id, request.from_tag = uri, call_id, tag
    call = desk.calls.begin(request, 1.0, user)
    answer = make_answer(request, tag)
    answer.phrase = phrase
    call.answer(answer, Way(1, PHONE, sender), [200], 2.0)
    bye = Bye(9.0, 200, sender, uri)
    assert desk.calls.end_dialog(call_id, tag, tag, bye)
    partial = Scribe("n1", lambda _: "").make_partial((call_id, tag, tag), sender, uri, "caller", WALL, bye)
    for line in (write(call, ENDED, 10.0), json.loads(partial)):
        assert list(line) == FIELDS
        for value in line.values():
            assert not isinstance(value, str) or value.replace("\ufffd", "?").isprintable()
            assert len(str(value)) <= 256
    assert partial.count(b"\n") == 1
    assert desk.calls.ringing == len(desk.calls) == len(desk.calls._ringing) == 0
