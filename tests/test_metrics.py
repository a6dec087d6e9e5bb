"""The metric catalogue: rules that every family obeys, and that what the code counts is declared."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from farm.labels import PEER_REASONS, REASONS
from farm.metrics import PREFIX, Metrics
from farm.registrar.binding import KIND
from farm.security.credentials import KIND as CREDENTIAL
from farm.security.farm_keys import KIND as KEYS
from farm.security.overlay_config import KIND as CONFIG
from farm.series import OTHER
from farm.transaction.machines import CLIENT, INVITE_CLIENT, INVITE_SERVER, SERVER, State

ROOT = Path(__file__).parent.parent
COUNTED = ("_hops", "_rpcs")  # histograms of how many, which have no unit: the names are their measure
STRANGERS_LABELS = {"aor", "address", "ip", "user", "call_id", "user_agent", "node_id", "source"}


# What operators were promised, by name and labels: it may grow, and nothing of it may go or be called otherwise.
PROMISED = """
    members{state} membership_transitions_total{from,to,cause} churn_rate_per_hour{kind} size_estimate
    lookup_seconds{kind,result} lookup_hops lookup_rpcs rpc_seconds{type} rpc_timeouts_total{type} hedges_total{op}
    store_seconds{kind} fetch_seconds{kind} quorum_failures_total{op} degraded_writes_total replica_recall_ratio
    underreplicated_partitions{missing} repair_records_total{direction} repair_bytes_total{direction} repair_backlog
    sync_progress_ratio antientropy_mismatch_total merge_conflicts_total{kind} records{kind,role} tombstones
    clock_offset_seconds certificate_expiry_seconds peer_rejections_total{reason} overlay_bytes_total{direction,class}
    sip_requests_total{method,direction} sip_responses_total{method,class,direction} sip_transactions{type,state}
    sip_retransmissions_total{direction} sip_setup_added_seconds sip_request_delay_seconds{method} registrations
    registrations_total{result} flows{transport} relayed_messages_total{result} sip_rejected_total{reason}
    calls{state} calls_total{result} calls_ended_total{by} call_seconds sip_session_request_delay_seconds{result}
    sip_registration_delay_seconds
    dns_answers_total{type,rcode} zone_serial resolver_seconds{result} event_loop_lag_seconds
"""


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


def test_what_is_rendered_is_what_prometheus_client_would_write(metrics: Metrics) -> None:
    """`Family.write` reads values where the library keeps them: another version may keep them elsewhere."""
    metrics.set_build("1.2.3")
    metrics.gateway_up.declare('sip:a"\\\n@gateway.example.com')
    metrics.size_estimate.child().set_function(lambda: 1 / 0)
    for number, family in enumerate(metrics.families):
        for _, child in family:
            child.observe(number / 7) if family.kind == "histogram" else child.inc(10.0**number)
    metrics.clock_offset.child().set(-0.25)
    registry = CollectorRegistry()
    registry.register(metrics)
    written = generate_latest(registry)
    assert metrics.render()[: len(written)] == written
    assert metrics.render()[len(written) :].startswith(b"# HELP process_")


def test_names_have_prefix_and_unit_and_meaning(metrics: Metrics) -> None:
    names = [family.name for family in metrics.families]
    assert len(set(names)) == len(names)
    for family in metrics.families:
        assert re.fullmatch("sipfarm_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter") or family.name == PREFIX + "registrations"
        assert family.kind != "histogram" or family.name.endswith(("_seconds", *COUNTED))
        assert family.meaning.endswith(".") or family.name.endswith("_info")


def test_every_promised_metric_is_there_with_its_labels(metrics: Metrics) -> None:
    labels = {family.name: family.labels for family in metrics.families}
    for promised in PROMISED.split():
        name, _, names = promised.rstrip("}").partition("{")
        assert labels[PREFIX + name] == tuple(names.split(",") if names else ()), name


def test_no_label_can_be_grown_by_a_stranger(metrics: Metrics) -> None:
    for family in metrics.families:
        assert not STRANGERS_LABELS & set(family.labels), family.name


def test_series_exist_from_the_start_and_are_few(metrics: Metrics) -> None:
    lines = metrics.render().decode().splitlines()
    assert 'sipfarm_sip_requests_total{direction="in",method="INVITE"} 0.0' in lines


def test_a_node_with_everything_configured_has_at_most_2000_series(metrics: Metrics) -> None:
    """All that only the configuration brings: a hundred gateways, which are more than any has."""
    metrics.set_build("1.2.3")
    for number in range(100):
        metrics.gateway_up.declare(f"sip:gateway{number}.example.net;transport=tls")
    assert count_series(metrics) <= 2000


def test_however_many_values_strangers_make_up_they_add_no_more_than_other(metrics: Metrics) -> None:
    def come(numbers: range) -> int:
        for number in numbers:
            for family in metrics.families:
                family.child(*[f"X-{number}"] * len(family.labels))
        return count_series(metrics)

    assert come(range(1)) == come(range(1, 50))


def test_what_a_scrape_costs_grows_with_the_series_alone(metrics: Metrics) -> None:
    """Not timed: the functions that are called are counted, on a farm that has worked."""
    for family in metrics.families:
        for _, child in family:
            for number in range(50):
                child.observe(number / 7) if family.kind == "histogram" else child.inc(number / 7)
    assert count_calls(metrics) < 12 * count_series(metrics)


def test_what_is_counted_elsewhere_is_asked_once_a_scrape(metrics: Metrics) -> None:
    asked: list[float] = []

    def ask() -> float:
        asked.append(3.0)
        return 3.0

    metrics.size_estimate.child().set_function(ask)
    metrics.render()
    assert len(asked) == 1


def count_calls(metrics: Metrics) -> int:
    """Functions that one scrape calls."""
    metrics.render()
    calls = [0]

    def note(_frame: object, event: str, _argument: object) -> None:
        calls[0] += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        metrics.render()
    finally:
        sys.setprofile(None)
    return calls[0]


def count_series(metrics: Metrics) -> int:
    """Series of one scrape."""
    return sum(1 for line in metrics.render().splitlines() if not line.startswith(b"#"))


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


def test_changes_of_a_state_that_cannot_be_have_no_series(metrics: Metrics) -> None:
    declared = {labels for labels, _ in metrics.membership_transitions}
    assert {("none", "alive", "link"), ("alive", "suspect", "probe"), ("suspect", "dead", "timeout")} <= declared
    assert not [labels for labels in declared if labels[0] == labels[1] or labels[1] == "none"]
    assert {after for _, after, cause in declared if cause == "timeout"} == {"dead"}


def test_every_kind_of_record_is_counted_under_its_name(metrics: Metrics) -> None:
    kinds = {KIND, CREDENTIAL, KEYS, CONFIG}
    assert {kind for (kind, _), _ in metrics.records} == {*kinds, OTHER}
    assert {kind for (kind,), _ in metrics.store_seconds} == {*kinds, OTHER} - {CONFIG}, "that is not stored by owners"


def test_every_family_is_counted_by_something() -> None:
    """A metric that nothing counts reads 0 for ever, which is worse than none."""
    code = "\n".join(path.read_text() for path in (ROOT / "farm").rglob("*.py") if path.name != "metrics.py")
    declared = re.findall(
        r"self\.([a-z_]+) = self\._(?:counter|gauge|histogram)\(", (ROOT / "farm/metrics.py").read_text()
    )
    assert len(declared) == len(Metrics().families)
    unused = [name for name in declared if name != "build_info" and not re.search(rf"\.{name}\b", code)]
    assert not unused
