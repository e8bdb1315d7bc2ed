"""How well quality control without truth tells poor segmentations: AUROC of its score for a Dice below 0.7.

    python benchmarks/plausibility.py
    python benchmarks/plausibility.py --real CT.nii.gz SEGMENTATION.nii.gz     also a real scan with its labels
    python benchmarks/plausibility.py --run demo/run     also what a network makes of scans that are spoilt

The run is that of `medseg demo`. A copy of it is calibrated on eight further phantoms.

Phantoms of patients that nothing was learned from are given predictions as good networks make them, and spoilt ones in
ten ways. Nothing was tuned on any of them: all limits were set before. A case is poor if the Dice of any of its labels
is below 0.7; what a corruption leaves better than that counts as good. Intervals resample patients. Of the real scan,
patients are imitated: it is stretched by up to 12 %, turned by up to 6 degrees and cropped, 20 times to learn from and
other times to be judged, so that what it shows is real shapes and no more than one person.

Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "sample_data")]

from medseg import quality, traits  # noqa: E402 - from this tree
from medseg.engine.validate import overlaps  # noqa: E402
from medseg.labels import LabelTable  # noqa: E402
from medseg.ranking import auroc  # noqa: E402
from medseg.volume import Volume  # noqa: E402

POOR = 0.7
DRAWS = 1000
LEAST_ML = 20
"""Of the labels of a real scan: of thinner ones at 3 mm, a good network's border is half of the label."""
GOOD = "as a good network"
Draws = np.random.Generator


@dataclass(frozen=True)
class Patient:
    """A scan and its true network target (1, I, J, K)."""

    name: str
    scan: Volume
    truth: np.ndarray


@dataclass(frozen=True)
class Judged:
    """A prediction: how it was made, how good it is, and what is thought of it."""

    patient: str
    kind: str
    dice: float
    score: float
    verdict: str


def jittered(truth: np.ndarray, count: int, amount: float, draws: Draws) -> np.ndarray:
    """Borders that wander, as those of a network do."""
    best, winner = np.full(truth.shape, -np.inf), np.zeros(truth.shape, np.uint8)
    for number in range(count + 1):
        field = ndimage.gaussian_filter((truth == number).astype(np.float32), 0.7)
        wander = ndimage.gaussian_filter(draws.normal(0, 1, truth.shape).astype(np.float32), 1.5)
        field += amount * wander / wander.std() * ((field > 0.02) & (field < 0.98))
        winner[field > best] = number
        best = np.maximum(best, field)
    return winner


def _centre(mask: np.ndarray) -> np.ndarray:
    return np.array(ndimage.center_of_mass(mask))


def _one(labels: np.ndarray, draws: Draws) -> int:
    return int(draws.choice(np.unique(labels[labels > 0])))


def part_missing(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """Half of a label and more is gone, from one side."""
    number, axis = _one(labels, draws), int(draws.integers(3))
    place = np.indices(labels.shape)[axis]
    limit = np.quantile(place[labels == number], draws.uniform(0.3, 0.5))
    return np.where((labels == number) & (place > limit), 0, labels)


def shifted(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """A label lies elsewhere by a quarter of the scan."""
    number = _one(labels, draws)
    away = draws.normal(size=3)
    away *= 0.25 * np.array(labels.shape) / np.linalg.norm(away)
    moved = ndimage.shift((labels == number).astype(np.uint8), np.rint(away), order=0)
    return np.where(moved > 0, number, np.where(labels == number, 0, labels))


def mirrored(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """All labels on the wrong side, left for right."""
    return labels[::-1].copy()


def false_pieces(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """Balls of a label where it is not, together larger than it."""
    number, out = _one(labels, draws), labels.copy()
    size = np.count_nonzero(labels == number)
    radius = (1.3 * size / 3 * 3 / (4 * np.pi)) ** (1 / 3)
    index = np.indices(labels.shape)
    for _ in range(3):
        centre = draws.uniform(0, labels.shape)
        out[((index - centre.reshape(3, 1, 1, 1)) ** 2).sum(0) <= max(2, radius**2)] = number
    return out


def leak(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """A label that has grown into its neighbours."""
    number = _one(labels, draws)
    grown = ndimage.binary_dilation(labels == number, iterations=int(draws.integers(2, 5)))
    return np.where(grown, number, labels)


def eroded(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """A label that has shrunk on all sides."""
    number = _one(labels, draws)
    kept = ndimage.binary_erosion(labels == number, iterations=int(draws.integers(1, 4)))
    return np.where((labels == number) & ~kept, 0, labels)


def swapped(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """Two labels in each other's place."""
    first, second = draws.choice(np.unique(labels[labels > 0]), 2, replace=False)
    return np.where(labels == first, second, np.where(labels == second, first, labels))


def lost(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """A label that was not found."""
    return np.where(labels == _one(labels, draws), 0, labels)


def holes(labels: np.ndarray, draws: Draws) -> np.ndarray:
    """Patches of all labels missing, as on a scan of another kind."""
    noise = ndimage.gaussian_filter(draws.normal(size=labels.shape), 2)
    return np.where(noise > np.quantile(noise, draws.uniform(0.35, 0.55)), 0, labels)


KINDS: dict[str, Callable[[np.ndarray, Draws], np.ndarray]] = {
    "part missing": part_missing,
    "shifted": shifted,
    "mirrored": mirrored,
    "false pieces": false_pieces,
    "leak": leak,
    "eroded": eroded,
    "swapped": swapped,
    "lost": lost,
}
"""What is done to labels alone."""


def predictions(patient: Patient, count: int, draws: Draws) -> Iterator[tuple[str, Patient, np.ndarray]]:
    """Kind, patient (whose scan may be spoilt) and predicted network target: as many good ones as there are others."""

    def good(truth: np.ndarray) -> np.ndarray:
        return jittered(truth[0], count, draws.uniform(0.05, 0.2), draws)[None]

    for _ in range(len(KINDS) + 2):
        yield GOOD, patient, good(patient.truth)
    for kind, spoil in KINDS.items():
        yield kind, patient, spoil(good(patient.truth)[0], draws).astype(np.uint8)[None]
    yield "field of view cut", *_cut(patient, good, draws)
    scan = patient.scan.array.astype(np.float32)
    other = patient.scan.with_array(draws.uniform(0.2, 0.5) * scan + draws.choice([-1, 1]) * scan.std())
    yield "another kind of scan", replace(patient, scan=other), holes(good(patient.truth)[0], draws)[None]


def _cut(patient: Patient, good: Callable[[np.ndarray], np.ndarray], draws: Draws) -> tuple[Patient, np.ndarray]:
    """Half of the scan's slices, and labels that end some slices before it does."""
    size = patient.truth.shape[3]
    kept = slice(0, int(size * draws.uniform(0.4, 0.65)))
    scan = Volume(patient.scan.array[..., kept], patient.scan.affine, patient.scan.source)
    truth = patient.truth[..., kept]
    found = good(truth)
    found[..., int(found.shape[3] * draws.uniform(0.4, 0.8)) :] = 0
    return replace(patient, scan=scan, truth=truth), found


def judged(reference: quality.Reference, patients: Sequence[Patient], table: LabelTable, seed: int = 0) -> list[Judged]:
    """All predictions of all patients."""
    found = []
    for number, one in enumerate(patients):
        draws = np.random.default_rng([seed, number])
        for kind, patient, predicted in predictions(one, len(table.labels), draws):
            counts = overlaps(patient.truth, predicted, table)
            there = counts[:, 1] > 0
            dice = float((counts[there, 0] / counts[there, 1]).min())
            told = quality.judge(traits.measure(predicted, table, patient.scan), reference, table.names)
            found.append(Judged(one.name, kind, dice, told.score or 0.0, told.verdict))
    return found


def power(cases: Sequence[Judged], *, draws: int = DRAWS) -> tuple[float, float, float]:
    """AUROC and its 95 % interval, by resampling patients."""
    whole = _auroc(cases)
    by_patient: dict[str, list[Judged]] = {}
    for case in cases:
        by_patient.setdefault(case.patient, []).append(case)
    names, generator = list(by_patient), np.random.default_rng(0)
    drawn = [
        _auroc([case for name in generator.choice(names, len(names)) for case in by_patient[name]])
        for _ in range(draws)
    ]
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return whole, float(low), float(high)


def _auroc(cases: Sequence[Judged]) -> float:
    return auroc(np.array([case.dice < POOR for case in cases]), np.array([case.score for case in cases]))


def learned(patients: Sequence[Patient], table: LabelTable) -> quality.Reference:
    return quality.learn([traits.measure(one.truth, table, one.scan) for one in patients], "mm", table.names)


def as_text(name: str, cases: Sequence[Judged]) -> str:
    """A table: of each kind, against all good ones."""
    good = [case for case in cases if case.dice >= POOR]
    lines = [f"**{name}**", "", "| | predictions | Dice < 0.7 | AUROC (95 %) | pass | look | fail |", "|---" * 7 + "|"]
    for kind in ("all", *dict.fromkeys(case.kind for case in cases)):
        own = [case for case in cases if kind in ("all", case.kind)]
        poor = [case for case in own if case.dice < POOR]
        said = "–"
        if poor:
            value, low, high = power([*good, *poor], draws=200 if kind != "all" else DRAWS)
            said = f"{value:.3f} ({low:.3f} to {high:.3f})"
        verdicts = [sum(case.verdict == word for case in own) for word in ("pass", "look", "fail")]
        lines.append(f"| {kind} | {len(own)} | {len(poor)} | {said} | {' | '.join(map(str, verdicts))} |")
    return "\n".join(lines)


def phantoms(first: int, count: int) -> list[Patient]:
    """Torsos of patients that differ in the size and place of organs."""
    import make

    made = []
    for number in range(first, first + count):
        image, label, affine = make.render(replace(make.UNSEEN, case=f"p{number}_a", patient=number))
        made.append(Patient(f"phantom {number}", Volume(image[None], affine), label[None]))
    return made


def imitated(scan: Path, labels: Path, count: int, seed: int) -> tuple[list[Patient], LabelTable]:
    """One person, stretched, turned and cropped; and the labels that borders which wander leave fine."""
    import nibabel as nib

    ct, seg = nib.load(scan), nib.load(labels)
    image, numbers = np.asarray(ct.dataobj, np.float32), np.asarray(seg.dataobj).astype(int)
    voxel_ml = abs(np.linalg.det(seg.affine[:3, :3])) / 1000
    kept = [
        number for number in np.unique(numbers) if number and np.count_nonzero(numbers == number) * voxel_ml >= LEAST_ML
    ]
    target = np.zeros(numbers.shape, np.uint8)
    for place, number in enumerate(kept, start=1):
        target[numbers == number] = place
    table, made = LabelTable.of({f"label {number}": place for place, number in enumerate(kept, start=1)}), []
    for number in range(count):
        draws = np.random.default_rng([seed, number])
        angle, stretch = np.deg2rad(draws.uniform(-6, 6)), draws.uniform(0.88, 1.12, 3)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        matrix = turn / stretch
        offset = (np.array(image.shape) - 1) / 2 @ (np.eye(3) - matrix.T) + draws.normal(0, 2, 3)
        moved = ndimage.affine_transform(image, matrix, offset, order=1, cval=float(image.min()))
        moved += draws.normal(0, 15) + draws.normal(0, 10, image.shape)
        own = ndimage.affine_transform(target, matrix, offset, order=0)
        made.append(Patient(f"imitated {number}", Volume(moved[None], ct.affine), own[None]))
    return made, table


def as_files(root: Path, patients: Sequence[Patient]) -> None:
    """The `folder` layout."""
    import nibabel as nib

    for one in patients:
        for folder, array in (("images", one.scan.array), ("labels", one.truth)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array[0], one.scan.affine), root / folder / f"{one.name}.nii.gz")


def calibrated(run: Path, work: Path) -> Path:
    """A copy of a run of the demo, calibrated on phantoms that it has not seen."""
    from medseg import config
    from medseg.engine.calibrate import calibrate
    from medseg.engine.calibration import as_text

    shutil.copytree(run, work / "run")
    shutil.copytree(ROOT / "sample_data" / "ct", work / "data")
    others = phantoms(401, 8)
    as_files(work / "data", others)
    rows = "".join(f"{one.name},{one.name}\n" for one in others)
    with (work / "data" / "patients.csv").open("a", encoding="utf-8") as table:
        table.write(rows)
    recipe = config.load(run / "recipe.yaml", [f"dataset.root={work / 'data'}", "prepare.workers=0"])
    (work / "run" / "recipe.yaml").write_text(config.dump(recipe), encoding="utf-8")
    split = json.loads((run / "split.json").read_text(encoding="utf-8"))
    sides = {"train": split["folds"][split["fold"]]["train"], "validation": [one.name for one in others]}
    (work / "run" / "split.json").write_text(json.dumps(split | {"fold": 0, "folds": [sides]}), encoding="utf-8")
    print(as_text("demo", calibrate(work / "run", device="cpu")), "\n")
    return work / "run"


def spoilt(patient: Patient, draws: Draws) -> Iterator[tuple[str, Volume]]:
    """Scans as they come from other scanners, hands and mistakes."""
    scan, array = patient.scan, patient.scan.array.astype(np.float32)
    yield "as it is", scan
    yield "noise", scan.with_array(array + draws.normal(0, draws.uniform(30, 250), array.shape))
    yield "other intensities", scan.with_array(array * draws.uniform(0.6, 1.3) + draws.uniform(-150, 150))
    yield "blurred", scan.with_array(ndimage.gaussian_filter(array, (0, *[draws.uniform(0.5, 2.5)] * 3)))
    yield "left for right", scan.with_array(array[:, ::-1])
    streak = 400 * np.sin(np.indices(array.shape[1:]).sum(0) / draws.uniform(1, 3)) * draws.uniform(0.2, 1)
    yield "streaks", scan.with_array(array + streak)


def by_network(run: Path, patients: Sequence[Patient]) -> list[Judged]:
    """What a network makes of scans that are spoilt."""
    from medseg.engine.predict import Predictor

    predictor, found = Predictor.load([run], device="cpu"), []
    for number, one in enumerate(patients):
        for kind, scan in spoilt(one, np.random.default_rng([3, number])):
            made = predictor.predict_volume(scan, one.name)
            counts = overlaps(one.truth if kind != "left for right" else one.truth[:, ::-1], made.target.array,
                              predictor.table)  # fmt: skip
            dice = float((counts[:, 0] / np.maximum(counts[:, 1], 1)).min())
            if made.quality is None:
                raise RuntimeError("a calibrated run judges")
            found.append(Judged(one.name, kind, dice, made.quality.score or 0.0, made.quality.verdict))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12, help="that are judged; 20 others are learned from")
    parser.add_argument("--real", type=Path, nargs=2, metavar=("SCAN", "LABELS"))
    parser.add_argument("--run", type=Path, help="that `medseg demo` has trained")
    given = parser.parse_args()
    import make

    table = LabelTable.of(make.LABELS)
    cases = judged(learned(phantoms(201, 20), table), phantoms(301, given.patients), table)
    print(as_text(f"phantoms of {given.patients} patients, learned from 20 others", cases))
    if given.real:
        usual, table = imitated(*given.real, 20, seed=1)
        others, _ = imitated(*given.real, given.patients, seed=2)
        print("\n" + as_text(f"a real scan, {len(table.labels)} labels", judged(learned(usual, table), others, table)))
    if given.run:
        with tempfile.TemporaryDirectory() as work:
            run = calibrated(given.run, Path(work))
            print("\n" + as_text("a network's own predictions", by_network(run, phantoms(501, given.patients))))


if __name__ == "__main__":
    main()
