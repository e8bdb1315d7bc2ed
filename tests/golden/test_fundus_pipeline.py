"""RRWNet's loss, preparation, augmentation and evaluation against numbers of the original implementation.

Computed by j-morano/rrwnet@03069bb on synthetic data, with scikit-image 0.26 and with the versions that it pins.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from medseg.datasets import _folds
from medseg.labels import IGNORE
from medseg.losses import rrw
from medseg.metrics import artery_vein, vessel_paths
from medseg.prediction import Evidence
from medseg.transforms import fundus

FOLDER = Path(__file__).parent / "2d"
NUMBERS = json.loads((FOLDER / "rrwnet_pipeline.json").read_text())
ARRAYS = np.load(FOLDER / "rrwnet_pipeline.npz")
LIMIT = 1e-4
"""Largest difference over largest value, unless a test says otherwise; float32 alone makes 1e-6."""


@pytest.fixture
def parity(record_property):
    """Compare with the original and note how far off we are."""

    def compare(name: str, ours, golden, limit: float = LIMIT) -> None:
        ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
        assert ours.shape == golden.shape
        error = float(np.abs(ours - golden).max() / max(np.abs(golden).max(), 1e-12))
        entry = {"network": f"RRWNet's {name}", "file": "rrwnet_pipeline", "parameters": None}
        record_property("parity", json.dumps({**entry, "error": error, "limit": limit}))
        assert error <= limit

    return compare


def target_of(truth: np.ndarray, field: np.ndarray) -> np.ndarray:
    """The original's truth (..., 3, i, j) and field of view (..., i, j) in our coding: what is not known is IGNORE."""
    coded = (truth > 0.5).astype(np.uint8)
    uncertain = coded[..., 2, :, :] > coded[..., 0, :, :] + coded[..., 1, :, :]
    coded[..., :2, :, :][np.stack([uncertain] * 2, axis=-3)] = IGNORE
    coded[np.stack([field < 0.5] * 3, axis=-3)] = IGNORE
    return coded


def test_losses(parity):
    answers = [torch.from_numpy(answer)[..., None] for answer in ARRAYS["loss_preds"]]
    target = torch.from_numpy(target_of(ARRAYS["loss_gt"], ARRAYS["loss_mask"][:, 0]))[..., None]
    assert set(target.unique().tolist()) == {0, 1, IGNORE}
    loss = rrw.build(rrw.Options(), exclusive=False)
    parity("bce3", [loss([answer], target).item() for answer in answers], NUMBERS["bce3"])
    counts = [int(count) for count in NUMBERS["rrloss"]]
    recursive = [loss(answers[:count][::-1], target).item() for count in counts]
    parity("loss", recursive, list(NUMBERS["rrloss"].values()))


def test_enhancement(parity):
    field = ARRAYS["fov"] > 127
    enhanced, inside = fundus.enhance(ARRAYS["img"], field)
    parity("enhancement", enhanced, ARRAYS["enh_float"], limit=1e-6)
    assert (inside == ARRAYS["mask_float"]).all()
    whole, inside = fundus.enhance_uint8(ARRAYS["img"], field)
    parity("enhancement in whole numbers", whole, ARRAYS["enh_uint8"], limit=0)
    assert (inside == (ARRAYS["mask_uint8"] > 0)).all()


def test_padding():
    for size, expected in NUMBERS["padding"].items():
        rows, columns, *_ = (int(side) for side in size.strip("()").split(","))
        for name, multiple in (("n_down5_inference", 32), ("n_down4_training", 16)):
            ours = [list(fundus.padding(side, multiple)) for side in (rows, columns)]
            assert ours == expected[name][:2]
            assert all((side + sum(pads)) % multiple == 0 for side, pads in zip((rows, columns), ours, strict=True))


def test_colours(parity):
    drawn = fundus.draw_colour(random.Random(0))
    parity("colour jitter", fundus.recolour(ARRAYS["aug_img"], drawn), ARRAYS["aug_hsv_seed0"], limit=1e-6)


def test_affine(parity):
    drawn = fundus.draw_affine(random.Random(0))
    matrix = fundus.affine_matrix(drawn, ARRAYS["aug_img"].shape[:2], centred=False)
    parity("affine", fundus.warp(ARRAYS["aug_img"], matrix, order=3), ARRAYS["aug_affine_img_seed0"], limit=1e-6)
    parity("affine of labels", fundus.warp(ARRAYS["aug_lab"], matrix, order=0), ARRAYS["aug_affine_lab_seed0"], 0)


def test_cutout(parity):
    rectangles = fundus.draw_cutout(random.Random(1), ARRAYS["aug_img"].shape[:2])
    assert len(rectangles) == 16
    parity("cutout", fundus.cut_out(ARRAYS["aug_img"], rectangles), ARRAYS["aug_cutout_seed1"], limit=1e-6)


def test_folds():
    rite, hrf = _folds.consecutive(_folds.RITE, 4), _folds.consecutive(_folds.HRF, 4)
    for fold, expected in enumerate(NUMBERS["folds_rite"]):
        assert [int(name) for name in rite if rite[name] == fold] == expected["validation"]
        assert [int(name) for name in rite if rite[name] != fold] == expected["training"]
    for fold, names in enumerate(NUMBERS["folds_hrf_validation"]):
        assert [name for name in hrf if hrf[name] == fold] == names
    assert [name for name in _folds.HRF if name not in hrf] == NUMBERS["hrf_images_never_used"]


NAMES = ("artery", "vein", "vessel")


def evidence(*, everywhere: bool) -> Evidence:
    """The original's truth and prediction; it forgets the field of view but for AUROC and AUPR and the vessels."""
    truth = (ARRAYS["eval_gt"] > 127).astype(np.uint8).transpose(2, 0, 1)
    uncertain = truth[2] > truth[0] + truth[1]
    if not everywhere:
        truth[:2, uncertain] = IGNORE
        truth[2, ARRAYS["eval_fov"] < 127] = IGNORE
    return Evidence("a", "a", truth, (ARRAYS["eval_pred"] / 255).astype(np.float32).transpose(2, 0, 1))


@pytest.mark.parametrize("pixels", ["all", "intersection"])
def test_arteries_and_veins(parity, pixels):
    golden = NUMBERS[f"mav_{pixels}"]
    options = artery_vein.Options(as_published=True)
    ours = artery_vein.compute([evidence(everywhere=False)], names=NAMES, options=options)
    rows = {
        "sens_av": f"{pixels}: sensitivity", "spec_av": f"{pixels}: specificity", "acc_av": f"{pixels}: accuracy",
        "sens_bv": "vessel: sensitivity", "spec_bv": "vessel: specificity", "acc_bv": "vessel: accuracy",
        **{f"auc_roc_{key}": f"{name}: AUROC" for key, name in zip(("a", "v", "bv"), NAMES, strict=True)},
        **{f"auc_pr_{key}": f"{name}: AUPR" for key, name in zip(("a", "v", "bv"), NAMES, strict=True)},
    }  # fmt: skip
    assert {key for key in golden if not key.startswith(("inf_", "corr_"))} == set(rows)
    parity(f"scores ({pixels})", [ours[row] for row in rows.values()], [golden[key] for key in rows], limit=1e-9)


def test_pixels_that_are_either_artery_or_vein():
    truth = evidence(everywhere=False).truth
    counts = [artery_vein._definite(truth).sum(), (truth[0] == IGNORE).sum(), (truth[:2] == 1).all(0).sum()]
    assert counts == NUMBERS["vessel_mask_counts"]


@pytest.mark.parametrize("pixels", ["all", "intersection"])
def test_paths(parity, pixels):
    """Which pixels are counted makes no difference to them; they are of one image, so they spread by nothing."""
    golden = NUMBERS[f"mav_{pixels}"]
    ours = vessel_paths.compute([evidence(everywhere=True)], names=NAMES, options=vessel_paths.Options())
    expected = {}
    for key, name in zip(("a", "v", "bv"), NAMES, strict=True):
        expected[f"{name}: infeasible"], expected[f"{name}: correct"] = (
            golden[f"inf_{key}"][0],
            golden[f"corr_{key}"][0],
        )
    assert set(ours) == set(expected)
    assert {value[1] for key, value in golden.items() if key.startswith(("inf_", "corr_"))} == {0}
    parity("paths", list(ours.values()), [expected[row] for row in ours], limit=1e-12)
    infeasible, wrong, correct = NUMBERS["topo_metric_seed0_A_100"]
    assert (ours["artery: infeasible"], ours["artery: correct"]) == (infeasible / 100, correct / 100)
    assert wrong == 100 - infeasible - correct
