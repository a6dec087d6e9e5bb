"""The users of a node that does not run: changed for good, and never behind the back of one that runs."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from farm.config import ConfigError
from farm.offline import OfflineUsers
from tests.support.farms import NODE, Farm, make_config, run

SQLITE = {"backend": "sqlite"}


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    """A farm without nodes."""
    made = Farm(tmp_path)
    yield made
    made.close()


def test_users_of_a_node_that_does_not_run_are_there_when_it_starts(farm: Farm) -> None:
    config = make_config("n1", NODE, farm.directory, store=SQLITE)
    offline = OfflineUsers(config)
    run(offline.users.add("alice", "alice", offline.now()))
    offline.close()
    assert stat.S_IMODE((farm.directory / "n1").stat().st_mode) == 0o700
    farm.add_node(store=SQLITE)
    alice = farm.add_party("alice", account=False)
    alice.password = "alice"
    alice.register()


def test_users_of_a_node_that_runs_are_not_changed_behind_its_back(farm: Farm) -> None:
    node = farm.add_node(store=SQLITE)
    with pytest.raises(ConfigError, match="in use by another process"):
        OfflineUsers(node.config)
    node.stop()
    OfflineUsers(node.config).close()


def test_users_of_a_journal_without_room_are_not_reported_as_kept(farm: Farm) -> None:
    offline = OfflineUsers(make_config("n1", NODE, farm.directory, store=SQLITE))
    for number in range(200):
        run(offline.users.add(f"user{number}", "x", offline.now()))
    journal = offline._records._journal
    assert journal is not None
    journal.most_pages = 1
    journal.close()
    with pytest.raises(OSError, match="200 records could not be written to the journal"):
        offline.close()


def test_a_node_does_not_start_while_its_users_are_changed(farm: Farm) -> None:
    offline = OfflineUsers(make_config("n1", NODE, farm.directory, store=SQLITE))
    with pytest.raises(ConfigError, match="in use by another process"):
        farm.add_node(store=SQLITE)
    offline.close()
    farm.node.start()


def test_a_journal_that_cannot_be_opened_is_one_line_and_leaves_no_lock(farm: Farm) -> None:
    journal = farm.directory / "n1" / "journal.sqlite"
    journal.mkdir(parents=True)
    config = make_config("n1", NODE, farm.directory, store=SQLITE)
    with pytest.raises(ConfigError, match="the journal cannot be opened: "):
        OfflineUsers(config)
    journal.rmdir()
    OfflineUsers(config).close()
