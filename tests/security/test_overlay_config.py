"""Only what our authority has signed is a configuration, and the newest one wins wherever it arrives."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import msgspec
import pytest

from farm.overlay.store import Kind
from farm.security.config_record import OverlayConfig, SignedConfig
from farm.security.overlay_config import (
    CONFIG_BYTES,
    ConfigKind,
    read_config,
    sign_config,
    verify_config,
)
from tests.support.certificates import OVERLAY, make_signer, node_id

OURS = make_signer()
NEW = make_signer("new")
FOREIGN = make_signer("foreign")
TRUSTED = [OURS.certificate]


def make(sequence: int = 1, **changes: object) -> OverlayConfig:
    return msgspec.structs.replace(OverlayConfig(sequence, OVERLAY), **changes)


def record(sequence: int = 1, **changes: object) -> bytes:
    return sign_config(make(sequence, **changes), OURS.key)


def kind() -> ConfigKind:
    return ConfigKind(OVERLAY, lambda: TRUSTED)


class TestSignature:
    def test_what_was_signed_is_read_as_it_was(self) -> None:
        config = make(3, replicas=5, domains=("example.com", "example.net"), denied=(node_id(1),), issued_at=7)
        signed = sign_config(config, OURS.key)
        assert verify_config(signed, TRUSTED, OVERLAY) == read_config(signed) == config

    def test_another_authority_s_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not signed by our authority"):
            verify_config(sign_config(make(), FOREIGN.key), TRUSTED, OVERLAY)
        with pytest.raises(ValueError, match="not signed by our authority"):
            verify_config(record(), [], OVERLAY)

    def test_either_of_two_authorities_may_sign_while_one_takes_over(self) -> None:
        both = [NEW.certificate, OURS.certificate]
        assert verify_config(record(), both, OVERLAY) == make()
        assert verify_config(sign_config(make(), NEW.key), both, OVERLAY) == make()

    def test_another_overlay_s_is_refused_although_the_authority_is_ours(self) -> None:
        with pytest.raises(ValueError, match=r"of other\.example, not of farm\.example"):
            verify_config(record(overlay="other.example"), TRUSTED, OVERLAY)

    def test_no_bit_can_be_changed(self) -> None:
        signed = record(denied=(node_id(1),))
        for place in range(len(signed)):
            changed = bytearray(signed)
            changed[place] ^= 1
            with pytest.raises(ValueError):
                verify_config(bytes(changed), TRUSTED, OVERLAY)

    def test_one_configuration_has_one_form(self) -> None:
        """Else anybody could make ever greater bytes of it, which would win."""
        signed = msgspec.msgpack.decode(record(), type=SignedConfig)
        longer = b"\x92\xc5" + len(signed.config).to_bytes(2, "big") + signed.config
        longer += b"\xc4" + bytes((len(signed.signature),)) + signed.signature
        assert msgspec.msgpack.decode(longer, type=SignedConfig) == signed
        with pytest.raises(ValueError, match="as it is packed"):
            verify_config(longer, TRUSTED, OVERLAY)
        more = msgspec.msgpack.encode([signed.config, signed.signature, 1])
        with pytest.raises(ValueError, match="as it is packed"):
            verify_config(more, TRUSTED, OVERLAY)

    @pytest.mark.parametrize("nonsense", [b"", b"\x90", b"\xc1", b"nonsense", b"\x91" * 2000, bytes(CONFIG_BYTES + 1)])
    def test_nonsense_is_refused(self, nonsense: bytes) -> None:
        with pytest.raises(ValueError, match="configuration"):
            read_config(nonsense)

    @pytest.mark.parametrize(
        "changes",
        [
            {"sequence": 0},
            {"overlay": ""},
            {"overlay": "Farm"},
            {"replicas": 0},
            {"replicas": 17},
            {"partitions": 1024},
            {"denied": (b"short",)},
            {"denied": tuple(node_id(1) for _ in range(2100))},
        ],
    )
    def test_what_no_overlay_can_have_is_not_signed(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            record(**{"sequence": 1, **changes})  # type: ignore[arg-type]

    def test_what_no_overlay_can_have_is_not_taken_although_it_is_signed(self) -> None:
        packed = msgspec.msgpack.encode(make(replicas=0))
        signature = msgspec.msgpack.decode(record(), type=SignedConfig).signature
        with pytest.raises(ValueError, match="replicas"):
            read_config(msgspec.msgpack.encode(SignedConfig(packed, signature)))


class TestKind:
    def test_it_is_a_kind_as_the_store_wants_it(self) -> None:
        stored: Kind = kind()
        assert (stored.name, stored.record_bytes) == ("config", 65_536)
        signed = record()
        assert stored.sweep(signed, 5.0).record is signed
        assert stored.shift(signed, 5.0) is signed
        with pytest.raises(ValueError, match="not a configuration"):
            stored.shift(b"nonsense", 5.0)
        assert stored.newest(signed) == 0
        assert stored.everywhere, "no partition: each node has it"
        assert stored.merge(None, signed, 5.0).due_at == float("inf")

    def test_the_greatest_sequence_wins_in_whatever_order_they_come(self) -> None:
        records = [record(1), record(2), record(2, replicas=4), record(2)]
        winners = set()
        for order in permutations(records):
            held: bytes | None = None
            for delta in order:
                held = kind().merge(held, delta, 1.0).record
            winners.add(held)
        assert winners == {max(records[1:])}
        a, b, c, _ = records

        def merge(one: bytes, other: bytes) -> bytes:
            return kind().merge(one, other, 1.0).record or b""

        assert merge(a, merge(b, c)) == merge(merge(a, b), c) == reduce(merge, [c, b, a, b, c])

    def test_what_lost_is_counted_and_the_first_is_the_only_one_that_is_new(self) -> None:
        one, two = record(1), record(2)
        taken = kind().merge(None, one, 1.0)
        assert (taken.live, taken.conflict) == (1, False)
        same = kind().merge(one, one, 1.0)
        assert (same.record is one, same.live, same.conflict) == (True, 0, False)
        newer = kind().merge(one, two, 1.0)
        assert (newer.record, newer.live, newer.conflict) == (two, 0, False)
        older = kind().merge(two, one, 1.0)
        assert (older.record is two, older.live, older.conflict) == (True, 0, True)

    def test_what_is_not_ours_never_replaces_anything(self) -> None:
        for delta in (sign_config(make(9), FOREIGN.key), record(9, overlay="other.example"), b"nonsense"):
            for held in (None, record(1)):
                with pytest.raises(ValueError):
                    kind().merge(held, delta, 1.0)

    def test_a_new_authority_s_word_replaces_that_of_one_which_is_trusted_no_more(self) -> None:
        """However high the sequence is that somebody with the old key has signed."""
        stolen = record(1_000_000)
        trusted = [OURS.certificate, NEW.certificate]
        changing = ConfigKind(OVERLAY, lambda: trusted)
        anew = sign_config(make(5), NEW.key)
        assert changing.merge(stolen, anew, 1.0).record is stolen
        trusted.remove(OURS.certificate)
        assert changing.merge(stolen, anew, 1.0).record == anew
        with pytest.raises(ValueError, match="not signed"):
            changing.merge(anew, stolen, 1.0)

    def test_the_node_is_told_of_what_is_newer_and_of_nothing_else(self) -> None:
        told: list[int] = []
        ours = kind()
        ours.changed = lambda config: told.append(config.sequence)
        one, two = record(1), record(2)
        ours.merge(None, one, 1.0)
        ours.merge(one, one, 1.0)
        ours.merge(one, two, 1.0)
        ours.merge(two, one, 1.0)
        assert told == [1, 2]

    def test_the_version_is_the_same_everywhere_and_differs_with_the_bytes(self) -> None:
        one, two = record(1), record(1)
        assert kind().version(one) == kind().version(bytes(bytearray(one)))
        assert kind().trace(one, 5.0) == kind().version(one)
        assert kind().version(one) != kind().version(two), "ECDSA signs twice in two ways"
        assert len(kind().version(one)) == 16
