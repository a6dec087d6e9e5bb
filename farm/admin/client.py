"""The console's end of the control socket: one order, one answer, no Twisted.

`NotRunning` tells that nobody listens, which the commands about users take as leave to open the store themselves.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from typing import Final

from farm.admin.control import Answer, Fields, OrderError

TIMEOUT_SECONDS: Final = 60.0


class NotRunning(Exception):
    """No node listens on the socket; `str()` of it says where."""


class SocketClient:
    """Gives orders to the node whose control socket is at `path`. `connect` opens it within some seconds, raising
    OSError."""

    def __init__(self, path: str, connect: Callable[[str, float], socket.socket] | None = None) -> None:
        self.path = path
        self._connect = connect or connect_unix

    def run(self, order: str, fields: Fields, seconds: float = TIMEOUT_SECONDS) -> Answer:
        """The node's answer, for which each wait is at most so many seconds. Raises NotRunning, or OrderError with the
        node's own words."""
        connection = http.client.HTTPConnection("localhost")
        try:
            connection.sock = self._connect(self.path, seconds)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"no node is running at {self.path}") from None
        except OSError as error:
            raise OrderError(f"{self.path}: {error.strerror or error}") from None
        try:
            connection.request("POST", f"/{order}", json.dumps(fields), {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OrderError(f"the node did not answer: {error or type(error).__name__}") from None
        finally:
            connection.close()
        if response.status != 200 or not isinstance(answer, dict):
            problem = answer.get("error") if isinstance(answer, dict) else None
            raise OrderError(str(problem or f"the node answered {response.status}"))
        return answer


def connect_unix(path: str, seconds: float) -> socket.socket:
    """A connection to the UNIX socket at `path`, nothing of which waits for longer than that."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(seconds)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection
