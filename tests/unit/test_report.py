"""The report as a file: self-contained, escaped, repeatable, in words where there are no numbers."""

import base64
import io
import math
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from medseg import report, wording
from medseg.labels import LabelTable
from medseg.prediction import Prediction
from medseg.report import agreement, boxes, charts, markup, page, pictures, reliability, svg, tables
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


@cache
def drawn() -> report.Drawn:
    return report.drawn(overlay())


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
        overlays=[drawn()],
        statistics=[
            {"over": "all", "label": NASTY, "number": "dice", "unit": "", "mean": 0.5, "low": 0.4, "high": 0.6}
        ],
        volumes=[{"case": NASTY, "patient": "P1", "label": NASTY, "truth_ml": 2.0, "predicted_ml": 3.0}],
        reliability=[{"label": NASTY, "probability": 0.5, "share": 0.4, "places": 7}],
        quality=[{"case": NASTY, "verdict": "look", "score": 0.5, "reasons": [NASTY]}],
        card=f"# {NASTY}",
        leaks={"patients on both sides": NASTY},
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
            assert address is None or address.startswith(("data:image/webp;base64,", "#")), address
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert parsed.all("link") == []
    policies = [meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_pictures_are_inside_the_page_with_alternative_texts(text: str) -> None:
    pictures_found = Page(text).all("img")
    assert len(pictures_found) == 6, "three planes, and the errors in each"
    for attributes in pictures_found:
        assert len(attributes["alt"]) > 20 and "slice" in attributes["alt"]
        assert base64.b64decode(attributes["src"].partition(",")[2], validate=True)[8:12] == b"WEBP"
    for attributes in Page(text).all("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden")


def test_all_text_is_escaped(text: str) -> None:
    assert NASTY not in text
    assert "<script>alert" not in text and "<i>" not in text
    assert len(Page(text).all("script")) == 1, "only the page's own"
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
    for name in (
        "stamp",
        "facts",
        "headline",
        "history",
        "metrics",
        "overlays",
        "data",
        "notes",
        "statistics",
        "volumes",
        "reliability",
        "quality",
        "leaks",
        "card",
    ):
        given = {**vars(full()), name: type(getattr(full(), name))()}
        Page(page.render(report.Report(**given)))


def test_metrics_without_dice_or_case_and_history_without_numbers() -> None:
    given = report.Report(
        title="t", metrics=[{"label": "a", "sensitivity": 0.5}], history=[{"epoch": 1, "train_loss": math.nan}]
    )
    text = page.render(given)
    assert len(Page(text).all("svg")) == 1, "the box plot"
    assert "polyline" not in text and "sensitivity" in text


def test_table_keeps_every_column_and_knows_numbers_from_text() -> None:
    made = tables.table([{"x": 1.5, "case": "a"}, {"case": "b", "y": 2}], first=tables.IDENTITY)
    assert made.columns == ("case", "x", "y")
    assert made.numeric == (False, True, True)
    assert [[cell.words for cell in row] for row in made.rows] == [["a", "1.500", "–"], ["b", "–", "2"]]


def test_sorting_keys_put_infinity_at_the_end_and_no_value_nowhere() -> None:
    made = tables.table([{"x": v} for v in (math.inf, -math.inf, math.nan, np.float32(0.5))], first=())
    assert [row[0].key for row in made.rows] == ["1e999", "-1e999", "", "0.5"]


def test_summary_counts_what_the_mean_leaves_out_and_keeps_what_is_infinite() -> None:
    rows = tables.summary(full().metrics).rows
    infinite = wording.value(math.inf)
    assert [cell.words for cell in rows[0]] == ["liver", "2", "0.500", infinite]
    assert [cell.remark for cell in rows[0]] == ["", "", "", "1 infinite, mean of the others 2.00"]
    assert rows[0][3].key == "1e999", "the worst when sorted"
    assert [(cell.words, cell.remark) for cell in rows[1][2:]] == [("–", "without 1 undefined")] * 2


def test_intervals_stand_below_the_means_that_they_belong_to() -> None:
    row = {"unit": "", "number": "dice", "low": 0.25, "high": 0.75}
    statistics = [
        {**row, "over": "all cases", "label": "liver"},
        {**row, "over": "all cases", "label": "mean of labels", "low": 0.3},
        {**row, "over": "centre A", "label": "liver", "low": 0.0},
    ]
    given = replace(full(), headline=[("mean dice", 0.5), ("mean hd95", 2.0)], statistics=statistics)
    assert tables.summary(given.metrics, statistics).rows[0][2].remark == "0.250 to 0.750"
    assert page._headline(given) == [
        ("mean dice", "0.500", "95 % interval 0.300 to 0.750"),
        ("mean hd95", "2.000", ""),
    ]
    alone = replace(given, statistics=[statistics[0], statistics[2]])
    assert page._headline(alone)[0] == ("mean dice", "0.500", "95 % interval 0.250 to 0.750"), "the only label's"
    several = [statistics[0], {**row, "over": "all cases", "label": "tumour", "low": math.nan}]
    assert page._headline(replace(given, statistics=several))[0][2] == ""
    undefined = [{**statistics[0], "low": math.nan, "high": math.nan}]
    assert tables.summary(given.metrics, undefined).rows[0][2].remark == ""


def test_dice_column_is_found_by_name() -> None:
    assert page._dice_name({"surface_dice_mm": 1, "dice": 1}) == "dice"
    assert page._dice_name({"mean_Dice": 1}) == "mean_Dice"
    assert page._dice_name({"indices": 1}) == ""


def test_legend_shows_only_labels_that_are_there(text: str) -> None:
    alone = report.drawn(overlay(predicted=np.zeros((12, 10, 8), dtype=np.uint8), truth=None, case="a"))
    assert alone.labels == () and alone.errors == ()
    assert [name for name, _ in drawn().labels] == ["liver", "$x_1$ <i>"]


def test_legend_tells_the_dice_of_its_case() -> None:
    words = Page(page.render(replace(full(), overlays=[report.drawn(overlay(case="a"))]))).words
    assert "Dice 0.250" in words and "Dice 0.750" not in words


def test_photograph_has_one_picture_without_directions() -> None:
    photo = overlay(
        scan=np.zeros((3, 12, 10, 1)),
        predicted=np.ones((12, 10, 1), dtype=np.uint8),
        truth=None,
        unit="px",
        case="eye",
    )
    made = report.drawn(photo)
    assert [panel.caption for panel in made.panels] == ["Picture"] and not made.directions
    told = "the patient's right is on the left"
    shown = page.render(replace(full(), overlays=[made]))
    assert told not in shown.replace("&#39;", "'") and told in page.render(full()).replace("&#39;", "'")


def test_a_photograph_is_shown_in_colour_and_a_scan_by_its_first_channel() -> None:
    labels = Volume(np.ones((1, 4, 5, 1), np.uint8), np.diag([-1.0, -1, 1, 1]), unit="px")
    prediction = Prediction("eye", LabelTable.of({"disc": 1}), labels)
    for unit, shape in (("px", (3, 4, 5, 1)), ("mm", (4, 5, 1))):
        seen = report.overlay(replace(labels, array=np.zeros((3, 4, 5, 1)), unit=unit), prediction, None)
        assert seen.scan.shape == shape


def _decode(picture: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")) / 255


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
    rows, columns = np.nonzero(np.abs(seen - [red, green, blue]).max(axis=-1) < 0.08)
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
    found = svg.ticks(low, high)
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


def test_boxes_say_median_quartiles_and_what_is_missing() -> None:
    many = [("c1", 0.1), ("c2", 0.5), ("c3", 0.6), ("c4", 0.7), ("c5", 0.8), ("c6", math.nan)]
    drawn = boxes.boxes("Dice", [("a" * 60, many), ("b", [("c1", math.nan)])])
    assert drawn.count("<circle") == 5 and drawn.count('class="box"') == 1
    assert "0.600 (0.500 to 0.700), 1 undefined" in drawn and "no value, 1 undefined" in drawn
    assert "c1: 0.100" in drawn, "each dot has its case's name"
    assert "a" * 24 + "…" in drawn and "a" * 60 in drawn, "shortened on the axis, in full on hovering"


def test_whiskers_leave_out_what_is_far_away() -> None:
    values = [0.0, 4.0, 5.0, 6.0, 20.0]
    assert boxes.whiskers(values, (4.0, 5.0, 6.0)) == (4.0, 6.0)
    assert boxes.whiskers([1.0, *values[1:4], 9.0], (4.0, 5.0, 6.0)) == (1.0, 9.0)


def test_boxes_of_distances_reach_beyond_one() -> None:
    drawn = boxes.boxes("hd95", [("a", [("c1", 2.0), ("c2", 37.0), ("c3", math.inf)])])
    assert ">40</text>" in drawn and "1 infinite" in drawn
    assert boxes.boxes("hd95", [("a", [("c1", math.inf)])]) == ""


def test_every_number_has_its_box_plot_with_its_unit_and_dice_comes_first() -> None:
    rows = [{"case": name, "label": "a", "hd95": 3.0, "dice": 0.5} for name in "xy"]
    units = [{"number": "hd95", "unit": "mm", "label": "a"}]
    assert [chart.name for chart in page._spreads(report.Report("t", metrics=rows, statistics=units))] == [
        "dice",
        "hd95 [mm]",
    ]


def test_headings_tell_the_unit_once() -> None:
    units = {"hd95": "mm", "volume_difference_ml": "ml", "volume_difference_percent": "%", "dice": ""}
    names = ["hd95", "mean hd95", *units, "label"]
    assert [page._heading(name, units) for name in names] == [
        "hd95 [mm]",
        "mean hd95 [mm]",
        "hd95 [mm]",
        "volume difference ml",
        "volume difference percent",
        "dice",
        "label",
    ]


def test_agreement_is_bias_and_1_96_standard_deviations() -> None:
    found = agreement.Agreement.of([1.0, 2.0, 3.0])
    assert (found.bias, found.low, found.high) == pytest.approx((2.0, 2 - 1.96, 2 + 1.96))
    assert math.isnan(agreement.Agreement.of([1.0, 2.0]).low)
    pairs = [("p1", 10.0, 11.0), ("p2", 20.0, 22.0), ("p3", 30.0, 33.0), ("p4", math.nan, 1.0)]
    drawn = agreement.agreement("liver", pairs)
    assert drawn.count("<circle") == 3 and drawn.count('class="limit"') == 2
    assert "p2: true 20.0 ml, predicted 22.0 ml" in drawn
    assert agreement.in_words(pairs) == "3 cases, bias 2.000 ml, 95 % limits of agreement 0.040 ml to 3.960 ml"
    assert agreement.agreement("liver", pairs[3:]) == ""


def test_bias_is_predicted_less_true() -> None:
    assert "bias -4.000 ml" in agreement.in_words([("p1", 10.0, 6.0)])


def test_reliability_tells_the_places_of_each_bin() -> None:
    bins = [(0.05, 0.02, 1_000_000), (0.5, 0.4, 0), (0.95, 0.9, 120)]
    drawn = reliability.reliability("liver", bins)
    assert drawn.count("<circle") == drawn.count('class="count"') == 2, "an empty bin has no point"
    assert "probability 0.950, share 0.900, 120 places" in drawn
    assert reliability.reliability("liver", bins[1:2]) == ""


def test_quality_puts_failures_first_and_gives_verdicts_a_sign() -> None:
    rows = [
        {"case": "a", "verdict": "pass", "score": 0.1, "reasons": []},
        {"case": "b", "verdict": "fail", "score": 0.9, "reasons": ["two livers", "touches the edge"]},
    ]
    shown = page._quality(rows)
    assert [(row["case"], row["verdict"]) for row in shown] == [("b", "✗ fail"), ("a", "✓ pass")]
    assert shown[0]["reasons"] == "two livers; touches the edge"
    assert page._verdicts(rows) == [("✗", "fail", 1), ("?", "look", 0), ("✓", "pass", 1)]
    assert page._verdicts([]) == []


def test_a_card_can_do_nothing() -> None:
    made = markup.html("# Card\n\n<script>x</script> ![p](http://a/b.png) [l](javascript:x)\n\n| a |\n|---|\n| 1 |")
    assert "<h3>Card</h3>" in made and "<td>1</td>" in made
    assert "<script" not in made and "<img" not in made and 'href="javascript' not in made


def test_contents_name_the_sections_that_are_there() -> None:
    def linked(given: report.Report) -> list[str | None]:
        return [link.get("href") for link in Page(page.render(given)).all("a")]

    parsed = Page(page.render(full()))
    sections = {section["id"] for section in parsed.all("section")}
    assert {address[1:] for address in linked(full())} == sections and len(sections) == 12
    assert "#pictures" not in linked(replace(full(), overlays=[]))
    assert linked(report.Report("t", notes=["a"])) == [], "one section needs no contents"


def _wrong(**changed: object) -> tuple[np.ndarray, np.ndarray]:
    found = overlay(**changed).errors
    assert found is not None
    return found


def test_errors_are_missed_false_and_both_where_labels_are_confused() -> None:
    truth, predicted = np.zeros((2, 12, 10, 8), dtype=np.uint8)
    truth[0, 0, 0], predicted[1, 0, 0] = 1, 1
    truth[2, 0, 0], predicted[2, 0, 0] = 1, 2
    truth[3, 0, 0], predicted[3, 0, 0] = 2, 2
    missed, false = _wrong(truth=truth, predicted=predicted)
    assert np.flatnonzero(missed.any(axis=(1, 2))).tolist() == [0, 2]
    assert np.flatnonzero(false.any(axis=(1, 2))).tolist() == [1, 2]
    assert overlay(truth=None).errors is None


def test_where_the_truth_is_not_known_nothing_is_wrong() -> None:
    ignoring = replace(TABLE, ignore=9)
    truth, predicted = np.zeros((12, 10, 8), dtype=np.uint8), np.ones((12, 10, 8), dtype=np.uint8)
    truth[:6] = 9
    for coded in (truth, ignoring.encode(truth)):
        missed, false = _wrong(truth=coded, predicted=predicted, table=ignoring)
        assert not missed.any() and not false[:6].any() and false[6:].all()


def test_errors_are_painted_in_their_colours_where_they_are() -> None:
    truth, predicted = np.zeros((2, 10, 10, 10), dtype=np.uint8)
    truth[7:9, 7:9, 5], predicted[1:3, 1:3, 5] = 1, 1  # upper left, lower right of the axial picture
    dark = overlay(scan=np.zeros(truth.shape), truth=truth, predicted=predicted, unit="px", spacing_mm=(1, 1, 1))
    assert dark.errors is not None
    seen = _decode(pictures.error_panel(dark, PLANES[0], 5, dark.errors))
    for colour, centre in ((pictures.MISSED, 0.2), (pictures.FALSE_ALARM, 0.8)):
        rows, columns = np.nonzero(np.abs(seen - np.array(colour) / 255).max(axis=-1) < 0.08)
        assert rows.mean() / len(seen) == pytest.approx(columns.mean() / len(seen), abs=0.02)
        assert rows.mean() / len(seen) == pytest.approx(centre, abs=0.02)


def test_a_case_of_a_large_noisy_scan_costs_less_than_0_4_mb() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((256, 256, 64), np.uint8)
    labels[60:200, 60:200, 10:50] = 1
    made = report.drawn(
        overlay(scan=rng.normal(size=labels.shape).astype(np.float32), predicted=labels, truth=np.roll(labels, 5, 0))
    )
    assert sum(len(panel.picture) for panel in (*made.panels, *made.errors)) < 400_000
