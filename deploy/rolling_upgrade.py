#!/usr/bin/env python3
"""Restarts the nodes of a farm one after the other, each only while the farm is whole: `deploy/rolling-upgrade`.

    deploy/rolling-upgrade --command 'ssh {name} sudo systemctl restart sipfarm' n1=10.0.0.1:9464 n2=10.0.0.2:9464

Whole means, by the `/metrics` of all nodes that are named: each answers and is ready, all see the same number of
members alive, and none owns a partition of which a copy is missing. That is waited for before the first node and after
every one; the first that fails ends it, and says how to go on. It needs Python 3.10 and nothing else, so that it runs
where the operator is.

Decided: metrics instead of the console: they are reachable over the network as they are, and what Prometheus alerts by.
"""

from __future__ import annotations

import argparse
import http.client
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

_NODE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=([A-Za-z0-9._-]+:[0-9]+|\[[0-9A-Fa-f:]+\]:[0-9]+)")
_SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ANSWER_SECONDS: Final = 5.0
_MOST_BYTES: Final = 16_777_216  # of a page


class Node(NamedTuple):
    """A node: how the command knows it, and where its `/metrics` is."""

    name: str
    address: str


class Seen(NamedTuple):
    """What a node says of itself and of the farm; `started` is seconds since 1970."""

    ready: bool
    alive: int
    missing: int
    version: str
    started: float


Answers: TypeAlias = "Mapping[Node, Seen | str]"


class Failed(Exception):
    """It cannot go on; `str()` of it is what the operator reads."""


def parse_node(text: str) -> Node:
    """A node from `NAME=HOST:PORT`; raises ArgumentTypeError, which argparse shows."""
    match = _NODE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f'"{text}" is not NAME=HOST:PORT, as in n1=10.0.0.1:9464')
    return Node(match[1], match[2])


def parse_metrics(text: str) -> Seen:
    """What a page of metrics says; raises ValueError when it is no node's."""
    ready = alive = started = None
    missing, version = 0.0, ""
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is None:
            continue
        labels = dict(_LABEL.findall(match[2] or ""))
        name = match[1]
        if name == "sipfarm_ready":
            ready = float(match[3])
        elif name == "sipfarm_members" and labels.get("state") == "alive":
            alive = float(match[3])
        elif name == "sipfarm_underreplicated_partitions":
            missing += float(match[3])
        elif name == "sipfarm_build_info":
            version = labels.get("version", "")
        elif name == "process_start_time_seconds":
            started = float(match[3])
    if ready is None or alive is None:
        raise ValueError("these are no metrics of a node")
    try:
        return Seen(ready == 1.0, int(alive), int(missing), version, started or 0.0)
    except OverflowError:
        raise ValueError("these are no numbers of a node") from None


def ask(node: Node) -> Seen | str:
    """What a node says, or why it does not. It is asked itself, whatever `http_proxy` says."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{node.address}/metrics", timeout=_ANSWER_SECONDS) as page:
            return parse_metrics(_read(page).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        return f"answers {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return f"does not answer ({getattr(error, 'reason', None) or str(error) or type(error).__name__})"


def _read(page: http.client.HTTPResponse) -> bytes:
    """All of a page; raises ValueError when it has no end."""
    until = time.monotonic() + _ANSWER_SECONDS
    data = b""
    while piece := page.read1(65_536):
        data += piece
        if len(data) > _MOST_BYTES or time.monotonic() > until:
            raise ValueError("its page has no end")
    return data


def find_problem(answers: Answers, members: int) -> str:
    """Why the farm is not whole, "" when it is; `members` is how many are to be alive."""
    for node, seen in answers.items():
        if isinstance(seen, str):
            return f"{node.name} {seen}"
        if not seen.ready:
            return f"{node.name} is not ready"
        if seen.alive != members:
            return f"{node.name} sees {seen.alive} members alive, not {members}"
        if seen.missing:
            return f"{node.name} misses copies of {seen.missing} partitions"
    return ""


def find_members(answers: Answers) -> int:
    """How many members the farm has: what most are seen alive; never fewer than are named."""
    return max([len(answers), *(seen.alive for seen in answers.values() if isinstance(seen, Seen))])


class Upgrade:
    """One run over the nodes. `seconds` is how long the farm may take to be whole, `settle` for how many it must stay
    so."""

    def __init__(
        self,
        nodes: Sequence[Node],
        restart: Callable[[Node], int],
        *,
        members: int = 0,
        seconds: float = 300.0,
        settle: float = 3.0,
        version: str = "",
        ask: Callable[[Node], Seen | str] = ask,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        say: Callable[[str], None] = print,
    ) -> None:
        self._nodes = nodes
        self._restart = restart
        self._members = members
        self._seconds = seconds
        self._settle = settle
        self._version = version
        self._ask = ask
        self._clock = clock
        self._sleep = sleep
        self._say = say

    def run(self, begin: Node | None = None, *, dry: bool = False) -> None:
        """Restart all, from one of them on; `dry` asks all and restarts none. Raises Failed."""
        answers = self._look()
        self._members = self._members or find_members(answers)
        position = self._nodes.index(begin) if begin is not None else 0
        for node in self._nodes[position:]:
            answers = self._wait("before", node, None)
            seen = answers[node]
            assert isinstance(seen, Seen)
            if self._version and seen.version == self._version:
                self._say(f"{node.name}: runs {seen.version} already")
            elif dry:
                self._say(f"{node.name}: would be restarted (runs {seen.version})")
            else:
                self._upgrade(node, seen)
        self._say(f"done: {self._members} members alive, no copy missing")

    def _upgrade(self, node: Node, before: Seen) -> None:
        self._say(f"{node.name}: restarting (runs {before.version})")
        begun = self._clock()
        try:
            code = self._restart(node)
        except subprocess.TimeoutExpired:
            raise Failed(f"{node.name}: the command has not ended; {self._advise(node)}") from None
        except KeyboardInterrupt:
            raise Failed(f"{node.name}: stopped while it was restarted; {self._advise(node)}") from None
        if code:
            raise Failed(f"{node.name}: the command ended with {code}; {self._advise(node)}")
        after = self._wait("after", node, before)[node]
        assert isinstance(after, Seen)
        self._say(f"{node.name}: runs {after.version}, the farm is whole after {self._clock() - begun:.0f} s")
        if self._version and after.version != self._version:
            raise Failed(f"{node.name}: runs {after.version}, not {self._version}; {self._advise(node)}")

    def _wait(self, when: str, node: Node, before: Seen | None) -> Answers:
        """Until the farm is whole and stays so, and a node that was as `before` has begun anew; what all said then."""
        until = self._clock() + self._seconds
        since: float | None = None
        starts: list[float] = []
        said = ""
        while True:
            answers = self._look()
            problem = find_problem(answers, self._members) or _find_old(node, answers[node], before)
            now = self._clock()
            earlier, starts = starts, [seen.started for seen in answers.values() if isinstance(seen, Seen)]
            if problem:
                since = None
            elif since is None or starts != earlier:  # one that ends again and again is whole in between
                since = now
            if since is not None and now - since >= self._settle:
                return answers
            if now >= until:
                problem = problem or "it does not stay so"
                raise Failed(
                    f"{when} {node.name}: not whole within {self._seconds:g} s: {problem}; {self._advise(node)}"
                )
            if problem and problem != said:
                said = problem
                self._say(f"  waiting: {problem}")
            self._sleep(1.0)

    def _look(self) -> Answers:
        return {node: self._ask(node) for node in self._nodes}

    def _advise(self, node: Node) -> str:
        return f"mend it, then go on with --from {node.name}"


def _find_old(node: Node, seen: Seen | str, before: Seen | None) -> str:
    if before is not None and isinstance(seen, Seen) and seen.started == before.started:
        return f"{node.name} has not been restarted"
    return ""


def make_parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(
        prog="rolling-upgrade",
        description="Restart the nodes of a farm one after the other, each only while the farm is whole.",
    )
    parser.add_argument("nodes", nargs="+", type=parse_node, metavar="NAME=HOST:PORT", help="a node and its metrics")
    parser.add_argument(
        "--command", required=True, help="restarts one; {name}, {host} and {address} are put in: 'ssh {name} …'"
    )
    parser.add_argument("--from", dest="begin", metavar="NAME", help="go on with this node; the ones before are done")
    parser.add_argument("--version", default="", help="leave out nodes that run it already, and expect it afterwards")
    parser.add_argument(
        "--members", type=int, default=0, help="how many are to be alive, where more are than named; else what is seen"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="for a command, and for the farm to be whole; 300",
    )
    parser.add_argument("--settle", type=float, default=3.0, metavar="SECONDS", help="for which it must stay whole; 3")
    parser.add_argument("--dry-run", action="store_true", help="ask all nodes, and restart none")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; answers its exit code: 0 done, 1 failed, 2 wrong usage."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    nodes: list[Node] = options.nodes
    if len({node.name for node in nodes}) < len(nodes):
        parser.error("one name is there twice")
    if len({node.address for node in nodes}) < len(nodes):
        parser.error("one address is there twice")
    begin = next((node for node in nodes if node.name == options.begin), None)
    if options.begin and begin is None:
        parser.error(f"--from {options.begin} is none of the nodes")

    def restart(node: Node) -> int:
        command = options.command
        host = node.address.rpartition(":")[0].strip("[]")
        for word, value in (("{name}", node.name), ("{host}", host), ("{address}", node.address)):
            command = command.replace(word, value)
        return subprocess.call(command, shell=True, timeout=options.timeout)

    def say(line: str) -> None:
        print(line, flush=True)

    upgrade = Upgrade(
        nodes,
        restart,
        members=options.members,
        seconds=options.timeout,
        settle=options.settle,
        version=options.version,
        say=say,
    )
    try:
        upgrade.run(begin, dry=options.dry_run)
    except Failed as failure:
        print(f"rolling-upgrade: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("rolling-upgrade: stopped; go on with --from the last that was named", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
