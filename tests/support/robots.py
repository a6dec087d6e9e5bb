"""User agents that act by themselves, with the retransmissions of RFC 3261 §17 and §13, for networks that lose packets.

A `RobotCaller` makes one call, may give up early, and says what became of it; a `RobotCallee` lets any number of calls
ring and answers each as it was told. They are written from the RFC with timers of their own, so that the machines of
`farm/transaction` are met by others. Each stands on a UDP `Party`, whose socket and words they use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.support.parties import Dialog, Message, Party, Reply

T1 = 0.5
T2 = 4.0
LIFE = 64 * T1
FOREVER = 1e6


class Repeater:
    """Sends something again and again, at intervals that double up to `most`, until it is stopped or 64*T1 are over."""

    def __init__(self, party: Party, send: Callable[[], object], give_up: Callable[[], object], most: float) -> None:
        self._host = party.host
        self._send = send
        self._give_up = give_up
        self._most = most
        self._until = party.network.clock.seconds() + LIFE
        self._call: Any = None
        self._interval = T1
        self._go()

    def _go(self) -> None:
        left = self._until - self._host.seconds()
        if left <= 0:
            self._give_up()
            return
        self._send()
        self._call = self._host.callLater(min(self._interval, left), self._go)
        self._interval = min(2 * self._interval, self._most)

    def stop(self) -> None:
        """Enough."""
        if self._call is not None and self._call.active():
            self._call.cancel()


class RobotCaller:
    """Calls `uri`, with credentials when challenged; talks, hangs up. `outcome` is empty until it is over.

    With `patience` it cancels a call that is not answered so many seconds after it was made.
    """

    def __init__(self, party: Party, uri: str, *, talk: float = 5.0, patience: float = FOREVER) -> None:
        self.party = party
        self.uri = uri
        self.talk = talk
        self.patience = patience
        self.outcome = ""
        self.statuses: list[int] = []  # of final answers to the INVITEs, in order, repetitions left out
        self._dialogs: dict[str, Dialog] = {}  # by the callee's tag
        self._acks: dict[int, bytes] = {}  # of refusals, by CSeq
        self._sent: Message | None = None
        self._inviting: Repeater | None = None
        self._cancelling: Repeater | None = None
        self._rang = False
        self._impatient = False
        self._byes: dict[str, Repeater] = {}  # by the callee's tag
        party.receive = self.receive  # type: ignore[method-assign]

    def start(self) -> None:
        """Make the call."""
        self._send_invite(self.party.make_request("INVITE", self.uri))
        if self.patience < FOREVER:
            self.party.host.callLater(self.patience, self._lose_patience)

    def _send_invite(self, text: str) -> None:
        sent = self._sent = Message(text.encode())
        self._rang = False
        self._inviting = Repeater(self.party, lambda: self.party.send(sent.data), self._give_up, FOREVER)

    def _give_up(self) -> None:
        self.outcome = self.outcome or "unanswered"

    def _lose_patience(self) -> None:
        if not self.outcome and not self._dialogs:
            self._impatient = True
            if self._rang:
                self._cancel()

    def _cancel(self) -> None:
        """§9.1: once there was a provisional answer."""
        if self._cancelling is None and self._sent is not None:
            sent = self._sent
            self._cancelling = Repeater(self.party, lambda: self.party.cancel(sent), lambda: None, T2)

    def receive(self, data: bytes, source: tuple[str, int], reply: Reply) -> None:
        """In the place of the party's own ears."""
        message = Message(data, source, reply)
        if message.method:
            self.party.answer(message, 200)
        elif message.cseq_method == "BYE":
            if message.status >= 200 and message.tag in self._byes:
                self._byes[message.tag].stop()
                self.outcome = self.outcome or ("ended" if message.status == 200 else f"bye {message.status}")
        elif message.cseq_method == "CANCEL":
            if message.status >= 200 and self._cancelling is not None:
                self._cancelling.stop()
        elif self._sent is not None and message.cseq_method == "INVITE":
            self._receive_answer(message, self._sent)

    def _receive_answer(self, answer: Message, sent: Message) -> None:
        if answer.cseq == sent.cseq and self._inviting is not None:
            self._inviting.stop()
        if answer.status < 200:
            self._rang = self._rang or answer.cseq == sent.cseq
            if self._impatient and self._rang and not self._dialogs:
                self._cancel()
        elif answer.status < 300:
            self._receive_success(answer)
        elif answer.cseq in self._acks:
            self.party.send(self._acks[answer.cseq])
        elif answer.cseq == sent.cseq:
            self._receive_refusal(answer, sent)

    def _receive_success(self, answer: Message) -> None:
        dialog = self._dialogs.get(answer.tag)
        if dialog is None:
            self.statuses.append(answer.status)
            dialog = self._dialogs[answer.tag] = Dialog.of_caller(self.party, answer)
            # Who is called by two at once, or answered after giving up, hangs up what is too much.
            talk = 0.1 if self._impatient or len(self._dialogs) > 1 else self.talk
            self.party.host.callLater(talk, self._hang_up, dialog, answer.tag)
        dialog.send("ACK", cseq=answer.cseq)

    def _receive_refusal(self, answer: Message, sent: Message) -> None:
        self.statuses.append(answer.status)
        ack = self.party.make_request(
            "ACK",
            sent.uri,
            via=sent.first("via"),
            to=answer.first("to"),
            call_id=sent.first("call-id"),
            cseq=sent.cseq,
        )
        self._acks[answer.cseq] = ack.encode()
        self.party.send(ack)
        if answer.status == 407 and len(self.statuses) == 1 and self.party.password:
            line = self.party.make_credentials(sent, answer)
            call_id = sent.first("call-id")
            self._send_invite(
                self.party.make_request("INVITE", self.uri, call_id=call_id, cseq=sent.cseq + 1, headers=[line])
            )
        else:
            self.outcome = self.outcome or f"refused {answer.status}"

    def _hang_up(self, dialog: Dialog, tag: str) -> None:
        bye = dialog.send("BYE")
        self._byes[tag] = Repeater(self.party, lambda: self.party.send(bye.data), self._lose_bye, T2)

    def _lose_bye(self) -> None:
        self.outcome = self.outcome or "bye unanswered"


class Manner(NamedTuple):
    """How a callee takes a call: how long it rings, and what it says then. Without `ringing` it says nothing before."""

    ring: float = 1.0
    status: int = 200
    ringing: bool = True


class RobotCallee:
    """Takes calls, each in the manner that `choose` gives."""

    def __init__(self, party: Party, choose: Callable[[], Manner] = Manner) -> None:
        self.party = party
        self.calls: dict[str, str] = {}  # Call-ID: ringing, answered, up, refused, cancelled, over, lost
        self.rings: Counter[str] = Counter()  # Call-ID to how many INVITEs it had, repetitions left out
        self._choose = choose
        self._latest: dict[str, bytes] = {}  # what was last said, by top Via and method
        self._repeaters: dict[str, Repeater] = {}
        self._pending: dict[str, tuple[Message, str]] = {}  # by the Via of the INVITE
        party.receive = self.receive  # type: ignore[method-assign]

    def receive(self, data: bytes, source: tuple[str, int], reply: Reply) -> None:
        """In the place of the party's own ears."""
        message = Message(data, source, reply)
        if not message.method:
            return
        call_id = message.first("call-id")
        via = message.first("via")
        key = f"{via} {message.method}"
        if message.method == "ACK":
            self._stop(call_id)
            if self.calls.get(call_id) == "answered":
                self.calls[call_id] = "up"
            elif self.calls.get(call_id) == "refusing":
                self.calls[call_id] = "refused"
        elif key in self._latest:
            if self._latest[key]:
                reply(self._latest[key])
        elif message.method == "INVITE":
            self._ring(message, key, call_id)
        elif message.method == "CANCEL":
            self._receive_cancel(message, key, via, call_id)
        else:
            self._latest[key] = self.party.answer(message, 200).data
            if message.method == "BYE":
                self._stop(call_id)
                self.calls[call_id] = "over"

    def _ring(self, invite: Message, key: str, call_id: str) -> None:
        manner = self._choose()
        self.calls[call_id] = "ringing"
        self.rings[call_id] += 1
        self._pending[invite.first("via")] = (invite, key)
        self._latest[key] = self.party.answer(invite, 180).data if manner.ringing else b""
        if manner.ring < FOREVER:
            self.party.host.callLater(manner.ring, self._answer, invite, key, call_id, manner.status)

    def _answer(self, invite: Message, key: str, call_id: str, status: int) -> None:
        if self.calls[call_id] != "ringing":
            return
        self._pending.pop(invite.first("via"), None)
        self.calls[call_id] = "answered" if status < 300 else "refusing"
        data = self._latest[key] = self.party.make_answer(invite, status).encode()
        assert invite.reply is not None
        reply = invite.reply
        self._repeaters[call_id] = Repeater(self.party, lambda: reply(data), lambda: self._lose(call_id), T2)

    def _receive_cancel(self, cancel: Message, key: str, via: str, call_id: str) -> None:
        self._latest[key] = self.party.answer(cancel, 200).data
        if via in self._pending and self.calls[call_id] == "ringing":
            invite, invite_key = self._pending[via]
            self._answer(invite, invite_key, call_id, 487)

    def _lose(self, call_id: str) -> None:
        if self.calls[call_id] in ("answered", "refusing"):
            self.calls[call_id] = "lost"

    def _stop(self, call_id: str) -> None:
        repeater = self._repeaters.pop(call_id, None)
        if repeater is not None:
            repeater.stop()
