"""What is uneven about a stack is measured in mm, and judged: good, repairable (how) or refused (why)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medseg.dicom import repair
from medseg.dicom.frames import Frame
from medseg.dicom.geometry import measure
from medseg.dicom.preflight import Judgement, Verdict, judge
from medseg.volume import Instance

ROW, COLUMN, NORMAL = np.eye(3)
SIZE, SPACING = (12, 10), (0.8, 0.6)
CORNER_MM = float(np.hypot(11 * 0.8, 9 * 0.6))
"""From the first pixel to the last."""


def stack(positions: np.ndarray, row: np.ndarray = ROW, column: np.ndarray = COLUMN, **changes: object) -> list[Frame]:
    return [
        Frame(
            Instance(Path(f"{n}.dcm"), "1", f"1.{n}"),
            *(tuple(float(value) for value in vector) for vector in (place, row, column)),  # type: ignore[arg-type]
            spacing_mm=SPACING,
            size=SIZE,
            slope=1.0,
            intercept=0.0,
            thickness_mm=3.0,
            **changes,  # type: ignore[arg-type]
        )
        for n, place in enumerate(positions)
    ]


def changed(frames: Sequence[Frame], which: int, **changes: object) -> list[Frame]:
    return [replace(frame, **changes) if n == which else frame for n, frame in enumerate(frames)]  # type: ignore[arg-type]


def heights(*values: float) -> np.ndarray:
    return np.array(values)[:, None] * NORMAL


EVEN = heights(*(3.0 * n for n in range(20)))


def found(frames: Sequence[Frame], gap_mm: float = 10, tolerance_mm: float = 0.01) -> Judgement:
    return judge(frames, tolerance_mm=tolerance_mm, gap_mm=gap_mm)


def only(judgement: Judgement) -> tuple[str, Verdict, str, float]:
    (finding,) = judgement.findings
    assert finding.remedy
    return finding.kind, finding.severity, finding.repair, finding.size_mm


def test_an_even_stack_is_good() -> None:
    judgement = found(stack(EVEN))
    assert judgement.verdict is Verdict.GOOD and not judgement.findings
    assert judgement.geometry.off_grid_mm < 1e-9 and judgement.geometry.off_line_mm < 1e-9


def test_missing_slices_are_filled_up_to_the_gap() -> None:
    frames = stack(np.delete(EVEN, range(8, 10), axis=0))
    assert only(found(frames)) == ("missing", Verdict.REPAIRABLE, "fill", pytest.approx(54 / 17 * 10 - 24 - 6, abs=4))
    text = found(frames).findings[0].text
    assert "2 missing slices of 3 mm (2 after 7.dcm), a gap of 9 mm" in text
    assert only(found(frames, gap_mm=8.9))[:3] == ("missing", Verdict.REFUSED, "")
    assert "gap_mm=9" in found(frames, gap_mm=8.9).findings[0].remedy
    one = stack(np.delete(EVEN, 8, axis=0))
    assert only(found(one))[3] == pytest.approx(1.67, abs=0.01)  # the ninth of nineteen steps of 57/18 mm


@pytest.mark.parametrize("seed", range(8))
def test_a_gap_as_wide_as_the_limit_is_filled_in_any_direction(seed: int) -> None:
    turned, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    places = np.delete(np.arange(10), 4)[:, None] * 5.0 * np.cross(turned[:, 0], turned[:, 1])
    assert only(found(stack(places, turned[:, 0], turned[:, 1])))[:3] == ("missing", Verdict.REPAIRABLE, "fill")


def test_axes_that_are_only_roughly_perpendicular_are_repaired_as_they_are() -> None:
    """Directions are often written with three or four digits."""
    skewed = np.array([0.0009, 1, 0])
    frames = [replace(frame, size=(512, 512)) for frame in stack(EVEN + EVEN[:, 2:] * 0.2 * COLUMN, column=skewed)]
    assert [finding.repair for finding in found(frames).findings] == ["straighten"]
    assert repair.plan(frames).residual_mm < 0.001


def test_a_repair_that_is_not_exact_is_refused() -> None:
    """Heights are trusted to a thousandth of a step, which is too little here."""
    places = np.delete(EVEN, 8, axis=0) + np.where(np.arange(19) == 4, 0.002, 0)[:, None] * NORMAL
    assert found(stack(places)).verdict is Verdict.REPAIRABLE
    judgement = found(stack(places), tolerance_mm=0.001)
    assert judgement.verdict is Verdict.REFUSED and judgement.findings[-1].kind == "inexact"
    assert "up to 0.002 mm" in judgement.findings[-1].text


def test_variable_steps_are_regridded_up_to_the_gap() -> None:
    frames = stack(heights(*range(0, 30, 3), *range(32, 60, 5)))
    assert only(found(frames))[:3] == ("spacing", Verdict.REPAIRABLE, "regrid")
    assert "slices 3 to 5 mm apart" in found(frames).findings[0].text
    assert only(found(frames, gap_mm=4))[:3] == ("spacing", Verdict.REFUSED, "")


@pytest.mark.parametrize("degrees", [15, -15, 18.5, -18.5, 0.1])
def test_tilt_is_straightened(degrees: float) -> None:
    leaning = EVEN + EVEN[:, 2:] * np.tan(np.radians(degrees)) * COLUMN
    judgement = found(stack(leaning))
    assert only(judgement)[:3] == ("tilt", Verdict.REPAIRABLE, "straighten")
    assert judgement.geometry.tilt_degrees == pytest.approx(abs(degrees))
    assert judgement.findings[0].size_mm == pytest.approx(57 * np.tan(np.radians(abs(degrees))))
    assert judgement.geometry.off_line_mm < 1e-9  # a straight line, though not along the normal


def test_tilt_and_gap_are_both_said() -> None:
    leaning = np.delete(EVEN + EVEN[:, 2:] * 0.2 * ROW, 4, axis=0)
    judgement = found(stack(leaning))
    assert [finding.repair for finding in judgement.findings] == ["fill", "straighten"]
    assert judgement.verdict is Verdict.REPAIRABLE


def test_a_slice_that_stands_aside_is_straightened() -> None:
    aside = EVEN.copy()
    aside[7, 0] += 0.3
    judgement = found(stack(aside))
    assert only(judgement) == ("drift", Verdict.REPAIRABLE, "straighten", pytest.approx(0.3))
    assert judgement.geometry.off_line_mm == pytest.approx(0.3, abs=0.02)


def test_many_small_errors_are_not_good_together() -> None:
    """Each part is within the tolerance, their sum is not."""
    off = EVEN.copy()
    off[7] += [0.009, 0, 0.009]
    judgement = found(stack(off))
    assert judgement.geometry.off_grid_mm > 0.01 > max(judgement.geometry.off_side_mm, judgement.geometry.off_step_mm)
    assert judgement.verdict is Verdict.REPAIRABLE
    assert found(stack(off), tolerance_mm=0.02).verdict is Verdict.GOOD


def turn(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle), 0])


@pytest.mark.parametrize(
    ("frames", "kind", "text"),
    [
        (changed(stack(EVEN), 3, size=(12, 11)), "size", "12 x 10, 12 x 11"),
        (changed(stack(EVEN), 3, spacing_mm=(0.8, 0.7)), "pixel spacing", "0.6 to 0.8 mm"),
        (changed(stack(EVEN), 3, spacing_mm=(0.8, 0.0)), "pixel spacing", "0.0 mm"),
        (changed(stack(EVEN), 3, spacing_mm=(-0.8, 0.6)), "pixel spacing", "-0.8 mm"),
        (changed(stack(EVEN), 3, column=(0, 0, 1)), "orientation", "1 slice in another orientation.*90"),
        (
            changed(stack(EVEN), 3, row=tuple(turn(0.5)), column=tuple(turn(90.5))),
            "orientation",
            rf"up to 0.500 degrees, which moves their corners by {CORNER_MM * np.radians(0.5):.2f} mm",
        ),
        (stack(EVEN, column=np.array([0.1, 0.9, 0])), "orientation", "not perpendicular unit vectors"),
        (stack(EVEN, row=np.zeros(3)), "orientation", "not perpendicular unit vectors"),
        (stack(np.concatenate([EVEN, EVEN])), "repeated", "40 slices at 20 places"),
        (stack(np.zeros((4, 3))), "repeated", "4 slices at 1 place,"),
        (stack(np.concatenate([EVEN, EVEN + 0.2 * NORMAL])), "repeated", "only 0.2 mm apart"),
        (stack(np.concatenate([EVEN, EVEN + 1.0 * NORMAL])), "repeated", "steps that come round as 1, 2 mm"),
        (
            stack(np.concatenate([EVEN, EVEN + 0.5 * NORMAL, EVEN + 1.0 * NORMAL])),
            "repeated",
            "steps that come round as 0.5, 0.5, 2 mm",
        ),
        (stack(EVEN * 0.1 + EVEN[:, 2:] * ROW), "tilt", "leans by 84"),
        (changed(stack(EVEN[:1]), 0, thickness_mm=None), "thickness", "without SliceThickness"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_makes_no_stack_is_refused(frames: list[Frame], kind: str, text: str) -> None:
    import re

    judgement = found(frames)
    assert judgement.verdict is Verdict.REFUSED
    assert only(judgement)[:3] == (kind, Verdict.REFUSED, "")
    assert re.search(text, judgement.findings[0].text)


def test_what_is_known_comes_first_and_counts() -> None:
    from medseg.dicom.preflight import Finding

    known = Finding("stray", "1 image left out", Verdict.REPAIRABLE, repair="drop")
    judgement = judge(stack(EVEN), tolerance_mm=0.01, gap_mm=10, known=(known,))
    assert judgement.findings == (known,) and judgement.verdict is Verdict.REPAIRABLE


unit = st.floats(-1, 1, allow_nan=False)
place = st.tuples(*[st.floats(-500, 500)] * 3)


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(unit, unit, unit, unit),
    place,
    st.floats(0.3, 9),
    st.floats(-30, 30),
    st.integers(2, 30),
    st.sets(st.integers(1, 28), max_size=3),
    st.randoms(use_true_random=False),
)
def test_laws_of_measuring(
    quaternion: tuple[float, ...],
    origin: tuple[float, float, float],
    step: float,
    tilt: float,
    count: int,
    gone: set[int],
    random: object,
) -> None:
    """However a stack is turned, moved, tilted, thinned and shuffled, the numbers are those it was made with."""
    from scipy.spatial.transform import Rotation

    length = np.linalg.norm(quaternion)
    turned = Rotation.from_quat(quaternion).as_matrix() if length > 0.1 else np.eye(3)
    row, column, normal = turned.T
    kept = [n for n in range(count) if n not in gone or n == count - 1]
    along = normal + np.tan(np.radians(tilt)) * column
    frames = stack(np.array(origin) + np.array(kept)[:, None] * step * along, row, column)
    random.shuffle(frames)  # type: ignore[attr-defined]
    geometry = measure(frames)
    heights_mm = [np.array(frames[index].position) @ normal for index in geometry.order]
    assert heights_mm == sorted(heights_mm)
    assert geometry.tilt_degrees == pytest.approx(abs(tilt), abs=1e-4)
    assert max(geometry.off_line_mm, geometry.off_plane_mm, geometry.off_side_mm) < 1e-6
    assert geometry.off_grid_mm == pytest.approx(geometry.off_step_mm / np.cos(np.radians(tilt)), abs=1e-6)
    steps = np.diff(kept)
    if 2 * (steps == 1).sum() > len(steps):  # else the gaps are the rule
        assert sum(number for _, number in geometry.missing) == count - len(kept)
        judgement = judge(frames, tolerance_mm=0.01, gap_mm=1000)
        repairs = {finding.repair for finding in judgement.findings}
        assert ("fill" in repairs) == (len(kept) < count)
        assert ("straighten" in repairs) == (geometry.tilt_degrees > 0.05)
        assert (judgement.verdict is Verdict.GOOD) == (not repairs)
