"""How a trace is drawn: what an operator reads, and what a stranger cannot do to a terminal."""

from __future__ import annotations

from typing import Any

import pytest

from farm.admin import ladder
from farm.admin.ladder import Ladder, Reader, make_line, make_printable

ALICE, BOB = "198.51.100.7:5060", "[2001:db8::7]:40000"
N1, N2 = "192.0.2.1:5060", "192.0.2.2:5060"


def message(
    first_line: str, node: str, source: str, destination: str, *, sent: bool, at: float = 0.0, cseq: str = "1 INVITE"
) -> dict[str, Any]:
    """As the order `trace` answers one."""
    return {
        "time": 1_700_000_000.25 + at,
        "node": node,
        "direction": "out" if sent else "in",
        "transport": "UDP",
        "source": source,
        "destination": destination,
        "raw": f"{first_line}\r\nCSeq:  {cseq}\r\nCall-ID: c1\r\n\r\nCSeq: 9 BODY\r\n",
    }


def call() -> list[dict[str, Any]]:
    """A call that is sent to the first node and leaves by the second."""
    invite, ringing = "INVITE sip:bob@example.com SIP/2.0", "SIP/2.0 180 Ringing"
    return [
        message(invite, "n1", ALICE, N1, sent=False),
        message(invite, "n1", ALICE, N1, sent=False, at=0.5),
        message(invite, "n2", N2, BOB, sent=True, at=0.501),
        message(ringing, "n2", BOB, N2, sent=False, at=1.0),
        message(ringing, "n1", N1, ALICE, sent=True, at=1.002),
    ]


def draw(messages: list[dict[str, Any]], width: int) -> list[str]:
    reader, drawn = Reader(), Ladder(width)
    return [line for each in messages for line in drawn.add(reader.read(each))]


def test_a_call_over_two_nodes_fits_into_80_columns() -> None:
    assert draw(call(), 80) == [
        "",
        "                             198.51.100.7                       n1",
        "                                 5060",
        "   0.000 1 INVITE                  |------------INVITE---------->|",
        "   0.500 1 INVITE                  |............INVITE..........>|",
        "",
        "                      198.51.100.7        n1             n2       [2001:db8::7]",
        "                          5060                                        40000",
        "   0.501 1 INVITE          |              |              |----INVITE--->|",
        "   1.000 1 INVITE          |              |              |<180 Ringing--|",
        "   1.002 1 INVITE          |<180 Ringing--|              |              |",
    ]


@pytest.mark.parametrize("width", [20, 80])
def test_another_node_writes_nothing_that_a_terminal_would_obey(width: int) -> None:
    one = message("INVITE sip:a SIP/2.0", "n\x1b[31m", "\x1b[2J\u202e:1", "\x07:2", sent=True)
    one["transport"] = "\x9b1m"
    other = message("INVITE sip:a SIP/2.0", "n\x1b[31m", "\x1b[2J\u202e:1", "\x07:2", sent=False)
    assert all(line.isprintable() for line in draw([one, other], width))


def test_with_more_parties_than_fit_each_message_is_a_line() -> None:
    lines = draw(call(), 60)
    assert lines[-1] == ("22:13:21.252000 +1.002 n1 sent 192.0.2.1:5060 > 198.51.100.7:5060 UDP 180 Ringing [1 INVITE]")
    assert lines[-3].endswith("INVITE sip:bob@example.com SIP/2.0")


def test_a_line_says_that_a_message_was_sent_again() -> None:
    reader = Reader()
    steps = [reader.read(each) for each in call()]
    assert [step.again for step in steps] == [False, True, False, False, False]
    assert make_line(steps[1], steps[0].time).endswith(" received 198.51.100.7:5060 > 192.0.2.1:5060 UDP"
                                                       " INVITE sip:bob@example.com SIP/2.0 (again)")  # fmt: skip


def test_a_long_phrase_is_cut_and_a_long_address_keeps_its_end() -> None:
    one = message("SIP/2.0 407 Proxy Authentication Required", "n1", N1, "198.51.100.200:5060", sent=True)
    other = message("BYE sip:a SIP/2.0", "n1", N1, "[2001:db8:1:2::7]:5060", sent=True)
    assert draw([one, other], 64) == [
        "",
        "                              n1              198.51.100.200",
        "                                                   5060",
        "   0.000 1 INVITE              |-407 Proxy Authenti~>|",
        "",
        "                    ~:db8:1:2::7]       n1      ~8.51.100.200",
        "                         5060                        5060",
        "   0.000 1 INVITE          |<----BYE-----|             |",
    ]


def test_a_phone_that_comes_late_stands_beside_the_node_it_talks_to() -> None:
    lines = draw([
        message("OPTIONS sip:a SIP/2.0", "n1", N1, ALICE, sent=True),
        message("OPTIONS sip:a SIP/2.0", "n1", "203.0.113.9:5060", N1, sent=False),
    ], 80)  # fmt: skip
    assert lines[5].split() == ["203.0.113.9", "n1", "198.51.100.7"]


def test_a_message_of_a_node_to_itself_is_shown() -> None:
    *_, line = draw([message("OPTIONS sip:a SIP/2.0", "n1", "n1", N1, sent=False)], 80)
    assert line.endswith("|OPTIONS (to itself)")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü", "plain ü"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\udcff", "\\udcff"),
        ("a\rb\nc", "a\\rb\\nc"),
    ],
)
def test_nothing_that_a_terminal_would_obey_reaches_it(text: str, shown: str) -> None:
    assert make_printable(text) == shown


def test_a_hostile_message_is_shown_on_one_line_without_controls() -> None:
    hostile = message("INVITE \x1b]0;owned\x07 SIP/2.0", "n1\x1b[2J", ALICE, N1, sent=False, cseq="1 \x1b[1mINVITE")
    for width in (80, 20):
        for line in draw([hostile], width):
            assert line.isprintable()
    step = Reader().read(hostile)
    assert (step.first_line, step.cseq) == ("INVITE \\x1b]0;owned\\x07 SIP/2.0", "")


def test_what_is_no_sip_is_shown_as_such() -> None:
    step = Reader().read({"raw": "", "node": "n1"})
    assert (step.label, step.cseq, step.call_id, step.time) == ("?", "", "", 0.0)


def test_the_memory_of_what_was_sent_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "MOST_REMEMBERED", 2)
    reader = Reader()
    again = [reader.read({"raw": text}).again for text in ("a", "b", "b", "c", "c")]
    assert again == [False, False, True, False, True]
    assert len(reader._known) == 1
