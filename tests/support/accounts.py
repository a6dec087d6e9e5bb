"""An account of calls that writes down what the proxy tells it."""

from __future__ import annotations

from collections.abc import Sequence

from farm.proxy.branch import Way
from farm.proxy.dialog import RouteToken
from farm.sip.hop import Hop
from farm.sip.message import Request, Response


class RecordedCalls:
    """`proxy.context.Calls`: `told` is what was said, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, request: Request, setup_at: float, user: str = "") -> RecordedCall:
        """A call begins."""
        self.told.append(f"begin {request.uri_text} at {setup_at:g}{f' of {user}' if user else ''}")
        return RecordedCall(self.told)

    def refuse(self, request: Request, status: int, phrase: str, known: bool, setup_at: float, now: float) -> None:
        """One was answered at once."""
        self.told.append(f"refuse {status} {phrase}, of {'one known' if known else 'a stranger'}")

    def adopt(self, request: Request, response: Response, way: Way | None, user: str, at: float, now: float) -> None:
        """One says it is in a dialog."""
        self.told.append(f"adopt {request.uri_text} {_describe(way)}")

    def end(
        self, request: Request, status: int, dialogs: Sequence[RouteToken], at: float, *, hop: Hop | None, made: bool
    ) -> None:
        """A request inside a dialog was answered."""
        proven = "proven" if dialogs else "unproven"
        went = "nowhere" if hop is None else f"to {hop.host}"
        self.told.append(f"end by {request.method} {status}{' of ours' if made else ''}, {proven}, {went}, at {at:g}")


class RecordedCall:
    """`proxy.context.Call`."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def ring(self, now: float) -> None:
        """It rings."""
        self._told.append("ring")

    def cancel(self) -> None:
        """It is cancelled."""
        self._told.append("cancel")

    def answer(self, response: Response, way: Way | None, codes: Sequence[int], now: float) -> None:
        """It is answered."""
        self._told.append(f"answer {response.status} {response.to_tag} {_describe(way)} {list(codes)}")

    def fail(
        self, status: int, phrase: str, way: Way | None, codes: Sequence[int], *, by_callee: bool, now: float
    ) -> None:
        """It failed."""
        by = "callee" if by_callee else "farm"
        self._told.append(f"fail {status} {phrase} by {by} {_describe(way)} {list(codes)}")


def _describe(way: Way | None) -> str:
    return "nowhere" if way is None else f"{way.uri_text} at {way.hop} of {way.node}"
