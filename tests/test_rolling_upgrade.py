"""The rolling upgrade, told by a farm that does what the test says: which node is restarted when, and what stops it."""

from __future__ import annotations

import http.client
import io
import itertools
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable

import pytest

from deploy.rolling_upgrade import Failed, Node, Seen, Upgrade, ask, main, parse_metrics, parse_node

PAGE = """\
# HELP sipfarm_ready 1 while traffic may be sent to this node, as /readyz says.
sipfarm_ready 1.0
sipfarm_members{state="alive"} 3.0
sipfarm_members{state="dead"} 1.0
sipfarm_underreplicated_partitions{missing="1"} 4.0
sipfarm_underreplicated_partitions{missing="2"} 1.0
sipfarm_build_info{python="3.11.2",version="0.1.0"} 1.0
process_start_time_seconds 1.7e+09
"""

NODES = [Node(name, f"10.0.0.{number}:9464") for number, name in enumerate(("n1", "n2", "n3"), 1)]
GOOD = Seen(True, 3, 0, "0.1.0", 100.0)


class Farm:
    """Nodes, a clock, and what is said; a restarted node is new at once, and `after` says how it is then."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seen: dict[Node, Seen | str] = dict.fromkeys(NODES, GOOD)
        self.restarted: list[str] = []
        self.said: list[str] = []
        self.after: Callable[[Node], Seen | str] = lambda node: GOOD._replace(version="0.2.0", started=200.0)
        self.later: list[tuple[float, Node, Seen | str]] = []
        self.code = 0

    def ask(self, node: Node) -> Seen | str:
        while self.later and self.later[0][0] <= self.now:
            _, changed, seen = self.later.pop(0)
            self.seen[changed] = seen
        return self.seen[node]

    def restart(self, node: Node) -> int:
        self.restarted.append(node.name)
        self.seen[node] = self.after(node)
        return self.code

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def upgrade(self, *, version: str = "", members: int = 0) -> Upgrade:
        return Upgrade(
            NODES,
            self.restart,
            members=members,
            seconds=30.0,
            settle=3.0,
            version=version,
            ask=self.ask,
            clock=lambda: self.now,
            sleep=self.sleep,
            say=self.said.append,
        )


def test_a_page_of_metrics_says_how_a_node_sees_the_farm() -> None:
    assert parse_metrics(PAGE) == Seen(True, 3, 5, "0.1.0", 1.7e9)


@pytest.mark.parametrize("page", ["", "up 1\n", "sipfarm_ready 1\n", "<html></html>"])
def test_a_page_of_something_else_is_none(page: str) -> None:
    with pytest.raises(ValueError, match="no metrics of a node"):
        parse_metrics(page)


def test_one_node_after_the_other_is_restarted_and_each_is_given_time_to_settle() -> None:
    farm = Farm()
    farm.upgrade().run()
    assert farm.restarted == ["n1", "n2", "n3"]
    assert farm.now == 6 * 3.0
    assert farm.said[-1] == "done: 3 members alive, no copy missing"


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        ("does not answer (refused)", "n2 does not answer (refused)"),
        (GOOD._replace(ready=False), "n2 is not ready"),
        (GOOD._replace(alive=2), "n2 sees 2 members alive, not 3"),
        (GOOD._replace(missing=4), "n2 misses copies of 4 partitions"),
    ],
)
def test_nothing_is_restarted_while_the_farm_is_not_whole(seen: Seen | str, problem: str) -> None:
    farm = Farm()
    farm.seen[NODES[1]] = seen
    with pytest.raises(Failed) as failed:
        farm.upgrade().run()
    expected = f"before n1: not whole within 30 s: {problem}; mend it, then go on with --from n1"
    assert (str(failed.value), farm.restarted) == (expected, [])
    assert farm.said == [f"  waiting: {problem}"]


def test_a_farm_that_mends_itself_is_waited_for_and_must_stay_whole() -> None:
    farm = Farm()
    short = GOOD._replace(missing=1)
    farm.seen[NODES[2]] = short
    farm.later = [(4.0, NODES[2], GOOD), (6.0, NODES[2], short), (10.0, NODES[2], GOOD)]
    farm.upgrade().run()
    assert farm.now == 13.0 + 5 * 3.0


def test_the_next_is_not_touched_when_one_does_not_come_back() -> None:
    farm = Farm()
    farm.after = lambda node: GOOD._replace(started=200.0) if node.name == "n1" else "does not answer (refused)"
    with pytest.raises(Failed, match=r"^after n2: not whole within 30 s: n2 does not answer .* --from n2$"):
        farm.upgrade().run()
    assert farm.restarted == ["n1", "n2"]


def test_a_command_that_fails_ends_it() -> None:
    farm = Farm()
    farm.code = 255
    with pytest.raises(Failed, match="n1: the command ended with 255"):
        farm.upgrade().run()
    assert farm.restarted == ["n1"]


def test_a_command_that_restarted_nothing_is_noticed() -> None:
    farm = Farm()
    farm.after = lambda node: GOOD
    with pytest.raises(Failed, match="n1 has not been restarted"):
        farm.upgrade().run()


def test_it_goes_on_where_it_stopped() -> None:
    farm = Farm()
    farm.upgrade().run(NODES[1])
    assert farm.restarted == ["n2", "n3"]


def test_nodes_of_the_new_version_are_left_alone() -> None:
    farm = Farm()
    farm.seen[NODES[0]] = GOOD._replace(version="0.2.0")
    farm.upgrade(version="0.2.0").run()
    assert farm.restarted == ["n2", "n3"]
    assert "n1: runs 0.2.0 already" in farm.said


def test_a_node_that_came_back_with_the_old_version_ends_it() -> None:
    farm = Farm()
    farm.after = lambda node: GOOD._replace(started=200.0)
    with pytest.raises(Failed, match=r"n1: runs 0\.1\.0, not 0\.2\.0"):
        farm.upgrade(version="0.2.0").run()
    assert farm.restarted == ["n1"]


def test_a_dry_run_asks_all_and_restarts_none() -> None:
    farm = Farm()
    farm.upgrade().run(dry=True)
    assert farm.restarted == []
    assert farm.said[:3] == [f"{name}: would be restarted (runs 0.1.0)" for name in ("n1", "n2", "n3")]


def test_a_node_that_ends_again_and_again_is_not_taken_for_one_that_is_back() -> None:
    farm = Farm()
    back = GOOD._replace(started=200.0)
    farm.after = lambda node: back
    farm.later = [(5.0 + 2 * number, NODES[0], back._replace(started=201.0 + number)) for number in range(40)]
    with pytest.raises(Failed, match="after n1: not whole within 30 s: it does not stay so"):
        farm.upgrade().run()
    assert farm.restarted == ["n1"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (subprocess.TimeoutExpired("ssh", 300), "n1: the command has not ended; mend it, then go on with --from n1"),
        (KeyboardInterrupt(), "n1: stopped while it was restarted; mend it, then go on with --from n1"),
    ],
)
def test_a_command_that_hangs_or_is_stopped_ends_it_and_says_at_which_node(error: BaseException, said: str) -> None:
    farm = Farm()

    def hang(node: Node) -> Seen:
        raise error

    farm.after = hang
    with pytest.raises(Failed) as failed:
        farm.upgrade().run()
    assert (str(failed.value), farm.restarted) == (said, ["n1"])


class Page(io.BytesIO):
    """What is answered, by pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self.pieces = iter(pieces)

    def read1(self, size: int | None = -1, /) -> bytes:
        return next(self.pieces, b"")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http.client.BadStatusLine("\x00\x16"), "does not answer (\x00\x16)"),
        (http.client.RemoteDisconnected(""), "does not answer (RemoteDisconnected)"),
        (urllib.error.HTTPError("", 503, "", http.client.HTTPMessage(), None), "answers 503"),
        (urllib.error.URLError("refused"), "does not answer (refused)"),
        (Page([b"\xff\x00 garbage"]), "does not answer (these are no metrics of a node)"),
        (Page([b'sipfarm_ready 1\nsipfarm_members{state="alive"} +Inf\n']),
         "does not answer (these are no numbers of a node)"),
        (Page(itertools.repeat(b"x" * 65_536)), "does not answer (its page has no end)"),
    ],
)  # fmt: skip
def test_a_node_that_answers_nonsense_is_one_that_does_not_answer(
    answer: Page | Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answered(opener: object, url: str, timeout: float) -> Page:
        assert (url, timeout) == ("http://10.0.0.1:9464/metrics", 5.0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answered)
    assert ask(NODES[0]) == said


def test_a_node_that_is_ready_by_no_number_is_not() -> None:
    assert not parse_metrics(PAGE.replace("sipfarm_ready 1.0", "sipfarm_ready NaN")).ready


def test_members_that_are_not_named_are_to_be_alive_all_the_same() -> None:
    farm = Farm()
    farm.seen = dict.fromkeys(NODES, GOOD._replace(alive=5))
    with pytest.raises(Failed, match=r"after n1: .* n1 sees 3 members alive, not 5"):
        farm.upgrade().run()
    farm = Farm()
    with pytest.raises(Failed, match="n1 sees 3 members alive, not 4"):
        farm.upgrade(members=4).run()


def test_nodes_are_named_with_the_place_of_their_metrics() -> None:
    assert parse_node("n1=10.0.0.1:9464") == Node("n1", "10.0.0.1:9464")
    assert parse_node("n1=[2001:db8::1]:9464") == Node("n1", "[2001:db8::1]:9464")


@pytest.mark.parametrize(
    "arguments",
    [
        ["n1"],
        ["n1=10.0.0.1"],
        ["n1;reboot=10.0.0.1:9464"],
        ["n1=10.0.0.1:9464", "n1=10.0.0.2:9464"],
        ["n1=10.0.0.1:9464", "n2=10.0.0.1:9464"],
        ["n1=10.0.0.1:9464", "--from", "n2"],
        [],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--command", "true", *arguments])
    assert ended.value.code == 2
    assert "usage: rolling-upgrade" in capsys.readouterr().err
