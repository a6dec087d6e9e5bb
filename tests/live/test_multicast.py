"""Two nodes that find each other by multicast on the loopback interface, with real sockets."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import random, sys, time
from twisted.internet import reactor
from farm.metrics import Metrics
from farm.overlay.multicast import Multicast

heard = []

def make(host):
    def hear(found, port, now):
        heard.append(f"{host} heard {found}:{port}")
        if len(set(heard)) == 2:
            reactor.stop()
    return Multicast(reactor, "farm", (host, 7400), host, hear, Metrics(), time.monotonic, random.Random(1), port=17400)

first, second = make(sys.argv[1]), make(sys.argv[2])
first.start()
second.start()
reactor.callLater(0.1, first.ask)
reactor.callLater(5, reactor.stop)
reactor.run()
assert first.problem == second.problem == "", (first.problem, second.problem)
print(*sorted(set(heard)), sep="\\n")
"""


def test_nodes_find_each_other_on_loopback() -> None:
    command = [sys.executable, "-c", PROGRAM, "127.0.0.11", "127.0.0.12"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert found.stdout == "127.0.0.11 heard 127.0.0.12:7400\n127.0.0.12 heard 127.0.0.11:7400\n", found.stderr
