"""What operators see of a node that nobody has configured."""

from __future__ import annotations

import msgspec
import pytest

from farm.watch_settings import AccountingSettings, AdminSettings, CaptureSettings, LogSettings


def test_the_pages_are_for_this_machine_alone_until_somebody_opens_them() -> None:
    assert AdminSettings().http.startswith("127.0.0.1:")


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"level": "loud"}, LogSettings)


def test_nothing_is_copied_and_no_password_s_proof_is_shown_unless_somebody_says_so() -> None:
    assert CaptureSettings().homer == ()
    assert CaptureSettings().mask_credentials


@pytest.mark.parametrize("given", [{"share": 0}, {"share": 1.1}, {"agent_id": -1}, {"agent_id": 2**32}])
def test_what_a_copy_has_no_room_for_is_refused(given: dict[str, float]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(given, CaptureSettings)


def test_nobody_s_calls_are_written_down_until_somebody_says_where() -> None:
    settings = AccountingSettings()
    assert (settings.file, settings.redis) == ("", "")


@pytest.mark.parametrize("bad", [{"most_calls": 0}, {"rotate_bytes": -1}, {"longest_call_seconds": 0}, {"files": "x"}])
def test_accounting_with_nonsense_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(bad, AccountingSettings)
