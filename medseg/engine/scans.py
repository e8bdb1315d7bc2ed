"""What a person may name as the input of a prediction -> cases."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medseg.case import Case
from medseg.refusal import Refusal

COMPOUND_SUFFIXES = (".nii.gz", ".seg.nrrd", ".seg.dcm", ".rtstruct.dcm")


def stem(path: Path) -> str:
    """File name without its suffix, `.nii.gz` being one suffix."""
    for suffix in COMPOUND_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem if path.is_file() else path.resolve().name


def find(paths: list[Path], channels: tuple[str, ...], named: Mapping[str, Path]) -> list[Case]:
    """Cases to predict.

    Args:
        paths: each a scan (a file, or a DICOM folder), or a folder of scans. In a folder, `<case>_0000.nii.gz`,
            `<case>_0001.nii.gz`, ... or `<case>_<channel>.nii.gz` are the channels of one case; subfolders are DICOM
            series, one case each.
        channels: names of the model's channels, in order.
        named: channel name -> file, for one case with several channels.

    Raises:
        Refusal: nothing there, or a channel is missing.
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
        cases += _folder(path, channels) if path.is_dir() else [single(path, channels)]
    _distinct(cases)
    return cases


def _distinct(cases: list[Case]) -> None:
    """Results are named by case, so that one of two equal names would replace the other."""
    seen: dict[str, Case] = {}
    for case in cases:
        if case.id in seen:
            one, other = (", ".join(map(str, each.images.values())) for each in (seen[case.id], case))
            raise Refusal(
                other, found=f"the name of {one} again", needed="a name for each", remedy="predict them one by one"
            )
        seen[case.id] = case


def single(path: Path, channels: tuple[str, ...]) -> Case:
    """One path; a file that holds several channels (4-D NIfTI) is checked when it is read."""
    return Case(stem(path), stem(path), {"all" if len(channels) > 1 else channels[0]: path})


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


def _folder(folder: Path, channels: tuple[str, ...]) -> list[Case]:
    from medseg import readers

    if any(readers.knows(path) == "dicom" for path in folder.iterdir() if path.is_file()):
        return [single(folder, channels)]
    images = files(folder)
    series = sorted(path for path in folder.iterdir() if path.is_dir() and readers.knows(path) == "dicom")
    if not images and not series:
        inside = sum(1 for _ in folder.iterdir())
        raise Refusal(
            folder,
            found=f"no scan among its {inside} entries" if inside else "an empty folder",
            needed="NIfTI, NRRD, ... files, or DICOM",
            remedy="check the path",
        )
    if len(channels) == 1:
        return [single(path, channels) for path in [*images, *series]]
    return _grouped(folder, images, channels) + [single(path, channels) for path in series]


def _grouped(folder: Path, files: list[Path], channels: tuple[str, ...]) -> list[Case]:
    endings = [(f"_{name}", name) for name in channels] + [(f"_{n:04d}", name) for n, name in enumerate(channels)]
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
