"""Counters and times of the HTTP side."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..records.gauges import QueueGauges

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class HttpMetrics:
    """Counts responses; one per app, with a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests",
            "Responses by method, route and status.",
            ["method", "path", "status"],
            registry=self.registry,
        )
        self._shortfall = Counter(
            "store_search_shortfall_items",
            "Items found by meaning that may not be the nearest: there was too much to compare.",
            registry=self.registry,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time until a response was complete; streams last as long as they are read.",
            ["method", "path"],
            buckets=_BUCKETS,
            registry=self.registry,
        )

    def observe_shortfall(self, items: int) -> None:
        """Count items that a search by meaning could not vouch for."""
        self._shortfall.inc(items)

    def observe(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count one response."""
        self._requests.labels(method, path, str(status)).inc()
        self._seconds.labels(method, path).observe(seconds)

    def exposition(self, queue: QueueGauges) -> bytes:
        """Everything in Prometheus' text format."""
        registry = CollectorRegistry()
        for name, value in queue.items():
            Gauge(f"queue_{name}", f"{name} over all tenants.", registry=registry).set(float(str(value)))
        return generate_latest(self.registry) + generate_latest(registry)

    def totals(self) -> list[dict[str, Any]]:
        """Responses so far, as objects."""
        return [
            {**sample.labels, "count": int(sample.value)}
            for family in self._requests.collect()
            for sample in family.samples
            if sample.name == "http_requests_total"
        ]
