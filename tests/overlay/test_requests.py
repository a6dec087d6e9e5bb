"""What is known of every request."""

from __future__ import annotations

import typing

from farm.labels import RPCS
from farm.metrics import Metrics
from farm.overlay import wire
from farm.overlay.requests import CLASS_OF, RANK, make_kinds
from farm.series import OTHER


def test_every_request_has_a_name_in_the_metrics_and_every_answer_answers_one() -> None:
    metrics = Metrics()
    kinds = make_kinds(metrics)
    assert set(kinds) == set(typing.get_args(wire.Request))
    answers = {answer for kind in kinds.values() for answer in kind.answers}
    assert answers == set(typing.get_args(wire.Answer)) - {wire.Error}
    others = (metrics.rpc_seconds.child(OTHER).observe, metrics.rpc_timeouts.child(OTHER))
    assert not any(kind.observe == others[0] or kind.timeouts is others[1] for kind in kinds.values())
    assert len({kind.timeouts for kind in kinds.values()}) == len(kinds) == len(RPCS)


def test_a_request_and_what_answers_it_count_as_the_same() -> None:
    for request, kind in make_kinds(Metrics()).items():
        assert {CLASS_OF.get(answer) for answer in kind.answers} == {CLASS_OF.get(request)}
    assert set(CLASS_OF.values()) < set(RANK)
