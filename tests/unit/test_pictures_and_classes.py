"""Between files and network: colour label maps, valid pixels, fixed sizes, fields of view, slices, centres, context."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medseg import plugins
from medseg.case import Case
from medseg.config import Chosen
from medseg.data.cache import write_case
from medseg.data.patches import PatchSource
from medseg.data.split import Split, SplitSettings
from medseg.engine import networks, state, tiles
from medseg.engine.forward import forward
from medseg.engine.load import load_case
from medseg.engine.samples import Samples
from medseg.labels import LabelTable
from medseg.plan import Normalisation, Plan
from medseg.readers import read
from medseg.refusal import Refusal
from medseg.transforms import augment, native
from medseg.transforms.prepare import centre_code, image, target, with_planes
from medseg.volume import Source, Volume
from tests.unit.test_labels import SLICES, VESSELS

PLAIN = Plan(
    orientation="LPS",
    spacing_mm="native",
    patch=(4, 4, 1),
    batch=1,
    normalisation=(Normalisation(kind="none"),),
    crop="none",
    order=1,
    channels=("image",),
)
NOTHING = augment.Options(**{name: 0 for name in augment.Options.model_fields if name.endswith("_p")})


def picture(path: Path, array: list | np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(array, np.uint8)).save(path)
    return path


def vessels(folder: Path, **changes: object) -> Case:
    """A row of five pixels: background, artery, crossing, unknown, and a vein outside the field of view."""
    colours = [[[0, 0, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255], [0, 255, 255]]]
    case = Case(
        "a",
        "a",
        {"all": picture(folder / "photo.png", np.full((1, 5, 3), 9))},
        target=picture(folder / "av.png", colours),
        valid=picture(folder / "mask.png", [[255, 255, 255, 255, 0]]),
    )
    return replace(case, **changes)


def test_a_colour_picture_is_a_label_map_and_what_is_not_valid_is_not_known(tmp_path: Path) -> None:
    _, labels = load_case(vessels(tmp_path), read, table=VESSELS)
    assert labels is not None and labels.array.ravel().tolist() == [0, 5, 1, 4, 8]


def test_what_the_enhancement_makes_black_is_not_known_either(tmp_path: Path) -> None:
    """Of a field of view of 20 x 20 it leaves 10 x 10: a rim of 5 pixels goes."""
    field = np.zeros((30, 40), np.uint8)
    field[5:25, 10:30] = 255
    case = vessels(
        tmp_path / "replaced",
        images={"all": picture(tmp_path / "photo.png", np.repeat(field[..., None], 3, -1))},
        target=picture(tmp_path / "av.png", np.full((30, 40, 3), (255, 0, 255))),
        valid=picture(tmp_path / "mask.png", field),
    )
    scan, plain = load_case(case, read, table=VESSELS)
    _, enhanced = load_case(case, read, table=VESSELS, steps=("fundus_enhance",))
    assert plain is not None and enhanced is not None
    assert (plain.array == 5).sum() == 20 * 20 and (enhanced.array == 5).sum() == 10 * 10
    black = image(scan, COLOURS.model_copy(update={"steps": ("fundus_enhance",)}), valid=plain.array == 5)[0] == 0
    assert black.all(axis=0)[(enhanced.array == 8)[0]].all()


def test_a_mask_of_valid_pixels_needs_a_number_for_the_rest(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="give `ignore` in the label table"):
        load_case(vessels(tmp_path), read, table=LabelTable.of({"artery": 1}))


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    wrong = picture(tmp_path / "wrong.png", [[255, 255, 0]])
    with pytest.raises(Refusal, match=r"wrong\.png"):
        load_case(vessels(tmp_path, valid=wrong), read, table=VESSELS)


def photograph(rows: int = 30, columns: int = 40, top: int = 5, left: int = 10, side: int = 20) -> Volume:
    """A bright square in the dark, each colour its own."""
    array = np.zeros((3, columns, rows, 1), np.uint8)
    for number in range(3):
        array[number, left : left + side, top : top + side] = 100 + 50 * number
    return Volume(array, np.diag([-1.0, -1, 1, 1]), Source(Path("photo.png"), reader="picture"), unit="px")


COLOURS = PLAIN.model_copy(update={"normalisation": (Normalisation(kind="none"),) * 3, "channels": ("r", "g", "b")})


def test_every_picture_gets_the_size_that_the_plan_names() -> None:
    for shape in ((30, 40), (17, 16)):
        array, undo = image(photograph(*shape, 2, 2, 9), COLOURS.model_copy(update={"size": (16, 8, 0)}))
        assert array.shape == (3, 16, 8, 1) and undo.prepared == (16, 8, 1)
        back = native.labels(torch.from_numpy(array), undo, exclusive=False)
        assert back.shape == (3, shape[1], shape[0], 1)


def test_shrinking_without_smoothing_aliases_and_with_it_does_not() -> None:
    stripes = np.tile(np.array([0.0, 100.0]), 32)[None, :, None, None].repeat(64, 2)
    volume = Volume(stripes, np.diag([-1.0, -1, 1, 1]), unit="px")
    plan = PLAIN.model_copy(update={"size": (13, 13, 0)})
    spread = [image(volume, plan.model_copy(update={"antialias": smooth}))[0].std() for smooth in (False, True)]
    assert spread[0] > 5 * spread[1]


def test_the_field_of_view_is_cut_out_and_put_back() -> None:
    plan = COLOURS.model_copy(update={"crop": "field"})
    array, undo = image(photograph(), plan)
    assert array.shape == (3, 20, 20, 1) and array.min() == 100
    back = native.labels(torch.from_numpy(array) - 170, undo, exclusive=False)
    assert np.array_equal(back, photograph().array > 170) and back.any()


def test_a_cut_off_disc_is_filled_up_to_a_square_for_classifiers() -> None:
    cut = photograph(rows=12, top=0, side=20)  # 20 columns, but only 12 rows
    array, _ = image(cut, COLOURS.model_copy(update={"crop": "field"}), square=True)
    assert array.shape == (3, 20, 20, 1)
    assert (array[0] > 0).sum() == 20 * 12 and (array[0, :, :4] == 0).all()


def test_enhancement_needs_a_colour_photograph() -> None:
    grey = Volume(np.ones((1, 8, 8, 1)), np.eye(4), Source(Path("ct.nii.gz")))
    with pytest.raises(Refusal, match=r"ct.nii.gz.*colour photograph"):
        image(grey, PLAIN.model_copy(update={"steps": ("fundus_enhance",)}))


def test_enhancement_is_that_of_rows_and_columns_and_0_outside() -> None:
    plan = COLOURS.model_copy(update={"steps": ("fundus_enhance",)})
    generator = np.random.default_rng(0)
    volume = photograph()
    noisy = np.where(volume.array > 0, volume.array + generator.integers(0, 20, volume.array.shape), 0).astype(np.uint8)
    array, _ = image(volume.with_array(noisy), plan)
    from medseg.transforms import fundus

    rows = noisy[..., 0].transpose(2, 1, 0)
    expected, inside = fundus.enhance(rows, fundus.field_of_view(rows))
    np.testing.assert_allclose(array[..., 0].transpose(2, 1, 0), expected * 255, atol=1e-3)
    assert (array[..., 0].transpose(2, 1, 0)[~inside] == 0).all()


def test_slices_keep_their_number_whatever_the_axis_order() -> None:
    values = np.zeros((3, 4, 6), np.uint8)
    values[1, 2, 4] = 1
    turned = np.diag([1.0, 1, -2, 1])
    for affine, expected in ((np.diag([1.0, 1, 2, 1]), 4), (turned, 1)):
        volume = Volume(values[None].astype(np.float32), affine)
        _, undo = image(volume, PLAIN)
        found = target(Volume(values[None], affine), undo, SLICES)
        assert found.shape == (2, 1, 1, 6) and np.flatnonzero(found[0]).tolist() == [expected]


def test_slices_that_would_be_resampled_are_refused() -> None:
    volume = Volume(np.zeros((1, 3, 4, 6), np.float32), np.diag([1.0, 1, 2, 1]))
    _, undo = image(volume, PLAIN.model_copy(update={"spacing_mm": (1.0, 1.0, 1.0)}))
    with pytest.raises(Refusal, match="6 slices that become 12"):
        target(volume.with_array(np.zeros((1, 3, 4, 6), np.uint8)), undo, SLICES)


def source(
    folder: Path, truth: np.ndarray, table: LabelTable, *, case: str = "case", **settings: object
) -> PatchSource:
    volume = Volume(np.arange(6 * 6 * 5, dtype=np.float32).reshape(1, 6, 6, 5), np.eye(4))
    array, undo = image(volume, PLAIN.model_copy(update={"orientation": "RAS"}))
    write_case(folder / case, case, array, truth, undo, table)
    return PatchSource(groups=[[folder / case]], patch=(4, 4, 1), length=64, seed=3, **settings)  # type: ignore[arg-type]


def test_patches_with_context_and_one_label_a_slice(tmp_path: Path) -> None:
    truth = np.array([0, 1, 0, 0, 1], np.uint8).reshape(1, 1, 1, 5).repeat(2, 0)
    patches = source(tmp_path, truth, SLICES, context=1)
    seen = set()
    for number in range(64):
        array, label, _ = patches[number]
        assert array.shape == (1, 4, 4, 3) and label.shape == (2, 1, 1, 1)
        k = int(array[0, 0, 0, 1]) % 5
        assert label[0].item() == truth[0, 0, 0, k]
        neighbours = [int(array[0, 0, 0, place]) % 5 for place in (0, 2)]
        assert neighbours == [k - 1 if k else 0, k + 1 if k < 4 else 0] or array[0, 0, 0, 1] < 5
        seen.add(k)
    assert seen == set(range(5))


def test_the_middle_slice_of_a_label_map_is_what_is_learned(tmp_path: Path) -> None:
    truth = np.arange(5, dtype=np.uint8).reshape(1, 1, 1, 5).repeat(6, 1).repeat(6, 2)
    patches = source(tmp_path, truth, LabelTable.of({str(n): n for n in range(1, 5)}), context=1)
    samples = Samples(patches, NOTHING, "RAS")
    for number in range(16):
        array, label, _ = samples[number]
        assert label.shape == (1, 4, 4, 1) and (label == int(array[0, 1, 1, 1]) % 5).all()


def test_groups_are_drawn_evenly(tmp_path: Path) -> None:
    truth = np.zeros((2, 1, 1, 5), np.uint8)
    rare = source(tmp_path, truth, SLICES, case="rare").groups[0]
    common = [path for n in range(9) for path in source(tmp_path, truth, SLICES, case=f"common {n}").groups[0]]
    patches = PatchSource(groups=[rare, common], patch=(4, 4, 1), length=400, seed=0)
    drawn = [patches[number][2] for number in range(400)]
    assert 0.4 < np.mean([case == "rare" for case in drawn]) < 0.6 and len(set(drawn)) == 10


def test_a_split_by_slice_ends_where_all_labelled_slices_validate(tmp_path: Path) -> None:
    """Patches centred on a label alone would be drawn for ever."""
    split = Split(("case",), ("case",), "", SplitSettings(kind="slice", validation=0.5))
    sides = [split.slice_side("case", k) for k in range(5)]
    truth = np.zeros((2, 1, 1, 5), np.uint8)
    truth[0, 0, 0, sides.index("validation")] = 1
    patches = source(tmp_path, truth, SLICES, split=split, foreground_share=1.0)
    seen = {int(patches[number][0][0, 0, 0, 0]) % 5 for number in range(8)}
    assert seen and all(sides[k] == "train" for k in seen)


def test_centres_are_channels_of_their_own() -> None:
    assert centre_code("b", ("a", "b")) == (0, 1) and centre_code("", ("a", "b")) == (0, 0)
    with pytest.raises(Refusal, match=r"'c'.*one of a, b"):
        centre_code("c", ("a", "b"))
    planes = with_planes(np.zeros((1, 2, 2, 1), np.float32), (0.0, 1.0))
    assert planes.dtype == np.float32 and planes[:, 0, 0, 0].tolist() == [0, 0, 1]


def test_augmentation_leaves_the_channels_of_the_centres_alone(tmp_path: Path) -> None:
    patches = source(tmp_path, np.zeros((2, 1, 1, 5), np.uint8), SLICES)
    strong = NOTHING.model_copy(update={"noise_p": 1, "brightness_p": 1, "brightness": (2, 3)})
    array, _, _ = Samples(patches, strong, "RAS", {"case": (1.0, 0.0)})[0]
    assert array.shape == (3, 4, 4, 1) and (array[1] == 1).all() and (array[2] == 0).all()


class Sum(torch.nn.Module):
    """A classifier: the mean of what it sees, and its negative."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean((1, 2, 3, 4))
        return torch.stack([mean, -mean], dim=1)


def logits(array: torch.Tensor, tile: tuple[int, int, int], context: int = 0) -> torch.Tensor:
    run = forward(Sum(), passes=[()], precision="32", device=torch.device("cpu"))
    places = tiles.Tiling.of(array.shape[1:], tile, overlap=0.5, context=context)
    return tiles.answers(tiles.Seen(array, run), places)


def test_a_classifier_gives_one_answer_for_an_image_or_one_a_slice() -> None:
    array = torch.arange(3.0).expand(1, 4, 4, 3)
    assert logits(array, (4, 4, 3)).flatten(1).tolist() == [[1], [-1]]
    by_slice = logits(array, (4, 4, 1))
    assert by_slice.shape == (2, 1, 1, 3) and by_slice[0].flatten().tolist() == [0, 1, 2]
    with_neighbours = logits(array, (4, 4, 1), context=1)
    assert with_neighbours[0].flatten().tolist() == pytest.approx([1 / 3, 1, 1])  # 0 beyond the ends


def test_a_classifier_refuses_what_it_would_see_in_parts() -> None:
    with pytest.raises(Refusal, match="at most 4 x 4 x 1"):
        logits(torch.zeros(1, 6, 4, 2), (4, 4, 1))


@pytest.mark.parametrize(
    ("model", "table", "fits"),
    [
        ("residual_unet", LabelTable.of({"a": 1}), True),
        ("residual_unet", LabelTable.classes({"a": 0, "b": 1}), False),
        ("resnet18", LabelTable.of({"a": 1}), False),
        ("resnet18", SLICES, True),
        ("video_resnet", LabelTable.classes({"a": 0, "b": 1}), True),
        ("video_resnet", SLICES, False),
    ],
)
def test_the_network_must_suit_the_task(model: str, table: LabelTable, fits: bool) -> None:
    chosen = Chosen(kind="models", name=model, options=plugins.find("models", model).Options())
    if fits:
        networks.check_task(chosen, table)
        return
    with pytest.raises(Refusal, match=f"model {model}.*for every {table.unit}"):
        networks.check_task(chosen, table)


def test_what_is_not_known_stays_so_on_a_coarser_grid() -> None:
    values = np.zeros((8, 8, 1), np.uint8)
    values[:, 4:], values[:2, :4] = 8, 1
    volume = Volume(np.zeros((1, 8, 8, 1), np.float32), np.diag([-1.0, -1, 1, 1]), unit="px")
    _, undo = image(volume, PLAIN.model_copy(update={"size": (4, 4, 0)}))
    found = target(volume.with_array(values[None]), undo, VESSELS)
    assert (found[:, :, 2:] == 255).all() and (found[0, 0, :2] == 1).all() and (found[0, 1:, :2] == 0).all()


def test_a_moving_average_leaves_tables_of_indices_alone() -> None:
    class Indexed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))
            self.register_buffer("index", torch.arange(100))

    network = Indexed()
    kept = state.State(network, torch.optim.SGD(network.parameters()), state.average(network, 0.9), state.Position())
    for _ in range(50):
        kept.averaged()
    assert torch.equal(kept.kept.index, torch.arange(100))


def test_pet_behind_another_channel_keeps_its_unit(tmp_path: Path) -> None:
    notes = {"values": "BQML", "no_suv": "no PatientWeight"}
    volumes = {
        Path("ct"): Volume(np.ones((1, 2, 2, 2)), np.eye(4), Source(Path("ct"), modality="CT")),
        Path("pet"): Volume(np.ones((1, 2, 2, 2)), np.eye(4), Source(Path("pet"), modality="PT", notes=notes)),
    }
    case = Case("a", "a", {"CT": Path("ct"), "PET": Path("pet")})
    loaded, _ = load_case(case, volumes.__getitem__)
    how = (Normalisation(kind="none"), Normalisation(kind="suv", mean=0.0, sd=5.0))
    with pytest.raises(Refusal, match="PET in BQML"):
        image(loaded, PLAIN.model_copy(update={"normalisation": how, "channels": ("CT", "PET")}))
