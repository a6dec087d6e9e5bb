"""A headless Chromium, driven by WebDriver (W3C) over plain HTTP; and one with the phones of `tests/live/browser`.

SIP.js comes from npm, at the version and with the checksum of `package-lock.json`, when it is not there yet. The
microphone is Chromium's own test tone; the certificate of a test is trusted by its key, and no other.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.processes import Program, ProgramFailed, wait_until
from tests.support.tools import give_up, need

PAGES: Final = Path(__file__).parent.parent / "live" / "browser"
# npm waits for more than a minute, by its own settings, before it says that there is no network
_NPM: Final = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retry-mintimeout=1000",
               "--fetch-retry-maxtimeout=5000", "--fetch-timeout=30000")  # fmt: skip
_LIBRARY: Final = PAGES / "node_modules" / "sip.js" / "package.json"


def install_library() -> None:
    """Fetch SIP.js as the lock file says, unless that is done."""
    wanted = json.loads((PAGES / "package.json").read_text())["dependencies"]["sip.js"]
    with (PAGES / "package.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # tests run side by side
        if _LIBRARY.exists() and json.loads(_LIBRARY.read_text())["version"] == wanted:
            return
        need("npm")
        problem = _run_npm()
    if problem:
        give_up(f"SIP.js cannot be had ({' '.join(_NPM)} in tests/live/browser): {problem}")


def _run_npm() -> str:
    """What is wrong, in npm's words; "" when it has done it."""
    try:
        done = subprocess.run(_NPM, cwd=PAGES, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return "npm has not ended within two minutes"
    return done.stderr[:1000] or f"npm answered {done.returncode}" if done.returncode else ""


def fingerprint_of(certificate: Path) -> str:
    """What Chromium calls the key of a certificate: the digest of its public part."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    packed = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(packed).digest()).decode()


class _Pages(http.server.SimpleHTTPRequestHandler):
    """The files of the page, without a word in the log."""

    def log_message(self, *args: object) -> None:
        pass


class Chromium:
    """One headless Chromium with its driver; `directory` keeps its files and logs."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        directory.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._driver = Program(["chromedriver", f"--port={port}"], directory / "chromedriver.log")
        self._address = f"http://127.0.0.1:{port}"
        self._session = ""
        try:
            wait_until(self._is_ready, 30, "chromedriver is ready", every=0.1)
            self._begin(directory, arguments)
        except BaseException:
            Chromium.close(self)
            raise

    def _begin(self, directory: Path, arguments: Sequence[str]) -> None:
        options = {
            "binary": shutil.which("chromium"),
            "args": [
                "--headless=new",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                f"--user-data-dir={directory / 'profile'}",
                *arguments,
                *(["--no-sandbox"] if os.geteuid() == 0 else []),
            ],
        }
        always = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self._session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": always}})["sessionId"]
        self._order("timeouts", {"script": 30_000})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and its driver."""
        try:
            if self._session:
                self._ask("DELETE", f"/session/{self._session}")
        except ProgramFailed:
            pass  # what is left of it ends with its driver's process group
        finally:
            self._driver.stop(5)

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except ProgramFailed:
            return False

    def _order(self, what: str, body: dict[str, Any]) -> Any:
        return self._ask("POST", f"/session/{self._session}/{what}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One order to the driver; answers its value, raises ProgramFailed with the driver's words."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._address}{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise ProgramFailed(f"{method} {path}: {error.read().decode()[:2000]}") from None
        except OSError as error:
            raise ProgramFailed(f"{method} {path}: {error}") from None

    def open(self, address: str) -> None:
        """Load a page, and wait until it is."""
        self._order("url", {"url": address})

    def run(self, script: str, *arguments: object) -> Any:
        """The value of a script in the page."""
        return self._order("execute/sync", {"script": script, "args": list(arguments)})

    def command(self, name: str, **fields: object) -> Any:
        """An order of the DevTools protocol, such as Emulation.setDeviceMetricsOverride."""
        return self._order("goog/cdp/execute", {"cmd": name, "params": fields})

    def resize(self, width: int) -> None:
        """Show the page so wide, and as high as it is."""
        size = {"width": width, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", height=800, **size)
        height = int(self.run("return document.documentElement.scrollHeight"))
        self.command("Emulation.setDeviceMetricsOverride", height=height, **size)

    def prefer(self, scheme: str) -> None:
        """What the page is told of the user's choice: "light" or "dark"."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def keep_picture(self, path: Path) -> None:
        """Write what is to be seen as PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot")))

    def complaints(self) -> list[str]:
        """What the browser's console has been told since the last time, violations of a policy included."""
        return [str(entry["message"]) for entry in self._order("se/log", {"type": "browser"})]


class Browser(Chromium):
    """One Chromium with the page of phones open, served from `host`."""

    def __init__(self, directory: Path, host: str, certificate: Path) -> None:
        self._server = http.server.ThreadingHTTPServer((host, 0), partial(_Pages, directory=str(PAGES)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            super().__init__(
                directory,
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--ignore-certificate-errors-spki-list={fingerprint_of(certificate)}",
            )
        except BaseException:
            self._end_server()
            raise
        try:
            self.open(f"http://{host}:{self._server.server_port}/phone.html")
            wait_until(lambda: self.run("return window.phones !== undefined"), 30, "the page is loaded", every=0.1)
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self._session:
            print("events:", self.events())
        super().__exit__(kind, value, trace)

    def close(self) -> None:
        """End the browser, its driver and the server of the page."""
        try:
            super().close()
        finally:
            self._end_server()

    def _end_server(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def phone(self, order: str, *arguments: str) -> None:
        """Call one of the functions of `window.phones`, and wait until it is done."""
        script = f"""
            const done = arguments[arguments.length - 1], given = [...arguments].slice(0, -1);
            phones.{order}(...given).then(() => done(""), (error) => done(String(error)));
        """
        answer = self._order("execute/async", {"script": script, "args": list(arguments)})
        assert answer == "", f"{order}{arguments}: {answer}; so far {self.events()}"

    def events(self) -> list[str]:
        """What has happened to the phones, in order."""
        return list(self.run("return window.events"))

    def expect(self, event: str, within: float = 15.0) -> None:
        """Wait until that has happened."""
        happened: Callable[[], bool] = lambda: event in self.events()  # noqa: E731
        try:
            wait_until(happened, within, event, every=0.1)
        except ProgramFailed as failure:
            raise ProgramFailed(f"{failure}; there were {self.events()}") from None
