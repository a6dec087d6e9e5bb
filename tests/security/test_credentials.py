"""Records merge the same on every node; the authenticator lets the right users in and tells the others nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.security.credentials import (
    KIND,
    Authenticated,
    Authenticator,
    CredentialKind,
    Refused,
    Verdict,
    make_aor,
    make_credential,
    merge_credentials,
    pack_credential,
    unpack_credential,
)
from farm.security.limits import SourceLimits
from farm.security.nonces import Origin, Use
from farm.security.record import Credential
from farm.sip import digest
from farm.sip.hop import Hop
from farm.sip.message import Request, make_header
from farm.sip.status import SipError
from farm.sip.uri import aor_of, parse_uri
from tests.support.digest import answer_challenge, parse_challenge
from tests.support.tools import give_up

NOON = 1_800_000_000.0
REALM = "example.com"
NONE_YET = 'Digest username="alice", realm="example.com", nonce="", uri="sip:example.com", response=""'

# ---------------------------------------------------------------------------------------------------- records

credentials_strategy = st.builds(
    Credential,
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.sampled_from([REALM, "example.net"]),
    st.dictionaries(
        st.sampled_from(["MD5", "SHA-256"]), st.tuples(st.binary(max_size=4), st.binary(max_size=4)), max_size=2
    ),
    st.booleans(),
    st.booleans(),
)
records = credentials_strategy.map(pack_credential)


class TestRecords:
    @given(records, records, records)
    def test_the_merge_does_not_depend_on_order_grouping_or_repetition(self, a: bytes, b: bytes, c: bytes) -> None:
        results = {reduce(merge_credentials, order) for order in permutations((a, b, c))}
        results.add(merge_credentials(a, merge_credentials(b, c)))
        results.add(reduce(merge_credentials, (a, b, c, b, a)))
        assert len(results) == 1
        assert merge_credentials(a, a) == a

    @given(st.lists(records, min_size=1, max_size=6))
    def test_the_kind_counts_users_and_tombstones_as_they_come_and_go(self, deltas: list[bytes]) -> None:
        kind = CredentialKind()
        held: bytes | None = None
        live = tombstones = 0
        for delta in deltas:
            kept = kind.merge(held, delta, 1.0)
            assert kept.record is not None
            assert kept.due_at == float("inf")
            assert kept.conflict == (kept.record != delta)
            held = kept.record
            live += kept.live
            tombstones += kept.tombstones
        assert held is not None
        deleted = unpack_credential(held).deleted
        assert (live, tombstones) == (int(not deleted), int(deleted))
        assert kind.newest(held) == max(unpack_credential(delta).stamp for delta in deltas)[0]

    def test_a_record_neither_lapses_nor_holds_a_time(self) -> None:
        kind = CredentialKind()
        packed = pack_credential(make_credential("alice", REALM, "secret", (1, 1)))
        assert kind.sweep(packed, 1e12) == (packed, float("inf"), 0, 0, False)
        assert kind.shift(packed, 1000.0) == packed
        assert len(packed) <= kind.record_bytes

    @pytest.mark.parametrize("junk", [b"", b"\x00", b"\xc0", b"\x93\x01\x02\x03", b"junk"])
    def test_bytes_that_are_no_record_are_a_value_error(self, junk: bytes) -> None:
        with pytest.raises(ValueError, match="not a credential"):
            unpack_credential(junk)
        with pytest.raises(ValueError, match="not a credential"):
            CredentialKind().merge(None, junk, 1.0)

    @given(st.text(min_size=1, max_size=20))
    def test_an_aor_made_of_a_name_is_the_aor_of_its_uri(self, user: str) -> None:
        try:
            aor = make_aor(user, "Example.com")
        except SipError:
            return
        assert aor.endswith("@example.com")
        assert aor_of(parse_uri(aor)) == aor


# ---------------------------------------------------------------------------------------------------- verdicts


class Farm:
    """An authenticator with a user, a wall clock to turn, and a phone's view of it."""

    def __init__(self, **settings: object) -> None:
        self.wall = NOON
        self.records: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.far = False
        self.limits = SourceLimits(failures_per_minute=3, ban_seconds=600)
        self.authenticator = self.start(**settings)  # type: ignore[arg-type]
        self.add("alice", "secret")

    def start(self, secret: bytes = b"k" * 32, **settings: object) -> Authenticator:
        return Authenticator(
            self,
            (secret,),
            limits=self.limits,
            wall=lambda: self.wall,
            rng=random.Random(1),
            **settings,  # type: ignore[arg-type]
        )

    def get(self, kind: str, key: str, now: float) -> bytes | Awaitable[bytes | None] | None:
        assert kind == KIND
        self.asked.append(key)
        if not self.far:
            return self.records.get(key)

        async def later() -> bytes | None:
            await asyncio.sleep(0)
            return self.records.get(key)

        return later()

    def add(self, user: str, password: str, **flags: bool) -> None:
        made = make_credential(user, REALM, password, (1, 1), **flags)
        self.records[make_aor(user, REALM)] = pack_credential(made)

    def check(
        self,
        *values: str,
        method: str = "REGISTER",
        uri: str = "sip:example.com",
        header: str = "authorization",
        body: bytes = b"",
        host: str = "192.0.2.7",
        now: float = 1.0,
    ) -> Authenticated | Refused:
        request = Request(method, uri, [make_header(header, value) for value in values], body)
        request.source = Hop("UDP", host, 5060)
        verdict = self.authenticator.check(request, REALM, header, now)
        assert isinstance(verdict, Authenticated | Refused)
        return verdict

    def challenges(self, header: str = "authorization") -> list[str]:
        refused = self.check(header=header)
        assert isinstance(refused, Refused)
        return [value for _, value in refused.headers]

    def answer(self, user: str = "alice", password: str = "secret", **how: object) -> str:
        return answer_challenge(self.challenges()[-1], user, password, **how)  # type: ignore[arg-type]


def finish(farm: Farm, value: str) -> Authenticated | Refused:
    """The verdict on a REGISTER with these credentials, which is not known at once."""
    request = Request("REGISTER", "sip:example.com", [make_header("authorization", value)], b"")
    request.source = Hop("UDP", "192.0.2.7", 5060)
    waiting = farm.authenticator.check(request, REALM, "authorization", 1.0)
    assert isinstance(waiting, Awaitable)

    async def wait() -> Verdict:
        return await waiting

    return asyncio.run(wait())


ALICE = Authenticated("sip:alice@example.com")


def is_stale(verdict: Authenticated | Refused) -> bool:
    assert isinstance(verdict, Refused)
    stale = {parse_challenge(value).get("stale") for _, value in verdict.headers}
    assert len(stale) == 1
    return stale == {"true"}


def reason_of(verdict: Authenticated | Refused) -> tuple[int, str]:
    assert isinstance(verdict, Refused)
    return (verdict.status, verdict.reason)


class TestChallenges:
    def test_a_request_without_credentials_is_challenged_with_every_algorithm_in_order(self) -> None:
        verdict = Farm().check()
        assert reason_of(verdict) == (401, "no-credentials")
        assert isinstance(verdict, Refused)
        nonces = {parse_challenge(value)["nonce"] for _, value in verdict.headers}
        assert len(nonces) == 1
        nonce = nonces.pop()
        assert verdict.headers == tuple(
            ("www-authenticate", f'Digest realm="example.com", nonce="{nonce}", algorithm={algorithm}, qop="auth"')
            for algorithm in ("SHA-256", "MD5")
        )

    def test_a_proxy_challenges_with_407(self) -> None:
        verdict = Farm(algorithms=("MD5",)).check(header="proxy-authorization", method="INVITE")
        assert reason_of(verdict) == (407, "no-credentials")
        assert isinstance(verdict, Refused)
        assert [name for name, _ in verdict.headers] == ["proxy-authenticate"]

    @pytest.mark.parametrize(
        "value",
        [
            "NoOneKnowsThisScheme opaque-data=here",
            "Basic YWxpY2U6c2VjcmV0",
            NONE_YET,
            'Digest username="alice", realm="example.net", nonce="n", uri="sip:example.com", response="0"',
        ],
    )
    def test_other_schemes_other_realms_and_empty_nonces_are_as_good_as_nothing(self, value: str) -> None:
        assert reason_of(Farm().check(value)) == (401, "no-credentials")

    def test_every_challenge_has_a_nonce_of_its_own(self) -> None:
        farm = Farm()
        assert len({parse_challenge(farm.challenges()[0])["nonce"] for _ in range(100)}) == 100

    def test_an_algorithm_that_this_python_lacks_stops_the_start_with_a_word(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent(data: bytes) -> str:
            raise ValueError("unsupported hash type")

        monkeypatch.setitem(digest._HASHES, "SHA-512-256", absent)
        with pytest.raises(ValueError, match="OpenSSL cannot compute SHA-512-256: take it out of"):
            Farm(algorithms=("SHA-512-256", "MD5"))


class TestTheRightPassword:
    @pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256"])
    @pytest.mark.parametrize("name", ["alice", "alice@example.com", "alice@EXAMPLE.com"])
    def test_gets_in_with_every_algorithm_and_both_forms_of_the_name(self, algorithm: str, name: str) -> None:
        if not digest.is_available(algorithm):
            give_up(f"this Python has no {algorithm}")
        farm = Farm(algorithms=(algorithm,))
        if name == "alice@EXAMPLE.com":  # the record holds the hash of the canonical name
            assert reason_of(farm.check(farm.answer(name))) == (401, "wrong-password")
        else:
            assert farm.check(farm.answer(name)) == ALICE
        assert farm.asked == ["sip:alice@example.com"]

    def test_gets_in_at_a_node_that_never_saw_the_challenge(self) -> None:
        farm = Farm()
        other = farm.start()
        farm.wall += 1.0
        value = farm.answer()
        farm.authenticator = other
        assert farm.check(value) == ALICE

    def test_gets_in_with_the_body_protected_when_that_was_offered(self) -> None:
        farm = Farm(qop=("auth", "auth-int"))
        value = farm.answer(qop="auth-int", body=b"v=0", method="INVITE")
        assert farm.check(value, method="INVITE", body=b"v=0") == ALICE
        value = farm.answer(qop="auth-int", body=b"v=0", method="INVITE")
        assert reason_of(farm.check(value, method="INVITE", body=b"v=1")) == (401, "wrong-password")
        assert reason_of(Farm().check(Farm().answer(qop="auth-int"))) == (401, "qop-not-offered")

    def test_gets_in_among_credentials_for_others(self) -> None:
        farm = Farm()
        mine = farm.answer()
        other = mine.replace('realm="example.com"', 'realm="example.net"')
        assert farm.check("Basic YWxpY2U6c2VjcmV0", other, mine) == ALICE

    def test_of_a_user_with_an_odd_name_gets_in(self) -> None:
        farm = Farm()
        farm.add("j\u00f6rg m", "secret")
        assert farm.check(farm.answer("j\u00f6rg m")) == Authenticated("sip:j%C3%B6rg%20m@example.com")

    def test_of_a_disabled_user_is_a_403_and_a_wrong_one_no_more_than_a_challenge(self) -> None:
        farm = Farm()
        farm.add("alice", "secret", disabled=True)
        assert farm.check(farm.answer()) == Refused(403, (), "user-disabled")
        assert reason_of(farm.check(farm.answer(password="wrong"))) == (401, "wrong-password")

    def test_gets_in_when_the_record_comes_from_another_node(self) -> None:
        farm = Farm()
        value = farm.answer()
        farm.far = True
        request = Request("REGISTER", "sip:example.com", [make_header("authorization", value)])
        verdict = farm.authenticator.check(request, REALM, "authorization", 1.0)
        assert isinstance(verdict, Awaitable)

        async def wait() -> object:
            return await verdict

        assert asyncio.run(wait()) == ALICE


class TestTheWrongPassword:
    def test_is_challenged_anew_and_not_called_stale(self) -> None:
        farm = Farm()
        verdict = farm.check(farm.answer(password="wrong"))
        assert reason_of(verdict) == (401, "wrong-password")
        assert not is_stale(verdict)

    def test_looks_the_same_to_the_sender_for_known_unknown_removed_and_damaged_users(self) -> None:
        answers = []
        for user in ("alice", "nobody", "removed", "damaged", "nohash", "alice@example.net", "a b\u00e9", ""):
            farm = Farm()
            key = make_aor(user, REALM) if user in ("removed", "damaged", "nohash") else ""
            farm.records[key] = {
                "removed": pack_credential(Credential((2, 1), REALM, {}, deleted=True)),
                "nohash": pack_credential(Credential((2, 1), REALM, {})),
            }.get(user, b"damaged")
            verdict = farm.check(farm.answer(user, "guess"))
            assert isinstance(verdict, Refused)
            answers.append((verdict.status, verdict.headers))
            assert len(farm.asked) == 1, user
        assert len(set(answers)) == 1

    @pytest.mark.parametrize("user", ["alice", "nobody", "removed"])
    def test_costs_the_same_work_for_everybody(self, user: str, monkeypatch: pytest.MonkeyPatch) -> None:
        farm = Farm()
        farm.records["sip:removed@example.com"] = pack_credential(Credential((2, 1), REALM, {}, deleted=True))
        value = farm.answer(user, "guess")
        work: list[tuple[str, int]] = []
        for name in ("MD5", "SHA-256"):
            hash_of = digest._HASHES[name]

            def counted(data: bytes, name: str = name, hash_of: object = hash_of) -> str:
                work.append((name, len(data)))
                return hash_of(data)  # type: ignore[operator, no-any-return]

            monkeypatch.setitem(digest._HASHES, name, counted)
        farm.check(value)
        nonce = len(parse_challenge(value)["nonce"])
        assert work == [("MD5", len("REGISTER:sip:example.com")), ("MD5", 32 + nonce + 8 + 8 + 4 + 32 + 5)]

    def test_too_often_from_one_source_bans_its_credentials_for_a_while(self) -> None:
        farm = Farm()
        for _ in range(4):
            assert reason_of(farm.check(farm.answer(password="guess"))) == (401, "wrong-password")
        assert farm.check(farm.answer()) == Refused(403, (), "banned")
        assert reason_of(farm.check()) == (401, "no-credentials")
        assert farm.check(farm.answer(), host="192.0.2.8") == ALICE
        assert farm.check(farm.answer(), now=601.0) == ALICE

    def test_what_is_no_guess_is_not_counted_as_one(self) -> None:
        farm = Farm()
        replayed = farm.answer()
        assert farm.check(replayed) == ALICE
        for _ in range(5):
            farm.check(replayed)
            farm.check("Digest junk")
            farm.check(NONE_YET)
            farm.check()
        assert farm.check(farm.answer()) == ALICE

    def test_for_another_method_uri_or_realm_does_not_fit(self) -> None:
        farm = Farm()
        assert reason_of(farm.check(farm.answer(method="INVITE"))) == (401, "wrong-password")
        value = farm.answer().replace('uri="sip:example.com"', 'uri="sip:example.com:5060"')
        assert reason_of(farm.check(value)) == (401, "wrong-password")
        elsewhere = farm.answer(realm="example.net").replace('realm="example.net"', 'realm="example.com"')
        assert reason_of(farm.check(elsewhere)) == (401, "wrong-password")


class TestNonces:
    def test_an_old_nonce_with_the_right_password_is_stale_and_the_next_answer_gets_in(self) -> None:
        farm = Farm(nonce_life_seconds=300.0)
        value = farm.answer()
        farm.wall += 300
        assert farm.check(value) == ALICE
        value = farm.answer()
        farm.wall += 301
        verdict = farm.check(value)
        assert reason_of(verdict) == (401, "stale-nonce")
        assert is_stale(verdict)
        assert isinstance(verdict, Refused)
        assert farm.check(answer_challenge(verdict.headers[0][1], "alice", "secret")) == ALICE

    def test_an_old_nonce_with_a_wrong_password_is_not_called_stale(self) -> None:
        farm = Farm()
        value = farm.answer(password="wrong")
        farm.wall += 301
        verdict = farm.check(value)
        assert reason_of(verdict) == (401, "wrong-password")
        assert not is_stale(verdict)

    def test_a_nonce_of_a_lost_key_is_stale_for_who_knows_the_password(self) -> None:
        farm = Farm()
        right, wrong = farm.answer(), farm.answer(password="wrong")
        farm.authenticator = farm.start(secret=b"another key of ours")
        assert reason_of(farm.check(right)) == (401, "foreign-nonce")
        assert is_stale(farm.check(right))
        assert not is_stale(farm.check(wrong))

    def test_a_node_whose_clock_is_behind_takes_a_nonce_from_the_future_within_30_seconds(self) -> None:
        farm = Farm()
        values = farm.answer(), farm.answer()
        farm.wall -= 29
        assert farm.check(values[0]) == ALICE
        farm.wall -= 2
        assert reason_of(farm.check(values[1])) == (401, "stale-nonce")

    def test_a_replayed_request_gets_nowhere_and_the_phone_goes_on_counting(self) -> None:
        farm = Farm()
        challenge = farm.challenges()[-1]
        first, second = (answer_challenge(challenge, "alice", "secret", count=count) for count in (1, 2))
        assert farm.check(first) == ALICE
        replay = farm.check(first)
        assert reason_of(replay) == (401, "replayed-nonce")
        assert is_stale(replay)
        assert farm.check(second) == ALICE
        assert reason_of(farm.check(second)) == (401, "replayed-nonce")

    def test_requests_that_overtook_each_other_are_all_served_once(self) -> None:
        farm = Farm()
        challenge = farm.challenges()[-1]
        for count in (2, 1, 5, 3, 4):
            assert farm.check(answer_challenge(challenge, "alice", "secret", count=count)) == ALICE
        assert reason_of(farm.check(answer_challenge(challenge, "alice", "secret", count=3))) == (401, "replayed-nonce")

    def test_a_wrong_digest_does_not_use_up_a_count(self) -> None:
        farm = Farm()
        challenge = farm.challenges()[-1]
        farm.check(answer_challenge(challenge, "alice", "wrong", count=1))
        assert farm.check(answer_challenge(challenge, "alice", "secret", count=1)) == ALICE

    def test_when_the_memory_of_counts_is_full_old_nonces_are_stale_and_nothing_is_replayed(self) -> None:
        farm = Farm(nonce_entries=1)
        first = farm.answer()
        assert farm.check(first) == ALICE
        farm.wall += 60
        assert farm.check(farm.answer()) == ALICE
        verdict = farm.check(first)
        assert reason_of(verdict) == (401, "forgotten-nonce")
        assert is_stale(verdict)

    def test_a_nonce_of_another_node_is_asked_of_that_node(self) -> None:
        asked: list[tuple[int, int, int]] = []

        class Others:
            def __init__(self) -> None:
                self.answer = Use.FIRST

            async def use(self, origin: Origin, count: int, now: float) -> Use:
                asked.append((origin.node, count, int(now)))
                return self.answer

        farm, others = Farm(node=7), Others()
        value = farm.answer(count=3)
        farm.authenticator = farm.start(node=8, keepers=others)
        assert finish(farm, value) == ALICE
        assert asked == [(7, 3, 1)]
        for use, reason in ((Use.REPLAYED, "replayed-nonce"), (Use.FORGOTTEN, "forgotten-nonce")):
            others.answer = use
            verdict = finish(farm, value)
            assert reason_of(verdict) == (401, reason)
            assert is_stale(verdict)
        farm.far = True
        others.answer = Use.FIRST
        assert finish(farm, value) == ALICE, "where the user's record is elsewhere, too"
        farm.far = False
        asked.clear()
        assert farm.check(farm.answer()) == ALICE, "one of our own is known here"
        assert reason_of(farm.check(farm.answer(password="wrong"))) == (401, "wrong-password")
        wrong = value.replace('response="', 'response="0')
        assert isinstance(farm.check(wrong), Refused)
        assert asked == [], "strangers have nodes ask nothing"

    def test_a_node_alone_knows_nothing_of_others_nonces(self) -> None:
        farm = Farm(node=7)
        value = farm.answer()
        farm.authenticator = farm.start(node=8)
        verdict = farm.check(value)
        assert reason_of(verdict) == (401, "forgotten-nonce")
        assert is_stale(verdict)

    def test_what_was_used_at_another_node_is_used_here(self) -> None:
        farm = Farm(node=7)
        challenge = farm.challenges()[-1]
        origin = farm.authenticator.nonces.find_origin(parse_challenge(challenge)["nonce"], REALM)
        assert origin is not None
        use = farm.authenticator.use_nonce
        assert [use(origin, 1), use(origin, 1), use(origin, 2)] == [Use.FIRST, Use.REPLAYED, Use.FIRST]
        values = [answer_challenge(challenge, "alice", "secret", count=count) for count in (2, 3)]
        assert reason_of(farm.check(values[0])) == (401, "replayed-nonce")
        assert farm.check(values[1]) == ALICE
        assert use(Origin(origin.made_at, origin.serial ^ 1 << 40), 9) is Use.FORGOTTEN, "another node's"
        farm.wall += 301
        assert use(origin, 4) is Use.FORGOTTEN

    @pytest.mark.parametrize("seconds", [0.0, 1.0])
    def test_a_restarted_node_takes_no_nonce_from_before(self, seconds: float) -> None:
        farm = Farm()
        value = farm.answer()
        farm.wall += seconds
        farm.authenticator = farm.start()
        verdict = farm.check(value)
        assert reason_of(verdict) == (401, "forgotten-nonce")
        assert is_stale(verdict)
        assert farm.check(farm.answer()) == ALICE

    def test_a_client_of_rfc_2069_gets_one_request_out_of_a_nonce(self) -> None:
        farm = Farm()
        value = farm.answer(qop="")
        assert farm.check(value) == ALICE
        assert reason_of(farm.check(value)) == (401, "replayed-nonce")
        assert reason_of(Farm(allow_without_qop=False).check(value)) == (401, "qop-not-offered")


class TestWhatIsRefused:
    @pytest.mark.parametrize("value", ["Digest", "Digest username", 'Digest username="alice", realm="example.com"'])
    def test_malformed_credentials_are_a_400(self, value: str) -> None:
        assert Farm().check(value) == Refused(400, (), "bad-credentials")

    @pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-1"])
    def test_an_algorithm_that_was_not_offered_is_challenged_anew(self, algorithm: str) -> None:
        """No downgrade: taking MD5 out of the setting is enough (RFC 8760 §3)."""
        farm = Farm(algorithms=("SHA-256",))
        value = farm.answer().replace("algorithm=SHA-256", f"algorithm={algorithm}")
        assert reason_of(farm.check(value)) == (401, "algorithm-not-offered")
        assert farm.asked == []

    def test_what_is_offered_can_change(self) -> None:
        farm = Farm(algorithms=("MD5",))
        with pytest.raises(ValueError, match="MD6"):
            farm.authenticator.offer(("MD6",), allow_without_qop=True)
        assert len(farm.challenges()) == 1
        farm.authenticator.offer(("SHA-256", "MD5"), allow_without_qop=True)
        assert len(farm.challenges()) == 2

    def test_no_algorithm_named_means_md5(self) -> None:
        farm = Farm()
        assert farm.check(farm.answer().replace(", algorithm=MD5", "")) == ALICE

    def test_a_response_that_is_no_digest_is_a_wrong_one(self) -> None:
        farm = Farm()
        value = farm.answer()
        digest_text = parse_challenge(value)["response"]
        for odd in ("", "\u00e9" * 32, "\udce9", "0", digest_text[:-1], digest_text + "0"):
            farm.limits.clear("192.0.2.7")
            assert reason_of(farm.check(value.replace(digest_text, odd))) == (401, "wrong-password"), odd
        assert farm.check(value.replace(digest_text, digest_text.upper())) == ALICE

    @pytest.mark.parametrize("user", ["", "@example.com", "x" * 300, "alice@example.net", "\x00"])
    def test_a_name_that_no_user_has_is_an_unknown_user(self, user: str) -> None:
        farm = Farm()
        assert reason_of(farm.check(farm.answer(user))) == (401, "unknown-user")

    @pytest.mark.parametrize(
        ("theirs", "uri"),
        [
            ("sip:bob@EXAMPLE.com", "sip:bob@example.com"),
            ("sip:%62ob@example.com", "sip:bob@example.com"),
            ("sip:bob@example.com:5060", "sip:bob@example.com"),
            ("sip:bob@example.com", "sip:bob@example.com;transport=tcp"),
            ("sip:example.com;transport=udp", "sip:example.com:5060"),
            ("sips:bob@example.com", "sip:bob@example.com"),
            ("sip:bob@example.com", "sip:bob@192.0.2.1:5070"),
            ("sip:example.com", "sip:192.0.2.1"),
            ("tel:+49-30-1", "tel:+49301"),
        ],
    )
    def test_a_uri_that_a_proxy_on_the_way_rewrote_harmlessly_is_accepted(self, theirs: str, uri: str) -> None:
        """RFC 3261 §22.4 item 6."""
        farm = Farm()
        assert farm.check(farm.answer(uri=theirs), uri=uri) == ALICE

    @pytest.mark.parametrize(
        ("theirs", "uri"),
        [
            ("sip:bob@example.com", "sip:premium@example.com"),
            ("sip:bob@192.0.2.1", "sip:bob@example.com"),
            ("sip:example.com", "sip:bob@example.com"),
            ("tel:+49301", "tel:+49302"),
            ("sip:+49301@example.com", "tel:+49301"),
            ("not a uri", "sip:example.com"),
            ("*", "sip:example.com"),
        ],
    )
    def test_credentials_made_for_somebody_else_are_a_400(self, theirs: str, uri: str) -> None:
        farm = Farm()
        assert farm.check(farm.answer(uri=theirs), uri=uri) == Refused(400, (), "uri-mismatch")

    def test_a_request_uri_that_cannot_be_read_raises_nothing(self) -> None:
        farm = Farm()
        assert reason_of(farm.check(farm.answer(), uri="sip:<>")) == (400, "bad-uri")

    @given(st.text(max_size=200))
    def test_any_header_is_a_verdict(self, text: str) -> None:
        farm = Farm()
        for value in (text, f"Digest {text}", f"{NONE_YET},{text}", farm.answer().replace("alice", text)):
            assert isinstance(farm.check(value), Authenticated | Refused)


# What other nodes send and compare


def test_a_credential_of_another_node_is_taken_as_it_is_unless_no_node_makes_such() -> None:
    kind = CredentialKind()
    packed = pack_credential(make_credential("alice", "example.com", "secret", (7, 1)))
    assert kind.shift(packed, 5.0, 10.0) is packed
    broken = (
        make_credential("alice", "example.com", "secret", (-1, 1)),
        make_credential("alice", "example.com", "secret", (7, -1)),
        make_credential("alice", "x" * 1100, "secret", (7, 1)),
    )
    for each in (*map(pack_credential, broken), b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            kind.shift(each, 0.0)


def test_replicas_with_the_same_user_compare_as_equal() -> None:
    kind = CredentialKind()
    one = pack_credential(make_credential("alice", "example.com", "secret", (7, 1)))
    other = pack_credential(make_credential("alice", "example.com", "secret", (8, 1)))
    assert len(kind.version(one)) == 16
    assert kind.version(one) == kind.trace(one) == kind.trace(one, 1000.0)
    assert kind.version(one) != kind.version(other)
    assert not kind.everywhere


class TestRecordsThatCannotBeHad:
    @pytest.mark.parametrize(("reason", "status"), [("too-few-owners", 500), ("no-owners", 503), ("clock", 503)])
    @pytest.mark.parametrize("far", [False, True])
    def test_nobody_is_challenged_again_or_let_in(self, reason: str, status: int, far: bool) -> None:
        """A second 401 would be taken for a wrong password; on 503 a client asks another node."""
        farm = Farm()
        answer = farm.answer()
        farm.authenticator._store = Unreachable(reason, far)
        request = Request("REGISTER", "sip:example.com", [make_header("authorization", answer)])
        request.source = Hop("UDP", "192.0.2.7", 5060)
        verdict = farm.authenticator.check(request, REALM, "authorization", 1.0)
        if isinstance(verdict, Awaitable):
            verdict = asyncio.run(_await(verdict))
        assert verdict == Refused(status, (("retry-after", "2"),), "store-unavailable")

    def test_it_is_nobody_s_failure_and_no_ban_follows(self) -> None:
        farm = Farm()
        answer = farm.answer(password="wrong")
        store, farm.authenticator._store = farm.authenticator._store, Unreachable("too-few-owners", False)
        for _ in range(10):
            assert isinstance(farm.check(answer), Refused)
        farm.authenticator._store = store
        assert farm.check(farm.answer()) == ALICE


class Unreachable:
    """A store whose owners do not answer."""

    def __init__(self, reason: str, far: bool) -> None:
        self.reason = reason
        self.far = far

    def get(self, kind: str, key: str, now: float) -> Unreachable | Awaitable[Unreachable]:
        async def later() -> Unreachable:
            return self

        return later() if self.far else self


async def _await(verdict: Awaitable[Verdict]) -> Verdict:
    return await verdict
