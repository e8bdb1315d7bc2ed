"""Maps of doubt: entropy of probabilities, and disagreement of folds and mirrored passes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medseg import readers
from medseg.case import Case
from medseg.engine import budget, dispute, tiles
from medseg.engine.batch import predict_all
from medseg.engine.keep import Wanted
from medseg.engine.predict import Predictor
from medseg.outputs import dicom_seg
from medseg.refusal import Refusal
from medseg.transforms import kept
from medseg.transforms import prepare as transform
from medseg.volume import Source, Volume
from tests import dicom_series as ds
from tests import judges, tiny

SPACING = (1.5, 1.5, 2)
MIRRORED = ["mirror=[left-right,inferior-superior]"]
REGIONS: dict[str, int | list[int]] = {"WT": [1, 2], "TC": [2]}


def scan(shape: tuple[int, int, int] = tiny.SHAPE) -> Volume:
    array = np.random.default_rng(3).normal(0, 1, (1, *shape)).astype(np.float32)
    return Volume(array, tiny.AFFINE, source=Source(Path("scan.nii.gz"), "nifti"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks for labels, two for regions."""
    root = tmp_path_factory.mktemp("runs")
    return [
        tiny.untrained_run(root / f"{seed}" / "run", labels=table, seed=seed).folder
        for seed, table in enumerate((None, None, REGIONS, REGIONS))
    ]


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_entropy_is_that_of_the_probabilities(folders: list[Path], kind: str) -> None:
    """The network's grid is that of the scan, so nothing is resampled in between."""
    predictor = Predictor.load([folders[0 if kind == "labels" else 2]], device="cpu")
    found = predictor.predict_volume(scan(), "a", probabilities=True, uncertainty=["entropy"])
    assert found.entropy is not None and found.probabilities is not None
    p = found.probabilities.astype(np.float64)
    if kind == "labels":
        expected = stats.entropy(np.concatenate([1 - p.sum(0, keepdims=True), p]), axis=0, base=3)
    else:
        expected = np.mean([stats.entropy([one, 1 - one], axis=0, base=2) for one in p], axis=0)
    np.testing.assert_allclose(found.entropy[0], expected, atol=1e-4)
    assert expected.std() > 0.01, "the scan says something"


def test_entropy_is_resampled_to_the_grid_of_the_scan(folders: list[Path]) -> None:
    predictor = Predictor.load([folders[0]], device="cpu")
    coarse = Volume(scan().array[:, ::2, ::2], tiny.AFFINE @ np.diag([2, 2, 1, 1]), source=scan().source)
    found = predictor.predict_volume(coarse, "a", probabilities=True, uncertainty=["entropy"])
    p = found.probabilities
    assert p is not None and found.entropy is not None and found.entropy.shape == (1, *coarse.shape)
    sharp = stats.entropy(np.concatenate([1 - p.sum(0, keepdims=True), p]), axis=0, base=3)
    assert np.corrcoef(found.entropy[0].ravel(), sharp.ravel())[0, 1] > 0.9


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_disagreement_is_the_spread_of_all_answers(folders: list[Path], kind: str) -> None:
    """Two networks and four mirrored passes: eight answers, as they come. The scan is one tile."""
    pair = folders[:2] if kind == "labels" else folders[2:]
    small, answers = scan((16, 16, 16)), []
    predictor = Predictor.load(pair, device="cpu", changes=MIRRORED)
    found = replace(predictor, temperature=3.0).predict_volume(small, "a", uncertainty=["disagreement"])
    for member, axes in itertools.product(predictor.members, ((), (0,), (2,), (0, 2))):
        image, undo = predictor._image(member, small, None, "")
        with torch.no_grad():
            scores = member.network(image.flip([1 + a for a in axes])[None])
        logits = (scores[0] if isinstance(scores, list | tuple) else scores)[0].flip([1 + axis for axis in axes])
        chances = logits.softmax(0) if kind == "labels" else logits.sigmoid()
        answers.append(undo.axes.undo(chances.numpy()))
    variance = np.var(np.array(answers, np.float64), axis=0).sum(0)
    expected = np.sqrt(variance / 2 if kind == "labels" else variance)
    assert found.disagreement is not None and expected.max() > 0.05
    np.testing.assert_allclose(found.disagreement[0], expected, atol=1e-5)


def test_labels_and_probabilities_are_the_same_whatever_else_is_kept(folders: list[Path]) -> None:
    predictor = Predictor.load(folders[:2], device="cpu", changes=["mirror=[left-right]"])
    seen = scan((20, 16, 16))  # three tiles
    plain = predictor.predict_volume(seen, "a", probabilities=True)
    more = predictor.predict_volume(seen, "a", probabilities=True, uncertainty=["entropy", "disagreement"])
    alone = predictor.predict_volume(seen, "a", uncertainty=["entropy", "disagreement"])
    for other in (more, alone):
        assert np.array_equal(plain.target.array, other.target.array)
    assert np.array_equal(plain.probabilities, more.probabilities) and alone.probabilities is None
    assert np.array_equal(more.entropy, alone.entropy) and np.array_equal(more.disagreement, alone.disagreement)
    assert plain.entropy is None and plain.disagreement is None


@given(
    chances=st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=2, max_size=6),
    exclusive=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_spread_is_numpys(chances: list[list[float]], exclusive: bool) -> None:
    given_ = torch.tensor(chances)
    runs = [lambda cut, one=one: one[None, :, None, None, None].expand(1, 3, 2, 2, 2).clone() for one in given_]
    seen = tiles.Seen(torch.zeros(1, 2, 2, 2), runs[0], runs)
    tiling = tiles.Tiling.of((2, 2, 2), (2, 2, 2), overlap=0.5)
    found = dispute.mean([seen], [(0, 0, 0)], tiling, exclusive=exclusive)
    p = np.array([kept.probabilities(one, exclusive=exclusive).numpy() for one in given_], np.float64)
    expected = np.sqrt(p.var(axis=0).sum() / (2 if exclusive else 1))
    np.testing.assert_allclose(found[0, 3], expected, atol=2e-4)
    np.testing.assert_allclose(found[0, :3, 0, 0, 0], given_.mean(0), atol=1e-5)
    same = tiles.Seen(seen.image, runs[0], [runs[0]] * 3)
    assert not dispute.mean([same], [(0, 0, 0)], tiling, exclusive=exclusive)[0, 3].any()


@pytest.mark.parametrize("exclusive", [True, False])
def test_the_dice_that_probabilities_promise(exclusive: bool) -> None:
    """In two goes; what is promised is what comes, on average, where probabilities are honest."""
    draws = np.random.default_rng(0)
    scores = torch.from_numpy(draws.normal(0, 2, (3, 40, 50, 20)).astype(np.float32))
    certainty = kept.Certainty(3, exclusive=exclusive)
    certainty.take(scores[:, :, :20])
    certainty.take(scores[:, :, 20:])
    p = kept.probabilities(scores, exclusive=exclusive).numpy()
    said = (p == p.max(0)) if exclusive else p > 0.5
    expected = 2 * (p * said).sum((1, 2, 3)) / (said.sum((1, 2, 3)) + p.sum((1, 2, 3)))
    assert certainty.dice(2) == pytest.approx(expected[1:].tolist(), rel=1e-4)
    if not exclusive:
        true = draws.random(p.shape) < p
        dice = 2 * (true & said).sum((1, 2, 3)) / (true.sum((1, 2, 3)) + said.sum((1, 2, 3)))
        assert certainty.dice(3) == pytest.approx(dice.tolist(), rel=0.02)
    assert np.isnan(kept.Certainty(2, exclusive=True).dice(1)).all(), "nothing was said"


def test_a_single_answer_cannot_disagree(folders: list[Path], tmp_path: Path) -> None:
    predictor = Predictor.load([folders[0]], device="cpu")
    with pytest.raises(Refusal, match="one answer"):
        predictor.predict_volume(scan(), "a", uncertainty=["disagreement"])
    with pytest.raises(Refusal, match="some of probabilities, entropy, disagreement"):
        predictor.predict_volume(scan(), "a", uncertainty=["doubt"])


def test_what_is_kept_is_in_the_forecast(folders: list[Path]) -> None:
    predictor = Predictor.load(folders[:2], device="cpu", changes=MIRRORED)
    undo = transform.way_back(scan((64, 64, 64)), predictor.plan)

    def forecast(*maps: str) -> object:
        return budget.plan(predictor.planner.task(undo, Wanted(frozenset(maps))), predictor.limits).host

    plain, doubt, disputed = forecast(), forecast("entropy"), forecast("disagreement")
    voxels = 64**3
    assert doubt.results == disputed.results == plain.results + 4 * voxels
    assert forecast("entropy", "disagreement", "probabilities").results == plain.results + 4 * 4 * voxels
    assert doubt.reducing > plain.reducing and doubt.means == plain.means
    assert disputed.means * 4 == plain.means * 5, "three channels and a weight; one channel more"
    assert disputed.network - plain.network == budget.DISPUTED * 4 * 3 * 16**3


def test_both_are_files_that_can_be_read(folders: list[Path], tmp_path: Path) -> None:
    predictor = Predictor.load(folders[:2], device="cpu")
    path = tiny.nifti(tmp_path / "a.nii.gz", scan().array[0])
    found = []
    [done] = predict_all(
        predictor,
        [Case("a", "a", {"image": path})],
        tmp_path / "out",
        formats=["nifti", "entropy:bits=16", "disagreement"],
        announce=lambda text: None,
        use=lambda case, volume, prediction: found.append(prediction),
    )
    assert done.state == "done", done.reason
    for name, bits in (("entropy", 16), ("disagreement", 8)):
        back = readers.read(tmp_path / "out" / f"a.{name}.nii.gz")
        kept_map = getattr(found[0], name)
        assert kept_map.any()
        np.testing.assert_allclose(back.array, kept_map, atol=0.51 / (2**bits - 1))
        np.testing.assert_allclose(back.affine, tiny.AFFINE, atol=1e-5)


@pytest.mark.parametrize("what", ["entropy", "disagreement"])
def test_fractional_segmentations_hold_them(tmp_path: Path, what: str) -> None:
    from tests.contracts import test_outputs as contracts

    made = contracts.prediction(contracts.scan(tmp_path), contracts.LABELS)
    shares = np.random.default_rng(0).random((1, *made.target.shape)).astype(np.float32)
    path, options = tmp_path / "a.seg.dcm", dicom_seg.Options(type="fractional", of=what)
    assert dicom_seg.keeps(options) == (what,)
    with pytest.raises(Refusal, match=f"no {what}"):
        dicom_seg.write(made, path, options)
    dicom_seg.write(replace(made, **{what: shares}), path, options)
    back = readers.read(path)
    assert back.channels == (what,) and back.source.reader == "dicom_seg"
    np.testing.assert_allclose(np.sort(back.array.ravel()), np.sort(shares.ravel()), atol=0.51 / 255)


@pytest.mark.parametrize("mark", [pytest.param("", marks=judges.needs("dciodvfy"))])
def test_the_validator_finds_no_error_in_a_map(tmp_path: Path, mark: str) -> None:
    from tests.contracts import test_outputs as contracts

    made = contracts.prediction(readers.read(ds.series(tmp_path / "scan", ds.places(4))), contracts.LABELS)
    shares = np.random.default_rng(0).random((1, *made.target.shape)).astype(np.float32)
    dicom_seg.write(
        replace(made, entropy=shares), tmp_path / "a.seg.dcm", dicom_seg.Options(type="fractional", of="entropy")
    )
    assert judges.dciodvfy(tmp_path / "a.seg.dcm") == []
