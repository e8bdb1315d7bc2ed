"""What a person may name as the input of a batch -> cases, each a job: every series of a folder of DICOM, every image
file, every line of a table; and what cannot be read is a case, too, so that it is answered for."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from medseg import atomic, tables
from medseg.case import Case
from medseg.cores import available_cores
from medseg.dicom import archive, survey, sweep
from medseg.dicom.headers import Header
from medseg.dicom.settings import DicomSettings
from medseg.dicom.survey import CheckedSeries
from medseg.engine import scans
from medseg.progress import counting
from medseg.refusal import Refusal
from medseg.service.journal.job import Identity
from medseg.service.work import facts, proof

LINKS = "inputs"
LONGEST_NAME = 100
UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Needs:
    """What a model says of its inputs: its channels, and how it chooses and reads DICOM series."""

    channels: tuple[str, ...]
    dicom: DicomSettings

    @property
    def by_study(self) -> bool:
        """Whether rules choose the series of a study."""
        return self.dicom.select is not None or bool(self.dicom.channels)


@dataclass(frozen=True)
class Input:
    """A case of a batch.

    Attributes:
        case: names its results.
        source: as `Asked.source`.
        facts: what tells it from all others: files with sizes and times of change, or with their sha256.
        series: as `Parameters.series`.
    """

    case: str
    source: Mapping[str, str]
    facts: tuple[object, ...]
    series: str = ""
    identity: Identity = field(default_factory=Identity)


def find(paths: Sequence[Path], needs: Needs, out: Path) -> tuple[list[Input], str]:
    """All cases behind several paths, and in words what was passed over.

    Args:
        paths: folders (DICOM to any depth, other images directly in them), files, DICOMDIRs, zips, tables (.csv).
        out: folder of the results; in `LINKS` in it are links to the files of series that share a folder with others.

    Raises:
        Refusal: one of the paths holds nothing, or the results.
    """
    found: list[Input] = []
    links = out / LINKS
    passed: Counter[str] = Counter()
    for path in paths:
        if not path.exists():
            raise Refusal(path, found="nothing there", needed="a folder, a file or a table", remedy="check the path")
        _refuse_around(path, out)
        if path.suffix.lower() == ".csv":
            found += _table(path, needs)
            continue
        before = len(found)
        if path.is_dir():
            found += [_of_case(case) for case in scans.images_in(path, needs.channels)]
            within = [path, *(file for file in sorted(path.rglob("*.[zZ][iI][pP]")) if archive.is_dicom_zip(file))]
        else:
            within = [path]
        for one in within:
            found += _behind(one, needs, links, passed)
        if len(found) == before:
            raise Refusal(path, found="no scan", needed="NIfTI, NRRD, ... files, or DICOM", remedy="check the path")
    _refuse_in_place(found, out)
    return _distinct(found), ", ".join(f"{count} {kind}" for kind, count in passed.most_common())


def _refuse_around(path: Path, out: Path) -> None:
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
        raise Refusal(
            path,
            found=f"the folder of the results in it ({out})",
            needed="another place for them: they would be the next batch's input",
            remedy="choose a folder beside it",
        )


def _refuse_in_place(found: Sequence[Input], out: Path) -> None:
    """Results are named like scans, and would take their places."""
    for path in (Path(path) for one in found for path in one.source.values()):
        _refuse_around(facts.folder_around(path), out)
        if path.is_file() and path.resolve().parent == out.resolve():
            raise Refusal(
                path,
                found="a scan in the folder of the results",
                needed="another place for them: a result could be written over a scan",
                remedy="choose another folder",
            )


def _behind(path: Path, needs: Needs, links: Path, passed: Counter[str]) -> list[Input]:
    """Cases of a path that may stand for DICOM files, or is one other image."""
    if path.is_file() and not archive.holds_several(path):
        return [_of_case(scans.single(path, needs.channels))]
    try:
        files = list(archive.files(path))
    except Refusal:  # a broken DICOMDIR or zip: who reads it says why
        return [_of_case(scans.single(path, needs.channels))]
    with counting("reading headers", total=len(files)) as done:
        read = sweep.look(files, workers=available_cores(), done=done)
    looked = survey.check(read, needs.dicom)
    passed.update(looked.kinds)
    tree = _Tree(path, [one.path if isinstance(one, Header) else Path(one.where) for one in read], links)
    found = list(_studies(looked, tree)) if needs.by_study else list(_series(looked, tree, len(needs.channels)))
    unplaced: dict[str, list[Header]] = {}
    for header in looked.unplaced:
        unplaced.setdefault(header.series_uid, []).append(header)
    found += [tree.input([header.path for header in group], group[0]) for group in unplaced.values()]
    return found + [tree.input([Path(refusal.where)], None) for refusal in looked.unreadable]


def _series(looked: survey.Survey, tree: _Tree, channels: int) -> Iterator[Input]:
    """Each series, and of one with several volumes each, where a model takes one."""
    for one in looked.series:
        whole = tree.input(_files_of(one), one.head)
        if channels > 1 or len(one.volumes) == 1:
            yield whole
            continue
        for volume in one.volumes:
            number = volume.stack.number
            yield replace(whole, case=f"{whole.case}_v{number}", series=f"{one.head.series_uid}/{number}")


def _studies(looked: survey.Survey, tree: _Tree) -> Iterator[Input]:
    """Each study, for models that choose its series."""
    groups: dict[str, list[CheckedSeries]] = {}
    for one in looked.series:
        groups.setdefault(one.head.study_uid, []).append(one)
    for group in groups.values():
        whole = tree.input([file for one in group for file in _files_of(one)], group[0].head)
        yield replace(whole, identity=replace(whole.identity, series_uid="", description="", modality=""))


def _files_of(one: CheckedSeries) -> list[Path]:
    return [header.path for header in (*one.series.headers, *one.series.unplaced)]


class _Tree:
    """The files behind one path, of which some are to become an input."""

    def __init__(self, path: Path, files: Sequence[Path], links: Path):
        self._path, self._files, self._links = path, [file.absolute() for file in files], links
        self._packed = path.is_file() and path.suffix.lower() == ".zip"
        self._timed = not self._packed and not path.absolute().is_relative_to(links.parent.absolute())
        """What was unpacked or fetched has a new time each time."""

    def input(self, files: Sequence[Path], head: Header | None) -> Input:
        """A case made of some of the files: the folder that holds them and no others, or one with links to them."""
        inside = sorted(file.absolute() for file in files)
        folder = Path(_common([file.parent for file in inside]))
        alone = sum(file.is_relative_to(folder) for file in self._files) == len(inside)
        name = _name(self._path, folder if head else inside[0], self._packed)
        unique = sha256(repr((head.series_uid if head else "", str(inside[0].name))).encode()).hexdigest()[:6]
        if head is None or not alone:
            name = _safe("_".join(part for part in (name, head.series_number if head else "", unique) if part))
        if head is None and not self._packed:
            where = inside[0]
        elif alone and not self._packed and head:
            where = folder
        else:
            where = self._linked(name, inside)
        told = tuple(facts.of_file(file, timed=self._timed) for file in inside)
        if self._packed:
            told += (facts.of_file(self._path, timed=True),)
        return Input(name, {"all": str(where)}, told, "", _identity(head) if head else Identity())

    def _linked(self, name: str, files: Sequence[Path]) -> Path:
        """A folder with these files alone, for later attempts, too; what was unpacked does not stay, and is copied.
        One that is as it should be is left alone: somebody may be reading it."""
        folder = self._links / f"{name}-{sha256(str(self._path.absolute()).encode()).hexdigest()[:6]}"
        wanted = {f"{number:05d}.dcm": file for number, file in enumerate(files)}
        if {path.name: _content(path) for path in folder.glob("*")} != {
            name: _content(file) if self._packed else str(file) for name, file in wanted.items()
        }:
            with atomic.replacing_folder(folder) as partial:
                for name, file in wanted.items():
                    if self._packed:
                        shutil.copyfile(file, partial / name)
                    else:
                        (partial / name).symlink_to(file)
        return folder


def _content(path: Path) -> str:
    """Where a link leads, or what is in a file."""
    return str(path.readlink()) if path.is_symlink() else proof.sha256(path)


def _identity(head: Header) -> Identity:
    return Identity(
        study_uid=head.study_uid,
        series_uid=head.series_uid,
        patient_id=head.patient_id,
        description=head.description,
        modality=head.modality,
    )


def _common(folders: Sequence[Path]) -> Path:
    [first, *others] = folders
    while not all(other.is_relative_to(first) for other in others):
        first = first.parent
    return first


def _name(path: Path, inside: Path, packed: bool) -> str:
    """The way from what was named to where the files are, or the name of the former."""
    root = path.absolute()
    own = scans.stem(path)
    if packed or not inside.is_relative_to(root) or inside == root:
        return _safe(own)
    return _safe("_".join(inside.relative_to(root).parts))


def _safe(name: str) -> str:
    return UNSAFE.sub("_", name).strip("._")[-LONGEST_NAME:] or "case"


def _of_case(case: Case, series: str = "") -> Input:
    source = {name: str(path.absolute()) for name, path in case.images.items()}
    source = {"all": next(iter(source.values()))} if len(source) == 1 else source
    told = tuple(fact for path in case.images.values() for fact in facts.of_path(path))
    return Input(_safe(case.id), source, told, series)


def _table(path: Path, needs: Needs) -> list[Input]:
    """Lines of a table: a column scan, or one for each channel; case (else the scan's name) and series where it has
    them. Paths are relative to the table."""
    rows, columns = tables.rows(path, columns=()), set(tables.columns(path))
    channels = needs.channels if set(needs.channels) <= columns and "scan" not in columns else ("scan",)
    if not set(channels) <= columns:
        raise Refusal(
            path,
            found=f"the columns {', '.join(sorted(columns)) or '(none)'}",
            needed=f"a column scan, or one for each channel of the model: {', '.join(needs.channels)}",
            remedy="name the columns so in the first line",
        )
    found = []
    for number, row in enumerate(rows, start=2):
        files = {channel: path.parent / row[channel] for channel in channels if row[channel]}
        if len(files) < len(channels):
            raise Refusal(
                path,
                found=f"no {', '.join(set(channels) - set(files))} in line {number}",
                needed="a file or folder in each cell",
                remedy="complete the table, or take the line out",
            )
        images = files if channels != ("scan",) else {"all": files["scan"]}
        name = row.get("case") or scans.stem(next(iter(files.values())))
        found.append(_of_case(Case(name, name, images), row.get("series") or ""))
    return found


def _distinct(found: Sequence[Input]) -> list[Input]:
    """Results are named by case: where two would have one name, each says by a few letters which one it is."""
    counts = Counter(one.case for one in found)

    def named(one: Input) -> Input:
        if counts[one.case] == 1:
            return one
        return replace(one, case=f"{one.case}_{sha256(repr(sorted(one.source.items())).encode()).hexdigest()[:6]}")

    every = [named(one) for one in found]
    twice = [name for name, count in Counter(one.case for one in every).items() if count > 1]
    if twice:
        raise Refusal(twice[0], found="the same input twice", needed="each once", remedy="leave one of them out")
    return every
