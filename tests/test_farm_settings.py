"""The farm's settings as a lone node finds them."""

from __future__ import annotations

import msgspec
import pytest

from farm.farm_settings import DnsSettings, OverlaySettings, StoreSettings


def test_a_node_is_alone_and_answers_no_questions_until_somebody_says_where() -> None:
    assert OverlaySettings().listen == ""
    assert DnsSettings().listen == ()


def test_records_are_kept_on_disk_unless_somebody_says_otherwise() -> None:
    assert StoreSettings().backend == "sqlite"


@pytest.mark.parametrize("replicas", [0, 17])
def test_a_record_has_at_least_one_owner_and_at_most_sixteen(replicas: int) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"replicas": replicas}, OverlaySettings)
