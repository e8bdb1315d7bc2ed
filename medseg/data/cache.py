"""Prepared cases on disk: arrays in compressed chunks, found again by what made them, never half-written.

A case lives in `<folder>/<case>-<hash>/`, where the hash covers the preparation, the label table and the content of the
case's source files, so that any change of these makes a new folder and nothing stale is ever read. The folder holds the
image and the target (see `data.chunks`), `coordinates.npy`, `components.npy` and `meta.json`, and no time stamps: equal
inputs give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medseg.atomic import replacing, replacing_folder
from medseg.case import Case
from medseg.data import chunks, components
from medseg.data.chunks import Chunked
from medseg.data.components import Components
from medseg.labels import LabelTable
from medseg.plan import Plan
from medseg.refusal import Refusal
from medseg.transforms.prepare import Undo

FORMAT = 5
"""Raised whenever the same plan and sources would give other arrays or files than before."""
PREPARATION = (
    "orientation",
    "spacing_mm",
    "size",
    "antialias",
    "steps",
    "normalisation",
    "crop",
    "order",
    "channels",
    "channels_on_other_grids",
)
"""Fields of a plan that decide the prepared arrays; patch and batch may change without preparing anew."""
COORDINATES_PER_CLASS = 2000
COORDINATES_SEED = 3
"""Fixed, so that two runs choose the same voxels."""


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """One case as the network sees it; the arrays stay on disk, and slicing or `np.asarray` reads them.

    Attributes:
        id: of the case.
        image: float32 (C, i, j, k).
        target: (1, i, j, k) class numbers or (R, i, j, k) of 0 and 1; of slices (R, 1, 1, k), of a whole image
            (1 or R, 1, 1, 1); None for a case without labels.
        undo: the way back to the scan.
        coordinates: up to 2000 voxels (n, 3) of each label that is present, by its position in the label table.
        voxels: how many voxels each label of the table has.
        components: connected parts of each label that is present.
    """

    id: str
    image: np.ndarray | Chunked
    target: np.ndarray | Chunked | None
    undo: Undo
    coordinates: Mapping[int, np.ndarray]
    voxels: tuple[int, ...]
    components: Mapping[int, Components] = field(default_factory=dict)


@dataclass(frozen=True)
class Cache:
    """A folder of prepared cases for one way of preparing.

    Attributes:
        folder: holds one folder per case; caches of several plans may share it.
        key: from `cache_key`.
    """

    folder: Path
    key: str

    def place(self, case: Case, contents: Mapping[str, str]) -> Path:
        """Folder of a case. `contents`: sha256 of its sources, by channel name or "target"."""
        made_from = {"key": self.key, "case": case.id, "contents": dict(contents), "classes": case.classes}
        name = re.sub(r"[^A-Za-z0-9._-]", "_", case.id)[:100].lstrip(".")
        return self.folder / f"{name}-{digest(made_from)[:12]}"

    def open(self, case: Case, contents: Mapping[str, str]) -> PreparedCase:
        return open_case(self.place(case, contents))


def cache_key(plan: Plan, table: LabelTable, reading: Mapping[str, Any] | None = None) -> str:
    """sha256 of everything but the sources that decides a prepared case. Names and colours of labels do not.

    `reading`: how files are read, as far as that differs from the usual.
    """
    fields = plan.model_dump(mode="json", include=set(PREPARATION))
    members = [list(label.members) for label in table.labels]
    unknown = [table.ignore, *(list(label.unknown) for label in table.labels)]
    kind = [table.unit, table.exclusive]
    made_by = {"format": FORMAT, "plan": fields, "kind": kind, "members": members, "unknown": unknown}
    return digest(made_by | ({"reading": dict(reading)} if reading else {}))


def digest(value: Any) -> str:
    """sha256 of canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_case(
    place: Path, case: str, image: np.ndarray, target: np.ndarray | None, undo: Undo, table: LabelTable
) -> None:
    """Write a prepared case so that its folder appears only when everything in it is on disk.

    Raises:
        OSError: with errno ENOSPC when the disk is full; nothing is left behind.
    """
    coordinates, voxels = _foreground(target, table)
    arrays = {"image": image} | ({} if target is None else {"target": target})
    with replacing_folder(place) as folder:
        meta = {
            "format": FORMAT,
            "case": case,
            "undo": undo.to_json(),
            "voxels": voxels,
            "arrays": {name: chunks.write(folder, name, array) for name, array in arrays.items()},
        }
        chunks.save(folder / "coordinates.npy", coordinates)
        chunks.save(folder / "components.npy", components.find(target, table))
        meta["files"] = {file.name: _sealed(file) for file in files_under(folder)}
        with (folder / "meta.json").open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(json.dumps(meta, sort_keys=True, indent=1) + "\n")
            handle.flush()
            os.fsync(handle.fileno())


def is_complete(place: Path, *, verify: bool = False) -> bool:
    """Whether a case folder holds all that its meta.json lists, in full length, the small files with their sha256;
    `verify` also compares that of the chunks."""
    meta = _meta(place)
    return meta is not None and _sound(place, meta, verify=verify)


def open_case(place: Path) -> PreparedCase:
    """A prepared case, of whose image and target nothing is read yet.

    Raises:
        Refusal: the folder is missing or damaged.
    """
    meta = _written(place)
    if not _sound(place, meta):
        raise _damaged(place)
    arrays = {name: chunks.read(place, name, described) for name, described in meta["arrays"].items()}
    ends = np.cumsum(np.minimum(meta["voxels"], COORDINATES_PER_CLASS))
    of_labels = np.split(np.load(place / "coordinates.npy"), ends)[:-1]
    return PreparedCase(
        id=meta["case"],
        image=arrays["image"],
        target=arrays.get("target"),
        undo=Undo.from_json(meta["undo"]),
        coordinates={label: voxels for label, voxels in enumerate(of_labels) if len(voxels)},
        voxels=tuple(meta["voxels"]),
        components=components.grouped(np.load(place / "components.npy")),
    )


def image_hash(place: Path) -> str:
    """sha256 of what the network sees of a case: equal for copies of an image, whatever their files are called, and
    however their axes lie. Nothing but a small file is read.

    Raises:
        Refusal: as `open_case`, of that file.
    """
    meta = _written(place)
    return digest([meta["arrays"]["image"], meta["files"]["image.chunks"]["sha256"]])


def label_voxels(place: Path) -> list[int]:
    """Voxels of each label of a case, without opening it; raises as `image_hash`."""
    return list(_written(place)["voxels"])


def _written(place: Path) -> dict[str, Any]:
    meta = _meta(place)
    if meta is None:
        raise _damaged(place)
    return meta


def _damaged(place: Path) -> Refusal:
    return Refusal(
        place,
        found="a prepared case that is missing, damaged or not complete",
        needed="the files that its meta.json lists, as they were written",
        remedy="run `medseg prepare` again; it redoes only what is damaged",
    )


def _sound(place: Path, meta: dict[str, Any], *, verify: bool = False) -> bool:
    """Files that are read whole (.npy) are compared whenever a case is opened; chunks, one by one as they are read."""
    files = {place / name: expected for name, expected in meta["files"].items()}
    if not all(file.is_file() and file.stat().st_size == expected["bytes"] for file, expected in files.items()):
        return False
    looked_at = [file for file in files if verify or file.suffix == ".npy"]
    return all(_hash(file) == files[file]["sha256"] for file in looked_at)


@dataclass
class Contents:
    """sha256 of source files and folders, remembered by path, size and time of change.

    Attributes:
        memory: JSON file that keeps them from run to run; a missing or damaged one only costs the hashing.
    """

    memory: Path
    _known: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._known = dict(json.loads(self.memory.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self._known = {}

    def of(self, case: Case) -> dict[str, str]:
        """sha256 by channel name, and "target" (or "label map" should a channel have that name)."""
        sources = dict(case.images)
        if case.target is not None:
            sources["target" if "target" not in sources else "label map"] = case.target
        if case.valid is not None:
            sources["valid pixels"] = case.valid
        return {name: self._of_path(path) for name, path in sources.items()}

    def _of_path(self, path: Path) -> str:
        if not path.is_dir():
            return self._of_file(path)
        # a DICOM series: its files by name, so that adding or renaming one counts too
        return digest([[str(file.relative_to(path)), self._of_file(file)] for file in files_under(path)])

    def _of_file(self, file: Path) -> str:
        try:
            state = file.stat()
            known = self._known.get(str(file.absolute()))
            if known is None or known[:2] != [state.st_size, state.st_mtime_ns]:
                known = [state.st_size, state.st_mtime_ns, _hash(file)]
                self._known[str(file.absolute())] = known
        except OSError as error:
            raise Refusal(
                file,
                found=f"no file that can be read ({error.strerror})",
                needed="a readable file",
                remedy="correct the path or its permissions",
            ) from error
        return str(known[2])

    def save(self) -> None:
        """Keep what is known for the next run."""
        with replacing(self.memory) as temporary:
            temporary.write_text(json.dumps(self._known, sort_keys=True, indent=0) + "\n", encoding="utf-8")


def files_under(folder: Path) -> Iterator[Path]:
    """Every file in a folder tree, sorted, so that the order does not hang on the file system."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _foreground(target: np.ndarray | None, table: LabelTable) -> tuple[np.ndarray, list[int]]:
    """Sampled voxels (i, j, k) of one label after another, and the number of voxels that each has."""
    rows, voxels = [np.empty((0, 3), np.int32)], [0] * len(table.labels)
    if target is None:
        return rows[0], voxels
    for position, box in table.boxes(target).items():
        mask = table.mask(target[:, *box], position)
        found = np.flatnonzero(mask)
        voxels[position] = len(found)
        if len(found) > COORDINATES_PER_CLASS:
            generator = np.random.default_rng([COORDINATES_SEED, position])
            found = np.sort(generator.choice(found, COORDINATES_PER_CLASS, replace=False))
        place = np.stack(np.unravel_index(found, mask.shape), axis=1)
        rows.append((place + [side.start for side in box]).astype(np.int32))
    return np.concatenate(rows), voxels


def _sealed(file: Path) -> dict[str, Any]:
    """Have the system put a file on disk; its length and sha256."""
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())
    return {"bytes": file.stat().st_size, "sha256": _hash(file)}


def _hash(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _meta(place: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((place / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and meta.get("format") == FORMAT else None
