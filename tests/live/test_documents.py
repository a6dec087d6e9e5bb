"""Every command of the documentation is run: each page is followed to the letter, on machines that are its own.

What cannot be tried stands in NOT_RUN with its reason; a block of commands that is neither run nor listed fails.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import Block, read_anchors, read_blocks, read_links, read_table
from tests.support.page_session import PageFailed, PageSession, is_listed
from tests.support.private_hosts import TREE, NoHosts, PrivateHosts
from tests.support.tools import give_up, need

ROOT: Final = Path(__file__).resolve().parent.parent.parent
HANDBOOK: Final = ROOT / "docs" / "handbook"
PAGES: Final = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
INSTALLING: Final = "python3 -m venv /opt/sipfarm"
ON_ONE_FARM: Final = (("upgrade.md", "lose-a-zone.md"), ("reached-by-name.md", "rotate-certificates.md"))
NO_TREE: Final = "the commands of docs/handbook/install.md failed; they need a package index that pip reaches:"
LANGUAGES: Final = {"sh", "text", "toml", "ini", "yaml", "sql", "csv", "json", "cfg", "xml", "html", "dns", "promql"}

_PACKAGE: Final = "tests/live/test_deploy_package.py builds the package, installs and removes it"
_ANSIBLE: Final = "wants machines with systemd; tests/live/test_deploy_ansible.py plays the role on one"
_KUBERNETES: Final = "wants a cluster; tests/live/test_deploy_kubernetes.py and test_deploy_upgrade.py try what can be"
_UPGRADE: Final = "docs/handbook/upgrade.md runs it, without sudo"
_NEWCOMER: Final = "a minute of alerts; tests/live/test_newcomer.py runs these very commands"

# A line of the block, and why a test does not run it here.
NOT_RUN: Final = {
    "make run": "sets up an environment from the network and runs until Ctrl-C; CI runs it on a bare machine",
    "make test": "this is one of its tests",
    "(cd tests/live/browser && npm ci)": "a browser's console follows; tests/live/test_browser.py does both",
    "python -m tests.support.kill_table": "a minute and a half; tests/live/test_kill_table.py runs a case of each sort",
    "make simulate SEEDS=0-5000": "an hour; `make test` runs the first two hundred",
    "sipfarm demo --dir /tmp/watch/farm": _NEWCOMER,
    "prometheus --config.file=deploy/prometheus.yml --storage.tsdb.path=/tmp/watch/prometheus": _NEWCOMER,
    "baresip -f /tmp/watch/1001": _NEWCOMER,
    "baresip -f /tmp/watch/1000 -e '/dial sip:1001@example.com' -t 5": _NEWCOMER,
    "GF_PATHS_PROVISIONING=$PWD/grafana/provisioning grafana server --homepath /usr/share/grafana": "no Debian package",
    'kill -9 "$(cat /tmp/watch/farm/n3/pid)"': _NEWCOMER,
    "twistd -n --pidfile= sipfarm -c /tmp/watch/farm/n3/node.toml": _NEWCOMER,
    "sipfarm members -c /tmp/watch/farm/n1/node.toml": _NEWCOMER,
    "ip address add 203.0.113.50/32 dev lo": "changes the kernel's settings of all; tests/live/test_moving_address.py",
    "SIPFARM_COMPILE=1 /opt/sipfarm/bin/pip install .": "a minute of gcc; tests/live/test_compiled.py builds it",
    "sipfarm status -c /tmp/watch/farm/n1/node.toml": _NEWCOMER,
    "deploy/build-deb": _PACKAGE,
    "deploy/rolling-upgrade --command 'ssh {name} sudo systemctl restart sipfarm' \\": _UPGRADE,
    "deploy/build-deb /root": _ANSIBLE,
    "kubectl label node worker-1 sipfarm.example/node=true": _KUBERNETES,
    "'kubectl -n sipfarm delete pod -l app.kubernetes.io/name=sipfarm "
    "--field-selector spec.nodeName={name}'": _KUBERNETES,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    return list(read_blocks(page.read_text(encoding="utf-8")))


def count_commands(pages: list[Path]) -> int:
    return sum(block.is_run for page in pages for block in blocks_of(page))


def sessions() -> list[list[Path]]:
    """The pages that are followed one after the other, those with the most commands first: each alone, but for the
    runbooks, which share a demo, and for those that leave a farm as the next one wants it."""
    together = [[page for page in PAGES if page.parent.name == "runbooks"]]
    together += [[HANDBOOK / name for name in names] for names in ON_ONE_FARM]
    taken = {page for pages in together for page in pages}
    found = [*together, *([page] for page in PAGES if page not in taken)]
    return sorted(filter(count_commands, found), key=count_commands, reverse=True)


@pytest.fixture(scope="session")
def machines() -> dict[str, list[str]]:
    """The machines of the handbook and their addresses, as its first page tells the reader."""
    rows = read_table((HANDBOOK / "README.md").read_text(encoding="utf-8"), "machine")
    return {row[0]: [address.strip() for address in row[1].split(",") if address.strip()] for row in rows}


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, machines: dict[str, list[str]]) -> Path:
    """What the commands of the handbook's page on installing make of a bare machine, made once for all pages."""
    need("unshare", "nsenter", "ip", "ssh", "sshd", "setpriv", "kamailio", "sqlite3", "sipsak", "baresip", "gpg")
    need("curl", "dig", "openssl")
    directory = tmp_path_factory.mktemp("installed")
    (block,) = [block for block in blocks_of(HANDBOOK / "install.md") if INSTALLING in block.text]
    try:
        with PrivateHosts(machines, directory / "hosts") as hosts:
            host = hosts[block.machines[0]]
            code, output = host.run(f"export PIP_RETRIES=1\n{block.text}", timeout=300, online=True)
            if code:
                pytest.fail(f"{NO_TREE}\n{output[-3000:]}", pytrace=False)
            kept = directory / "tree"
            subprocess.run(["cp", "-a", str(host.path(TREE)), str(kept)], check=True, timeout=60)
    except NoHosts as problem:
        give_up(str(problem))
    return kept


@pytest.fixture(scope="session")
def followed(
    request: pytest.FixtureRequest,
    machines: dict[str, list[str]],
    tree: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[None]]]:
    """The pages that this run is asked for, two at a time, since each waits more than it works; by their names."""
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = [call.params["pages"] for call in calls if call is not None and "pages" in call.params]
    with Readers(machines, tree, tmp_path_factory) as readers:
        yield {name_of(pages[0]): readers.begin(pages) for pages in wanted}


class Readers:
    """Two who follow one page after the other, each on machines of its own; use it in a `with` block, whose end ends
    what is under way."""

    def __init__(self, machines: dict[str, list[str]], tree: Path, directories: pytest.TempPathFactory) -> None:
        self._machines = machines
        self._tree = tree
        self._directories = directories
        self._pool = ThreadPoolExecutor(2)  # the machines end with the threads that made them, which the pool keeps
        self._busy: set[PrivateHosts] = set()

    def __enter__(self) -> Readers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for hosts in list(self._busy):
            hosts.stop()
        self._pool.shutdown()

    def begin(self, pages: list[Path]) -> Future[None]:
        """Follow them when there is a reader; the answer raises what a page does."""
        directory = self._directories.mktemp("pages")
        return self._pool.submit(self._follow, pages, directory / "hosts")

    def _follow(self, pages: list[Path], directory: Path) -> None:
        with PrivateHosts(self._machines, directory, self._tree) as hosts:
            self._busy.add(hosts)
            try:
                session = PageSession(hosts, ROOT, {**NOT_RUN, INSTALLING: "the tree of every machine was made so"})
                for page in pages:
                    session.follow(page, "demo" if page.parent.name == "runbooks" else "")
            finally:
                self._busy.discard(hosts)


@pytest.mark.parametrize("pages", sessions(), ids=lambda pages: name_of(pages[0]))
def test_who_does_what_a_page_says_gets_what_it_says(pages: list[Path], followed: dict[str, Future[None]]) -> None:
    followed[name_of(pages[0])].result()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    """So that no command hides in a block that nobody runs."""
    for block in blocks_of(page):
        assert block.language in LANGUAGES, f"{name_of(page)}:{block.line}: {block.language!r}"


def test_what_is_not_run_is_in_some_page() -> None:
    listed = {line for page in PAGES for block in blocks_of(page) if block.is_run for line in NOT_RUN}
    found = {
        line for page in PAGES for block in blocks_of(page) if block.is_run for line in NOT_RUN
        if is_listed(block, {line: ""})
    }  # fmt: skip
    assert found == listed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in read_links(page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:")):
            continue
        target, _, anchor = link.partition("#")
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{name_of(page)}: {link}"
        if anchor:
            assert anchor in read_anchors(found.read_text(encoding="utf-8")), f"{name_of(page)}: {link}"


def test_a_command_that_fails_is_a_page_that_fails(tmp_path: Path, machines: dict[str, list[str]]) -> None:
    """The runner itself: what it lets pass, it lets pass for all pages."""
    need("unshare", "nsenter", "ip")
    try:
        with PrivateHosts(machines, tmp_path / "hosts") as hosts:
            follow_right_and_wrong(hosts, tmp_path)
    except NoHosts as problem:
        give_up(str(problem))


def follow_right_and_wrong(hosts: PrivateHosts, directory: Path) -> None:
    for number, (text, problem) in enumerate(WRONG):
        page = directory / f"{number}.md"
        page.write_text(text.replace("'''", "```"))
        with pytest.raises(PageFailed) as failure:
            PageSession(hosts, directory, {}).follow(page)
        assert problem in str(failure.value)
    page = directory / "right.md"
    page.write_text(RIGHT.replace("'''", "```"))
    PageSession(hosts, directory, {}).follow(page)


WRONG: Final = [
    ("'''sh n1\nfalse\ntrue\n'''", "1 on n1 ended with 1"),
    ("'''sh n1\nfalse | cat\n'''", "ended with 1"),
    ("'''sh n1\necho $nothing\n'''", "unbound variable"),
    ("'''sh n1 fails\ntrue\n'''", "ended with 0"),
    ("'''sh\ntrue\n'''", "does not say on which machine"),
    ("'''sh n1\necho one two\n'''\n'''text output\none three\n'''", "nothing like 'one three'"),
    ("'''toml n1:/etc/sipfarm/node.toml\n[node]\nnam = 'x'\n'''", "nam"),
]
RIGHT: Final = """\
'''toml n1,n2:/etc/some/file
x = 1
'''
'''sh n1 n2
cat /etc/some/file
cd /tmp
export here=yes
'''
'''text output
x = …
'''
'''sh n1
test "$PWD $here $(hostname)" = "/tmp yes n1"
ssh n2 cat /etc/some/file
'''
'''sh n1 background
sleep 1000
'''
'''sh n2 fails
exit 3
'''
"""
