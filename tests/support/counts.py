"""What prometheus_client's metrics read: they are made to be counted and scraped, and answer nothing by themselves."""

from __future__ import annotations

from prometheus_client.metrics import MetricWrapperBase


def read(series: MetricWrapperBase) -> float:
    """What a counter or gauge reads; of a histogram, how many values it noted."""
    (metric,) = series.collect()
    suffix = {"counter": "_total", "gauge": "", "histogram": "_count"}[metric.type]
    return read_sample(series, suffix)


def read_sample(series: MetricWrapperBase, suffix: str) -> float:
    """What the one sample with this suffix reads, such as "_sum" of a histogram."""
    (metric,) = series.collect()
    (value,) = (sample.value for sample in metric.samples if sample.name == metric.name + suffix)
    return value
