"""Workers on the machines of a Ray cluster: the same worker, the same journal; Ray starts, moves and ends them."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medseg import atomic
from medseg.optional import need
from medseg.refusal import Refusal
from medseg.service import logs
from medseg.service.journal import Journal
from medseg.service.settings.site import Site
from medseg.service.work import liveness, post
from medseg.service.work.pool import KILL_S, Child, Hand

log = logging.getLogger(__name__)

LOCAL = "local"
Shipped = Mapping[str, Sequence[tuple[str, Any]]]
"""Model, as jobs name it -> of each of its runs the sha256 of its zip, and the zip in Ray's store."""


class Cluster:
    """A connection to a cluster, and what its workers need."""

    def __init__(self, ray: Any, site: Site, models: Iterable[str]):
        self._ray = ray
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._gpus = int(sum(node.get("GPU", 0) for node in there)) if site.work.device in ("auto", "cuda") else 0
        self.workers = site.work.workers or self._gpus or len(there)
        each = -(-self.workers // max(1, len(there)))
        self.threads = site.work.threads or max(1, int(min(node.get("CPU", 1) for node in there)) // each)
        self._shipped = {model: [_shipped(ray, run) for run in _runs(model)] for model in models}

    def start(self, site: Site, role: str, number: int) -> Hand:
        """Whoever holds a post: workers on the cluster, all others here."""
        if role != "worker":
            return Child(site, role, number)
        work = site.work.model_copy(update={"threads": self.threads})
        needs = {"num_cpus": self.threads, "num_gpus": 1 if self._gpus else 0}
        return Actor(self._ray, site.model_copy(update={"work": work}), number, self._shipped, needs)


@contextmanager
def connected(address: str, site: Site, journal: Journal, models: Iterable[str]) -> Iterator[Cluster]:
    """Within it, there is a cluster to start workers on.

    Args:
        address: as `ray.init` takes it; or `local`, for one that is made on this machine and ends with this.
        models: that jobs will name; each machine gets them once. Others it must find where jobs say.

    Raises:
        Refusal: Ray is not installed, the cluster does not answer, or other machines could not use the journal.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reports its use to its makers unless told not to
    ray = need("ray", extra="cluster", purpose="run models on several machines")
    where: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {"address": address}
    try:
        ray.init(log_to_driver=False, logging_level=logging.WARNING, **where)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise Refusal(
            f"--ray {address}",
            found=f"no cluster that answers ({error})",
            needed="the address of its head, such as 10.0.0.1:6379, auto, or local for one on this machine",
            remedy="check it with `ray status`",
        ) from error
    try:
        _refuse_file(ray, journal)
        yield Cluster(ray, site, models)
    finally:
        ray.shutdown()


def _refuse_file(ray: Any, journal: Journal) -> None:
    others = sorted({node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]} - {liveness.here()})
    if others and journal.database.is_file:
        raise Refusal(
            journal.database.name,
            found=f"a journal in a file, and a cluster with other machines ({', '.join(others)})",
            needed="a database that all of them reach: a file's locks do not hold across machines",
            remedy="set `journal: postgresql://...` in site.yaml, or --journal",
        )


class Actor:
    """A `Hand` that is a worker in a process of Ray's, somewhere on the cluster."""

    def __init__(self, ray: Any, site: Site, number: int, shipped: Shipped, needs: Mapping[str, int]):
        self._ray = ray
        self.owner = f"worker{number}@ray#{uuid.uuid4().hex[:12]}"  # where it will run is not known; its beats tell
        made = ray.remote(Holder).options(max_concurrency=2, max_restarts=0, scheduling_strategy="SPREAD", **needs)
        self._actor = made.remote(site, self.owner, dict(shipped))
        self._life = self._actor.live.remote()

    def alive(self) -> bool:
        return not self._ray.wait([self._life], timeout=0)[0]

    def fault(self) -> str:
        try:
            return str(self._ray.get(self._life, timeout=0))
        except self._ray.exceptions.RayError as error:
            return str(error).strip().partition("\n")[0]

    def end(self) -> None:
        self._actor.end.remote()

    def kill(self) -> None:
        self._ray.kill(self._actor)
        self._ray.wait([self._life], timeout=KILL_S)


class Holder:
    """What runs in Ray's process."""

    def __init__(self, site: Site, owner: str, shipped: Shipped):
        self._site, self._owner, self._shipped = site, owner, shipped
        self._asked = threading.Event()

    def live(self) -> str:
        """Steps of a worker until it is asked to end; says what went wrong, if that is no job's fault, as nothing."""
        from sqlalchemy.exc import DBAPIError

        logs.begin()
        try:
            post.serve("worker", self._site, self._owner, self._asked.is_set, locate=self._locate)
        except (DBAPIError, OSError) as error:
            log.error("the journal or the disk cannot be used", extra={"facts": {"error": logs.place(error)}})
        return ""

    def end(self) -> None:
        self._asked.set()

    def _locate(self, model: str) -> list[Path]:
        """The runs of a model on this machine; each that was shipped is written once, whoever asks first."""
        import ray

        if model not in self._shipped:
            return [Path(model)]
        found = []
        for sha256, stored in self._shipped[model]:
            path = _kept() / f"{sha256}.zip"
            if not path.exists():
                with atomic.replacing(path) as partial:
                    partial.write_bytes(ray.get(stored))
            found.append(path)
        return found


def _kept() -> Path:
    """Folder of models that were shipped to this machine."""
    from medseg.engine.backends import user_cache

    return user_cache() / "models"


def _runs(model: str) -> list[Path]:
    from medseg.engine import folds

    return folds.run_folders([Path(model)])


def _shipped(ray: Any, run: Path) -> tuple[str, Any]:
    """A run's zip in Ray's store, which hands it to each machine once; under its sha256, so that none is written twice
    and none is taken for another."""
    from medseg.engine.run import Run, export

    with tempfile.TemporaryDirectory(prefix="medseg-") as folder:
        export(Run.open(run), Path(folder) / "run.zip")
        content = (Path(folder) / "run.zip").read_bytes()
    return hashlib.sha256(content).hexdigest(), ray.put(content)
