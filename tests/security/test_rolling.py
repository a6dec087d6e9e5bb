"""A new authority takes over, and at no moment does a node refuse another."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from farm.security.authority import Authority, AuthorityError, make_authority
from farm.security.certificate import EDGE, STORE, is_signed_by, unpack_certificates
from farm.security.identity import Identity
from farm.security.overlay_config import verify_config
from farm.security.rolling import NEXT_KEY_NAME, Rolling
from tests.support.certificates import shake_hands

NOON = 1_600_000_000.0  # in 2020, since OpenSSL looks at the real time
DAY = 86_400.0
DAYS = 3650.0


@pytest.fixture
def place(tmp_path: Path) -> str:
    """An authority with three nodes, whose directories are the nodes' own."""
    directory = str(tmp_path / "ca")
    make_authority(directory, "farm.example", NOON)
    for name in ("n1", "n2", "n3"):
        Authority(directory).issue(name, "", STORE | EDGE, NOON, days=DAYS, out=str(tmp_path / name))
    return directory


def rolling(place: str) -> Rolling:
    """As each command opens it."""
    return Rolling(place)


def renew(place: str, *names: str) -> None:
    """New certificates, put where the nodes find them."""
    for name in names:
        Authority(place).renew(name, NOON + DAY, days=DAYS, out=str(Path(place).parent / name))


def identities(place: str) -> list[Identity]:
    return [Identity(str(Path(place).parent / name), NOON + DAY) for name in ("n1", "n2", "n3")]


def check_all(nodes: list[Identity]) -> None:
    """Every node lets every other in."""
    for one, other in permutations(nodes, 2):
        client = one.make_connection(False)
        server = other.make_connection(True)
        assert shake_hands(client, server) == {}
        assert one.check_peer(client, NOON + DAY).node_id == other.node_id
        assert other.check_peer(server, NOON + DAY).node_id == one.node_id


def test_no_link_is_refused_whichever_node_has_taken_its_files_already(place: str) -> None:
    nodes = identities(place)

    def take_one_by_one() -> None:
        for node, name in zip(nodes, ("n1", "n2", "n3"), strict=True):
            renew(place, name)
            assert node.reload(NOON + DAY)
            check_all(nodes)

    assert rolling(place).begin(NOON + DAY) == b""
    take_one_by_one()
    record = rolling(place).switch(NOON + DAY)
    for node in nodes:
        assert verify_config(record, node.authorities, "farm.example").sequence == 2, "all can read it at once"
    take_one_by_one()
    rolling(place).finish(NOON + DAY)
    take_one_by_one()
    (trusted,) = nodes[0].authorities
    assert trusted == Authority(place).signer
    assert rolling(place).status(NOON + DAY).stage == "settled"


def test_the_old_authority_is_worth_nothing_afterwards(place: str) -> None:
    old = Authority(place).signer
    key = (Path(place) / "ca-key.pem").read_bytes()
    for step in ("begin", "switch", "finish"):
        getattr(rolling(place), step)(NOON + DAY)
        renew(place, "n1", "n2", "n3")
    assert (Path(place) / "ca-key.pem").read_bytes() != key
    assert old not in identities(place)[0].authorities
    assert not (Path(place) / NEXT_KEY_NAME).exists()
    certificate = unpack_certificates((Path(place).parent / "n1" / "cert.pem").read_bytes())[0]
    assert not is_signed_by(certificate, [old])
    assert Authority(place).config().sequence == 2


def test_a_step_waits_for_nodes_that_do_not_have_the_one_before(place: str) -> None:
    rolling(place).begin(NOON + DAY)
    renew(place, "n1", "n3")
    status = rolling(place).status(NOON + DAY)
    assert (status.stage, status.behind) == ("begun", ("n2",))
    with pytest.raises(AuthorityError, match="n2 would refuse those that get a certificate from the new authority"):
        rolling(place).switch(NOON + DAY)
    assert rolling(place).status(NOON + DAY).stage == "begun"
    renew(place, "n2")
    rolling(place).switch(NOON + DAY)
    with pytest.raises(AuthorityError, match="n1, n2, n3 would be shut out"):
        rolling(place).finish(NOON + DAY)
    rolling(place).finish(NOON + DAY, force=True)
    assert rolling(place).status(NOON + DAY).behind == ("n1", "n2", "n3")


def test_nodes_that_are_denied_or_whose_certificates_have_expired_are_not_waited_for(place: str) -> None:
    rolling(place).begin(NOON + DAY)
    Authority(place).deny("n1", NOON + DAY)
    assert rolling(place).status(NOON + DAY).behind == ("n2", "n3")
    assert rolling(place).status(NOON + 4000 * DAY).behind == ()


def test_steps_are_taken_in_their_order(place: str) -> None:
    with pytest.raises(AuthorityError, match="one authority; what comes next is ca roll begin"):
        rolling(place).switch(NOON)
    with pytest.raises(AuthorityError, match="what comes next is ca roll begin"):
        rolling(place).finish(NOON)
    rolling(place).begin(NOON + DAY)
    with pytest.raises(AuthorityError, match="the old one signs; what comes next is ca roll switch"):
        rolling(place).begin(NOON + DAY)
    renew(place, "n1", "n2", "n3")
    rolling(place).switch(NOON + DAY)
    with pytest.raises(AuthorityError, match="the old one is still trusted; what comes next is ca roll finish"):
        rolling(place).switch(NOON + DAY)


def test_what_is_next_is_said_at_every_stage(place: str) -> None:
    assert rolling(place).status(NOON).advice == "nothing; ca roll begin has another authority take over"
    rolling(place).begin(NOON + DAY)
    assert rolling(place).status(NOON + DAY).advice.startswith("ca renew --all, for n1, n2, n3 too; put the files")
    renew(place, "n1", "n2", "n3")
    status = rolling(place).status(NOON + DAY)
    assert status.advice == "when every node has its files and was reloaded: ca roll switch"
    assert status.words == "a new authority is to be trusted, the old one signs"


def test_a_register_of_before_says_nothing_of_trust_and_nobody_is_behind(place: str) -> None:
    path = Path(place) / "register.jsonl"
    text = path.read_text()
    digest = Authority(place).trust_digest()
    path.write_text(text.replace(f'"trust":"{digest}"', '"trust":""'))
    assert path.read_text() != text
    assert rolling(place).status(NOON).behind == ()
    rolling(place).begin(NOON + DAY)
    assert rolling(place).status(NOON + DAY).behind == ("n1", "n2", "n3")


def test_a_switch_that_was_cut_short_can_be_finished(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power fails before the key is in its place, and then before the configuration is signed anew."""
    rolling(place).begin(NOON + DAY)
    renew(place, "n1", "n2", "n3")

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "rename", fail)
        with pytest.raises(AuthorityError):
            rolling(place).switch(NOON + DAY)
    assert rolling(place).status(NOON + DAY).stage == "begun"
    renew(place, "n1", "n2", "n3")
    with monkeypatch.context() as broken:
        broken.setattr(Rolling, "_sign_anew", fail)
        with pytest.raises(AuthorityError):
            rolling(place).switch(NOON + DAY)
    assert rolling(place).status(NOON + DAY).stage == "switched"
    renew(place, "n1", "n2", "n3")
    record = rolling(place).finish(NOON + DAY)
    assert verify_config(record, [Authority(place).signer], "farm.example").sequence == 2
    assert Authority(place).config().sequence == 2


def test_the_new_key_is_its_owner_s_alone_and_must_be_that_of_the_new_certificate(place: str) -> None:
    rolling(place).begin(NOON + DAY)
    path = Path(place) / NEXT_KEY_NAME
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes((Path(place).parent / "n1" / "key.pem").read_bytes())
    with pytest.raises(AuthorityError, match=r"is not the key of a certificate in ca\.pem"):
        rolling(place).status(NOON + DAY)


def test_a_node_says_what_it_trusts_as_the_authority_does(place: str) -> None:
    node = identities(place)[0]
    assert node.trust == Authority(place).trust_digest()
    rolling(place).begin(NOON + DAY)
    assert node.trust != Authority(place).trust_digest(), "the node has not got its files yet"
    renew(place, "n1")
    node.reload(NOON + DAY)
    assert node.trust == Authority(place).trust_digest()


def test_a_renewal_that_was_cut_short_counts_as_none(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next step would be taken while a node trusts the old authority alone."""
    rolling(place).begin(NOON + DAY)
    renew(place, "n1", "n2")
    with monkeypatch.context() as broken:
        broken.setattr(Authority, "_write", Power(1).use)
        with pytest.raises(AuthorityError):
            renew(place, "n3")
    assert rolling(place).status(NOON + DAY).behind == ("n3",)
    (known,) = [node for node in Authority(place).nodes() if node.name == "n3"]
    assert known.not_after == int(NOON + DAY + DAYS * DAY), "a certificate may be there that lives so long"


class Power:
    """Fails at the `fails_at`-th use, counted from 1, and for good."""

    def __init__(self, fails_at: int, real: Any = None) -> None:
        self._left = fails_at
        self._real = real

    def use(self, *arguments: Any) -> Any:
        self._left -= 1
        if self._left <= 0:
            raise OSError(5, "Input/output error")
        return self._real(*arguments)


@pytest.mark.parametrize("step", ["begin", "switch", "finish"])
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_whichever_write_the_power_fails_at_the_advice_leads_to_the_end_and_no_link_is_refused(
    place: str, step: str, cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, nodes = Authority(place).signer, identities(place)
    sequences = []
    has_failed = False
    for _ in range(10):
        status = rolling(place).status(NOON + DAY)
        if status.stage == "settled" and Authority(place).signer != old and not status.behind:
            break
        if status.behind:
            for node, name in zip(nodes, ("n1", "n2", "n3"), strict=True):
                renew(place, name)
                node.reload(NOON + DAY)
                check_all(nodes)
            continue
        next_step = {"settled": "begin", "begun": "switch", "switched": "finish"}[status.stage]
        with monkeypatch.context() as broken:
            if next_step == step and not has_failed:
                has_failed = True
                broken.setattr(os, "rename", Power(cut, os.rename).use)
            with suppress(AuthorityError):
                getattr(rolling(place), next_step)(NOON + DAY)
        sequences.append(Authority(place).config().sequence)
        check_all(nodes)
    else:
        raise AssertionError("it does not come to an end")
    assert has_failed
    assert sequences == sorted(sequences)
    assert nodes[0].authorities == (Authority(place).signer,)
    assert verify_config(Authority(place).config_record(), [Authority(place).signer], "farm.example").sequence == 2
    assert not (Path(place) / NEXT_KEY_NAME).exists()


def test_a_node_that_is_denied_stays_so_under_the_new_authority(place: str) -> None:
    denied = next(bytes.fromhex(node.node_id) for node in Authority(place).nodes() if node.name == "n3")
    Authority(place).deny("n3", NOON + DAY)
    for step in ("begin", "switch", "finish"):
        getattr(rolling(place), step)(NOON + DAY)
        renew(place, "n1", "n2")
        assert denied in Authority(place).config().denied
    with pytest.raises(AuthorityError, match="denied"):
        renew(place, "n3")


def test_a_command_that_was_begun_before_another_sees_what_that_one_did(place: str) -> None:
    two = rolling(place), rolling(place)
    two[0].begin(NOON + DAY)
    with pytest.raises(AuthorityError, match="what comes next is ca roll switch"):
        two[1].begin(NOON + DAY)
    early = Authority(place)
    renew(place, "n1", "n2", "n3")
    rolling(place).switch(NOON + DAY)
    early.renew("n1", NOON + DAY, days=DAYS, out=str(Path(place).parent / "n1"))
    assert rolling(place).status(NOON + DAY).behind == ("n2", "n3")
