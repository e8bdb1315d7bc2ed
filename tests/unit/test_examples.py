"""Pictures of validation cases during training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg import report
from medseg.data.cache import PreparedCase
from medseg.engine.examples import Examples
from medseg.engine.run import Run
from medseg.engine.validate import Slices
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.transforms.prepare import Undo

TABLE = LabelTable.of({"a": 1})


def plan(orientation: str, unit: str = "mm", channels: tuple[str, ...] = ("CT",)) -> Plan:
    return Plan(
        orientation=orientation,
        spacing_mm="native",
        patch=(8, 8, 8),
        batch=1,
        normalisation=(Normalisation(kind="none"),) * len(channels),
        crop="none",
        order=1,
        channels=channels,
        unit=unit,
    )


def case(name: str, image: np.ndarray, spacing: tuple[float, float, float] = (1, 2, 3)) -> PreparedCase:
    """Made by cutting the scan to twice as many voxels along the first axis as the prepared image has."""
    i, j, k = image.shape[1:]
    affine = tuple(tuple(row) for row in np.diag([*spacing, 1]).tolist())
    undo = Undo((2 * i, j, k), affine, (0, 1, 2), (False,) * 3, ((0, 2 * i), (0, j), (0, k)), (i, j, k))
    return PreparedCase(name, image, None, undo, {}, (1,))


def drawn(
    made: Examples,
    one: PreparedCase,
    labels: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    slices: Slices = slice(None),
) -> report.Overlay:
    seen: list[report.Overlay] = []
    monkeypatch.setattr(report, "strip", lambda overlay, caption: (seen.append(overlay), b"")[1])
    made.draw(one, slices, labels, labels)
    return seen[0]


def test_a_picture_shows_the_patient_whichever_way_the_network_sees_him(tmp_path: Path, monkeypatch) -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    labels = (image > 1).astype(np.uint8)
    usual = drawn(Examples(Run(tmp_path), ["x"], plan("RAS"), TABLE, 1), case("x", image), labels, monkeypatch)
    np.testing.assert_array_equal(usual.scan, image[0])
    assert usual.spacing_mm == (2, 2, 3)
    turned = image.transpose(0, 3, 1, 2)[:, ::-1, ::-1]  # I, L, A
    other = case("x", turned)
    found = drawn(
        Examples(Run(tmp_path), ["x"], plan("ILA"), TABLE, 1), other, (turned > 1).astype(np.uint8), monkeypatch
    )
    np.testing.assert_array_equal(found.scan, usual.scan)
    np.testing.assert_array_equal(found.predicted, usual.predicted)
    np.testing.assert_array_equal(found.truth, usual.truth)
    assert found.spacing_mm == (2, 3, 2)  # of axes 1, 2, 0


def test_only_held_out_slices_are_shown(tmp_path: Path, monkeypatch) -> None:
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 3)).astype(np.float32)
    made = Examples(Run(tmp_path), ["x"], plan("RAS"), TABLE, 1)
    labels = np.zeros((1, 4, 5, 2), np.uint8)
    overlay = drawn(made, case("x", image), labels, monkeypatch, [True, False, True])
    np.testing.assert_array_equal(overlay.scan, image[0][..., [0, 2]])


def test_photographs_keep_their_colours(tmp_path: Path, monkeypatch) -> None:
    image = np.random.default_rng(0).random((3, 6, 5, 1)).astype(np.float32)
    made = Examples(Run(tmp_path), ["x"], plan("RAS", "px", ("r", "g", "b")), TABLE, 1)
    overlay = drawn(made, case("x", image), np.zeros((1, 6, 5, 1), np.uint8), monkeypatch)
    assert overlay.scan.shape == (3, 6, 5, 1) and overlay.unit == "px"


def test_the_last_and_the_best_are_kept_and_only_of_the_cases_chosen(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    labels = np.zeros((1, 8, 8, 8), np.uint8)
    labels[0, 2:6, 2:6, 2:6] = 1
    for epoch in (1, 2):
        made = Examples(Run(tmp_path), ["p/1"], plan("RAS"), TABLE, epoch)
        for name in ("p/1", "other"):
            made.draw(case(name, image), slice(None), labels, labels)
        if epoch == 1:
            made.keep_as_best()
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png")}
    assert files == {"validation/last/p_1.png", "validation/best/p_1.png"}
    last, best = ((tmp_path / "validation" / kind / "p_1.png").read_bytes() for kind in ("last", "best"))
    assert last[:4] == best[:4] == b"\x89PNG" and last != best  # the caption tells the epoch
    assert made.pictures() == [tmp_path / "validation" / "last" / "p_1.png"]
