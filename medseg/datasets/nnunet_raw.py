"""nnU-Net's raw data folder: dataset.json, imagesTr/<case>_0000.nii.gz, labelsTr/<case>.nii.gz (versions 1 and 2).

Version 2 says `channel_names`, `labels` (numbers, or lists of numbers for regions, then `regions_class_order`) and
`file_ending`; it may list its files under `dataset`. Version 1 says `modality` and has `labels` the other way round.
Folds are not part of this layout; nnU-Net's splits_final.json can be named as a split file.

Sets with a file for each structure (TotalSegmentator's segmentations/liver.nii.gz, ...) have to be converted to this
layout first, as their authors' tools do, because a case has one label map.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people, _tables
from medseg.labels import LabelTable
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the data set is and who its patients are."""

    root: Path
    """The folder Dataset<number>_<name>."""
    patient: str | None = None
    r"""Regular expression whose one group catches the patient in the case id, such as '^(P\d+)'. The layout does not
    say who the patient is: without a pattern every case counts as a patient of its own."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id.

    Raises:
        Refusal: dataset.json lacks a key or contradicts the files, or a channel or label map is missing.
    """
    path = options.root / "dataset.json"
    content = _files.load_json(path)
    key = "channel_names" if "channel_names" in content else "modality"
    channels = _tables.numbered(_files.wanted(content, key, path), path, key)
    labels = _labels(content, path)
    files = (
        _listed(content, options.root, path) if "dataset" in content else _found(content, options.root, len(channels))
    )
    count = content.get("numTraining", len(files))
    if count != len(files):
        raise Refusal(
            path,
            found=f"numTraining {count}, but {len(files)} training cases",
            needed="as many as the file says",
            remedy="complete the copy of the data set, or correct numTraining",
        )
    for case, (images, _) in files.items():
        if len(images) != len(channels):
            raise Refusal(
                options.root / "imagesTr" / case,
                found=f"{len(images)} image files",
                needed=f"one for each of the channels {', '.join(channels)}",
                remedy="add or remove files, or correct the channels in dataset.json",
            )
    _files.must_exist((file for images, label in files.values() for file in (*images, label)), named_by=path)
    return CaseSet(
        tuple(
            Case(
                id=case,
                patient=_people.patient_of(case, options.patient),
                images=dict(zip(channels, images, strict=True)),
                target=label,
            )
            for case, (images, label) in sorted(files.items())
        ),
        channels,
        labels,
    )


def _found(content: dict[str, Any], root: Path, channels: int) -> dict[str, tuple[list[Path], Path]]:
    """Images and label map by case, from the file names."""
    ending = str(content.get("file_ending", ".nii.gz"))
    name = re.compile(rf"(.+)_(\d{{4}}){re.escape(ending)}")
    folder = root / "imagesTr"
    numbers: dict[str, set[int]] = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = name.fullmatch(file.name)
        if match and not file.name.startswith("."):
            numbers.setdefault(match.group(1), set()).add(int(match.group(2)))
    if not numbers:
        raise Refusal(
            folder,
            found="no training images",
            needed=f"files named <case>_0000{ending}",
            remedy="correct the root, or file_ending in dataset.json",
        )
    return {
        case: (
            [folder / f"{case}_{n:04d}{ending}" for n in range(max(channels, *(number + 1 for number in present)))],
            root / "labelsTr" / f"{case}{ending}",
        )
        for case, present in numbers.items()
    }


def _listed(content: dict[str, Any], root: Path, path: Path) -> dict[str, tuple[list[Path], Path]]:
    """Images and label map by case, as version 2 may list them; relative paths start at the data set's folder."""
    try:
        return {
            str(case): ([root / image for image in entry["images"]], root / entry["label"])
            for case, entry in content["dataset"].items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise Refusal(
            path,
            found=f"'dataset' of another form ({error!r})",
            needed="case: {images: [...], label: ...}",
            remedy="correct it, or remove 'dataset' so that the file names decide",
        ) from error


def _labels(content: dict[str, Any], path: Path) -> LabelTable:
    names = _tables.forward_labels(_files.wanted(content, "labels", path), path)
    if "ignore" in names:
        raise Refusal(
            path,
            found="a label 'ignore'",
            needed="label maps in which every voxel is labelled (medseg cannot leave voxels out of the loss)",
            remedy="remove the partly labelled cases, or give these voxels a label",
        )
    regions = any(isinstance(value, list) and len(value) > 1 for value in names.values())
    return _tables.label_table(names, path, paint=content.get("regions_class_order") if regions else None)


def example(folder: Path) -> Options:
    """Version 2 with two channels and two regions; three cases of two patients."""
    import json

    for seed, case in enumerate(("p1_a", "p1_b", "p2_a")):
        for channel in range(2):
            _examples.write_nifti(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz", seed)
        _examples.write_nifti(folder / "labelsTr" / f"{case}.nii.gz", seed, label=True)
    content = {
        "channel_names": {"0": "T1", "1": "FLAIR"},
        "labels": {"background": 0, "whole": [1, 2], "core": [2]},
        "regions_class_order": [1, 2],
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return Options(root=folder, patient="^([^_]+)_")
