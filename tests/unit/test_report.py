"""The report as a file: self-contained, escaped, repeatable, in words where there are no numbers."""

import base64
import io
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medseg import report
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.report import charts, page, pictures
from medseg.report.slices import PLANES, Overlay
from medseg.volume import Volume

TABLE = LabelTable.of({"liver": 1, "$x_1$ <i>": 2})
VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "line", "circle", "polyline"}
NASTY = "<script>alert('P1')</script>"


class Page(HTMLParser):
    """Collects what the tests ask about, and insists that what is opened is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open and self.open.pop() == tag, f"unexpected </{tag}>"

    def handle_data(self, data: str) -> None:
        self.words.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def overlay(**changed: object) -> Overlay:
    rng = np.random.default_rng(3)
    predicted = np.zeros((12, 10, 8), dtype=np.uint8)
    predicted[2:7, 2:6, 2:6] = 1
    predicted[8:10, 4:6, 3:5] = 2
    settings = {
        "case": NASTY,
        "scan": rng.normal(size=predicted.shape).astype(np.float32),
        "predicted": predicted,
        "truth": np.roll(predicted, 1, axis=0),
        "spacing_mm": (1.0, 1.0, 3.0),
        "window": (-2.0, 2.0),
        "table": TABLE,
    }
    return Overlay(**{**settings, **changed})  # type: ignore[arg-type]


def full() -> report.Report:
    return report.Report(
        title=f"Title {NASTY}",
        stamp=f"not an estimate of generalisation {NASTY}",
        facts={"seed": "1", NASTY: NASTY},
        headline=[("mean Dice", 0.91), ("baseline", math.nan), (NASTY, NASTY)],
        history=[
            {"epoch": 1, "train_loss": 1.5, "lr": 3e-4},
            {"epoch": 2, "train_loss": math.nan, "lr": 2e-4, "validation_dice": 0.75},
            {"epoch": 3, "train_loss": 0.5, "lr": 1e-4, "validation_dice": 0.5},
        ],
        metrics=[
            {"case": "a", "patient": NASTY, "label": "liver", "dice": 0.25, "hd95_mm": math.inf},
            {"case": "b", "patient": "P2", "label": "liver", "dice": 0.75, "hd95_mm": 2.0},
            {"case": "b", "patient": "P2", "label": NASTY, "dice": math.nan, "hd95_mm": math.nan},
        ],
        overlays=[overlay()],
        data={"split": NASTY},
        notes=[NASTY],
    )


@pytest.fixture(scope="module")
def text() -> str:
    return page.render(full())


def test_written_file_is_the_page_and_nothing_else(tmp_path: Path, text: str) -> None:
    report.write(tmp_path / "new" / "report.html", full())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]
    assert (tmp_path / "new" / "report.html").read_bytes() == text.encode("utf-8"), "same report, same bytes"


def test_tags_are_closed_and_nothing_is_requested(text: str) -> None:
    parsed = Page(text)
    for _, attributes in parsed.attributes:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith("data:image/png;base64,"), address
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert parsed.all("link") == []
    policies = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_pictures_are_png_inside_the_page_with_alternative_texts(text: str) -> None:
    pictures_found = Page(text).all("img")
    assert len(pictures_found) == 3
    for attributes in pictures_found:
        assert len(attributes["alt"]) > 20 and "slice" in attributes["alt"]
        assert base64.b64decode(attributes["src"].partition(",")[2], validate=True).startswith(b"\x89PNG")
    for attributes in Page(text).all("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden")


def test_all_text_is_escaped(text: str) -> None:
    assert NASTY not in text
    assert "<script>alert" not in text and "<i>" not in text
    assert len(Page(text).all("script")) == 1, "only the one that sorts tables"
    assert text.count("&lt;script&gt;") >= 10


def test_words_where_there_is_no_number(text: str) -> None:
    words = Page(text).words
    assert "undefined" in words and "infinite: one mask empty" in words
    assert "nan" not in words and "inf" not in words
    assert "not an estimate of generalisation " + NASTY in words


def test_an_empty_report_has_no_sections_and_no_banner() -> None:
    text = page.render(report.Report(title="Empty"))
    parsed = Page(text)
    assert parsed.all("section") == [] and parsed.all("img") == []
    assert not any("stamp" in (attributes.get("class") or "") for _, attributes in parsed.attributes)


def test_each_part_may_be_missing() -> None:
    for name in ("stamp", "facts", "headline", "history", "metrics", "overlays", "data", "notes"):
        given = {**vars(full()), name: type(getattr(full(), name))()}
        Page(page.render(report.Report(**given)))


def test_metrics_without_dice_or_case_and_history_without_numbers() -> None:
    given = report.Report(
        title="t", metrics=[{"label": "a", "sensitivity": 0.5}], history=[{"epoch": 1, "train_loss": math.nan}]
    )
    text = page.render(given)
    assert Page(text).all("svg") == []
    assert "sensitivity" in text


def test_table_keeps_every_column_and_knows_numbers_from_text() -> None:
    made = page.table([{"x": 1.5, "case": "a"}, {"case": "b", "y": 2}], first=page.IDENTITY)
    assert made.columns == ("case", "x", "y")
    assert made.numeric == (False, True, True)
    assert [[cell.words for cell in row] for row in made.rows] == [["a", "1.500", "–"], ["b", "–", "2"]]


def test_sorting_keys_put_infinity_at_the_end_and_no_value_nowhere() -> None:
    made = page.table([{"x": v} for v in (math.inf, -math.inf, math.nan, np.float32(0.5))], first=())
    assert [row[0].key for row in made.rows] == ["1e999", "-1e999", "", "0.5"]


def test_summary_counts_what_the_mean_leaves_out() -> None:
    rows = page.summary(full().metrics).rows
    assert [cell.words for cell in rows[0]] == ["liver", "2", "0.500", "2.00"]
    assert [cell.remark for cell in rows[0]] == ["", "", "", "without 1 infinite"]
    assert [(cell.words, cell.remark) for cell in rows[1][2:]] == [("–", "without 1 undefined")] * 2


def test_dice_column_is_found_by_name() -> None:
    assert page._dice_name({"surface_dice_mm": 1, "dice": 1}) == "dice"
    assert page._dice_name({"mean_Dice": 1}) == "mean_Dice"
    assert page._dice_name({"indices": 1}) == ""


def test_legend_shows_only_labels_that_are_there() -> None:
    alone = overlay(predicted=np.zeros((12, 10, 8), dtype=np.uint8), truth=None, case="a")
    assert page._case(alone, []).keys == ()
    assert not page._case(alone, []).has_truth
    case = page._case(overlay(case="a"), full().metrics)
    assert [(key.name, key.dice) for key in case.keys] == [("liver", "0.250"), ("$x_1$ <i>", "")]


def test_photograph_has_one_picture_without_directions() -> None:
    photo = overlay(
        scan=np.zeros((3, 12, 10, 1)),
        predicted=np.ones((12, 10, 1), dtype=np.uint8),
        truth=None,
        unit="px",
        case="eye",
    )
    case = page._case(photo, [])
    assert [caption for caption, _, _ in case.panels] == ["Picture"]
    told = "the patient's right is on the left"
    assert told not in page.render(replace(full(), overlays=[photo])) and told in page.render(full())


def test_a_photograph_is_shown_in_colour_and_a_scan_by_its_first_channel() -> None:
    labels = Volume(np.ones((1, 4, 5, 1), np.uint8), np.diag([-1.0, -1, 1, 1]), unit="px")
    prediction = Prediction("eye", LabelTable.of({"disc": 1}), labels)
    for unit, shape in (("px", (3, 4, 5, 1)), ("mm", (4, 5, 1))):
        seen = report.overlay(replace(labels, array=np.zeros((3, 4, 5, 1)), unit=unit), prediction, None)
        assert seen.scan.shape == shape


def _decode(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png))[..., :3]


def test_a_picture_is_square_black_and_in_proportion() -> None:
    # 10 x 10 voxels of 1 mm x 3 mm: the bright scan must be three times as high as wide.
    blank = np.zeros((10, 10, 10), dtype=np.uint8)
    bright = overlay(scan=np.full(blank.shape, 5.0), predicted=blank, truth=None, unit="px")
    seen = _decode(pictures.panel(bright, PLANES[1], 5)).min(axis=-1) > 0.5
    height, width = seen.any(axis=1).sum(), seen.any(axis=0).sum()
    assert seen.shape[0] == seen.shape[1]
    assert height == pytest.approx(seen.shape[0], abs=2)
    assert height / width == pytest.approx(3.0, rel=0.02)


def test_outlines_lie_on_the_structure_in_its_colour() -> None:
    predicted = np.zeros((10, 10, 10), dtype=np.uint8)
    predicted[7:9, 7:9, 5] = 1  # right and front: upper left of the axial picture
    dark = overlay(scan=np.zeros(predicted.shape), predicted=predicted, truth=None, unit="px", spacing_mm=(1, 1, 1))
    seen = _decode(pictures.panel(dark, PLANES[0], 5))
    red, green, blue = (part / 255 for part in TABLE.labels[0].colour)
    rows, columns = np.nonzero(np.abs(seen - [red, green, blue]).max(axis=-1) < 0.02)
    side = seen.shape[0]
    assert len(rows) > 50
    assert rows.min() / side > 0.08 and rows.max() / side < 0.32
    assert columns.min() / side > 0.08 and columns.max() / side < 0.32


def test_picture_does_not_depend_on_the_users_matplotlib_style() -> None:
    import matplotlib

    before = pictures.panel(overlay(), PLANES[0], 3)
    with matplotlib.rc_context({"savefig.dpi": 50, "axes.facecolor": "red", "savefig.bbox": "tight", "font.size": 30}):
        assert pictures.panel(overlay(), PLANES[0], 3) == before


def test_window_without_width_is_a_step() -> None:
    assert pictures.grey(np.array([0.0, 1.0, 2.0]), (1.0, 1.0)).tolist() == [0, 0, 1]
    assert pictures.grey(np.array([-5, 0, 50, 100, 500]), (0, 100)).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("low, high", [(0.13, 0.87), (0.5, 0.5), (0.0, 0.0), (-3.2, 1e4), (1, 2), (1e-7, 2e-7)])
def test_ticks_enclose_and_are_few(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    assert found[0] <= low + 1e-12 and found[-1] >= high - 1e-12
    assert 2 <= len(found) <= 8
    assert np.allclose(np.diff(found), found[1] - found[0])


def test_a_learning_rate_next_to_nothing_is_drawn() -> None:
    assert "polyline" in charts.curves("Learning rate", {"lr": [(1.0, 2e-13), (2.0, 1e-13)]})


def test_curves_break_at_nan_and_point_out_the_best() -> None:
    points = [(1.0, 0.1), (2.0, 0.3), (3.0, math.nan), (4.0, 0.9), (5.0, 0.8)]
    svg = charts.curves("Dice", {"validation_dice": points}, mark="validation_dice")
    assert svg.count("<polyline") == 2
    assert "best 0.900 (epoch 4)" in svg
    assert charts.curves("Dice", {}) == charts.curves("Dice", {"a": [(1.0, math.nan)]}) == ""


def test_strips_say_the_median_and_what_is_missing() -> None:
    svg = charts.strips("Dice", [("a" * 60, [("c1", 0.5), ("c2", 0.7), ("c3", math.nan)]), ("b", [("c1", math.nan)])])
    assert svg.count("<circle") == 2
    assert "median 0.600, 1 undefined" in svg and "no value, 1 undefined" in svg
    assert "a" * 24 + "…" in svg and "a" * 60 in svg, "shortened on the axis, in full on hovering"
