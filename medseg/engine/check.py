"""Look at every case before anything is trained, and say everything that is wrong in one go.

Each case is read once and dropped again: what stays is a list of problems, which labels occur (stratified splits need
it) and a hash of the voxels, by which the same image under two names is found. The hash is taken in one orientation and
number type, so that a flipped or converted copy is found as well; a resampled or cropped one is not.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from medseg import geometry
from medseg.case import Case, CaseSet
from medseg.data import splits
from medseg.data.split import Split, SplitSettings, leaks
from medseg.engine import copies
from medseg.engine.load import WRONG_CHANNELS, as_numbers, load_valid, pasted
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.transforms.channels import difference, reoriented, same_place
from medseg.volume import Volume

Read = Callable[[Path], Volume]
Progress = Callable[[int, int, str], None]
"""Called with (cases done, cases in all, id of the case just done)."""
UNKNOWN_LABELS = "unknown labels"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a case.

    Attributes:
        case: id; of both cases, joined by " and ", where two are concerned.
        file: where it is, or empty when no file is at fault.
        problem: a few words naming the kind of problem; the same for every problem of that kind.
        found, needed, remedy: as in `Refusal`.
        fatal: whether training must not start. An empty label map is reported but may be right.
    """

    case: str
    file: str
    problem: str
    found: str
    needed: str
    remedy: str
    fatal: bool = True

    def __str__(self) -> str:
        where = f"case {self.case}" + (f", {self.file}" if self.file else "")
        return f"{where}: {self.problem}: found {self.found}; needed {self.needed}. What to do: {self.remedy}."


@dataclass(frozen=True)
class Checked:
    """Problems, sorted by case, and the names of the labels that occur in each readable label map, by case id."""

    problems: tuple[Problem, ...]
    presence: Mapping[str, frozenset[str]]


def check(
    cases: CaseSet, *, patient_split: Split | None, read: Read | None = None, progress: Progress | None = None
) -> list[Problem]:
    """The problems that `examine` finds with its default settings."""
    return list(examine(cases, patient_split=patient_split, read=read, progress=progress).problems)


def examine(
    cases: CaseSet,
    *,
    patient_split: Split | None = None,
    read: Read | None = None,
    progress: Progress | None = None,
    channels_may_differ: bool = False,
    unknown_labels_may_occur: bool = False,
    need_labels: bool = True,
    workers: int = 1,
) -> Checked:
    """Read and examine every case.

    Args:
        cases: what is to be learned from.
        patient_split: looked through for patients on two sides, unless it is stamped.
        read: path -> Volume; `medseg.readers.read` if None.
        channels_may_differ: channels of a case on different grids are no problem (they will be resampled).
        unknown_labels_may_occur: numbers that the table does not name are no problem (they count as background).
        need_labels: a case without a label map is a problem.
        workers: cases read at a time, in threads; memory grows with it.
    """
    if read is None:
        from medseg.readers import read as read_any

        read = read_any
    look = partial(_look, cases=cases, read=read, channels_may_differ=channels_may_differ, need_labels=need_labels)
    problems = [*_double_ids(cases), *_leaking(cases, patient_split)]
    presence: dict[str, frozenset[str]] = {}
    digests: dict[str, list[Case]] = defaultdict(list)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, (case, seen) in enumerate(zip(cases.cases, pool.map(look, cases.cases), strict=True), start=1):
            problems += [
                problem
                for problem in seen.problems
                if not (unknown_labels_may_occur and problem.problem == UNKNOWN_LABELS)
            ]
            if seen.presence is not None:
                presence[case.id] = seen.presence
            if seen.digest:
                digests[seen.digest].append(case)
            if progress is not None:
                progress(done, len(cases.cases), case.id)
    problems += [problem for same in digests.values() for problem in _identical(same)]
    problems += _never(cases.labels, presence)
    return Checked(tuple(sorted(problems, key=lambda problem: problem.case)), presence)


def split_problems(cases: CaseSet, settings: SplitSettings, presence: Mapping[str, frozenset[str]]) -> list[Problem]:
    """What speaks against the split that the settings ask for; a leaking patient, for example."""
    try:
        splits.make(cases.cases, settings, presence=presence)
    except Refusal as refusal:
        return [Problem("all", refusal.where, "split", refusal.found, refusal.needed, refusal.remedy)]
    return []


@dataclass(frozen=True)
class _Seen:
    """What is kept of a case."""

    problems: list[Problem]
    presence: frozenset[str] | None
    digest: str


def _look(case: Case, *, cases: CaseSet, read: Read, channels_may_differ: bool, need_labels: bool) -> _Seen:
    """Read one case, image by image, and keep what `_Seen` says."""
    problems: list[Problem] = []
    digest = hashlib.sha256()
    first: tuple[Path, Volume] | None = None
    channels, blank = 0, True
    for path in case.images.values():
        volume = _opened(case, path, read, problems)
        if volume is None:
            continue
        channels += volume.array.shape[0]
        flat = copies.flat(volume.array)
        problems += [*_not_finite(case, path, volume), *_blank(case, path, volume, flat)]
        blank = blank and all(flat)
        _hash(digest, volume)
        if first is None:
            first = path, _grid_only(volume)
        elif not channels_may_differ:
            problems += _other_grid(case, path, volume, *first, problem="channels on different grids")
    readable = not problems or all(problem.problem not in ("missing file", "unreadable file") for problem in problems)
    if readable and channels != len(cases.channels):
        problems.append(
            Problem(
                case.id,
                str(next(iter(case.images.values()), "")),
                "wrong number of channels",
                f"{channels}",
                f"{len(cases.channels)} ({', '.join(cases.channels)})",
                WRONG_CHANNELS,
            )
        )
    presence = _target(case, first, cases.labels, read, problems) if case.target is not None else None
    if case.valid is not None and first is not None:
        problems += _valid(case, first[1], read)
    if cases.labels.unit == "image":
        presence = _classes(case, cases.labels, problems, needed=need_labels)
    elif case.target is None and need_labels:
        image = str(next(iter(case.images.values()), ""))
        problems.append(Problem(case.id, image, "no label map", "none", "one", "add the label map or leave it out"))
    return _Seen(problems, presence, digest.hexdigest() if readable and channels and not blank else "")


def _opened(case: Case, path: Path, read: Read, problems: list[Problem]) -> Volume | None:
    """The volume; None, and a problem more, where there is none."""
    if not path.exists():
        problems.append(
            Problem(
                case.id, str(path), "missing file", "no such file", "the file", "complete the copy or correct the path"
            )
        )
        return None
    try:
        return read(path)
    except Refusal as refusal:
        wrong = refusal.found, refusal.needed, refusal.remedy
    except Exception as error:  # whatever a decoder throws at a broken file; one such file must not hide the others
        wrong = f"{type(error).__name__}: {error}", "a readable file", "replace the file or leave the case out"
    problems.append(Problem(case.id, str(path), "unreadable file", *wrong))
    return None


def _target(
    case: Case, image: tuple[Path, Volume] | None, table: LabelTable, read: Read, problems: list[Problem]
) -> frozenset[str] | None:
    """Names of the labels that occur; None, and a problem more, where the label map is of no use."""
    path = case.target
    volume = _opened(case, path, read, problems) if path is not None else None
    if path is None or volume is None:
        return None
    volume = as_numbers(volume)
    if volume.array.shape[0] != 1:
        found, needed = f"{volume.array.shape[0]} channels", "one channel of numbers"
        remedy = "merge them into one label map; regions that overlap are lists of numbers in the label table"
        problems.append(Problem(case.id, str(path), "label map with several channels", found, needed, remedy))
        return None
    if image is not None and pasted(reoriented(volume, image[1]), image[1]) is None:
        problems += _other_grid(case, path, volume, *image, problem="label map on another grid")
    values = np.unique(volume.array.ravel(order="K"))
    broken = values[~np.isfinite(values) | (values != np.rint(values)) | (values < 0)]
    if broken.size:
        listed = ", ".join(f"{value:g}" for value in broken[:5])
        found, remedy = f"{broken.size} values such as {listed}", "resample label maps with nearest neighbours"
        problems.append(Problem(case.id, str(path), "label map not of whole numbers", found, "0, 1, 2, ...", remedy))
        return None
    unknown = table.unknown(values.astype(np.int64))
    if unknown:
        listed = ", ".join(map(str, unknown[:10]))
        needed = f"only {', '.join(map(str, sorted(table.known_values)))}"
        remedy = "add them to the label table, correct the label map, or have prepare.unknown_labels=background"
        problems.append(Problem(case.id, str(path), UNKNOWN_LABELS, listed, needed, remedy))
    present = frozenset(label.name for label in table.labels if np.isin(values, label.members).any())
    if not present:
        found, needed = "only background", "at least one labelled voxel"
        remedy = "correct it, unless there is truly nothing to label in this case"
        problems.append(Problem(case.id, str(path), "empty label map", found, needed, remedy, fatal=False))
    return present


def _classes(case: Case, table: LabelTable, problems: list[Problem], *, needed: bool) -> frozenset[str] | None:
    """Names of the classes of a whole image; None, and a problem more, where there are none or impossible ones."""
    if case.classes is None:
        if needed:
            problems.append(Problem(case.id, "", "no class", "none", "one", "add the class or leave the case out"))
        return None
    try:
        target = table.encode_classes(case.classes)
    except Refusal as refusal:
        problems.append(Problem(case.id, "", "impossible class", refusal.found, refusal.needed, refusal.remedy))
        return None
    return frozenset(name for place, name in enumerate(table.names) if table.mask(target, place).any())


def _valid(case: Case, image: Volume, read: Read) -> list[Problem]:
    try:
        load_valid(case, image, read)
    except Refusal as refusal:
        wrong = refusal.found, refusal.needed, refusal.remedy
        return [Problem(case.id, refusal.where, "mask of valid pixels", *wrong)]
    return []


def _not_finite(case: Case, path: Path, volume: Volume) -> Iterable[Problem]:
    if volume.array.dtype.kind == "f":
        count = volume.array.size - int(np.isfinite(volume.array).sum())
        if count:
            found, remedy = f"{count} voxels that are NaN or infinite", "fill them with the value of air or background"
            yield Problem(case.id, str(path), "voxels without a value", found, "a number in every voxel", remedy)


def _blank(case: Case, path: Path, volume: Volume, flat: Sequence[bool]) -> Iterable[Problem]:
    """A problem if each voxel of some channel is the same."""
    if volume.array[0].size > 1 and any(flat):
        which = " of channel " + ", ".join(str(at) for at, one in enumerate(flat, start=1) if one)
        found = "one number in every voxel" + ("" if all(flat) else which)
        remedy = "replace the file, unless it stands in for a scan that was not made"
        yield Problem(case.id, str(path), "blank image", found, "an image", remedy, fatal=False)


def _other_grid(
    case: Case, path: Path, volume: Volume, other_path: Path, other: Volume, *, problem: str
) -> Iterable[Problem]:
    """A problem if `volume` does not lie on the grid of `other`, in whatever axis order."""
    turned = reoriented(volume, other)
    if not same_place(turned, other):
        remedy = f"resample it to the grid of {other_path.name}, or correct the header that is wrong"
        found = f"a grid {difference(turned, other)}"
        yield Problem(case.id, str(path), problem, found, f"the grid of {other_path}", remedy)


def _grid_only(volume: Volume) -> Volume:
    """The volume's grid with a stand-in for its voxels, so that these can be dropped."""
    return volume.with_array(np.broadcast_to(np.uint8(0), (1, *volume.shape)))


def _hash(digest: hashlib._Hash, volume: Volume) -> None:
    """Add shape and voxels in RAS order as 32-bit floats, plane by plane to keep memory low."""
    array = geometry.axis_map(volume.affine, "RAS").apply(volume.array)
    digest.update(repr(array.shape[1:]).encode())
    for channel in array:
        for plane in channel:
            digest.update((plane.astype("<f4") + np.float32(0)).tobytes())  # + 0 makes -0 and 0 equal


def _double_ids(cases: CaseSet) -> Iterable[Problem]:
    for case, count in Counter(case.id for case in cases.cases).items():
        if count > 1:
            yield Problem(case, "", "duplicate case id", f"{count} cases", "one", "rename or remove the others")


def _leaking(cases: CaseSet, split: Split | None) -> Iterable[Problem]:
    if split is None or split.stamp == splits.STAMP:
        return
    known = {case.id for case in cases.cases}
    for side in (split.train, split.validation):
        for name in sorted(set(side) - known):
            yield Problem(
                name, "", "unknown case in the split", f"'{name}'", "a case of the data set", "correct the split"
            )
    train, validation = (sorted(known.intersection(side)) for side in (split.train, split.validation))
    for patient, one, other in leaks(train, validation, cases.cases):
        found = f"patient '{patient}' in train ({one}) and validation ({other})"
        remedy = "move one of them, or correct the data set's patient ids"
        needed = "all cases of a patient on one side"
        yield Problem(one if one == other else f"{one} and {other}", "", "patient on two sides", found, needed, remedy)


def _never(table: LabelTable, presence: Mapping[str, frozenset[str]]) -> Iterable[Problem]:
    """A label that not one readable case has: its number may be mistyped, and nobody could learn it."""
    for label in table.labels if presence else ():
        if not any(label.name in found for found in presence.values()):
            found, needed = f"'{label.name}' ({', '.join(map(str, label.members))}) in no readable case", "some with it"
            remedy = "correct its number in the label table, or leave it out"
            yield Problem("all", "", "label that no case has", found, needed, remedy, fatal=False)


def _identical(same: list[Case]) -> Iterable[Problem]:
    """One image under several ids: fatal when it also goes by several patients, because no split can see that."""
    first = same[0]
    for other in same[1:]:
        apart = first.patient != other.patient
        whose = f"patients '{first.patient}' and '{other.patient}'" if apart else f"patient '{first.patient}'"
        yield Problem(
            f"{first.id} and {other.id}",
            str(next(iter(other.images.values()))),
            "identical images",
            f"the voxels of {next(iter(first.images.values()))} ({whose})",
            copies.NEEDED,
            copies.REMEDY if apart else "remove one of the two",
            fatal=apart,
        )
