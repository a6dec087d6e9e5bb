"""What a node does not do, by the roles in its certificate, and what is then wrong in its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from farm.config import Config, ConfigError
from farm.security.certificate import EDGE, STORE
from farm.security.roles import apply_roles, find_roles, identity_directory
from farm.settings import TlsSettings
from tests.support.certificates import make_certificate, write_identity

USUAL = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")


def make(directory: Path, overlay: dict[str, Any] | None = None, **sip: Any) -> Config:
    tree: dict[str, Any] = {
        "node": {"name": "n1", "state_dir": str(directory)},
        "sip": {"domains": ["example.com"], **sip},
        "overlay": {"listen": "192.0.2.1:7400", **(overlay or {})},
        "routes": [{"domain": "elsewhere.net", "to": ["sip:192.0.2.7"]}],
        "gateways": [{"prefix": "+49", "to": ["sip:192.0.2.8"]}],
    }
    return msgspec.convert(tree, Config)


@pytest.mark.parametrize("roles", [EDGE, STORE | EDGE])
def test_an_edge_runs_its_configuration_as_it_is(tmp_path: Path, roles: int) -> None:
    config = make(tmp_path)
    assert apply_roles(config, roles) is config
    assert config.sip.listen == USUAL


@pytest.mark.parametrize("roles", [EDGE, STORE | EDGE])
def test_an_edge_to_which_nothing_could_come_is_refused(tmp_path: Path, roles: int) -> None:
    with pytest.raises(ConfigError, match=r"^sip.listen: is empty: nothing could come in"):
        apply_roles(make(tmp_path, listen=[]), roles)


@pytest.mark.parametrize("sip", [{}, {"listen": []}, {"listen": list(USUAL)}])
def test_a_node_inside_listens_nowhere_and_asks_no_gateway(tmp_path: Path, sip: dict[str, Any]) -> None:
    config = make(tmp_path, **sip)
    inside = apply_roles(config, STORE)
    assert (inside.sip.listen, inside.routes, inside.gateways) == ((), (), ())
    assert inside.sip.domains == ("example.com",)
    assert inside.overlay == config.overlay
    assert len(config.gateways) == 1


@pytest.mark.parametrize("key", ["listen", "proxy_listen"])
def test_a_listener_of_a_node_inside_is_a_mistake(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^sip.{key}: the certificate has the role store alone"):
        apply_roles(make(tmp_path, None, **{key: ["tcp:192.0.2.1:5060"]}), STORE)


def test_an_edge_behind_balancers_alone_is_one(tmp_path: Path) -> None:
    config = make(tmp_path, listen=[], proxy_listen=["tcp:192.0.2.1:5070"])
    assert apply_roles(config, EDGE) is config


def test_certificates_for_phones_are_not_looked_for_inside(tmp_path: Path) -> None:
    """The file may be the one that all nodes share."""
    config = msgspec.structs.replace(make(tmp_path), tls=TlsSettings(certificates=("/nowhere.pem",)))
    assert apply_roles(config, STORE).tls.certificates == ()
    assert apply_roles(config, EDGE).tls.certificates == ("/nowhere.pem",)


def test_the_roles_are_those_of_the_certificate_where_one_can_be_read(tmp_path: Path) -> None:
    config = make(tmp_path)
    assert identity_directory(config) == str(tmp_path / "identity")
    assert find_roles(config) is None
    write_identity(tmp_path / "identity", certificate=make_certificate(roles=("edge",)))
    assert find_roles(config) == EDGE
    (tmp_path / "identity" / "cert.pem").write_text("nothing")
    assert find_roles(config) is None
    write_identity(tmp_path / "other", certificate=make_certificate(roles=("store",)))
    assert find_roles(make(tmp_path, {"identity": str(tmp_path / "other")})) == STORE
    assert find_roles(make(tmp_path, {"listen": "", "identity": str(tmp_path / "other")})) is None
