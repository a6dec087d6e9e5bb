"""Families whose series are all declared, over prometheus_client's metrics."""

from __future__ import annotations

from math import isnan

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from farm.series import Family, Gauge, make_combinations
from tests.support.counts import read, read_sample


def make_counter(labels: tuple[str, ...], combinations: list[tuple[str, ...]]) -> Family[Counter]:
    return Family(Counter("x_total", "What.", labels, registry=None), labels, combinations)


def test_children_exist_from_the_start_and_count() -> None:
    family = make_counter(("a", "b"), make_combinations(("1", "2"), ("3",)))
    family.child("2", "3").inc()
    family.child("2", "3").inc(2)
    (metric,) = family.collect()
    assert [(sample.labels, sample.value) for sample in metric.samples if sample.name == "x_total"] == [
        ({"a": "1", "b": "3"}, 0),
        ({"a": "2", "b": "3"}, 3),
    ]


def test_a_family_says_what_it_is() -> None:
    family = make_counter(("a",), [])
    assert (family.name, family.kind, family.meaning, family.labels) == ("x_total", "counter", "What.", ("a",))
    plain = Family(Gauge("y", "That.", registry=None), (), [()])
    assert (plain.name, plain.kind, plain.labels) == ("y", "gauge", ())


def test_what_a_stranger_invents_counts_as_other() -> None:
    family = make_counter(("method",), [("INVITE",), ("other",)])
    family.child("HACK").inc()
    family.child("HACK2").inc()
    assert read(family.child("other")) == 2
    assert len(list(family)) == 2


def test_other_is_made_when_it_was_not_declared_and_stays_one_series() -> None:
    family = make_counter(("method",), [("INVITE",)])
    for number in range(100):
        family.child(f"M{number}").inc()
    assert [values for values, _ in family] == [("INVITE",), ("other",)]


def test_a_value_from_the_configuration_can_be_declared_later() -> None:
    family = Family(Gauge("up", "What.", ("target",), registry=None), ("target",), ())
    family.declare('sip:a"\\\n').set(1)
    family.declare('sip:a"\\\n').inc()
    assert read(family.child('sip:a"\\\n')) == 2
    with pytest.raises(ValueError, match="up has 1 labels, got 2 values"):
        family.declare("a", "b")


def test_a_gauge_goes_up_and_down_or_asks() -> None:
    gauge = Gauge("x", "What.", registry=None)
    gauge.set(5)
    gauge.inc()
    gauge.dec(2)
    assert read(gauge) == 4
    gauge.set_function(lambda: 7)
    assert read(gauge) == 7


def test_a_gauge_that_cannot_be_asked_reads_nan_and_spoils_no_scrape() -> None:
    registry = CollectorRegistry()
    family = Family(Gauge("x", "What.", ("a",), registry=registry), ("a",), [("1",), ("2",)])
    family.child("1").set_function(lambda: 1 / 0)
    family.child("2").set(5)
    (parsed,) = text_string_to_metric_families(generate_latest(registry).decode())
    failed, sound = parsed.samples
    assert isnan(failed.value)
    assert sound.value == 5


def test_a_histogram_counts_what_it_observes() -> None:
    family = Family(Histogram("d_seconds", "What.", buckets=(0.1, 1.0), registry=None), (), [()])
    for value in (0.05, 0.1, 0.5, 3.0):
        family.child().observe(value)
    assert read(family.child()) == 4
    assert read_sample(family.child(), "_sum") == pytest.approx(3.65)


def test_a_forgotten_child_is_scraped_no_more_and_begins_anew() -> None:
    registry = CollectorRegistry()
    family = Family(Gauge("x", "What.", ("a",), registry=registry), ("a",), [("1",), ("2",)])
    family.child("1").set(5)
    family.forget("1")
    family.forget("never known")
    assert b'a="1"' not in generate_latest(registry)
    assert read(family.declare("1")) == 0


def test_a_family_writes_what_prometheus_client_would() -> None:
    disable_created_metrics()
    for family in (
        Family(
            Histogram("d_seconds", "How \\ long.", ("z", "a"), buckets=(0.1, 1e7), registry=None),
            ("z", "a"),
            [("1", "2")],
        ),
        Family(Gauge("y", "That.", registry=None), (), [()]),
        Family(Gauge("up", "Which\nis.", ("target",), registry=None), ("target",), [('sip:a"\\\n',), ("",)]),
        make_counter(("a", "b"), make_combinations(("1", "2"), ("3",))),
        make_counter(("none",), []),
    ):
        for value in (0.0, 0.05, 123456789.0, -3.5, float("inf"), float("nan")):
            for _, child in family:
                if isinstance(child, Histogram):
                    child.observe(value)
                elif isinstance(child, Gauge):
                    child.set(value)
                elif value > 0:
                    child.inc(value)
            registry = CollectorRegistry()
            registry.register(family)
            lines: list[str] = []
            family.write(lines)
            assert "".join(lines) == generate_latest(registry).decode()


def test_what_is_forgotten_is_written_no_more_and_what_comes_later_is() -> None:
    family = Family(Gauge("up", "What.", ("a",), registry=None), ("a",), [("1",)])
    family.declare("2").set_function(lambda: 1 / 0)
    family.forget("1")
    lines: list[str] = []
    family.write(lines)
    assert lines == ["# HELP up What.\n# TYPE up gauge\n", 'up{a="2"} NaN\n']
