"""`sipfarm ca`: the authority that admits nodes, on the command line.

It works on the authority's directory, which is best kept on a machine that is no node; what it does and how is
`security/authority`'s. A changed configuration is handed to one node, named by `-c`, when that runs on this machine:
the overlay brings it to the others.
"""

from __future__ import annotations

import argparse
import base64
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from farm.admin.client import NotRunning
from farm.admin.control import Answer, Fields, OrderError
from farm.admin.grammar import add_command
from farm.config import ConfigError
from farm.security.authority import (
    DEFAULT_DAYS,
    MOST_DAYS,
    Authority,
    AuthorityError,
    Issued,
    make_authority,
)
from farm.security.certificate import ROLES
from farm.security.config_record import OverlayConfig
from farm.security.identity import CONFIG_NAME
from farm.security.overlay_config import MOST_REPLICAS
from farm.security.register import EnrolledNode
from farm.security.rolling import STEPS, Rolling

DEFAULT_DIRECTORY: Final = "/etc/sipfarm/ca"
ORDER: Final = "new-config"  # with `record`, in base64

_MORE: Final = {
    "roll": "Without a step it says which is next. After each step every node gets its identity anew (`ca renew "
    "--all`, and the files to where they belong) before the next step is taken; nodes take them within a minute, "
    "or at `sipfarm reload`, and no link breaks. `trust` is then in `sipfarm status` of every node as it is here: look "
    "before the next step, since the authority knows what it made and not who has it.",
}

_DONE: Final = 0
_FAILED: Final = 1


class Shell(Protocol):
    """The console that the command runs in."""

    def show(self, answer: Answer, lines: Sequence[str]) -> None:
        """Write an answer: as JSON, or the lines."""

    def order(self, order: str, fields: Fields) -> Answer:
        """Give an order to the node that is meant. Raises NotRunning, OrderError or ConfigError."""


def add_commands(
    commands: Any, shared: argparse.ArgumentParser, command: Callable[[Any, argparse.Namespace], int]
) -> None:
    """Add `ca` to the commands of the console. `command` is what it calls for all of them; it ends in `run`."""
    place = argparse.ArgumentParser(add_help=False)
    place.add_argument(
        "--dir", metavar="DIR", default=DEFAULT_DIRECTORY, help=f"the authority's directory ({DEFAULT_DIRECTORY})"
    )
    changed = argparse.ArgumentParser(add_help=False)
    changed.add_argument("--replicas", metavar="N", type=_replicas, help="copies of every record (3)")
    changed.add_argument(
        "--domain", metavar="D", action="append", help="a SIP domain of the farm (any); may be repeated"
    )
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument(
        "--days", type=_days, default=DEFAULT_DAYS, metavar="N", help=f"life of the certificate ({DEFAULT_DAYS:.0f})"
    )
    made.add_argument(
        "--out", metavar="DIR", default="", help="where the identity goes (nodes/NAME in the authority's)"
    )

    actions = commands.add_parser("ca", help="the authority that admits nodes to the farm").add_subparsers(
        metavar="ACTION", required=True
    )
    parsers: dict[str, argparse.ArgumentParser] = {}
    for name, action, meaning, parents, example in (
        ("init", _init, "make an authority", [place, changed], "--overlay farm.example.com"),
        ("issue", _issue, "enroll a node: Node-ID, key and certificate", [place, made], "n4 --zone east"),
        ("renew", _renew, "a new certificate for an enrolled node, or all", [place, made], "n4\n--all --days 90"),
        ("deny", _deny, "shut a node out; with -c, tell the farm through that node", [place], "n4 -c node.toml"),
        (
            "config", _config, "show or change what all nodes agree on; with -c, tell the farm", [place, changed],
            "\n--replicas 4 -c node.toml",
        ),
        ("roll", _roll, "have a new authority take over, in three steps", [place], "\nbegin\nswitch\nfinish"),
        ("list", _list, "list the nodes that were enrolled", [place], ""),
    ):  # fmt: skip
        lines = "\n".join(f"sipfarm ca {name} {rest}".rstrip() for rest in example.split("\n"))
        parsers[name] = add_command(actions, name, [shared, *parents], meaning, lines, _MORE.get(name, ""))
        parsers[name].set_defaults(command=command, action=action)
    parsers["init"].add_argument("--overlay", metavar="NAME", required=True, help="name of the overlay")
    parsers["issue"].add_argument("name", metavar="NAME", help="name of the node, as its configuration has it")
    parsers["issue"].add_argument("--zone", metavar="Z", default="", help="replicas go to different zones (none)")
    parsers["issue"].add_argument(
        "--role", action="append", choices=sorted(ROLES), help="what the node may do (both); may be repeated"
    )
    parsers["renew"].add_argument("what", metavar="DIR|NAME", nargs="?", help="an identity's directory, or a node")
    parsers["renew"].add_argument("--all", action="store_true", help="every node that is not denied, into nodes/NAME")
    parsers["renew"].add_argument("--new-key", action="store_true", help="make a new key as well")
    parsers["roll"].add_argument("step", choices=STEPS, nargs="?", help="the step to take (say which is next)")
    parsers["roll"].add_argument("--force", action="store_true", help="finish although nodes will be shut out")
    parsers["deny"].add_argument("what", metavar="NODE", help="a name, or the first digits of a Node-ID")


def run(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    """Do what was asked; answers the exit code. `wall` is the time, seconds since 1970. Raises OrderError."""
    action: Callable[[argparse.Namespace, Shell, float], int] = options.action
    try:
        return action(options, shell, wall)
    except AuthorityError as error:
        raise OrderError(str(error)) from None


def _init(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    replicas = 3 if options.replicas is None else options.replicas
    config = make_authority(options.dir, options.overlay, wall, replicas=replicas, domains=options.domain or ())
    shell.show(
        {"directory": options.dir, **_config_answer(config)},
        [f"{options.dir}: authority of {config.overlay}; keep it off the nodes, and keep a copy"],
    )
    return _DONE


def _issue(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    roles = sum(ROLES[role] for role in set(options.role or ROLES))
    issued = Authority(options.dir).issue(options.name, options.zone, roles, wall, days=options.days, out=options.out)
    return _show_issued(shell, issued)


def _renew(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    authority = Authority(options.dir)
    if bool(options.what) == options.all or (options.all and options.out):
        raise OrderError("name a node or a directory, or say --all, which takes no --out")
    if options.all:
        return _renew_all(options, shell, authority, wall)
    return _show_issued(
        shell, authority.renew(options.what, wall, days=options.days, out=options.out, new_key=options.new_key)
    )


def _renew_all(options: argparse.Namespace, shell: Shell, authority: Authority, wall: float) -> int:
    renewed = [
        authority.renew(node.node_id, wall, days=options.days, new_key=options.new_key)
        for node in authority.nodes()
        if not node.denied
    ]
    shell.show(
        {"nodes": [{**_node_answer(node), "directory": directory} for node, directory in renewed]},
        [_issued_line(issued) for issued in renewed],
    )
    return _DONE


def _roll(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    rolling = Rolling(options.dir)
    if options.step is None:
        record = b""
    elif options.step == "begin":
        record = rolling.begin(wall)
    elif options.step == "switch":
        record = rolling.switch(wall)
    else:
        record = rolling.finish(wall, force=options.force)
    status = rolling.status(wall)
    trust = rolling.trust_digest()
    lines = [f"{options.dir}: {status.words}", f"trust: {trust}", f"next: {status.advice}"]
    answer: Answer = {"stage": status.stage, "trust": trust, "next": status.advice, "behind": list(status.behind)}
    if not record:
        shell.show(answer, lines)
        return _DONE
    return _hand_out(options, shell, record, answer, lines)


def _deny(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    authority = Authority(options.dir)
    node, record = authority.deny(options.what, wall)
    config = authority.config()
    line = f"{node.name} ({node.node_id[:16]}…) is denied from sequence {config.sequence} on"
    return _hand_out(options, shell, record, {**_node_answer(node), "sequence": config.sequence}, [line])


def _config(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    authority = Authority(options.dir)
    if options.replicas is None and options.domain is None:
        config, record = authority.config(), authority.config_record()
    else:
        config, record = authority.change_config(wall, replicas=options.replicas, domains=options.domain)
    lines = [f"{name}: {value}" for name, value in _config_lines(config).items()]
    return _hand_out(options, shell, record, _config_answer(config), lines)


def _list(options: argparse.Namespace, shell: Shell, wall: float) -> int:
    nodes = Authority(options.dir).nodes()
    shell.show({"nodes": [_node_answer(node) for node in nodes]}, [_line(node, wall) for node in nodes])
    return _DONE


def _hand_out(options: argparse.Namespace, shell: Shell, record: bytes, answer: Answer, lines: list[str]) -> int:
    """Hand a configuration to the running node, if one was named; else say where it is."""
    path = os.path.join(options.dir, CONFIG_NAME)
    answer = {**answer, "file": path}
    if not options.config:
        hint = (
            f"{path}: hand it to one running node with -c node.toml, or copy it into an identity and reload that node"
        )
        shell.show({**answer, "handed_out": False}, [*lines, hint])
        return _DONE
    try:
        shell.order(ORDER, {"record": base64.b64encode(record).decode()})
    except (ConfigError, NotRunning, OrderError) as error:
        problem = f"{path} is signed, but the node did not take it: {error}"
        shell.show({**answer, "handed_out": False, "error": problem}, [*lines, problem])
        return _FAILED
    shell.show({**answer, "handed_out": True}, [*lines, "the node has it"])
    return _DONE


def _show_issued(shell: Shell, issued: Issued) -> int:
    node, directory = issued
    shell.show({**_node_answer(node), "directory": directory}, [_issued_line(issued)])
    return _DONE


def _issued_line(issued: Issued) -> str:
    node, directory = issued
    return f"{directory}: {node.name}, Node-ID {node.node_id[:16]}…, until {_date(node.not_after)}"


def _node_answer(node: EnrolledNode) -> Answer:
    return {
        "name": node.name,
        "node_id": node.node_id,
        "zone": node.zone,
        "roles": list(node.roles),
        "not_after": node.not_after,
        "denied": node.denied,
    }


def _line(node: EnrolledNode, wall: float) -> str:
    state = "denied" if node.denied else "expired" if node.not_after < wall else "until"
    rest = "" if node.denied else f" {_date(node.not_after)}"
    return f"{node.name}  {node.node_id[:16]}…  {node.zone or '-'}  {','.join(sorted(node.roles))}  {state}{rest}"


def _config_answer(config: OverlayConfig) -> Answer:
    return {
        "overlay": config.overlay,
        "sequence": config.sequence,
        "replicas": config.replicas,
        "domains": list(config.domains),
        "denied": [node.hex() for node in config.denied],
        "issued_at": config.issued_at,
    }


def _config_lines(config: OverlayConfig) -> dict[str, str]:
    return {
        "overlay": config.overlay,
        "sequence": f"{config.sequence}, of {_date(config.issued_at)}",
        "replicas": str(config.replicas),
        "domains": ", ".join(config.domains) or "each node's own",
        "denied": ", ".join(node.hex()[:16] + "…" for node in config.denied) or "nobody",
    }


def _date(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _days(text: str) -> float:
    """A number of days as typed."""
    days = float(text)
    if not 0 < days <= MOST_DAYS:
        raise argparse.ArgumentTypeError(f"more than 0 and at most {MOST_DAYS:.0f}")
    return days


def _replicas(text: str) -> int:
    """A number of replicas as typed."""
    replicas = int(text)
    if not 1 <= replicas <= MOST_REPLICAS:
        raise argparse.ArgumentTypeError(f"1 to {MOST_REPLICAS}")
    return replicas
