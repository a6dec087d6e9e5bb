"""The counts of other nodes' nonces: asked of the node that made the nonce, over the overlay's links.

Part of the composition root: `security.credentials.Keepers` for the nodes of a farm, and the answer to their questions.
A node that is dead, too old to know the question, or cannot be reached at once says nothing, and the nonce is stale: a
phone whose node died takes one round trip more, and is with the new node from then on.

Decided: no dialling. In a farm so large that not all nodes are linked, the new challenge costs the phone what the dial
would cost us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred

from farm.member import Member
from farm.overlay.wire import UNKNOWN, UNUSED, USED, Spend, Spent
from farm.security.nonces import Origin, Use

ASK_SECONDS: Final = 1.0
FIRST_VERSION: Final = 2  # of nodes that know the question

_USES: Final = {UNUSED: Use.FIRST, USED: Use.REPLAYED, UNKNOWN: Use.FORGOTTEN}
_OUTCOMES: Final = {use: outcome for outcome, use in _USES.items()}


class Nodes(Protocol):
    """The nodes that are there."""

    def find_node(self, tag: int) -> int | None:
        """The number of the node with that tag, None when it is not known."""


class Spending:
    """The counts of nonces among the nodes of a farm. `use_nonce` marks one of our own."""

    def __init__(self, member: Member, nodes: Nodes) -> None:
        self._member = member
        self._nodes = nodes

    def serve(self, use_nonce: Callable[[Origin, int], Use]) -> None:
        """Answer what other nodes ask of our nonces."""
        self._member.node.serving.spender = lambda made_at, serial, count: _OUTCOMES[
            use_nonce(Origin(made_at, serial), count)
        ]

    def use(self, origin: Origin, count: int, now: float) -> Deferred[Use]:
        """Mark a count of another node's nonce as used there."""
        done: Deferred[Use] = Deferred()
        number = self._nodes.find_node(origin.node)
        contact = None if number is None else self._member.find_by_stamp(number)
        node = self._member.node
        if contact is None or contact.version < FIRST_VERSION or contact.node == node.own:
            done.callback(Use.FORGOTTEN)
            return done

        def receive(answer: Any, _now: float) -> None:
            done.callback(_USES.get(answer.outcome, Use.FORGOTTEN) if isinstance(answer, Spent) else Use.FORGOTTEN)

        node.calls.ask(contact.node, Spend(0, origin.made_at, origin.serial, count), ASK_SECONDS, receive, now)
        return done
