"""The container file: what an engine would make of it, and that a node is content with what it gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from farm.config import load
from tests.support.agents import Agent
from tests.support.nodes import STOPPED, Nodes
from tests.support.tools import give_up, need

ROOT = Path(__file__).resolve().parent.parent.parent
FILE = ROOT / "deploy" / "Containerfile"
KNOWN = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
}  # fmt: skip


def read_instructions() -> list[tuple[str, str]]:
    """Each instruction and the rest of it, lines that go on put together, comments left out."""
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r" *\\\n\s*", " ", "\n".join(lines))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines()]


def last(instruction: str) -> str:
    """What the image has of an instruction that it has once."""
    return [rest for name, rest in read_instructions() if name == instruction][-1]


def stages() -> Iterator[list[tuple[str, str]]]:
    """The instructions of each stage."""
    stage: list[tuple[str, str]] = []
    for name, rest in read_instructions():
        if name == "FROM" and stage:
            yield stage
            stage = []
        stage.append((name, rest))
    yield stage


def test_every_instruction_is_one() -> None:
    assert {name for name, _ in read_instructions()} <= KNOWN


def test_every_command_is_one_that_a_shell_understands() -> None:
    for name, rest in read_instructions():
        if name == "RUN":
            done = subprocess.run(["bash", "-n", "-c", rest], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_what_is_copied_is_there_and_is_what_the_wheel_is_made_of() -> None:
    copied = [rest for name, rest in read_instructions() if name == "COPY" and not rest.startswith("--from=")]
    sources = {word for rest in copied for word in rest.split()[:-1]}
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert sources == {"farm", "twisted", "setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"}


def test_package_lists_are_thrown_away_where_they_were_fetched() -> None:
    for name, rest in read_instructions():
        if name == "RUN" and "apt-get update" in rest:
            assert "rm -rf /var/lib/apt/lists/*" in rest
            assert "--no-install-recommends" in rest


def test_the_node_is_nobody_in_particular_and_runs_in_the_foreground() -> None:
    *_, final = stages()
    names = [name for name, _ in final]
    user = dict(final)["USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number, so that runAsNonRoot can tell that it is not root"
    assert names.index("USER") > max(number for number, name in enumerate(names) if name == "RUN")
    assert json.loads(last("ENTRYPOINT"))[:4] == ["twistd", "-n", "--pidfile=", "sipfarm"]
    assert last("STOPSIGNAL") == "SIGTERM"


def test_its_ports_and_places_are_those_of_the_example(tmp_path: Path) -> None:
    config = load(ROOT / "deploy" / "node.toml")
    assert last("VOLUME") == config.node.state_dir
    assert json.loads(last("ENTRYPOINT"))[-1] == "/etc/sipfarm/node.toml"
    exposed = set(last("EXPOSE").split())
    assert {f"{text.rpartition(':')[2]}/{text.partition(':')[0]}" for text in config.sip.listen} <= exposed
    assert f"{config.admin.http.rpartition(':')[2]}/tcp" in exposed
    assert f"http://{config.admin.http}/healthz" in last("ENV")


def test_the_health_check_tells_a_node_that_turns_from_none(nodes: Nodes) -> None:
    check = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert check[0] == "python3"
    node = nodes.start()
    environment = {"PATH": "/usr/bin:/bin", "HEALTH": f"http://{node.sip[0]}:9464/healthz"}
    assert subprocess.run(check, env=environment, timeout=30, check=False).returncode == 0
    node.kill()
    done = subprocess.run(check, env=environment, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1


def test_what_python_and_twistd_would_write_at_the_first_start_is_in_the_image() -> None:
    commands = " ".join(rest for name, rest in read_instructions() if name == "RUN")
    assert "compileall" in commands
    assert "getPlugins" in commands
    assert "PYTHONDONTWRITEBYTECODE=1" in last("ENV")


def test_a_node_writes_nothing_but_its_state(nodes: Nodes, hosts: Callable[[int], list[str]], tmp_path: Path) -> None:
    """As `--read-only` does: all files of the machine but those of the state directory."""
    need("unshare")
    if os.geteuid() != 0:
        give_up("mounts are for root")
    (host,) = hosts(1)
    state = tmp_path / host / "state"
    state.mkdir(parents=True)
    lock = (
        f"mount --make-rprivate / && mount --bind {state} {state} && mount -o remount,ro,bind / && ! touch {tmp_path}"
    )
    wrapper = ["unshare", "--mount", "sh", "-c", f'{lock}/x && exec "$@"', "sh"]
    node = nodes.start(host=host, wrapper=wrapper)
    with Agent(node.sip, user="alice") as phone:
        assert phone.register().status == 200
    assert not (tmp_path / "x").exists()
    assert node.stop() in STOPPED
    assert [path.name for path in state.iterdir() if path.name.startswith("journal")]
