"""Phones on connections that answer every call by themselves, and come back to the next node when their connection
ends; and one who calls them one after the other, as a caller does that knows all nodes. A thread each.

Written for what happens to many while nodes come and go: the test looks at what they have counted.
"""

from __future__ import annotations

import select
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from tests.support.agents import Received
from tests.support.live_phones import REFUSED, LiveDialog, LivePhone

_STEP_SECONDS = 0.01
_AGAIN_SECONDS = 0.5
_PAUSE_SECONDS = 0.05
_SILENT_SECONDS = 0.5
_GIVES_UP_SECONDS = 5.0


class Worker:
    """Something that goes on in a thread while the block runs; what went wrong in it is in `failures`."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.counts: Counter[str] = Counter()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> object:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.step()
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            raise

    def step(self) -> None:
        """Do what is to be done now, and wait for a moment."""
        raise NotImplementedError


class AnsweringPhones(Worker):
    """Phones that know all nodes, and are registered before the block begins."""

    def __init__(self, phones: Sequence[LivePhone], nodes: Sequence[str]) -> None:
        super().__init__()
        self.phones = list(phones)
        self._nodes = list(nodes)
        self._cseq = 1
        self._said: dict[tuple[LivePhone, str], tuple[float, bytes]] = {}  # 200s that no ACK has come for, by Call-ID

    def __enter__(self) -> AnsweringPhones:
        super().__enter__()
        return self

    def step(self) -> None:
        """Answer what has come, and come back where that is needed."""
        open_ones = [phone for phone in self.phones if phone.connected]
        select.select([phone.connect() for phone in open_ones], [], [], _STEP_SECONDS)
        for phone in open_ones:
            while (message := phone.receive(0.0)) is not None:
                self._answer(phone, message)
        for phone in self.phones:
            if not phone.connected:
                self._come_back(phone)
        self._repeat(time.monotonic())

    def _answer(self, phone: LivePhone, message: Received) -> None:
        call = phone, message.first("call-id")
        if message.method in ("ACK", "BYE"):
            self._said.pop(call, None)
        if not message.method or message.method == "ACK":
            return
        self.counts[message.method] += 1
        data = phone.make_answer(message, 200).encode()
        if message.method == "INVITE":
            self._said[call] = time.monotonic() + _AGAIN_SECONDS, data
        try:
            if message.method == "INVITE" and ";tag=" not in message.first("to"):
                phone.answer(message, 180)
            phone.send_bytes(data)
        except OSError:
            self.counts["answers lost"] += 1

    def _repeat(self, now: float) -> None:
        """Say again what nobody has acknowledged (RFC 3261 §13.3.1.4), on the connection that there is by now."""
        for call, (due, data) in list(self._said.items()):
            if due <= now and call[0].connected:
                self.counts["said again"] += 1
                call[0].send_bytes(data)
                self._said[call] = now + _AGAIN_SECONDS, data

    def _come_back(self, phone: LivePhone) -> None:
        """At the next node that lets it register."""
        for _ in self._nodes:
            at = self._nodes.index(phone.target[0])
            phone.turn_to(self._nodes[(at + 1) % len(self._nodes)])
            before = len(phone.seen)
            try:
                self._cseq += 1
                phone.enter(cseq=self._cseq)
            except (OSError, AssertionError) as error:
                self.counts[f"not taken: {type(error).__name__}"] += 1
                continue
            self.counts["came back"] += 1
            for message in phone.seen[before:]:  # it may be called before it has heard that it is registered
                self._answer(phone, message)
            return


class SteadyCaller(Worker):
    """Calls users one after the other, each call through the next node; one that is silent, or does not know where the
    user is at present, is left for the next. What is not set up and ended within seconds has failed."""

    def __init__(self, caller: LivePhone, users: Sequence[str], nodes: Sequence[str]) -> None:
        super().__init__()
        self.slowest = 0.0
        self.seen: list[str] = []  # of the present call, with the time
        self._caller = caller
        self._users = list(users)
        self._nodes = list(nodes)

    def __enter__(self) -> SteadyCaller:
        super().__enter__()
        return self

    def step(self) -> None:
        """One call."""
        user = self._users[self.counts["calls"] % len(self._users)]
        self.counts["calls"] += 1
        self.seen.clear()
        begun = time.monotonic()
        answered = self._call(user, begun + _GIVES_UP_SECONDS)
        if answered is None:
            self.failures.append(f"{user} was not reached: {self.seen}")
            return
        dialog = LiveDialog.of_caller(self._caller, answered)
        dialog.acknowledge()
        if not self.ask(dialog, "BYE"):
            self.failures.append(f"a call of {user} could not be ended: {self.seen}")
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self._ended.wait(_STEP_SECONDS)

    def ask(self, dialog: LiveDialog, method: str) -> bool:
        """A request in a dialog, until one of the nodes has it answered with 200; an INVITE is acknowledged."""
        dialog.cseq += 1
        text = dialog.make(method, cseq=dialog.cseq)
        until = time.monotonic() + _GIVES_UP_SECONDS
        while time.monotonic() < until:
            final = self._ask(text, method)
            if final is not None and final.status == 200:
                if method == "INVITE":
                    dialog.acknowledge()
                return True
            self._go_on(final)
            dialog.cseq += final is not None
            text = dialog.make(method, cseq=dialog.cseq)
        return False

    def _call(self, user: str, until: float) -> Received | None:
        while time.monotonic() < until:
            text = self._caller.make_request("INVITE", f"sip:{user}@{self._caller.domain}")
            final = self._ask(text, "INVITE")
            if final is not None and final.status == 200:
                return final
            if final is not None:
                self._caller.acknowledge(text, final)
                if final.status not in REFUSED and final.status != 503:
                    return None
            self._go_on(final)
        return None

    def _ask(self, text: str, method: str) -> Received | None:
        """The final response to a request, None when nothing comes for a while."""
        call_id = text.partition("Call-ID: ")[2].partition("\r\n")[0]
        self._caller.send_request(text)
        self.seen.append(f"{time.monotonic():.2f} {method} {call_id} to {self._caller.target[0]}")
        until = time.monotonic() + _SILENT_SECONDS
        while (message := self._caller.receive(until - time.monotonic())) is not None:
            self.seen.append(f"{time.monotonic():.2f} {message!r}")
            if message.cseq_method == method and message.first("call-id") == call_id:
                if message.status >= 200:
                    return message
                until = time.monotonic() + _GIVES_UP_SECONDS
        return None

    def _go_on(self, final: Received | None) -> None:
        self.counts[f"again after {final.status if final is not None else 'silence'}"] += 1
        at = self._nodes.index(self._caller.target[0])
        self._caller.turn_to(self._nodes[(at + 1) % len(self._nodes)])
        if final is not None:
            self._ended.wait(_PAUSE_SECONDS)
