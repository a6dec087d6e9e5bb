"""The register of an authority: the nodes that it enrolled, one line of JSON each.

A Node-ID that was given out once is never given out again, and a denied node stays in the register for that reason.
What has expired or is denied leaves its place on the ring to the next node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from farm.security.ring import first_id, widest_gap_id

_LEAST_DIGITS: Final = 4  # of a Node-ID, so that "a" is not taken for one


class EnrolledNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One node. `node_id` has 64 hex digits; times are in seconds since 1970."""

    name: str
    node_id: str
    zone: str
    roles: list[str]
    issued_at: int
    not_after: int
    denied: bool = False
    trust: str = ""  # digest of its signer and the authorities that it was given


class RegisterError(ValueError):
    """What is wrong; `str()` of it is the line for whoever gave the order."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EnrolledNode).decode


class Register:
    """The nodes in the order of their enrollment."""

    def __init__(self, nodes: Iterable[EnrolledNode] = ()) -> None:
        self._nodes = {node.node_id: node for node in nodes}

    @classmethod
    def parse(cls, text: bytes) -> Register:
        """A register as it is kept. Raises RegisterError with the number of a bad line."""
        nodes: list[EnrolledNode] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                node = _decode(line)
                if len(bytes.fromhex(node.node_id)) != 32 or node.node_id != node.node_id.lower():
                    raise ValueError("the Node-ID has not 64 lower-case hex digits")
            except (msgspec.MsgspecError, ValueError) as error:
                raise RegisterError(f"line {number}: {error}") from None
            nodes.append(node)
        return cls(nodes)

    def pack(self) -> bytes:
        """The register as it is kept."""
        return b"".join(_encode(node) + b"\n" for node in self._nodes.values())

    def __iter__(self) -> Iterator[EnrolledNode]:
        return iter(self._nodes.values())

    def __len__(self) -> int:
        return len(self._nodes)

    def put(self, node: EnrolledNode) -> None:
        """Add a node, or change what is said of it."""
        self._nodes[node.node_id] = node

    def named(self, name: str) -> EnrolledNode | None:
        """The node of that name that is not denied."""
        return next((node for node in self if node.name == name and not node.denied), None)

    def find(self, text: str) -> EnrolledNode:
        """The node that a name or the first digits of a Node-ID mean. Raises RegisterError for none or several."""
        found = self.named(text)
        if found is not None:
            return found
        nodes = [node for node in self if node.name == text]
        if not nodes and len(text) >= _LEAST_DIGITS:
            nodes = [node for node in self if node.node_id.startswith(text.lower())]
        if not nodes:
            raise RegisterError(f"no node is called {text!r}, and no Node-ID begins so")
        if len({node.node_id for node in nodes}) > 1:
            raise RegisterError(f"{text!r} means {len(nodes)} nodes: give more of the Node-ID")
        return nodes[0]

    def next_id(self, overlay: str, wall: float) -> bytes:
        """The Node-ID for one more node: the middle of the widest gap between those that are in use."""
        used = [bytes.fromhex(node.node_id) for node in self if not node.denied and node.not_after >= wall]
        chosen = widest_gap_id(used) if used else first_id(overlay)
        while chosen.hex() in self._nodes:  # it was somebody's who is gone
            used.append(chosen)
            chosen = widest_gap_id(used)
        return chosen
