"""What a trace keeps, and what it does not."""

from __future__ import annotations

from farm.capture.catch import MESSAGE_BYTES, MOST_BYTES, MOST_CALLS, MOST_MESSAGES, Catch
from farm.capture.reading import Sought
from farm.capture.seen import Seen

ALICE = Sought("sip:alice@h")


def see(head: str, call_id: str = "c1", body: str = "") -> Seen:
    data = f"{head}\r\nCall-ID: {call_id}\r\n\r\n{body}".encode()
    return Seen(1, "UDP", True, ("192.0.2.1", 5060), ("192.0.2.9", 5060), data)


def test_all_of_a_call_is_caught_from_the_first_message_that_is_about_who_is_sought() -> None:
    catch = Catch(ALICE)
    bye, invite = see("BYE sip:bob@h SIP/2.0"), see("INVITE sip:alice@h SIP/2.0")
    assert [catch.look(seen) for seen in (bye, invite, bye, see("BYE sip:bob@h SIP/2.0", "c2"))] == [
        False,
        True,
        True,
        False,
    ]
    assert len(catch) == 2
    assert catch.take() == [invite, bye]
    assert catch.take() == []
    assert catch.look(bye), "the call is still followed"


def test_a_message_without_call_id_stands_alone() -> None:
    catch = Catch(ALICE)
    data = b"INVITE sip:alice@h SIP/2.0\r\n\r\n"
    assert catch.look(see("")._replace(data=data))
    assert not catch.look(see("")._replace(data=b"BYE sip:bob@h SIP/2.0\r\n\r\n"))


def test_more_messages_than_are_kept_are_lost_and_counted_once() -> None:
    catch = Catch(ALICE)
    for _ in range(MOST_MESSAGES + 3):
        assert catch.look(see("INVITE sip:alice@h SIP/2.0"))
    assert len(catch.take()) == MOST_MESSAGES
    assert (catch.take_lost(), catch.take_lost()) == (3, 0)


def test_long_messages_count_by_what_is_kept_of_them() -> None:
    catch = Catch(ALICE)
    for _ in range(40):
        catch.look(see("INVITE sip:alice@h SIP/2.0", body="x" * 100_000))
    assert len(catch) == MOST_BYTES // MESSAGE_BYTES == 32
    assert catch.take_lost() == 8


def test_as_much_is_taken_at_once_as_is_wanted_and_one_message_at_least() -> None:
    catch = Catch(ALICE)
    for _ in range(3):
        catch.look(see("INVITE sip:alice@h SIP/2.0", body="x" * 1000))
    assert [len(catch.take(most)) for most in (2500, 1)] == [2, 1]
    for _ in range(MOST_MESSAGES):
        catch.look(see("INVITE sip:alice@h SIP/2.0"))
    assert catch.take_lost() == 0, "what was taken makes room"


def test_calls_without_number_do_not_fill_the_memory_and_the_oldest_is_forgotten() -> None:
    catch = Catch(ALICE)
    for number in range(MOST_CALLS + 1):
        catch.look(see("INVITE sip:alice@h SIP/2.0", f"c{number}"))
    assert not catch.look(see("BYE sip:bob@h SIP/2.0", "c0"))
    assert catch.look(see("BYE sip:bob@h SIP/2.0", "c1"))
