"""`sipfarm ca`: what operators type, read and get as exit code."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from farm.admin.control import OrderError
from farm.security.authority import Authority
from farm.security.certificate import EDGE, STORE
from farm.security.identity import Identity
from farm.security.overlay_config import read_config
from tests.admin.test_cli import Terminal

DAY = 86_400


class Farm(Terminal):
    """A console beside a running node that takes new configurations."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environ = {}
        self.ca = folder / "ca"
        self.taken: list[bytes] = []
        self.refuses = ""

    def ca_type(self, *arguments: str) -> int:
        return self.type("ca", *arguments, "--dir", str(self.ca))

    def run(self, order: str, fields: object, seconds: float = 60.0) -> dict[str, object]:
        if not self.running:
            return super().run(order, {})
        assert order == "new-config"
        assert isinstance(fields, dict)
        if self.refuses:
            raise OrderError(self.refuses)
        self.taken.append(base64.b64decode(fields["record"]))
        return {}


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    made = Farm(tmp_path)
    assert made.ca_type("init", "--overlay", "farm.example", "--domain", "example.com") == 0
    return made


def test_init_says_what_it_made_and_never_makes_it_twice(farm: Farm) -> None:
    assert farm.out == f"{farm.ca}: authority of farm.example; keep it off the nodes, and keep a copy\n"
    before = (farm.ca / "ca-key.pem").read_bytes()
    assert farm.ca_type("init", "--overlay", "farm.example") == 1
    assert farm.out == ""
    assert farm.err == f"sipfarm: {farm.ca}/ca-key.pem: exists; an authority is never overwritten\n"
    assert (farm.ca / "ca-key.pem").read_bytes() == before


def test_issue_gives_a_node_both_roles_for_30_days_unless_told_otherwise(farm: Farm) -> None:
    assert farm.ca_type("issue", "n1") == 0
    node = Authority(str(farm.ca)).nodes()[0]
    assert (node.roles, node.zone, node.not_after - node.issued_at) == (["store", "edge"], "", 30 * DAY)
    assert farm.out.startswith(f"{farm.ca}/nodes/n1: n1, Node-ID {node.node_id[:16]}…, until ")
    out = farm.ca.parent / "identity"
    assert farm.ca_type("issue", "n2", "--zone", "east", "--role", "edge", "--days", "0.5", "--out", str(out)) == 0
    identity = Identity(str(out), Authority(str(farm.ca)).nodes()[1].issued_at)
    assert (identity.name, identity.zone, identity.roles) == ("n2", "east", EDGE)
    assert farm.ca_type("issue", "n3", "--role", "edge", "--role", "store", "--role", "edge", "--json") == 0
    answer = json.loads(farm.out)
    assert (answer["name"], answer["roles"], answer["directory"]) == ("n3", ["store", "edge"], f"{farm.ca}/nodes/n3")
    assert Identity(answer["directory"], node.issued_at).roles == EDGE | STORE


@pytest.mark.parametrize(
    "arguments",
    [
        ["issue"],
        ["issue", "n1", "--role", "king"],
        ["issue", "n1", "--days", "0"],
        ["issue", "n1", "--days", "4000"],
        ["issue", "n1", "--days", "nan"],
        ["issue", "n1", "--days", "x"],
        ["init"],
        ["config", "--replicas", "0"],
        ["config", "--replicas", "17"],
        ["burn"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_2_and_changes_nothing(farm: Farm, arguments: list[str]) -> None:
    assert farm.ca_type(*arguments) == 2
    assert Authority(str(farm.ca)).nodes() == []
    assert Authority(str(farm.ca)).config().sequence == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["issue", "a b"], "'a b' is no name of a node (letters, digits, ., _ and -; at most 63)"),
        (["renew", "n9"], "no node is called 'n9', and no Node-ID begins so"),
        (["deny", "n9"], "no node is called 'n9', and no Node-ID begins so"),
        (["config", "--domain", "a b"], "'a b' is no domain"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_1(farm: Farm, arguments: list[str], problem: str) -> None:
    assert farm.ca_type(*arguments) == 1
    assert farm.out == ""
    assert farm.err.endswith(f"{problem}\n")
    assert farm.err.count("\n") == 1


def test_a_missing_authority_is_one_line(farm: Farm) -> None:
    farm.ca = farm.ca.parent / "none"
    assert farm.ca_type("issue", "n1") == 1
    assert farm.err == f"sipfarm: {farm.ca}/ca.pem: is missing; `sipfarm ca init` makes an authority\n"
    assert farm.ca_type("list", "--json") == 1
    assert json.loads(farm.out)["error"].endswith("makes an authority")


def test_renew_takes_a_name_or_a_directory(farm: Farm) -> None:
    out = farm.ca.parent / "identity"
    farm.ca_type("issue", "n1", "--out", str(out))
    (node,) = Authority(str(farm.ca)).nodes()
    assert farm.ca_type("renew", str(out), "--days", "90") == 0
    (renewed,) = Authority(str(farm.ca)).nodes()
    assert (renewed.node_id, renewed.not_after - renewed.issued_at) == (node.node_id, 90 * DAY)
    key = (out / "key.pem").read_bytes()
    assert farm.ca_type("renew", "n1", "--out", str(out), "--new-key") == 0
    assert (out / "key.pem").read_bytes() != key


def test_deny_tells_the_farm_through_the_node_that_is_named(farm: Farm) -> None:
    farm.ca_type("issue", "n1")
    (node,) = Authority(str(farm.ca)).nodes()
    assert farm.ca_type("deny", "n1", "-c", str(farm.path)) == 0
    assert farm.out == f"n1 ({node.node_id[:16]}…) is denied from sequence 2 on\nthe node has it\n"
    (record,) = farm.taken
    assert record == (farm.ca / "overlay.config").read_bytes()
    assert read_config(record).denied == (bytes.fromhex(node.node_id),)


def test_deny_without_a_node_says_where_the_configuration_is(farm: Farm) -> None:
    farm.environ = {"SIPFARM_CONFIG": str(farm.path)}
    farm.ca_type("issue", "n1")
    assert farm.ca_type("deny", "n1") == 0
    assert farm.out.splitlines()[-1] == (
        f"{farm.ca}/overlay.config: hand it to one running node with -c node.toml, "
        "or copy it into an identity and reload that node"
    )
    assert farm.taken == []
    assert farm.ca_type("config", "-c", str(farm.path)) == 0, "what is signed can be handed out later"
    assert read_config(farm.taken[0]).sequence == 2


@pytest.mark.parametrize("broken", ["not running", "refused", "bad configuration"])
def test_a_node_that_does_not_take_it_is_exit_1_and_the_denial_stands(farm: Farm, broken: str) -> None:
    farm.ca_type("issue", "n1")
    if broken == "not running":
        farm.running = False
    elif broken == "refused":
        farm.refuses = "the node is alone"
    else:
        farm.path.write_text("[nod]\n")
    assert farm.ca_type("deny", "n1", "-c", str(farm.path)) == 1
    assert f"{farm.ca}/overlay.config is signed, but the node did not take it: " in farm.out
    assert len(Authority(str(farm.ca)).config().denied) == 1
    assert farm.ca_type("deny", "n1", "-c", str(farm.path), "--json") == 1
    answer = json.loads(farm.out)
    assert (answer["handed_out"], answer["sequence"]) == (False, 3)
    assert "did not take it" in answer["error"]


def test_config_shows_and_changes_what_all_nodes_agree_on(farm: Farm) -> None:
    assert farm.ca_type("config", "--json") == 0
    shown = json.loads(farm.out)
    assert (shown["sequence"], shown["replicas"], shown["domains"], shown["denied"]) == (1, 3, ["example.com"], [])
    assert farm.ca_type("config", "--replicas", "4", "--domain", "a.example", "--domain", "b.example") == 0
    lines = farm.out.splitlines()
    assert lines[1].startswith("sequence: 2, of ")
    assert lines[2:5] == ["replicas: 4", "domains: a.example, b.example", "denied: nobody"]
    assert farm.ca_type("config", "--json", "-c", str(farm.path)) == 0
    assert json.loads(farm.out)["handed_out"] is True
    assert Authority(str(farm.ca)).config().sequence == 2, "to look changes nothing"


def test_list_shows_every_node_that_was_enrolled(farm: Farm) -> None:
    assert farm.ca_type("list") == 0
    assert farm.out == ""
    farm.ca_type("issue", "n1", "--zone", "east")
    farm.ca_type("issue", "n2")
    farm.ca_type("deny", "n2")
    assert farm.ca_type("list") == 0
    first, second = farm.out.splitlines()
    assert first.startswith("n1  ")
    assert "  east  edge,store  until " in first
    assert second.endswith("  -  edge,store  denied")
    assert farm.ca_type("list", "--json") == 0
    assert [node["denied"] for node in json.loads(farm.out)["nodes"]] == [False, True]


def test_renew_all_renews_every_node_that_is_not_denied(farm: Farm) -> None:
    for name in ("n1", "n2", "n3"):
        farm.ca_type("issue", name)
    farm.ca_type("deny", "n2")
    assert farm.ca_type("renew", "--all", "--days", "90", "--json") == 0
    rows = json.loads(farm.out)["nodes"]
    assert [(row["name"], row["directory"]) for row in rows] == [
        ("n1", f"{farm.ca}/nodes/n1"),
        ("n3", f"{farm.ca}/nodes/n3"),
    ]
    assert farm.ca_type("renew", "--all") == 0
    assert len(farm.out.splitlines()) == 2
    for wrong in (["renew"], ["renew", "n1", "--all"], ["renew", "--all", "--out", "/tmp"]):
        assert farm.ca_type(*wrong) == 1
        assert farm.err == "sipfarm: name a node or a directory, or say --all, which takes no --out\n"


def test_another_authority_takes_over_in_three_steps_and_says_what_is_next(farm: Farm) -> None:
    farm.ca_type("issue", "n1")
    assert farm.ca_type("roll") == 0
    assert farm.out.splitlines() == [
        f"{farm.ca}: one authority",
        f"trust: {Authority(str(farm.ca)).trust_digest()}",
        "next: nothing; ca roll begin has another authority take over",
    ]
    assert farm.ca_type("roll", "begin") == 0
    assert "next: ca renew --all, for n1 too" in farm.out
    assert farm.ca_type("roll", "switch") == 1
    assert farm.err.startswith("sipfarm: n1 would refuse those")
    farm.ca_type("renew", "--all")
    assert farm.ca_type("roll", "switch", "-c", str(farm.path)) == 0
    assert read_config(farm.taken[0]).sequence == 2, "the node hears what the new authority has signed"
    assert farm.ca_type("roll", "finish", "--json") == 1
    farm.ca_type("renew", "--all")
    assert farm.ca_type("roll", "finish", "--json") == 0
    answer = json.loads(farm.out)
    assert (answer["stage"], answer["behind"], answer["handed_out"]) == ("settled", ["n1"], False)
    assert farm.ca_type("roll", "switch") == 1


def test_a_finish_that_is_forced_shuts_out_who_is_behind(farm: Farm) -> None:
    farm.ca_type("issue", "n1")
    farm.ca_type("roll", "begin")
    farm.ca_type("renew", "--all")
    farm.ca_type("roll", "switch")
    assert farm.ca_type("roll", "finish", "--force") == 0
    assert len(Authority(str(farm.ca)).certificates) == 1
