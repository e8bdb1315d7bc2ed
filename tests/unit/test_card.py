"""The model card: every section there, nothing in a field can become markup, numbers in words where there are none."""

import math
from pathlib import Path

import pytest

from medseg import card
from medseg.labels import Code, Label, LabelTable

SECTIONS = [
    "Intended use",
    "Input",
    "Labels",
    "Training data",
    "Split",
    "Metrics",
    "Limits",
    "Licence",
    "Provenance",
    "Versions",
]
TABLE = LabelTable(
    (
        Label(3, "liver", (3,), Code("10200004", "SCT", "Liver"), (10, 20, 255)),
        Label(7, "left|kidney", (7,)),
    )
)


def full() -> card.Card:
    return card.Card(
        name="Organs",
        intended_use="Research on organ volumes.",
        labels=TABLE,
        licence="Apache-2.0",
        stamp="not an estimate of generalisation",
        summary="3D U-Net.",
        inputs={"spacing": "1.5 mm"},
        data={"cases": "60 of 31 patients"},
        split="By patient.",
        metrics=[
            {"label": "liver", "dice": 0.9, "hd95_mm": 4.25},
            {"label": "left|kidney", "dice": math.nan, "hd95_mm": math.inf},
        ],
        limits=["Contrast phases other than venous.", "<script>"],
        provenance={"sha256": "abc"},
        versions={"medseg": "0.1.0"},
    )


def test_sections_and_tables() -> None:
    text = card.render(full())
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert text.startswith("# Organs\n\n> **Please note:** not an estimate of generalisation\n")
    assert "| number | name | standard code | colour |\n| ---: | --- | --- | --- |\n" in text
    assert "| 3 | liver | SCT 10200004 (Liver) | #0a14ff |" in text
    assert "| 7 | left\\|kidney | – | #ff0000 |" in text
    assert "| label | dice | hd95_mm |\n| --- | ---: | ---: |\n| liver | 0.900 | 4.25 |" in text
    assert "| left\\|kidney | undefined | infinite: one mask empty |" in text
    assert "not a medical device" in text
    assert "- \\<script\\>" in text and "<script>" not in text


def test_what_is_unknown_is_said_to_be() -> None:
    text = card.render(card.Card(name="n", intended_use="", labels=TABLE, licence=""))
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == SECTIONS
    assert text.count(card.NOT_STATED) == 8
    assert "Not measured." in text
    assert "Please note" not in text


def test_overlapping_regions_are_named_so() -> None:
    regions = LabelTable.of({"whole": [1, 2], "core": [2]})
    assert "may overlap" in card.render(card.Card("n", "u", regions, "l"))
    assert "exclude each other" in card.render(full())


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("# heading", "\\# heading"),
        ("- item", "\\- item"),
        ("1. item", "1\\. item"),
        ("2) item", "2\\) item"),
        ("1.5 mm", "1.5 mm"),
        ("-0.5", "-0.5"),
        ("---", "\\---"),
        ("## 2", "\\## 2"),
        ("a\n\n# b", "a # b"),
        ("*a* _b_ `c`", "\\*a\\* \\_b\\_ \\`c\\`"),
        ("snake_case_name", "snake_case_name"),
        ("[a](b) <i> &amp; | ~~x~~", "\\[a\\](b) \\<i\\> \\&amp; \\| \\~\\~x\\~\\~"),
        ("back\\slash", "back\\\\slash"),
        ("  ", ""),
    ],
)
def test_plain(text: str, escaped: str) -> None:
    assert card.plain(text) == escaped


def test_written_file(tmp_path: Path) -> None:
    card.write(tmp_path / "card.md", full())
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == card.render(full())
    assert len(list(tmp_path.iterdir())) == 1


def test_a_fact_is_added_later_and_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    card.write(page, full())
    before = page.read_text(encoding="utf-8").splitlines()
    card.state(page, "a_b *c*", "first")
    card.state(page, "a_b *c*", "second, <not> markup")
    after = page.read_text(encoding="utf-8").splitlines()
    [added] = set(after) - set(before)
    assert added == r"- **a_b \*c\*:** second, \<not\> markup" and after[after.index("## Provenance") + 2] == added
    assert [line for line in after if line != added] == before


def test_a_fact_for_a_page_that_people_wrote(tmp_path: Path) -> None:
    page = tmp_path / "card.md"
    page.write_text("# Our model\n", encoding="utf-8")
    card.state(page, "seed", "1")
    assert page.read_text(encoding="utf-8") == "# Our model\n\n## Provenance\n\n- **seed:** 1\n"
