"""The panel, opened in a window of its own and kept alive by a bounded wait: what its tests start from."""

from __future__ import annotations

import os
import pkgutil
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ctk
import numpy as np
import window
from PySide6.QtCore import QSettings, QTimer
from PySide6.QtGui import QImage, QPixmap
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

import slicer

WIDTH = 460
"""Pixels, of the panel's column in Slicer's window."""
PICTURE = Path(__file__).parents[3] / "docs" / "slicer.png"


@contextmanager
def panel(core: Any, settings: Path, **kept: Any) -> Iterator[Any]:
    """The panel over the core's scene, with its settings in a file.

    Args:
        kept: what the user chose in an earlier session, if it was another one.
    """
    app = window.install(core.scene)
    from MedSegLib import settings as remembered
    from MedSegLib.panel.whole import Panel

    store = QSettings(str(settings), QSettings.Format.IniFormat)
    if kept:
        remembered.write(store, remembered.Settings(**kept))
    holder = QWidget()
    made = Panel(QVBoxLayout(holder), store)
    made.holder = holder
    holder.resize(WIDTH, 900)
    holder.show()
    try:
        yield made
    finally:
        made.close()
        holder.close()
        holder.deleteLater()
        app.processEvents()


def settings_in(folder: Path) -> None:
    """Let Slicer's own settings lie in a folder."""
    QSettings.setDefaultFormat(QSettings.Format.IniFormat)
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, str(folder))
    QApplication.setOrganizationName("test")


def wait(until: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Let Qt work until something is so."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        QApplication.processEvents()
        time.sleep(0.002)


def turn(ticks: int) -> None:
    """Let the panel's timer go off so many times."""
    left = [ticks]

    def tick(*_: object) -> None:
        left[0] -= 1

    timer = QTimer()
    timer.setInterval(100)
    timer.timeout.connect(tick)
    timer.start()
    wait(lambda: left[0] <= 0, "the timer goes off")


def _kept_waiting_s() -> dict[str, float]:
    """How long each thread of this process stood ready and got no processor; none where the system does not tell it."""
    found = {}
    for task in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has just ended
            found[task.parent.name] = int(task.read_text().split()[1]) / 1e9
    return found


class Beat:
    """Measures for how long Qt's event loop did not come round: the gaps between the beats of a quick timer, less the
    time in which threads of this process stood ready and others on the machine had the processors."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last, self._waited = time.perf_counter(), _kept_waiting_s()
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._beat)
        self._timer.start()

    def _beat(self) -> None:
        now, waited = time.perf_counter(), _kept_waiting_s()
        others = sum(seconds - self._waited.get(thread, 0.0) for thread, seconds in waited.items())
        self.gaps.append(now - self._last - others)
        self._last, self._waited = now, waited

    def stop(self) -> list[float]:
        """The gaps in seconds, the longest first."""
        self._timer.stop()
        return sorted(self.gaps, reverse=True)


class Spent:
    """Measures how long a method has taken; `seconds` of all its calls."""

    def __init__(self, monkeypatch: Any, name: str) -> None:
        self.seconds = 0.0
        owner, method = pkgutil.resolve_name(name.rpartition(".")[0]), name.rpartition(".")[2]
        real = getattr(owner, method)

        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            try:
                return real(*given, **named)
            finally:
                self.seconds += time.perf_counter() - begun

        monkeypatch.setattr(owner, method, timed)


def environment(folder: Path) -> Path:
    """An environment as the panel takes it, whose program is the medseg of `MEDSEG_PYTHON`."""
    program = folder / "bin" / "medseg"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{os.environ['MEDSEG_PYTHON']}\nimport sys\nsys.path.insert(0, {os.environ['MEDSEG_ROOT']!r})\n"
        "from medseg.__main__ import main\nmain()\n",
        encoding="utf-8",
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return folder


def volume(name: str, array: Any, affine: Any) -> Any:
    """A volume node of an array (I, J, K) that lies in RAS by a matrix."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array.transpose(2, 1, 0).copy())
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))
    return node


def picture(panel: Any, path: Path) -> Path:
    """The whole panel as PNG, twice as fine as a usual screen, in colours that do not depend on who runs it."""
    holder = panel.holder
    paths = {line: line.currentPath for line in holder.findChildren(ctk.ctkPathLineEdit) if line.currentPath}
    for line, real in paths.items():  # not those of the machine that drew it
        line.show_path(f"/home/anna/{Path(real).name}")
    QApplication.setStyle("Fusion")
    QApplication.setPalette(QApplication.style().standardPalette())
    for _ in range(5):  # text that wraps asks for its height only once its width is known
        holder.resize(WIDTH, max(holder.sizeHint().height(), holder.heightForWidth(WIDTH)))
        QApplication.processEvents()
    image = QPixmap(holder.size() * 2)
    image.setDevicePixelRatio(2)
    holder.render(image)
    for line, real in paths.items():
        line.show_path(real)
    assert image.save(str(path), "PNG")
    return path


def stamp(model: Any) -> str:
    from MedSegLib.panel import model as chosen

    return chosen.stamp(model)


def idle(panel: Any) -> bool:
    return all(entry.over for entry in panel.desk.runs.entries)


def choose(panel: Any, folder: str) -> None:
    """A model by the name of its folder; its licence is read."""
    panel.models.model.setCurrentIndex([Path(model.ask).name for model, _ in panel.models.models].index(folder))
    panel.models.accept.setChecked(panel.models.accepted)
    if not panel.models.accepted:
        panel.models.accept.click()


def scan(made: Path, name: str) -> Any:
    with np.load(made / "scan.npz") as kept:
        return volume(name, kept["image"], kept["affine"])


def ready(panel: Any) -> None:
    wait(panel.running.apply.isEnabled, f"Apply can be pressed: {panel.checked.text.text()}", 20)


def apply(panel: Any) -> Any:
    """Press the button; the entry in the list."""
    ready(panel)
    count = len(panel.desk.runs.entries)
    panel.running.apply.click()
    assert len(panel.desk.runs.entries) == count + 1
    return panel.desk.runs.entries[-1]


def check_picture(panel: Any, folder: Path) -> None:
    """Of the panel as it is. For the docs: MEDSEG_PICTURE=$PWD/docs/slicer.png pytest tests/slicer/test_inside.py"""
    drawn = picture(panel, folder / "panel.png")
    image, kept = QImage(str(drawn)), QImage(str(PICTURE))
    assert image.width() == kept.width()
    assert abs(image.height() - kept.height()) < 200
    pixels = {image.pixel(x, y) for x in range(0, image.width(), 7) for y in range(0, image.height(), 7)}
    assert len(pixels) > 30
    if "MEDSEG_PICTURE" in os.environ:
        shutil.copy(drawn, os.environ["MEDSEG_PICTURE"])


def segments(node: Any) -> list[str]:
    content = node.GetSegmentation()
    return [content.GetNthSegment(n).GetName() for n in range(content.GetNumberOfSegments())]


def nodes(kind: str) -> list[Any]:
    return list(slicer.util.getNodesByClass(kind))
