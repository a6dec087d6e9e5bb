"""A node reads who it is, talks TLS with nodes of its farm and nobody else, and takes new certificates as it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import SSL

from farm.config import ConfigError
from farm.security.certificate import is_pair, make_key, pack_certificate, pack_key
from farm.security.config_record import OverlayConfig
from farm.security.identity import Identity
from farm.security.overlay_config import sign_config
from farm.security.peer import PROTOCOL, PeerRefused, reason_of_failure
from tests.support.certificates import (
    BOTH,
    EXPIRED,
    FARM_KEY,
    NOON,
    NOT_YET,
    OVERLAY,
    VALID,
    make_certificate,
    make_identity,
    make_node_key,
    make_signer,
    node_id,
    seconds_of,
    shake_hands,
    uri_of,
    write_identity,
)

# ------------------------------------------------------------------------------------------------------ the files

LONGER = ("2020-01-01", "2119-06-01")


class TestFiles:
    def test_a_node_is_what_its_files_say(self, tmp_path: Path) -> None:
        config = OverlayConfig(3, OVERLAY, 5, denied=(node_id(9),))
        directory = write_identity(tmp_path / "identity", config=config)
        identity = Identity(str(directory), NOON, name="n1")
        assert identity.node_id == node_id(1)
        assert (identity.overlay, identity.name, identity.zone, identity.roles) == (OVERLAY, "n1", "east", BOTH)
        assert identity.not_after == seconds_of(VALID[1])
        assert identity.farm_key == FARM_KEY
        assert is_pair(identity.key, identity.certificate)
        assert list(identity.authorities) == [make_signer().certificate]
        assert identity.config == config
        assert identity.config_record == (directory / "overlay.config").read_bytes()
        assert node_id(9) in identity.denied
        assert node_id(1) not in identity.denied

    def test_a_configuration_of_the_overlay_need_not_be_there(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        assert identity.config is None
        assert identity.config_record == b""
        assert identity.denied == frozenset()

    @pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "farm.key"])
    def test_each_missing_file_is_named_with_what_makes_it(self, tmp_path: Path, name: str) -> None:
        write_identity(tmp_path)
        (tmp_path / name).unlink()
        with pytest.raises(ConfigError) as error:
            Identity(str(tmp_path), NOON)
        assert str(error.value) == (
            f"overlay.identity: {tmp_path / name}: is missing; `sipfarm ca issue` makes a node's identity"
        )

    @pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "farm.key", "overlay.config"])
    def test_nonsense_in_a_file_is_said_of_that_file(self, tmp_path: Path, name: str) -> None:
        write_identity(tmp_path)
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ConfigError, match=f"^overlay.identity: {tmp_path / name}: "):
            Identity(str(tmp_path), NOON)

    def test_a_directory_in_the_place_of_a_file_is_an_error_with_a_word(self, tmp_path: Path) -> None:
        write_identity(tmp_path)
        (tmp_path / "ca.pem").unlink()
        (tmp_path / "ca.pem").mkdir()
        with pytest.raises(ConfigError, match=r"ca\.pem: cannot be read: Is a directory"):
            Identity(str(tmp_path), NOON)

    @pytest.mark.parametrize("name", ["key.pem", "farm.key"])
    @pytest.mark.parametrize(
        ("mode", "taken"), [(0o600, True), (0o440, True), (0o644, False), (0o620, False), (0o604, False)]
    )
    def test_a_secret_that_others_can_read_is_refused(self, tmp_path: Path, name: str, mode: int, taken: bool) -> None:
        write_identity(tmp_path)
        (tmp_path / name).chmod(mode)
        if taken:
            Identity(str(tmp_path), NOON)
            return
        with pytest.raises(ConfigError, match=rf"{name}: is open to others \(mode {mode:04o}\): chmod 600 it"):
            Identity(str(tmp_path), NOON)

    @pytest.mark.parametrize(
        ("certificate", "problem"),
        [
            (make_certificate(1, key=make_node_key("n2")), r"is not for the key in key\.pem"),
            (make_certificate(1, signer=make_signer("foreign")), r"is from none of the authorities in ca\.pem"),
            (make_certificate(1, validity=EXPIRED), "expired on 2021-01-01; `sipfarm ca renew` it"),
            (make_certificate(1, validity=NOT_YET), "is valid from 2118-01-01 00:00 UTC only; is the clock right"),
            (make_certificate(1, names=[]), "is no node's"),
            (make_certificate(1, names=[uri_of(1), uri_of(2)]), "other names than one Node-ID"),
            (make_certificate(1, roles=()), "one role at least"),
            (make_certificate(1, common_names=["n2"]), "is that of n2, and this node is n1"),
        ],
        ids=["key", "authority", "expired", "early", "no name", "two names", "no role", "name"],
    )
    def test_a_certificate_that_does_not_fit_is_refused_with_the_reason(
        self, tmp_path: Path, certificate: x509.Certificate, problem: str
    ) -> None:
        write_identity(tmp_path, certificate=certificate)
        with pytest.raises(ConfigError, match=rf"cert\.pem: .*{problem}"):
            Identity(str(tmp_path), NOON, name="n1")

    def test_a_certificate_in_the_place_of_an_authority_is_refused(self, tmp_path: Path) -> None:
        write_identity(tmp_path)
        bundle = pack_certificate(make_signer().certificate) + pack_certificate(make_certificate(2))
        (tmp_path / "ca.pem").write_bytes(bundle)
        with pytest.raises(ConfigError, match=r"ca\.pem: certificate 2 is no authority's"):
            Identity(str(tmp_path), NOON)

    def test_a_farm_key_has_32_bytes(self, tmp_path: Path) -> None:
        write_identity(tmp_path)
        (tmp_path / "farm.key").write_bytes(b"short")
        with pytest.raises(ConfigError, match=r"farm\.key: has 5 bytes, not 32"):
            Identity(str(tmp_path), NOON)

    def test_a_configuration_that_is_not_our_authority_s_is_refused(self, tmp_path: Path) -> None:
        write_identity(tmp_path)
        foreign = sign_config(OverlayConfig(1, OVERLAY), make_signer("foreign").key)
        (tmp_path / "overlay.config").write_bytes(foreign)
        with pytest.raises(ConfigError, match=r"overlay\.config: .*not signed by our authority"):
            Identity(str(tmp_path), NOON)


# ------------------------------------------------------------------------------------------------------ reloading


class TestReload:
    def test_nothing_has_changed_until_a_file_has(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        assert identity.reload(NOON) is False
        before = identity.not_after
        write_identity(tmp_path / "n1", certificate=make_certificate(1, validity=LONGER))
        assert identity.reload(NOON) is True
        assert identity.not_after > before
        assert identity.reload(NOON) is False

    def test_what_was_prepared_is_in_force_when_it_is_taken(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        assert identity.prepare(NOON) is None
        before = identity.not_after
        write_identity(tmp_path / "n1", certificate=make_certificate(1, validity=LONGER))
        prepared = identity.prepare(NOON)
        assert prepared is not None
        assert identity.not_after == before
        identity.take(prepared)
        assert identity.not_after > before

    @pytest.mark.parametrize("other", [make_certificate(1, zones=["west"]), make_certificate(1, roles=["store"])])
    def test_a_running_node_stays_in_its_zone_and_keeps_its_roles(
        self, tmp_path: Path, other: x509.Certificate
    ) -> None:
        """The others would refuse its links: what it says of itself must be what its certificate says."""
        identity = make_identity(tmp_path)
        write_identity(tmp_path / "n1", certificate=other)
        with pytest.raises(ConfigError, match="another zone or other roles than the running node: restart it"):
            identity.reload(NOON)
        assert identity.zone == "east"
        assert Identity(str(tmp_path / "n1"), NOON).zone in ("east", "west")

    def test_a_renewed_certificate_is_shown_to_the_next_peer_and_open_links_stay(self, tmp_path: Path) -> None:
        identity, other = make_identity(tmp_path, 1), make_identity(tmp_path, 2)
        client, server = other.make_connection(False), identity.make_connection(True)
        assert shake_hands(client, server) == {}
        key = make_key()
        renewed = make_certificate(1, key=key, validity=LONGER)
        write_identity(tmp_path / "n1", certificate=renewed)
        (tmp_path / "n1" / "key.pem").write_bytes(pack_key(key))
        assert identity.reload(NOON)
        client.send(b"still here")
        server.bio_write(client.bio_read(65_536))
        assert server.recv(100) == b"still here"
        before = other.check_peer(client, NOON).not_after
        anew = other.make_connection(False)
        assert shake_hands(anew, identity.make_connection(True)) == {}
        assert other.check_peer(anew, NOON).not_after > before

    @pytest.mark.parametrize("name", ["key.pem", "cert.pem", "ca.pem", "farm.key"])
    def test_what_is_wrong_leaves_the_old_in_force(self, tmp_path: Path, name: str) -> None:
        identity, other = make_identity(tmp_path, 1), make_identity(tmp_path, 2)
        (tmp_path / "n1" / name).write_bytes(b"half")
        with pytest.raises(ConfigError):
            identity.reload(NOON)
        client = other.make_connection(False)
        assert shake_hands(client, identity.make_connection(True)) == {}
        assert other.check_peer(client, NOON).node_id == node_id(1)

    def test_a_running_node_does_not_become_another(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        write_identity(tmp_path / "n1", 2)
        with pytest.raises(ConfigError, match="another Node-ID than the running node"):
            identity.reload(NOON)
        assert identity.node_id == node_id(1)

    def test_an_authority_takes_over_from_another_without_a_gap(self, tmp_path: Path) -> None:
        """First all trust both, then all get new certificates, then the old one goes."""
        old, new = make_signer(), make_signer("new")
        one, two = make_identity(tmp_path, 1), make_identity(tmp_path, 2)
        steps: list[tuple[int, Callable[[], object]]] = [
            (1, lambda: write_identity(tmp_path / "n1", 1, authorities=[new, old])),
            (2, lambda: write_identity(tmp_path / "n2", 2, authorities=[new, old])),
            (
                1,
                lambda: write_identity(
                    tmp_path / "n1", 1, certificate=make_certificate(1, signer=new), authorities=[new, old]
                ),
            ),
            (
                2,
                lambda: write_identity(
                    tmp_path / "n2", 2, certificate=make_certificate(2, signer=new), authorities=[new]
                ),
            ),
            (
                1,
                lambda: write_identity(
                    tmp_path / "n1", 1, certificate=make_certificate(1, signer=new), authorities=[new]
                ),
            ),
        ]
        for number, change in steps:
            change()
            assert (one if number == 1 else two).reload(NOON)
            client, server = one.make_connection(False), two.make_connection(True)
            assert shake_hands(client, server) == {}
            assert one.check_peer(client, NOON).node_id == node_id(2)
            assert two.check_peer(server, NOON).node_id == node_id(1)
        for dialled in (False, True):
            assert attempt(one, context(make_certificate(2)), dialled=dialled) == "wrong-ca", "its authority has gone"

    def test_who_is_denied_follows_the_newest_configuration(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        assert identity.apply(OverlayConfig(5, OVERLAY, denied=(node_id(2),)))
        assert not identity.apply(OverlayConfig(4, OVERLAY, denied=(node_id(3),)))
        assert not identity.apply(OverlayConfig(5, OVERLAY))
        assert identity.denied == {node_id(2)}
        write_identity(tmp_path / "n1", config=OverlayConfig(4, OVERLAY))
        assert identity.reload(NOON)
        assert identity.denied == {node_id(2)}, "the file is older than what the overlay said"
        write_identity(tmp_path / "n1", config=OverlayConfig(6, OVERLAY, denied=(node_id(4),)))
        assert identity.reload(NOON)
        assert identity.denied == {node_id(4)}


# ------------------------------------------------------------------------------------------------------- the links


def context(
    certificate: x509.Certificate | None,
    *,
    number: int = 2,
    protocols: list[bytes] | None = None,
    newest: int = SSL.TLS1_3_VERSION,
) -> SSL.Context:
    """TLS of somebody who does as he likes and trusts everybody."""
    made = SSL.Context(SSL.TLS_METHOD)
    made.set_max_proto_version(newest)
    if certificate is not None:
        made.use_certificate(certificate)
        made.use_privatekey(make_node_key(f"n{number}"))
    chosen = [PROTOCOL] if protocols is None else protocols
    if chosen:
        made.set_alpn_protos(chosen)
        made.set_alpn_select_callback(lambda _, offered: chosen[0])
    return made


def attempt(identity: Identity, stranger: SSL.Context, *, dialled: bool) -> str:
    """The slug with which a node refuses a stranger that dials it, or that it dialled; "" when it takes him."""
    ours, his = identity.make_connection(not dialled), SSL.Connection(stranger, None)
    if dialled:
        his.set_accept_state()
    else:
        his.set_connect_state()
    failed = shake_hands(ours, his) if dialled else shake_hands(his, ours)
    error = failed.get("client" if dialled else "server")
    if error is not None:
        return reason_of_failure(ours, error)
    try:
        identity.check_peer(ours, NOON)
    except PeerRefused as refused:
        return refused.reason
    return ""


REFUSED = {
    "another authority": (make_certificate(2, signer=make_signer("foreign")), "wrong-ca"),
    "another overlay's authority": (make_certificate(2, signer=make_signer("o", "other.example")), "wrong-ca"),
    "another overlay": (make_certificate(2, names=[uri_of(2, "other.example")]), "wrong-overlay"),
    "expired": (make_certificate(2, validity=EXPIRED), "expired"),
    "not valid yet": (make_certificate(2, validity=NOT_YET), "expired"),
    "no Node-ID": (make_certificate(2, names=[]), "node-id-mismatch"),
    "a wildcard": (
        make_certificate(2, names=[x509.UniformResourceIdentifier(f"sipfarm://{OVERLAY}/*")]),
        "node-id-mismatch",
    ),
    "two URIs": (make_certificate(2, names=[uri_of(2), uri_of(3)]), "node-id-mismatch"),
    "no usage": (make_certificate(2, usage=None), "node-id-mismatch"),
    "usage of something else": (make_certificate(2, usage=(ExtendedKeyUsageOID.CODE_SIGNING,)), "wrong-role"),
    "no role": (make_certificate(2, roles=()), "wrong-role"),
    "denied": (make_certificate(2), "denied"),
}


class TestLinks:
    def test_two_nodes_of_one_farm_know_each_other_after_the_handshake(self, tmp_path: Path) -> None:
        one, two = make_identity(tmp_path, 1), make_identity(tmp_path, 2)
        client, server = one.make_connection(False), two.make_connection(True)
        assert shake_hands(client, server) == {}
        assert one.check_peer(client, NOON, node_id(2)).name == "n2"
        assert two.check_peer(server, NOON).name == "n1"
        for connection in (client, server):
            assert connection.get_protocol_version_name() == "TLSv1.3"
            assert connection.get_alpn_proto_negotiated() == b"sipfarm/1"
        with pytest.raises(PeerRefused) as refused:
            one.check_peer(client, NOON, node_id(3))
        assert refused.value.reason == "node-id-mismatch"

    @pytest.mark.parametrize("dialled", [False, True], ids=["he dials", "we dial"])
    @pytest.mark.parametrize("case", REFUSED)
    def test_a_stranger_is_refused_with_a_word_for_it(self, tmp_path: Path, case: str, dialled: bool) -> None:
        certificate, slug = REFUSED[case]
        identity = make_identity(tmp_path)
        if slug == "denied":
            identity.apply(OverlayConfig(2, OVERLAY, denied=(node_id(2),)))
        assert attempt(identity, context(certificate), dialled=dialled) == slug

    @pytest.mark.parametrize(
        ("usage", "dialled"), [(ExtendedKeyUsageOID.SERVER_AUTH, False), (ExtendedKeyUsageOID.CLIENT_AUTH, True)]
    )
    def test_a_certificate_for_the_other_end_is_refused(
        self, tmp_path: Path, usage: x509.ObjectIdentifier, dialled: bool
    ) -> None:
        stranger = context(make_certificate(2, usage=(usage,)))
        identity = make_identity(tmp_path)
        assert attempt(identity, stranger, dialled=dialled) == "wrong-role"
        assert attempt(identity, stranger, dialled=not dialled) == "wrong-role", "and at the end that it is for"

    def test_who_dials_without_a_certificate_is_refused(self, tmp_path: Path) -> None:
        assert attempt(make_identity(tmp_path), context(None), dialled=False) == "no-certificate"

    @pytest.mark.parametrize(
        "certificate",
        [None, make_certificate(2, signer=make_signer("foreign")), make_certificate(2, validity=EXPIRED)],
        ids=["none", "foreign", "expired"],
    )
    def test_who_has_no_certificate_of_ours_does_not_get_through_the_handshake(
        self, tmp_path: Path, certificate: x509.Certificate | None
    ) -> None:
        his = SSL.Connection(context(certificate), None)
        his.set_connect_state()
        assert set(shake_hands(his, make_identity(tmp_path).make_connection(True))) == {"client", "server"}

    @pytest.mark.parametrize("dialled", [False, True], ids=["he dials", "we dial"])
    @pytest.mark.parametrize("protocols", [[], [b"h2"], [b"sipfarm/2"]])
    def test_who_does_not_speak_our_protocol_is_refused(
        self, tmp_path: Path, protocols: list[bytes], dialled: bool
    ) -> None:
        stranger = context(make_certificate(2), protocols=protocols)
        assert attempt(make_identity(tmp_path), stranger, dialled=dialled) in ("version", "handshake")

    @pytest.mark.parametrize("dialled", [False, True], ids=["he dials", "we dial"])
    def test_an_older_tls_is_refused(self, tmp_path: Path, dialled: bool) -> None:
        stranger = context(make_certificate(2), newest=SSL.TLS1_2_VERSION)
        assert attempt(make_identity(tmp_path), stranger, dialled=dialled) in ("version", "handshake")

    def test_a_session_is_never_resumed_so_that_every_link_shows_its_certificate(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        stranger = context(make_certificate(2))
        his = SSL.Connection(stranger, None)
        his.set_connect_state()
        assert shake_hands(his, identity.make_connection(True)) == {}
        session = his.get_session()
        assert session is not None
        again = SSL.Connection(stranger, None)
        again.set_connect_state()
        again.set_session(session)
        ours = identity.make_connection(True)
        assert shake_hands(again, ours) == {}
        assert not was_resumed(again)
        assert identity.check_peer(ours, NOON).node_id == node_id(2)

    def test_trust_that_was_reloaded_counts_for_a_link_that_is_checked_late(self, tmp_path: Path) -> None:
        one, two = make_identity(tmp_path, 1), make_identity(tmp_path, 2)
        client, server = one.make_connection(False), two.make_connection(True)
        assert shake_hands(client, server) == {}
        new = make_signer("new")
        write_identity(tmp_path / "n1", 1, certificate=make_certificate(1, signer=new), authorities=[new])
        one.reload(NOON)
        with pytest.raises(PeerRefused) as refused:
            one.check_peer(client, NOON)
        assert refused.value.reason == "wrong-ca"
        with pytest.raises(PeerRefused) as refused:
            two.check_peer(server, seconds_of(VALID[1]) + 1)
        assert refused.value.reason == "expired"

    def test_a_connection_before_its_handshake_has_no_certificate(self, tmp_path: Path) -> None:
        identity = make_identity(tmp_path)
        with pytest.raises(PeerRefused) as refused:
            identity.check_peer(identity.make_connection(False), NOON)
        assert refused.value.reason == "no-certificate"


def was_resumed(connection: SSL.Connection) -> bool:
    """pyOpenSSL has no word for it: a resumed handshake of TLS 1.3 carries no certificate of the server."""
    return bool(SSL._lib.SSL_session_reused(connection._ssl))  # type: ignore[attr-defined]
