"""What `twistd sipfarm` runs: options, and the service made from them.

`Options` reads the configuration, so that a mistake in it is one line on standard error before anything starts.
`make_service` of `farm.service` builds the node; `Node` around it gives the application our log lines instead of
twistd's (unless `--logger` or `--logfile` ask for those), turns what fails at start into one line and exit code 1,
tells systemd when the node serves, that its event loop turns, and when it ends, and takes the signals: SIGHUP reads
the configuration again and opens the log file anew; a second SIGTERM or SIGINT ends a stop that waits for calls.

The log is held back until the node runs, so that this line stands alone. Twisted's own lines are left out of it below
warnings, unless the level is debug: what starts and stops is said by ours.

Decided: the log observer is set on the application in `setServiceParent`, the one place where a service sees it before
twistd starts logging; an own `--logger` factory would have to find the configuration in a global.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, ClassVar, Final, NoReturn, Protocol

from twisted.application.service import IService, IServiceCollection, MultiService
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import CannotListenError
from twisted.internet.task import LoopingCall
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python import usage
from twisted.python.components import Componentized
from zope.interface import implementer

from farm.changes import Merged
from farm.config import Config, ConfigError, LogSettings, load
from farm.logs import make_json_line, make_text_line
from farm.open_files import find_shortage, raise_limit
from farm.systemd import Systemd, read_first_environment
from farm.transport.handed import HandedSockets
from farm.transport.layer import ListenError

_log: Final = Logger(namespace="node")


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
            self.loaded = self.load()
        except ConfigError as error:
            raise SystemExit(f"sipfarm: {error}") from None

    def load(self) -> Config:
        """The configuration as it is in its files now. Raises ConfigError."""
        return load(self["config"], self.overrides, os.environ)


class Running(Protocol):
    """The node inside (`farm.service.Node`)."""

    def reload(self, config: Config) -> Merged:
        """Take what a running node can take; answers that, and the keys that want a restart. Raises ConfigError."""

    def hurry(self) -> None:
        """While it stops: wait for nobody any more."""


class Node(MultiService):
    """The running node under twistd's application. `load` reads its configuration again. `own_logs`: write log lines
    of ours, not twistd's."""

    def __init__(
        self, config: Config, load: Callable[[], Config], systemd: Systemd, reactor: Any, *, own_logs: bool
    ) -> None:
        super().__init__()
        self.inside: Running | None = None
        self._config = config
        self._load = load
        self._systemd = systemd
        self._reactor = reactor
        self._watchdog = LoopingCall(systemd.alive)
        self._watchdog.clock = reactor
        self._own_logs = own_logs
        self._held: HeldLog | None = None
        self._stream: IO[str] | None = None

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Join the application, and give it our log lines."""
        if self._own_logs and isinstance(parent, Componentized):
            with self.one_line():
                self._stream = open_stream(self._config.log)
                self._held = HeldLog(make_observer(self._config, self._stream))
            parent.setComponent(ILogObserver, self._held)
        super().setServiceParent(parent)

    def privilegedStartService(self) -> None:
        """Start what wants a low port or a file of root's."""
        self._listen_to(signal.SIGHUP, self.reload)
        shortage = find_shortage(self._config.limits.connections, raise_limit())
        if shortage:
            _log.warn("{shortage}", shortage=shortage)
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
        for number in (signal.SIGTERM, signal.SIGINT):
            self._listen_to(number, self._hurry)
        yield super().stopService()
        if self._watchdog.running:
            self._watchdog.stop()

    def reload(self) -> None:
        """SIGHUP. A mistake in the configuration is one line of the log."""
        with suppress(ConfigError):
            self.read_again()

    def read_again(self) -> Merged:
        """Read the configuration again and take what can change, and open the log file anew, for it may have been
        moved. Raises ConfigError for a mistake, which the log has then, and what was in force stays."""
        config, problem = self._config, ""
        merged = Merged(config, [], [])
        try:
            loaded = self._load()
            if self.inside is not None:
                merged = self.inside.reload(loaded)
            config = loaded
        except ConfigError as error:
            problem = str(error)
        except Exception:
            _log.failure("the reload failed")
            problem = "a fault of ours, of which the log says more"
        self._open_log(config)
        if problem:
            _log.error("not reloaded, what was in force stays: {problem}", problem=problem)
            raise ConfigError(problem)
        changed = ", ".join(merged.changed) or "nothing"
        if merged.waiting:
            waiting = ", ".join(merged.waiting)
            _log.warn("reloaded; these changes want a restart: {keys}", keys=waiting, changed=changed)
        else:
            _log.info("reloaded", changed=changed)
        return merged

    def _open_log(self, config: Config) -> None:
        if self._held is None:
            return
        try:
            stream = open_stream(config.log)
        except OSError as error:
            problem = error.strerror or str(error)
            _log.error("{file} cannot be opened, the old log goes on: {problem}", file=config.log.file, problem=problem)
            return
        self._config = config
        before, self._stream = self._stream, stream
        self._held.observer = make_observer(config, stream)
        if before is not None and before is not stream:
            before.close()

    def _hurry(self) -> None:
        if self.inside is not None:
            self.inside.hurry()

    def _listen_to(self, number: int, action: Callable[[], None]) -> None:
        """Do something in a turn of the event loop after each signal of that number."""
        signal.signal(number, lambda *_: self._reactor.callFromThread(action))

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """Within it, what an operator can mend ends the program with one line instead of a trace."""
        try:
            yield
        except CannotListenError as error:
            reason = getattr(error.socketError, "strerror", None) or error.socketError
            port = os.fsdecode(error.port) if isinstance(error.port, bytes) else error.port  # bytes: a socket's path
            place = port if isinstance(port, str) else f"{error.interface or '*'}:{port}"
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
        self.observer = observer
        self._held: list[LogEvent] | None = []

    def __call__(self, event: LogEvent) -> None:
        """Take one event."""
        if self._held is None:
            self.observer(event)
        else:
            self._held.append(event)

    def release(self) -> None:
        """Hold no longer."""
        held, self._held = self._held or [], None
        for event in held:
            self.observer(event)


def makeService(options: Options) -> IService:
    """The node, for twistd to start and stop."""
    from twisted.internet import reactor

    from farm.service import make_service

    parent: Mapping[str, Any] = options.parent or {}
    own_logs = not (parent.get("logger") or parent.get("logfile"))
    systemd = Systemd(read_first_environment(), os.getpid())
    node = Node(options.loaded, options.load, systemd, reactor, own_logs=own_logs)
    with node.one_line():
        running = make_service(options.loaded, reactor)
        running.transport.handed = HandedSockets(systemd.take_sockets())
        running.setServiceParent(node)
        node.inside = running
        running.read_again = node.read_again
    return node


def open_stream(settings: LogSettings) -> IO[str]:
    """The file that `[log]` names, opened to be appended to, or standard error. Raises OSError when it cannot be."""
    if settings.file:
        return os.fdopen(os.open(settings.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a")
    return sys.__stderr__ or sys.stderr


def make_observer(config: Config, stream: IO[str]) -> ILogObserver:
    """Writes the events that `[log]` wants to a stream."""
    settings = config.log
    level = LogLevel.levelWithName(settings.level)
    predicate = LogLevelFilterPredicate(defaultLogLevel=level)
    if level is not LogLevel.debug:
        for namespace in ("twisted", "log_legacy"):
            predicate.setLogLevelForNamespace(namespace, max(level, LogLevel.warn))
    for text in settings.levels:
        place, _, name = text.partition(":")
        predicate.setLogLevelForNamespace(place, LogLevel.levelWithName(name))
    lines = FileLogObserver(stream, lambda event: make_line(event, settings, config.node.name))
    return FilteringLogObserver(lines, [predicate])


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
