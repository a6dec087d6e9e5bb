"""A stand-in for `systemctl` and `journalctl` on machines that are namespaces: does what they would, from unit files.

Run as `python service_shim.py systemctl|journalctl …`, with nothing but the standard library, inside the machine. It
reads `/etc/systemd/system` and `/lib/systemd/system` with their drop-ins, and does for a service what systemd does as
far as our pages can tell: its directories made and given to the user, who is nobody else (`DynamicUser=`);
`Environment`, `EnvironmentFile`, `LoadCredential`; `ExecStartPre`, then `ExecStart` with a socket for `READY=1`
(`Type=notify`), started again when it ends by itself (`Restart=`); `ExecReload`; SIGTERM and `TimeoutStopSec` on stop.
What it writes goes to a file, which `journalctl` shows.

It has no sandbox, no dependencies, no socket units and no timers: `tests/live/test_systemd.py` asks systemd itself.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

RUN: Final = Path("/run/service-shim")
UNITS: Final = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
USER: Final = 61_184  # the first of those that systemd gives to DynamicUser=
_CAPABILITY: Final = "net_bind_service"

Unit = dict[str, list[str]]


def read_unit(name: str) -> Unit:
    """The keys of a unit's [Service] with all their values; an empty value clears those before, as in systemd."""
    found = next((path / f"{name}.service" for path in UNITS if (path / f"{name}.service").exists()), None)
    if found is None:
        sys.exit(f"Failed to start {name}.service: Unit {name}.service not found.")
    unit: Unit = {}
    drop_ins = [drop for path in UNITS for drop in sorted((path / f"{name}.service.d").glob("*.conf"))]
    for path in (found, *drop_ins):
        section = ""
        for line in path.read_text().replace("\\\n", " ").splitlines():
            text = line.strip()
            if text.startswith("["):
                section = text
            elif section == "[Service]" and "=" in text and not text.startswith(("#", ";")):
                key, _, value = text.partition("=")
                if value:
                    unit.setdefault(key, []).append(value)
                else:
                    unit[key] = []
    return unit


def _last(unit: Unit, key: str, default: str = "") -> str:
    return (unit.get(key) or [default])[-1]


class Service:
    """One unit: its files, its process, and whoever looks after it."""

    def __init__(self, name: str) -> None:
        self.name = name.removesuffix(".service")
        self.place = RUN / self.name
        self.place.mkdir(parents=True, exist_ok=True)
        self.log = self.place / "log"

    def pid(self, what: str = "main") -> int:
        """Of the service or its keeper ("keeper"); 0 when it does not run."""
        try:
            pid = int((self.place / what).read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    @property
    def state(self) -> str:
        """As `systemctl is-active` says it."""
        if (self.place / "ready").exists() and self.pid():
            return "active"
        return "activating" if self.pid("keeper") else "inactive"

    def start(self) -> int:
        """Start it, and wait until it is up or has failed; the exit code."""
        if self.state == "active":
            return 0
        for name in ("ready", "failed", "stopping"):
            (self.place / name).unlink(missing_ok=True)
        unit = read_unit(self.name)
        if os.fork() == 0:
            os.setsid()
            self._keep(unit)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (self.place / "ready").exists():
                return 0
            if (self.place / "failed").exists():
                break
            time.sleep(0.05)
        sys.stderr.write(f"Job for {self.name}.service failed.\n{self.tail(15)}")
        return 1

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after the unit's time."""
        (self.place / "stopping").touch()
        main, keeper = self.pid(), self.pid("keeper")
        deadline = time.monotonic() + float(_last(read_unit(self.name), "TimeoutStopSec", "90").removesuffix("s"))
        if main:
            os.kill(main, signal.SIGTERM)
        while self.pid("keeper") and keeper:
            if time.monotonic() > deadline and self.pid():
                os.kill(self.pid(), signal.SIGKILL)
            time.sleep(0.05)
        return 0

    def reload(self) -> int:
        """ExecReload."""
        pid = self.pid()
        if not pid:
            sys.stderr.write(f"{self.name}.service is not active, cannot reload.\n")
            return 1
        for line in read_unit(self.name).get("ExecReload", ()):
            subprocess.run(shlex.split(line.replace("$MAINPID", str(pid))), check=True)
        return 0

    def tail(self, lines: int) -> str:
        """The last lines that it wrote."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "".join(f"{line}\n" for line in text.splitlines()[-lines:])

    # In the keeper

    def _keep(self, unit: Unit) -> None:
        (self.place / "keeper").write_text(str(os.getpid()))
        output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        try:
            environment = self._prepare(unit)
            while True:
                self._run_once(unit, environment)
                again = _last(unit, "Restart", "no") != "no" and (self.place / "ready").exists()
                if (self.place / "stopping").exists() or not again:
                    break
                time.sleep(float(_last(unit, "RestartSec", "0.1").removesuffix("s")))
        except Exception as problem:  # the shell that waits must learn of it
            print(f"{self.name}: {problem}", flush=True)
        if not (self.place / "stopping").exists():
            (self.place / "failed").touch()
        for name in ("ready", "main", "keeper"):
            (self.place / name).unlink(missing_ok=True)
        os._exit(0)

    def _prepare(self, unit: Unit) -> dict[str, str]:
        """Directories, credentials and environment."""
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        owner = USER if _last(unit, "DynamicUser") == "yes" or unit.get("User") else 0
        for key, root, variable in (
            ("StateDirectory", "/var/lib", "STATE_DIRECTORY"),
            ("RuntimeDirectory", "/run", "RUNTIME_DIRECTORY"),
            ("CacheDirectory", "/var/cache", "CACHE_DIRECTORY"),
            ("LogsDirectory", "/var/log", "LOGS_DIRECTORY"),
        ):
            for name in _last(unit, key).split():
                path = Path(root) / name
                path.mkdir(parents=True, exist_ok=True)
                if path.stat().st_uid != owner:  # then and only then systemd goes through all that is in it
                    subprocess.run(["chown", "-R", f"{owner}:{owner}", str(path)], check=True)
                path.chmod(int(_last(unit, f"{key}Mode", "0755"), 8))
                environment[variable] = str(path)
        if _last(unit, "ConfigurationDirectory"):
            environment["CONFIGURATION_DIRECTORY"] = f"/etc/{_last(unit, 'ConfigurationDirectory')}"
        self._load_credentials(unit, owner, environment)
        for line in unit.get("Environment", ()):
            environment.update(_split_pair(word) for word in shlex.split(line))
        for file in unit.get("EnvironmentFile", ()):
            with contextlib.suppress(FileNotFoundError):
                lines = Path(file.removeprefix("-")).read_text().splitlines()
                environment.update(_split_pair(line) for line in lines if "=" in line and line[0] != "#")
        return environment

    def _load_credentials(self, unit: Unit, owner: int, environment: dict[str, str]) -> None:
        """Files of root that the service alone may read."""
        wanted = unit.get("LoadCredential", [])
        if not wanted:
            return
        place = self.place / "credentials"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700)
        for line in wanted:
            name, _, source = line.partition(":")
            if os.path.isdir(source):
                for file in Path(source).iterdir():
                    shutil.copy(file, place / f"{name}_{file.name}")
            elif os.path.exists(source):
                shutil.copy(source, place / name)
        subprocess.run(["chown", "-R", f"{owner}:{owner}", str(place)], check=True)
        environment["CREDENTIALS_DIRECTORY"] = str(place)

    def _run_once(self, unit: Unit, environment: dict[str, str]) -> None:
        """Start it, note when it is ready, wait until it ends."""
        user = USER if _last(unit, "DynamicUser") == "yes" or unit.get("User") else 0
        for line in unit.get("ExecStartPre", ()):
            done = subprocess.run(_command(line, user, environment), env=environment, cwd="/", check=False)
            if done.returncode and not line.startswith("-"):
                raise RuntimeError(f"ExecStartPre ended with {done.returncode}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = self.place / "notify"
            path.unlink(missing_ok=True)
            notify.bind(str(path))
            path.chmod(0o777)
            notify.settimeout(0.1)
            told = {**environment, "NOTIFY_SOCKET": str(path)}
            (line,) = unit["ExecStart"]
            process = subprocess.Popen(_command(line, user, told), env=told, cwd="/", start_new_session=True)
            (self.place / "main").write_text(str(process.pid))
            if _last(unit, "Type", "simple") not in ("notify", "notify-reload"):
                (self.place / "ready").touch()
            while process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in notify.recv(4096).split(b"\n"):
                        (self.place / "ready").touch()
        print(f"{self.name}.service: main process ended with {process.returncode}", flush=True)


def _split_pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _command(line: str, user: int, environment: dict[str, str]) -> list[str]:
    """The words of a command of a unit, run by its user with the one capability that ours may have."""
    text = line.lstrip("-+!@:")
    for name, value in environment.items():
        text = text.replace(f"${{{name}}}", value).replace(f"%d/{name}", value)
    words = shlex.split(text.replace("%d", environment.get("CREDENTIALS_DIRECTORY", "")))
    if not user or line.startswith(("+", "!")):
        return words
    capabilities = ["--inh-caps", f"+{_CAPABILITY}", "--ambient-caps", f"+{_CAPABILITY}"]
    return ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *capabilities, *words]


def systemctl(arguments: list[str]) -> int:
    """The verbs that our pages use."""
    verb, *rest = [word for word in arguments if not word.startswith("-")] or ["status"]
    services = [Service(name) for name in rest if not name.endswith(".socket")]
    if verb == "daemon-reload":
        return 0
    if verb in ("enable", "disable"):
        for service in services:
            read_unit(service.name)
        verb = {"enable": "start", "disable": "stop"}[verb] if "--now" in arguments else "is-enabled"
    code = 0
    for service in services:
        if verb == "start":
            code |= service.start()
        elif verb == "stop":
            code |= service.stop()
        elif verb in ("restart", "try-restart"):
            code |= service.stop() | service.start()
        elif verb in ("reload", "reload-or-restart"):
            code |= service.reload()
        elif verb in ("is-active", "status"):
            quiet = "--quiet" in arguments or "-q" in arguments
            state = service.state
            if not quiet:
                print(state if verb == "is-active" else f"{service.name}.service: {state}\n{service.tail(10)}")
            code |= 0 if state == "active" else 3
        elif verb != "is-enabled":
            sys.stderr.write(f"the stand-in for systemctl does not know {verb}\n")
            code |= 1
    return code


def journalctl(arguments: list[str]) -> int:
    """The log of `-u NAME`, or its last lines (`-n N`)."""
    names = [arguments[index + 1] for index, word in enumerate(arguments) if word in ("-u", "--unit")]
    counts = [int(arguments[index + 1]) for index, word in enumerate(arguments) if word in ("-n", "--lines")]
    for name in names:
        sys.stdout.write(Service(name).tail((counts or [1_000_000])[0]))
    return 0


if __name__ == "__main__":
    sys.exit({"systemctl": systemctl, "journalctl": journalctl}[sys.argv[1]](sys.argv[2:]))
