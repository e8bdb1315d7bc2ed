"""3D Slicer's module MedSeg: glue between Slicer and `MedSegLib`, which is imported when the module is first opened, so
that Slicer starts no slower."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

import slicer

HELP = """
Segments volumes with medseg models while Slicer stays free for other work: in an environment of its own on this
computer, or at a service. Nothing is installed into Slicer's Python, and nothing is sent anywhere unless you choose a
service. The guide is docs/slicer.md in medseg's own folder.
"""


class MedSeg(ScriptedLoadableModule):
    """What Slicer asks of the module before it is opened."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "MedSeg"
        parent.categories = [
            translate("qSlicerAbstractCoreModule", "Segmentation")
        ]  # as Slicer calls it in its language
        parent.dependencies = []
        parent.contributors = ["The medseg authors"]
        parent.helpText = HELP
        parent.acknowledgementText = ""


class MedSegWidget(ScriptedLoadableModuleWidget):
    """The module's panel in Slicer's window."""

    def __init__(self, parent: Any = None) -> None:
        self.panel: Any = None  # first: without a parent, Slicer's own __init__ calls setup
        super().__init__(parent)

    def setup(self) -> None:
        """Build the panel; Slicer calls it once, when the module is first opened."""
        import qt

        from MedSegLib.panel.whole import Panel

        super().setup()
        self.logic = MedSegLogic()
        self.panel = Panel(self.layout, qt.QSettings())

    def cleanup(self) -> None:
        """End what runs: Slicer closes, or the module is loaded anew."""
        if self.panel is not None:
            self.panel.close()
            self.panel = None

    def onReload(self) -> None:  # Slicer's own name
        """The developer's button: what the module is made of is loaded anew, too."""
        self.cleanup()
        for name in [name for name in sys.modules if name.split(".")[0] == "MedSegLib"]:
            del sys.modules[name]
        super().onReload()


class MedSegLogic(ScriptedLoadableModuleLogic):
    """For scripts that segment without the panel."""

    def desk(self) -> Any:
        """The environment and settings that the panel was last given, as a `MedSegLib.panel.desk.Desk`; its `backend`
        is None where there is no environment that works."""
        import qt

        from MedSegLib import environment
        from MedSegLib.panel.desk import Desk
        from MedSegLib.work import DONE

        desk = Desk(qt.QSettings())
        if desk.settings.environment:
            outcome = wait(environment.existing(Path(desk.settings.environment)))
            if outcome.state == DONE:
                desk.use_program(outcome.facts["program"], outcome.facts["version"])
        return desk

    def models(self, desk: Any) -> list[Any]:
        """What is in the folder of models that the panel was last given."""
        from MedSegLib.models import of_json

        outcome = wait(desk.ask(["info", desk.settings.runs, "--json"]))
        entries = (outcome.facts.get("answer") or {}).get("models") or []
        return [of_json(entry, str(entry["path"])) for entry in entries if not entry.get("partial")]

    def phantom(self, channel: str, spacing_mm: tuple[float, float, float] | None) -> Any:
        """A volume node of noise with a bright ball in it, turned out of the axes."""
        import numpy as np

        size = 40
        place = np.stack(np.meshgrid(*(np.arange(size),) * 3, indexing="ij"))
        ball = ((place - size / 2) ** 2).sum(0) < (size / 4) ** 2
        array = np.random.default_rng(0).normal(0, 40, (size,) * 3) + 400 * ball
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"MedSeg phantom {channel}")
        slicer.util.updateVolumeFromArray(node, array.astype(np.int16))
        node.SetSpacing(*(spacing_mm or (1.0, 1.0, 2.0)))
        node.SetOrigin(-20.0, 15.0, 5.0)
        node.SetIJKToRASDirections(0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
        return node


def wait(run: Any, seconds: float = 120.0) -> Any:
    """Its outcome; Slicer's window goes on meanwhile.

    Raises:
        TimeoutError: it did not end; it is cancelled.
    """
    from MedSegLib.work import Outcome

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in run.poll():
            if isinstance(event, Outcome):
                return event
        slicer.app.processEvents()
        time.sleep(0.02)
    run.cancel()
    raise TimeoutError(f"It did not end within {seconds:g} s.")


class MedSegTest(ScriptedLoadableModuleTest):
    """The self-test that users run inside Slicer, with the environment and the model that the panel was given last."""

    def setUp(self) -> None:  # Slicer's own name
        slicer.mrmlScene.Clear()

    def runTest(self) -> None:  # Slicer's own name
        """Slicer calls it."""
        self.setUp()
        self.test_phantom()

    def test_phantom(self) -> None:
        """A phantom is segmented in the background, and the result is a node where the phantom is."""
        logic = MedSegLogic()
        desk = logic.desk()
        if desk.backend is None:
            self.delayDisplay("Skipped: no environment is set. Choose one in the panel, or make one, and test again.")
            return
        models = [model for model in logic.models(desk) if model.segments]
        models.sort(key=lambda model: model.ask != desk.settings.model)
        if not models:
            self.delayDisplay("Skipped: the panel's folder of models has none that segments.")
            return
        self._segmented(desk, logic, models[0])
        self.delayDisplay("Test passed")

    def _segmented(self, desk: Any, logic: MedSegLogic, model: Any) -> None:
        from MedSegLib.apply import Apply, Choices

        results: list[Any] = []
        volumes = {channel: logic.phantom(channel, model.spacing_mm) for channel in model.channels}
        work = Apply(desk.backend, desk.runs, slicer.mrmlScene, shown=results.append)
        work.start(volumes, model, Choices(quality="fast", table=True))
        entry, end, percents = desk.runs.entries[-1], time.monotonic() + 600, []
        while not results and not entry.over and time.monotonic() < end:
            desk.runs.poll()
            percents.append(entry.progress.percent)
            slicer.app.processEvents()
            time.sleep(0.02)
        desk.runs.poll()
        desk.close()
        assert entry.state == "done", entry.outcome
        assert percents == sorted(percents), "the progress fell"
        node = results[0].segmentation
        first = next(iter(volumes.values()))
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is first, "it lies on another grid"
        assert results[0].table.GetNumberOfRows() > 0, "the table of volumes is empty"
