"""What caller and callee see when a node is killed during their call: `python -m tests.support.kill_table`.

Three real nodes, one of which is killed (SIGKILL) while a scripted call goes through them, once for each node that has
something to do with it and each moment of the call; then the call goes on through the third, and the node is started
again. What came, and how many milliseconds after the kill, is printed as the table of `docs/failover.md`. It takes
about two minutes.

The parties do what RFC 3261 and 3263 want of them and no more: a callee repeats its 200 until the ACK comes, over UDP
to the next address that the farm's name has; whoever loses its connection opens another to the next node, and a phone
registers anew when the connection was that of its registration. The callee's node has its flow, the caller's node its
connection and the INVITE's transaction; a caller on UDP without NAT has no flow, so that its node is the transaction's
alone.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.agents import Agent, Received, make_token
from tests.support.live_farm import LiveFarm
from tests.support.loopback import reserve_addresses
from tests.support.nodes import Nodes

A, B, C = 0, 1, 2  # the callee's node, the node that the call comes in at, and the third
PRIVATE: Final = "10.77.1.2:5062"  # what a phone behind a NAT believes that it is
MOMENTS: Final = ("before it rings", "ringing", "mid-call")
KILLED: Final = {"callee's": A, "transaction's": B, "caller's": B}
KINDS: Final = {"UDP": "udp", "UDP, NAT": "udp", "TCP": "tcp"}
RINGS_AFTER: Final = 0.3  # seconds after the kill
ANSWERS_AFTER: Final = 1.0
GIVES_UP_AFTER: Final = 20.0
FARM_NAME: Final = "sip.example.com"


class Case(NamedTuple):
    """Whose node is killed, when, and how the two are connected."""

    killed: str
    moment: str
    caller: str
    callee: str


class Outcome(NamedTuple):
    """What both saw from the kill on, what became of the call, and of what was tried afterwards."""

    case: Case
    caller: list[str]
    callee: list[str]
    call: str
    afterwards: str

    @property
    def failed(self) -> bool:
        """Whether something that should have worked did not."""
        return "failed" in self.call or "failed" in self.afterwards


class Phone(Agent):
    """An agent that notes what it sees and when, and does by itself what every phone does."""

    def __init__(self, target: tuple[str, int], host: str, user: str, kind: str) -> None:
        super().__init__(target, host=host, user=user, transport=KINDS[kind])
        self.kind = kind
        self.notes: list[tuple[float, str]] = []
        self.invite: Received | None = None  # the newest that came
        self.final: Received | None = None  # to what was asked last
        self.acknowledged: dict[str, str] = {}  # the ACK of each 200, by CSeq: to be sent again with it
        self.others: list[tuple[str, int]] = [target]  # all nodes: what the farm's name stands for
        self.answers: list[tuple[float, int]] = []  # what is to be answered to the INVITE, and when
        self._repeat: tuple[float, float, bytes] | None = None
        self._was_connected = False

    def note(self, what: str) -> None:
        """It has been seen now."""
        self.notes.append((time.monotonic(), what))

    @property
    def contact(self) -> str:
        """As the phone writes it; behind a NAT it does not know better."""
        return f"sip:{self.user}@{PRIVATE}" if self.kind == "UDP, NAT" else super().contact

    def make_via(self, branch: str = "") -> str:
        """With the address that the phone believes to have."""
        via = super().make_via(branch)
        return via.replace(f"{self.host}:{self.port}", PRIVATE) if self.kind == "UDP, NAT" else via

    def turn_to(self, target: tuple[str, int]) -> None:
        """Speak to that node from now on."""
        self.target = target
        if self.transport == "tcp":
            self.hang_up()
            self.connect()
            self._was_connected = True

    def step(self) -> None:
        """Read what has come, and do what is due."""
        message = self.receive(0.002)
        now = time.monotonic()
        if self.transport == "tcp":
            if self._was_connected and not self.connected:
                self.note("connection closed")
            self._was_connected = self.connected
        if message is not None:
            self._take(message, now)
        if self.answers and self.answers[0][0] <= now and self.invite is not None:
            _, status = self.answers.pop(0)
            data = self.make_answer(self.invite, status).encode("utf-8", "surrogateescape")
            if status == 180:
                data = data.replace(b"\r\nContent-Length", f"\r\nContact: <{self.contact}>\r\nContent-Length".encode())
            self._say(self.invite, data)
            self.note(f"sends {status}")
            if status == 200:
                self._repeat = (now + 0.5, 0.5, data)
        if self._repeat is not None and self._repeat[0] <= now and self.invite is not None:
            _, wait, data = self._repeat
            if self.transport == "udp":  # the next address of the name in the Via (RFC 3263 §5)
                self.others.append(self.others.pop(0))
                self.send_bytes(data, self.others[0])
            else:
                self._say(self.invite, data)
            self._repeat = (now + min(2 * wait, 4.0), min(2 * wait, 4.0), data)

    def _say(self, request: Received, data: bytes) -> None:
        """Answer on the way that the request came, or, where that is closed, on the connection there is."""
        try:
            if request.connection is not None:
                request.connection.sendall(data)
            else:
                self.send_bytes(data, request.source)
        except OSError:
            if self.connected:
                self.send_bytes(data)

    def _take(self, message: Received, now: float) -> None:
        if message.status:
            if message.status == 100:
                return
            if message.status == 200 and message.first("cseq") in self.acknowledged:
                self.send_request(self.acknowledged[message.first("cseq")])
                return
            self.note(f"{message.status}" + ("" if message.cseq_method == "INVITE" else f" to {message.cseq_method}"))
            if message.status >= 200:
                self.final = message
            return
        if message.method == "ACK":
            if self._repeat is not None or not self.notes or self.notes[-1][1] != "ACK":
                self.note("ACK")
            self._repeat = None
            return
        if message.method == "INVITE":
            if self.invite is not None and message.first("via") == self.invite.first("via"):
                return
            again = self.invite is not None and message.first("call-id") == self.invite.first("call-id")
            self.invite = message
            self.note("re-INVITE" if again and ";tag=" in message.first("to") else "INVITE")
            if ";tag=" in message.first("to"):
                self.answers = [(now, 200)]
            return
        self.note(message.method)
        self._say(message, self.make_answer(message, 200).encode())
        if message.method == "CANCEL" and self.invite is not None:
            self.answers = []
            self._say(self.invite, self.make_answer(self.invite, 487).encode())


class Bench:
    """One farm, and the cases that are tried on it one after the other."""

    def __init__(self, farm: LiveFarm, hosts: Sequence[str]) -> None:
        self.farm = farm
        self._caller_host, self._callee_host = hosts
        self._number = 0

    def run(self, case: Case) -> Outcome:
        """Try one case; afterwards the farm is whole again."""
        self._number += 1
        farm = self.farm
        killed = KILLED[case.killed]
        caller = Phone(farm[B].sip, self._caller_host, f"caller{self._number}", case.caller)
        callee = Phone(farm[A].sip, self._callee_host, f"callee{self._number}", case.callee)
        try:
            return Trial(farm, case, caller, callee).run()
        finally:
            caller.close()
            callee.close()
            if not farm[killed].running():
                farm.start_again(killed)
                farm.wait_whole()


class Trial:
    """One call, and the kill in it."""

    def __init__(self, farm: LiveFarm, case: Case, caller: Phone, callee: Phone) -> None:
        self.farm = farm
        self.case = case
        self.caller = caller
        self.callee = callee
        self.killed_at = 0.0
        self._answered: Received | None = None
        self._cseq = 1
        self._call_id = make_token()

    def run(self) -> Outcome:
        """The whole of it."""
        caller, callee, case = self.caller, self.callee, self.case
        for phone, node in ((caller, B), (callee, A)):
            phone.others = [program.sip for program in self.farm]
            phone.turn_to(self.farm[node].sip)
            self._register(phone)
        caller.send_request(caller.make_request("INVITE", callee.aor, call_id=self._call_id))
        self._wait(lambda: callee.invite is not None, 5, "the INVITE came")
        if case.moment != "before it rings":
            callee.answers = [(0.0, 180)]
            self._wait(lambda: saw(caller, "180"), 5, "the 180 came")
        if case.moment == "mid-call":
            callee.answers = [(0.0, 200)]
            assert self._acknowledge(5), "the call was not set up"
        self.killed_at = self.farm.kill(KILLED[case.killed])
        if case.moment == "mid-call":
            call = "goes on"
        else:
            rings = [(self.killed_at + RINGS_AFTER, 180)] if case.moment == "before it rings" else []
            callee.answers = [*rings, (self.killed_at + ANSWERS_AFTER, 200)]
            call = self._finish_call()
        caller_saw, callee_saw = self._tell(caller), self._tell(callee)
        afterwards = self._go_on() if self._answered is not None else self._call_anew()
        return Outcome(case, caller_saw, callee_saw, call, afterwards)

    # The call

    def _finish_call(self) -> str:
        """Wait for what becomes of it."""
        if self._acknowledge(GIVES_UP_AFTER):
            return "completes"
        final = self.caller.final
        if final is None:
            return "failed: nothing came"
        self.caller.final = None
        self.callee.answers = []
        if self.case.killed == "callee's" and self.case.callee != "UDP":
            return "refused"  # there is no way to the phone any more, and it has to come again
        return f"failed: {final.status}"

    def _acknowledge(self, within: float) -> bool:
        """Wait for a final response; when it is a 200, send the ACK through a node that lives, and see it arrive."""
        caller = self.caller
        if not self._until(lambda: caller.final is not None, within):
            return False
        final = caller.final
        assert final is not None
        if final.status != 200:
            return False
        caller.final = None
        self._answered = final
        if not self.farm[B].running() and caller.target == self.farm[B].sip:
            caller.turn_to(self.farm[C].sip)
        text = caller.acknowledged[final.first("cseq")] = caller.make_in_dialog("ACK", final, self._cseq)
        caller.send_request(text)
        return self._until(lambda: saw(self.callee, "ACK"), 5)

    def _go_on(self) -> str:
        """Re-INVITE from both sides, and BYE, through the third node."""
        self._recover()
        done = []
        for what, ask in (
            ("caller's re-INVITE", lambda: self._ask(self.caller, self._from_caller("INVITE"))),
            ("callee's re-INVITE", lambda: self._ask(self.callee, self._from_callee("INVITE"))),
            ("callee's BYE", lambda: self._ask(self.callee, self._from_callee("BYE"))),
        ):
            done.append(f"{what} {ask()}")
        return ", ".join(done)

    def _call_anew(self) -> str:
        """Another call, as soon as the phone is back."""
        self._recover()
        self.callee.invite = None
        begun = time.monotonic()
        caller, callee = self.caller, self.callee
        caller.send_request(caller.make_request("INVITE", callee.aor))
        if not self._until(lambda: callee.invite is not None, 5):
            return "new call failed"
        callee.answers = [(0.0, 200)]
        self._cseq = 1
        return f"new call {(time.monotonic() - begun) * 1000:.0f} ms" if self._acknowledge(5) else "new call failed"

    def _recover(self) -> None:
        """Who has lost its node turns to the third."""
        third = self.farm[C].sip
        if self.case.killed == "callee's":
            self.callee.turn_to(third)
            self._register(self.callee)
        else:
            if self.caller.target != third:
                self.caller.turn_to(third)
            if self.case.caller == "TCP":
                self._register(self.caller)

    def _from_caller(self, method: str) -> str:
        assert self._answered is not None
        self._cseq += 1
        return self.caller.make_in_dialog(method, self._answered, self._cseq)

    def _from_callee(self, method: str) -> str:
        callee, invite = self.callee, self._first_invite
        contact = re.search(r"<([^>]*)>", invite.first("contact"))
        assert contact is not None
        self._cseq += 1
        return callee.make_request(
            method,
            contact.group(1),
            to=invite.first("from"),
            sender=f"{invite.first('to').partition(';tag=')[0]};tag={callee.tag}",
            call_id=invite.first("call-id"),
            cseq=self._cseq,
            headers=[f"Route: {value}" for value in self._recorded],
        )

    @property
    def _first_invite(self) -> Received:
        return next(message for message in self.callee.seen if message.method == "INVITE")

    @property
    def _recorded(self) -> list[str]:
        return self._first_invite.all("record-route")

    def _ask(self, phone: Phone, text: str) -> str:
        """How long it took until a request in the dialog was answered 200 (whose ACK is seen to arrive), or how it
        failed."""
        phone.final = None
        begun = time.monotonic()
        phone.send_request(text)
        if not self._until(lambda: phone.final is not None, 5) or phone.final is None:
            return "failed: nothing came"
        taken = time.monotonic() - begun
        if phone.final.status != 200:
            return f"failed: {phone.final.status} after {taken * 1000:.0f} ms"
        if text.startswith("INVITE"):
            acknowledged = re.sub(r"branch=[^;]+", f"branch=z9hG4bK{make_token()}", text.replace("INVITE", "ACK"))
            acknowledged = re.sub(r"\r\nContact: [^\r]*", "", acknowledged)
            phone.acknowledged[phone.final.first("cseq")] = acknowledged
            phone.send_request(acknowledged)
            other = self.callee if phone is self.caller else self.caller
            other.notes.clear()
            if not self._until(lambda: saw(other, "ACK"), 5):
                return "failed: its ACK was lost"
        phone.final = None
        return f"{taken * 1000:.0f} ms"

    # Time

    def _register(self, phone: Phone) -> None:
        phone.final = None
        phone.send_request(
            phone.make_request(
                "REGISTER", "sip:example.com", to=f"<{phone.aor}>", headers=[f"Contact: <{phone.contact}>"]
            )
        )
        self._wait(lambda: phone.final is not None and phone.final.status == 200, 10, f"{phone.user} registered")
        phone.final = None

    def _until(self, condition: Callable[[], bool], within: float) -> bool:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                return False
            self.caller.step()
            self.callee.step()
        return True

    def _wait(self, condition: Callable[[], bool], within: float, what: str) -> None:
        assert self._until(condition, within), f"{self.case}: never saw that {what}: {self.caller.seen}"

    def _tell(self, phone: Phone) -> list[str]:
        return [f"{what} {(at - self.killed_at) * 1000:+.0f}" for at, what in phone.notes if at >= self.killed_at]


def saw(phone: Phone, what: str) -> bool:
    """Whether a phone has noted that."""
    return any(noted == what for _, noted in phone.notes)


def all_cases() -> Iterator[Case]:
    """Every node at every moment; the callee's for every way in which a callee is connected."""
    for killed in KILLED:
        for callee in KINDS if killed == "callee's" else ("UDP", "TCP"):
            for moment in MOMENTS:
                yield Case(killed, moment, "TCP" if killed == "caller's" else "UDP", callee)


def write_table(outcomes: Sequence[Outcome]) -> str:
    """The table, in Markdown."""
    columns = (
        "node killed",
        "when",
        "caller, callee",
        "the call",
        "the caller saw (ms after the kill)",
        "the callee saw",
        "afterwards, through the third node",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for outcome in outcomes:
        case = outcome.case
        cells = [
            case.killed,
            case.moment,
            f"{case.caller}, {case.callee.replace(', ', ' behind ')}",
            outcome.call,
            ", ".join(outcome.caller) or "nothing",
            ", ".join(outcome.callee) or "nothing",
            outcome.afterwards,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run_cases(cases: Sequence[Case], tell: Callable[[str], object]) -> list[Outcome]:
    """Try them all on a farm of three nodes, made for it."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        hosts = stack.enter_context(reserve_addresses(5))
        nodes = Nodes(Path(directory), lambda: "")
        farm = LiveFarm(nodes, hosts[:3], Path(directory), sip={"farm_name": FARM_NAME})
        stack.callback(farm.stop_all)
        farm.start()
        bench = Bench(farm, hosts[3:])
        outcomes = []
        for case in cases:
            begun = time.monotonic()
            outcomes.append(bench.run(case))
            tell(f"{case}: {outcomes[-1].call}; {outcomes[-1].afterwards} ({time.monotonic() - begun:.1f} s)")
        farm.check()
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 1 when something failed that should not."""
    parser = argparse.ArgumentParser(prog="kill_table", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help='only cases with this text in them, as in "caller\'s" or ringing')
    options = parser.parse_args(arguments)
    cases = [case for case in all_cases() if all(word in case for word in options.only.split("+") if word)]
    with redirect_stdout(sys.stderr):
        outcomes = run_cases(cases, lambda line: print(line, flush=True))
    print(write_table(outcomes))
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
