"""Enhancement and vessel metrics on real photographs (AVRDB) and their drawn arteries and veins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg.labels import IGNORE
from medseg.metrics import artery_vein, vessel_paths
from medseg.prediction import Evidence
from medseg.transforms import fundus
from tests import reference

pytestmark = reference.needed
PHOTOGRAPHS = reference.files("fundus/avrdb", (".jpg",))
NAMES = ("artery", "vein", "vessel")


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def truth_of(photograph: Path) -> np.ndarray:
    """(3, rows, columns) from red arteries, blue veins and green crossings; not known outside the field of view."""
    red, green, blue = np.moveaxis(picture(photograph.with_name(f"{photograph.stem}--av.png")) > 127, 2, 0)
    truth = np.stack([red | green, blue | green, red | green | blue]).astype(np.uint8)
    truth[:, ~fundus.field_of_view(picture(photograph))] = IGNORE
    return truth


@pytest.fixture(scope="module")
def truths() -> list[np.ndarray]:
    assert len(PHOTOGRAPHS) == 3
    return [truth_of(path) for path in PHOTOGRAPHS]


def cases(truths: list[np.ndarray], predicted: list[np.ndarray]) -> list[Evidence]:
    pairs = enumerate(zip(truths, predicted, strict=True))
    return [Evidence(str(n), str(n), truth, chances.astype(np.float32)) for n, (truth, chances) in pairs]


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_enhancement_evens_out_the_light(photograph):
    image = picture(photograph)
    field = fundus.field_of_view(image)
    assert 0.35 < field.mean() < 0.75
    box = fundus.square_box(field)
    assert field.sum() / box.side**2 == pytest.approx(np.pi / 4, abs=0.15)
    assert fundus.crop(image, box).shape == (box.side, box.side, 3)

    enhanced, inside = fundus.enhance_uint8(image, field)
    assert enhanced.shape == image.shape
    assert (enhanced[~inside] == 0).all()
    left, right = (inside & (np.arange(image.shape[1]) // (image.shape[1] // 2) == side) for side in (0, 1))
    before, after = (
        abs(float(each[left].mean()) - float(each[right].mean())) / float(each[inside].std())
        for each in (image[..., 1], enhanced[..., 1])
    )
    assert after < before / 4 and after < 0.15, (before, after)

    vessels, green = truth_of(photograph)[2] == 1, enhanced[..., 1].astype(float)
    assert green[vessels & inside].mean() < green[~vessels & inside].mean() - green[inside].std() / 2


def test_the_truth_scores_one(truths):
    same = cases(truths, [truth == 1 for truth in truths])
    assert set(artery_vein.compute(same, names=NAMES, options=artery_vein.Options()).values()) == {1.0}
    paths = vessel_paths.compute(same, names=NAMES, options=vessel_paths.Options(paths=20))
    assert paths == {
        f"{name}: {what}": float(what == "correct") for name in NAMES for what in ("infeasible", "correct")
    }


def test_a_broken_copy_scores_what_was_broken(truths):
    """Arteries and veins change places left of the middle, and every 40th row is missing."""
    broken = []
    for truth in truths:
        copy = (truth == 1).copy()
        middle = copy.shape[2] // 2
        copy[:2, :, :middle] = copy[1::-1, :, :middle]
        copy[:, ::40] = False
        broken.append(copy)
    some = cases(truths, broken)
    found = artery_vein.compute(some, names=NAMES, options=artery_vein.Options())
    definite = [(truth[0] != truth[1]) & (truth[0] != IGNORE) for truth in truths]
    kept = [mask & copy.any(0) for mask, copy in zip(definite, broken, strict=True)]
    right = sum(mask[:, mask.shape[1] // 2 :].sum() for mask in kept)
    assert found["intersection: accuracy"] == pytest.approx(right / sum(mask.sum() for mask in kept))
    vessels = [truth[2] == 1 for truth in truths]
    missing = sum(mask[::40].sum() for mask in vessels) / sum(mask.sum() for mask in vessels)
    assert found["vessel: sensitivity"] == pytest.approx(1 - missing)
    assert found["vessel: specificity"] == 1

    paths = vessel_paths.compute(some, names=NAMES, options=vessel_paths.Options(paths=50))
    assert 0.3 < paths["vessel: infeasible"] < 1
    assert paths["artery: infeasible"] > paths["vessel: infeasible"]
