"""An authority is made once, gives each node its own place and its own files, and loses nothing by a failure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from farm.security.authority import Authority, AuthorityError, make_authority
from farm.security.certificate import EDGE, STORE, lifetime_of, unpack_certificates
from farm.security.identity import Identity
from farm.security.overlay_config import verify_config
from tests.support.certificates import shake_hands

NOON = 1_800_000_000.0
DAY = 86_400.0
BOTH = STORE | EDGE


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    make_authority(str(tmp_path / "ca"), "farm.example", NOON, domains=["Example.COM."])
    return Authority(str(tmp_path / "ca"))


def contents(directory: Path | str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.is_file()}


class TestMaking:
    @pytest.mark.parametrize("umask", [0o000, 0o077])
    def test_an_authority_s_secrets_are_its_owner_s_alone(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            make_authority(str(tmp_path / "a" / "ca"), "farm.example", NOON)
        finally:
            os.umask(before)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "ca").iterdir()}
        assert modes == {
            "ca-key.pem": 0o600,
            "ca.pem": 0o644,
            "farm.key": 0o600,
            "lock": 0o600,
            "overlay.config": 0o644,
            "register.jsonl": 0o600,
        }
        assert (tmp_path / "a" / "ca").stat().st_mode & 0o777 == 0o700
        assert len((tmp_path / "a" / "ca" / "farm.key").read_bytes()) == 32

    def test_the_first_configuration_has_sequence_1(self, authority: Authority) -> None:
        config = authority.config()
        assert (config.sequence, config.overlay, config.replicas) == (1, "farm.example", 3)
        assert (config.domains, config.denied, config.issued_at) == (("example.com",), (), int(NOON))
        assert authority.overlay == "farm.example"
        assert authority.nodes() == []

    @pytest.mark.parametrize("name", ["ca-key.pem", "ca.pem", "farm.key", "register.jsonl"])
    def test_what_is_there_is_never_overwritten(self, authority: Authority, name: str) -> None:
        for path in Path(authority.directory).iterdir():
            if path.name != name:
                path.unlink()
        before = contents(authority.directory)
        with pytest.raises(AuthorityError, match=f"{name}: exists; an authority is never overwritten"):
            make_authority(authority.directory, "farm.example", NOON)
        assert contents(authority.directory) == {**before, "lock": b""}

    @pytest.mark.parametrize("overlay", ["", "Farm", "a/b", "a b", "-a", "a" * 64, "a\n"])
    def test_a_name_that_no_certificate_can_have_is_refused(self, tmp_path: Path, overlay: str) -> None:
        with pytest.raises(AuthorityError, match="is no name of an overlay"):
            make_authority(str(tmp_path / "ca"), overlay, NOON)
        assert not (tmp_path / "ca").exists()

    def test_bad_domains_and_replicas_are_refused_before_anything_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(AuthorityError, match="'exa mple' is no domain"):
            make_authority(str(tmp_path / "ca"), "a", NOON, domains=["exa mple"])
        with pytest.raises(AuthorityError, match="1 to 16 replicas"):
            make_authority(str(tmp_path / "ca"), "a", NOON, replicas=0)
        assert not (tmp_path / "ca").exists()

    def test_a_directory_that_cannot_be_made_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(AuthorityError, match=f"^{tmp_path / 'file' / 'ca'}: Not a directory$"):
            make_authority(str(tmp_path / "file" / "ca"), "a", NOON)


class TestOpening:
    def test_a_directory_without_an_authority_says_what_makes_one(self, tmp_path: Path) -> None:
        with pytest.raises(AuthorityError, match=r"ca\.pem: is missing; `sipfarm ca init` makes an authority"):
            Authority(str(tmp_path))

    def test_a_key_that_is_not_the_certificate_s_is_refused(self, authority: Authority, tmp_path: Path) -> None:
        make_authority(str(tmp_path / "other"), "farm.example", NOON)
        (tmp_path / "other" / "ca-key.pem").rename(tmp_path / "ca" / "ca-key.pem")
        with pytest.raises(AuthorityError, match="is not the key of"):
            Authority(authority.directory)

    def test_a_broken_register_is_named_with_its_line(self, authority: Authority) -> None:
        Path(authority.directory, "register.jsonl").write_bytes(b"{}\n")
        for order in (authority.nodes, lambda: authority.issue("n1", "", BOTH, NOON)):
            with pytest.raises(AuthorityError, match=r"register\.jsonl: line 1: "):
                order()

    def test_nonsense_in_the_key_is_one_line(self, authority: Authority) -> None:
        Path(authority.directory, "ca-key.pem").write_bytes(b"nonsense")
        with pytest.raises(AuthorityError, match="is no private key"):
            Authority(authority.directory)


class TestIssuing:
    def test_a_node_has_all_that_it_needs_in_one_directory(self, authority: Authority, tmp_path: Path) -> None:
        issued = authority.issue("n1", "east", STORE, NOON, days=10, out=str(tmp_path / "state" / "identity"))
        directory = tmp_path / "state" / "identity"
        assert {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()} == {
            "key.pem": 0o600,
            "cert.pem": 0o644,
            "ca.pem": 0o644,
            "farm.key": 0o600,
            "overlay.config": 0o644,
        }
        assert directory.stat().st_mode & 0o777 == 0o700
        identity = Identity(str(directory), NOON, name="n1")
        assert identity.node_id.hex() == issued.node.node_id
        assert (identity.overlay, identity.zone, identity.roles) == ("farm.example", "east", STORE)
        assert identity.not_after == NOON + 10 * DAY == issued.node.not_after
        assert identity.config == authority.config()
        assert identity.farm_key == Path(authority.directory, "farm.key").read_bytes()
        assert authority.nodes() == [issued.node]

    def test_two_nodes_of_one_authority_talk_to_each_other(self, tmp_path: Path) -> None:
        """OpenSSL asks the real clock: the authority is of 2024, and good for 20 years."""
        wall = 1_704_067_200.0
        make_authority(str(tmp_path / "ca"), "farm.example", wall)
        authority = Authority(str(tmp_path / "ca"))
        one, two = (
            Identity(authority.issue(name, "", BOTH, wall, days=36_500).directory, NOON) for name in ("n1", "n2")
        )
        client, server = one.make_connection(False), two.make_connection(True)
        assert shake_hands(client, server) == {}
        assert one.check_peer(client, NOON, two.node_id).name == "n2"
        assert two.check_peer(server, NOON, one.node_id).name == "n1"

    def test_node_ids_are_spread_evenly(self, authority: Authority) -> None:
        places = sorted(int(authority.issue(f"n{i}", "", BOTH, NOON).node.node_id[:8], 16) for i in range(30))
        gaps = [after - before for before, after in zip(places, [*places[1:], places[0] + (1 << 32)], strict=True)]
        assert set(gaps) <= {1 << 27, (1 << 27) - 1, (1 << 27) + 1, 1 << 28, (1 << 28) - 1, (1 << 28) + 1}

    def test_a_name_has_one_node_and_a_directory_one_identity(self, authority: Authority, tmp_path: Path) -> None:
        first = authority.issue("n1", "", BOTH, NOON)
        before = contents(first.directory)
        with pytest.raises(AuthorityError, match="n1 is enrolled already"):
            authority.issue("n1", "", BOTH, NOON, out=str(tmp_path / "again"))
        with pytest.raises(AuthorityError, match=r"key\.pem: exists; an identity is never overwritten"):
            authority.issue("n2", "", BOTH, NOON, out=first.directory)
        assert contents(first.directory) == before
        assert len(authority.nodes()) == 1
        assert not (tmp_path / "again").exists()

    @pytest.mark.parametrize(("name", "zone"), [("", ""), ("../x", ""), ("a b", ""), ("n1", "a/b"), ("n1", "z" * 64)])
    def test_bad_names_are_refused(self, authority: Authority, name: str, zone: str) -> None:
        with pytest.raises(AuthorityError, match="is no name of a"):
            authority.issue(name, zone, BOTH, NOON)
        assert authority.nodes() == []

    def test_a_node_id_is_never_given_out_twice_though_the_files_could_not_be_written(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        rename = os.rename

        def fail(source: str, target: str) -> None:
            if target.endswith("cert.pem"):
                raise OSError(28, "No space left on device", target)
            rename(source, target)

        monkeypatch.setattr(os, "rename", fail)
        with pytest.raises(AuthorityError, match=r"cert\.pem: No space left on device"):
            authority.issue("n1", "", BOTH, NOON)
        monkeypatch.undo()
        (lost,) = authority.nodes()
        other = authority.issue("n2", "", BOTH, NOON)
        assert other.node.node_id != lost.node_id
        again = authority.renew("n1", NOON)
        assert again.node.node_id == lost.node_id
        assert Identity(again.directory, NOON).node_id.hex() == lost.node_id


class TestRenewing:
    @pytest.mark.parametrize("by", ["name", "directory", "digits"])
    def test_a_node_keeps_its_node_id_and_its_key_and_gets_a_new_expiry(self, authority: Authority, by: str) -> None:
        issued = authority.issue("n1", "east", EDGE, NOON)
        identity = Identity(issued.directory, NOON)
        key = Path(issued.directory, "key.pem").read_bytes()
        what = {"name": "n1", "directory": issued.directory, "digits": issued.node.node_id[:8]}[by]
        renewed = authority.renew(what, NOON + 20 * DAY, days=40)
        assert renewed.directory == issued.directory
        assert renewed.node.not_after == NOON + 60 * DAY
        assert authority.nodes() == [renewed.node]
        assert identity.reload(NOON + 20 * DAY)
        assert identity.not_after == NOON + 60 * DAY
        assert (identity.node_id.hex(), identity.zone, identity.roles) == (issued.node.node_id, "east", EDGE)
        assert Path(issued.directory, "key.pem").read_bytes() == key

    def test_a_new_key_can_be_had(self, authority: Authority) -> None:
        issued = authority.issue("n1", "", BOTH, NOON)
        key = Path(issued.directory, "key.pem").read_bytes()
        authority.renew("n1", NOON, new_key=True)
        assert Path(issued.directory, "key.pem").read_bytes() != key
        assert Identity(issued.directory, NOON).node_id.hex() == issued.node.node_id

    def test_a_renewed_node_gets_the_newest_configuration(self, authority: Authority) -> None:
        issued = authority.issue("n1", "", BOTH, NOON)
        authority.change_config(NOON, replicas=5)
        authority.renew("n1", NOON)
        config = Identity(issued.directory, NOON).config
        assert config is not None
        assert (config.sequence, config.replicas) == (2, 5)

    def test_an_expired_node_can_be_renewed_and_keeps_its_place(self, authority: Authority) -> None:
        issued = authority.issue("n1", "", BOTH, NOON)
        assert authority.renew(issued.directory, NOON + 400 * DAY).node.node_id == issued.node.node_id

    def test_who_is_unknown_of_another_overlay_or_denied_is_not_renewed(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        with pytest.raises(AuthorityError, match="no node is called 'n1'"):
            authority.renew("n1", NOON)
        make_authority(str(tmp_path / "other"), "other.example", NOON)
        foreign = Authority(str(tmp_path / "other")).issue("n1", "", BOTH, NOON)
        with pytest.raises(AuthorityError, match=r"is for other\.example, and this is the authority of farm\.example"):
            authority.renew(foreign.directory, NOON)
        issued = authority.issue("n1", "", BOTH, NOON)
        authority.deny("n1", NOON)
        for what in ("n1", issued.directory):
            with pytest.raises(AuthorityError, match="is denied: issue a new identity"):
                authority.renew(what, NOON)


class TestConfiguration:
    def test_who_is_denied_stands_in_the_next_configuration(self, authority: Authority) -> None:
        issued = authority.issue("n1", "", BOTH, NOON)
        authority.issue("n2", "", BOTH, NOON)
        node, record = authority.deny(issued.node.node_id[:6], NOON + 5)
        assert (node.name, node.denied) == ("n1", True)
        config = verify_config(record, authority.certificates, "farm.example")
        assert (config.sequence, config.issued_at) == (2, int(NOON + 5))
        assert config.denied == (bytes.fromhex(node.node_id),)
        assert config.domains == ("example.com",)
        assert authority.config_record() == record

    def test_a_denied_name_can_be_given_to_a_new_node_elsewhere(self, authority: Authority, tmp_path: Path) -> None:
        first = authority.issue("n1", "", BOTH, NOON)
        authority.deny("n1", NOON)
        again = authority.issue("n1", "", BOTH, NOON, out=str(tmp_path / "again"))
        assert again.node.node_id != first.node.node_id
        assert authority.config().denied == (bytes.fromhex(first.node.node_id),)

    def test_a_denial_lasts_until_no_certificate_of_the_node_is_valid(self, authority: Authority) -> None:
        authority.issue("n1", "", BOTH, NOON, days=10)
        authority.deny("n1", NOON)
        config, _ = authority.change_config(NOON + 40 * DAY)
        assert len(config.denied) == 1
        config, _ = authority.change_config(NOON + 41 * DAY)
        assert config.denied == ()

    def test_each_change_has_the_next_sequence_and_leaves_the_rest(self, authority: Authority) -> None:
        config, _ = authority.change_config(NOON, replicas=4)
        assert (config.sequence, config.replicas, config.domains) == (2, 4, ("example.com",))
        config, record = authority.change_config(NOON, domains=["b.example", "B.example", "a.example"])
        assert (config.sequence, config.replicas, config.domains) == (3, 4, ("b.example", "a.example"))
        assert Path(authority.directory, "overlay.config").read_bytes() == record

    def test_an_unknown_node_is_not_denied(self, authority: Authority) -> None:
        with pytest.raises(AuthorityError, match="no node is called 'n9'"):
            authority.deny("n9", NOON)
        assert authority.config().sequence == 1


def test_a_certificate_begins_an_hour_early(authority: Authority) -> None:
    issued = authority.issue("n1", "", BOTH, NOON)
    (certificate,) = unpack_certificates(Path(issued.directory, "cert.pem").read_bytes())
    assert lifetime_of(certificate)[0] == NOON - 3600
