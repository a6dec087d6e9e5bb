"""Where a node looks for others, in which order, how often, and what it says when nobody answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from farm.overlay.seeds import DIAL_SECONDS, MOST_AT_ONCE, MOST_HEARD, MOST_OF_ORIGIN, Seeds, Service
from farm.overlay.wire import Contact

OWN = ("10.0.0.1", 7400)
SEED = ("10.0.0.2", 7400)
OTHER = ("10.0.0.3", 7400)


class RecordedNames:
    """DNS that answers what the dicts say, at once, or later when `waiting` is a list."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.services: dict[str, list[Service]] = {}
        self.asked: list[str] = []
        self.waiting: list[Callable[[], None]] | None = None

    def find_addresses(self, name: str, done: Callable[[Sequence[str]], None]) -> None:
        self.asked.append(name)
        self._answer(lambda: done(self.addresses.get(name, [])))

    def find_services(self, name: str, done: Callable[[Sequence[Service]], None]) -> None:
        self.asked.append(name)
        self._answer(lambda: done(self.services.get(name, [])))

    def _answer(self, answer: Callable[[], None]) -> None:
        if self.waiting is None:
            answer()
        else:
            self.waiting.append(answer)


@pytest.fixture
def names() -> RecordedNames:
    return RecordedNames()


def seeds_of(
    *seeds: str,
    names: RecordedNames | None = None,
    path: str = "",
    service: str = "",
    ask_link: Callable[[], None] | None = None,
) -> Seeds:
    return Seeds(seeds, [OWN], names, random.Random(7), path=path, service=service, ask_link=ask_link)


def contact(number: int, host: str = "", port: int = 7400) -> Contact:
    return Contact(node=bytes([number]) * 32, host=host or f"10.0.1.{number}", port=port)


def test_every_seed_is_dialled_at_once_and_none_twice_while_it_is_being_dialled() -> None:
    seeds = seeds_of("10.0.0.2:7400", "10.0.0.3:7400", "10.0.0.2:7400")
    assert sorted(seeds.next_addresses(100.0)) == [SEED, OTHER]
    assert seeds.next_addresses(101.0) == []


def test_a_node_never_dials_itself_whichever_way_its_address_is_written() -> None:
    assert seeds_of("10.0.0.1:7400").next_addresses(0.0) == []
    own = Seeds(["[2001:DB8:0::1]:7400"], [("2001:db8::1", 7400)], None, random.Random(1))
    assert own.next_addresses(0.0) == []
    assert own.next_at(0.0) is None
    assert own.problem() == ""


def test_an_address_that_turned_out_to_be_our_own_is_never_dialled_again() -> None:
    seeds = seeds_of("127.0.0.1:7400")
    assert seeds.next_addresses(0.0) == [("127.0.0.1", 7400)]
    seeds.failed("127.0.0.1", 7400, "same-node-id", 0.0)
    seeds.change(["127.0.0.1:7400"])
    assert seeds.next_addresses(1000.0) == []
    assert seeds.problem() == ""


def test_a_seed_that_does_not_answer_is_dialled_after_1_2_4_and_at_most_30_seconds_for_ever() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    now, waits = 0.0, []
    for _ in range(10):
        assert seeds.next_addresses(now) == [SEED]
        seeds.failed(*SEED, "refused", now)
        at = seeds.next_at(now)
        assert at is not None
        assert seeds.next_addresses(at - 0.001) == []
        waits.append(at - now)
        now = at
    for wait, middle in zip(waits, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30], strict=True):
        assert 0.75 * middle <= wait <= 1.25 * middle
    assert len({round(wait, 3) for wait in waits[5:]}) > 1, "no jitter"


def test_a_dial_of_which_nothing_is_heard_has_failed_after_a_while() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    seeds.next_addresses(0.0)
    assert seeds.next_at(0.0) == DIAL_SECONDS
    assert seeds.next_addresses(DIAL_SECONDS) == []
    assert seeds.problem() == "no other node answers: 10.0.0.2:7400 (timeout)"
    assert seeds.next_addresses(DIAL_SECONDS + 2.0) == [SEED]


def test_a_seed_that_answered_is_left_alone_but_for_one_at_random_every_minute() -> None:
    seeds = seeds_of("10.0.0.2:7400", "10.0.0.3:7400")
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    seeds.reached(*OTHER, 0.0)
    drawn: list[tuple[float, tuple[str, int]]] = []
    now = 0.0
    while now < 3600.0:
        at = seeds.next_at(now)
        assert at is not None
        now = at
        for address in seeds.next_addresses(now):
            drawn.append((now, address))
            seeds.reached(*address, now)
    assert 45 <= len(drawn) <= 80
    assert {address for _at, address in drawn} == {SEED, OTHER}
    assert all(45.0 <= later - earlier <= 75.0 for (earlier, _), (later, _) in pairwise(drawn))


def test_news_of_other_nodes_do_not_put_the_random_seed_off() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    seeds.next_addresses(0.0)
    drawn = []
    for second in range(100):
        seeds.reached("10.0.7.7", 7400, float(second))
        seeds.reached(*SEED, float(second))
        drawn += seeds.next_addresses(float(second))
    assert drawn == [SEED]


def test_a_silent_seed_is_tried_on_while_others_have_been_reached() -> None:
    seeds = seeds_of("10.0.0.2:7400", "10.0.0.3:7400")
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    for now in (0.0, 10.0, 20.0):
        seeds.failed(*OTHER, "refused", now)
        assert seeds.next_addresses(now + 5.1) == [OTHER]
    assert seeds.problem() == "seeds do not answer: 10.0.0.3:7400 (refused)"
    seeds.reached(*OTHER, 30.0)
    assert seeds.problem() == ""


def test_one_failure_of_a_seed_is_no_problem_for_a_node_that_is_among_others() -> None:
    seeds = seeds_of("10.0.0.2:7400", "10.0.0.3:7400")
    seeds.next_addresses(0.0)
    seeds.failed(*OTHER, "refused", 0.0)
    assert seeds.problem() == "no other node answers: 10.0.0.3:7400 (refused)"
    seeds.reached(*SEED, 0.0)
    assert seeds.problem() == ""


def test_the_line_about_silent_seeds_names_five_at_most() -> None:
    seeds = seeds_of(*(f"10.0.0.{number}:7400" for number in range(10, 17)))
    for address in seeds.next_addresses(0.0):
        seeds.failed(*address, "refused", 0.0)
    assert seeds.problem().endswith(" and 2 more")
    assert seeds.problem().count("(refused)") == 5


def test_a_node_that_lost_all_links_looks_for_others_at_once() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    assert seeds.next_addresses(10.0) == []
    seeds.lost(10.0)
    assert seeds.next_addresses(10.0) == [SEED]


def test_a_node_that_lost_all_links_asks_dns_again_at_once(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2"]
    seeds = seeds_of("n.example.com:7400", names=names)
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    seeds.next_addresses(2.0)
    names.addresses["n.example.com"] = ["10.0.0.3"]
    seeds.lost(10.0)
    assert seeds.next_addresses(10.0) == [OTHER]


def test_no_more_than_a_few_are_dialled_at_the_same_time() -> None:
    seeds = seeds_of(*(f"10.0.0.{number}:7400" for number in range(2, 42)))
    first = seeds.next_addresses(0.0)
    assert len(first) == MOST_AT_ONCE
    assert seeds.next_addresses(0.0) == []
    assert seeds.next_at(0.0) == DIAL_SECONDS, "asked again in a tight loop"
    seeds.failed(*first[0], "refused", 0.0)
    assert len(seeds.next_addresses(0.0)) == 1


def test_a_seed_under_another_address_than_its_node_tells_has_answered_when_it_turns_out_to_be_linked() -> None:
    seeds = seeds_of("192.0.2.2:7400")
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    assert seeds.next_addresses(DIAL_SECONDS) == []
    assert seeds.next_addresses(DIAL_SECONDS + 2.0) == [("192.0.2.2", 7400)]
    seeds.failed("192.0.2.2", 7400, "linked", DIAL_SECONDS + 2.0)
    assert seeds.next_addresses(DIAL_SECONDS + 10.0) == []
    assert seeds.problem() == ""


# Names


def test_a_seed_given_by_name_is_dialled_at_all_its_addresses(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2", "2001:db8::2", "garbage"]
    seeds = seeds_of("n.example.com:7400", names=names)
    assert sorted(seeds.next_addresses(0.0)) == [SEED, ("2001:db8::2", 7400)]
    assert names.asked == ["n.example.com"]


def test_an_answer_of_dns_that_comes_late_counts_when_it_comes(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2"]
    names.waiting = []
    seeds = seeds_of("n.example.com:7400", names=names)
    assert seeds.next_addresses(0.0) == []
    assert seeds.next_addresses(20.0) == []
    assert names.asked == ["n.example.com"], "asked again while the question is under way"
    names.waiting[0]()
    assert seeds.next_addresses(20.0) == [SEED]


def test_a_name_that_moved_is_dialled_at_its_new_address_only(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2"]
    seeds = seeds_of("n.example.com:7400", names=names)
    assert seeds.next_addresses(0.0) == [SEED]
    seeds.failed(*SEED, "refused", 0.0)
    names.addresses["n.example.com"] = ["10.0.0.3"]
    assert seeds.next_addresses(2.0) == [OTHER]
    del names.addresses["n.example.com"]
    seeds.failed(*OTHER, "refused", 2.0)
    assert seeds.next_addresses(9.0) == [OTHER], "a failure of DNS must not lose what was known"


def test_a_name_that_nobody_knows_is_said(names: RecordedNames) -> None:
    seeds = seeds_of("n.example.com:7400", names=names)
    seeds.next_addresses(0.0)
    assert seeds.problem() == "no other node answers: n.example.com (no such name)"
    assert seeds.next_at(0.0) is not None, "never gives up"


def test_names_are_asked_seldom_once_others_are_reached(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2"]
    seeds = seeds_of("n.example.com:7400", names=names)
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    for second in range(1, 1001):
        seeds.next_addresses(float(second))
    assert 4 <= len(names.asked) <= 6


def test_srv_records_of_the_overlay_are_seeds_by_address_and_by_name(names: RecordedNames) -> None:
    names.services["_sipfarm._tcp.farm.example.com"] = [
        Service(20, 0, 7400, "n3.example.com."),
        Service(10, 0, 7401, "10.0.0.9"),
        Service(0, 0, 0, "n4.example.com"),
        Service(0, 0, 7400, "."),
    ]
    names.addresses["n3.example.com"] = ["10.0.0.3"]
    seeds = seeds_of(names=names, service="farm.example.com.")
    assert sorted(seeds.next_addresses(0.0)) == [OTHER, ("10.0.0.9", 7401)]
    assert seeds.problem() == ""
    assert names.asked == ["_sipfarm._tcp.farm.example.com", "n3.example.com"]


def test_an_srv_record_that_is_gone_is_not_dialled_any_more(names: RecordedNames) -> None:
    name = "_sipfarm._tcp.farm.example.com"
    names.services[name] = [Service(0, 0, 7400, "10.0.0.2")]
    seeds = seeds_of(names=names, service="farm.example.com")
    assert seeds.next_addresses(0.0) == [SEED]
    names.services[name] = [Service(0, 0, 7400, "10.0.0.3")]
    assert seeds.next_addresses(3.0) == [OTHER]
    seeds.failed(*SEED, "refused", 3.0)
    assert SEED not in seeds.next_addresses(60.0)


def test_an_overlay_without_srv_records_is_a_problem_for_one_that_knows_nobody_else(names: RecordedNames) -> None:
    seeds = seeds_of(names=names, service="farm.example.com")
    seeds.next_addresses(0.0)
    assert seeds.problem() == "no other node answers: _sipfarm._tcp.farm.example.com (no such name)"
    seeds = seeds_of("10.0.0.2:7400", names=names, service="farm.example.com")
    seeds.next_addresses(0.0)
    assert seeds.problem() == ""


# SIGHUP


def test_a_reload_adds_and_removes_seeds(names: RecordedNames) -> None:
    names.addresses["n.example.com"] = ["10.0.0.2"]
    seeds = seeds_of("n.example.com:7400", "10.0.0.4:7400", names=names)
    assert sorted(seeds.next_addresses(0.0)) == [SEED, ("10.0.0.4", 7400)]
    seeds.change(["n.example.com:7400", "10.0.0.3:7400"])
    assert names.asked == ["n.example.com"]
    assert seeds.next_addresses(0.1) == [OTHER]
    seeds.failed("10.0.0.4", 7400, "refused", 0.2)
    assert ("10.0.0.4", 7400) not in seeds.next_addresses(90.0)


# Members last known


def test_the_members_last_known_are_dialled_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "members")
    seeds = seeds_of("10.0.0.2:7400", path=path)
    seeds.remember([contact(1), contact(2, "2001:DB8::2"), contact(3, *OWN), contact(4, "no-address")], 0.0)
    assert Path(path).read_text() == "10.0.1.1:7400\n[2001:db8::2]:7400\n"
    assert Path(path).stat().st_mode & 0o077 == 0
    again = seeds_of("10.0.0.2:7400", path=path)
    addresses = again.next_addresses(0.0)
    assert addresses[0] == SEED, "seeds come first"
    assert sorted(addresses[1:]) == [("10.0.1.1", 7400), ("2001:db8::2", 7400)]


def test_remembered_members_are_left_to_the_membership_once_anybody_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.write_text("10.0.1.1:7400\n10.0.1.2:7400\n")
    seeds = seeds_of("10.0.0.2:7400", path=str(path))
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    seeds.failed("10.0.1.1", 7400, "refused", 0.0)
    assert seeds.next_addresses(40.0) == []
    assert seeds.problem() == ""


def test_a_member_that_becomes_a_seed_is_tried_like_one(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.write_text("10.0.0.3:7400\n")
    seeds = seeds_of("10.0.0.2:7400", path=str(path))
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    seeds.failed(*OTHER, "refused", 0.0)
    assert seeds.next_addresses(10.0) == []
    seeds.change(["10.0.0.2:7400", "10.0.0.3:7400"])
    assert seeds.next_addresses(10.0) == [OTHER]


def test_a_node_without_seeds_tries_a_remembered_member_every_minute(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.write_text("10.0.1.1:7400\n")
    seeds = seeds_of(path=str(path))
    seeds.next_addresses(0.0)
    seeds.reached("10.0.1.1", 7400, 0.0)
    assert seeds.next_addresses(40.0) == []
    assert seeds.next_addresses(76.0) == [("10.0.1.1", 7400)]


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00\xff\xfe" * 1000, b"host:7400\n[::\n10.0.0.9\n10.0.0.9:0\n10.0.0.9:99999\n:1\n" * 50]
)
def test_a_broken_file_of_members_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "members"
    path.write_bytes(garbage)
    assert seeds_of(path=str(path)).next_addresses(0.0) == []
    path.write_bytes(b"x" * 70_000 + b"\n10.0.1.1:7400\n")
    assert seeds_of(path=str(path)).next_addresses(0.0) == [], "no end of a file is read"
    path.write_bytes(garbage + b"\n10.0.1.1:7400\n")
    assert seeds_of(path=str(path)).next_addresses(0.0) == [("10.0.1.1", 7400)]


def test_the_file_of_members_is_bounded_when_written_and_when_read(tmp_path: Path) -> None:
    path = tmp_path / "members"
    path.write_text("".join(f"10.1.{number // 250}.{number % 250 + 1}:7400\n" for number in range(20_000)))
    seeds = seeds_of(path=str(path))
    found: set[tuple[str, int]] = set()
    while addresses := seeds.next_addresses(0.0):
        found.update(addresses)
        for address in addresses:
            seeds.failed(*address, "refused", 0.0)
    assert len(found) == MOST_OF_ORIGIN
    seeds.remember([contact(0, f"10.2.{number // 250}.{number % 250 + 1}") for number in range(2000)], 0.0)
    assert len(path.read_text().splitlines()) == MOST_OF_ORIGIN


def test_the_file_is_written_at_most_once_in_five_seconds_and_the_last_word_is_written(tmp_path: Path) -> None:
    path = tmp_path / "members"
    seeds = seeds_of(path=str(path))
    seeds.remember([contact(1)], 100.0)
    seeds.remember([contact(2)], 101.0)
    seeds.remember([contact(3)], 102.0)
    assert path.read_text() == "10.0.1.1:7400\n"
    assert seeds.next_at(102.0) == 105.0
    seeds.next_addresses(104.9)
    assert path.read_text() == "10.0.1.1:7400\n"
    seeds.next_addresses(105.0)
    assert path.read_text() == "10.0.1.3:7400\n"
    written = path.stat().st_mtime_ns
    seeds.remember([contact(3)], 200.0)
    assert path.stat().st_mtime_ns == written, "written although nothing changed"


def test_a_node_that_is_alone_forgets_nobody(tmp_path: Path) -> None:
    path = tmp_path / "members"
    seeds = seeds_of(path=str(path))
    seeds.remember([contact(1)], 0.0)
    seeds.remember([], 10.0)
    seeds.remember([contact(9, *OWN)], 20.0)
    assert path.read_text() == "10.0.1.1:7400\n"
    seeds.lost(30.0)
    assert seeds.next_addresses(30.0) == [("10.0.1.1", 7400)]


def test_a_file_that_cannot_be_written_is_a_problem_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    seeds = seeds_of(path=str(folder / "members"))
    seeds.remember([contact(1)], 0.0)
    assert seeds.problem() == "the members cannot be remembered: No such file or directory"
    folder.mkdir()
    seeds.remember([contact(1)], 5.0)
    assert seeds.problem() == ""
    assert [file.name for file in folder.iterdir()] == ["members"]


# The local link


def test_the_link_is_asked_with_growing_intervals_until_somebody_is_reached() -> None:
    asked: list[float] = []
    now = 0.0
    seeds = seeds_of(ask_link=lambda: asked.append(now))
    while now < 120.0:
        seeds.next_addresses(now)
        following = seeds.next_at(now)
        assert following is not None
        now = following
    gaps = [later - earlier for earlier, later in pairwise(asked)]
    assert gaps[0] < 1.3
    assert 22.0 < gaps[-1] < 38.0
    seeds.heard("10.0.0.2", 7400, now)
    assert seeds.next_addresses(now) == [SEED]
    seeds.reached(*SEED, now)
    before = len(asked)
    seeds.next_addresses(now + 1000.0)
    assert len(asked) == before


def test_strangers_on_the_link_can_make_us_dial_a_few_addresses_only_and_not_for_ever() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    seeds.next_addresses(0.0)
    seeds.reached(*SEED, 0.0)
    for number in range(1, 201):
        seeds.heard(f"10.9.0.{number}", 7400, 0.0)
    seeds.heard("no-address", 7400, 0.0)
    seeds.heard(*OWN, 0.0)
    dialled: list[tuple[str, int]] = []
    now = 0.0
    while now < 3600.0:
        at = seeds.next_at(now)
        assert at is not None
        now = at
        for address in seeds.next_addresses(now):
            if address == SEED:
                seeds.reached(*address, now)
                continue
            dialled.append(address)
            seeds.failed(*address, "tls", now)
    assert len(set(dialled)) == MOST_HEARD
    assert len(dialled) == 5 * MOST_HEARD
    assert seeds.problem() == ""


def test_a_node_that_was_met_makes_room_for_others_of_the_link() -> None:
    seeds = seeds_of("10.0.0.2:7400")
    seeds.reached(*SEED, 0.0)
    for number in range(1, MOST_HEARD + 1):
        seeds.heard(f"10.9.0.{number}", 7400, 0.0)
    seeds.heard("10.9.1.1", 7400, 0.0)
    dialled: list[tuple[str, int]] = []
    while addresses := seeds.next_addresses(1.0):
        dialled += addresses
        for address in addresses:
            seeds.reached(*address, 1.0)
    assert ("10.9.1.1", 7400) not in dialled
    seeds.heard("10.9.1.1", 7400, 2.0)
    assert seeds.next_addresses(2.0) == [("10.9.1.1", 7400)]


def test_the_same_random_source_gives_the_same_order() -> None:
    texts = [f"10.0.0.{number}:7400" for number in range(2, 12)]
    assert seeds_of(*texts).next_addresses(0.0) == seeds_of(*texts).next_addresses(0.0)
    assert seeds_of(*texts).next_addresses(0.0) != [(text.partition(":")[0], 7400) for text in texts]
