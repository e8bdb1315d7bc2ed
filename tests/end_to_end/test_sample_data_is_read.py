"""Sample data, data set adapter, readers, check and splits together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg import readers
from medseg.data.splits import SplitSettings, make
from medseg.datasets import folder
from medseg.engine.check import examine

SAMPLE = Path(__file__).parents[2] / "sample_data"


def test_the_sample_data_has_no_problem() -> None:
    data = folder.cases(folder.Options(root=SAMPLE / "ct"))
    first = examine(data)
    assert first.problems == ()
    assert set(first.presence.values()) == {frozenset(data.labels.names)}
    split = make(data.cases, SplitSettings(folds=7, stratify="classes"), presence=first.presence)
    assert examine(data, patient_split=split).problems == ()
    assert sorted(len(validation) for _, validation in split.folds) == [1, 1, 1, 1, 1, 2, 2]


def test_dicom_and_nifti_are_one_scan() -> None:
    series = readers.read(SAMPLE / "ct_dicom/p08_a")
    copy = readers.read(SAMPLE / "ct_dicom/p08_a_image.nii.gz")
    label = readers.read(SAMPLE / "ct_dicom/p08_a_label.nii.gz")
    assert series.shape == copy.shape == label.shape
    assert np.array_equal(series.array, copy.array)
    assert np.abs(series.affine - copy.affine).max() < 1e-4
    assert series.source.patient_id == "P08"
