"""All torture messages of RFC 4475 and RFC 5118 at a running node: what it answers, and that it still answers.

Twice over UDP and TCP: an open node with a phone registered for every user that the messages call, so that what is to
be forwarded is seen arriving; and a node with users and passwords, which lets none of it through. Over TCP every
message arrives a byte at a time. Verdicts: `tests/sip/verdicts.py`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.sip.verdicts import VERDICTS, Verdict
from tests.support.agents import Agent, Received
from tests.support.nodes import NodeProgram, Nodes

Hosts = Callable[[int], list[str]]

# Headers that a proxy changes, or that carry what it checked.
_CHANGED = frozenset(("via", "max-forwards", "record-route", "route", "content-length", "max-breadth", "contact"))
_FOLD = re.compile(rb"\r\n[ \t]+")
_SENT_BY_PORT = re.compile(rb"^v(?:ia)?[ \t]*:[^;,\r\n]*?[ \t][^;,\r\n]*?:[ \t]*(\d{2,5})[ \t]*[;,\r]", re.I | re.M)
_CALL_ID = re.compile(rb"^(?:Call-ID|i)[ \t]*:[ \t]*([^\r\n]*)", re.I | re.M)
_TARGET = re.compile(rb"^\S+ sips?:(?:(\S*)@)?(\[[^\]\s]*\]|[\w.-]+)")
# Its Route leads to 127.0.0.1:5080, where nobody is: no final answer tells of that (RFC 4320 §4.2), unless the system
# is quick to say that the port is closed, which is a 500.
_UNANSWERED = "rfc4475/mpart01"
_ROUTE = re.compile(rb"^Route[ \t]*:", re.I | re.M)


def sent_by_port(data: bytes) -> int:
    """The port that the top Via names, to which answers over UDP go (RFC 3261 §18.2.2)."""
    found = _SENT_BY_PORT.search(_FOLD.sub(b" ", data))
    return int(found.group(1)) if found else 5060


def call_id_of(data: bytes) -> str:
    """The Call-ID as written, "" when there is none."""
    found = _CALL_ID.search(data)
    return found.group(1).decode("utf-8", "surrogateescape").strip() if found else ""


def is_request(verdict: Verdict) -> bool:
    """Whether the message is one."""
    return not verdict.data.startswith(b"SIP/")


def host_of(data: bytes) -> str:
    """The host of the Request-URI, "" when it has none that a message could be sent to."""
    found = _TARGET.match(data)
    return found.group(2).decode() if found else ""


def is_name(host: str) -> bool:
    """Whether a host is a name, which a node can be told to serve, and no address of somebody else."""
    return re.fullmatch(r"(?:[\w-]+\.)+[a-z]+", host) is not None


def served_domains() -> list[str]:
    """Every name that a message's Request-URI names: this node serves them all."""
    return sorted({host for verdict in VERDICTS if is_name(host := host_of(verdict.data))})


def rounds() -> list[list[Verdict]]:
    """The messages, apart where two share branch, sent-by and method: a node takes the second for a retransmission of
    the first (§17.2.3), and so it is."""
    found: list[dict[tuple[str, str], Verdict]] = []
    for verdict in VERDICTS:
        message = Received(verdict.data, ("", 0), None)
        key = (message.first("via"), message.cseq_method)
        for group in found:
            if key not in group:
                group[key] = verdict
                break
        else:
            found.append({key: verdict})
    return [list(group.values()) for group in found]


def probe(node: NodeProgram, host: str, name: str) -> None:
    """The node answers an OPTIONS."""
    with Agent(node.sip, host=host, user="probe") as agent:
        agent.send_request(agent.make_request("OPTIONS", f"sip:{node.sip[0]}"))
        assert agent.expect_final(5).status == 200, f"after {name}"


class Callee:
    """A phone registered for the user that a message calls; it takes what arrives and answers it."""

    STATUS = 603

    def __init__(self, node: NodeProgram, host: str) -> None:
        self.agent = Agent(node.sip, host=host, user="callee")

    def register(self, data: bytes) -> bool:
        """Register for the user of the Request-URI; False when there is none, or a Route that leads elsewhere."""
        target = _TARGET.match(data)
        if target is None or target.group(1) is None or not is_name(host_of(data)) or _ROUTE.search(data):
            return False
        user, host = target.group(1).decode(), target.group(2).decode()
        self.agent.user, self.agent.domain = user, host
        text = self.agent.make_request(
            "REGISTER",
            f"sip:{host}",
            to=f"<sip:{user}@{host}>",
            sender=f"<sip:{user}@{host}>;tag=1",
            headers=[f"Contact: <sip:{self.agent.host}:{self.agent.port}>"],
        )
        self.agent.send_request(text)
        return self.agent.expect_final(method="REGISTER").status == 200

    def take(self, data: bytes) -> None:
        """The message arrives with all that was in it, and is answered."""
        method = data.split(b" ", 1)[0].decode()
        arrived = self.agent.expect(method)
        sent = Received(data, ("", 0), None)
        held = {(name, " ".join(value.split())) for name, value in arrived.headers}
        for name, value in sent.headers:
            if name not in _CHANGED and not re.match(r"proxy-|authorization", name):
                assert (name, " ".join(value.split())) in held, f"{name} was changed\n{arrived.text}"
        length = sent.first("content-length")
        body = sent.body[: int(length)] if length.isdigit() else sent.body
        assert arrived.body == body
        self.agent.answer(arrived, self.STATUS, "Decline")
        if method == "INVITE":
            self.agent.expect("ACK")


def wanted(verdict: Verdict, *, open_node: bool, called: bool) -> tuple[int, ...]:
    """The final answers that are right for a message at this node."""
    if verdict.element in ("refused", "challenged") and not (open_node and verdict.element == "challenged"):
        # Whoever may not register is told so before his Contact is read.
        registers = verdict.data.startswith(b"REGISTER") and verdict.parser == "valid"
        return (*verdict.answers, 401, 403) if registers and not open_node else verdict.answers
    served = is_name(host_of(verdict.data))
    if verdict.element in ("registered", "challenged") and served:
        return (200,) if open_node else (401, 403, 404)
    if called:
        return (Callee.STATUS,)
    if not open_node:
        return (403, 404, 407, 480)
    # Nobody is registered where the Request-URI has no user; other hosts, by Route or address, are out of reach.
    return (404, 480, 484) if served and not _ROUTE.search(verdict.data) else (404, 408, 480, 500, 502, 503, 504)


@pytest.fixture
def hosts_of_two(hosts: Hosts) -> tuple[str, str]:
    """Where the torturer and the callee are."""
    sender, callee = hosts(2)
    return sender, callee


def start(nodes: Nodes, *, open_node: bool) -> NodeProgram:
    """A node that serves every domain of the vectors, and knows nobody's DNS."""
    return nodes.start(
        users=None if open_node else {"user": "secret"},
        sip={"domains": served_domains()},
        resolver={"servers": ["127.0.0.1:9"], "timeout_seconds": 0.5},
    )


@pytest.mark.parametrize("open_node", [True, False], ids=["open", "closed"])
def test_over_udp_each_message_gets_its_verdict(nodes: Nodes, hosts_of_two: tuple[str, str], open_node: bool) -> None:
    host, callee_host = hosts_of_two
    failures = []
    for group in rounds():
        node = start(nodes, open_node=open_node)
        with ExitStack() as stack:
            callee = Callee(node, callee_host)
            stack.enter_context(callee.agent)
            # Answers come to the port that Via names; the message leaves from there, too.
            agents: dict[int, Agent] = {}
            for verdict in group:
                port = sent_by_port(verdict.data)
                if port not in agents:
                    agents[port] = stack.enter_context(Agent(node.sip, host=host, port=port))
                try:
                    torture_by_datagram(verdict, node, agents[port], callee, open_node)
                    probe(node, host, verdict.name)
                except AssertionError as failure:
                    failures.append(f"{verdict.name}: {failure}")
        node.kill()
    assert not failures, "\n".join(failures)


def torture_by_datagram(verdict: Verdict, node: NodeProgram, agent: Agent, callee: Callee, open_node: bool) -> None:
    """Send one message and check its answer."""
    data = verdict.data
    called = open_node and verdict.element == "forwarded" and is_request(verdict) and callee.register(data)
    agent.send_bytes(data)
    if called:
        callee.take(data)
    if verdict.element == "silent" or (open_node and verdict.name == _UNANSWERED):
        # Requests are worked off in order: an answer would come before that to the OPTIONS.
        agent.send_request(agent.make_request("OPTIONS", f"sip:{node.sip[0]}", call_id=f"after-{verdict.name}"))
        came = [one for one in answers_until(agent, f"after-{verdict.name}") if one.status != 100]
        if verdict.name == _UNANSWERED:
            came = [one for one in came if one.status != 500]
        assert not came, f"not silent: {came}"
        return
    answer = final_of(agent, call_id_of(data))
    right = wanted(verdict, open_node=open_node, called=called)
    assert answer.status in right, f"{answer.first_line}, wanted {right}"


def final_of(agent: Agent, call_id: str) -> Received:
    """The final answer of that Call-ID; repeated ones of earlier messages are passed over."""
    deadline = time.monotonic() + 10
    came: list[Received] = []
    while (left := deadline - time.monotonic()) > 0:
        message = agent.receive(left)
        if message is None:
            break
        if message.status >= 200 and message.first("call-id").strip() == call_id:
            return message
        came.append(message)
    raise AssertionError(f"no final answer to {call_id}, but {came}")


def answers_until(agent: Agent, call_id: str) -> list[Received]:
    """What came, that was not there before, until the answer of that Call-ID."""
    before = {message.text for message in agent.seen}
    while True:
        message = agent.receive(10)
        assert message is not None, "no answer to OPTIONS"
        if message.first("call-id") == call_id:
            return [one for one in agent.seen[:-1] if one.text not in before]


@pytest.mark.parametrize("open_node", [True, False], ids=["open", "closed"])
def test_over_tcp_byte_by_byte_each_message_gets_its_verdict(
    nodes: Nodes, hosts_of_two: tuple[str, str], open_node: bool
) -> None:
    node = start(nodes, open_node=open_node)
    host, callee_host = hosts_of_two
    failures = []
    with ExitStack() as stack:
        callee = Callee(node, callee_host)
        stack.enter_context(callee.agent)
        for verdict in VERDICTS:
            try:
                # Port 5060 is where the node connects to answer when the stream is gone (§18.2.2).
                with Agent(node.sip, host=host, port=5060, transport="tcp") as agent:
                    torture_by_stream(verdict, node, agent, callee, open_node)
                probe(node, host, verdict.name)
            except AssertionError as failure:
                failures.append(f"{verdict.name}: {failure}")
    assert not failures, "\n".join(failures)


def torture_by_stream(verdict: Verdict, node: NodeProgram, agent: Agent, callee: Callee, open_node: bool) -> None:
    """Send one message a byte at a time on a new connection, check its answer and how the stream goes on."""
    data = verdict.data
    framed = verdict.messages > 0
    called = framed and open_node and verdict.element == "forwarded" and is_request(verdict) and callee.register(data)
    for index in range(len(data)):
        try:
            agent.send_bytes(data[index : index + 1])
        except OSError:  # closed by the node before the end, which the ending below asks for
            assert verdict.ending == "closes", f"closed after {index} of {len(data)} bytes"
            break
        agent.poll()
        if not agent.connected:  # the next byte would go out on a new connection
            assert verdict.ending == "closes", f"closed after {index + 1} of {len(data)} bytes"
            break
    if called:
        callee.take(data)
    if framed and verdict.element != "silent" and not (open_node and verdict.name == _UNANSWERED):
        answer = final_of(agent, call_id_of(data))
        right = wanted(verdict, open_node=open_node, called=called)
        assert answer.status in right, f"{answer.first_line}, wanted {right}"
    if verdict.ending == "closes":
        deadline = time.monotonic() + 10
        while agent.connected and time.monotonic() < deadline:
            agent.receive(0.1)
        assert not agent.connected, "the stream was not closed"
    elif verdict.ending == "clean":
        name = f"after-{verdict.name}"
        agent.send_request(agent.make_request("OPTIONS", f"sip:{node.sip[0]}", call_id=name))
        came = answers_until(agent, name)
        if verdict.element == "silent":
            assert not came, f"not silent: {came}"
    else:
        # Nothing is whole yet, so nothing is answered: other connections are served meanwhile, this one is open.
        probe(node, agent.host, verdict.name)
        message = agent.receive(0.05)
        assert message is None or framed, f"answered before it was whole: {message}"
        assert agent.connected, "closed although more may come"
