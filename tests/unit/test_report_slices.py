"""Where things lie in the pictures of a report, on arrays that can be checked on paper."""

import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.report import slices
from medseg.report.slices import PLANES, Overlay

AXIAL, CORONAL, SAGITTAL = PLANES
TABLE = LabelTable.of({"organ": 1, "lesion": 4})
REGIONS = LabelTable.of({"whole": [1, 2], "core": [2]})


def overlay(predicted: np.ndarray, table: LabelTable = TABLE, **changed: object) -> Overlay:
    settings = {
        "case": "c",
        "scan": np.zeros(predicted.shape[-3:]),
        "predicted": predicted,
        "spacing_mm": (1.0, 1.0, 1.0),
        "window": (0.0, 1.0),
        "table": table,
    }
    return Overlay(**{**settings, **changed})  # type: ignore[arg-type]


def test_a_blob_at_right_anterior_superior_is_in_the_expected_corner() -> None:
    scan = np.zeros((4, 5, 6))
    scan[3, 4, 5] = 1  # RAS axes: the largest indices are the patient's right, front and head
    assert np.argwhere(slices.cut(scan, AXIAL, 5)).tolist() == [[0, 0]], "front on top, right on the left"
    assert np.argwhere(slices.cut(scan, CORONAL, 4)).tolist() == [[0, 0]], "head on top, right on the left"
    assert np.argwhere(slices.cut(scan, SAGITTAL, 3)).tolist() == [[0, 0]], "head on top, front on the left"


@pytest.mark.parametrize(
    ("voxel", "axial", "coronal", "sagittal"),
    [  # (row, column) in pictures of 5 x 4, 6 x 4 and 6 x 5
        ((0, 4, 5), (0, 3), (0, 3), (0, 0)),  # patient's left: at the right of axial and coronal pictures
        ((3, 0, 5), (4, 0), (0, 0), (0, 4)),  # back: at the bottom of axial, at the right of sagittal pictures
        ((3, 4, 0), (0, 0), (5, 0), (5, 0)),  # feet: at the bottom of coronal and sagittal pictures
    ],
)
def test_every_direction_of_every_plane(voxel, axial, coronal, sagittal) -> None:  # type: ignore[no-untyped-def]
    scan = np.zeros((4, 5, 6))
    scan[voxel] = 1
    i, j, k = voxel
    for plane, index, shape, place in (
        (AXIAL, k, (5, 4), axial),
        (CORONAL, j, (6, 4), coronal),
        (SAGITTAL, i, (6, 5), sagittal),
    ):
        picture = slices.cut(scan, plane, index)
        assert picture.shape == shape
        assert np.argwhere(picture).tolist() == [list(place)], plane.name


def test_letters_say_what_the_pictures_show() -> None:
    assert [(p.left, p.right, p.top, p.bottom) for p in PLANES] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]


def test_channels_are_kept_in_front() -> None:
    colour = np.arange(3 * 4 * 5 * 1).reshape(3, 4, 5, 1)
    assert slices.cut(colour, AXIAL, 0).shape == (3, 5, 4)
    assert slices.cut(colour, AXIAL, 0)[1, 0, 0] == colour[1, 3, 4, 0]


def test_pixel_size_is_height_then_width() -> None:
    spacing = (2.0, 3.0, 5.0)
    assert [slices.pixel_mm(plane, spacing) for plane in PLANES] == [(3.0, 2.0), (5.0, 2.0), (5.0, 3.0)]


def test_planes_of_a_photograph_and_of_a_volume() -> None:
    assert slices.planes((4, 5, 6)) == PLANES
    assert slices.planes((4, 5, 1)) == (AXIAL,)
    assert slices.planes((1, 1, 1)) == (AXIAL,), "something must be shown"


def test_busiest_slice() -> None:
    predicted = np.zeros((6, 6, 9), dtype=np.uint8)
    assert slices.busiest(overlay(predicted), AXIAL) == 4, "the middle, without foreground"
    predicted[1:3, 1:3, 2] = 1
    predicted[1, 1, 3] = 1
    assert slices.busiest(overlay(predicted), AXIAL) == 2
    truth = np.zeros_like(predicted)
    truth[:, :, 7] = 1
    truth[:, :, 2] = 1
    assert slices.busiest(overlay(predicted, truth=truth), AXIAL) == 2
    assert slices.busiest(overlay(np.zeros_like(truth), truth=truth * (np.arange(9) == 7)), AXIAL) == 7, "truth counts"


def test_a_small_lesion_is_not_lost_behind_a_large_organ() -> None:
    predicted = np.zeros((6, 6, 9), dtype=np.uint8)
    predicted[:5, :, 3] = 1
    predicted[:5, :5, 6] = 1
    predicted[5, 5, 6] = 4
    assert slices.busiest(overlay(predicted), AXIAL) == 6


def test_the_slice_that_tells_most_is_the_one_with_most_errors() -> None:
    predicted = np.zeros((6, 6, 9), dtype=np.uint8)
    predicted[:, :, 3] = 1
    truth = predicted.copy()
    perfect = overlay(predicted, truth=truth)
    assert slices.telling(perfect, AXIAL, perfect.errors) == 3, "without errors, the busiest"
    truth[2, 2, 6] = 4
    wrong = overlay(predicted, truth=truth)
    assert [slices.telling(wrong, plane, wrong.errors) for plane in PLANES] == [6, 2, 2]
    assert slices.telling(wrong, AXIAL, None) == 3, "without truth, the busiest"


def test_painted_maps_and_network_targets_show_the_same() -> None:
    rng = np.random.default_rng(0)
    painted = rng.choice(np.array([0, 1, 4], dtype=np.uint8), (4, 4, 5))
    encoded = TABLE.encode(painted)
    for a, b in zip(overlay(painted).layers(painted), overlay(painted).layers(encoded), strict=True):
        assert np.array_equal(a[0] == a[1], b[0] == b[1])
    for plane in PLANES:
        assert slices.busiest(overlay(painted), plane) == slices.busiest(overlay(encoded), plane)


def test_regions_show_in_full_although_they_overlap() -> None:
    target = REGIONS.encode(np.array([[[0, 1, 2]]]))
    masks = [(array == number).ravel().tolist() for array, number in overlay(target, REGIONS).layers(target)]
    assert masks == [[False, True, True], [False, False, True]]


def test_numbers_outside_the_table_are_passed_over() -> None:
    predicted = np.zeros((3, 3, 3), dtype=np.int64)
    predicted[..., 0], predicted[..., 1], predicted[..., 2] = -1, 2**40, 4
    assert slices.busiest(overlay(predicted), AXIAL) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"scan": np.zeros((2, 3, 3, 3))},
        {"scan": np.zeros((3, 3))},
        {"scan": np.zeros((3, 3, 0))},
        {"truth": np.zeros((3, 3, 4), dtype=int)},
        {"truth": np.zeros((2, 3, 3, 3), dtype=int)},
        {"truth": np.zeros((3, 3, 3))},
        {"spacing_mm": (1.0, 0.0, 1.0)},
        {"spacing_mm": (1.0, float("nan"), 1.0)},
    ],
)
def test_what_does_not_belong_together_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="case c"):
        overlay(np.zeros((3, 3, 3), dtype=np.uint8), **changed)
