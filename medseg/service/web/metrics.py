"""Numbers for Prometheus: what the journal says now, how long stages took since this process began, and requests.

No label holds what a patient is known by: states, receivers, stages, routes of the API and versions are all there is.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

import medseg
from medseg.service.journal import Journal
from medseg.service.journal.states import State
from medseg.service.journal.tables import jobs
from medseg.service.journal.tail import Tail
from medseg.service.settings.site import Site

WAITING: tuple[State, ...] = ("received", "queued", "proven", "held")
STAGES: Mapping[tuple[str, str], str] = {
    ("received", "queued"): "routing",
    ("queued", "running"): "waiting",
    ("running", "written"): "predicting",
    ("written", "proven"): "proving",
    ("proven", "sent"): "sending",
    ("sent", "done"): "confirming",
}
"""From state to state."""
SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
BEATING_S = 10.0
"""Between two looks at the beats of a process, at least."""


class Metrics:
    """The numbers of one service. Safe to use from several threads."""

    def __init__(self, site: Site, journal: Journal):
        self._registry, self._lock = CollectorRegistry(), threading.Lock()
        build = Gauge("medseg_build_info", "Which version answers.", ("version",), registry=self._registry)
        build.labels(medseg.__version__).set(1)
        words = ("route", "method", "status")
        self._requests = Counter("medseg_http_requests", "Requests answered.", words, registry=self._registry)
        self._stages = Histogram(
            "medseg_stage_seconds",
            "How long jobs took from state to state, since this process began.",
            ("stage",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._at = dict[int, tuple[str, float]]()
        self._changes = Tail(journal.jobs)
        self._registry.register(_Now(site, journal))

    def count(self, route: str, method: str, status: int) -> None:
        """A request was answered."""
        known = method if method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"
        self._requests.labels(route, known, str(status)).inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        with self._lock:
            for _, event in self._changes.new():
                self._observe(event.job, event.state, event.at)
        return generate_latest(self._registry)

    def _observe(self, job: int, state: str, at: float) -> None:
        former = self._at.pop(job, None)
        if former and former[0] == state:  # a note beside a state that stays
            self._at[job] = former
            return
        stage = STAGES.get((former[0], state)) if former else None
        if former and stage:
            self._stages.labels(stage).observe(max(0.0, at - former[1]))
        if any(state == begun for begun, _ in STAGES):
            self._at[job] = state, at


class _Now(Collector):
    """What the journal and the disk say when they are asked."""

    def __init__(self, site: Site, journal: Journal):
        self._site, self._journal = site, journal
        self._beats: dict[str, dict[int, int]] = {}
        self._looked, self._alive = float("-inf"), (0, 0)

    def collect(self) -> Iterator[Metric]:
        counts = {str(state): float(count) for state, count in self._journal.jobs.counts().items()}
        yield _family("medseg_jobs", "Jobs by state.", "state", counts)
        yield _family("medseg_oldest_seconds", "Age of the oldest job that waits.", "state", self._ages())
        sent = GaugeMetricFamily("medseg_deliveries", "Results on their way.", labels=("receiver", "state"))
        for receiver, states in self._journal.deliveries.counts().items():
            for state, count in states.items():
                sent.add_metric((receiver, state), count)
        yield sent
        alive, silent = self._processes()
        told = {"yes": alive, "no": silent}
        yield _family("medseg_processes", "Processes that have a job, by whether they beat for it.", "beating", told)
        for name, words, value in self._objects():
            yield GaugeMetricFamily(name, words, value=value)
        disk = shutil.disk_usage(self._site.at(self._site.data))
        for name, count in (("free", disk.free), ("total", disk.total)):
            yield GaugeMetricFamily(f"medseg_disk_{name}_bytes", "Of the data folder's disk.", value=count)

    def describe(self) -> list[Metric]:
        """Nothing is asked of the journal when this is registered."""
        return []

    def _ages(self) -> dict[str, float]:
        query = select(jobs.c.state, func.min(jobs.c.changed_at)).where(jobs.c.state.in_(WAITING))
        with self._journal.database.read() as connection:
            found = {row[0]: row[1] for row in connection.execute(query.group_by(jobs.c.state))}
        return {state: max(0.0, time.time() - found[state]) if state in found else 0.0 for state in WAITING}

    def _objects(self) -> list[tuple[str, str, float]]:
        counts = self._journal.arrivals.counts()
        return [
            ("medseg_objects_received", "DICOM objects, as often as they came.", counts.received),
            ("medseg_objects_repeated", "Of these, how many were here already.", counts.duplicates),
            ("medseg_studies", "Studies with objects here.", counts.studies),
            ("medseg_studies_open", "Of these, how many are not complete yet.", counts.open),
        ]

    def _processes(self) -> tuple[int, int]:
        """How many have a job, and beat for one since the last look or not; those that are new beat."""
        now = time.monotonic()
        if now - self._looked >= BEATING_S:
            owned = self._journal.jobs.owned()
            silent = [owner for owner, beats in owned.items() if self._beats.get(owner) == beats]
            self._beats, self._looked, self._alive = owned, now, (len(owned) - len(silent), len(silent))
        return self._alive


def _family(name: str, words: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family
