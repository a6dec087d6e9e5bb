"""What `twistd sipfarm` runs: options, and the service made from them.

`Options` reads the configuration, so that a mistake in it is one line on standard error before anything starts.
`make_service` of `farm.service` builds the node; `Node` around it gives the application our log lines instead of
twistd's (unless `--logger` or `--logfile` ask for those), turns what fails at start into one line and exit code 1, and
tells systemd when the node serves, that its event loop turns, and when it ends.

The log is held back until the node runs, so that this line stands alone.

Decided: the log observer is set on the application in `setServiceParent`, the one place where a service sees it before
twistd starts logging; an own `--logger` factory would have to find the configuration in a global.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, ClassVar, Final, NoReturn, cast

from twisted.application.service import IService, IServiceCollection, MultiService
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python import usage
from twisted.python.components import Componentized
from zope.interface import implementer

from farm.config import Config, ConfigError, LogSettings, load
from farm.logs import make_json_line, make_text_line
from farm.systemd import Systemd
from farm.transport.layer import ListenError


class Options(usage.Options):
    """`twistd sipfarm -c FILE [--set section.key=value]…`"""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "configuration file (TOML); conf.d/*.toml beside it is read too"],
    ]
    longdesc = "Runs one node of a SIP proxy farm: registrar, proxy, metrics. See docs/configuration.md."

    def __init__(self) -> None:
        super().__init__()
        self.overrides: list[str] = []
        self.loaded: Config

    def opt_set(self, override: str) -> None:
        """Set one key over what the files say: section.key=value."""
        self.overrides.append(override)

    opt_s = opt_set

    def postOptions(self) -> None:
        """Read the configuration; a mistake in it ends the program with one line."""
        if not self["config"]:
            raise SystemExit("sipfarm: say which configuration to use: twistd sipfarm -c node.toml")
        try:
            self.loaded = load(self["config"], self.overrides, os.environ)
        except ConfigError as error:
            raise SystemExit(f"sipfarm: {error}") from None


class Node(MultiService):
    """The running node under twistd's application. `own_logs`: write log lines of ours, not twistd's."""

    def __init__(self, config: Config, systemd: Systemd, clock: IReactorTime, *, own_logs: bool) -> None:
        super().__init__()
        self._config = config
        self._systemd = systemd
        self._watchdog = LoopingCall(systemd.alive)
        self._watchdog.clock = clock
        self._own_logs = own_logs
        self._held: HeldLog | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application, and give it our log lines."""
        if self._own_logs and isinstance(parent, Componentized):
            with self.one_line():
                self._held = HeldLog(make_observer(self._config))
            parent.setComponent(ILogObserver, self._held)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Start what wants a low port or a file of root's."""
        with self.one_line():
            super().privilegedStartService()

    def startService(self) -> None:
        """Start the rest."""
        with self.one_line():
            super().startService()
        if self._held is not None:
            self._held.release()
        self._systemd.ready()
        if self._systemd.watchdog_seconds:
            self._watchdog.start(self._systemd.watchdog_seconds / 2)

    @inlineCallbacks
    def stopService(self) -> Any:
        """Stop; fires when nothing is left. systemd hears of us until then: running calls get time to end."""
        self._systemd.stopping()
        yield super().stopService()
        if self._watchdog.running:
            self._watchdog.stop()

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Within it, what an operator can mend ends the program with one line instead of a trace."""
        try:
            yield
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            place = error.port if isinstance(error.port, str) else f"{error.interface or '*'}:{error.port}"
            _end(f"cannot listen on {place}: {reason}")
        except OSError as error:
            _end(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
        except (ConfigError, ListenError) as error:
            _end(str(error))
        except Exception:
            if self._held is not None:
                self._held.release()
            raise


def _end(line: str) -> NoReturn:
    # sys.stderr is the log by now; whoever started us reads the real one
    print(f"sipfarm: {line}", file=sys.__stderr__, flush=True)
    raise SystemExit(1)


@implementer(ILogObserver)
class HeldLog:
    """Holds events back until `release`, then hands on those held and all that follow."""

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer
        self._held: list[LogEvent] | None = []

    def __call__(self, event: LogEvent) -> None:
        """Take one event."""
        if self._held is None:
            self._observer(event)
        else:
            self._held.append(event)

    def release(self) -> None:
        """Hold no longer."""
        held, self._held = self._held or [], None
        for event in held:
            self._observer(event)


def makeService(options: Options) -> IService:
    """The node, for twistd to start and stop."""
    from twisted.internet import reactor

    from farm.service import make_service

    parent: Mapping[str, Any] = options.parent or {}
    own_logs = not (parent.get("logger") or parent.get("logfile"))
    systemd = Systemd(os.environ, os.getpid())
    node = Node(options.loaded, systemd, cast(IReactorTime, reactor), own_logs=own_logs)
    with node.one_line():
        make_service(options.loaded, reactor).setServiceParent(node)
    return node


def make_observer(config: Config) -> ILogObserver:
    """Writes the events that `[log]` wants, to its file or to standard error. Raises OSError when it cannot."""
    settings = config.log
    if settings.file:
        stream: IO[str] = os.fdopen(os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a")
    else:
        stream = sys.__stderr__ or sys.stderr
    lines = FileLogObserver(stream, lambda event: make_line(event, settings, config.node.name))
    return FilteringLogObserver(
        lines, [LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(settings.level))]
    )


def make_line(event: LogEvent, settings: LogSettings, node: str) -> str:
    """One event of Twisted's as one line of ours; its own fields are those that do not start with `log_`."""
    level = getattr(event.get("log_level"), "name", "info")
    place = str(event.get("log_namespace", "-"))
    fields = {name: value for name, value in event.items() if not name.startswith("log_") and _is_plain(name, value)}
    failure = event.get("log_failure")
    if failure is not None:
        fields["trace"] = failure.getTraceback()
    message = formatEvent(event)
    time = float(event.get("log_time", 0.0))
    if settings.format == "json":
        return make_json_line(time, level, node, place, message, fields)
    return make_text_line(time, level, place, message, fields)


_OLD_FIELDS: Final = frozenset(("system", "time", "isError", "format", "why", "message"))


def _is_plain(name: str, value: object) -> bool:
    """Fields worth writing: not what Twisted's old log system adds to its events."""
    return isinstance(value, (str, int, float)) and name not in _OLD_FIELDS
