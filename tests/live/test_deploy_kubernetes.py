"""The manifests: right by Kubernetes' own schemas; they say the same as settings, container file and each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from farm.config import load

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
MANIFESTS = DEPLOY / "kubernetes"
VERSIONS = ("1.29", "1.33", "1.37")


def read(name: str) -> dict[str, Any]:
    """One manifest."""
    (document,) = yaml.safe_load_all((MANIFESTS / name).read_text())
    return dict(document)


RESOURCES: list[str] = read("kustomization.yaml")["resources"]


def test_the_list_of_manifests_names_all_of_them() -> None:
    assert {*RESOURCES, "kustomization.yaml"} == {path.name for path in MANIFESTS.glob("*.yaml")}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", RESOURCES)
def test_kubernetes_would_take_it(name: str, version: str) -> None:
    kubernetes_validate.validate(read(name), version, strict=True)


def test_the_check_would_find_a_slip() -> None:
    wrong = read("daemonset.yaml")
    wrong["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


def pod() -> dict[str, Any]:
    """The pod of the DaemonSet."""
    return dict(read("daemonset.yaml")["spec"]["template"]["spec"])


def container() -> dict[str, Any]:
    """Its only container."""
    (only,) = pod()["containers"]
    return dict(only)


def make_environment() -> dict[str, str]:
    """What the container's environment is on a machine."""
    given = {"NODE_NAME": "worker-1", "POD_IP": "10.0.0.1"}
    for variable in container()["env"]:
        if "value" in variable:
            given[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda word: given[word[1]], variable["value"])
    return given


def test_the_configuration_is_one_with_the_addresses_of_the_machine(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(read("configmap.yaml")["data"]["node.toml"])
    config = load(tmp_path / "node.toml", (), make_environment())
    assert config.node.name == "worker-1"
    assert config.sip.listen == ("udp:10.0.0.1:5060", "tcp:10.0.0.1:5060")
    assert (config.overlay.listen, config.admin.http) == ("10.0.0.1:7400", "10.0.0.1:9464")
    service = read("service.yaml")["metadata"]
    assert config.overlay.seeds == (f"{service['name']}.{service['namespace']}.svc.cluster.local:7400",)


def test_what_the_configuration_names_is_mounted_where_the_node_may_write_only_its_state(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(read("configmap.yaml")["data"]["node.toml"])
    mounts = {mount["mountPath"]: mount for mount in container()["volumeMounts"]}
    assert [path for path, mount in mounts.items() if not mount.get("readOnly")] == [
        load(tmp_path / "node.toml").node.state_dir
    ]
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert {mount["name"] for mount in mounts.values()} == set(volumes)
    assert volumes["config"]["configMap"]["name"] == read("configmap.yaml")["metadata"]["name"]
    entry = re.search(r'ENTRYPOINT .*"-c", "(.*)"\]', (DEPLOY / "Containerfile").read_text())
    assert entry is not None
    assert Path(entry[1]) == Path(mounts["/etc/sipfarm"]["mountPath"], "node.toml")


def test_the_ports_are_those_that_the_node_listens_to() -> None:
    environment = make_environment()
    listens = environment["SIPFARM__SIP__LISTEN"].split(",")
    expected = {(int(text.rpartition(":")[2]), text.partition(":")[0].upper()) for text in listens}
    for name in ("SIPFARM__OVERLAY__LISTEN", "SIPFARM__ADMIN__HTTP"):
        expected.add((int(environment[name].rpartition(":")[2]), "TCP"))
    assert {(port["containerPort"], port["protocol"]) for port in container()["ports"]} == expected
    (peers,) = read("service.yaml")["spec"]["ports"]
    assert peers["port"] == int(environment["SIPFARM__OVERLAY__LISTEN"].rpartition(":")[2])
    annotations = read("daemonset.yaml")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == environment["SIPFARM__ADMIN__HTTP"].rpartition(":")[2]


def test_ready_is_in_step_alive_is_the_event_loop_and_a_stop_drains_first() -> None:
    one = container()
    assert one["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert one["livenessProbe"]["httpGet"] == one["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    *command, seconds = one["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["sipfarm", "drain", "--timeout"]
    unit = (DEPLOY / "sipfarm.service").read_text()
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None
    assert pod()["terminationGracePeriodSeconds"] > int(seconds) + int(stop[1]), "the one time is for both"


def test_one_node_at_a_time_is_taken_and_all_objects_mean_the_same_pods() -> None:
    labels = read("daemonset.yaml")["spec"]["template"]["metadata"]["labels"]
    budget = read("disruption-budget.yaml")["spec"]
    assert isinstance(budget["minAvailable"], int)  # a share, or maxUnavailable, is of nothing for a DaemonSet
    assert "maxUnavailable" not in budget
    assert read("daemonset.yaml")["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert read("daemonset.yaml")["spec"]["selector"]["matchLabels"] == labels
    assert budget["selector"]["matchLabels"] == labels
    assert read("service.yaml")["spec"]["selector"] == labels
    assert read("service.yaml")["spec"]["clusterIP"] == "None"


def test_the_pod_has_the_machine_s_network_and_nothing_else_of_it() -> None:
    assert (pod()["hostNetwork"], pod()["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    everyone, own = pod()["securityContext"], container()["securityContext"]
    user = re.search(r"^USER (\d+):(\d+)$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert user is not None
    assert (str(everyone["runAsUser"]), str(everyone["runAsGroup"])) == user.groups()
    assert everyone["runAsNonRoot"] is True
    assert everyone["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod()["automountServiceAccountToken"] is False


def test_no_secret_is_among_them() -> None:
    text = "".join((MANIFESTS / name).read_text() for name in RESOURCES)
    assert "kind: Secret" not in text
    assert "PRIVATE KEY" not in text
