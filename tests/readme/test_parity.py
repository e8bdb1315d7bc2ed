"""docs/parity.md is made by the golden tests; here it is only held against the reference files that there are."""

from __future__ import annotations

from tests.tiny import ROOT


def test_the_table_names_every_reference_file() -> None:
    files = {path.stem for folder in ("2d", "3d") for path in (ROOT / "tests" / "golden" / folder).glob("*.npz")}
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    named = {line.split("|")[2].strip().split()[0].rstrip(":") for line in lines}
    assert files and files <= named, files - named


def test_every_error_is_within_its_limit() -> None:
    text = (ROOT / "docs" / "parity.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| ") and "e-" in line]
    assert len(rows) >= 40
    assert all(float(row[4]) <= float(row[5]) for row in rows)
