"""Each metric of masks on 1,000 random pairs against an implementation that has nothing to do with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import surface_distance
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_panoptic_quality,
    compute_surface_dice,
)
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.morphology import skeletonize
from sklearn import metrics as sklearn

from medseg import instances
from tests.masks import Masks, some

ALL = some(1000)
SOLID = [masks for masks in ALL if masks.solid]
TOLERANCE = 1.23456
EVERY = {True: np.ones((3, 3)), False: np.ones((3, 3, 3))}
"""Neighbours of pixels and of voxels, diagonal ones too."""


def test_the_pairs_are_of_all_kinds():
    assert len(ALL) == 1000 and sum(masks.flat for masks in ALL) > 300
    empties = [(not masks.truth.any(), not masks.predicted.any()) for masks in ALL]
    assert min(empties.count(kind) for kind in ((True, False), (False, True), (True, True))) > 10
    assert sum(bool(masks.truth[0].any() and masks.truth[-1].any()) for masks in ALL) > 300


def agree(found: list[float], expected: list[float], *, digits: float = 1e-9) -> None:
    """Number by number, nan with nan."""
    np.testing.assert_allclose(np.array(found, float), np.array(expected, float), rtol=digits, atol=digits)


def values(name: str, some_masks: list[Masks], **options) -> dict[str, list[float]]:
    rows = [masks.measure(name, **options) for masks in some_masks]
    return {number: [row[number] for row in rows] for number in rows[0]}


def tensors(masks: Masks) -> tuple[torch.Tensor, torch.Tensor]:
    """Prediction and truth as MONAI takes them."""
    truth, predicted = masks.images
    return torch.from_numpy(predicted)[None, None], torch.from_numpy(truth)[None, None]


def test_overlap_is_that_of_scikit_learn():
    options = {"average": "binary", "zero_division": math.nan}
    expected = [
        sklearn.precision_recall_fscore_support(m.truth.ravel(), m.predicted.ravel(), **options)[:3] for m in ALL
    ]
    for name, column in zip(("precision", "sensitivity", "dice"), zip(*expected, strict=True), strict=True):
        agree(values(name, ALL)[name], list(column))


def test_overlap_is_that_of_monai():
    """Which has no value for a truth that is empty."""
    true = [masks for masks in ALL if masks.truth.any()]
    for name, function in (("dice", compute_dice), ("iou", compute_iou)):
        agree(values(name, true)[name], [function(*tensors(masks)).item() for masks in true], digits=1e-6)


def test_volumes_are_those_of_simpleitk():
    def volume(mask: np.ndarray, spacing: tuple[float, ...]) -> float:
        image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose())
        image.SetSpacing(spacing)
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.Execute(image)
        return shapes.GetPhysicalSize(1) / 1000 if shapes.HasLabel(1) else 0.0

    found = values("volume", ALL)
    truth, predicted = (np.array([volume(getattr(m, side), m.spacing) for m in ALL]) for side in ("truth", "predicted"))
    agree(found["volume_truth_ml"], list(truth))
    agree(found["volume_predicted_ml"], list(predicted))
    agree(found["volume_difference_ml"], list(predicted - truth))
    with np.errstate(all="ignore"):
        percent = np.where(truth > 0, 100 * (predicted - truth) / truth, math.nan)
    agree(found["volume_difference_percent"], list(percent))


def test_distances_of_surface_voxels_are_those_of_monai():
    """Which works in float32."""
    expected = [
        compute_hausdorff_distance(*tensors(m), include_background=True, spacing=m.steps, percentile=95).item()
        for m in SOLID
    ]
    agree(values("hd95", SOLID)["hd95"], expected, digits=1e-5)
    tenth = SOLID[::10]
    expected = [
        compute_average_surface_distance(*tensors(m), include_background=True, symmetric=True, spacing=m.steps).item()
        for m in tenth
    ]
    agree(values("assd", tenth)["assd"], expected, digits=1e-5)
    expected = [
        compute_surface_dice(*tensors(m), [TOLERANCE], include_background=True, spacing=m.steps).item() for m in SOLID
    ]
    agree(values("nsd", SOLID, tolerance_mm=TOLERANCE)["nsd"], expected, digits=1e-6)


@pytest.fixture(scope="module")
def surfels() -> list[dict]:
    """DeepMind's distances and areas, in both directions."""
    return [surface_distance.compute_surface_distances(*m.images, m.steps) for m in SOLID]


def test_distances_of_surface_elements_are_those_of_surface_distance(surfels):
    elements = {"surface": "elements"}
    for name, percent in (("hd", 100), ("hd95", 95)):
        agree(
            values(name, SOLID, **elements)[name],
            [surface_distance.compute_robust_hausdorff(found, percent) for found in surfels],
        )
    means = [surface_distance.compute_average_surface_distance(found) for found in surfels]
    agree(values("assd", SOLID, **elements)["masd"], [sum(each) / 2 for each in means])
    expected = [surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE) for found in surfels]
    agree(values("nsd", SOLID, tolerance_mm=TOLERANCE, **elements)["nsd"], expected)


def surface_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * np.array(spacing)


def test_the_largest_the_mean_and_the_pooled_percentile_are_medpys_and_masd_its_former_assd():
    """By its definitions, from a table of all distances: MedPy itself is under the GPL."""
    largest, pooled, mean, means = [], [], [], []
    for masks in SOLID:
        between = cdist(*(surface_points(mask, masks.steps) for mask in masks.images))
        there, back = between.min(axis=1), between.min(axis=0)
        largest.append(max(there.max(), back.max()))
        pooled.append(np.percentile(np.concatenate([there, back]), 95))
        mean.append(np.concatenate([there, back]).mean())
        means.append((there.mean() + back.mean()) / 2)
    agree(values("hd", SOLID)["hd"], largest)
    agree(values("hd95", SOLID, directions="pooled")["hd95"], pooled)
    agree(values("assd", SOLID)["assd"], mean)
    agree(values("assd", SOLID)["masd"], means)


def test_boundary_iou_is_that_of_a_table_of_all_distances():
    def rim(mask: np.ndarray, masks: Masks) -> set[tuple[int, ...]]:
        inside = np.argwhere(mask)
        between = cdist(inside * np.array(masks.steps), surface_points(mask, masks.steps))
        return {tuple(place) for place in inside[between.min(axis=1) <= TOLERANCE].tolist()}

    expected = []
    for masks in SOLID:
        ours, theirs = (rim(mask, masks) for mask in masks.images)
        expected.append(len(ours & theirs) / len(ours | theirs))
    agree(values("boundary_iou", SOLID, width_mm=TOLERANCE)["boundary_iou"], expected)


def test_cldice_is_the_definition_on_the_whole_image():
    """Of masks of which scikit-image leaves a line in every component."""
    kept, expected = [], []
    for masks in SOLID:
        truth, predicted = masks.images
        lines = [skeletonize(mask) for mask in masks.images]
        numbers = [parts(mask, masks.flat) for mask in (masks.truth, masks.predicted)]
        if any(len(np.unique(numbered[line])) < count for line, (numbered, count) in zip(lines, numbers, strict=True)):
            continue
        precise, sensitive = truth[lines[1]].mean(), predicted[lines[0]].mean()
        kept.append(masks)
        expected.append(2 * precise * sensitive / (precise + sensitive) if precise + sensitive else 0)
    assert len(kept) > 800
    agree(values("cldice", kept)["cldice"], expected)


def parts(mask: np.ndarray, flat: bool) -> tuple[np.ndarray, int]:
    """SciPy's components by all neighbours."""
    image = mask[..., 0] if flat else mask
    return ndimage.label(image, EVERY[flat])


def test_panoptic_quality_is_that_of_monai():
    """Which gives 0 where nothing is recognised, and adds a millionth to denominators."""
    found = values("panoptic", ALL)
    for masks, *ours in zip(ALL, found["pq"], found["sq"], found["rq"], strict=True):
        numbers = [torch.from_numpy(parts(mask, masks.flat)[0]) for mask in (masks.predicted, masks.truth)]
        theirs = [
            compute_panoptic_quality(*numbers, name, smooth_numerator=1e-12).item() for name in ("pq", "sq", "rq")
        ]
        agree([0 if math.isnan(value) else value for value in ours], theirs, digits=1e-6)


def lesions_by_hand(masks: Masks, iou: float, smallest: float, one_to_one: bool) -> dict[str, float]:
    """Every component against every other."""
    numbers = [parts(mask, masks.flat) for mask in (masks.truth, masks.predicted)]
    truth, predicted = ([numbered == one for one in range(1, count + 1)] for numbered, count in numbers)
    pairs = [
        ((a & b).sum() / (a | b).sum(), -row, -column)
        for row, a in enumerate(truth)
        for column, b in enumerate(predicted)
        if (a & b).any() and (a & b).sum() / (a | b).sum() > iou
    ]
    if one_to_one:
        kept: list[tuple[float, int, int]] = []
        for pair in sorted(pairs, reverse=True):
            if not any(pair[1] == other[1] or pair[2] == other[2] for other in kept):
                kept.append(pair)
        pairs = kept
    found, used = {-row for _, row, _ in pairs}, {-column for *_, column in pairs}
    size = math.prod(masks.spacing)
    real = {row for row, a in enumerate(truth) if a.sum() * size >= smallest}
    right = {-column for _, row, column in pairs if -row in real}
    wrong = {column for column, b in enumerate(predicted) if column not in used and b.sum() * size >= smallest}
    hits = len(real & found)
    sensitivity = hits / len(real) if real else math.nan
    precision = len(right) / (len(right) + len(wrong)) if right or wrong else math.nan
    defined = [value for value in (sensitivity, precision) if not math.isnan(value)]
    f1 = math.nan if not defined else 0.0
    if len(defined) == 2 and min(defined) > 0:
        f1 = 2 / (1 / sensitivity + 1 / precision)
    return {
        "lesion_f1": f1,
        "lesion_sensitivity": sensitivity,
        "lesion_precision": precision,
        "lesion_false_positives": len(wrong),
        "lesion_missed": len(real) - hits,
    }


@pytest.mark.parametrize(
    ("iou", "smallest", "one_to_one"), [(0.1, 0, False), (0, 0, False), (0, 3, False), (0, 0, True), (0.2, 12, True)]
)
def test_lesions_are_those_of_every_component_against_every_other(iou, smallest, one_to_one):
    found = values("lesions", ALL, iou=iou, smallest_mm3=smallest, one_to_one=one_to_one)
    expected = [lesions_by_hand(masks, iou, smallest, one_to_one) for masks in ALL]
    for number, column in found.items():
        agree(column, [row[number] for row in expected])


def betti_by_ranks(mask: np.ndarray) -> list[int]:
    """Betti numbers of the union of closed cubes, from the ranks of its boundary operators over two elements: no
    components, no Euler characteristic."""
    cells: list[set[tuple[int, ...]]] = [set(), set(), set(), set()]
    for voxel in np.argwhere(mask):
        for step in np.ndindex(3, 3, 3):
            cell = tuple(int(2 * place + offset) for place, offset in zip(voxel, step, strict=True))
            cells[sum(side % 2 for side in cell)].add(cell)  # odd: along this axis the cell has a length
    ranks = [0]
    for dimension in (1, 2, 3):
        number = {cell: place for place, cell in enumerate(sorted(cells[dimension - 1]))}
        pivots: dict[int, int] = {}
        for cell in cells[dimension]:
            column = 0
            for axis in range(3):
                if cell[axis] % 2:
                    for end in (-1, 1):
                        column ^= 1 << number[(*cell[:axis], cell[axis] + end, *cell[axis + 1 :])]
            while column and column.bit_length() in pivots:
                column ^= pivots[column.bit_length()]
            if column:
                pivots[column.bit_length()] = column
        ranks.append(len(pivots))
    ranks.append(0)
    return [len(cells[dimension]) - ranks[dimension] - ranks[dimension + 1] for dimension in range(3)]


def test_betti_numbers_are_those_of_homology():
    small = some(250, longest=4, seed=1)
    found = values("betti", small)
    numbers = np.array([[betti_by_ranks(mask) for mask in (m.truth, m.predicted)] for m in small])
    assert numbers.max(axis=(0, 1)).tolist() >= [5, 5, 1]  # there is something of everything
    for dimension, column in enumerate(found.values()):
        agree(column, list(abs(numbers[:, 0, dimension] - numbers[:, 1, dimension])))


def euler(mask: np.ndarray) -> int:
    """Corners less edges plus faces less cubes, each counted once."""
    total = 0
    for kind in np.ndindex((2,) * mask.ndim):  # 1: along this axis the cell has a length, 0: it lies between two voxels
        cells = np.pad(mask, 1)
        for axis, long in enumerate(kind):
            first, second = (np.take(cells, range(start, cells.shape[axis] - 1 + start), axis) for start in (0, 1))
            cells = cells if long else first | second
        total += int(cells.sum()) * (-1) ** sum(kind)
    return total


def test_betti_numbers_follow_from_scipys_components_and_from_counts_of_corners_edges_faces_and_cubes():
    found = values("betti", ALL)
    for masks, *errors in zip(ALL, *found.values(), strict=True):
        numbers = []
        for mask, image in zip((masks.truth, masks.predicted), masks.images, strict=True):
            pieces, holes = parts(mask, masks.flat)[1], ndimage.label(~np.pad(image, 1))[1] - 1
            tunnels = pieces - euler(image) + (0 if masks.flat else holes)
            assert not masks.flat or tunnels == holes
            numbers.append((pieces, tunnels, 0 if masks.flat else holes))
        assert errors == [abs(first - second) for first, second in zip(*numbers, strict=True)]


def brats_by_hand(masks: Masks, dilation: int, smallest: float) -> list[float]:
    """The rules of 2023 step by step on the whole image, with DeepMind's distances."""
    truth, predicted = (np.pad(mask, 2 * dilation + 1) for mask in masks.images)
    structure, penalty = ndimage.generate_binary_structure(truth.ndim, 2), 374.0

    def compare(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
        if not other.any():
            return 0.0, penalty
        found = surface_distance.compute_surface_distances(one, other, masks.steps)
        return 2 * (one & other).sum() / (one.sum() + other.sum()), surface_distance.compute_robust_hausdorff(found, 95)

    grown = ndimage.binary_dilation(truth, structure, iterations=dilation)
    joined = ndimage.label(grown, EVERY[masks.flat])[0] * truth
    numbers, count = ndimage.label(predicted, EVERY[masks.flat])
    scores, touched = [], set()
    for lesion in np.unique(joined[joined > 0]):
        reach = ndimage.binary_dilation(joined == lesion, structure, iterations=dilation)
        near = set(numbers[reach].tolist()) - {0}
        touched |= near
        if (joined == lesion).sum() * math.prod(masks.spacing) > smallest:
            scores.append(compare(joined == lesion, np.isin(numbers, list(near))))
    scores += [(0.0, penalty)] * (count - len(touched))
    return [sum(score[part] for score in scores) / len(scores) for part in (0, 1)] if scores else [1.0, 0.0]


def test_brats_numbers_are_those_of_its_rules(surfels):
    found = values("brats", ALL, dilation=1, smallest_mm3=4)
    expected = [brats_by_hand(masks, 1, 4) for masks in ALL]
    agree(found["brats_lesion_dice"], [dice for dice, _ in expected])
    agree(found["brats_lesion_hd95"], [distance for _, distance in expected])
    whole = {id(m): surface_distance.compute_robust_hausdorff(one, 95) for m, one in zip(SOLID, surfels, strict=True)}
    for masks, dice, hd95 in zip(ALL, found["brats_dice"], found["brats_hd95"], strict=True):
        if masks.solid:
            agree([dice, hd95], [masks.measure("dice")["dice"], whole[id(masks)]])
        else:
            assert (dice, hd95) == ((0, 373.13) if masks.truth.any() or masks.predicted.any() else (1, 0))


def test_instances_are_matched_as_by_the_hungarian_method_where_that_is_unique():
    """Above one half there is one matching alone."""
    from scipy.optimize import linear_sum_assignment

    for masks in ALL:
        numbers = [parts(mask, masks.flat)[0] for mask in (masks.truth, masks.predicted)]
        found = instances.overlaps(*numbers)
        table = np.zeros((len(found.truth), len(found.predicted)))
        table[tuple(found.pairs.T)] = found.iou
        rows, columns = linear_sum_assignment(-np.where(table > 0.5, table, 0))
        best = {
            (row, column)
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
            if table[row, column] > 0.5
        }
        assert {tuple(pair) for pair in found.above(0.5).one_to_one().pairs.tolist()} == best
