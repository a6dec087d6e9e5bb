"""Response codes and their phrases, and the one error of the SIP language (RFC 3261 §21).

`SipError` is raised by whatever finds that a message cannot be served: it carries the status that the
sender should hear, and a short slug that the rejection counter and the log name. It is turned into an answer
in two places only: where the transport receives a message, and in the proxy's front door.
"""

from __future__ import annotations

from typing import Final

PHRASES: Final[dict[int, str]] = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    410: "Gone",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    420: "Bad Extension",
    421: "Extension Required",
    423: "Interval Too Brief",
    430: "Flow Failed",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
}

_CLASS_PHRASES: Final = ("", "Progress", "OK", "Redirected", "Request Failed", "Server Failed", "Declined")


def phrase_of(status: int) -> str:
    """The registered phrase of a status code, or a plain one for its class."""
    return PHRASES.get(status) or _CLASS_PHRASES[status // 100]


class SipError(Exception):
    """A message that cannot be served, and what its sender should hear.

    `status` and `phrase` make the answer's first line, `headers` are (name, value) pairs added to it;
    `reason` is the slug under which it is counted and logged, never shown to the sender.
    """

    def __init__(
        self,
        status: int,
        phrase: str = "",
        *,
        reason: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(status, phrase)
        self.status = status
        self.phrase = phrase or phrase_of(status)
        self.reason = reason or self.phrase.lower().replace(" ", "-")
        self.headers = headers

    def __str__(self) -> str:
        return f"{self.status} {self.phrase} ({self.reason})"
