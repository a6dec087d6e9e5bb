"""The metric catalogue: rules that every family obeys, and that what the code counts is declared."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farm.labels import PEER_REASONS, REASONS
from farm.metrics import PREFIX, Metrics
from farm.transaction.machines import CLIENT, INVITE_CLIENT, INVITE_SERVER, SERVER, State

ROOT = Path(__file__).parent.parent
COUNTED = ("_hops", "_rpcs")  # histograms of how many, which have no unit: the names are their measure
STRANGERS_LABELS = {"aor", "address", "ip", "user", "call_id", "user_agent", "node_id", "source"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def test_prometheus_reads_what_is_rendered(metrics: Metrics) -> None:
    metrics.sip_requests.child("INVITE", "in").inc()
    metrics.set_build("1.2.3")
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    samples = families["sipfarm_sip_requests"].samples
    assert sum(sample.value for sample in samples) == 1
    assert families["sipfarm_build_info"].samples[0].labels["version"] == "1.2.3"
    assert "process_cpu_seconds" in families
    assert "process_resident_memory_bytes" in families
    assert not [name for name in families if name.endswith("_created")]


def test_names_have_prefix_and_unit_and_meaning(metrics: Metrics) -> None:
    names = [family.name for family in metrics.families]
    assert len(set(names)) == len(names)
    for family in metrics.families:
        assert re.fullmatch("sipfarm_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter") or family.name == PREFIX + "registrations"
        assert family.kind != "histogram" or family.name.endswith(("_seconds", *COUNTED))
        assert family.meaning.endswith(".") or family.name.endswith("_info")


def test_no_label_can_be_grown_by_a_stranger(metrics: Metrics) -> None:
    for family in metrics.families:
        assert not STRANGERS_LABELS & set(family.labels), family.name


def test_series_exist_from_the_start_and_are_few(metrics: Metrics) -> None:
    lines = metrics.render().decode().splitlines()
    assert 'sipfarm_sip_requests_total{direction="in",method="INVITE"} 0.0' in lines
    assert len(lines) < 2000


def test_what_the_code_counts_with_fixed_labels_is_declared(metrics: Metrics) -> None:
    """Every `….family.child("a", "b")` whose values stand in the source."""
    for path in (ROOT / "farm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "child"):
                continue
            family = node.func.value
            values = [value.value for value in node.args if isinstance(value, ast.Constant)]
            if isinstance(family, ast.Attribute) and hasattr(metrics, family.attr) and len(values) == len(node.args):
                declared = [labels for labels, _ in getattr(metrics, family.attr)]
                assert tuple(values) in declared, f"{path}:{node.lineno}"


def test_every_state_of_the_machines_is_declared(metrics: Metrics) -> None:
    tables = {"invite-server": INVITE_SERVER, "server": SERVER, "invite-client": INVITE_CLIENT, "client": CLIENT}
    states = {(kind, state.value) for kind, table in tables.items() for state in table if state is not State.TERMINATED}
    assert {values for values, _ in metrics.sip_transactions} == states


def test_every_reason_in_the_code_is_declared() -> None:
    """`reason="…"` of a SipError or a drop, and `sip_rejected.child("…")`."""
    used: dict[str, Path] = {}
    for path in (ROOT / "farm").rglob("*.py"):
        if path.parent.name == "overlay":
            continue
        for found in re.finditer(
            r"""(?:\breason=|sip_rejected\.child\(|\bnote(?:_rejection)?\()"([a-z0-9-]+)\"""", path.read_text()
        ):
            used[found[1]] = path
    missing = {reason: path.name for reason, path in used.items() if reason not in REASONS}
    assert not missing


def test_every_reason_to_refuse_a_peer_is_declared() -> None:
    """`refuse("…")` of a link, `WireError("…")`, `PeerRefused("…")` and what is counted in `peer_rejections`."""
    used: dict[str, Path] = {}
    for path in [*(ROOT / "farm" / "overlay").rglob("*.py"), ROOT / "farm" / "security" / "peer.py"]:
        pattern = r"""\b(?:refuse|note|WireError|PeerRefused|_?(?:peer_)?rejections\.child)\("([a-z0-9-]+)\""""
        for found in re.finditer(pattern, path.read_text()):
            used[found[1]] = path
    assert {"no-hello", "oversize-frame", "denied", "bad-frame", "clock", "too-many-links"} <= set(used)
    used.pop("linked")  # a dial too many, which is nobody's fault
    missing = {reason: path.name for reason, path in used.items() if reason not in PEER_REASONS}
    assert not missing


def test_attributes_are_the_families_and_nothing_is_declared_elsewhere(metrics: Metrics) -> None:
    held = {id(value) for value in vars(metrics).values()}
    assert {id(family) for family in metrics.families} <= held
    for path in (ROOT / "farm").rglob("*.py"):
        if path.name not in ("metrics.py", "series.py"):
            assert "Family(" not in path.read_text(), path


def test_every_family_is_counted_by_something() -> None:
    """A metric that nothing counts reads 0 for ever, which is worse than none."""
    code = "\n".join(path.read_text() for path in (ROOT / "farm").rglob("*.py") if path.name != "metrics.py")
    declared = re.findall(
        r"self\.([a-z_]+) = self\._(?:counter|gauge|histogram)\(", (ROOT / "farm/metrics.py").read_text()
    )
    assert len(declared) == len(Metrics().families)
    unused = [name for name in declared if name != "build_info" and not re.search(rf"\.{name}\b", code)]
    assert not unused
