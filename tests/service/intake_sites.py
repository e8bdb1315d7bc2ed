"""Sites, objects and senders for tests of what comes in."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from medseg.service.intake.store import Kept, Store
from medseg.service.journal import Journal
from medseg.service.settings.site import Site
from tests import dicom_series as ds
from tests import judges

STUDY = "1.2.826.0.1.3680043.8.498.88.1"


def site_in(folder: Path, **sections: Any) -> Site:
    """A site with its data in `folder`, on a disk of any size, on a free port."""
    usual = {"listen": {"port": 0, "quiet_s": 0.2}, "keep": {"free_gib": 0}}
    return Site.model_validate({**usual, **sections, "folder": folder})


@contextmanager
def store_in(folder: Path, journal: Journal, **sections: Any) -> Iterator[Store]:
    store = Store(site_in(folder, **sections), journal)
    try:
        yield store
    finally:
        store.close()


def image(number: int, *, study: str = STUDY, series: str = "", **more: object) -> Dataset:
    """Slice `number` of a small CT study."""
    about = {"StudyInstanceUID": study, **more}
    made = ds.slice_((0, 0, 3.0 * number), number=number, series=series or f"{study}.1", **about)  # type: ignore[arg-type]
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number}"
    return made


def save(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def hand_in(store: Store, dataset: Dataset, sender: str = "CT1") -> Kept:
    return store.keep(save(dataset, store.incoming / "in.part"), sender)


def send(port: int, *paths: Path, calling: str = "CT1", called: str = "MEDSEG", more: tuple[str, ...] = ()) -> bool:
    """Send files by dcmtk; says whether all were taken."""
    words = [
        judges.program("storescu"),
        "-aet",
        calling,
        "-aec",
        called,
        *more,
        "127.0.0.1",
        str(port),
        *map(str, paths),
    ]
    return subprocess.run(words, capture_output=True, timeout=120).returncode == 0
