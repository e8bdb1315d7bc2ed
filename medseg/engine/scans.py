"""What a person may name as the input of a prediction -> cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from medseg.case import Case
from medseg.refusal import Refusal

COMPOUND_SUFFIXES = (".nii.gz", ".seg.nrrd", ".seg.dcm", ".rtstruct.dcm")


def stem(path: Path) -> str:
    """File name without its suffix, `.nii.gz` being one suffix; of a DICOMDIR that of its folder, as each has this
    name."""
    for suffix in COMPOUND_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    if path.name.upper() == "DICOMDIR" and path.is_file():
        return path.resolve().parent.name
    return path.stem if path.is_file() else path.resolve().name


def find(
    paths: list[Path],
    channels: tuple[str, ...],
    named: Mapping[str, Path],
    *,
    by_study: bool = False,
    by_channel: bool = False,
) -> list[Case]:
    """Cases to predict.

    Args:
        paths: each a scan (a file, or a DICOM folder), or a folder of scans. In a folder, `<case>_0000.nii.gz`,
            `<case>_0001.nii.gz`, ... or `<case>_<channel>.nii.gz` are the channels of one case; subfolders and zips
            with DICOM are one case each.
        channels: names of the model's channels, in order.
        named: channel name -> file, for one case with several channels.
        by_study: DICOM folders are looked through for studies, and each study is one case, however deep its files lie
            and in however many folders, and so is each zip; for models that choose its series by rules.
        by_channel: rules choose a series of the study for each channel.

    Raises:
        Refusal: nothing there, a channel is missing, or studies that share a folder.
    """
    if named:
        if paths:
            raise Refusal(
                paths[0], found="a scan beside --channel", needed="one or the other", remedy="leave one of them out"
            )
        return [_from_names(named, channels)]
    cases: list[Case] = []
    for path in paths:
        if not path.exists():
            raise Refusal(path, found="no such file or folder", needed="a scan", remedy="check the path")
        cases += _folder(path, channels, by_study) if path.is_dir() else [single(path, channels)]
    _distinct(cases)
    return [of_study(case, channels) for case in cases] if by_channel else cases


def of_study(case: Case, channels: tuple[str, ...]) -> Case:
    """A case that is one DICOM folder, zip or DICOMDIR, as one with that for each channel; any other as it is."""
    from medseg.dicom import archive

    [*paths] = case.images.values()
    if len(paths) == 1 and archive.holds_several(paths[0]):
        return replace(case, images=dict.fromkeys(channels, paths[0]))
    return case


def _distinct(cases: list[Case]) -> None:
    """Results are named by case, so that one of two equal names would replace the other."""
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            one, other = (", ".join(map(str, each.images.values())) for each in (seen[case.id], case))
            raise Refusal(
                other,
                found=f"the name of {one} again",
                needed="a name for each",
                remedy="predict them into a folder each",
            )
        seen[case.id] = case


def single(path: Path, channels: tuple[str, ...], name: str = "") -> Case:
    """One path; a file that holds several channels (4-D NIfTI) is checked when it is read."""
    name = name or stem(path)
    return Case(name, name, {"all" if len(channels) > 1 else channels[0]: path})


def _from_names(named: Mapping[str, Path], channels: tuple[str, ...]) -> Case:
    if set(named) != set(channels):
        raise Refusal(
            "--channel",
            found=", ".join(named),
            needed=f"each of {', '.join(channels)} once",
            remedy="name every channel of the model: --channel NAME=FILE",
        )
    name = stem(named[channels[0]])
    return Case(name, name, {channel: named[channel] for channel in channels})


def files(folder: Path) -> list[Path]:
    """Image files directly in `folder` that are not DICOM, sorted. An .hdr with its .img is one image: the first."""
    from medseg import readers

    if not folder.is_dir():
        raise Refusal(folder, found="no such folder", needed="a folder of images", remedy="check the path")
    inside = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    names = {path.name.lower() for path in inside}
    images = [path for path in inside if readers.knows(path) not in (None, "dicom", "dicom_seg", "rtstruct")]
    return [path for path in images if path.suffix.lower() != ".img" or path.name[:-4].lower() + ".hdr" not in names]


def _folder(folder: Path, channels: tuple[str, ...], by_study: bool) -> list[Case]:
    from medseg import readers
    from medseg.dicom import archive

    within = folder.rglob("*") if by_study else folder.iterdir()
    zips = [path for path in within if not path.name.startswith(".") and archive.is_dicom_zip(path)]
    loose = (path for path in folder.iterdir() if path.is_file() and path not in zips)
    if not by_study and any(readers.knows(path) == "dicom" for path in loose):
        return [single(folder, channels)]
    images = files(folder)
    if by_study:
        series = sorted([*study_folders(folder), *zips])
    else:
        series = sorted(path for path in folder.iterdir() if path in zips or _is_series(path))
    if not images and not series:
        inside = sum(1 for _ in folder.iterdir())
        raise Refusal(
            folder,
            found=f"no scan among its {inside} entries" if inside else "an empty folder",
            needed="NIfTI, NRRD, ... files, or DICOM",
            remedy="check the path",
        )
    scans = [single(path, channels, name) for path, name in zip(series, _names(folder, series), strict=True)]
    return images_in(folder, channels) + scans


def images_in(folder: Path, channels: tuple[str, ...]) -> list[Case]:
    """Cases that are image files directly in a folder, other than DICOM; none is no mistake."""
    found = files(folder)
    return [single(path, channels) for path in found] if len(channels) == 1 else _grouped(folder, found, channels)


def _is_series(path: Path) -> bool:
    from medseg import readers

    return path.is_dir() and readers.knows(path) == "dicom"


def _names(folder: Path, series: list[Path]) -> list[str]:
    """A name for each folder: its own, or the way to it where discs call folders of all patients the same."""
    own = [stem(path) for path in series]
    if len(set(own)) == len(own):
        return own
    return ["_".join(path.relative_to(folder).parts) for path in series]


def study_folders(folder: Path) -> list[Path]:
    """For each study in a folder tree, the folder that stands for it: the highest one within `folder`, or `folder`
    itself, that holds all of its files and nothing of another study. `folder` where no file names its study.

    Raises:
        Refusal: two studies lie in one folder, so that no folder stands for either.
    """
    from medseg.dicom import archive, headers

    above: dict[str, set[Path]] = {}
    """For each study, folders that hold all of its files."""
    holds: dict[Path, set[str]] = {}
    """For each folder, the studies in it and below."""
    files_there = list(archive.files(folder))
    for file in files_there:
        study = headers.study(file)
        if not study:  # a DICOMDIR, or damaged: whoever reads the folder says so
            continue
        parents = [file.parent, *(path for path in file.parent.parents if path.is_relative_to(folder))]
        above[study] = above.get(study, set(parents)) & set(parents)
        for path in parents:
            holds.setdefault(path, set()).add(study)
    found = [folder] if files_there and not above else []
    for study, candidates in above.items():
        alone = [path for path in candidates if holds[path] == {study}]
        if not alone:
            nearest = max(candidates, key=lambda path: len(path.parts))
            raise Refusal(
                nearest,
                found=f"{len(holds[nearest])} studies with files side by side",
                needed="a folder for each study",
                remedy="sort them into folders, or name one series with --series",
            )
        found.append(min(alone, key=lambda path: len(path.parts)))
    return sorted(found)


def _grouped(folder: Path, files: list[Path], channels: tuple[str, ...]) -> list[Case]:
    endings = [(f"_{name}", name) for name in channels] + [(f"_{n:04d}", name) for n, name in enumerate(channels)]
    endings.sort(key=lambda ending: -len(ending[0]))  # or x_T2_FLAIR would be the FLAIR of a case x_T2
    groups: dict[str, dict[str, Path]] = {}
    for file in files:
        name = stem(file)
        match = next(((name[: -len(end)], channel) for end, channel in endings if _ends(name, end)), None)
        case, channel = match or (name, "all")
        before = groups.setdefault(case, {}).setdefault(channel, file)
        if before != file:
            raise Refusal(
                file,
                found=f"channel {channel} of {case} twice, as {before.name} and {file.name}",
                needed="one file for each",
                remedy="take one of them away",
            )
    cases = []
    for case, images in sorted(groups.items()):
        missing = [channel for channel in channels if channel not in images]
        if missing and "all" not in images:
            raise Refusal(
                folder / case,
                found=f"channels {', '.join(sorted(images))}",
                needed=", ".join(channels),
                remedy=f"add {case}_{missing[0]}.nii.gz or {case}_{channels.index(missing[0]):04d}.nii.gz",
            )
        ordered = images if "all" in images else {channel: images[channel] for channel in channels}
        cases.append(Case(case, case, ordered))
    return cases


def _ends(name: str, ending: str) -> bool:
    """Whether it ends so, in capitals or not: BraTS calls the files of FLAIR `..._flair`."""
    return name.lower().endswith(ending.lower())
