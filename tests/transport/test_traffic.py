"""What is counted of the messages that go by."""

from __future__ import annotations

import pytest

from farm.metrics import Metrics
from farm.transport.traffic import Traffic
from tests.support.counts import read
from tests.support.messages import request_bytes, response_bytes


@pytest.mark.parametrize(
    ("data", "family", "labels"),
    [
        (request_bytes("INVITE"), "sip_requests", ("INVITE", "out")),
        (request_bytes("FROBNICATE"), "sip_requests", ("other", "out")),
        (response_bytes(200, method="BYE"), "sip_responses", ("BYE", "2xx", "out")),
        (response_bytes(600, method="FROBNICATE"), "sip_responses", ("other", "6xx", "out")),
        (response_bytes(180).replace(b"CSeq: ", b"cseq:"), "sip_responses", ("INVITE", "1xx", "out")),
        (response_bytes(180).replace(b"CSeq: 1 ", b"CSeq: 1   "), "sip_responses", ("INVITE", "1xx", "out")),
        (b"x", "sip_requests", ("other", "out")),
        (b"SIP/2.0 200 OK\r\n\r\n", "sip_responses", ("other", "2xx", "out")),
    ],
)
def test_what_goes_out_is_counted_by_method_and_class(data: bytes, family: str, labels: tuple[str, ...]) -> None:
    metrics = Metrics()
    Traffic(metrics).count_sent(data)
    assert read(getattr(metrics, family).child(*labels)) == 1


def test_what_comes_in_is_counted_and_strangers_make_no_series() -> None:
    metrics = Metrics()
    traffic = Traffic(metrics)
    for method in ("INVITE", "FROBNICATE"):
        traffic.count_request(method)
        traffic.count_response(method, 404)
    for method in ("INVITE", "other"):
        assert read(metrics.sip_requests.child(method, "in")) == 1
        assert read(metrics.sip_responses.child(method, "4xx", "in")) == 1
