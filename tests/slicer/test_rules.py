"""What the extension's code may use: Slicer's own Python is 3.9, and has nothing but what Slicer brings."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import ROOT

SLICER = ROOT / "slicer"
FILES = sorted(SLICER.rglob("*.py"))
OWN = {"MedSegLib", "numpy"}
WINDOW = {"slicer", "vtk", "qt", "ctk", "DICOMLib"}
MAY_KNOW_THE_WINDOW = ("MedSeg.py", "MedSegLib/panel/")
MAY_KNOW_THE_SCENE = ("MedSegLib/scene.py", "MedSegLib/segments.py", "MedSegLib/tables.py", "MedSegLib/dicom.py")
GETTERS = frozenset(
    (
        *("text", "value", "title", "toolTip", "placeholderText", "toPlainText", "plainText"),
        *("checked", "isChecked", "isEnabled", "isVisible", "isHidden", "width", "height", "size"),
        *("currentText", "currentIndex", "currentData", "currentRow"),
        *("count", "rowCount", "columnCount", "topLevelItemCount"),
    )
)
"""Of Qt's properties: values in PythonQt and methods in PySide6."""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (one.name.split(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "Slicer finds no relative imports of a scripted module"
            yield str(node.module).split(".")[0]


def place(file: Path) -> str:
    return file.relative_to(SLICER / "MedSeg").as_posix()


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=(3, 9))


@pytest.mark.parametrize("file", FILES, ids=place)
def test_nothing_is_imported_that_slicer_does_not_bring(file: Path) -> None:
    known_window = place(file).startswith(MAY_KNOW_THE_WINDOW)
    allowed = OWN | set(sys.stdlib_module_names) - {"tomllib"}
    if known_window:
        allowed |= WINDOW
    if place(file) in MAY_KNOW_THE_SCENE:
        allowed |= {"slicer", "vtk"}
    assert set(imported(parsed(file))) <= allowed


@pytest.mark.parametrize("file", FILES, ids=place)
def test_python_3_9_understands_it(file: Path) -> None:
    tree = parsed(file)
    names = [node.name for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) for node in one.names]
    assert "annotations" in names or not tree.body[1:], "without it, 3.9 would work out `X | None`"
    assert not any(type(node).__name__ in ("Match", "TryStar") for node in ast.walk(tree))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        given = {keyword.arg for keyword in call.keywords}
        assert not given & {"slots", "kw_only"}, ast.unparse(call)
        assert not (getattr(call.func, "id", "") == "zip" and "strict" in given), ast.unparse(call)


@pytest.mark.parametrize("file", [file for file in FILES if "panel" in file.parts], ids=place)
def test_pythonqt_understands_it(file: Path) -> None:
    for call in (node for node in ast.walk(parsed(file)) if isinstance(node, ast.Call)):
        called = call.func
        if not isinstance(called, ast.Attribute):
            continue
        if isinstance(called.value, ast.Name) and called.value.id in ("qt", "ctk"):
            assert not call.keywords, f"PythonQt knows no names of arguments: {ast.unparse(call)}"
            assert called.attr != "QTreeWidgetItem" or not call.args, "add it to its parent: older ones forget it else"
        held = isinstance(called.value, ast.Name) and called.value.id == "item"  # of a list: no QObject, no properties
        assert held or called.attr not in GETTERS or call.args, f"read it with pieces.read: {ast.unparse(call)}"


def test_the_start_of_slicer_is_not_slowed() -> None:
    """Slicer imports each module's file when it starts; what it is made of comes when it is opened."""
    first = parsed(SLICER / "MedSeg" / "MedSeg.py")
    assert not {"MedSegLib", "qt", "ctk", "numpy"} & {
        name for node in first.body if isinstance(node, ast.Import | ast.ImportFrom) for name in imported(node)
    }


def test_cmake_installs_what_there_is() -> None:
    text = (SLICER / "MedSeg" / "CMakeLists.txt").read_text(encoding="utf-8")
    for name in re.findall(r"Resources/\S+", text.replace("${MODULE_NAME}", "MedSeg")):
        assert (SLICER / "MedSeg" / name).is_file()
    assert "MedSegLib/*.py" in text
    assert (SLICER / "MedSeg.png").is_file()


def test_the_readme_names_files_that_are_there() -> None:
    named = re.findall(r"`((?:tests|MedSeg|slicer)[/\w.]*)`", (SLICER / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 5
    assert [name for name in named if not (ROOT / name).exists() and not (SLICER / name).exists()] == []
