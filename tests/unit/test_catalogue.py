"""Entries of the catalogue: valid, and with the axes, labels and channels of the originals."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch

from medseg import catalogue, config, models, plugins
from medseg.engine.run import Run
from medseg.geometry import axis_map, orientation
from medseg.labels import LabelTable
from tests import published, reference, tiny
from tests.published import bring_in


def test_the_entry_of_the_catalogue_brings_everything(tmp_path):
    torch.manual_seed(0)
    state = models.build("stunet", in_channels=1, out_channels=105, size="S").state_dict()
    file = published.nnunet_v1(tmp_path / "small_ep4k.model", state)
    said = bring_in(file, "stunet-s", settings=[])
    assert said.code == 0, said.err
    run = Run(tmp_path / "run")
    assert run.recipe.model.options.pools[-1] == (1, 1, 2)  # type: ignore[attr-defined]
    assert run.plan.spacing_mm == (1.5, 1.5, 1.5) and run.plan.patch == (128, 128, 128)
    assert run.plan.orientation == "SAR" and run.plan.crop == "nonzero" and run.plan.normalisation[0].kind == "zscore"
    assert run.table.names[:3] == ("adrenal_gland_left", "adrenal_gland_right", "aorta")
    assert run.recipe.licence.startswith("Apache-2.0") and "TotalSegmentator" in run.path("card.md").read_text()


def test_brats_regions_are_painted_from_the_outside_in(tmp_path):
    """The file answers core, whole, enhancing; painting wants whole below core below enhancing."""
    for fold in range(5):
        entry = catalogue.find(f"swin-unetr-brats21-fold{fold}")
        assert entry.outputs == ("tumour_core", "whole_tumour", "enhancing_tumour") and entry.labels
        table = LabelTable.of(entry.labels, paint=entry.paint)
        assert table.names == ("whole_tumour", "tumour_core", "enhancing_tumour")
        assert [label.index for label in table.labels] == [2, 1, 4] and not table.exclusive
    chosen = config.choose("models", {"name": "swin_unetr", "feature_size": 12, "patch_merging": "merging_legacy"})
    torch.manual_seed(0)
    network = chosen.module().build(chosen.options, in_channels=4, out_channels=3)
    file = published.monai_zip(tmp_path / "fold1.zip", network.state_dict())
    said = bring_in(file, "swin-unetr-brats21-fold1", settings=["model.feature_size=12"])
    assert said.code == 0, said.err
    loaded, _ = Run(tmp_path / "run").load_network()
    name = "out.conv.conv.bias"
    assert torch.equal(loaded.state_dict()[name], network.state_dict()[name][[1, 0, 2]])


@pytest.mark.parametrize(
    ("name", "pixels"),
    [("rrwnet-rite", (576, 608)), ("rrwnet-hrf", (1056, 704)), ("rrwnet-rite-refinement", (576, 608))],
)
def test_rrwnets_bring_their_preparation_and_can_be_used(tmp_path, name, pixels):
    torch.manual_seed(0)
    small = {"base_channels": 2, "iterations": 1}
    state = models.build("rrwnet", in_channels=3, out_channels=3, **small).state_dict()
    torch.save(state, tmp_path / "w.pth")
    said = bring_in(tmp_path / "w.pth", name, settings=[f"model.{key}={value}" for key, value in small.items()])
    assert said.code == 0, said.err
    run = Run(tmp_path / "run")
    assert run.plan.patch[:2] == pixels and run.plan.orientation == "LPS" and run.plan.steps == ("fundus_enhance",)
    assert run.load_network()[0] is not None


def test_arteries_and_veins_are_painted_over_the_vessels_that_they_are():
    entry = catalogue.find("rrwnet-rite")
    table = LabelTable.of(entry.labels, paint=entry.paint)
    pixels = np.array([[[1, 0, 1]], [[0, 1, 1]], [[0, 0, 1]]], np.uint8)[..., None]  # artery, vein, unknown: (3, 3, 1)
    painted = table.paint(np.moveaxis(pixels, 2, 0))
    assert painted.ravel().tolist() == [5, 6, 4]


@pytest.mark.parametrize(("stored", "seen"), [("RAS", "SAR"), ("LPS", "SPL")])
def test_simpleitk_shows_the_axes_that_the_published_stunets_saw(tmp_path, stored, seen):
    """nnU-Net's arrays are SimpleITK's; TotalSegmentator stores RAS, DICOM is LPS."""
    affine = np.diag([1.0 if stored == "RAS" else -1.0, 1.0 if stored == "RAS" else -1.0, 1.0, 1.0])
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    theirs = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tiny.nifti(tmp_path / "x.nii.gz", array, affine)))
    assert orientation(affine) == stored
    assert np.array_equal(axis_map(affine, seen).apply(array[None])[0], theirs)
    assert catalogue.find("stunet-s").prepare["orientation"] == "SAR"


def test_nibabel_shows_the_axes_that_the_brats_networks_saw():
    array = np.arange(24).reshape(1, 2, 3, 4)
    brats = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
    said = catalogue.find("swin-unetr-brats21-fold0").prepare["orientation"]
    assert np.array_equal(axis_map(brats, said).apply(array), array)


class TestOfRealScans:
    pytestmark = reference.needed

    def test_totalsegmentator_stores_ras_and_brats_lps(self):
        for folder, stored in (("ct/totalsegmentator/example_ct", "RAS"), ("mr/tcga_fg_6692/raw_bet", "LPS")):
            paths = [p for p in reference.files(str(Path(folder).parent), (".gz",)) if folder in str(p)]
            assert paths and {orientation(nib.load(path).affine) for path in paths} == {stored}


def test_entries_are_valid():
    for name, entry in catalogue.entries().items():
        assert name not in plugins.names("models") and entry.source.startswith("https://") and entry.licence
        assert entry.url is None or (entry.url.startswith("https://") and entry.url.endswith(entry.file))
        if entry.network in plugins.names("models"):
            config.choose("models", {"name": entry.network, **entry.options})
        if entry.prepare:
            assert set(entry.prepare) >= {"spacing_mm", "patch", "normalisation", "orientation", "crop"}
            assert len(entry.prepare["normalisation"]) == len(entry.channels)


def test_the_published_stunets_have_104_labels_in_sorted_order():
    named = catalogue.find("stunet-h").labels
    assert named and list(named) == sorted(named) and list(named.values()) == list(range(1, 105))
    assert named["rib_left_10"] < named["rib_left_2"]
