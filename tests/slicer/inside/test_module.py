"""The module as Slicer opens it, what the panel remembers, and what needs no model."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import opened
import pytest
import qt
import window
from opened import idle, wait
from PySide6.QtSvg import QSvgRenderer

import slicer
from MedSegLib.dicom import Patient, Series
from MedSegLib.work import Outcome, Progress

ROOT = Path(__file__).parents[3] / "slicer"


def test_the_module_opens_and_closes(core: Any, scene: Any, tmp_path: Path) -> None:
    window.install(core.scene)
    opened.settings_in(tmp_path)
    import MedSeg

    described = types.SimpleNamespace()
    MedSeg.MedSeg(described)
    assert described.title == "MedSeg"
    assert described.categories == ["Segmentierung"]  # else a Slicer in German had two of them
    widget = MedSeg.MedSegWidget()
    assert "Choose an environment, or make one" in widget.panel.place.state.text()
    assert not widget.panel.running.apply.isEnabled()
    widget.cleanup()


def test_the_developers_reload_loads_all_of_it(core: Any, scene: Any, tmp_path: Path) -> None:
    window.install(core.scene)
    opened.settings_in(tmp_path)
    import MedSeg

    widget = MedSeg.MedSegWidget()
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "MedSegLib"}
    try:
        widget.onReload()
        assert widget.panel is None
        assert not [name for name in sys.modules if name.startswith("MedSegLib")]
    finally:
        sys.modules.update(kept)


def test_nothing_is_loaded_when_slicer_only_starts() -> None:
    code = (
        "import sys, slicer, window; window.install(slicer.vtkMRMLScene()); before = set(sys.modules); import MedSeg;"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().splitlines()[-1] == "['MedSeg']"


def test_choices_outlive_the_widget(core: Any, scene: Any, tmp_path: Path) -> None:
    settings = tmp_path / "mit leerzeichen und ä.ini"
    with opened.panel(core, settings) as panel:
        panel.options.quality.setCurrentIndex(panel.options.quality.findData("best"))
        panel.options.uncertainty.click()
        panel.corrections.cases.currentPath = "/daten/fälle"
        panel.place.place.setCurrentIndex(1)
        panel.place.address.setText("https://medseg.invalid")
        panel.place.token.setText("secret-token")
        panel.place.connect.click()
    assert "secret-token" not in settings.read_text(encoding="utf-8")
    with opened.panel(core, settings) as panel:
        assert panel.options.quality.currentData() == "best"
        assert panel.options.uncertainty.isChecked()
        assert panel.corrections.cases.currentPath == "/daten/fälle"
        assert panel.place.address.text() == "https://medseg.invalid"
        assert panel.place.token.text() == ""
        assert panel.place.token.echoMode() == qt.QLineEdit.Password
        panel.place.token.setText("secret-token")
        panel.place.keep.click()
        panel.place.connect.click()
    with opened.panel(core, settings) as panel:
        assert panel.place.token.text() == "secret-token"


def test_an_environment_without_medseg_is_told_in_words(core: Any, scene: Any, tmp_path: Path) -> None:
    with opened.panel(core, tmp_path / "s.ini", environment=str(tmp_path / "nothing")) as panel:
        wait(lambda: "There is no such folder" in panel.place.state.text(), "it is told", 20)
        assert panel.desk.backend is None


def test_uv_fetches_nothing_without_consent(core: Any, scene: Any, tmp_path: Path) -> None:
    with opened.panel(core, tmp_path / "s.ini") as panel:
        creating = panel.place.creating
        creating.python.addItem("uv", "uv")
        creating.create()
        assert "Allow uv" in creating.state.text()
        assert not panel.desk.runs.entries


class Slow:
    """Work that ends only when it is told to, as the program in an environment does."""

    def __init__(self) -> None:
        self.cancelled = False

    def poll(self) -> list[Any]:
        return [Outcome("cancelled")] if self.cancelled else [Progress(5.0, "working", 90)]

    def cancel(self) -> None:
        self.cancelled = True


def test_closing_the_module_ends_what_runs(core: Any, scene: Any, tmp_path: Path) -> None:
    work = Slow()
    with opened.panel(core, tmp_path / "s.ini") as panel:
        panel.desk.runs.add("work", lambda: work, lambda outcome: None)
        wait(lambda: "working, about 2 min left" in panel.running.stage.text(), "it runs")
    assert work.cancelled
    assert idle(panel)


def test_patients_of_the_database_are_ticked(core: Any, scene: Any, tmp_path: Path, monkeypatch: Any) -> None:
    found = [
        Series("1.1", "1", "3 Thorax CT", "p_3", "CT", 40),
        Series("1.2", "1", "4 Perfusion MR", "p_4", "MR", 20),
    ]
    monkeypatch.setattr("MedSegLib.dicom.patients", lambda database: (Patient("k", "Müller^Anna"),))
    monkeypatch.setattr("MedSegLib.dicom.series", lambda database, patient: tuple(found))
    monkeypatch.setattr(slicer, "dicomDatabase", types.SimpleNamespace(isOpen=True), raising=False)
    with opened.panel(core, tmp_path / "s.ini") as panel:
        panel.desk.model = types.SimpleNamespace(modalities=("CT",), channels=("ct",))
        panel.batch.section.collapsed = False
        panel.batch.source.setCurrentIndex(1)
        patient = panel.batch.tree.topLevelItem(0)
        patient.setCheckState(0, qt.Qt.Checked)
        assert [[one.uid for one in case] for case in panel.batch.cases()] == [["1.1"]]
        patient.child(1).setCheckState(0, qt.Qt.Checked)
        assert [[one.uid for one in case] for case in panel.batch.cases()] == [["1.1"], ["1.2"]]
        panel.desk.model = types.SimpleNamespace(modalities=(), channels=("T1", "T2"))
        assert [[one.uid for one in case] for case in panel.batch.cases()] == [["1.1", "1.2"]]
        panel.desk.model = None


@pytest.mark.parametrize("file", ["MedSeg.png", "MedSeg/Resources/Icons/MedSeg.png"])
def test_icons_are_what_the_drawing_shows(file: str, tmp_path: Path) -> None:
    """To draw them anew: save `drawn` as these files."""
    window.application()
    drawn = qt.QImage(128, 128, qt.QImage.Format_ARGB32)
    drawn.fill(qt.Qt.transparent)
    painter = qt.QPainter(drawn)
    QSvgRenderer(str(ROOT / "MedSeg.svg")).render(painter)
    painter.end()
    kept = qt.QImage(str(ROOT / file)).convertToFormat(qt.QImage.Format_ARGB32)
    assert kept.size() == drawn.size()
    places = [(x, y) for x in range(0, 128, 3) for y in range(0, 128, 3)]
    far = [abs(kept.pixelColor(*at).green() - drawn.pixelColor(*at).green()) > 24 for at in places]
    assert sum(far) < len(places) / 50
