"""The report as a reader meets it: in a browser, without a network."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from medseg import report
from medseg.labels import LabelTable

Open = Callable[[Path], Page]
LABELS = ("liver", "spleen", "kidney")


def overlay() -> report.Drawn:
    predicted = np.zeros((24, 20, 18), np.uint8)
    predicted[4:14, 4:12, 4:12] = 1
    scan = np.random.default_rng(0).normal(size=predicted.shape).astype(np.float32)
    truth = np.roll(predicted, 2, axis=0)
    table = LabelTable.of({"liver": 1})
    return report.drawn(report.Overlay("case 3", scan, predicted, (1.5, 1.5, 2.0), (-2.0, 2.0), table, truth))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        {
            "case": f"case {case}",
            "patient": f"P{case // 2}",
            "label": label,
            "dice": 0.95 - 0.05 * case,
            "hd95": 2.0 + case,
        }
        for case in range(8)
        for label in LABELS
    ]
    rows[0] |= {"dice": math.nan, "hd95": math.inf}
    volumes = [
        {
            "case": row["case"],
            "patient": row["patient"],
            "label": row["label"],
            "truth_ml": 100.0 + place,
            "predicted_ml": 98.0,
        }
        for place, row in enumerate(rows)
    ]
    bins = [{"label": "liver", "probability": p, "share": p**2, "places": 10} for p in (0.1, 0.5, 0.9)]
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(
        path,
        report.Report(
            title="A run with a rather long name: validation",
            stamp="not an estimate of generalisation",
            facts={"sha256": "0123456789abcdef" * 4, "seed": "1"},
            headline=[("mean Dice", "0.912 (0.880 to 0.941)"), ("mean hd95", 3.25)],
            history=[{"epoch": e, "train_loss": 1 / e, "validation_dice": 1 - 0.5 / e} for e in range(1, 9)],
            metrics=rows,
            statistics=[
                {
                    "over": "all cases",
                    "label": "liver",
                    "number": "hd95",
                    "unit": "mm",
                    "mean": 3.0,
                    "low": 2.0,
                    "high": 4.0,
                }
            ],
            volumes=volumes,
            reliability=bins,
            quality=[{"case": "case 1", "verdict": "fail", "score": 0.9, "reasons": ["two livers"]}],
            overlays=[overlay()],
            data={"data set": "folder", "training cases": ", ".join(f"case_{number}" for number in range(60))},
            leaks={"patients on both sides": "none"},
            card="# A model\n\n| a | b |\n|---|---|\n| 1 | ![x](http://example.org/x.png) |\n",
            notes=["A remark."],
        ),
    )
    return path


def column(page: Page, section: str, name: str) -> list[str]:
    """Words of a column's rows that are shown, from top to bottom."""
    place = page.locator(f"#{section} th").evaluate_all(
        "(all, name) => all.findIndex(h => h.dataset.name === name)", name
    )
    return page.locator(f"#{section} tbody tr:not([hidden]) td:nth-child({place + 1})").all_inner_texts()


def test_every_picture_is_there_and_nothing_hangs_over_the_edge(opened: Open, written: Path) -> None:
    page = opened(written)
    widths = page.locator("img").evaluate_all("all => all.map(img => img.naturalWidth)")
    assert len(widths) == 6 and min(widths) > 200
    assert page.locator("svg.chart:visible").count() == 5, "a box plot, Bland-Altman, reliability, two curves"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1366


def test_a_click_on_a_heading_sorts_with_the_undefined_last(opened: Open, written: Path) -> None:
    page = opened(written)
    heading = page.locator("#cases th[data-name=dice] button")
    heading.click()
    rising = column(page, "cases", "dice")
    assert rising[0] == "0.600" and rising[-1] == "undefined"
    heading.focus()
    page.keyboard.press("Enter")
    falling = column(page, "cases", "dice")
    assert falling[0] == "0.950" and falling[-1] == "undefined"
    assert page.locator("#cases th[aria-sort=descending]").count() == 1


def test_rows_are_found_by_words_and_by_label(opened: Open, written: Path) -> None:
    page = opened(written)
    bar = page.locator("#cases .filter")
    bar.locator("input").fill("P1 SPLEEN")
    assert column(page, "cases", "case") == ["case 2", "case 3"]
    assert bar.locator("output").inner_text() == "2 of 24 rows"
    bar.locator("input").fill("")
    bar.locator("select").select_option("kidney")
    assert set(column(page, "cases", "label")) == {"kidney"} and len(column(page, "cases", "label")) == 8
    bar.locator("input").fill("no such case")
    assert column(page, "cases", "case") == []


def test_another_number_is_drawn_when_it_is_chosen(opened: Open, written: Path) -> None:
    page = opened(written)
    shown = page.locator("#results .choice figure:visible")
    assert shown.locator(".name").all_text_contents() == ["dice"]
    page.locator("#results .choose select").select_option("hd95 [mm]")
    assert shown.locator(".name").all_text_contents() == ["hd95 [mm]"]
    assert "case 3" in shown.locator("circle title").all_text_contents()[2]
    page.locator("#volumes .choose select").select_option("spleen")
    assert page.locator("#volumes figure:visible .name").all_text_contents() == ["spleen"]


def test_contents_lead_to_the_sections(opened: Open, written: Path) -> None:
    page = opened(written)
    page.locator("nav a", has_text="Pictures").click()
    box = page.locator("#pictures h2").bounding_box()
    assert box is not None and 0 <= box["y"] < 250
    for link in page.locator("nav a").all():
        assert page.locator(str(link.get_attribute("href"))).count() == 1


def test_it_prints_on_several_pages_without_controls(opened: Open, written: Path) -> None:
    page = opened(written)
    printed = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
    page.emulate_media(media="print")
    for control in ("nav", ".filter", ".choose"):
        assert page.locator(f"{control}:visible").count() == 0
    assert page.locator("img:visible").count() == 6


def test_it_is_dark_where_the_reader_wants_it_dark(opened: Open, written: Path) -> None:
    page = opened(written)

    def brightness() -> int:
        colours = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        return sum(colours)

    light = brightness()
    page.emulate_media(color_scheme="dark")
    assert brightness() < 150 < 600 < light
