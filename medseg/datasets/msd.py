"""The Medical Segmentation Decathlon: dataset.json with a list of training files, several channels in one 4-D file.

A case has one file with all its channels, so `Case.images` is {'all': path} while `CaseSet.channels` names the
channels in the file; with a single channel it is {channel: path}. Test images without labels are not cases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medseg.case import Case, CaseSet
from medseg.datasets import _examples, _files, _people, _tables
from medseg.refusal import Refusal
from medseg.settings import Settings


class Options(Settings):
    """Where the data set is and who its patients are."""

    root: Path
    """The folder Task<number>_<name>."""
    patient: str | None = None
    r"""Regular expression whose one group catches the patient in the case id, such as '^(P\d+)'. The layout does not
    say who the patient is: without a pattern every case counts as a patient of its own."""


def cases(options: Options) -> CaseSet:
    """Cases sorted by id (the image's file name).

    Raises:
        Refusal: dataset.json lacks a key, or a file it lists is missing or listed twice.
    """
    path = options.root / "dataset.json"
    content = _files.load_json(path)
    channels = _tables.numbered(_files.wanted(content, "modality", path), path, "modality")
    labels = _tables.label_table(_tables.forward_labels(_files.wanted(content, "labels", path), path), path)
    found: dict[str, tuple[Path, Path]] = {}
    for image, label in _training(_files.wanted(content, "training", path), options.root, path):
        case = _files.case_id(image)
        if case in found:
            raise Refusal(
                path, found=f"case '{case}' twice", needed="each image once", remedy="remove one of the two entries"
            )
        found[case] = image, label
    _files.must_exist((file for pair in found.values() for file in pair), named_by=path)
    key = channels[0] if len(channels) == 1 else "all"
    return CaseSet(
        tuple(
            Case(id=case, patient=_people.patient_of(case, options.patient), images={key: image}, target=label)
            for case, (image, label) in sorted(found.items())
        ),
        channels,
        labels,
    )


def _training(entries: Any, root: Path, path: Path) -> list[tuple[Path, Path]]:
    try:
        pairs = [(root / entry["image"], root / entry["label"]) for entry in entries]
    except (KeyError, TypeError) as error:
        raise Refusal(
            path,
            found=f"'training' of another form ({error!r})",
            needed="a list of {image: ..., label: ...}",
            remedy="correct dataset.json",
        ) from error
    if not pairs:
        raise Refusal(path, found="an empty 'training' list", needed="training cases", remedy="correct dataset.json")
    return pairs


def example(folder: Path) -> Options:
    """Two channels in one file; three cases of two patients."""
    import json

    training = []
    for seed, case in enumerate(("p1_a", "p1_b", "p2_a")):
        image, label = f"imagesTr/{case}.nii.gz", f"labelsTr/{case}.nii.gz"
        _examples.write_nifti(folder / image, seed, channels=2)
        _examples.write_nifti(folder / label, seed, label=True)
        training.append({"image": f"./{image}", "label": f"./{label}"})
    content = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "left", "2": "right"},
        "training": training,
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return Options(root=folder, patient="^([^_]+)_")
