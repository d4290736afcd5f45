"""What a monitor reads: Prometheus's text format."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from edge.engine.types import Timings

if TYPE_CHECKING:
    from edge.server.serving import Serving

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
RECENT = 50  # answers
TOKENS_A_SECOND = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """One registry a server, so that two of them in a process do not meet."""

    def __init__(self, serving: Serving) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(Now(serving))
        self.began = time.monotonic()
        self.recent: deque[Timings] = deque(maxlen=RECENT)
        self.errors = Counter("edge_errors", "Requests that failed, by code", ["kind"], registry=registry)
        self.requests = Counter("edge_requests", "Answered HTTP requests", ["endpoint", "status"], registry=registry)
        self.prompt_tokens = Counter("edge_prompt_tokens", "Tokens of prompts", registry=registry)
        self.cached_tokens = Counter("edge_cached_tokens", "Of these, tokens that were in the cache", registry=registry)
        self.generated_tokens = Counter("edge_generated_tokens", "Tokens of answers", registry=registry)
        self.queue = Histogram("edge_queue_seconds", "Until a slot was free", buckets=SECONDS, registry=registry)
        self.ttft = Histogram("edge_ttft_seconds", "Until the first token", buckets=SECONDS, registry=registry)
        self.itl = Histogram(
            "edge_itl_seconds", "Between two tokens, mean of an answer", buckets=SECONDS, registry=registry
        )
        self.prefill = Histogram(
            "edge_prefill_tokens_per_second", "Computed prompt tokens", buckets=TOKENS_A_SECOND, registry=registry
        )
        self.decode = Histogram(
            "edge_decode_tokens_per_second", "Answer tokens", buckets=TOKENS_A_SECOND, registry=registry
        )

    def saw(self, timings: Timings) -> None:
        """An answer has ended."""
        self.recent.append(timings)
        self.prompt_tokens.inc(timings.prompt_tokens)
        self.cached_tokens.inc(timings.cached_tokens)
        self.generated_tokens.inc(timings.generated_tokens)
        self.queue.observe(timings.queue)
        if timings.generated_tokens:
            self.ttft.observe(timings.first_token)
            self.prefill.observe(timings.prefill_rate)
        if timings.decode and timings.generated_tokens > 1:
            self.itl.observe(timings.decode / (timings.generated_tokens - 1))
            self.decode.observe(timings.decode_rate)

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Now(Collector):
    """What is so at the moment."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    def collect(self) -> Iterable[GaugeMetricFamily]:
        gate = self._serving.gate
        values = {
            "edge_slots": ("Answers that can be at work at once", gate.slots),
            "edge_slots_busy": ("Answers at work", min(gate.inside, gate.slots)),
            "edge_queue_length": ("Answers that wait for a slot", gate.waiting),
            "edge_ready": ("Whether the model is loaded", int(self._serving.loaded is not None)),
            "edge_memory_bytes": ("Resident memory of the process, mapped weights included", memory()),
        }
        for name, (text, value) in values.items():
            yield GaugeMetricFamily(name, text, value=value)


def counts(counter: Counter, label: str) -> dict[str, int]:
    """How much it has counted, by one of its labels."""
    found = Tally[str]()
    for sample in (sample for metric in counter.collect() for sample in metric.samples):
        if sample.name.endswith("_total"):
            found[sample.labels[label]] += int(sample.value)
    return dict(found)


def memory() -> int:
    return psutil.Process().memory_info().rss
