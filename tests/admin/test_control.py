"""Orders of the console, carried out on a node that runs, and on one that does not."""

from __future__ import annotations

from typing import Any

import pytest

from farm.admin.control import ROWS_AT_ONCE, Answer, Control, OrderError
from farm.security.limits import Ban
from tests.admin.fakes import NOW, FakeNode


def order(control: Control, name: str, /, **fields: Any) -> Answer:
    """The answer to an order that waits for nothing."""
    running = control.run(name, fields)
    with pytest.raises(StopIteration) as end:
        running.send(None)
    answer: Answer = end.value.value
    return answer


def refused(control: Control, name: str, /, **fields: Any) -> str:
    with pytest.raises(OrderError) as caught:
        control.run(name, fields).send(None)
    return str(caught.value)


@pytest.fixture
def node() -> FakeNode:
    return FakeNode()


@pytest.fixture
def control(node: FakeNode) -> Control:
    return Control(node, node)


def test_a_user_is_added_changed_listed_and_removed(control: Control) -> None:
    assert order(control, "add-user", name="bob", password="x") == {"name": "bob", "change": "added"}
    assert refused(control, "add-user", name="bob", password="x") == "bob exists already"
    assert order(control, "set-password", name="bob", password="y") == {"name": "bob", "change": "changed"}
    assert order(control, "list-users") == {"users": [{"aor": "sip:bob@example.com", "disabled": False}]}
    assert order(control, "remove-user", name="bob") == {"name": "bob", "change": "removed"}
    assert refused(control, "remove-user", name="bob") == "bob is no user"
    assert refused(control, "set-password", name="bob", password="y") == "bob is no user"
    assert order(control, "list-users") == {"users": []}


def test_a_user_is_disabled_and_served_again(control: Control) -> None:
    order(control, "add-user", name="bob", password="x")
    assert order(control, "disable-user", name="bob") == {"name": "bob", "change": "changed"}
    assert order(control, "list-users") == {"users": [{"aor": "sip:bob@example.com", "disabled": True}]}
    assert order(control, "enable-user", name="bob@example.com")["change"] == "changed"
    assert order(control, "list-users") == {"users": [{"aor": "sip:bob@example.com", "disabled": False}]}
    assert refused(control, "disable-user", name="nobody") == "nobody is no user"


def test_no_answer_holds_a_password_or_a_hash(control: Control) -> None:
    answers = [order(control, "add-user", name="bob", password="hunter2"), order(control, "list-users")]
    answers.append(order(control, "locate", aor="bob"))
    assert "hunter2" not in repr(answers)
    assert "ha1" not in repr(answers)


def test_a_user_of_a_foreign_domain_is_refused_in_words(control: Control) -> None:
    assert refused(control, "add-user", name="bob@other.test", password="x") == (
        "'other.test' is none of our domains (example.com)"
    )


def test_a_store_that_refuses_is_reported(node: FakeNode, control: Control) -> None:
    node.store.full = True
    assert refused(control, "add-user", name="bob", password="x") == "sip:bob@example.com was not stored (full)"


def test_import_counts_and_names_bad_rows(control: Control) -> None:
    rows = [[1, "a", "", "pa"], [2, "b", "other.test", "pb"], [3, "a", "example.com", "pc"]]
    assert order(control, "import-users", rows=rows) == {
        "added": 1,
        "changed": 1,
        "bad": [{"line": 2, "problem": "'other.test' is none of our domains (example.com)"}],
    }


def test_import_takes_the_hashes_of_another_registrar(control: Control) -> None:
    rows = [[1, "a", "", "", [["MD5", "a" * 32, "b" * 32], ["SHA-256", "c" * 64, ""]]], [2, "b", "", "", []]]
    assert order(control, "import-users", rows=rows) == {
        "added": 1,
        "changed": 0,
        "bad": [{"line": 2, "problem": "a password has 1 to 256 characters, none of them a control character"}],
    }


NO_ROWS: list[object] = [None, "x", [[1, "a", "b"]], [["1", "a", "", "p"]], [[1, 2, 3, 4]], [{}]]
NO_HASHES = ["x", {}, ["MD5"], [["MD5", "a"]], [["MD5", "a", 1]], [["MD5", "a", "b"], None]]


@pytest.mark.parametrize("rows", [*NO_ROWS, *([[1, "a", "", "", hashes]] for hashes in NO_HASHES)])
def test_import_refuses_what_is_no_row(control: Control, rows: object) -> None:
    assert "row" in refused(control, "import-users", rows=rows)


def test_import_takes_no_more_than_a_portion(control: Control) -> None:
    rows = [[1, "a", "", "p"]] * (ROWS_AT_ONCE + 1)
    assert refused(control, "import-users", rows=rows) == f"rows must be a list of at most {ROWS_AT_ONCE}"


def test_status_tells_health(node: FakeNode, control: Control) -> None:
    node.wrong = ["the journal cannot be written: disk full"]
    answer = order(control, "status")
    assert answer["name"] == "n1"
    assert answer["ready"] is True
    assert answer["problems"] == node.wrong


def test_locate_tells_strangers_known_and_registered_apart(node: FakeNode, control: Control) -> None:
    aor = "sip:bob@example.com"
    assert order(control, "locate", aor="bob") == {"aor": aor, "known": False, "contacts": []}
    order(control, "add-user", name="bob", password="x")
    assert order(control, "locate", aor="bob") == {"aor": aor, "known": True, "contacts": []}
    node.bindings[aor] = [{"contact": "sip:bob@192.0.2.1", "q": 1.0, "received": "", "call_id": "c", "path": []}]
    assert order(control, "locate", aor=aor) == {
        "aor": aor,
        "known": True,
        "contacts": [{"contact": "sip:bob@192.0.2.1", "q": 1.0}],
    }


def test_bindings_are_shown_whole_and_removed(node: FakeNode, control: Control) -> None:
    aor = "sip:bob@example.com"
    node.bindings[aor] = [{"contact": "sip:bob@192.0.2.1", "call_id": "c"}]
    assert order(control, "show-bindings", aor="bob") == {"aor": aor, "bindings": node.bindings[aor]}
    assert order(control, "remove-bindings", aor="bob") == {"aor": aor, "removed": 1}
    assert order(control, "show-bindings", aor="bob") == {"aor": aor, "bindings": []}


def test_calls_are_counted_and_shown_to_who_says_how_many(control: Control) -> None:
    assert order(control, "calls") == {"ringing": 1, "answered": 2, "calls": []}
    assert len(order(control, "calls", limit=1)["calls"]) == 1  # type: ignore[arg-type]
    for limit in ("1", -1, True):
        assert refused(control, "calls", limit=limit) == "limit must be a whole number"


def test_bans_are_listed_and_lifted(node: FakeNode, control: Control) -> None:
    node.banned = [Ban("192.0.2.7", "auth-failures", NOW + 12.4)]
    assert order(control, "list-bans") == {
        "bans": [{"source": "192.0.2.7", "reason": "auth-failures", "ends_in": 12}],
    }
    assert order(control, "lift-ban", source="192.0.2.7") == {"source": "192.0.2.7", "lifted": True}
    assert refused(control, "lift-ban", source="192.0.2.7") == "192.0.2.7 is not banned"


def test_wrong_orders_are_refused_in_words(control: Control) -> None:
    assert refused(control, "run") == "'run' is no order"
    assert refused(control, "add-user", name="bob") == "password is missing or no text"
    assert refused(control, "locate", aor=3) == "aor is missing or no text"


def test_a_node_that_does_not_run_takes_orders_about_users_only(node: FakeNode) -> None:
    control = Control(node, None)
    assert order(control, "add-user", name="bob", password="x")["change"] == "added"
    for name, fields in (("status", {}), ("locate", {"aor": "bob"}), ("list-bans", {}), ("lift-ban", {"source": "x"})):
        assert refused(control, name, **fields) == "the node is not running"


def test_orders_about_the_farm_are_carried_out_by_a_node_that_has_one(node: FakeNode, control: Control) -> None:
    for name in ("members", "lookup", "new-config"):
        assert refused(control, name, key="bob", record="") == (
            "this node is alone: its configuration has no [overlay] with listen"
        )
        assert refused(Control(node, None), name) == "the node is not running"
    assert "overlay" not in order(control, "status")
    node.join()
    assert order(control, "members") == {"members": node.known_members}
    assert order(control, "status")["overlay"] == node.overlay


def test_locate_and_lookup_tell_the_owners(node: FakeNode, control: Control) -> None:
    node.join()
    aor = "sip:bob@example.com"
    node.owning[aor] = [{"name": "n1"}]
    assert order(control, "locate", aor="bob") == {
        "aor": aor,
        "known": False,
        "contacts": [],
        "partition": len(aor),
        "owners": [{"name": "n1"}],
    }
    assert order(control, "lookup", key="bob") == {"key": aor, "partition": len(aor), "owners": [{"name": "n1"}]}
    node.traced = [{"hop": 1}]
    assert order(control, "lookup", key="bob", trace=True)["hops"] == [{"hop": 1, "for": aor}]
    assert order(control, "lookup", key="AB" * 32) == {"key": "ab" * 32, "hops": [{"hop": 1, "for": "ab" * 32}]}
    assert refused(control, "lookup") == "key is missing or no text"
    assert refused(control, "lookup", key="bob@other.test").startswith("'other.test' is none of our domains")


def test_the_overview_is_what_the_node_says(node: FakeNode, control: Control) -> None:
    assert order(control, "overview") == node.seen
    assert refused(Control(node, None), "overview") == "the node is not running"


def test_a_node_is_drained_and_undrained(node: FakeNode, control: Control) -> None:
    assert order(control, "drain") == {"draining": True}
    assert node.draining
    assert order(control, "undrain") == {"draining": False}
    assert not node.draining


def test_a_signed_configuration_is_handed_to_the_node_and_no_other(node: FakeNode, control: Control) -> None:
    node.join()
    assert order(control, "new-config", record="c2lnbmVk") == {"sequence": 4, "new": True}
    assert node.configs == [b"signed"]
    assert refused(control, "new-config", record="Zm9yZ2Vk") == "that is not from our authority"
    assert refused(control, "new-config", record="???") == "record is no base64"
    assert refused(control, "new-config") == "record is missing or no text"


def test_a_reload_answers_what_was_taken_and_a_mistake_is_the_orders(node: FakeNode) -> None:
    control = Control(node, node)
    node.changed, node.waiting = ["limits.burst"], ["sip.listen"]
    assert order(control, "reload") == {"changed": ["limits.burst"], "waiting": ["sip.listen"]}
    node.mistake = "not reloaded"
    with pytest.raises(OrderError, match="not reloaded"):
        order(control, "reload")
    with pytest.raises(OrderError, match="the node is not running"):
        order(Control(node, None), "reload")
