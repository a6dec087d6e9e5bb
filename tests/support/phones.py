"""A real phone without a head: baresip with files and bridges for sound, driven through its `ctrl_tcp` module.

Commands and events are JSON in netstrings (`12:{"event":1},`). Written for baresip 1.0.0 (Debian 12), where `ausine`
drops G.711 calls, so silence comes from a WAV file made here and what is heard goes to an audio bridge.
"""

from __future__ import annotations

import json
import shutil
import socket
import time
import wave
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tests.support.processes import Program, ProgramFailed, wait_until

_CONTROL_PORT: Final = 4444
_CONFIG: Final = """\
poll_method epoll
sip_listen {host}:5060
call_local_timeout 30
call_max_calls 4
audio_path {directory}
audio_source aufile,{directory}/silence.wav
audio_player aubridge,heard
audio_alert aubridge,alert
audio_srate 8000-48000
audio_channels 1-2
rtp_ports 20000-20100
net_interface {host}
module_path {modules}
module g711.so
module aufile.so
module aubridge.so
module_tmp account.so
module_tmp uuid.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
"""
_MODULES: Final = ("/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules")


class Phone:
    """One baresip at `host` with one account, registered through the node at `proxy`, and with outbound through the one
    at `second` as well; use it in a `with` block."""

    def __init__(
        self,
        user: str,
        password: str,
        host: str,
        proxy: str,
        directory: Path,
        *,
        transport: str = "udp",
        second: str = "",
        trust: str = "",
    ) -> None:
        self.user = user
        self.host = host
        # The account is made by command once events can be heard: baresip tells nobody of those before.
        self._account = (
            f'<sip:{user}@example.com;transport={transport}>;outbound="sip:{proxy};transport={transport}"'
            f";auth_user={user};auth_pass={password};regint=600;answermode=manual;audio_codecs=PCMA"
        )
        if second:
            self._account += f';sipnat=outbound;outbound2="sip:{second};transport={transport}"'
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        directory.mkdir(parents=True, exist_ok=True)
        modules = next((path for path in _MODULES if Path(path).is_dir()), _MODULES[0])
        text = _CONFIG.format(host=host, directory=directory, modules=modules, control=_CONTROL_PORT)
        if trust:
            text += f"sip_cafile {trust}\n"
        (directory / "config").write_text(text)
        (directory / "contacts").write_text("")
        (directory / "accounts").write_text("")
        with wave.open(str(directory / "silence.wav"), "wb") as silence:
            silence.setnchannels(1)
            silence.setsampwidth(2)
            silence.setframerate(8000)
            silence.writeframes(bytes(16_000 * 30))
        command = [shutil.which("baresip") or "baresip", "-f", str(directory), "-v"]
        self.program = Program(command, directory / f"{user}.log", directory=directory)
        try:
            self._socket = self._connect()
        except BaseException:
            self.program.kill()
            raise

    def _connect(self) -> socket.socket:
        def attempt() -> socket.socket | None:
            if not self.program.running():
                raise ProgramFailed(f"baresip ended with {self.program.exit_code}\n{self.program.tail()}")
            try:
                return socket.create_connection((self.host, _CONTROL_PORT), timeout=1)
            except OSError:
                return None

        connection = wait_until(attempt, 15, "baresip's control port is open")
        assert connection is not None
        return connection

    def try_to_register(self) -> None:
        """Make the account, which registers at once."""
        self.command("uanew", self._account)

    def register(self, timeout: float = 15.0) -> None:
        """Register and wait for the registrar's 200."""
        self.try_to_register()
        self.expect("REGISTER_OK", timeout)

    def __enter__(self) -> Phone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self.program.stop()
        print(self.program.tail())

    def command(self, name: str, parameters: str = "") -> None:
        """Give a long command of baresip's menu: dial, accept, hangup."""
        text = json.dumps({"command": name, "params": parameters, "token": name})
        self._socket.sendall(f"{len(text)}:{text},".encode())

    def expect(self, event: str, timeout: float = 15.0) -> dict[str, Any]:
        """The next event of that type, others before it passed over; fails with all events so far."""
        deadline = time.monotonic() + timeout
        while True:
            for index, held in enumerate(self.events):
                if held.get("type") == event:
                    del self.events[: index + 1]
                    return held
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                kinds = [f"{held.get('type')} {held.get('param', '')}" for held in self.events]
                raise AssertionError(f"{self.user} waited for {event}, got {kinds}\n{self.program.tail()}")

    def _read(self, timeout: float) -> bool:
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            return True
        self._buffer += data
        while True:
            length, colon, rest = self._buffer.partition(b":")
            if not colon or len(rest) <= int(length):
                return bool(data)
            body, self._buffer = rest[: int(length)], rest[int(length) + 1 :]
            message = json.loads(body)
            if message.get("event"):
                self.events.append(message)
