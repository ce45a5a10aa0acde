"""What is counted is what the library's own calls would count."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from longspan.serve.http import Notes
from longspan.serve.metrics import LENGTHS, Buckets, Metrics


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0, 4.0, 4.1, 1e9])
def test_a_value_many_times_is_the_value_each_time(value: float) -> None:
    texts = []
    for kind in (Histogram, Buckets):
        registry = CollectorRegistry()
        made = kind("a", "text", ["model"], buckets=LENGTHS, registry=registry).labels("m")
        if isinstance(made, Buckets):
            made.observe_many(value, 2)
            made.observe_many(value, 1)
        else:
            for _ in range(3):
                made.observe(value)
        texts.append([line for line in generate_latest(registry).splitlines() if b"_created" not in line])
    assert texts[0] == texts[1]


def test_items_are_counted_one_by_one() -> None:
    metrics = Metrics()
    metrics.lengths("m", [3, 3, 900])
    metrics.answered(Notes(model="m", items=2048, tokens=4096, compute=0.25), 0.5)
    text = metrics.text().decode()
    for line in (
        'te_request_input_length_count{model="m"} 3.0',
        'te_request_input_length_sum{model="m"} 906.0',
        'te_embed_inference_duration_count{model="m"} 2048.0',
        'te_embed_inference_duration_sum{model="m"} 512.0',
        'te_request_duration_sum{model="m"} 0.5',
        'te_embed_success{model="m"} 2048.0',
    ):
        assert line in text
