"""What twistd gets from us: the plugin, the options, our log lines, and one line when a start fails."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, LogPublisher, globalLogPublisher
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import implementer

from farm.changes import Merged
from farm.config import Config, LogSettings, load
from farm.sources import ConfigError
from farm.systemd import Systemd
from farm.tap import HeldLog, Node, Options, make_line, make_observer


def config_of(folder: Path, more: str = "") -> Config:
    path = folder / "node.toml"
    path.write_text(f'[node]\nname = "n1"\nstate_dir = "."\n[sip]\ndomains = ["example.com"]\n{more}')
    return load(path)


class Machine(Clock):
    """A reactor whose other threads are this one."""

    def callFromThread(self, action: Callable[[], None]) -> None:
        """Called for a signal."""
        self.callLater(0, action)


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[..., None]]:
    """What is done on which signal."""
    actions: dict[int, Callable[..., None]] = {}
    monkeypatch.setattr(signal, "signal", actions.__setitem__)
    return actions


def make_node(config: Config, *, own_logs: bool = False, systemd: Systemd | None = None) -> Node:
    return Node(config, lambda: config, systemd or Systemd({}, 1), Machine(), own_logs=own_logs)


def test_twistd_finds_the_plugin() -> None:
    (plugin,) = [found for found in getPlugins(service.IServiceMaker) if found.tapname == "sipfarm"]
    assert plugin.options is Options
    package = Path(__file__).parent.parent / "twisted"
    assert not list(package.rglob("__init__.py")), "they would hide Twisted itself"


def test_options_load_the_configuration_with_what_is_set_over_it(tmp_path: Path) -> None:
    config_of(tmp_path)
    options = Options()
    options.parseOptions(["-c", str(tmp_path / "node.toml"), "-s", "auth.open=true", "--set", "node.name=n7"])
    assert options.loaded.auth.open
    assert options.loaded.node.name == "n7"


def test_a_wrong_configuration_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        Options().parseOptions(["-c", str(tmp_path / "absent.toml")])
    assert end.value.code == f"sipfarm: {tmp_path}/absent.toml: cannot be read: No such file or directory"
    with pytest.raises(SystemExit) as end:
        Options().parseOptions([])
    assert end.value.code == "sipfarm: say which configuration to use: twistd sipfarm -c node.toml"


class Failing(service.Service):
    """A service that does not start."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def startService(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            CannotListenError("127.0.0.1", 5060, OSError(98, "Address already in use")),
            "cannot listen on 127.0.0.1:5060: Address already in use",
        ),
        (
            CannotListenError(None, b"/run/control.sock", OSError(98, "Address already in use")),
            "cannot listen on /run/control.sock: Address already in use",
        ),
        (PermissionError(13, "Permission denied", "/var/lib/sipfarm"), "/var/lib/sipfarm: Permission denied"),
        (OSError("no room"), "no room"),
        (ConfigError("is wrong", where="node.toml", line=3, key="sip.listen"), "node.toml:3: sip.listen: is wrong"),
    ],
)
def test_a_start_that_fails_is_one_line_and_exit_1(
    tmp_path: Path, error: Exception, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    node = make_node(config_of(tmp_path), own_logs=False)
    Failing(error).setServiceParent(node)
    with capfd.disabled(), pytest.MonkeyPatch.context() as patch:
        stream = open(tmp_path / "stderr", "w+")  # noqa: SIM115
        patch.setattr("sys.__stderr__", stream)
        with pytest.raises(SystemExit) as end:
            node.startService()
        stream.close()
    assert end.value.code == 1
    assert (tmp_path / "stderr").read_text() == f"sipfarm: {line}\n"


def test_a_bug_at_start_keeps_its_trace(tmp_path: Path) -> None:
    node = make_node(config_of(tmp_path), own_logs=False)
    Failing(ZeroDivisionError()).setServiceParent(node)
    with pytest.raises(ZeroDivisionError):
        node.startService()


class Slow(service.Service):
    """A service that takes until `ended` fires to stop."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def stopService(self) -> Deferred[None]:
        return self.ended


class Heard(Systemd):
    """Notes what systemd would hear."""

    __slots__ = ("states",)

    def __init__(self, watchdog_seconds: float) -> None:
        super().__init__({}, 1)
        self.watchdog_seconds = watchdog_seconds
        self.states: list[bytes] = []

    def _notify(self, state: bytes) -> None:
        self.states.append(state)


def test_systemd_hears_that_the_node_serves_and_is_alive_until_the_last_call_has_ended(tmp_path: Path) -> None:
    systemd, slow = Heard(30.0), Slow()
    node = make_node(config_of(tmp_path), systemd=systemd)
    clock = node._reactor
    slow.setServiceParent(node)
    node.startService()
    assert systemd.states == [b"READY=1", b"WATCHDOG=1"]
    clock.pump([15.0] * 2)
    assert systemd.states[2:] == [b"WATCHDOG=1"] * 2
    stopped = node.stopService()
    clock.advance(15.0)
    assert systemd.states[4:] == [b"STOPPING=1", b"WATCHDOG=1"]
    slow.ended.callback(None)
    assert stopped.called
    assert not clock.getDelayedCalls()


def test_a_start_that_fails_is_not_ready(tmp_path: Path) -> None:
    systemd = Heard(0.0)
    node = make_node(config_of(tmp_path), systemd=systemd)
    Failing(ZeroDivisionError()).setServiceParent(node)
    with pytest.raises(ZeroDivisionError):
        node.startService()
    assert systemd.states == []


def test_the_application_gets_our_log_held_back_until_the_node_runs(tmp_path: Path) -> None:
    application: Any = service.Application("sipfarm")
    config = config_of(tmp_path, '[log]\nfile = "node.log"\n')
    node = make_node(config, own_logs=True)
    node.setServiceParent(application)
    observer = application.getComponent(ILogObserver)
    log = Logger("farm.x", observer=LogPublisher(observer))
    log.info("before {count}", count=1)
    assert (tmp_path / "node.log").read_text() == ""
    node.startService()
    log.info("after", reason="bad-via")
    lines = [json.loads(line) for line in (tmp_path / "node.log").read_text().splitlines()]
    assert [(line["message"], line["place"], line["node"]) for line in lines] == [
        ("before 1", "farm.x", "n1"),
        ("after", "farm.x", "n1"),
    ]
    assert lines[1]["reason"] == "bad-via"


def test_logs_that_twistd_was_told_to_write_are_left_to_it(tmp_path: Path) -> None:
    application: Any = service.Application("sipfarm")
    make_node(config_of(tmp_path), own_logs=False).setServiceParent(application)
    assert application.getComponent(ILogObserver, None) is None


def test_levels_below_the_configured_one_are_left_out(tmp_path: Path) -> None:
    stream = StringIO()
    observer = make_observer(config_of(tmp_path, '[log]\nlevel = "warn"\nformat = "text"\n'), stream)
    log = Logger("farm.x", observer=LogPublisher(observer))
    log.info("quiet")
    log.warn("loud")
    text = stream.getvalue()
    assert "quiet" not in text
    assert text.endswith(" warn     farm.x: loud\n")


def test_a_place_may_have_a_level_of_its_own(tmp_path: Path) -> None:
    stream = StringIO()
    levels = '[log]\nlevel = "warn"\nlevels = ["overlay:debug", "dns:error", "twisted:info"]\nformat = "text"\n'
    observer = LogPublisher(make_observer(config_of(tmp_path, levels), stream))
    for place in ("overlay", "overlay.links", "dns", "node", "twisted.web"):
        log = Logger(place, observer=observer)
        log.debug("quiet")
        log.info("news")
        log.warn("loud")
    heard = [line.split(" ", 1)[1].split() for line in stream.getvalue().splitlines()]
    assert [(place.rstrip(":"), text) for _, place, text in heard] == [
        ("overlay", "quiet"), ("overlay", "news"), ("overlay", "loud"),
        ("overlay.links", "quiet"), ("overlay.links", "news"), ("overlay.links", "loud"),
        ("node", "loud"),
        ("twisted.web", "news"), ("twisted.web", "loud"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("level", "heard"), [("info", ["bad", "ours"]), ("error", []), ("debug", ["on", "bad", "ours"])]
)
def test_what_twisted_says_of_itself_is_left_out_unless_it_is_a_warning(
    tmp_path: Path, level: str, heard: list[str]
) -> None:
    stream = StringIO()
    publisher = LogPublisher(make_observer(config_of(tmp_path, f'[log]\nlevel = "{level}"\n'), stream))
    Logger("log_legacy", observer=publisher).info("on")
    Logger("twisted.scripts._twistd_unix.UnixAppLogger", observer=publisher).warn("bad")
    Logger("node", observer=publisher).warn("ours")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == heard


def test_message_bytes_in_an_event_are_never_a_format_string() -> None:
    event: LogEvent = {
        "log_level": LogLevel.info,
        "log_namespace": "farm.x",
        "log_format": "refused {detail}",
        "log_time": 0.0,
        "detail": "{log_source.__class__} %s {0}\r\n",
    }
    line = json.loads(make_line(event, LogSettings(), "n1"))
    assert line["message"] == "refused {log_source.__class__} %s {0}\r\n"
    assert line["detail"] == "{log_source.__class__} %s {0}\r\n"


def test_a_failure_brings_its_trace() -> None:
    try:
        raise ValueError("oops")
    except ValueError:
        failure = Failure()
    event: LogEvent = {"log_level": LogLevel.critical, "log_format": "bad", "log_failure": failure, "log_time": 0.0}
    line = json.loads(make_line(event, LogSettings(), "n1"))
    assert line["level"] == "critical"
    assert "ValueError: oops" in line["trace"]


@implementer(ILogObserver)
class Recorder:
    """Notes events."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)


def test_a_held_log_hands_on_in_order_once_released() -> None:
    recorder = Recorder()
    held = HeldLog(recorder)
    held({"n": 1})
    assert recorder.events == []
    held.release()
    held.release()
    held({"n": 2})
    assert recorder.events == [{"n": 1}, {"n": 2}]


# Signals


class Inside:
    """The node inside, as the signals see it. `problem` is raised by a reload."""

    def __init__(self, waiting: list[str] | None = None, problem: Exception | None = None) -> None:
        self.waiting = waiting or []
        self.changed: list[str] = []
        self.problem = problem
        self.reloads: list[Config] = []
        self.hurried = 0

    def reload(self, config: Config) -> Merged:
        self.reloads.append(config)
        if self.problem is not None:
            raise self.problem
        return Merged(config, self.waiting, self.changed)

    def hurry(self) -> None:
        self.hurried += 1


def start_logging(config: Config, load: Callable[[], Config], inside: Inside) -> Node:
    """A node that writes its log, with what the signals reach."""
    node = Node(config, load, Systemd({}, 1), Machine(), own_logs=True)
    node.inside = inside
    application: Any = service.Application("sipfarm")
    node.setServiceParent(application)
    globalLogPublisher.addObserver(application.getComponent(ILogObserver))
    node.privilegedStartService()
    node.startService()
    return node


@pytest.fixture(autouse=True)
def publisher() -> Iterator[None]:
    """Log observers that a test adds are removed."""
    before = list(globalLogPublisher._observers)
    yield
    for observer in list(globalLogPublisher._observers):
        if observer not in before:
            globalLogPublisher.removeObserver(observer)


def hang_up(node: Node, signals: dict[int, Callable[..., None]]) -> None:
    """SIGHUP."""
    signals[signal.SIGHUP](signal.SIGHUP, None)
    node._reactor.advance(0)


def messages(path: Path) -> list[tuple[str, str]]:
    """Level and message of each line of ours in a log."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(line["level"], line["message"]) for line in lines if line["place"] == "node"]


def test_sighup_reloads_and_goes_on_in_a_new_file_after_the_old_one_was_moved(
    tmp_path: Path, signals: dict[int, Callable[..., None]]
) -> None:
    more = '[log]\nfile = "node.log"\nlevel = "warn"\n'
    inside = Inside()
    node = start_logging(config_of(tmp_path, more), lambda: config_of(tmp_path, more.replace("warn", "info")), inside)
    (tmp_path / "node.log").rename(tmp_path / "node.log.1")
    hang_up(node, signals)
    assert len(inside.reloads) == 1
    assert messages(tmp_path / "node.log") == [("info", "reloaded")]
    assert messages(tmp_path / "node.log.1") == []
    hang_up(node, signals)
    assert len(messages(tmp_path / "node.log")) == 2


def test_what_wants_a_restart_is_named(tmp_path: Path, signals: dict[int, Callable[..., None]]) -> None:
    config = config_of(tmp_path, '[log]\nfile = "node.log"\n')
    hang_up(start_logging(config, lambda: config, Inside(["sip.listen", "node.name"])), signals)
    assert messages(tmp_path / "node.log") == [
        ("warn", "reloaded; these changes want a restart: sip.listen, node.name")
    ]


def test_a_mistake_in_the_configuration_is_one_line_and_the_old_one_stays(
    tmp_path: Path, signals: dict[int, Callable[..., None]]
) -> None:
    inside = Inside()
    config = config_of(tmp_path, '[log]\nfile = "node.log"\n')

    def load_again() -> Config:
        return config_of(tmp_path, '[log]\nlevle = "info"\n')

    node = start_logging(config, load_again, inside)
    hang_up(node, signals)
    assert inside.reloads == []
    ((level, message),) = messages(tmp_path / "node.log")
    assert level == "error"
    assert message.startswith(f"not reloaded, what was in force stays: {tmp_path}/node.toml:7: log.levle: unknown key")


def test_a_reload_that_meets_a_fault_of_ours_ends_nothing(
    tmp_path: Path, signals: dict[int, Callable[..., None]]
) -> None:
    config = config_of(tmp_path, '[log]\nfile = "node.log"\n')
    hang_up(start_logging(config, lambda: config, Inside(problem=ZeroDivisionError())), signals)
    assert [level for level, _ in messages(tmp_path / "node.log")] == ["critical", "error"]


def test_a_log_file_that_cannot_be_opened_leaves_the_old_one(
    tmp_path: Path, signals: dict[int, Callable[..., None]]
) -> None:
    config = config_of(tmp_path, '[log]\nfile = "node.log"\n')
    node = start_logging(config, lambda: config_of(tmp_path, '[log]\nfile = "absent/node.log"\n'), Inside())
    hang_up(node, signals)
    assert messages(tmp_path / "node.log") == [
        ("error", f"{tmp_path}/absent/node.log cannot be opened, the old log goes on: No such file or directory"),
        ("info", "reloaded"),
    ]


def test_a_second_sigterm_ends_the_wait_for_calls(tmp_path: Path, signals: dict[int, Callable[..., None]]) -> None:
    inside, slow = Inside(), Slow()
    node = make_node(config_of(tmp_path))
    node.inside = inside
    slow.setServiceParent(node)
    node.startService()
    assert signal.SIGTERM not in signals, "the first one is Twisted's"
    node.stopService()
    for number in (signal.SIGTERM, signal.SIGINT):
        signals[number](number, None)
    node._reactor.advance(0)
    assert inside.hurried == 2
    slow.ended.callback(None)


def test_too_few_files_for_the_connections_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farm.tap.raise_limit", lambda: 1024)
    start_logging(config := config_of(tmp_path, '[log]\nfile = "node.log"\n'), lambda: config, Inside())
    ((level, message),) = messages(tmp_path / "node.log")
    assert level == "warn"
    assert message.startswith("the process may open 1024 files")
